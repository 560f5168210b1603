//! A test for each rule of `KERNEL` section 7 without which expiry eats writes or lets expired ones live. Each tells the shortest story in which
//! its rule matters, and turns red when the rule is taken out.

use std::time::Duration;

use ringtide::crdt::command::Mutation;
use ringtide::crdt::delta::{Decision, Delta, Entry, Payload, RowAddress, RowsMut, Scope};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::execute::Author;
use ringtide::crdt::expiry::{Expiry, is_late};
use ringtide::crdt::key::{self, ExpireCondition};
use ringtide::crdt::number::Number;
use ringtide::crdt::pull::{Pull, compare_row};
use ringtide::crdt::removal::{Passed, attests, dots_of, removable, removal};
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::types::Timestamp;

use crate::peer::{DELETE, KEY, PERSIST, Peer, add, increment, member, remove, set};

const GRACE: Duration = Duration::from_millis(20);

fn expire(at_ms: i64) -> Mutation {
    key::Mutation::Expire { at_ms, condition: ExpireCondition::Always }.into()
}

fn set_until(value: &'static str, at_ms: i64) -> Mutation {
    string::Mutation::Set { value: value.into(), expiry: SetExpiry::At(at_ms), condition: SetCondition::Always, get: false }.into()
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn decisions(peer: &Peer) -> Vec<Decision> {
    let taken = |entry: &Entry| if let Payload::Decision(decision) = entry.payload { Some(decision) } else { None };
    peer.row(&RowAddress::expiry(&KEY)).values().filter_map(taken).collect()
}

/// Takes over only the expiry row of another replica: the first step of a pull that goes on later.
fn pull_expiry_row(to: &mut Peer, from: &Peer) -> Pull<RowAddress> {
    let address = RowAddress::expiry(&KEY);
    let pull = Pull::new(from.state.causal.clone(), 1, 2);
    let change = compare_row(&to.row(&address), &to.state.causal, &address, &from.row(&address), &from.state.causal, |_, _| false);
    change.apply(&address, &mut to.state.causal);
    if let Some(row) = change.row {
        to.state.put(address, row);
    }
    pull
}

fn finds(peer: &Peer, ms: u64) -> Vec<Decision> {
    let Ok(found) = removable(&peer.state, &peer.state.causal, &KEY, peer.state.rows.keys(), at(ms), GRACE);
    found.into_iter().map(|passed| passed.decision).collect()
}

fn confirms(member: &Peer, remover: &Peer, decision: &Decision, ms: u64) -> bool {
    let standing = dots_of(&remover.row(&RowAddress::expiry(&KEY)), decision);
    let Ok(confirmed) = attests(&member.state, &member.state.causal, &RowAddress::expiry(&KEY), decision, &standing, at(ms), GRACE);
    confirmed
}

/// Removes what a decision hides, as if a quorum had confirmed.
fn removes(peer: &mut Peer, decision: &Decision, ms: u64) -> Option<Delta> {
    let (actor, next) = (peer.actor, &mut peer.next);
    let mut mint = || {
        *next += 1;
        Dot { actor, counter: *next - 1 }
    };
    let mut author = Author { actor, now: at(ms), mint: &mut mint, runs_since: peer.runs_since };
    let passed = Passed { row: RowAddress::expiry(&KEY), decision: *decision };
    let Ok(removed) = removal(&peer.state, &peer.state.causal, &mut author, &passed, GRACE);
    peer.join(&removed);
    removed
}

/// Two replicas that hold member `x` with an expiry at 50.
fn expiring() -> (Peer, Peer) {
    let (mut first, mut second) = (Peer::new(1), Peer::new(2));
    second.join([&first.at(10, &add("x")), &first.at(11, &expire(50))]);
    (first, second)
}

// Writes and decisions.

#[test]
fn what_is_written_under_a_decision_dies_with_it_wherever_it_goes() {
    let (mut first, _) = expiring();
    let mut stranger = Peer::new(3);
    // The decision itself never gets there.
    stranger.join([&first.at(20, &add("y"))]);
    assert!(stranger.has(49, "y") && !stranger.has(50, "y"));
}

#[test]
fn a_write_to_a_hidden_key_removes_nothing_and_copies_nothing() {
    let (mut fast, mut other) = expiring();
    // By the clock of one the key is dead; for all others it lives.
    assert!(fast.at(60, &DELETE).is_empty() && fast.at(61, &remove("x")).is_empty());
    let written = fast.at(62, &add("z"));
    assert!(written.removes.is_empty());
    assert_eq!(written.adds.iter().map(|(_, _, entry)| entry.decision).collect::<Vec<_>>(), [None]);
    other.join([&written]);
    assert!(other.has(40, "x") && other.has(40, "z"));
    assert!(!other.has(90, "x") && other.has(90, "z"));
}

#[test]
fn a_write_to_a_hidden_key_leaves_the_decisions_alone() {
    let (mut peer, _) = expiring();
    peer.at(60, &add("y"));
    peer.at(61, &expire(500));
    peer.at(62, &remove("y"));
    // "x" is hidden still, so it is not known whether the key is empty.
    let written = peer.at(63, &add("z"));
    assert!(written.replaces.iter().all(|replaced| replaced.scope != Scope::Row(RowAddress::expiry(&KEY))), "{written:?}");
    assert_eq!(decisions(&peer).len(), 2);
}

#[test]
fn a_write_that_finds_nothing_clears_what_an_earlier_life_left() {
    let (mut peer, _) = expiring();
    peer.at(20, &remove("x"));
    peer.at(21, &add("y"));
    assert_eq!(decisions(&peer), []);
    assert!(peer.has(60, "y"));
}

#[test]
fn a_write_that_finds_nothing_but_may_be_behind_copies_the_decision() {
    let (mut first, mut second) = expiring();
    second.join([&first.at(20, &remove("x"))]);
    // The first goes on, and the second knows of it only that there is more to know.
    first.at(21, &add("v"));
    first.at(22, &expire(70));
    let address = RowAddress::expiry(&KEY);
    second.state.causal.supersede(&Scope::Row(address.clone()), &first.state.causal.clock);
    let standing = decisions(&second);
    let written = second.at(30, &add("y"));
    assert_eq!(written.adds.iter().map(|(_, _, entry)| entry.decision).collect::<Vec<_>>(), [Some(standing[0])]);
    assert!(written.replaces.iter().all(|replaced| replaced.scope != Scope::Row(address.clone())), "{written:?}");
}

#[test]
fn a_write_that_may_be_behind_does_not_copy_a_decision_that_has_passed() {
    let (mut first, mut second) = expiring();
    first.at(20, &add("v"));
    second.state.causal.supersede(&Scope::Row(RowAddress::expiry(&KEY)), &first.state.causal.clock);
    let written = second.at(60, &add("y"));
    assert_eq!(written.adds.iter().map(|(_, _, entry)| entry.decision).collect::<Vec<_>>(), [None]);
}

#[test]
fn passed_decisions_are_taken_away_by_removals_only() {
    for write in [set("s"), DELETE, expire(500), set_until("s", 500)] {
        let (mut peer, _) = expiring();
        peer.at(60, &add("y"));
        let passed = decisions(&peer);
        let written = peer.at(61, &write);
        assert!(decisions(&peer).contains(&passed[0]), "{write:?} took it away");
        assert!(written.removes.iter().all(|(address, _)| *address != RowAddress::expiry(&KEY)), "{written:?}");
        assert!(!written.replaces.iter().any(|replaced| replaced.scope == Scope::Key(KEY) && replaced.keeps.is_empty()));
    }
    // PERSIST of what does not expire does nothing, so here something must.
    let (mut peer, _) = expiring();
    peer.at(60, &add("y"));
    peer.at(61, &expire(500));
    peer.at(62, &PERSIST);
    assert_eq!(decisions(&peer).iter().map(|decision| decision.time).collect::<Vec<_>>(), [Some(50), None]);
}

#[test]
fn a_decision_rules_what_carries_the_one_that_it_overtakes() {
    let (mut first, mut second) = expiring();
    // Shortened at one, while the other still writes under the longer one, and later by its clock.
    let shortened = second.at(20, &expire(30));
    let written = first.at(25, &add("y"));
    first.join([&shortened]);
    second.join([&written]);
    for peer in [&first, &second] {
        assert!(peer.has(29, "y") && !peer.has(31, "y"), "it outlived the decision that its key stands under");
    }
}

#[test]
fn a_decision_about_a_new_life_does_not_reach_back() {
    let (mut first, _) = expiring();
    first.at(60, &add("y"));
    first.at(61, &expire(500));
    first.at(62, &PERSIST);
    assert!(first.has(70, "y") && !first.has(70, "x"), "the dead came back");
}

#[test]
fn a_prolonged_life_is_one_life() {
    let (mut first, mut second) = expiring();
    // Two prolongations, the first of which is lost: the second one still speaks of the life that began before 50.
    first.at(40, &expire(100));
    second.join([&first.at(60, &expire(200))]);
    assert!(second.has(150, "x"));
}

#[test]
fn a_set_continues_the_life_that_its_decision_is_about() {
    for (next, end) in [(set("9"), 400), (set_until("9", 300), 300)] {
        let (mut first, mut second) = (Peer::new(1), Peer::new(2));
        second.join([&first.at(10, &set_until("5", 50))]);
        // One counts under the first end. The other prolongs it, and sets the key anew after that time would have come.
        first.at(20, &increment(1));
        second.at(30, &PERSIST);
        first.join([&second.at(40, &set("8")), &second.at(60, &next)]);
        assert_eq!(first.get(end - 1).as_deref(), Some("10"), "the increment ended though the key lived on");
        let [decision] = decisions(&first)[..] else { panic!("{:?}", decisions(&first)) };
        assert!(decision.since < at(50) && decision.time.is_none_or(|time| time == end), "{decision:?}");
    }
}

#[test]
fn a_set_of_a_key_that_does_not_expire_leaves_no_decision() {
    let mut peer = Peer::new(1);
    peer.at(10, &set("5"));
    peer.at(11, &set("6"));
    assert_eq!(decisions(&peer), []);
    // Nor one that comes after the end, when nobody has removed the rows yet.
    peer.at(12, &set_until("7", 50));
    peer.at(60, &set("8"));
    assert_eq!(decisions(&peer).iter().map(|decision| decision.time).collect::<Vec<_>>(), [Some(50)]);
}

// Removals.

#[test]
fn what_is_hidden_is_found_confirmed_and_removed() {
    let (mut remover, member_of_quorum) = expiring();
    assert_eq!(finds(&remover, 69), [], "within the grace time");
    let found = finds(&remover, 70);
    assert_eq!(found.len(), 1);
    assert!(!confirms(&member_of_quorum, &remover, &found[0], 69), "within the grace time by its own clock");
    assert!(confirms(&member_of_quorum, &remover, &found[0], 70));
    assert!(removes(&mut remover, &found[0], 70).is_some());
    assert!(remover.rows().is_empty());
}

#[test]
fn nobody_confirms_what_is_overtaken() {
    let (mut knowing, remover) = expiring();
    let found = finds(&remover, 100);
    knowing.at(20, &expire(1000)); // this delta is lost
    assert!(!confirms(&knowing, &remover, &found[0], 100));
    // Also where the decision still stands beside the one that overtakes it.
    let (mut both, mut other) = expiring();
    let prolonged = other.at(20, &expire(1000));
    let kept = Delta { replaces: Vec::new(), removes: Vec::new(), ..prolonged };
    both.join([&kept]);
    assert_eq!(decisions(&both).len(), 2);
    let Ok(confirmed) = attests(&both.state, &both.state.causal, &RowAddress::expiry(&KEY), &found[0], &[], at(100), GRACE);
    assert!(!confirmed);
    assert_eq!(finds(&both, 100), []);
    assert_eq!(removes(&mut both, &found[0], 100), None, "it was overtaken after the others had confirmed");
}

#[test]
fn nobody_confirms_what_was_seen_to_go() {
    let (mut knowing, remover) = expiring();
    let found = finds(&remover, 100);
    knowing.at(20, &DELETE); // this delta is lost; it took the decision away
    assert_eq!(decisions(&knowing), []);
    assert!(!confirms(&knowing, &remover, &found[0], 100));
}

#[test]
fn nothing_is_removed_while_something_is_pending_for_the_expiry_row() {
    let (mut first, mut remover) = expiring();
    let found = finds(&remover, 100);
    // The remover has begun to pull: it knows of writes of the first that it has not got yet.
    first.at(20, &add("y"));
    let pull = pull_expiry_row(&mut remover, &first);
    assert_eq!(finds(&remover, 100), []);
    assert_eq!(removes(&mut remover, &found[0], 100), None);
    assert_eq!(pull.finish(&mut remover.state.causal, 1, 2), Ok(()));
    assert_eq!(finds(&remover, 100), found);
    assert!(removes(&mut remover, &found[0], 100).is_some());
}

#[test]
fn an_expiry_row_is_pulled_with_all_that_was_seen_of_it() {
    let (mut first, mut second) = expiring();
    first.at(20, &PERSIST);
    let again = first.at(21, &expire(60));
    pull_expiry_row(&mut second, &first);
    // What the first has seen go does not come back by a late delta.
    assert!(!second.state.causal.pending.is_empty());
    second.join([&again]);
    assert_eq!(decisions(&second), decisions(&first));
}

#[test]
fn a_removal_takes_exactly_what_is_hidden_and_what_was_overtaken() {
    let (mut peer, _) = expiring();
    peer.at(60, &add("y"));
    let found = finds(&peer, 100);
    assert!(removes(&mut peer, &found[0], 100).is_some());
    assert!(peer.has(100, "y") && peer.row(&member("x")).is_empty());
    assert_eq!(decisions(&peer), []);
}

#[test]
fn a_removal_takes_the_decisions_that_its_own_overtook() {
    let (mut first, mut second) = (Peer::new(1), Peer::new(2));
    second.join([&first.at(10, &add("x"))]);
    // Two decisions that have not heard of each other stand side by side; the later one counts.
    let later = second.at(12, &expire(40));
    first.at(11, &expire(50));
    first.join([&later]);
    assert_eq!(decisions(&first).len(), 2);
    let found = finds(&first, 100);
    assert_eq!(found.iter().map(|decision| decision.time).collect::<Vec<_>>(), [Some(40)]);
    assert!(removes(&mut first, &found[0], 100).is_some());
    assert!(first.rows().is_empty(), "{:?}", first.rows());
}

#[test]
fn a_decision_that_comes_too_late_for_a_removal_is_not_acknowledged() {
    assert!(!is_late(at(100), at(119), GRACE));
    assert!(is_late(at(100), at(120), GRACE));
}

#[test]
fn a_hidden_run_is_not_continued() {
    let mut peer = Peer::new(1);
    peer.at(10, &increment(5));
    peer.at(11, &expire(50));
    let next = peer.at(60, &increment(1));
    let [(_, dot, entry)] = next.adds.as_slice() else { panic!("one entry was expected: {next:?}") };
    assert_eq!(entry.payload, Payload::Run { run: *dot, total: Number::Integer(1) });
    assert_eq!(peer.get(70).as_deref(), Some("1"));
    assert!(!Expiry::of(&peer.row(&RowAddress::expiry(&KEY)), at(70)).hides(entry));
}
