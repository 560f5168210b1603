//! One key that expires, at replicas whose clocks are wrong: commands, deltas that travel as they like, pulls taken apart into steps, and removals that
//! ask a quorum. Beside the real states stands what the judge of `expiry_histories.rs` needs to know.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use ringtide::crdt::delta::{Causal, Delta, Kind, Payload, Row, RowAddress, RowsMut, join};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::execute::{Author, execute};
use ringtide::crdt::expiry::{Ends, Expiry, Subject, has_decisions, is_late};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::pull::{Pull, compare_row};
use ringtide::crdt::removal::{Passed, attests, dots_of, removable, removal};
use ringtide::hlc::Hlc;
use ringtide::types::{Actor, Timestamp};

use crate::expiry_plot::{Aspect, Plot};
use crate::history::Event;

/// The key.
pub(crate) const KEY: Bytes = Bytes::from_static(b"k");
/// Kinds of events.
pub(crate) const EVENTS: u64 = 29;
/// How wrong a clock may be, in seconds either way.
pub(crate) const SKEW: u64 = 3;
/// More than the clocks of two replicas can differ.
const GRACE: Duration = Duration::from_secs(2 * SKEW + 1);

/// A set of operations, by their numbers.
pub(crate) type Operations = u64;

/// What was done.
pub(crate) struct Operation {
    /// What it means for the decisions on the key.
    pub(crate) on_key: Aspect,
    /// What it means for those on the field.
    pub(crate) on_field: Aspect,
    /// The data rows that it replaces.
    pub(crate) replaces: Vec<RowAddress>,
    /// The writes that its replica had observed.
    pub(crate) observed: Operations,
    /// The decisions that its replica had observed.
    pub(crate) observed_decisions: Operations,
    pub(crate) timestamp: Timestamp,
    /// Who has acknowledged it, bit by bit.
    pub(crate) acknowledged: u32,
}

impl Operation {
    /// What it means for the decisions about a subject.
    pub(crate) fn on(&self, subject: Subject) -> &Aspect {
        if subject == Subject::Key { &self.on_key } else { &self.on_field }
    }
}

/// What was written under a dot.
pub(crate) struct Written {
    pub(crate) row: RowAddress,
    pub(crate) operation: usize,
    /// Whether it is a decision, and no data.
    pub(crate) is_decision: bool,
}

/// One replica, with what the judge keeps beside it.
#[derive(Clone)]
struct Replica {
    state: MemoryState,
    observed: Operations,
    observed_decisions: Operations,
    clock: Hlc,
    next: u64,
    skew: i64,
}

/// A pull that is under way.
struct Session {
    to: usize,
    from: usize,
    pull: Pull<RowAddress>,
    next: usize,
    observed: Operations,
    observed_decisions: Operations,
}

/// A removal that asks for its quorum.
struct Asking {
    remover: usize,
    passed: Passed,
    standing: Vec<Dot>,
    confirmed: u32,
}

struct Message {
    to: usize,
    delta: Delta,
    operation: Option<usize>,
}

/// The world.
pub(crate) struct ExpiryWorld {
    replicas: Vec<Replica>,
    pub(crate) operations: Vec<Operation>,
    /// What is behind each dot.
    pub(crate) dots: BTreeMap<Dot, Written>,
    messages: Vec<Message>,
    /// Every delta that was sent.
    pub(crate) deltas: Vec<Rc<Delta>>,
    sessions: Vec<Session>,
    askings: Vec<Asking>,
    /// The true time, in seconds.
    pub(crate) time: u64,
    pub(crate) plot: Plot,
    rows: Vec<RowAddress>,
    trace: Option<Vec<String>>,
}

impl ExpiryWorld {
    pub(crate) fn new(plot: Plot, skews: &[i64], expiry_first: bool, traced: bool) -> Self {
        let replica = |skew: &i64| Replica {
            state: MemoryState::default(),
            observed: 0,
            observed_decisions: 0,
            clock: Hlc::start(Timestamp::default()),
            next: 1,
            skew: *skew,
        };
        let mut rows = plot.rows();
        if expiry_first {
            rows.rotate_right(1);
        }
        Self {
            replicas: skews.iter().map(replica).collect(),
            operations: Vec::new(),
            dots: BTreeMap::new(),
            messages: Vec::new(),
            deltas: Vec::new(),
            sessions: Vec::new(),
            askings: Vec::new(),
            time: 10,
            plot,
            rows,
            trace: traced.then(Vec::new),
        }
    }

    /// What happened, line by line.
    pub(crate) fn trace(self) -> String {
        self.trace.unwrap_or_default().join("\n")
    }

    fn tell(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    pub(crate) fn replicas(&self) -> usize {
        self.replicas.len()
    }

    pub(crate) fn state(&self, index: usize) -> &MemoryState {
        &self.replicas[index].state
    }

    fn wall_ms(&self, index: usize) -> u64 {
        1000 * self.time.saturating_add_signed(self.replicas[index].skew)
    }

    fn now(&mut self, index: usize) -> Timestamp {
        let wall_ms = self.wall_ms(index);
        Timestamp::from_millis(self.replicas[index].clock.now_ms(wall_ms))
    }

    /// The next timestamp of a replica: never one of another replica, so that the judge needs no rule for equal ones.
    fn tick(&mut self, index: usize) -> Timestamp {
        let wall_ms = self.wall_ms(index);
        loop {
            let next = self.replicas[index].clock.tick(wall_ms);
            if next.0 % 8 == index as u64 {
                return next;
            }
        }
    }

    /// Lets one thing happen.
    pub(crate) fn step(&mut self, (kind, number): Event) {
        let count = self.replicas.len();
        let (here, there) = (number as usize % count, (number >> 8) as usize % count);
        let at = |length: usize| number as usize % length.max(1);
        match kind {
            0..=8 => self.operate(here, self.plot.command(usize::from(kind), number >> 16), number >> 16),
            9..=13 if !self.messages.is_empty() => {
                let index = at(self.messages.len());
                let message = self.messages.remove(index);
                self.deliver(&message);
                if number >> 28 == 0 {
                    self.messages.push(message);
                }
            }
            14 if !self.messages.is_empty() => drop(self.messages.remove(at(self.messages.len()))),
            15 if here != there && self.sessions.len() < 3 => self.start_pull(here, there),
            16..=18 if !self.sessions.is_empty() => self.step_pull(at(self.sessions.len())),
            19 if here != there => self.full_pull(here, there),
            20..=22 => self.time += 1 + u64::from(number % 3),
            23 | 24 => self.ask(here, number >> 16),
            25..=27 if !self.askings.is_empty() => self.confirm(at(self.askings.len()), there),
            28 if number >> 30 == 0 && !self.sessions.is_empty() => drop(self.sessions.remove(at(self.sessions.len()))),
            _ => {}
        }
    }

    fn operate(&mut self, here: usize, command: usize, choice: u32) {
        if self.operations.len() >= 40 {
            return;
        }
        let number = self.operations.len();
        let now = self.tick(here);
        let end_ms = i64::try_from(now.millis()).unwrap_or(i64::MAX) + [2000, 3000, 5000, 8000][choice as usize & 3];
        let mutation = self.plot.mutation(command, end_ms);
        let Replica { state, next, .. } = &mut self.replicas[here];
        let mut mint = || {
            *next += 1;
            Dot { actor: Actor(here as u64 + 1), counter: *next - 1 }
        };
        // Each increment is an entry of its own here, so that each is judged for itself.
        let mut author = Author { actor: Actor(here as u64 + 1), now, mint: &mut mint, runs_since: u64::MAX };
        let Ok(executed) = execute(state, &state.causal, &mut author, &KEY, &mutation) else { return };
        let delta = executed.delta;
        if delta.is_empty() {
            return;
        }
        let Replica { observed, observed_decisions, .. } = self.replicas[here];
        // What it tells of once more is no write of its own.
        let mut own = delta.clone();
        own.adds.retain(|(_, dot, _)| !self.dots.contains_key(dot));
        self.operations.push(Operation {
            on_key: self.plot.aspect(Subject::Key, command, &own),
            on_field: self.plot.aspect(Subject::Field, command, &own),
            replaces: self.plot.replaces(command),
            observed,
            observed_decisions,
            timestamp: now,
            acknowledged: 1 << here,
        });
        for (address, dot, entry) in &own.adds {
            if !matches!(entry.payload, Payload::Floor { .. }) {
                let is_decision = matches!(entry.payload, Payload::Decision(_));
                self.dots.insert(*dot, Written { row: address.clone(), operation: number, is_decision });
            }
        }
        let (time, plot) = (self.time, self.plot);
        self.tell(|| format!("{time} {number} {} at {here} by its clock {}: {delta:?}", plot.name(command), now.millis()));
        self.spread(here, &delta, Some(number));
    }

    /// Joins a delta at its writer and sends it to all the others.
    fn spread(&mut self, here: usize, delta: &Delta, operation: Option<usize>) {
        self.replicas[here].state.join(delta);
        self.observe(here, delta, operation);
        self.deltas.push(Rc::new(delta.clone()));
        for to in (0..self.replicas.len()).filter(|to| *to != here) {
            self.messages.push(Message { to, delta: delta.clone(), operation });
        }
    }

    fn observe(&mut self, here: usize, delta: &Delta, operation: Option<usize>) {
        for (_, dot) in &delta.removes {
            if self.dots.get(dot).is_some_and(|written| written.is_decision) {
                self.see(here, *dot);
            }
        }
        for (_, dot, entry) in &delta.adds {
            self.see(here, *dot);
            self.hear(here, entry.timestamp);
        }
        if let Some(number) = operation {
            self.replicas[here].observed |= 1 << number;
            if [Subject::Key, Subject::Field].iter().any(|subject| self.operations[number].on(*subject).decision.is_some()) {
                self.replicas[here].observed_decisions |= 1 << number;
            }
            self.hear(here, self.operations[number].timestamp);
        }
    }

    fn see(&mut self, here: usize, dot: Dot) {
        match self.dots.get(&dot) {
            Some(written) if written.is_decision => self.replicas[here].observed_decisions |= 1 << written.operation,
            Some(written) => self.replicas[here].observed |= 1 << written.operation,
            None => {}
        }
    }

    fn hear(&mut self, here: usize, timestamp: Timestamp) {
        let wall_ms = self.wall_ms(here);
        assert_eq!(self.replicas[here].clock.observe(timestamp, wall_ms), Ok(()));
    }

    fn deliver(&mut self, message: &Message) {
        let Message { to, delta, operation } = message;
        let now = self.now(*to);
        let decisions = delta.adds.iter().filter(|(_, _, entry)| matches!(entry.payload, Payload::Decision(_)));
        let late = decisions.into_iter().any(|(_, _, entry)| is_late(entry.timestamp, now, GRACE));
        let sessions = self.sessions.iter().filter(|session| session.to == *to);
        let pulls: Vec<&Pull<RowAddress>> = sessions.map(|session| &session.pull).collect();
        let slips = |address: &RowAddress, dot| pulls.iter().any(|pull| pull.slips(0, address, address, dot));
        let state = &mut self.replicas[*to].state;
        let Ok(()) = join(&mut state.rows, &mut state.causal, delta, slips);
        self.observe(*to, delta, *operation);
        if let (Some(number), false) = (operation, late) {
            self.operations[*number].acknowledged |= 1 << to;
        }
        let time = self.time;
        self.tell(|| format!("{time} {to} gets {operation:?}{}: {delta:?}", if late { " too late" } else { "" }));
    }

    fn start_pull(&mut self, to: usize, from: usize) {
        let Replica { state, observed, observed_decisions, .. } = &self.replicas[from];
        let pull = Pull::new(state.causal.clone(), 0, 0);
        self.sessions.push(Session { to, from, pull, next: 0, observed: *observed, observed_decisions: *observed_decisions });
    }

    fn full_pull(&mut self, to: usize, from: usize) {
        self.start_pull(to, from);
        let running = self.sessions.len();
        while self.sessions.len() == running {
            self.step_pull(running - 1);
        }
    }

    fn step_pull(&mut self, index: usize) {
        let mut session = self.sessions.remove(index);
        let (to, from) = (session.to, session.from);
        let Some(address) = self.rows.get(session.next).cloned() else {
            let replica = &mut self.replicas[to];
            assert_eq!(session.pull.finish(&mut replica.state.causal, 0, 0), Ok(()));
            replica.observed |= session.observed;
            replica.observed_decisions |= session.observed_decisions;
            return;
        };
        let none = Row::new();
        let source = &self.replicas[from].state;
        let theirs = source.rows.get(&address).unwrap_or(&none);
        // A row with decisions comes with the clock of its own snapshot.
        let their_causal: &Causal = if has_decisions(&address, theirs) { &source.causal } else { session.pull.theirs() };
        let others: Vec<&Pull<RowAddress>> = self.sessions.iter().filter(|other| other.to == to).map(|other| &other.pull).collect();
        let slips = |address: &RowAddress, dot| others.iter().any(|pull| pull.slips(0, address, address, dot));
        let state = &self.replicas[to].state;
        let mine = state.rows.get(&address).unwrap_or(&none);
        let change = compare_row(mine, &state.causal, &address, theirs, their_causal, slips);
        let taken: Vec<(Dot, Timestamp)> =
            theirs.iter().filter(|(dot, _)| !mine.contains_key(dot)).map(|(dot, entry)| (*dot, entry.timestamp)).collect();
        let state = &mut self.replicas[to].state;
        change.apply(&address, &mut state.causal);
        if let Some(row) = change.row {
            let taken: Vec<_> = taken.into_iter().filter(|(dot, _)| row.contains_key(dot)).collect();
            state.put(address.clone(), row);
            let time = self.time;
            self.tell(|| format!("{time} {to} pulls {:?} {:?} from {from}", address.kind, address.element));
            for (dot, timestamp) in taken {
                self.see(to, dot);
                self.hear(to, timestamp);
            }
        }
        let after = RowAddress { element: [address.element.as_ref(), b"\0"].concat().into(), ..address.clone() };
        session.pull.rows_compared(0, Some(address), Some(after));
        session.next += 1;
        self.sessions.insert(index, session);
    }

    /// A replica looks for a decision whose time is past, and begins to ask.
    fn ask(&mut self, remover: usize, choice: u32) {
        let now = self.now(remover);
        let state = &self.replicas[remover].state;
        let Ok(found) = removable(state, &state.causal, &KEY, state.rows.keys(), now, GRACE);
        if found.is_empty() || self.askings.len() > 3 {
            return;
        }
        let passed = found[choice as usize % found.len()].clone();
        let standing = state.rows.get(&passed.row).map(|row| dots_of(row, &passed.decision)).unwrap_or_default();
        let time = self.time;
        self.tell(|| format!("{time} {remover} asks for {passed:?}"));
        self.askings.push(Asking { remover, passed, standing, confirmed: 1 << remover });
    }

    fn attests(&mut self, index: usize, asking: &Asking) -> bool {
        let now = self.now(index);
        let state = &self.replicas[index].state;
        let Passed { row, decision } = &asking.passed;
        let Ok(confirmed) = attests(state, &state.causal, row, decision, &asking.standing, now, GRACE);
        confirmed
    }

    fn confirm(&mut self, index: usize, who: usize) {
        let mut asking = self.askings.remove(index);
        if asking.confirmed >> who & 1 == 0 {
            if !self.attests(who, &asking) {
                return;
            }
            let time = self.time;
            self.tell(|| format!("{time} {who} confirms to {}", asking.remover));
            asking.confirmed |= 1 << who;
        }
        if asking.confirmed.count_ones() as usize > self.replicas.len() / 2 {
            self.remove(&asking);
        } else {
            self.askings.insert(index, asking);
        }
    }

    fn remove(&mut self, asking: &Asking) {
        let here = asking.remover;
        let now = self.tick(here);
        let Replica { state, next, .. } = &mut self.replicas[here];
        let mut mint = || {
            *next += 1;
            Dot { actor: Actor(here as u64 + 1), counter: *next - 1 }
        };
        let mut author = Author { actor: Actor(here as u64 + 1), now, mint: &mut mint, runs_since: u64::MAX };
        let Ok(removed) = removal(state, &state.causal, &mut author, &asking.passed, GRACE);
        if let Some(delta) = removed {
            let time = self.time;
            self.tell(|| format!("{time} {here} removes what {:?} hides: {delta:?}", asking.passed));
            self.spread(here, &delta, None);
        }
    }

    fn heal(&mut self) {
        for _ in 0..3 {
            for to in 0..self.replicas.len() {
                for from in (0..self.replicas.len()).filter(|from| *from != to) {
                    self.full_pull(to, from);
                }
            }
        }
    }

    /// Clocks are set right, a minute passes, all pull from all, and what all agree on is removed.
    pub(crate) fn settle(&mut self) {
        self.sessions.clear();
        self.heal();
        self.askings.clear();
        self.time += 60;
        for replica in &mut self.replicas {
            replica.skew = 0;
        }
        for _ in 0..4 {
            for remover in 0..self.replicas.len() {
                let now = self.now(remover);
                let state = &self.replicas[remover].state;
                let Ok(found) = removable(state, &state.causal, &KEY, state.rows.keys(), now, GRACE);
                for passed in found {
                    let asking = Asking { remover, passed, standing: Vec::new(), confirmed: 0 };
                    if (0..self.replicas.len()).all(|who| self.attests(who, &asking)) {
                        self.remove(&asking);
                    }
                }
            }
            self.heal();
        }
    }

    /// Joins everything that is still on its way: the latest of hints.
    pub(crate) fn deliver_all(&mut self) {
        for message in std::mem::take(&mut self.messages) {
            self.deliver(&message);
        }
    }

    /// The dots of data in a state, and whether each is hidden now.
    pub(crate) fn data(&self, index: usize) -> BTreeMap<Dot, bool> {
        let state = &self.replicas[index].state;
        let none = Row::new();
        let now = Timestamp::from_millis(1000 * self.time);
        let expiry = Expiry::of(state.rows.get(&RowAddress::expiry(&KEY)).unwrap_or(&none), now);
        let mut data = BTreeMap::new();
        for row in state.rows.iter().filter(|(address, _)| address.kind != Kind::Expiry).map(|(_, row)| row) {
            let ends = Ends::of(row, &expiry);
            let entries = row.iter().filter(|(_, entry)| !matches!(entry.payload, Payload::Floor { .. } | Payload::Decision(_)));
            data.extend(entries.map(|(dot, entry)| (*dot, ends.hides(entry))));
        }
        data
    }
}
