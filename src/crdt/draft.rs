//! A delta under construction: what every command needs to write one.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::command::Refusal;
use super::counter;
use super::delta::{Causal, Decision, Delta, Entry, Kind, Payload, Replacement, Row, RowAddress, Rows, Scope, Terms};
use super::dot::{Clock, Dot};
use super::execute::ExecuteError;
use super::expiry::deadline;
use crate::config::{MAX_FLOOR_BYTES, MAX_KEPT_FLOORS, NAMED_REMOVE_BYTES, NAMED_REMOVES};
use crate::types::{Actor, Timestamp};

/// About how many bytes a floor takes beside its element.
const FLOOR_BYTES: usize = 64;

/// Who writes, and when.
pub struct Author<'a> {
    /// This incarnation of this peer.
    pub actor: Actor,
    /// The time of the write: later than every entry stored here, and taken before anything is read.
    pub now: Timestamp,
    /// Gives out dots, each once.
    pub mint: &'a mut dyn FnMut() -> Dot,
    /// Own runs whose first counter is this or greater were begun since this replica's state id was made, and may be continued.
    pub runs_since: u64,
}

/// A delta under construction for one key.
pub(super) struct Draft<'d, 'a> {
    pub(super) key: &'d Bytes,
    pub(super) author: &'d mut Author<'a>,
    causal: &'d Causal,
    delta: Delta,
}

impl<'d, 'a> Draft<'d, 'a> {
    pub(super) fn new(key: &'d Bytes, causal: &'d Causal, author: &'d mut Author<'a>) -> Self {
        Self { key, author, causal, delta: Delta::default() }
    }

    /// Writes an entry under a new dot.
    pub(super) fn add(&mut self, address: RowAddress, decision: Option<Decision>, payload: Payload) -> Dot {
        let dot = (self.author.mint)();
        self.add_as(dot, address, decision, payload);
        dot
    }

    /// Writes an entry under a dot that was minted for it.
    pub(super) fn add_as(&mut self, dot: Dot, address: RowAddress, decision: Option<Decision>, payload: Payload) {
        self.add_under(dot, address, decision.into(), payload);
    }

    /// Writes an entry under a dot that was minted for it, and under these decisions.
    pub(super) fn add_under(&mut self, dot: Dot, address: RowAddress, terms: Terms, payload: Payload) {
        let entry = Entry { timestamp: self.author.now, decision: terms.key, field_decision: terms.field, payload };
        self.delta.adds.push((address, dot, entry));
    }

    /// Puts a decision into the expiry row.
    pub(super) fn decide(&mut self, decision: Decision) {
        self.add(RowAddress::expiry(self.key), None, Payload::Decision(decision));
    }

    /// Leaves floors in a row for what was observed of its counter runs.
    pub(super) fn add_floors(&mut self, address: &RowAddress, observed: impl IntoIterator<Item = (Dot, counter::Observed)>) {
        for (run, counter::Observed { upto, total }) in observed {
            self.add(address.clone(), None, Payload::Floor { run, upto, total });
        }
    }

    /// Removes one live dot.
    pub(super) fn remove(&mut self, address: RowAddress, dot: Dot) {
        self.delta.removes.push((address, dot));
    }

    /// Overwrites a row as this replica knows it, but for some live dots. What was pending for the whole key was pending for
    /// this row as well. `superseded` names further dots, not seen here, that must not stand in the row.
    pub(super) fn replace_row(&mut self, address: RowAddress, row: &Row, keeps: Vec<Dot>, superseded: &Clock) {
        for dot in row.keys().filter(|dot| !keeps.contains(dot)) {
            self.remove(address.clone(), *dot);
        }
        let mut pending = self.causal.pending_for(&Scope::Key(self.key.clone()));
        let scope = Scope::Row(address);
        pending.extend(&self.causal.pending_for(&scope));
        pending.extend(&superseded.minus(&self.causal.clock));
        self.delta.replaces.push(Replacement { scope, pending, keeps });
    }

    /// Overwrites a row, but for decisions that have passed: only a removal by a quorum may take these.
    pub(super) fn overwrite_row(&mut self, address: RowAddress, row: &Row) {
        let now = self.author.now;
        let keeps = row.iter().filter(|(_, entry)| stays(entry, now)).map(|(dot, _)| *dot).collect();
        self.replace_row(address, row, keeps, &Clock::new());
    }

    /// Overwrites the decisions in a row that have not passed. What else it holds stays.
    pub(super) fn replace_decisions(&mut self, address: RowAddress, row: &Row) {
        let now = self.author.now;
        let goes = |entry: &Entry| matches!(entry.payload, Payload::Decision(_)) && !stays(entry, now);
        let keeps = row.iter().filter(|(_, entry)| !goes(entry)).map(|(dot, _)| *dot).collect();
        self.replace_row(address, row, keeps, &Clock::new());
    }

    /// Says that everything seen of the key is overwritten, but for some live dots. What is pending for a single
    /// row is told for that row alone.
    pub(super) fn replace_key(&mut self, keeps: &[Dot]) {
        let scope = Scope::Key(self.key.clone());
        let pending = self.causal.pending_for(&scope);
        self.delta.replaces.push(Replacement { scope, pending, keeps: keeps.to_vec() });
        let first = Scope::Row(RowAddress { key: self.key.clone(), kind: Kind::Expiry, element: Bytes::new() });
        for (scope, pending) in self.causal.pending.range(first..) {
            match scope {
                Scope::Row(address) if address.key == *self.key => {
                    self.delta.replaces.push(Replacement { scope: scope.clone(), pending: pending.clone(), keeps: keeps.to_vec() });
                }
                _ => break,
            }
        }
    }

    /// Overwrites the whole key: names what it removes as far as the limits go, and leaves floors for the counter runs that it
    /// ends. Passed decisions stay, on the key and on its fields, since only a removal by a quorum may take these; `keeps_expiry` leaves the expiry
    /// row alone.
    ///
    /// # Errors
    /// Where rows could not be read, or the key holds more runs and floors than one delta may tell of.
    pub(super) fn overwrite<R: Rows>(&mut self, rows: &R, keeps_expiry: bool) -> Result<(), ExecuteError<R::Error>> {
        let now = self.author.now;
        let (mut keeps, mut named, mut named_bytes) = (Vec::new(), Vec::new(), 0);
        let naming = rows.visit(self.key, &mut |address, row| {
            for (dot, entry) in row {
                if address.kind == Kind::Expiry && (keeps_expiry || stays(entry, now)) {
                    keeps.push(*dot);
                    continue;
                }
                // Most floors of elements stay, see below; those that do not are told by the key that is replaced.
                if address.kind.has_elements() && (matches!(entry.payload, Payload::Floor { .. }) || stays(entry, now)) {
                    continue;
                }
                named_bytes += address.element.len();
                if named.len() == NAMED_REMOVES || named_bytes > NAMED_REMOVE_BYTES {
                    // Of the expiry row more than names is needed.
                    if address.kind == Kind::Expiry {
                        continue;
                    }
                    return ControlFlow::Break(());
                }
                named.push((address.clone(), *dot));
            }
            ControlFlow::Continue(())
        });
        naming.map_err(ExecuteError::Rows)?;
        self.delta.removes.append(&mut named);
        self.reset_runs(rows, &mut keeps)?;
        self.replace_key(&keeps);
        Ok(())
    }

    /// Leaves floors for every counter run of the key. Of elements those floors are kept whose run has no entry here any more: they say all
    /// there is to say already, and a collection whose elements come and go may have a great many. As many as names of removed dots are told once more,
    /// since nobody else may have them yet, and the key's replacement takes the older ones that they stand for. Of fields passed decisions are kept, too.
    fn reset_runs<R: Rows>(&mut self, rows: &R, keeps: &mut Vec<Dot>) -> Result<(), ExecuteError<R::Error>> {
        let value = RowAddress::value(self.key);
        self.add_floors(&value, counter::observed(&rows.row(&value).map_err(ExecuteError::Rows)?, |_| true));
        let (mut bytes, mut is_too_much, now) = (0, false, self.author.now);
        let (mut told, mut told_bytes) = (0, 0);
        let resetting = rows.visit_from(self.key, Kind::Field, &mut |address, row| {
            if address.kind > Kind::Score {
                return ControlFlow::Break(());
            }
            let (ended, kept) = counter::reset(row);
            bytes += ended.len() * (address.element.len() + FLOOR_BYTES);
            self.add_floors(address, ended);
            told_bytes += kept.len() * address.element.len();
            for (dot, entry) in kept.iter().filter_map(|dot| row.get_key_value(dot)) {
                told += 1;
                if told <= NAMED_REMOVES && told_bytes <= NAMED_REMOVE_BYTES {
                    self.delta.adds.push((address.clone(), *dot, entry.clone()));
                }
            }
            keeps.extend(kept);
            keeps.extend(row.iter().filter(|(_, entry)| stays(entry, now)).map(|(dot, _)| *dot));
            is_too_much = bytes > MAX_FLOOR_BYTES || keeps.len() > MAX_KEPT_FLOORS;
            if is_too_much { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        resetting.map_err(ExecuteError::Rows)?;
        if is_too_much { Err(Refusal::TooManyCounters.into()) } else { Ok(()) }
    }

    /// Whether something superseded a row of decisions that this replica has not seen.
    pub(super) fn is_behind(&self, address: &RowAddress) -> bool {
        is_behind(self.causal, address)
    }

    /// The finished delta.
    pub(super) fn finish(mut self) -> Delta {
        if !self.delta.replaces.is_empty() {
            self.delta.seen = self.causal.clock.clone();
        }
        self.delta
    }
}

/// Whether a decision that has passed stands here: only a removal by a quorum may take it away.
fn stays(entry: &Entry, now: Timestamp) -> bool {
    matches!(&entry.payload, Payload::Decision(decision) if deadline(decision) <= now)
}

/// Whether something is pending for a row in which decisions stand: one may be on its way here that changes everything.
pub(super) fn is_behind(causal: &Causal, address: &RowAddress) -> bool {
    !causal.pending.is_empty()
        && (causal.pending.contains_key(&Scope::Key(address.key.clone())) || causal.pending.contains_key(&Scope::Row(address.clone())))
}
