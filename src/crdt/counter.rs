//! Counters: the visible SET, or 0, plus every increment that no SET and no DEL had observed. Each counts once.
//!
//! An actor adds its increments up in one entry, its *run*, which it rewrites under new dots. A SET or DEL removes the runs that it
//! observed; should it miss the latest rewriting of one, a *floor* says how much of it was observed, and so no longer counts.
//!
//! ```text
//! a: INCR, INCR       Run(a1, total 2) under a2
//! b: sees a2, SET 10  Value 10, Floor(a1, upto 2, total 2); a2 is removed
//! a: INCR meanwhile   Run(a1, total 3) under a3, in place of a2
//! both                10 + (3 - 2) = 11
//! ```
//!
//! A run is continued from its Run entry only, never from a Floor, and never across a crash, an emptying or a restore: a replica that
//! fell back would go on from a total that others have already left behind.
//!
//! Totals are exact (see [`super::number`]), so the sum does not depend on the order.

use super::delta::Delta;
use super::dot::{Clock, Dot};
use super::draft::Draft;
use super::expiry::{Ends, Expiry};
use super::number::Number;
use super::refusal::Refusal;
use super::row::{Decision, Payload, Row, RowAddress, Terms};
use super::runs::{continued, observed, runs};
use crate::types::Actor;

/// Adds to this actor's own run in a row, or begins one where there is none that it may continue.
///
/// # Errors
/// Where the total would not fit.
pub(super) fn continue_run(
    draft: &mut Draft<'_, '_>,
    address: &RowAddress,
    row: &Row,
    expiry: &Expiry,
    terms: Terms,
    amount: &Number,
) -> Result<(), Refusal> {
    let ends = Ends::of(row, expiry);
    let (actor, since) = (draft.author.actor, draft.author.runs_since);
    match continued(row, actor, since, |entry| ends.hides(entry)) {
        Some(run) => {
            let total = run.total.plus(amount);
            if !total.fits(address.kind) {
                return Err(Refusal::Overflow);
            }
            for (dot, entry) in row {
                if matches!(entry.payload, Payload::Run { run: name, .. } if name == run.name) {
                    draft.remove(address.clone(), *dot);
                }
            }
            let dot = (draft.author.mint)();
            draft.add_under(dot, address.clone(), terms, Payload::Run { run: run.name, total });
        }
        None if !amount.fits(address.kind) => return Err(Refusal::Overflow),
        None => begin_run_under(draft, address.clone(), terms, amount.clone()),
    }
    Ok(())
}

/// Begins a run, named by the dot of this first increment.
pub(super) fn begin_run(draft: &mut Draft<'_, '_>, address: RowAddress, decision: Option<Decision>, amount: Number) {
    begin_run_under(draft, address, decision.into(), amount);
}

fn begin_run_under(draft: &mut Draft<'_, '_>, address: RowAddress, terms: Terms, amount: Number) {
    let run = (draft.author.mint)();
    draft.add_under(run, address, terms, Payload::Run { run, total: amount });
}

/// The delta that takes away floors which have done their work: their run has no live entry here at its owner, was begun since
/// the dot counter `since`, and every replica holds all of its dots *durably* (`durable`: one clock a replica, none left out). Only the owner, `actor`, may
/// do this: nobody else can tell that the run is over.
#[must_use]
pub fn clear_floors(address: &RowAddress, row: &Row, actor: Actor, since: u64, durable: &[Clock]) -> Delta {
    let unfinished: Vec<Dot> = runs(row).into_iter().map(|run| run.name).collect();
    let floors = observed(row, |_| true);
    let is_done = |run: &Dot| {
        let mut dots = Clock::new();
        if let Some(floor) = floors.get(run) {
            dots.insert_range(run.actor, run.counter, floor.upto);
        }
        run.actor == actor && run.counter >= since && !unfinished.contains(run) && durable.iter().all(|clock| clock.covers(&dots))
    };
    let done = row.iter().filter(|(_, entry)| matches!(&entry.payload, Payload::Floor { run, .. } if is_done(run)));
    Delta { removes: done.map(|(dot, _)| (address.clone(), *dot)).collect(), ..Delta::default() }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Answer;
    use super::super::row::Entry;
    use super::super::testing::{DELETE, ONE, Replica, add, increment, key, set, settle, text};
    use super::*;

    #[test]
    fn increments_on_both_sides_count_once_each() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("10"));
        b.pull(&a);
        let deltas = [a.write(&ONE), a.write(&ONE), b.write(&increment(-5))];
        settle(&mut [&mut a, &mut b]);
        for delta in &deltas {
            a.hear(delta);
        }
        assert_eq!((a.get(), b.get()), (text("7"), text("7")));
        assert_eq!(a.ask(&ONE), Answer::Integer(8));
    }

    #[test]
    fn a_set_resets_exactly_the_increments_that_it_had_observed() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&increment(2));
        b.pull(&a);
        let reset = b.write(&set("10"));
        a.write(&ONE);
        a.hear(&reset);
        assert_eq!(a.get(), text("11"));
        settle(&mut [&mut a, &mut b]);
        // Once more, and now b's floor takes the place of the former one.
        b.write(&set("0"));
        a.write(&ONE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("1"), text("1")));
    }

    #[test]
    fn a_delete_resets_and_the_key_is_gone() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&ONE);
        b.pull(&a);
        b.write(&DELETE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.get(), Answer::Nil);
        assert_eq!(a.ask(&DELETE), Answer::Integer(0));
        // The owner goes on with a new run: from a floor nobody continues.
        a.write(&ONE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.get(), text("1"));
    }

    #[test]
    fn a_run_is_not_continued_after_a_fall_back() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&ONE);
        let fallen = a.state.clone();
        let lost = a.write(&ONE);
        b.hear(&lost);
        // The unsynced tail is gone: a continues behind its lease, with a new state id.
        a.state = fallen;
        a.counter += 100;
        a.runs_since = a.counter + 1;
        a.write(&ONE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.get(), text("3"));
    }

    #[test]
    fn others_runs_and_older_entries_are_left_alone() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&ONE);
        b.pull(&a);
        let delta = b.write(&ONE);
        assert!(delta.removes.is_empty() && delta.replaces.is_empty());
        assert_eq!(b.write(&ONE).removes.len(), 1);
        assert_eq!(b.get(), text("3"));
    }

    #[test]
    fn a_blind_increment_counts_beside_all_others() {
        let (mut a, mut fallback) = (Replica::new(1), Replica::new(9));
        a.write(&set("5"));
        let blind = fallback.blind(&increment(3)).unwrap();
        a.hear(&blind);
        a.hear(&blind);
        a.write(&ONE);
        assert_eq!(a.get(), text("9"));
    }

    #[test]
    fn floors_go_only_when_their_owner_knows_that_every_replica_is_past_the_run() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&ONE);
        let last = a.write(&ONE);
        b.hear(&last);
        b.write(&DELETE);
        a.pull(&b);
        let address = RowAddress::value(&key());
        let row = a.state.rows[&address].clone();
        let clear = |actor, since, clocks: &[&Clock]| {
            let clocks: Vec<Clock> = clocks.iter().map(|clock| (*clock).clone()).collect();
            clear_floors(&address, &row, actor, since, &clocks).removes.len()
        };
        let (all, none) = (a.state.causal.clock.clone(), Clock::new());
        assert_eq!(clear(a.actor, 1, &[&all, &all]), 1);
        assert_eq!(clear(a.actor, 1, &[&all, &none]), 0, "a replica may still hold the run");
        assert_eq!(clear(a.actor, 2, &[&all, &all]), 0, "the run is older than the state");
        assert_eq!(clear(b.actor, 1, &[&all, &all]), 0, "not the owner");
        let mut running = row.clone();
        let run = Dot { actor: a.actor, counter: 1 };
        let payload = Payload::Run { run, total: Number::Integer(3) };
        running.insert(Dot { actor: a.actor, counter: 7 }, Entry { timestamp: a.now(), decision: None, field_decision: None, payload });
        assert!(clear_floors(&address, &running, a.actor, 1, &[all]).is_empty(), "the run goes on");
    }

    #[test]
    fn numbers_are_those_of_redis() {
        let mut a = Replica::new(1);
        a.write(&set("9223372036854775807"));
        assert_eq!(a.attempt(&ONE), Err(Refusal::Overflow));
        a.write(&set("01"));
        assert_eq!(a.attempt(&ONE), Err(Refusal::NotAnInteger));
        a.write(&DELETE);
        a.write(&add(&["x"]));
        assert_eq!(a.attempt(&ONE), Err(Refusal::WrongType));
    }

    #[test]
    fn increments_beside_a_text_do_not_show_and_are_not_lost() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&ONE);
        b.write(&set("text"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("text"), text("text")));
    }
}
