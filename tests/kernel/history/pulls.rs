//! Pulls of the small world: the real decisions of [`ringtide::crdt::pull`], taken apart into the steps between which anything may happen.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use ringtide::crdt::delta::{Causal, Row, RowAddress, RowsMut};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::pull::{Pull, compare_row};

use super::graph::{Effects, Operations};
use super::{KEYS, Replica, World, addresses};

/// One pull that is under way.
pub(crate) struct Session {
    /// Who pulls.
    pub(crate) to: usize,
    /// From whom.
    pub(crate) from: usize,
    pull: Pull<RowAddress>,
    /// Whether a row is judged by the clock of the snapshot that it was listed from, or by that of the start.
    by_listing: bool,
    /// The step that comes next.
    next: usize,
    /// What the other replica listed for that step.
    listed: Option<(BTreeMap<RowAddress, Row>, Causal)>,
    known: Operations,
    observed: Effects,
    started: u64,
}

/// A leaf and the rows of it from an address to another that one step compares.
pub(crate) type Step = (usize, Option<RowAddress>, Option<RowAddress>);

impl Session {
    /// Whether both replicas are those that it began with.
    pub(crate) fn is_valid(&self, replicas: &[Replica]) -> bool {
        let alive = |index: usize| replicas[index].present;
        self.pull.check(replicas[self.to].state_id, replicas[self.from].state_id).is_ok() && alive(self.to) && alive(self.from)
    }

    /// Whether an add would slip past this pull.
    pub(crate) fn slips(&self, address: &RowAddress, dot: Dot) -> bool {
        self.pull.slips(leaf_of(address), address, address, dot)
    }
}

fn leaf_of(address: &RowAddress) -> usize {
    KEYS.iter().position(|key| *key == address.key).unwrap_or(0)
}

/// The steps of a pull where only these keys have rows.
pub(super) fn steps(fine: bool, keys: &[Bytes]) -> Rc<[Step]> {
    let is_used = |(leaf, ..): &Step| keys.contains(&KEYS[*leaf]);
    if !fine {
        return (0..KEYS.len()).map(|leaf| (leaf, None, None)).filter(is_used).collect();
    }
    let all = addresses();
    let bound = |leaf: usize, index: usize| all.get(index).filter(|address| leaf_of(address) == leaf).cloned();
    let mut steps: Vec<Step> = Vec::new();
    for (index, address) in all.iter().enumerate() {
        let leaf = leaf_of(address);
        let from = if index > 0 && leaf_of(&all[index - 1]) == leaf { bound(leaf, index) } else { None };
        steps.push((leaf, from, bound(leaf, index + 1)));
    }
    steps.into_iter().filter(is_used).collect()
}

fn within((leaf, from, until): &Step, address: &RowAddress) -> bool {
    leaf_of(address) == *leaf && from.as_ref().is_none_or(|from| from <= address) && until.as_ref().is_none_or(|until| address < until)
}

impl World {
    /// `to` reads the clock of `from`.
    pub(crate) fn start_pull(&mut self, to: usize, from: usize, choice: u32) {
        if to == from || !self.replicas[to].present || !self.replicas[from].present {
            return;
        }
        self.tell(|_| format!("{to} begins to pull from {from}"));
        let state_ids = (self.replicas[to].state_id, self.replicas[from].state_id);
        let source = &self.replicas[from];
        self.sessions.push(Session {
            to,
            from,
            pull: Pull::new(source.now.state.causal.clone(), state_ids.0, state_ids.1),
            by_listing: choice & 1 == 1,
            next: 0,
            listed: None,
            known: source.now.known,
            observed: source.now.observed,
            started: self.time,
        });
    }

    /// The next step of some pull.
    pub(crate) fn step_pull(&mut self, number: u32) {
        if !self.sessions.is_empty() {
            let index = number as usize % self.sessions.len();
            self.advance(index);
        }
    }

    /// A whole pull, with nothing between its steps.
    pub(crate) fn full_pull(&mut self, to: usize, from: usize) {
        let before = self.sessions.len();
        self.start_pull(to, from, 0);
        while self.sessions.len() > before {
            self.advance(before);
        }
    }

    /// One step: the source lists, the puller compares, or the pull ends.
    fn advance(&mut self, index: usize) {
        let mut session = self.sessions.remove(index);
        let Session { to, from, .. } = session;
        if !session.is_valid(&self.replicas) {
            return;
        }
        let steps = Rc::clone(&self.steps);
        let Some(step) = steps.get(session.next) else { return self.finish_pull(session) };
        let Some((theirs, their_causal)) = session.listed.take() else {
            let source = &self.replicas[from].now.state;
            let rows = source.rows.iter().filter(|(address, _)| within(step, address));
            session.listed = Some((rows.map(|(address, row)| (address.clone(), row.clone())).collect(), source.causal.clone()));
            self.sessions.insert(index, session);
            return;
        };
        let their_causal = if session.by_listing { &their_causal } else { session.pull.theirs() };
        let empty = Row::new();
        let own = self.replicas[to].now.state.rows.keys().filter(|address| within(step, address));
        let both: BTreeSet<RowAddress> = own.chain(theirs.keys()).cloned().collect();
        for address in &both {
            let others = |address: &RowAddress, dot| {
                self.sessions.iter().any(|other| other.to == to && other.is_valid(&self.replicas) && other.slips(address, dot))
            };
            let state = &self.replicas[to].now.state;
            let (mine, theirs) = (state.rows.get(address).unwrap_or(&empty), theirs.get(address).unwrap_or(&empty));
            if mine == theirs {
                continue;
            }
            let change = compare_row(mine, &state.causal, address, theirs, their_causal, others);
            self.tell(|_| format!("{to} pulls {:?} {:?} {:?} from {from}: {change:?}", address.key, address.kind, address.element));
            let now = &mut self.replicas[to].now;
            change.apply(address, &mut now.state.causal);
            if let Some(row) = change.row {
                now.observed |= row.keys().fold(0, |set, dot| set | self.graph.covers(*dot));
                now.state.rows.put(address.clone(), row);
            }
        }
        let (leaf, from, until) = step.clone();
        session.pull.rows_compared(leaf, from, until);
        session.next += 1;
        if steps.get(session.next).is_none_or(|(next, ..)| *next != leaf) {
            session.pull.leaf_compared(leaf);
        }
        self.sessions.insert(index, session);
    }

    fn finish_pull(&mut self, session: Session) {
        let Session { to, from, pull, known, observed, started, .. } = session;
        let state_ids = (self.replicas[to].state_id, self.replicas[from].state_id);
        let now = &mut self.replicas[to].now;
        if pull.finish(&mut now.state.causal, state_ids.0, state_ids.1).is_err() {
            return;
        }
        now.known |= known;
        now.observed |= observed;
        // "Finished" is said once it is durable.
        self.replicas[to].durable = self.replicas[to].now.clone();
        self.tell(|_| format!("{to} has pulled from {from}"));
        if self.replicas[from].sealed && started >= self.replicas[from].sealed_at && !self.replicas[to].sealed {
            self.replicas[from].confirmed |= 1 << to;
            self.try_leave(from);
        }
    }
}
