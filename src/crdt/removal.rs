//! Removing for good what an expiry decision hides, of a key or of a field.
//!
//! Hiding is all that a single replica may do: its clock may be fast, and a PERSIST that it never heard of may stand elsewhere. Entries go only after
//! a quorum has confirmed, each member by its own clock, that the decision is past by a grace time, and by its own rows that nothing
//! overtakes it:
//!
//! ```text
//! remover   finds d [`removable`], notes the dots under which d stands ([`dots_of`]), asks the others
//! others    [`attests`]: past by my clock, not overtaken here, and not seen superseded here
//! remover   with a quorum, itself among them: [`removal`], joined and sent like any delta
//! ```
//!
//! A decision that reaches a replica later than its timestamp plus the grace time is not acknowledged ([`super::expiry::is_late`]). So
//! whoever has confirmed a removal cannot acknowledge a decision afterwards that should have prevented it: the two quorums would meet.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;

use super::delta::{Causal, Delta};
use super::dot::Dot;
use super::draft::{Author, Draft, is_behind};
use super::expiry::{Expiry, Subject, later_by, overtakes};
use super::kind::Kind;
use super::row::{Decision, Entry, Payload, Row, RowAddress};
use super::rows::Rows;
use super::runs;
use crate::config::{NAMED_REMOVE_BYTES, REMOVED_AT_ONCE};
use crate::types::Timestamp;

/// A decision that has passed by the grace time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passed {
    /// The row in which such decisions stand: the expiry row of a key, or the row of a field.
    pub row: RowAddress,
    /// The decision. It need not stand there: entries may carry it.
    pub decision: Decision,
}

/// When a decision may be removed with what it hides; `None`: never.
fn removable_from(decision: &Decision, grace: Duration) -> Option<Timestamp> {
    decision.time.map(|time| later_by(Timestamp::from_millis(time), grace))
}

/// The decisions that this replica may ask others about: past by the grace time, overtaken by nothing here, and nothing pending for the
/// row in which they stand. `among` names the rows of the key that are looked at, for decisions that stand there or are carried; the expiry row always is.
///
/// # Errors
/// Where the rows could not be read.
pub fn removable<'a, R: Rows>(
    rows: &R,
    causal: &Causal,
    key: &Bytes,
    among: impl IntoIterator<Item = &'a RowAddress>,
    now: Timestamp,
    grace: Duration,
) -> Result<Vec<Passed>, R::Error> {
    let of_key = RowAddress::expiry(key);
    let expiry = Expiry::of(&rows.row(&of_key)?, now);
    let mut on_key: BTreeSet<Decision> = expiry.standing().copied().collect();
    let mut found = Vec::new();
    let mut take = |address: RowAddress, expiry: &Expiry, candidates: BTreeSet<Decision>| {
        let may_go = |decision: &Decision| {
            let is_past = removable_from(decision, grace).is_some_and(|from| from <= now);
            is_past && !expiry.is_overtaken(decision) && !is_behind(causal, &address)
        };
        found.extend(candidates.into_iter().filter(may_go).map(|decision| Passed { row: address.clone(), decision }));
    };
    for address in among.into_iter().filter(|address| address.kind != Kind::Expiry) {
        let row = rows.row(address)?;
        on_key.extend(row.values().filter_map(|entry| expiry.hider(entry)));
        if address.kind == Kind::Field {
            let field = Expiry::about(Subject::Field, &row, now);
            let candidates = field.standing().copied().chain(row.values().filter_map(|entry| field.hider(entry))).collect();
            take(address.clone(), &field, candidates);
        }
    }
    take(of_key, &expiry, on_key);
    Ok(found)
}

/// The dots under which a decision stands in a row.
#[must_use]
pub fn dots_of(row: &Row, decision: &Decision) -> Vec<Dot> {
    let stands = row.iter().filter(|(_, entry)| entry.payload == Payload::Decision(*decision));
    stands.map(|(dot, _)| *dot).collect()
}

/// Whether this replica confirms to a remover, at which the decision stands in the row `address` under `standing`, that what it hides may go.
///
/// # Errors
/// Where the row could not be read.
pub fn attests<R: Rows>(
    rows: &R,
    causal: &Causal,
    address: &RowAddress,
    decision: &Decision,
    standing: &[Dot],
    now: Timestamp,
    grace: Duration,
) -> Result<bool, R::Error> {
    let row = rows.row(address)?;
    let is_past = removable_from(decision, grace).is_some_and(|from| from <= now);
    // Somebody took the decision away who had seen it: it stands no more, whatever the remover still holds.
    let is_superseded = standing.iter().any(|dot| causal.has_seen(address, *dot) && !row.contains_key(dot));
    Ok(is_past && !is_superseded && !Expiry::about(Subject::of(address), &row, now).is_overtaken(decision))
}

/// The dots of one row that a decision hides.
struct HiddenDots {
    dots: BTreeSet<Dot>,
    /// What their removal leaves of the counter runs among them.
    floors: BTreeMap<Dot, runs::Observed>,
}

impl HiddenDots {
    /// `None` where nothing of the row is hidden. A floor is nothing to hide: it goes where a new one takes its place. Nor is a decision: one on a
    /// field goes by its own removal, since it may speak of what outlives the key.
    fn of(address: &RowAddress, row: &Row, expiry: &Expiry, decision: &Decision) -> Option<Self> {
        if address.kind == Kind::Expiry {
            return None;
        }
        let is_data = |entry: &Entry| !matches!(entry.payload, Payload::Floor { .. } | Payload::Decision(_));
        let is_hidden = |entry: &Entry| is_data(entry) && expiry.is_hidden_by(entry, decision);
        let mut dots: BTreeSet<Dot> = row.iter().filter(|(_, entry)| is_hidden(entry)).map(|(dot, _)| *dot).collect();
        let replaced: Vec<Dot> = runs::floors_of_removed(row, |dot| dots.contains(dot)).collect();
        dots.extend(replaced);
        let floors = runs::observed(row, |dot| dots.contains(dot));
        (!dots.is_empty()).then_some(Self { dots, floors })
    }
}

/// Removes the observed entries that a decision hides, the decision itself, and what it overtook: to be called once a quorum has
/// attested. Of more than a delta may name it removes a part, and the decision stays: ask again. `None` where there
/// is nothing to remove, or this replica may not by now.
///
/// # Errors
/// Where the rows could not be read.
pub fn removal<R: Rows>(
    rows: &R,
    causal: &Causal,
    author: &mut Author<'_>,
    passed: &Passed,
    grace: Duration,
) -> Result<Option<Delta>, R::Error> {
    let Passed { row: stands_in, decision } = passed;
    if is_behind(causal, stands_in) || !attests(rows, causal, stands_in, decision, &[], author.now, grace)? {
        return Ok(None);
    }
    let decisions = rows.row(stands_in)?;
    let expiry = Expiry::about(Subject::of(stands_in), &decisions, author.now);
    let mut draft = Draft::new(&stands_in.key, causal, author);
    let (mut named, mut named_bytes, mut is_whole) = (0, 0, true);
    let mut take = |address: &RowAddress, row: &Row| {
        let Some(HiddenDots { dots, floors }) = HiddenDots::of(address, row, &expiry, decision) else { return ControlFlow::Continue(()) };
        named_bytes += dots.len() * address.element.len();
        // A row stays whole, with the floors that it needs; the first one is taken in any case.
        if named > 0 && (named + dots.len() > REMOVED_AT_ONCE || named_bytes > NAMED_REMOVE_BYTES) {
            is_whole = false;
            return ControlFlow::Break(());
        }
        named += dots.len();
        dots.into_iter().for_each(|dot| draft.remove(address.clone(), dot));
        draft.add_floors(address, floors);
        ControlFlow::Continue(())
    };
    match Subject::of(stands_in) {
        Subject::Key => rows.visit(&stands_in.key, &mut take)?,
        Subject::Field => drop(take(stands_in, &decisions)),
    }
    // The decision goes with the last part: until then it hides the others.
    if is_whole {
        let stands = expiry.holds(decision);
        let goes = |other: &Decision| other == decision || stands && overtakes(decision, other);
        let gone = decisions.iter().filter(|(_, entry)| matches!(&entry.payload, Payload::Decision(other) if goes(other)));
        gone.for_each(|(dot, _)| draft.remove(stands_in.clone(), *dot));
    }
    let delta = draft.finish();
    Ok((!delta.is_empty()).then_some(delta))
}

#[cfg(test)]
mod tests {
    use super::super::number::Number;
    use super::super::set;
    use super::super::testing::{PERSIST, Replica, add, bytes, expire, increment, key, set, set_until, settle, text};
    use super::*;

    const GRACE: Duration = Duration::from_millis(20);

    fn found(replica: &Replica) -> Vec<Passed> {
        removable(&replica.state, &replica.state.causal, &key(), replica.state.rows.keys(), replica.now(), GRACE).unwrap()
    }

    fn confirms(member: &Replica, remover: &Replica, passed: &Passed) -> bool {
        let row = remover.state.rows.get(&passed.row).cloned().unwrap_or_default();
        let standing = dots_of(&row, &passed.decision);
        attests(&member.state, &member.state.causal, &passed.row, &passed.decision, &standing, member.now(), GRACE).unwrap()
    }

    fn remove(replica: &mut Replica, passed: &Passed) -> Option<Delta> {
        let delta = replica.author(|state, author| removal(state, &state.causal, author, passed, GRACE)).unwrap()?;
        replica.hear(&delta);
        Some(delta)
    }

    #[test]
    fn what_is_hidden_goes_after_the_grace_time_with_its_decision() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.at(10).write(&set_until("v", 50));
        b.pull(&a);
        assert!(found(a.at(69)).is_empty());
        let [decision] = found(a.at(70)).try_into().unwrap();
        assert!(!confirms(b.at(69), &a, &decision), "by its own clock it is too early");
        assert!(confirms(b.at(70), &a, &decision));
        let delta = remove(&mut a, &decision).unwrap();
        b.hear(&delta);
        assert!(a.state.rows.is_empty() && b.state.rows.is_empty());
        assert_eq!((found(&a), remove(&mut a, &decision)), (vec![], None));
    }

    #[test]
    fn a_decision_that_was_overtaken_or_taken_away_elsewhere_is_not_confirmed() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        a.at(10).write(&set_until("v", 50));
        settle(&mut [&mut a, &mut b, &mut c]);
        let [decision] = found(a.at(90)).try_into().unwrap();
        // Side by side with it stands a later decision: overtaken. Where it was replaced: seen, and not live.
        b.at(20).write(&PERSIST);
        c.at(20).write(&set("w"));
        assert!(!confirms(b.at(90), &a, &decision) && !confirms(c.at(90), &a, &decision));
        // A member that never heard of the decision has nothing against it.
        assert!(confirms(Replica::new(4).at(90), &a, &decision));
        a.pull(&b);
        assert!(found(&a).is_empty());
        assert_eq!(remove(&mut a, &decision), None);
    }

    #[test]
    fn nothing_is_removed_while_a_decision_may_be_on_its_way() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.at(10).write(&set_until("v", 50));
        b.pull(&a);
        b.at(11).write(&expire(60));
        // The decision after next reaches a, the next is on its way: pending.
        let later = b.at(12).write(&PERSIST);
        let mut behind = later.clone();
        behind.adds.clear();
        behind.removes.clear();
        a.at(90).hear(&behind);
        assert!(is_behind(&a.state.causal, &RowAddress::expiry(&key())));
        let decision = Decision { time: Some(50), timestamp: Timestamp(1), since: Timestamp(1) };
        let decision = Passed { row: RowAddress::expiry(&key()), decision };
        assert_eq!((found(&a), remove(&mut a, &decision)), (vec![], None));
    }

    #[test]
    fn a_removal_takes_nothing_of_the_next_life() {
        let mut a = Replica::new(1);
        a.at(10).write(&add(&["x"]));
        a.write(&expire(50));
        a.at(60).write(&add(&["y"]));
        let [decision] = found(a.at(70)).try_into().unwrap();
        remove(&mut a, &decision).unwrap();
        assert_eq!(a.members(), ["y"]);
        assert_eq!(a.state.rows.len(), 1);
    }

    #[test]
    fn removed_increments_leave_floors() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.at(10).write(&increment(5));
        a.write(&expire(50));
        b.pull(&a);
        // With a slow clock, a's counter goes on, and then for ever.
        a.at(30).write(&increment(2));
        a.write(&PERSIST);
        let [decision] = found(b.at(70)).try_into().unwrap();
        remove(&mut b, &decision).unwrap();
        let floors = b.state.rows[&RowAddress::value(&key())]
            .values()
            .filter(|entry| matches!(entry.payload, Payload::Floor { total: Number::Integer(5), .. }));
        assert_eq!(floors.count(), 1);
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("2"), text("2")));
    }

    #[test]
    fn a_large_set_goes_in_parts_and_the_decision_with_the_last() {
        let mut a = Replica::new(1);
        let members: Vec<Bytes> = (0..2500).map(|n| bytes(&format!("m{n}"))).collect();
        a.at(10).write(&set::Mutation::Add(members).into());
        a.write(&expire(50));
        let [decision] = found(a.at(70)).try_into().unwrap();
        let parts: Vec<usize> = std::iter::from_fn(|| remove(&mut a, &decision)).map(|delta| delta.removes.len()).collect();
        assert_eq!(parts, [1024, 1024, 453]);
        assert!(a.state.rows.is_empty());
    }
}
