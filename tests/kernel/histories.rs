//! The proof of the kernel by histories: 2 to 5 replicas under partial, repeated, reordered and lost delivery, pulls interleaved step by
//! step with writes and broken off anywhere, crashes that lose the unsynced tail, deaths, restored backups, lost rows, replicas that
//! leave and return, coordinators without a replica, quorum reads with repair. After healing every replica equals every other, and all of them
//! equal the meaning of the history (see `history/graph.rs`).
//!
//! A failure prints its seed and the shortest trace that still fails. `cargo run --release --example histories` plays any number of them.

use crate::history::graph::{Effects, INCREMENT_BITS, Operations, UNIT, sum_of_runs};
use crate::history::random::Random;
use crate::history::types::Type;
use crate::history::{Event, LOSSES, SET, World, counters};
use bytes::Bytes;
use ringtide::crdt::command::{Answer, Query};
use ringtide::crdt::delta::{Kind, Payload, RowAddress};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::sorted_set::{self, Score};
use ringtide::crdt::wire::rows_to_bytes;
use ringtide::crdt::{hash, set, string};
use ringtide::types::Timestamp;

/// One history in numbers.
#[derive(Clone)]
struct History {
    of: Type,
    /// Whether nothing is lost for good: nobody dies, no backup is restored, no row lost.
    calm: bool,
    replicas: usize,
    absent: usize,
    fine: bool,
    /// Which replicas live on, bit by bit.
    survivors: u32,
    late_hints: bool,
    events: Vec<Event>,
}

impl History {
    /// The history that belongs to a seed: every other one is calm.
    fn random(of: Type, seed: u64) -> Self {
        let (mut random, calm) = (Random::new(seed), seed.is_multiple_of(2));
        let replicas = 2 + random.below(4) as usize;
        let everybody = (1 << replicas) - 1;
        let survivors = if calm { everybody } else { random.next() as u32 & everybody };
        let absent = usize::from(random.below(3) == 0);
        let (fine, late_hints) = (random.below(2) == 0, random.below(2) == 0);
        let mut events = random.history(of);
        events.retain(|event| !(calm && LOSSES.contains(&event.0)));
        Self { of, calm, replicas, absent, fine, survivors, late_hints, events }
    }

    /// Plays it, heals, and judges. Returns the trace beside, if one was asked for.
    fn play(&self, traced: bool) -> (Result<(), String>, String) {
        let mut world = World::new(self.of, self.replicas, self.absent, self.fine, traced);
        for event in &self.events {
            world.step(*event);
        }
        if let Some(violation) = world.replicas.iter().find_map(|replica| replica.now.state.violation()) {
            return (Err(format!("INVARIANT {violation}")), world.trace());
        }
        let everybody = (1 << self.replicas) - 1;
        let lives = |world: &World, mask: u32| (0..self.replicas).any(|index| mask >> index & 1 == 1 && world.replicas[index].present);
        let alive = if lives(&world, self.survivors) { self.survivors } else { everybody };
        world.stop_everything();
        world.tell(|_| format!("from here only {alive:b} live; they heal"));
        let heal_and_judge = |world: &mut World| {
            world.heal(alive);
            judge(world, alive, self.calm)
        };
        let mut verdict = heal_and_judge(&mut world);
        if verdict.is_ok() && self.late_hints {
            world.deliver_all(alive);
            verdict = heal_and_judge(&mut world).map_err(|text| format!("{text} [after late hints]"));
        }
        (verdict, world.trace())
    }

    /// The shortest history found by leaving things out that fails in the same way.
    fn shrink(mut self, class: &str) -> Self {
        let fails = |history: &Self| history.play(false).0.is_err_and(|text| text.starts_with(class));
        loop {
            let before = self.events.len();
            for index in (0..before).rev() {
                let mut shorter = self.clone();
                shorter.events.remove(index);
                if fails(&shorter) {
                    self = shorter;
                }
            }
            if self.events.len() == before {
                return self;
            }
        }
    }
}

/// Compares the replicas that live on with each other and with the meaning of the history.
fn judge(world: &World, alive: u32, calm: bool) -> Result<(), String> {
    let survivors: Vec<_> = (0..world.replicas.len())
        .filter(|index| alive >> index & 1 == 1)
        .map(|index| &world.replicas[index])
        .filter(|replica| replica.present)
        .collect();
    let Some(first) = survivors.first() else { return Ok(()) };
    let state = &first.now.state;
    let (mut known, mut observed): (Operations, Effects) = (if calm { world.left } else { 0 }, 0);
    for replica in &survivors {
        if let Some(violation) = replica.now.state.violation() {
            return Err(format!("INVARIANT {violation}"));
        }
        if replica.now.state.causal != state.causal || rows_to_bytes(&replica.now.state.rows) != rows_to_bytes(&state.rows) {
            return Err(format!("DIVERGED {state:?} and {:?}", replica.now.state));
        }
        known |= replica.now.known;
        observed |= replica.now.observed;
    }
    world.graph.check(state, known, observed)?;
    for address in counters() {
        let bits = judge_counter(state, &address)?;
        world.graph.check_counter(&address, bits, known, observed)?;
    }
    judge_members(state)?;
    world.judge_collections(state)
}

fn answer(state: &MemoryState, key: &Bytes, query: &Query) -> Answer {
    crate::history::answer(state, key, query, Timestamp::from_millis(1 << 20))
}

/// What a row shows is what set it last and shows plus every increment that counts. Returns the increments, bit by bit.
fn judge_counter(state: &MemoryState, address: &RowAddress) -> Result<u64, String> {
    let row = state.rows.get(address).cloned().unwrap_or_default();
    let base = row.iter().filter_map(|(dot, entry)| match &entry.payload {
        Payload::Value(value) => Some((entry.timestamp, *dot, number(value)?)),
        Payload::Score(score) => Some((entry.timestamp, *dot, score.value())),
        _ => None,
    });
    let base = base.max_by_key(|(timestamp, dot, _)| (*timestamp, *dot)).map(|(_, _, base)| base);
    // The increments of a plain counter are whole, those of fields and scores counted in fractions.
    let unit = if address.kind == Kind::Value { 1.0 } else { UNIT };
    let sum = sum_of_runs(&row) as f64 * UNIT;
    let bits = sum / unit;
    if !(0.0..(1u64 << INCREMENT_BITS) as f64).contains(&bits) || bits.fract() != 0.0 {
        return Err(format!("COUNTER {address:?} sums up to {sum}"));
    }
    let shown = match address.kind {
        Kind::Value => match answer(state, &address.key, &string::Query::Get.into()) {
            Answer::Bytes(shown) => number(&shown),
            _ => None,
        },
        Kind::Field => match answer(state, &address.key, &hash::Query::Get(vec![address.element.clone()]).into()) {
            Answer::Values(values) => values.into_iter().next().flatten().and_then(|shown| number(&shown)),
            _ => None,
        },
        _ => match answer(state, &address.key, &sorted_set::Query::Scores(vec![address.element.clone()]).into()) {
            Answer::Scores(scores) => scores.into_iter().next().flatten().map(Score::value),
            _ => None,
        },
    };
    let expected = if base.is_none() && sum == 0.0 { None } else { Some(base.unwrap_or(0.0) + sum) };
    if shown != expected {
        return Err(format!("SHOWN {address:?} as {shown:?}, base {base:?} and runs {sum}"));
    }
    Ok(bits as u64)
}

/// A text as a number; those of these histories are few enough digits for a double to hold them exactly.
fn number(text: &Bytes) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A key that shows no string shows as members exactly those with a live dot.
fn judge_members(state: &MemoryState) -> Result<(), String> {
    let live: Vec<Bytes> = [&b"m1"[..], b"m2"]
        .into_iter()
        .map(Bytes::from_static)
        .filter(|member| state.rows.contains_key(&RowAddress::member(&SET, member)))
        .collect();
    match answer(state, &SET, &set::Query::Members.into()) {
        Answer::Members(shown) if shown == live || state.rows.contains_key(&RowAddress::value(&SET)) => Ok(()),
        _ if state.rows.contains_key(&RowAddress::value(&SET)) => Ok(()),
        shown => Err(format!("MEMBERS {shown:?} are shown and {live:?} are live")),
    }
}

/// Plays the history of a type that belongs to a seed.
///
/// # Errors
/// What is wrong after it, with the shortest trace found.
pub(crate) fn play(of: Type, seed: u64) -> Result<(), String> {
    let history = History::random(of, seed);
    let Err(text) = history.play(false).0 else { return Ok(()) };
    let class = text.split(' ').next().unwrap_or_default().to_owned();
    let shortest = history.shrink(&class);
    let (verdict, trace) = shortest.play(true);
    let (events, replicas) = (shortest.events.len(), shortest.replicas);
    Err(format!("{text}\nshrunk to {events} events of {replicas} replicas: {verdict:?}\n{trace}"))
}

/// The line that plays a history again.
pub(crate) fn replay(name: &str, seed: u64) -> String {
    format!("cargo run --release --example histories {name} 1 {seed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Histories of each type.
    const HISTORIES: u64 = 10_000;

    fn prove(of: Type) {
        for seed in 1..=HISTORIES {
            if let Err(text) = play(of, seed) {
                panic!("{}\n{text}", replay(of.name(), seed));
            }
        }
    }

    #[test]
    fn strings() {
        prove(Type::String);
    }

    #[test]
    fn counters() {
        prove(Type::Counter);
    }

    #[test]
    fn sets() {
        prove(Type::Set);
    }

    #[test]
    fn hashes() {
        prove(Type::Hash);
    }

    #[test]
    fn sorted_sets() {
        prove(Type::SortedSet);
    }

    #[test]
    fn lists() {
        prove(Type::List);
    }

    #[test]
    fn hyperloglogs() {
        prove(Type::HyperLogLog);
    }

    #[test]
    fn bitmaps() {
        prove(Type::Bitmap);
    }

    #[test]
    fn all_types_side_by_side() {
        prove(Type::All);
    }
}
