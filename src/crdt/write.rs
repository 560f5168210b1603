//! The delta of one command in the making: what every kind of write has in common.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::command::Answer;
use super::counter;
use super::delta::{Causal, Decision, Delta, Entry, Payload, Replacement, Row, RowAddress, Scope};
use super::dot::Dot;
use super::execute::{Author, Executed};
use super::look::Look;
use crate::config::NAMED_REMOVES;
use crate::types::Timestamp;

/// A write in the making.
pub(super) struct Write<'w, 'a> {
    author: &'w mut Author<'a>,
    causal: &'w Causal,
    pub(super) key: &'w Bytes,
    delta: Delta,
}

impl<'w, 'a> Write<'w, 'a> {
    pub(super) fn new(author: &'w mut Author<'a>, causal: &'w Causal, key: &'w Bytes) -> Self {
        Self { author, causal, key, delta: Delta::default() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.author.now
    }

    /// Whether the expiry row's writer knows that there is more to know about it.
    fn expiry_is_pending(&self) -> bool {
        let row = Scope::Row(RowAddress::expiry(self.key));
        [row, Scope::Key(self.key.clone())].iter().any(|scope| self.causal.pending.contains_key(scope))
    }

    /// Adds an entry under a new dot.
    pub(super) fn add(&mut self, address: RowAddress, payload: Payload, decision: Option<Decision>) -> Dot {
        let dot = (self.author.mint)();
        let entry = Entry { timestamp: self.author.now, decision, payload };
        self.delta.adds.push((address, dot, entry));
        dot
    }

    /// Removes exactly these dots of a row.
    pub(super) fn remove(&mut self, address: &RowAddress, dots: impl IntoIterator<Item = Dot>) {
        self.delta.removes.extend(dots.into_iter().map(|dot| (address.clone(), dot)));
    }

    fn replace(&mut self, scope: Scope, keeps: Vec<Dot>) {
        let pending = self.causal.pending_for(&scope);
        self.delta.replaces.push(Replacement { scope, pending, keeps });
        if self.delta.seen.is_empty() {
            self.delta.seen = self.causal.clock.clone();
        }
    }

    /// Replaces what was observed of a row, all but some dots.
    pub(super) fn replace_row(&mut self, address: &RowAddress, row: &Row, keeps: Vec<Dot>) {
        self.remove(address, row.keys().copied().filter(|dot| !keeps.contains(dot)));
        self.replace(Scope::Row(address.clone()), keeps);
    }

    /// Replaces everything that was observed of the key: of its expiry row only the decisions whose time is still to come.
    pub(super) fn replace_key(&mut self, rows: &BTreeMap<RowAddress, Row>, look: &Look, keep_expiry: bool) {
        let keeps = if keep_expiry { look.decisions.dots() } else { look.decisions.past(self.author.now) };
        let observed = rows.iter().flat_map(|(address, row)| row.keys().map(move |dot| (address, *dot)));
        let removed = observed.filter(|(_, dot)| !keeps.contains(dot));
        self.delta.removes.extend(removed.take(NAMED_REMOVES).map(|(address, dot)| (address.clone(), dot)));
        self.leave_floors(&look.value_of(rows, self.key));
        self.replace(Scope::Key(self.key.clone()), keeps);
        // What is pending for a single row was not observed of the others: each says it for itself.
        let own: Vec<Scope> =
            self.causal.pending.keys().filter(|scope| matches!(scope, Scope::Row(address) if address.key == *self.key)).cloned().collect();
        for scope in own {
            let keeps = match &scope {
                Scope::Row(address) if *address == RowAddress::expiry(self.key) => {
                    if keep_expiry {
                        look.decisions.dots()
                    } else {
                        look.decisions.past(self.author.now)
                    }
                }
                Scope::Row(_) | Scope::Key(_) => Vec::new(),
            };
            self.replace(scope, keeps);
        }
    }

    /// Leaves a floor for every run among entries that this write removes.
    pub(super) fn leave_floors(&mut self, removed: &Row) {
        for floor in counter::floors(removed.iter()) {
            self.add(RowAddress::value(self.key), floor, None);
        }
    }

    /// The decision for the entries of a write that neither replaces the key nor decides on its expiry. Where the key holds nothing, hidden
    /// or not, leftover decisions are cleared, unless there is more to know about them.
    pub(super) fn carry(&mut self, look: &Look, expiry_row: &Row) -> Option<Decision> {
        if look.exists() {
            return look.governing();
        }
        if look.decisions.is_empty() {
            return None;
        }
        if self.expiry_is_pending() {
            return look.decisions.governing(self.author.now);
        }
        if !look.hidden {
            let past = look.decisions.past(self.author.now);
            self.replace_row(&RowAddress::expiry(self.key), expiry_row, past);
        }
        None
    }

    /// Takes a decision on the key's expiry, in place of those whose time is still to come.
    pub(super) fn decide(&mut self, time: Option<u64>, look: &Look, expiry_row: &Row) {
        let since = look.decisions.since(self.author.now);
        let past = look.decisions.past(self.author.now);
        let address = RowAddress::expiry(self.key);
        self.replace_row(&address, expiry_row, past);
        let decision = Decision { time, timestamp: self.author.now, since };
        self.add(address, Payload::Decision(decision), None);
    }

    /// The next increment of a counter.
    pub(super) fn increment(&mut self, row: &Row, look: &Look, by: i64, decision: Option<Decision>) {
        let dot = (self.author.mint)();
        let (payload, replaced) =
            counter::increment(row, &look.decisions, self.author.now, self.author.actor, self.author.runs_since, dot, by);
        let address = RowAddress::value(self.key);
        self.remove(&address, replaced);
        self.delta.adds.push((address, dot, Entry { timestamp: self.author.now, decision, payload }));
    }

    /// Replaces exactly what the reader of a token saw of a row.
    pub(super) fn replace_seen(&mut self, address: RowAddress, row: &Row, seen: super::dot::Clock) {
        let removed: Row = row.iter().filter(|(dot, _)| seen.contains(**dot)).map(|(dot, entry)| (*dot, entry.clone())).collect();
        self.remove(&address, removed.keys().copied());
        self.leave_floors(&removed);
        self.delta.replaces.push(Replacement::of(Scope::Row(address), super::dot::Clock::new()));
        self.delta.seen = seen;
    }

    pub(super) fn done(self, answer: Answer) -> Executed {
        Executed { delta: self.delta, answer }
    }
}
