//! The proof of expiry by histories, of keys and of fields: 2 to 5 replicas with clocks that are wrong by up to 3 seconds either way. Judged by definition: a write shows
//! at the end unless some decision may rightly have ended it, and does not show if one that its writer knew of, or that knew of it, has.

use std::rc::Rc;

use ringtide::crdt::delta::{Decision, Delta};
use ringtide::crdt::expiry::Subject;
use ringtide::crdt::wire::rows_to_bytes;
use ringtide::types::Timestamp;

use crate::expiry_plot::{Aspect, Plot};
use crate::expiry_world::{EVENTS, ExpiryWorld, Operation, Operations, SKEW, Written};
use crate::history::Event;
use crate::history::random::Random;

#[derive(Clone)]
struct History {
    plot: Plot,
    skews: Vec<i64>,
    expiry_first: bool,
    late: bool,
    events: Vec<Event>,
}

impl History {
    fn random(plot: Plot, seed: u64) -> Self {
        let random = &mut Random::new(seed);
        let replicas = [2, 3, 3, 3, 4, 5][random.below(6) as usize];
        let skews = (0..replicas).map(|_| random.below(2 * SKEW + 1) as i64 - SKEW as i64).collect();
        let (expiry_first, late, sets) = (random.below(2) == 0, random.below(2) == 0, random.below(2) == 0);
        let length = 8 + random.below(60);
        let favourites: Vec<u64> = (0..8).map(|_| random.below(EVENTS)).collect();
        let event = |random: &mut Random| {
            let kind = match random.below(6) {
                0 | 1 => random.below(EVENTS),
                2 => [3, 4, 6, 7, 8, 1][random.below(6) as usize],
                3 => [20, 21, 23, 25, 26, 10][random.below(6) as usize],
                _ => favourites[random.below(8) as usize],
            };
            // A key that was SET takes no members, so half of the histories do without strings.
            let kind = if sets && plot == Plot::Keys && matches!(kind, 0 | 1 | 3) { 4 + kind % 2 } else { kind };
            (kind as u8, random.next() as u32)
        };
        let events = (0..length).map(|_| event(random)).collect();
        Self { plot, skews, expiry_first, late, events }
    }

    fn play(&self, traced: bool) -> (Result<(), String>, String) {
        let mut world = ExpiryWorld::new(self.plot, &self.skews, self.expiry_first, traced);
        self.events.iter().for_each(|event| world.step(*event));
        world.settle();
        let mut verdict = judge(&world);
        if verdict.is_ok() && self.late {
            world.deliver_all();
            world.settle();
            verdict = judge(&world).map_err(|text| format!("{text} [after late hints]"));
        }
        (verdict, world.trace())
    }

    fn shrink(mut self, class: &str) -> Self {
        for index in (0..self.events.len()).rev() {
            let mut shorter = self.clone();
            shorter.events.remove(index);
            if shorter.play(false).0.is_err_and(|text| text.starts_with(class)) {
                self = shorter;
            }
        }
        self
    }
}

/// When a decision's time comes.
fn end(decision: &Decision) -> Timestamp {
    decision.time.map_or(Timestamp(u64::MAX), Timestamp::from_millis)
}

/// The decisions that were taken away by who had observed them and left none in their place, or whose like was done to what stood in their place.
fn ended(operations: &[Operation], subject: Subject, decisions: &[(usize, Decision)]) -> Operations {
    let mut latest_first = decisions.to_vec();
    latest_first.sort_by_key(|(_, decision)| std::cmp::Reverse(decision.timestamp));
    let mut ended = 0;
    for (number, _) in latest_first {
        let ends = |(other, operation): (usize, &Operation)| {
            let Aspect { takes, decision, .. } = operation.on(subject);
            let has_observed = other != number && operation.observed_decisions >> number & 1 == 1;
            has_observed && if decision.is_some() { ended >> other & 1 == 1 } else { *takes }
        };
        ended |= Operations::from(operations.iter().enumerate().any(ends)) << number;
    }
    ended
}

/// What the judge needs to weigh decisions about one subject against each other.
struct Judge<'w> {
    subject: Subject,
    operations: &'w [Operation],
    decisions: Vec<(usize, Decision)>,
    /// The decisions whose life somebody ended who had observed it.
    ended: Operations,
    now: Timestamp,
    quorum: u32,
}

impl<'w> Judge<'w> {
    fn new(world: &'w ExpiryWorld, subject: Subject) -> Self {
        let taken = |(number, operation): (usize, &Operation)| Some((number, operation.on(subject).decision?));
        let decisions: Vec<(usize, Decision)> = world.operations.iter().enumerate().filter_map(taken).collect();
        Self {
            subject,
            operations: &world.operations,
            ended: ended(&world.operations, subject, &decisions),
            decisions,
            now: Timestamp::from_millis(1000 * world.time),
            quorum: u32::try_from(world.replicas() / 2 + 1).unwrap_or(u32::MAX),
        }
    }

    /// Operations that took a decision away before its time, having observed it.
    fn superseded(&self, number: usize, decision: &Decision) -> Vec<&Operation> {
        let takes = |(other, operation): &(usize, &Operation)| {
            *other != number
                && operation.on(self.subject).takes
                && operation.observed_decisions >> number & 1 == 1
                && operation.timestamp < end(decision)
        };
        self.operations.iter().enumerate().filter(takes).map(|(_, operation)| operation).collect()
    }

    /// Whether a quorum knows of a later decision about the same life, which nobody has ended.
    fn overtaken_at_a_quorum(&self, write: &Operation, decision: &Decision) -> bool {
        let past_since =
            |other: &Decision| self.decisions.iter().any(|(_, later)| later.timestamp > other.timestamp && end(later) <= self.now);
        self.decisions.iter().any(|(number, other)| {
            let operation = &self.operations[*number];
            other.timestamp > decision.timestamp
                && other.timestamp < end(decision)
                && (write.on(self.subject).inherited != Some(*decision) || end(other) > end(decision) && !past_since(other))
                && operation.acknowledged.count_ones() >= self.quorum
                && self.ended >> number & 1 == 0
        })
    }

    /// Whether a write that nothing replaced may be gone, and whether it must be.
    fn weigh(&self, number: usize) -> (bool, bool) {
        let write = &self.operations[number];
        let Aspect { sets, inherited, .. } = write.on(self.subject);
        let (mut may, mut must) = (false, false);
        for (taken_by, decision) in &self.decisions {
            let is_own = *taken_by == number;
            let rules = decision.timestamp > write.timestamp || inherited.is_some() || is_own;
            let reaches = write.timestamp < end(decision) && end(decision) <= self.now;
            if !rules || !reaches || *sets && decision.timestamp < write.timestamp {
                continue;
            }
            let superseded = self.superseded(*taken_by, decision);
            let knew_it = *inherited == Some(*decision) || is_own;
            let taken_at_a_quorum = superseded.iter().any(|taking| taking.acknowledged.count_ones() >= self.quorum)
                && !(knew_it || write.observed_decisions >> taken_by & 1 == 1);
            may |= !self.overtaken_at_a_quorum(write, decision) && !taken_at_a_quorum;
            let related = knew_it || self.operations[*taken_by].observed >> number & 1 == 1;
            let overtaken = self.decisions.iter().any(|(other_number, other)| {
                other.timestamp > decision.timestamp
                    && (other.timestamp < end(decision) || self.operations[*other_number].observed_decisions >> taken_by & 1 == 0)
            });
            let set_anew = self.operations.iter().enumerate().any(|(other, operation)| {
                other != *taken_by
                    && operation.on(self.subject).sets
                    && operation.timestamp > decision.timestamp
                    && operation.timestamp < end(decision)
            });
            must |= related && !overtaken && superseded.is_empty() && !set_anew;
        }
        (may, must)
    }
}

fn judge(world: &ExpiryWorld) -> Result<(), String> {
    let first = world.state(0);
    for index in 0..world.replicas() {
        let state = world.state(index);
        if let Some(violation) = state.violation() {
            return Err(format!("INVARIANT {violation}"));
        }
        if rows_to_bytes(&state.rows) != rows_to_bytes(&first.rows) {
            return Err(format!("DIVERGED {:?} and {:?}", first.rows, state.rows));
        }
    }
    let data = world.data(0);
    if let Some((dot, _)) = data.iter().find(|(_, hidden)| **hidden) {
        return Err(format!("GARBAGE {dot:?} is hidden for ever"));
    }
    for (dot, Written { row, operation: number, .. }) in world.dots.iter().filter(|(_, written)| !written.is_decision) {
        let replaced = world
            .operations
            .iter()
            .enumerate()
            .any(|(other, operation)| other != *number && operation.replaces.contains(row) && operation.observed >> number & 1 == 1);
        let shows = data.contains_key(dot);
        let weighed = world.plot.subjects(row).iter().map(|subject| Judge::new(world, *subject).weigh(*number));
        let (may_be_gone, must_be_gone) = weighed.fold((false, false), |(may, must), one| (may || one.0, must || one.1));
        match (replaced, shows) {
            (true, true) => return Err(format!("BACK {dot:?} of {number}")),
            (false, true) if must_be_gone => return Err(format!("IMMORTAL {dot:?} of {number}")),
            (false, false) if !may_be_gone => return Err(format!("LOST {dot:?} of {number}")),
            _ => {}
        }
    }
    Ok(())
}

/// Plays the history of a plot that belongs to a seed.
///
/// # Errors
/// What is wrong after it, with the shortest trace found.
pub(crate) fn play(plot: Plot, seed: u64) -> Result<(), String> {
    let history = History::random(plot, seed);
    let Err(text) = history.play(false).0 else { return Ok(()) };
    let class = text.split(' ').next().unwrap_or_default().to_owned();
    let shortest = history.shrink(&class);
    let (verdict, trace) = shortest.play(true);
    Err(format!("{text}\nclocks wrong by {:?} s: {verdict:?}\n{trace}", shortest.skews))
}

/// The deltas of a random history of a field that expires.
pub(crate) fn random_deltas(seed: u64) -> Vec<Rc<Delta>> {
    let history = History::random(Plot::Fields, seed);
    let mut world = ExpiryWorld::new(history.plot, &history.skews, history.expiry_first, false);
    history.events.iter().for_each(|event| world.step(*event));
    world.deltas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histories::replay;

    /// Histories per test; there are two of each plot, run side by side.
    const HISTORIES: u64 = 5_000;

    fn prove(plot: Plot, first_seed: u64) {
        for seed in first_seed..first_seed + HISTORIES {
            if let Err(text) = play(plot, seed) {
                panic!("{}\n{text}", replay(plot.title(), seed));
            }
        }
    }

    #[test]
    fn expiry_ends_what_it_should_and_nothing_else_1() {
        prove(Plot::Keys, 1);
    }

    #[test]
    fn expiry_ends_what_it_should_and_nothing_else_2() {
        prove(Plot::Keys, 1_000_001);
    }

    #[test]
    fn fields_end_as_keys_do_1() {
        prove(Plot::Fields, 1);
    }

    #[test]
    fn fields_end_as_keys_do_2() {
        prove(Plot::Fields, 1_000_001);
    }
}
