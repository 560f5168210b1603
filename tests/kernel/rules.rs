//! A test for each rule of `KERNEL` sections 2 to 4 without which data is lost, deletes come undone or replicas differ. Each tells the shortest story
//! in which its rule matters, and turns red when the rule is taken out. The other sections: `pull_rules.rs`, `expiry_rules.rs`.

use bytes::Bytes;
use ringtide::config::MAX_VALUE;
use ringtide::crdt::command::{Mutation, Refusal};
use ringtide::crdt::counter::clear_floors;
use ringtide::crdt::delta::{Causal, Delta, Entry, Payload, Row, RowAddress};
use ringtide::crdt::dot::{Clock, Dot};
use ringtide::crdt::execute::{Author, ExecuteError, execute, execute_blind};
use ringtide::crdt::number::Number;
use ringtide::crdt::set;
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::types::{Actor, Timestamp};

use crate::peer::{DELETE, KEY, PERSIST, Peer, add, increment, member, remove, set};

// Section 2: delta and join.

#[test]
fn what_the_writer_of_a_replacement_had_seen_is_gone_everywhere() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    other.join([&writer.at(1, &set("old"))]);
    writer.at(2, &set("new")); // this delta is lost
    other.join([&writer.at(3, &DELETE)]);
    assert_eq!(other.get(9), None);
}

#[test]
fn a_write_takes_nothing_that_its_writer_had_not_seen() {
    let (mut remover, mut adder) = (Peer::new(1), Peer::new(2));
    adder.join([&remover.at(1, &add("m"))]);
    let again = adder.at(2, &add("m"));
    adder.join([&remover.at(3, &remove("m"))]);
    remover.join([&again]);
    assert!(adder.has(9, "m") && remover.has(9, "m"));
}

#[test]
fn concurrent_values_stay_beside_each_other() {
    let (mut first, mut second) = (Peer::new(1), Peer::new(2));
    let (one, two) = (first.at(1, &set("one")), second.at(2, &set("two")));
    first.join([&two]);
    second.join([&one]);
    for peer in [&first, &second] {
        assert_eq!((peer.get(9).as_deref(), peer.row(&RowAddress::value(&KEY)).len()), (Some("two"), 2));
    }
}

#[test]
fn what_was_seen_and_has_not_arrived_yet_stays_pending() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    let late = writer.at(1, &set("old"));
    writer.at(2, &set("new")); // this delta is lost
    other.join([&writer.at(3, &DELETE), &late]);
    assert_eq!(other.get(9), None);
}

#[test]
fn what_is_pending_at_the_writer_is_pending_everywhere() {
    let (mut first, mut second, mut third) = (Peer::new(1), Peer::new(2), Peer::new(3));
    let late = first.at(1, &add("m"));
    first.at(2, &add("m")); // this delta is lost
    second.join([&first.at(3, &remove("m"))]);
    // The second has never heard of the first add, only that it is superseded: its own write says so too.
    let again = second.at(4, &add("m"));
    third.join([&again, &second.at(5, &remove("m")), &late]);
    assert!(!third.has(9, "m"));
    assert_eq!(third.row(&member("m")), Row::new());
}

#[test]
fn who_replaces_a_key_tells_what_is_pending_for_its_rows() {
    let (mut first, mut second, mut third) = (Peer::new(1), Peer::new(2), Peer::new(3));
    let late = first.at(1, &add("m"));
    first.at(2, &add("m")); // this delta is lost
    second.join([&first.at(3, &remove("m"))]);
    third.join([&second.at(4, &set("string")), &late]);
    assert_eq!(third.row(&member("m")), Row::new());
}

#[test]
fn what_is_pending_for_one_row_was_not_observed_of_another() {
    let (mut first, mut second, mut third) = (Peer::new(1), Peer::new(2), Peer::new(3));
    let unheard = first.at(1, &add("kept"));
    first.at(2, &add("gone"));
    // The second learns that its writer had seen "kept", but only for the row of "gone".
    second.join([&first.at(3, &remove("gone"))]);
    third.join([&unheard, &second.at(4, &set("string"))]);
    assert_eq!(third.row(&member("kept")).len(), 1, "a SET dropped what nobody had observed");
}

#[test]
fn a_replaced_key_takes_nothing_from_other_keys() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    let elsewhere = Bytes::from_static(b"elsewhere");
    let early = writer.write(Timestamp::from_millis(1), &elsewhere, &add("early"));
    let late = writer.write(Timestamp::from_millis(2), &elsewhere, &add("late"));
    let set = writer.at(3, &set("value"));
    other.join([&early, &set, &late]);
    assert_eq!(other.state, writer.state);
    assert_eq!(other.rows().len(), 3);
}

#[test]
fn a_dot_that_was_removed_unheard_does_not_appear_later() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    let add = writer.at(1, &add("m"));
    let mut remove = writer.at(2, &remove("m"));
    // Even without the clock of its writer: the dot is named.
    remove.replaces.clear();
    other.join([&remove, &add]);
    assert!(!other.has(9, "m"));
}

/// Nobody has anything pending once everything has arrived.
#[test]
fn pending_is_settled_by_what_arrives() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    let deltas = [writer.at(1, &set("old")), writer.at(2, &set("new")), writer.at(3, &DELETE)];
    other.join(deltas.iter().rev());
    assert_eq!(other.state.causal, Causal { clock: writer.state.causal.clock.clone(), ..Causal::default() });
}

// Section 3: a coordinator without a replica has observed nothing.

#[test]
fn a_blind_write_adds_and_removes_nothing() {
    let blind = |mutation: &Mutation| {
        let mut mint = || Dot { actor: Actor(9), counter: 1 };
        let now = Timestamp::from_millis(5);
        execute_blind(&mut Author { actor: Actor(9), now, mint: &mut mint, runs_since: u64::MAX }, &KEY, mutation)
    };
    for mutation in [set("blind"), add("m"), increment(3)] {
        let Ok(executed) = blind(&mutation) else { panic!("{mutation:?} needs nothing to be known") };
        assert!(executed.delta.replaces.is_empty() && executed.delta.removes.is_empty() && executed.delta.seen.is_empty());
    }
    let conditional =
        string::Mutation::Set { value: "v".into(), expiry: SetExpiry::Keep, condition: SetCondition::Present, get: true }.into();
    for mutation in
        [DELETE, string::Mutation::GetDelete.into(), remove("m"), PERSIST, string::Mutation::Append("x".into()).into(), conditional]
    {
        assert!(blind(&mutation).is_err(), "{mutation:?} was executed by somebody who has observed nothing");
    }
    let mut replica = Peer::new(1);
    replica.at(1, &set("kept"));
    replica.join(blind(&set("blind")).map(|executed| executed.delta).iter());
    assert_eq!(replica.row(&RowAddress::value(&KEY)).len(), 2);
}

// Section 4: counters.

#[test]
fn a_reset_counts_exactly_what_it_had_not_observed() {
    let (mut first, mut second) = (Peer::new(1), Peer::new(2));
    second.join([&first.at(1, &increment(5))]);
    let more = first.at(2, &increment(2));
    let reset = second.at(3, &set("100"));
    first.join([&reset]);
    second.join([&more]);
    assert_eq!((first.get(9), second.get(9)), (Some("102".to_owned()), Some("102".to_owned())));
}

#[test]
fn a_run_is_not_continued_from_a_floor() {
    let (mut first, mut second) = (Peer::new(1), Peer::new(2));
    second.join([&first.at(1, &increment(5))]);
    first.join([&second.at(2, &DELETE)]);
    let next = first.at(3, &increment(2));
    let [(_, dot, entry)] = next.adds.as_slice() else { panic!("one entry was expected: {next:?}") };
    assert_eq!(entry.payload, Payload::Run { run: *dot, total: Number::Integer(2) });
    second.join([&next]);
    assert_eq!((first.get(9), second.get(9)), (Some("2".to_owned()), Some("2".to_owned())));
}

#[test]
fn a_run_is_not_continued_across_a_crash() {
    let (mut first, mut second) = (Peer::new(1), Peer::new(2));
    let durable = first.at(1, &increment(1));
    second.join([&durable, &first.at(2, &increment(1))]);
    // The second increment has left the machine, and its own disk forgets it.
    first.state = Peer::new(1).state;
    first.join([&durable]);
    first.next += 10;
    first.runs_since = first.next;
    second.join([&first.at(3, &increment(1))]);
    assert_eq!(second.get(9), Some("3".to_owned()));
}

#[test]
fn a_run_that_was_observed_further_on_does_not_count() {
    let (mut owner, mut behind) = (Peer::new(1), Peer::new(2));
    behind.join([&owner.at(1, &increment(1))]);
    owner.at(2, &increment(1)); // this delta is lost
    let run = Dot { actor: owner.actor, counter: 1 };
    // Somebody who had seen both increments reset them, naming only the entry that it saw.
    let floor = Entry {
        timestamp: Timestamp::from_millis(3),
        decision: None,
        field_decision: None,
        payload: Payload::Floor { run, upto: 2, total: Number::Integer(2) },
    };
    let reset = Delta { adds: vec![(RowAddress::value(&KEY), Dot { actor: Actor(3), counter: 1 }, floor)], ..Delta::default() };
    behind.join([&reset]);
    assert_eq!(behind.get(9), None, "what a reset had observed counts again");
}

/// The floors that an owner may clear, where the replicas hold these clocks durably.
fn cleared(owner: &Peer, durable: &[Clock]) -> usize {
    let address = RowAddress::value(&KEY);
    clear_floors(&address, &owner.row(&address), owner.actor, owner.runs_since, durable).removes.len()
}

#[test]
fn floors_stay_while_their_run_goes_on() {
    let (mut owner, mut other) = (Peer::new(1), Peer::new(2));
    other.join([&owner.at(1, &increment(5))]);
    let more = owner.at(2, &increment(2));
    owner.join([&other.at(3, &DELETE)]);
    other.join([&more]);
    let durable = [owner.state.causal.clock.clone(), other.state.causal.clock.clone()];
    assert_eq!((owner.get(9), cleared(&owner, &durable)), (Some("2".to_owned()), 0));
}

#[test]
fn floors_are_cleared_by_the_owner_once_every_replica_has_the_whole_run() {
    let (mut owner, mut other) = (Peer::new(1), Peer::new(2));
    let counted = [owner.at(1, &increment(5)), owner.at(2, &increment(2))];
    let behind = Peer::new(3).state.causal.clock;
    other.join(&counted);
    let durable = [owner.state.causal.clock.clone(), other.state.causal.clock.clone()];
    let reset = other.at(3, &DELETE);
    owner.join([&reset]);
    assert_eq!(cleared(&owner, &durable), 1);
    assert_eq!(cleared(&other, &durable), 0, "only the owner knows that its run is over");
    assert_eq!(cleared(&owner, &[durable[0].clone(), behind]), 0, "a replica may still get the run");
    owner.runs_since = owner.next;
    assert_eq!(cleared(&owner, &durable), 0, "after a crash nobody knows how far the run went");
}

// Limits: what the kernel lets in has to be readable for every other replica.

#[test]
fn a_value_or_member_above_the_limit_is_refused_by_whatever_would_write_it() {
    let too_big = Bytes::from(vec![b'x'; MAX_VALUE + 1]);
    let set = |value| -> Mutation {
        string::Mutation::Set { value, expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }.into()
    };
    let token = Bytes::from_static(&[3, 0, 0]);
    let resolve = |value| -> Mutation { string::Mutation::Resolve { token: token.clone(), value }.into() };
    for (mutation, blindly) in [
        (set(too_big.clone()), true),
        (set::Mutation::Add(vec![KEY, too_big.clone()]).into(), true),
        (string::Mutation::Append(too_big.clone()).into(), false),
        (resolve(too_big.clone()), false),
    ] {
        let peer = Peer::new(1);
        let mut mint = || Dot { actor: Actor(1), counter: 1 };
        let mut author = Author { actor: Actor(1), now: Timestamp::from_millis(1), mint: &mut mint, runs_since: 1 };
        let refused = execute(&peer.state, &peer.state.causal, &mut author, &KEY, &mutation).err();
        assert!(matches!(refused, Some(ExecuteError::Refused(Refusal::TooBig))), "{refused:?}");
        let refused = execute_blind(&mut author, &KEY, &mutation).err();
        assert_eq!(refused, Some(if blindly { Refusal::TooBig } else { Refusal::NeedsReplica }));
    }
    let mut peer = Peer::new(1);
    let longest = too_big.slice(1..);
    assert_eq!(peer.at(1, &set(longest.clone())).adds.len(), 1);
    assert_eq!(peer.at(2, &resolve(longest)).adds.len(), 1);
}
