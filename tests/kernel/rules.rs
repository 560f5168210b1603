//! A test for each rule of `KERNEL` sections 2 to 5 without which data is lost, deletes come undone or replicas differ. Each tells the
//! shortest story in which its rule matters, and turns red when the rule is taken out.

use bytes::Bytes;
use ringtide::crdt::command::Mutation;
use ringtide::crdt::delta::{Causal, Delta, Payload, Row, RowAddress, RowsMut, Scope, join};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::execute::{Author, execute_blind};
use ringtide::crdt::merge::{Voice, merge};
use ringtide::crdt::number::Number;
use ringtide::crdt::pull::{Pull, compare_row};
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::types::{Actor, Timestamp};

use crate::peer::{DELETE, KEY, PERSIST, Peer, add, increment, member, remove, set};

/// Pulls one row as it is at this moment.
fn pull_row(to: &mut Peer, from: &Peer, pull: &mut Pull<RowAddress>, address: &RowAddress) {
    let change = compare_row(&to.row(address), &to.state.causal, address, &from.row(address), pull.theirs(), |_, _| false);
    change.apply(address, &mut to.state.causal);
    if let Some(row) = change.row {
        to.state.put(address.clone(), row);
    }
    pull.rows_compared(0, Some(address.clone()), Some(after(address)));
}

/// The next address in order.
fn after(address: &RowAddress) -> RowAddress {
    RowAddress { element: [address.element.as_ref(), b"\0"].concat().into(), ..address.clone() }
}

/// Joins a delta beside a running pull.
fn join_beside(peer: &mut Peer, pull: &Pull<RowAddress>, delta: &Delta) {
    let slips = |address: &RowAddress, dot: Dot| pull.slips(0, address, address, dot);
    let Ok(()) = join(&mut peer.state.rows, &mut peer.state.causal, delta, slips);
}

fn begin(from: &Peer) -> Pull<RowAddress> {
    Pull::new(from.state.causal.clone(), 1, 2)
}

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

// Section 5: pulls.

#[test]
fn a_late_add_does_not_slip_past_a_row_that_was_compared() {
    let (mut puller, mut source) = (Peer::new(1), Peer::new(2));
    let late = source.at(1, &add("m"));
    source.at(2, &remove("m")); // this delta is lost
    let mut pull = begin(&source);
    pull_row(&mut puller, &source, &mut pull, &member("m"));
    join_beside(&mut puller, &pull, &late);
    assert_eq!(pull.finish(&mut puller.state.causal, 1, 2), Ok(()));
    // The source dies. Nobody else will ever tell that the member was removed.
    assert!(!puller.has(9, "m"));
}

#[test]
fn an_add_before_the_comparison_is_taken() {
    let (mut puller, mut source) = (Peer::new(1), Peer::new(2));
    let early = source.at(1, &add("m"));
    let mut pull = begin(&source);
    join_beside(&mut puller, &pull, &early);
    pull_row(&mut puller, &source, &mut pull, &member("m"));
    assert_eq!(pull.finish(&mut puller.state.causal, 1, 2), Ok(()));
    assert!(puller.has(9, "m"));
}

#[test]
fn a_row_taken_by_one_pull_is_judged_by_the_others_too() {
    let (mut puller, mut knowing, mut behind) = (Peer::new(1), Peer::new(2), Peer::new(3));
    behind.join([&knowing.at(1, &add("m"))]);
    knowing.at(2, &remove("m")); // this delta is lost
    let mut first = begin(&knowing);
    pull_row(&mut puller, &knowing, &mut first, &member("m"));
    // A second pull, from a replica that still has the member.
    let slips = |address: &RowAddress, dot: Dot| first.slips(0, address, address, dot);
    let address = member("m");
    let change = compare_row(&puller.row(&address), &puller.state.causal, &address, &behind.row(&address), &behind.state.causal, slips);
    change.apply(&address, &mut puller.state.causal);
    assert_eq!(change.row, None);
    assert!(puller.state.causal.clock.contains(Dot { actor: knowing.actor, counter: 1 }), "the dot is seen, and superseded");
}

#[test]
fn the_puller_judges_by_its_own_clock_of_the_moment() {
    let (mut puller, mut source) = (Peer::new(1), Peer::new(2));
    let added = source.at(1, &add("m"));
    let pull = begin(&source);
    let listed = source.row(&member("m"));
    // Between the listing and the comparison the puller learns of the member and removes it.
    puller.join([&added]);
    puller.at(2, &remove("m"));
    let address = member("m");
    let change = compare_row(&puller.row(&address), &puller.state.causal, &address, &listed, pull.theirs(), |_, _| false);
    assert_eq!(change.row, None);
}

#[test]
fn the_clock_is_taken_over_even_where_the_rows_were_equal_at_once() {
    let (mut puller, mut source) = (Peer::new(1), Peer::new(2));
    let late = source.at(1, &add("m"));
    source.at(2, &remove("m")); // this delta is lost
    assert_eq!(puller.rows(), source.rows());
    assert_eq!(begin(&source).finish(&mut puller.state.causal, 1, 2), Ok(()));
    puller.join([&late]);
    assert!(!puller.has(9, "m"));
}

#[test]
fn what_is_pending_is_taken_over_with_the_clock() {
    let (mut puller, mut source, mut writer) = (Peer::new(1), Peer::new(2), Peer::new(3));
    let late = writer.at(1, &set("old"));
    writer.at(2, &set("new")); // this delta is lost
    source.join([&writer.at(3, &DELETE)]);
    assert_eq!(begin(&source).finish(&mut puller.state.causal, 1, 2), Ok(()));
    puller.join([&late]);
    assert_eq!(puller.get(9), None);
}

#[test]
fn a_pull_that_breaks_off_has_not_widened_the_clock() {
    let (mut puller, mut source) = (Peer::new(1), Peer::new(2));
    source.at(1, &add("first"));
    source.at(2, &add("second"));
    let mut broken = begin(&source);
    pull_row(&mut puller, &source, &mut broken, &member("first"));
    drop(broken);
    let mut whole = begin(&source);
    for name in ["first", "second"] {
        pull_row(&mut puller, &source, &mut whole, &member(name));
    }
    assert!(puller.has(9, "first") && puller.has(9, "second"));
}

#[test]
fn a_pull_is_void_once_a_replica_has_started_anew() {
    let (mut puller, mut source) = (Peer::new(1), Peer::new(2));
    puller.join([&source.at(1, &add("m"))]);
    let mut pull = begin(&source);
    source.state = Peer::new(2).state; // a crash: the unsynced tail is lost, the state id is another
    assert!(pull.check(1, 2).is_ok());
    assert!(pull.check(1, 3).is_err() && pull.check(4, 2).is_err());
    // Without that check the comparison would call the member deleted.
    pull_row(&mut puller, &source, &mut pull, &member("m"));
    assert!(!puller.has(9, "m"));
    assert!(pull.finish(&mut puller.state.causal, 1, 3).is_err());
}

#[test]
fn what_the_other_knows_as_pending_is_dropped_here() {
    let (mut puller, mut source, mut writer) = (Peer::new(1), Peer::new(2), Peer::new(3));
    puller.join([&writer.at(1, &add("m"))]);
    writer.at(2, &add("m")); // this delta is lost
    source.join([&writer.at(3, &remove("m"))]);
    let mut pull = begin(&source);
    pull_row(&mut puller, &source, &mut pull, &member("m"));
    assert!(!puller.has(9, "m"));
}

// Section 5: quorum reads.

#[test]
fn a_read_keeps_what_no_voice_has_seen_go() {
    let (mut writer, other) = (Peer::new(1), Peer::new(2));
    writer.at(1, &add("m"));
    let voice = |peer: &Peer| Voice { rows: peer.rows().clone(), causal: peer.state.causal.clone() };
    let merged = merge(&[voice(&writer), voice(&other)]);
    assert_eq!(merged.view.rows.get(&member("m")).map(Row::len), Some(1));
    assert_eq!(merged.repairs.iter().map(|repair| (repair.voice, repair.must_pull)).collect::<Vec<_>>(), [(1, false)]);
}

#[test]
fn a_read_drops_what_a_voice_has_seen_go_and_removes_it_nowhere() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    other.join([&writer.at(1, &add("m"))]);
    writer.at(2, &remove("m"));
    let voice = |peer: &Peer| Voice { rows: peer.rows().clone(), causal: peer.state.causal.clone() };
    let merged = merge(&[voice(&writer), voice(&other)]);
    assert!(merged.view.rows.is_empty());
    let [repair] = merged.repairs.as_slice() else { panic!("one voice was behind: {merged:?}") };
    assert!(repair.voice == 1 && repair.must_pull && repair.adds.is_empty(), "reads are not checked for whole leaves");
}

#[test]
fn what_is_pending_counts_as_seen_in_a_read() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    let first = writer.at(1, &add("m"));
    let mut behind = Peer::new(3);
    behind.join([&first]);
    writer.at(2, &add("m")); // this delta is lost
    other.join([&writer.at(3, &remove("m"))]);
    assert!(other.state.causal.pending.contains_key(&Scope::Row(member("m"))));
    let voice = |peer: &Peer| Voice { rows: peer.rows().clone(), causal: peer.state.causal.clone() };
    assert!(merge(&[voice(&behind), voice(&other)]).view.rows.is_empty());
}

/// Nobody has anything pending once everything has arrived.
#[test]
fn pending_is_settled_by_what_arrives() {
    let (mut writer, mut other) = (Peer::new(1), Peer::new(2));
    let deltas = [writer.at(1, &set("old")), writer.at(2, &set("new")), writer.at(3, &DELETE)];
    other.join(deltas.iter().rev());
    assert_eq!(other.state.causal, Causal { clock: writer.state.causal.clock.clone(), ..Causal::default() });
}
