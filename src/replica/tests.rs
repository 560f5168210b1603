//! What a replica owes to its disk, to its own dots and to the clocks of others: each rule in the shortest story in which it matters.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use tokio::time::{Instant, advance};

use super::comparing::Told;
use super::execution::{Change, Command, Executed, NotExecuted, Outcome, Work};
use super::hints::Hint;
use super::owner::{Outlet, Writer};
use super::pulling::{Begun, PullId, Source, Void};
use super::*;
use crate::config::{CLOCK_LEASE, DOT_LEASE, Durability, MAX_DRIFT, STEP_ROWS, WRITER_BYTES};
use crate::crdt::delta::{Causal, Delta};
use crate::crdt::dot::Dot;
use crate::crdt::key;
use crate::crdt::string::{self, SetCondition, SetExpiry};
use crate::env::message::{PullStart, RangeContent, Refused, RowRange, Sent};
use crate::ring::{Ring, RingMember};
use crate::sim::clock::SimClock;
use crate::sim::storage::{Crash, Faults, SimDisk};
use crate::types::{Digest, PeerId, Timestamp};

const KEY: Bytes = Bytes::from_static(b"key");
const PARTITION: Partition = Partition(0);
const LOCAL: PeerId = PeerId([1; 32]);
const OTHER: PeerId = PeerId([2; 32]);

/// A replica that holds the only partition.
fn open(disk: &SimDisk, clock: &SimClock, seed: u64) -> Replica {
    let mut replica = Replica::open(disk.open(), Arc::new(clock.clone()), 1, seed).unwrap();
    let ring = Ring::build(&[RingMember { peer: LOCAL, zone: None, capacity: 1 }], 1, 1);
    replica.take_roles(LOCAL, &ring, &BTreeMap::new()).unwrap();
    replica
}

fn new(seed: u64) -> Replica {
    open(&SimDisk::default(), &SimClock::new(), seed)
}

fn set() -> Command {
    let (value, expiry, condition) = (Bytes::from_static(b"value"), SetExpiry::Clear, SetCondition::Always);
    Command { key: KEY, change: Change::Mutation(string::Mutation::Set { value, expiry, condition, get: false }.into()), blind_for: None }
}

fn set_key(number: u8) -> Command {
    Command { key: Bytes::from(vec![number]), ..set() }
}

fn delete() -> Command {
    Command { key: KEY, change: Change::Mutation(key::Mutation::Delete.into()), blind_for: None }
}

fn write(replica: &mut Replica, command: Command) -> Delta {
    match replica.apply(&[Work::Execute(command)]).unwrap().remove(0) {
        Outcome::Executed(executed) => executed.unwrap().delta,
        Outcome::Received(_) => panic!("a command was executed"),
    }
}

/// Dot and timestamp of the next write.
fn next(replica: &mut Replica) -> (Dot, Timestamp) {
    let (_, dot, entry) = write(replica, set()).adds.remove(0);
    (dot, entry.timestamp)
}

fn receive(replica: &mut Replica, delta: Delta, hint_for: Option<PeerId>) -> Option<Refused> {
    match replica.apply(&[Work::Receive(Sent { partition: PARTITION, delta, hint_for })]).unwrap().remove(0) {
        Outcome::Received(refused) => refused,
        Outcome::Executed(_) => panic!("a delta was received"),
    }
}

/// Mints more dots than one lease holds, but no more than one command may. Tells the last.
fn mint_many(replica: &mut Replica) -> Dot {
    replica.minter.reserve().unwrap();
    (0..DOT_LEASE + 10).map(|_| replica.minter.mint(PARTITION)).last().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_row_that_can_not_be_read_is_not_taken_for_an_empty_one() {
    let disk = SimDisk::default();
    let mut replica = open(&disk, &SimClock::new(), 1);
    write(&mut replica, set());
    let mut row_key = Vec::new();
    disk.visit(b"r", b"s", &mut |key, _| {
        row_key = key.to_vec();
        ControlFlow::Continue(())
    });
    disk.spoil(&row_key, 0x52);
    let outcome = replica.apply(&[Work::Execute(set())]).unwrap().remove(0);
    assert!(matches!(outcome, Outcome::Executed(Err(NotExecuted::Damaged(_)))), "{outcome:?}");
    let from_elsewhere = write(&mut new(2), set());
    assert_eq!(receive(&mut replica, from_elsewhere, None), Some(Refused::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_failed_shows_nothing() {
    let disk = SimDisk::default();
    let mut replica = open(&disk, &SimClock::new(), 1);
    // Dots are leased now, so that the next thing that is written is the batch.
    replica.apply(&[Work::Execute(set())]).unwrap();
    let shown = |replica: &Replica| {
        let (view, partition) = (replica.view().load_full(), replica.partition(PARTITION));
        (view.partition(PARTITION).digest, Arc::clone(&view.partition(PARTITION).causal), partition.total, Arc::clone(&partition.causal))
    };
    let before = shown(&replica);
    disk.set_faults(Faults { next: Some(false), ..Faults::default() });
    assert!(replica.apply(&[Work::Execute(set())]).is_err());
    assert_eq!(shown(&replica), before);
}

#[tokio::test(start_paused = true)]
async fn a_dot_is_leased_before_it_is_used() {
    let (disk, clock) = (SimDisk::default(), SimClock::new());
    let mut replica = open(&disk, &clock, 1);
    let last = mint_many(&mut replica);
    disk.crash(Crash::Machine);
    let (next, _) = next(&mut open(&disk, &clock, 2));
    assert!(next.actor == last.actor && next.counter > last.counter, "{next:?} after {last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_timestamp_is_leased_before_it_is_told() {
    let (disk, clock) = (SimDisk::default(), SimClock::new());
    let mut replica = open(&disk, &clock, 1);
    // Past what was leased at the start.
    advance(3 * CLOCK_LEASE).await;
    let (_, last) = next(&mut replica);
    disk.crash(Crash::Process);
    clock.set_skew(-60_000);
    let (_, next) = next(&mut open(&disk, &clock, 2));
    assert!(next > last, "{next:?} after {last:?}");
}

#[tokio::test(start_paused = true)]
async fn who_has_seen_more_of_a_peer_than_it_minted_makes_it_a_new_author() {
    let mut replica = new(1);
    let (mine, _) = next(&mut replica);
    let (state_id, mut seen) = (replica.partition(PARTITION).state_id, Causal::default());
    let source = || Source { peer: OTHER, began: Instant::now(), sees_ring: true };
    seen.clock.insert(mine);
    replica.begin_pull(PARTITION, source(), 7, seen.clone(), Digest(1), &[]).unwrap();
    assert_eq!((next(&mut replica).0.actor, replica.partition(PARTITION).state_id), (mine.actor, state_id));
    // The disk fell back, or another process goes by the same name.
    seen.clock.insert(Dot { counter: mine.counter + 2, ..mine });
    replica.begin_pull(PARTITION, source(), 7, seen, Digest(1), &[]).unwrap();
    assert_ne!(replica.partition(PARTITION).state_id, state_id, "a counter run would be continued that others have seen further");
    assert_ne!(next(&mut replica).0.actor, mine.actor);
}

#[tokio::test(start_paused = true)]
async fn a_lease_older_than_the_store_is_not_gone_on_with() {
    let (disk, clock) = (SimDisk::default(), SimClock::new());
    let mut replica = open(&disk, &clock, 1);
    let older = replica.storage.lease().unwrap().unwrap();
    mint_many(&mut replica);
    let (last, _) = next(&mut replica);
    replica.storage.put_lease(&older).unwrap();
    assert_ne!(next(&mut open(&disk, &clock, 2)).0.actor, last.actor);
}

#[tokio::test(start_paused = true)]
async fn a_timestamp_from_too_far_ahead_is_refused_before_anything_is_stored() {
    let (disk, ahead) = (SimDisk::default(), SimClock::new());
    let mut replica = open(&disk, &SimClock::new(), 1);
    ahead.set_skew(i64::try_from(MAX_DRIFT.as_millis()).unwrap() + 1_000);
    let delta = write(&mut open(&SimDisk::default(), &ahead, 2), set());
    assert_eq!(receive(&mut replica, delta, None), Some(Refused::TooFarAhead));
    assert_eq!(replica.partition(PARTITION).total, Digest::default(), "nothing could be written over it for a minute");
    assert!(replica.partition(PARTITION).causal.clock.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_on_the_disk_when_it_is_acknowledged() {
    let (disk, clock) = (SimDisk::default(), SimClock::new());
    let mut replica = open(&disk, &clock, 1);
    let delta = write(&mut new(2), set());
    assert_eq!(receive(&mut replica, delta.clone(), Some(OTHER)), None);
    disk.crash(Crash::Process);
    let view = open(&disk, &clock, 3).view().load_full();
    let hints = view.hints_for(OTHER, 9, usize::MAX).unwrap();
    assert_eq!(hints.into_iter().map(|(_, hint)| hint.delta).collect::<Vec<_>>(), [delta]);
    assert_eq!(view.shown.hints, 1);
}

#[tokio::test(start_paused = true)]
async fn hints_are_told_up_to_a_number_and_a_size_and_one_in_any_case() {
    let mut replica = new(1);
    let delta = write(&mut new(2), set());
    let size = partition::to_bytes(&Hint { partition: PARTITION, delta: delta.clone() }).len();
    (0..5).for_each(|_| assert_eq!(receive(&mut replica, delta.clone(), Some(OTHER)), None));
    let view = replica.view().load_full();
    let told = |most_bytes| view.hints_for(OTHER, 4, most_bytes).unwrap().len();
    assert_eq!([1, size, size + 1, 3 * size, usize::MAX].map(told), [1, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_taken_over_also_where_the_roots_are_equal_at_once() {
    let (mut here, mut there) = (new(1), new(2));
    let late = write(&mut there, set());
    write(&mut there, delete()); // this delta is lost
    let offer = here.pull_offer(PARTITION);
    let PullStart::Open { state_id, causal, root, nodes, .. } = there.pull_starts(&[offer]).remove(0).1 else { panic!("nothing to pull") };
    let source = Source { peer: OTHER, began: Instant::now(), sees_ring: true };
    let begun = here.begin_pull(PARTITION, source, state_id, *causal, root, &nodes).unwrap();
    assert!(matches!(begun, Begun::Equal(_)), "{begun:?}");
    assert_eq!(receive(&mut here, late, None), None);
    assert_eq!(here.partition(PARTITION).total, Digest::default(), "what was deleted is back");
}

/// Begins a pull, and tells its name, the other's state id, and the leaves that differ.
fn differing(here: &mut Replica, there: &mut Replica) -> (PullId, u64, Vec<RowRange>) {
    let offer = here.pull_offer(PARTITION);
    let PullStart::Open { state_id, causal, root, nodes, .. } = there.pull_starts(&[offer]).remove(0).1 else { panic!("nothing to pull") };
    let source = Source { peer: OTHER, began: Instant::now(), sees_ring: true };
    let begun = here.begin_pull(PARTITION, source, state_id, *causal, root, &nodes).unwrap();
    let Begun::Differs { pull, nodes } = begun else { panic!("the roots are equal") };
    let told = there.leaves(PARTITION, state_id, &nodes).unwrap();
    let leaves = told.into_iter().flat_map(|(node, digests)| here.compare_leaves(pull, node, &digests).unwrap());
    (pull, state_id, leaves.map(|leaf| RowRange { leaf, from: None, until: None }).collect())
}

#[tokio::test(start_paused = true)]
async fn a_row_from_the_future_is_left_out_of_a_pull_and_nothing_beside_it() {
    let clock = SimClock::new();
    let (mut here, mut there) = (new(1), open(&SimDisk::default(), &clock, 2));
    let in_time: Vec<Dot> = (0..8).map(|number| write(&mut there, set_key(number)).adds[0].1).collect();
    clock.set_skew(i64::try_from(MAX_DRIFT.as_millis()).unwrap() + 1_000);
    let ahead: Vec<Dot> = (8..16).map(|number| write(&mut there, set_key(number)).adds[0].1).collect();
    let (pull, state_id, ranges) = differing(&mut here, &mut there);
    let leaves: Vec<u16> = ranges.iter().map(|range| range.leaf).collect();
    let mut told = Vec::new();
    for (range, leaf) in ranges.into_iter().zip(there.open_leaves(PARTITION, state_id, &leaves).unwrap()) {
        let (RangeContent::Rows(rows), _) = leaf.tell(&range).unwrap() else { panic!("too many rows") };
        told.push(Told::rows((PARTITION, 1), range, rows).unwrap());
    }
    assert_eq!(here.compare(pull, told, STEP_ROWS).unwrap().unwrap().changed, 8);
    assert_eq!(here.end_pull(pull).unwrap(), Err(Void), "the other's clock holds what was left out");
    let seen = &here.partition(PARTITION).causal.clock;
    assert!(in_time.iter().all(|dot| seen.contains(*dot)) && !ahead.iter().any(|dot| seen.contains(*dot)));
}

#[tokio::test(start_paused = true)]
async fn a_pull_confirms_a_handover_only_where_no_row_was_left_out() {
    for (left_out, confirms) in [(false, true), (true, false)] {
        let (mut here, mut there) = (new(1), new(2));
        let (dot, _) = next(&mut there);
        let (pull, _, ranges) = differing(&mut here, &mut there);
        ranges.iter().for_each(|range| here.mark(pull, range));
        here.leave_out(pull, left_out.then_some(dot).into_iter().collect());
        assert_eq!(here.end_pull(pull).unwrap().unwrap().holder, confirms, "whoever hands over would drop the only copy");
        assert_eq!(here.partition(PARTITION).causal.clock.contains(dot), !left_out);
    }
}

/// Tells of each acknowledgement how many commits a crash of the machine would lose then, and what it refuses.
struct Acknowledged {
    disk: SimDisk,
    told: mpsc::UnboundedSender<(usize, Vec<Refused>)>,
}

impl Outlet<()> for Acknowledged {
    fn executed(&mut self, results: Vec<((), Result<Executed, NotExecuted>)>) {
        assert!(results.iter().all(|(_, result)| result.is_ok()));
        self.told.send((self.disk.unsynced(), Vec::new())).unwrap();
    }

    fn received(&mut self, _: PeerId, _: u64, refused: Vec<(u32, Refused)>) {
        self.told.send((self.disk.unsynced(), refused.into_iter().map(|(_, why)| why).collect())).unwrap();
    }

    fn failed(&mut self, reason: &str) {
        panic!("{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_durability_is_always_nothing_is_acknowledged_before_it_is_synced() {
    let disk = SimDisk::default();
    let replica = open(&disk, &SimClock::new(), 1);
    let (told, mut acknowledged) = mpsc::unbounded_channel();
    let (storage, ring) = (Arc::clone(&replica.storage), replica.ring());
    let writer = Writer::start(replica, Durability::Always, &storage, Acknowledged { disk: disk.clone(), told });
    writer.execute(set(), ()).unwrap();
    assert_eq!(acknowledged.recv().await, Some((0, vec![])));
    let delta = write(&mut new(2), set());
    assert!(writer.receive(OTHER, 1, ring, vec![Sent { partition: PARTITION, delta, hint_for: None }], 1));
    assert_eq!(acknowledged.recv().await, Some((0, vec![])));
}

#[tokio::test(start_paused = true)]
async fn a_majority_counts_a_delta_within_its_own_ring_and_once_those_before_can_not_go_on_without_this_peer() {
    let disk = SimDisk::default();
    let mut replica = Replica::open(disk.open(), Arc::new(SimClock::new()), 1, 1).unwrap();
    let ring = Ring::build(&[RingMember { peer: LOCAL, zone: None, capacity: 1 }], 1, 1);
    replica.take_roles(LOCAL, &ring, &BTreeMap::from([(PARTITION, BTreeSet::from([BTreeSet::from([OTHER])]))])).unwrap();
    let (told, mut acknowledged) = mpsc::unbounded_channel();
    let storage = Arc::clone(&replica.storage);
    let writer = Writer::start(replica, Durability::System, &storage, Acknowledged { disk, told });
    let delta = write(&mut new(2), set());
    let send = |ring| writer.receive(OTHER, 1, ring, vec![Sent { partition: PARTITION, delta: delta.clone(), hint_for: None }], 1);
    let mut refused = async || acknowledged.recv().await.unwrap().1;
    assert!(send(ring.name()));
    assert_eq!(refused().await, [Refused::Uncounted], "it has nothing of what those before it have acknowledged");
    let met = writer.step(|replica| {
        replica.meet(LOCAL, OTHER, &[], &BTreeSet::from([PARTITION]));
        Ok(())
    });
    met.await.unwrap();
    assert!(send(ring.name()));
    assert_eq!(refused().await, []);
    assert!(send(ring.name() ^ 1));
    assert_eq!(refused().await, [Refused::Uncounted], "by another ring others are asked");
}

#[tokio::test(start_paused = true)]
async fn deltas_that_wait_for_the_writer_are_bounded_by_their_bytes() {
    let disk = SimDisk::default();
    let replica = open(&disk, &SimClock::new(), 1);
    let (told, mut acknowledged) = mpsc::unbounded_channel();
    let storage = Arc::clone(&replica.storage);
    let writer = Writer::start(replica, Durability::System, &storage, Acknowledged { disk, told });
    // The writer does nothing before this task waits for it.
    let receive = |bytes| writer.receive(OTHER, 1, 0, Vec::new(), bytes);
    assert!(receive(WRITER_BYTES - 1) && receive(1));
    assert!(!receive(1), "the frame is not acknowledged and comes again as hints");
    for _ in 0..2 {
        acknowledged.recv().await.unwrap();
    }
    assert!(receive(WRITER_BYTES), "what was joined waits no more");
}

#[test]
fn neither_damage_nor_a_store_that_fell_back_makes_a_newcomer_forget_whom_it_awaits() {
    let (awaited, third) = (BTreeSet::from([OTHER]), PeerId([3; 32]));
    let newcomer = || {
        let mut replica = new(1);
        let ring = Ring::build(&[LOCAL, third].map(|peer| RingMember { peer, zone: None, capacity: 1 }), 1, 2);
        replica.take_roles(LOCAL, &ring, &BTreeMap::from([(PARTITION, BTreeSet::from([awaited.clone()]))])).unwrap();
        replica
    };
    let expected = Some(BTreeSet::from([awaited.clone(), BTreeSet::from([third])]));
    let awaits = |replica: &Replica| replica.partition(PARTITION).first_sync.as_ref().map(|first_sync| first_sync.former.clone());
    let mut damaged = newcomer();
    damaged.restart_damaged(PARTITION, [third]).unwrap();
    assert_eq!(awaits(&damaged), expected, "damage");
    let mut fell_back = newcomer();
    fell_back.distrust().unwrap();
    assert_eq!(awaits(&fell_back), expected, "an end of the journal is missing");
}
