//! A test for each rule of `KERNEL` section 5, pulls and quorum reads, without which data is lost, deletes come undone or replicas differ. Each
//! tells the shortest story in which its rule matters, and turns red when the rule is taken out.

use ringtide::crdt::delta::{Delta, Row, RowAddress, RowsMut, Scope, join};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::merge::{Voice, merge};
use ringtide::crdt::pull::{Pull, compare_row};

use crate::peer::{DELETE, Peer, add, member, remove, set};

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
fn a_late_add_that_the_other_has_only_pending_does_not_slip_past_either() {
    let (mut puller, mut source, mut writer) = (Peer::new(1), Peer::new(2), Peer::new(3));
    let late = writer.at(1, &add("m"));
    writer.at(2, &add("m")); // this delta is lost
    source.join([&writer.at(3, &remove("m"))]);
    let mut pull = begin(&source);
    pull_row(&mut puller, &source, &mut pull, &member("m"));
    join_beside(&mut puller, &pull, &late);
    assert_eq!(pull.finish(&mut puller.state.causal, 1, 2), Ok(()));
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
