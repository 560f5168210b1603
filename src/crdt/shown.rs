//! What a key shows: its type, and the entries that make it up.
//!
//! Peers that concurrently create one key with different types keep the rows of both. The lowest [`Kind`] shows: a string before a set, a set
//! before a hash. The other rows stay, RINGTIDE EXPLAIN tells of them, and a SET or DEL takes both.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::delta::Delta;
use super::draft::Draft;
use super::expiry::Expiry;
use super::kind::{DataType, Kind};
use super::refusal::{ExecuteError, Refusal};
use super::row::{Decision, Entry, Row, RowAddress};
use super::rows::Rows;
use super::score_view::ScoreView;
use super::token::Token;
use super::value::ValueView;
use crate::types::Timestamp;

/// What of one row shows at one time.
#[derive(Clone, Debug, Default)]
pub(super) struct RowShown {
    /// The entries that make it up.
    pub(super) entries: Vec<Entry>,
    /// Whether the row has data that does not show.
    pub(super) hides_data: bool,
}

impl RowShown {
    /// Judges a row of a kind. Decisions are no data, and show nothing.
    pub(super) fn of(kind: Kind, row: &Row, expiry: &Expiry) -> Self {
        match kind {
            Kind::Expiry => Self::default(),
            Kind::Value | Kind::Field => {
                let view = ValueView::of(row, expiry);
                Self { entries: view.entries().cloned().collect(), hides_data: view.hides_data() }
            }
            Kind::Score => {
                let view = ScoreView::of(row, expiry);
                Self { entries: view.entries().cloned().collect(), hides_data: view.hides_data() }
            }
            Kind::Member | Kind::Item | Kind::Register => {
                let entries: Vec<Entry> = row.values().filter(|entry| !expiry.hides(entry)).cloned().collect();
                Self { hides_data: entries.len() < row.len(), entries }
            }
        }
    }

    /// Whether the row shows at all.
    pub(super) fn exists(&self) -> bool {
        !self.entries.is_empty()
    }
}

/// What a key shows at one time, as far as its first rows tell.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The type; `None` where nothing shows.
    pub data_type: Option<DataType>,
    /// The decisions of the key.
    pub expiry: Expiry,
    /// The string, where one shows.
    pub string: ValueView,
    /// The expiry row.
    expiry_row: Row,
    /// The entries that show: those of the string, or of the first element that shows.
    entries: Vec<Entry>,
    /// Whether there is data that does not show. Not known where something shows.
    hides_data: bool,
}

impl Shown {
    /// Reads a key up to the first row that shows.
    ///
    /// # Errors
    /// Where the rows could not be read.
    pub fn read<R: Rows>(rows: &R, key: &Bytes, now: Timestamp) -> Result<Self, R::Error> {
        let mut shown = Self { expiry: Expiry::of(&Row::new(), now), ..Self::default() };
        rows.visit(key, &mut |address, row| shown.take_in(address, row, now))?;
        Ok(shown)
    }

    fn take_in(&mut self, address: &RowAddress, row: &Row, now: Timestamp) -> ControlFlow<()> {
        match address.kind {
            Kind::Expiry => {
                self.expiry = Expiry::of(row, now);
                self.expiry_row = row.clone();
            }
            kind => {
                if kind == Kind::Value {
                    self.string = ValueView::of(row, &self.expiry);
                }
                let of_row = RowShown::of(kind, row, &self.expiry);
                self.hides_data |= of_row.hides_data;
                if of_row.exists() {
                    self.data_type = DataType::of(kind);
                    self.entries = of_row.entries;
                }
            }
        }
        if self.data_type.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Refuses a command on a type where the key shows another.
    ///
    /// # Errors
    /// [`Refusal::WrongType`].
    pub(super) fn expect(&self, data_type: DataType) -> Result<(), Refusal> {
        if self.data_type.is_some_and(|shown| shown != data_type) { Err(Refusal::WrongType) } else { Ok(()) }
    }

    /// When the key expires, in milliseconds since 1970; `None`: never, or there is no key.
    ///
    /// A key lives as long as anything of it. Of a collection only the first element is asked; concurrent commands may have given others another end.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.expiry.end_of_all(&self.entries)
    }

    /// Every type of which the key shows something, or would if it were alone: the one that shows first.
    pub(super) fn types<R: Rows>(&self, rows: &R, key: &Bytes) -> Result<Vec<DataType>, R::Error> {
        let mut types = BTreeSet::new();
        rows.visit(key, &mut |address, row| {
            if RowShown::of(address.kind, row, &self.expiry).exists() {
                types.insert(address.kind);
            }
            ControlFlow::Continue(())
        })?;
        Ok(types.into_iter().filter_map(DataType::of).collect())
    }

    /// Names everything that a reader sees of the key but its expiry: also what another type hides.
    pub(super) fn token<R: Rows>(&self, rows: &R, key: &Bytes) -> Result<Token, R::Error> {
        let mut token = Token::default();
        rows.visit_from(key, Kind::Value, &mut |address, row| {
            token.see(address, row, &self.expiry);
            ControlFlow::Continue(())
        })?;
        Ok(token)
    }

    /// DEL: whether there was something to delete.
    pub(super) fn delete<R: Rows>(&self, rows: &R, mut draft: Draft<'_, '_>) -> Result<(Delta, bool), ExecuteError<R::Error>> {
        if self.data_type.is_none() {
            return Ok((Delta::default(), false));
        }
        draft.overwrite(rows, false)?;
        Ok((draft.finish(), true))
    }

    /// The decision that a new entry of this key copies, so that it dies with what it was added to. A write that finds no data, hidden or not,
    /// clears decisions that were left over from a former life, unless a decision may still be on its way here: then it copies what it has.
    pub(super) fn write_under(&self, draft: &mut Draft<'_, '_>) -> Option<Decision> {
        if self.data_type.is_some() {
            return self.expiry.governing_any(&self.entries);
        }
        if draft.is_behind(&RowAddress::expiry(draft.key)) {
            return self.expiry.governing();
        }
        if !self.hides_data && self.expiry.standing().any(|decision| !self.expiry.has_passed(decision)) {
            draft.replace_decisions(RowAddress::expiry(draft.key), &self.expiry_row);
        }
        None
    }

    /// Puts a decision in place of those that have not passed.
    pub(super) fn decide(&self, draft: &mut Draft<'_, '_>, time: Option<u64>) {
        draft.replace_decisions(RowAddress::expiry(draft.key), &self.expiry_row);
        draft.decide(self.expiry.decide(time));
    }

    /// Leaves the decision of a write that has overwritten the whole key, and tells the one that its entries carry: that of the time when they
    /// end. Those that never end were written at the decision's own time, so none before it is about them.
    pub(super) fn renew(&self, draft: &mut Draft<'_, '_>, time: Option<u64>) -> Option<Decision> {
        let decision = self.expiry.renew(time)?;
        draft.decide(decision);
        time.and(Some(decision))
    }
}
