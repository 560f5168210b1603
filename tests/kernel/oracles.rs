//! Further oracles: where the types of the `crdts` crate mean the same as ours, both show the same, whatever is written and merged.

use std::collections::BTreeSet;

use bytes::Bytes;
use crdts::{CmRDT, CvRDT, LWWReg, Orswot, PNCounter};
use ringtide::crdt::command::{Answer, Mutation, Query};
use ringtide::crdt::delta::RowAddress;
use ringtide::crdt::dot::Dot;
use ringtide::crdt::execute::{Author, execute};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::set;
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::hlc::Hlc;
use ringtide::types::{Actor, Timestamp};

use crate::history::answer;
use crate::history::random::Random;

/// Histories per type.
const HISTORIES: u64 = 250;

/// A replica of ours that only executes, joins and merges.
struct Ours {
    state: MemoryState,
    actor: Actor,
    next: u64,
    clock: Hlc,
}

const KEY: Bytes = Bytes::from_static(b"k");

impl Ours {
    fn new(actor: u64) -> Self {
        Self { state: MemoryState::default(), actor: Actor(actor), next: 1, clock: Hlc::start(Timestamp::default()) }
    }

    fn execute(&mut self, mutation: &Mutation) -> Timestamp {
        let (actor, next, now) = (self.actor, &mut self.next, self.clock.tick(0));
        let mut mint = || {
            *next += 1;
            Dot { actor, counter: *next - 1 }
        };
        let mut author = Author { actor, now, mint: &mut mint, runs_since: 1 };
        let Ok(executed) = execute(&self.state, &self.state.causal, &mut author, &KEY, mutation) else {
            panic!("{mutation:?} was refused");
        };
        self.state.join(&executed.delta);
        now
    }

    fn merge(&mut self, other: &Self) {
        self.state.merge(other.state.clone());
        for entry in other.state.rows.values().flat_map(|row| row.values()) {
            assert_eq!(self.clock.observe(entry.timestamp, u64::MAX >> 16), Ok(()));
        }
    }

    fn answer(&self, query: &Query) -> Answer {
        answer(&self.state, &KEY, query, Timestamp::from_millis(1))
    }
}

/// Plays random steps at three replicas, each of ours beside one of theirs: mostly a write, else a merge. Judges all three after each step.
fn beside<T: Clone>(
    seed: u64,
    theirs: T,
    write: impl Fn(&mut Random, u64, &mut Ours, &mut T),
    merge: impl Fn(&mut T, T),
    judge: impl Fn(&Ours, &T),
) {
    let random = &mut Random::new(seed);
    let mut replicas: Vec<(Ours, T)> = (1..=3).map(|actor| (Ours::new(actor), theirs.clone())).collect();
    for step in 0..40 {
        let (to, from) = (random.below(3) as usize, random.below(3) as usize);
        if random.below(3) == 0 && to != from {
            let source = replicas[from].1.clone();
            let Ok([(ours, theirs), (other, _)]) = replicas.get_disjoint_mut([to, from]) else { continue };
            ours.merge(other);
            merge(theirs, source);
        } else {
            let (ours, theirs) = &mut replicas[to];
            write(random, step, ours, theirs);
        }
        for (ours, theirs) in &replicas {
            judge(ours, theirs);
        }
    }
}

#[test]
fn a_set_shows_what_the_orswot_of_the_crdts_crate_shows() {
    let members = [&b"a"[..], b"b", b"c"].map(Bytes::from_static);
    for seed in 0..HISTORIES {
        let write = |random: &mut Random, _, ours: &mut Ours, theirs: &mut Orswot<Bytes, u64>| {
            let member = members[random.below(3) as usize].clone();
            if random.below(3) == 0 {
                ours.execute(&set::Mutation::Remove(vec![member.clone()]).into());
                let read = theirs.contains(&member);
                theirs.apply(theirs.rm(member, read.derive_rm_ctx()));
            } else {
                ours.execute(&set::Mutation::Add(vec![member.clone()]).into());
                let read = theirs.read_ctx();
                theirs.apply(theirs.add(member, read.derive_add_ctx(ours.actor.0)));
            }
        };
        let judge = |ours: &Ours, theirs: &Orswot<Bytes, u64>| {
            let expected: BTreeSet<Bytes> = theirs.read().val.into_iter().collect();
            assert_eq!(ours.answer(&set::Query::Members.into()), Answer::Members(expected.into_iter().collect()), "seed {seed}");
        };
        beside(seed, Orswot::new(), write, |theirs, other| theirs.merge(other), judge);
    }
}

#[test]
fn a_counter_shows_what_the_pncounter_of_the_crdts_crate_shows() {
    for seed in 0..HISTORIES {
        let write = |random: &mut Random, _, ours: &mut Ours, theirs: &mut PNCounter<u64>| {
            let amount = random.below(9) as i64 - 4;
            ours.execute(&string::Mutation::Increment(amount).into());
            let steps = amount.unsigned_abs();
            let op = if amount < 0 { theirs.dec_many(ours.actor.0, steps) } else { theirs.inc_many(ours.actor.0, steps) };
            theirs.apply(op);
        };
        let judge = |ours: &Ours, theirs: &PNCounter<u64>| {
            let sum = theirs.read().to_string();
            match ours.answer(&string::Query::Get.into()) {
                Answer::Bytes(shown) => assert_eq!(shown, sum.as_bytes(), "seed {seed}"),
                shown => assert_eq!((shown, sum.as_str()), (Answer::Nil, "0"), "seed {seed}"),
            }
        };
        beside(seed, PNCounter::new(), write, |theirs, other| theirs.merge(other), judge);
    }
}

#[test]
fn a_string_shows_what_the_lwwreg_of_the_crdts_crate_shows() {
    for seed in 0..HISTORIES {
        let write = |_: &mut Random, step: u64, ours: &mut Ours, theirs: &mut LWWReg<Bytes, (Timestamp, u64)>| {
            let value = Bytes::from(format!("{}-{step}", ours.actor));
            let mutation =
                string::Mutation::Set { value: value.clone(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false };
            let now = ours.execute(&mutation.into());
            theirs.update(value, (now, ours.actor.0));
        };
        let judge = |ours: &Ours, theirs: &LWWReg<Bytes, (Timestamp, u64)>| {
            let expected = if theirs.val.is_empty() { Answer::Nil } else { Answer::Bytes(theirs.val.clone()) };
            assert_eq!(ours.answer(&string::Query::Get.into()), expected, "seed {seed}");
            assert!(ours.state.rows.keys().all(|address| *address == RowAddress::value(&KEY)));
        };
        let empty = LWWReg { val: Bytes::new(), marker: (Timestamp::default(), 0) };
        beside(seed, empty, write, |theirs, other| theirs.merge(other), judge);
    }
}
