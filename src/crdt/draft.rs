//! A delta under construction: what every command needs to write one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::delta::{Causal, Delta, Replacement, Scope};
use super::dot::Dot;
use super::expiry::deadline;
use super::kind::Kind;
use super::refusal::{ExecuteError, Refusal};
use super::row::{Decision, Entry, Payload, Row, RowAddress, Terms};
use super::rows::Rows;
use super::runs;
use super::token::{self, Token};
use crate::config::{MAX_FLOOR_BYTES, MAX_KEPT_DOTS, NAMED_REMOVE_BYTES, NAMED_REMOVES};
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
    /// Whether it overwrites all that this replica has seen of a row or key.
    overwrites: bool,
}

impl<'d, 'a> Draft<'d, 'a> {
    pub(super) fn new(key: &'d Bytes, causal: &'d Causal, author: &'d mut Author<'a>) -> Self {
        Self { key, author, causal, delta: Delta::default(), overwrites: false }
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
    pub(super) fn add_floors(&mut self, address: &RowAddress, observed: impl IntoIterator<Item = (Dot, runs::Observed)>) {
        for (run, runs::Observed { upto, total }) in observed {
            self.add(address.clone(), None, Payload::Floor { run, upto, total });
        }
    }

    /// Removes one live dot.
    pub(super) fn remove(&mut self, address: RowAddress, dot: Dot) {
        self.delta.removes.push((address, dot));
    }

    /// Overwrites a row as this replica knows it, but for some live dots. What was pending for the whole key was pending for
    /// this row as well. Of what it keeps, entries of counters are told once more.
    pub(super) fn replace_row(&mut self, address: RowAddress, row: &Row, keeps: Vec<Dot>) {
        self.tell_again(&address, row, &keeps);
        for dot in row.keys().filter(|dot| !keeps.contains(dot)) {
            self.remove(address.clone(), *dot);
        }
        let mut pending = self.causal.pending_for(&Scope::Key(self.key.clone()));
        let scope = Scope::Row(address);
        pending.extend(&self.causal.pending_for(&scope));
        self.delta.replaces.push(Replacement { scope, pending, keeps });
        self.overwrites = true;
    }

    /// Overwrites a row, but for decisions that have passed: only a removal by a quorum may take these.
    pub(super) fn overwrite_row(&mut self, address: RowAddress, row: &Row) {
        let now = self.author.now;
        let keeps = row.iter().filter(|(_, entry)| stays(entry, now)).map(|(dot, _)| *dot).collect();
        self.replace_row(address, row, keeps);
    }

    /// Overwrites the decisions in a row that have not passed. What else it holds stays.
    pub(super) fn replace_decisions(&mut self, address: RowAddress, row: &Row) {
        let now = self.author.now;
        let goes = |entry: &Entry| matches!(entry.payload, Payload::Decision(_)) && !stays(entry, now);
        let keeps = row.iter().filter(|(_, entry)| !goes(entry)).map(|(dot, _)| *dot).collect();
        self.replace_row(address, row, keeps);
    }

    /// Says that everything seen of the key is overwritten, but for some live dots. What is pending for a single
    /// row is told for that row alone.
    pub(super) fn replace_key(&mut self, keeps: &[Dot]) {
        self.overwrites = true;
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

    /// Tells entries of counters once more that stay where all is overwritten which this replica has seen. They stand for what they superseded, and who has not got
    /// them may have that: it goes by the writer's clock, and would count again, or be missed, if nobody brought them later. ‡
    fn tell_again(&mut self, address: &RowAddress, row: &Row, keeps: &[Dot]) {
        let entries = keeps.iter().filter_map(|dot| row.get_key_value(dot));
        let of_counters = entries.filter(|(_, entry)| matches!(entry.payload, Payload::Run { .. } | Payload::Floor { .. }));
        self.delta.adds.extend(of_counters.map(|(dot, entry)| (address.clone(), *dot, entry.clone())));
    }

    /// Leaves floors for every counter run of the key. Of elements those floors are kept whose run has no entry here any more: they say all
    /// there is to say already, and are told once more. Of fields passed decisions are kept, too.
    fn reset_runs<R: Rows>(&mut self, rows: &R, keeps: &mut Vec<Dot>) -> Result<(), ExecuteError<R::Error>> {
        let value = RowAddress::value(self.key);
        self.add_floors(&value, runs::observed(&rows.row(&value).map_err(ExecuteError::Rows)?, |_| true));
        let (mut bytes, mut is_too_much, now) = (0, false, self.author.now);
        let resetting = rows.visit_from(self.key, Kind::Field, &mut |address, row| {
            if address.kind > Kind::Score {
                return ControlFlow::Break(());
            }
            let (ended, kept) = runs::reset(row);
            bytes += (ended.len() + kept.len()) * (address.element.len() + FLOOR_BYTES);
            self.add_floors(address, ended);
            // What is added stays where it is already.
            self.tell_again(address, row, &kept);
            keeps.extend(row.iter().filter(|(_, entry)| stays(entry, now)).map(|(dot, _)| *dot));
            is_too_much = bytes > MAX_FLOOR_BYTES || keeps.len() > MAX_KEPT_DOTS;
            if is_too_much { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        resetting.map_err(ExecuteError::Rows)?;
        if is_too_much { Err(Refusal::TooManyCounters.into()) } else { Ok(()) }
    }

    /// Removes exactly what a token's reader saw of the key, also what has not come here yet, and leaves floors for the counter runs that this
    /// ends. Decisions go with the last of the data, unless `keeps_expiry`; passed ones stay, as always. Tells whether anything went.
    ///
    /// The delta names what goes and tells no clock: what this replica saw go before was superseded by something that may stay, as the former entries
    /// of a counter run are by its latest, and others may have nothing but the former. ‡ Where the clock is told for another row of the delta, what stays
    /// is named instead.
    ///
    /// # Errors
    /// Where rows could not be read, or more is to be told than one delta may tell of.
    pub(super) fn remove_seen<R: Rows>(&mut self, rows: &R, token: &Token, keeps_expiry: bool) -> Result<bool, ExecuteError<R::Error>> {
        let (mut keeps, mut decisions, mut named, mut keeps_data) = (Vec::new(), Vec::new(), Vec::new(), false);
        let mut superseded = token.clock();
        let mut floors = token.observed.clone();
        let reading = rows.visit(self.key, &mut |address, row| {
            if address.kind == Kind::Expiry {
                decisions.extend(row.iter().map(|(dot, entry)| (address.clone(), *dot, stays(entry, self.author.now))));
                return ControlFlow::Continue(());
            }
            let (goes, observed) = token.named_in(row);
            for (run, observed) in observed {
                token::raise(floors.entry((address.kind, address.element.clone())).or_default(), run, observed);
            }
            let is_data = |entry: &Entry| !matches!(entry.payload, Payload::Floor { .. } | Payload::Decision(_));
            let keeps_row = row.iter().any(|(dot, entry)| is_data(entry) && !goes.contains(dot));
            keeps_data |= keeps_row;
            for (dot, entry) in row {
                // The decisions of a field go with the last of its data.
                let goes_with_data = !keeps_row && matches!(entry.payload, Payload::Decision(_)) && !stays(entry, self.author.now);
                if goes.contains(dot) || goes_with_data {
                    named.push((address.clone(), *dot));
                } else {
                    keeps.push(*dot);
                    if self.overwrites {
                        self.tell_again(address, row, &[*dot]);
                    }
                }
            }
            ControlFlow::Continue(())
        });
        reading.map_err(ExecuteError::Rows)?;
        let floor_bytes =
            |((_, element), runs): (&(Kind, Bytes), &BTreeMap<Dot, runs::Observed>)| runs.len() * (element.len() + FLOOR_BYTES);
        if floors.iter().map(floor_bytes).sum::<usize>() > MAX_FLOOR_BYTES || keeps.len() > MAX_KEPT_DOTS {
            return Err(Refusal::TooManyCounters.into());
        }
        let went = !named.is_empty();
        for (address, dot, has_passed) in decisions {
            if keeps_data || keeps_expiry || has_passed {
                keeps.push(dot);
            } else {
                named.push((address, dot));
            }
        }
        superseded.extend(&named.iter().map(|(_, dot)| *dot).collect());
        self.name_removes(named);
        for ((kind, element), runs) in floors {
            self.add_floors(&RowAddress::element(self.key, kind, &element), runs);
        }
        let keeps = if self.overwrites { keeps } else { Vec::new() };
        self.delta.replaces.push(Replacement { scope: Scope::Key(self.key.clone()), pending: superseded, keeps });
        Ok(went)
    }

    /// Removes exactly what a token's reader saw of a row, by the rules of [`Draft::remove_seen`]. Its decisions stay.
    pub(super) fn replace_seen(&mut self, address: RowAddress, row: &Row, token: &Token) {
        let (goes, observed) = token.named_in(row);
        let mut floors = token.observed.get(&(address.kind, address.element.clone())).cloned().unwrap_or_default();
        observed.into_iter().for_each(|(run, observed)| token::raise(&mut floors, run, observed));
        let mut pending = token.clock();
        pending.extend(&goes.iter().copied().collect());
        let mut keeps = Vec::new();
        if self.overwrites {
            keeps.extend(row.keys().filter(|dot| !goes.contains(dot)));
            self.tell_again(&address, row, &keeps);
        }
        self.name_removes(goes.into_iter().map(|dot| (address.clone(), dot)).collect());
        self.add_floors(&address, floors);
        self.delta.replaces.push(Replacement { scope: Scope::Row(address), pending, keeps });
    }

    /// Names removed dots one by one as far as the limits go; of the others the replaced key tells.
    fn name_removes(&mut self, named: Vec<(RowAddress, Dot)>) {
        let mut bytes = 0;
        self.delta.removes.extend(named.into_iter().take(NAMED_REMOVES).take_while(|(address, _)| {
            bytes += address.element.len();
            bytes <= NAMED_REMOVE_BYTES
        }));
    }

    /// Whether something superseded a row of decisions that this replica has not seen.
    pub(super) fn is_behind(&self, address: &RowAddress) -> bool {
        is_behind(self.causal, address)
    }

    /// The finished delta.
    pub(super) fn finish(mut self) -> Delta {
        if self.overwrites {
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
