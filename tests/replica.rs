//! The rules that a replica keeps while the ring changes, while it pulls, and when it comes back: each in the shortest story in which it
//! matters. Without any one of them, data that was acknowledged is lost or what was deleted comes back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{EXPIRY_GRACE, STEP_ROWS};
use ringtide::crdt::delta::{Causal, Delta, RowAddress};
use ringtide::crdt::key::{self, ExpireCondition};
use ringtide::crdt::string::{Mutation, SetCondition, SetExpiry};
use ringtide::crdt::{dot::Dot, hash};
use ringtide::env::message::{PullStart, RangeContent, Refused, RowRange, Sent, Standing};
use ringtide::replica::Replica;
use ringtide::replica::comparing::Told;
use ringtide::replica::execution::{Change, Command, NotExecuted, Outcome, Work};
use ringtide::replica::partition::Role;
use ringtide::replica::pulling::{Begun, PullId, Source, Void};
use ringtide::ring::{Ring, RingMember};
use ringtide::sim::clock::SimClock;
use ringtide::sim::storage::{Crash, Faults, SimDisk};
use ringtide::types::{Digest, Partition, PeerId};
use tokio::time::Instant;

const PARTITION: Partition = Partition(0);
const REPLICAS: usize = 3;

fn id(peer: u8) -> PeerId {
    PeerId([peer; 32])
}

fn source(peer: PeerId) -> Source {
    Source { peer, began: Instant::now(), sees_ring: true }
}

/// A ring of one partition, which all of these peers hold.
fn ring(peers: &[u8]) -> Ring {
    let member = |peer: &u8| RingMember { peer: id(*peer), zone: None, capacity: 1 };
    Ring::build(&peers.iter().map(member).collect::<Vec<_>>(), 1, REPLICAS)
}

/// A replica without a node around it.
struct Peer {
    id: PeerId,
    disk: SimDisk,
    clock: SimClock,
    replica: Replica,
}

fn open(disk: &SimDisk, clock: &SimClock, seed: u64) -> Replica {
    Replica::open(disk.open(), Arc::new(clock.clone()), 1, seed).unwrap()
}

fn set(value: &'static str) -> Work {
    let mutation = Mutation::Set {
        value: Bytes::from_static(value.as_bytes()),
        expiry: SetExpiry::Clear,
        condition: SetCondition::Always,
        get: false,
    };
    Work::Execute(Command { key: Bytes::from_static(b"key"), change: Change::Mutation(mutation.into()), blind_for: None })
}

impl Peer {
    /// A peer that holds the partition together with others.
    fn new(peer: u8, holders: &[u8]) -> Self {
        let (disk, clock) = (SimDisk::default(), SimClock::new());
        let replica = open(&disk, &clock, u64::from(peer));
        let mut peer = Self { id: id(peer), disk, clock, replica };
        peer.take_ring(holders, &[]);
        peer
    }

    fn take_ring(&mut self, holders: &[u8], former: &[u8]) {
        let former = BTreeMap::from([(PARTITION, BTreeSet::from([former.iter().map(|peer| id(*peer)).collect::<BTreeSet<_>>()]))]);
        self.replica.take_roles(self.id, &ring(holders), &former).unwrap();
    }

    fn write(&mut self, value: &'static str) -> Delta {
        match self.replica.apply(&[set(value)]).unwrap().remove(0) {
            Outcome::Executed(Ok(executed)) => executed.delta,
            other => panic!("not written: {other:?}"),
        }
    }

    fn hear(&mut self, delta: &Delta) -> Option<Refused> {
        let sent = Sent { partition: PARTITION, delta: delta.clone(), hint_for: None };
        match self.replica.apply(&[Work::Receive(sent)]).unwrap().remove(0) {
            Outcome::Received(refused) => refused,
            other => panic!("not received: {other:?}"),
        }
    }

    fn row_keys(&self) -> Vec<Vec<u8>> {
        let mut row_keys = Vec::new();
        self.disk.visit(b"r", b"s", &mut |row_key, _| {
            row_keys.push(row_key.to_vec());
            std::ops::ControlFlow::Continue(())
        });
        row_keys
    }

    /// Stored rows, of which there is one a value that shows.
    fn rows(&self) -> usize {
        self.row_keys().len()
    }

    /// Loses every row, and finds out.
    fn lose_rows(&mut self) {
        self.row_keys().iter().for_each(|row_key| self.disk.lose(row_key));
        self.replica.restart_damaged(PARTITION, [id(2), id(3)]).unwrap();
    }

    fn standing(&self) -> Standing {
        self.replica.view().load().partition(PARTITION).standing
    }

    fn seal(&self) -> u64 {
        self.replica.sealed()[0].1
    }

    fn confirmed(&mut self, seal: u64, by: &[u8], holders: &[u8]) {
        let holders: Vec<PeerId> = holders.iter().map(|peer| id(*peer)).collect();
        by.iter().for_each(|by| self.replica.confirmed(PARTITION, seal, id(*by), &holders, REPLICAS).unwrap());
    }

    /// Begins a pull from a peer whose rows differ. Tells the other's state id too.
    fn begin_pull(&mut self, from: &mut Self) -> (PullId, u64, Vec<u8>) {
        let offer = self.replica.pull_offer(PARTITION);
        let PullStart::Open { state_id, causal, root, nodes, .. } = from.replica.pull_starts(&[offer]).remove(0).1 else {
            panic!("nothing to pull")
        };
        match self.replica.begin_pull(PARTITION, source(from.id), state_id, *causal, root, &nodes).unwrap() {
            Begun::Differs { pull, nodes } => (pull, state_id, nodes),
            Begun::Equal(_) => panic!("equal"),
        }
    }

    /// Compares everything of a pull that has begun, but does not end it.
    fn compare(&mut self, from: &mut Self, (pull, state_id, nodes): &(PullId, u64, Vec<u8>)) {
        for (node, digests) in from.replica.leaves(PARTITION, *state_id, nodes).unwrap() {
            for leaf in self.replica.compare_leaves(*pull, node, &digests).unwrap() {
                let there = from.replica.open_leaves(PARTITION, *state_id, &[leaf]).unwrap().remove(0);
                there.verify().unwrap();
                let range = RowRange { leaf, from: None, until: None };
                let (RangeContent::Rows(rows), _) = there.tell(&range).unwrap() else { panic!("too many rows") };
                let told = Told::rows((PARTITION, 1), range, rows).unwrap();
                let compared = self.replica.compare(*pull, vec![told], STEP_ROWS).unwrap().unwrap();
                assert!(compared.rest.is_empty() && compared.incomplete.is_empty());
            }
        }
    }
}

#[test]
fn a_sealed_partition_takes_no_delta_no_hint_and_no_write() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    a.write("old");
    a.take_ring(&[2, 3, 4], &[]);
    assert_eq!(a.hear(&b.write("new")), Some(Refused::NotHolder));
    assert!(matches!(a.replica.apply(&[set("own")]).unwrap()[..], [Outcome::Executed(Err(NotExecuted::NotHolder))]));
    assert_eq!((a.rows(), a.standing()), (1, Standing::Extra));
}

#[test]
fn a_confirmation_is_for_one_seal_and_becoming_a_holder_again_voids_it() {
    let mut a = Peer::new(1, &[1, 2, 3]);
    a.write("v");
    a.take_ring(&[2, 3, 4], &[]);
    let first = a.seal();
    a.confirmed(first, &[2, 3], &[2, 3, 4]);
    a.take_ring(&[1, 2, 3], &[]);
    a.write("a write that nobody else has");
    a.take_ring(&[2, 3, 4], &[]);
    let second = a.seal();
    a.confirmed(first, &[2, 3, 4], &[2, 3, 4]);
    a.confirmed(second, &[4], &[2, 3, 4]);
    assert_eq!(a.rows(), 1, "2 and 3 confirmed before the last write");
    a.confirmed(second, &[2, 3], &[2, 3, 4]);
    assert_eq!((a.rows(), a.standing()), (0, Standing::Absent));
}

#[test]
fn rows_are_dropped_when_as_many_holders_as_configured_have_them_all_by_the_view_of_the_moment() {
    let mut a = Peer::new(1, &[1, 2, 3]);
    a.write("v");
    a.take_ring(&[2, 3, 4], &[]);
    let seal = a.seal();
    a.confirmed(seal, &[2, 3], &[2, 3]);
    assert_eq!(a.rows(), 1, "two copies are too few");
    a.confirmed(seal, &[3, 2], &[2, 3, 4]);
    assert_eq!(a.rows(), 1, "4 has not confirmed");
    // 4 gave way to 5 before it confirmed.
    a.confirmed(seal, &[4], &[2, 3, 5]);
    assert_eq!(a.rows(), 1, "5 has not confirmed");
    a.confirmed(seal, &[5], &[2, 3, 5]);
    assert_eq!(a.rows(), 0);
}

#[test]
fn a_pull_that_ends_after_the_own_seal_confirms_nothing() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    a.write("own");
    b.write("v");
    let begun = a.begin_pull(&mut b);
    a.compare(&mut b, &begun);
    a.take_ring(&[2, 3, 4], &[]);
    assert!(!a.replica.end_pull(begun.0).unwrap().unwrap().holder);
}

#[test]
fn after_a_drop_nothing_of_the_old_state_is_told_and_no_pull_of_it_ends() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    a.write("v");
    let (pull, state_id, nodes) = b.begin_pull(&mut a);
    assert!(a.replica.leaves(PARTITION, state_id, &nodes).is_some());
    a.take_ring(&[2, 3, 4], &[]);
    let seal = a.seal();
    a.confirmed(seal, &[2, 3, 4], &[2, 3, 4]);
    a.take_ring(&[1, 2, 3], &[2, 3, 4]);
    assert_eq!(a.replica.leaves(PARTITION, state_id, &nodes), None, "an empty replica that had seen all would delete all");
    assert!(a.replica.open_leaves(PARTITION, state_id, &[0]).is_none());
    b.replica.abandon_pull(pull);
}

#[test]
fn a_replica_that_found_damage_ends_no_pull_that_began_before() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    a.write("v");
    let dot = b.write("w").adds[0].1;
    let begun = a.begin_pull(&mut b);
    a.compare(&mut b, &begun);
    a.lose_rows();
    assert_eq!(a.replica.end_pull(begun.0).unwrap(), Err(Void));
    assert!(!a.replica.partition(PARTITION).causal.clock.contains(dot), "its row is lost, so it was not seen");
    assert_eq!(a.standing(), Standing::Extra);
}

#[test]
fn what_was_lost_is_taken_again_though_a_pull_from_before_had_judged_it() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    a.write("v");
    let lost = b.write("w");
    let begun = a.begin_pull(&mut b);
    a.compare(&mut b, &begun);
    a.lose_rows();
    assert_eq!((a.hear(&lost), a.rows()), (None, 1), "it would be seen and not live: deleted, and everywhere with the next pull from here");
}

#[test]
fn a_peer_whose_disk_fell_back_counts_for_reads_once_it_has_synced() {
    let mut a = Peer::new(1, &[1, 2, 3]);
    let dot = a.write("v").adds[0].1;
    let mut theirs = Causal::default();
    theirs.clock.insert(Dot { counter: dot.counter + 5, ..dot });
    a.replica.begin_pull(PARTITION, source(id(2)), 7, theirs, Digest(1), &[]).unwrap();
    assert_eq!(a.standing(), Standing::Extra, "what it had acknowledged after that may be at one other peer only");
    for (from, standing) in [(2, Standing::Extra), (3, Standing::Counted)] {
        a.replica.nothing_to_pull(PARTITION, source(id(from))).unwrap();
        assert_eq!(a.standing(), standing);
    }
}

#[test]
fn a_full_disk_takes_deletes_and_nothing_that_grows() {
    let disk = SimDisk::default();
    let mut replica = open(&disk, &SimClock::new(), 1);
    replica.take_roles(id(1), &ring(&[1, 2, 3]), &BTreeMap::new()).unwrap();
    let delta = Peer::new(2, &[1, 2, 3]).write("w");
    let received = |hint_for| Work::Receive(Sent { partition: PARTITION, delta: delta.clone(), hint_for });
    let delete =
        Work::Execute(Command { key: Bytes::from_static(b"key"), change: Change::Mutation(key::Mutation::Delete.into()), blind_for: None });
    let mut take = |work: &Work| match replica.apply(std::slice::from_ref(work)).unwrap().remove(0) {
        Outcome::Executed(executed) => executed.map(drop).map_err(|error| format!("{error:?}")),
        Outcome::Received(refused) => refused.map_or(Ok(()), |refused| Err(format!("{refused:?}"))),
    };
    assert_eq!(take(&set("v")), Ok(()));
    disk.set_faults(Faults { short: true, ..Faults::default() });
    assert_eq!(take(&set("x")), Err("NoRoom".to_owned()));
    assert_eq!(take(&received(None)), Err("Failed".to_owned()));
    assert_eq!(take(&received(Some(id(3)))), Err("Failed".to_owned()));
    assert_eq!(take(&delete), Ok(()));
    disk.set_faults(Faults::default());
    for work in [set("x"), received(None), received(Some(id(3)))] {
        assert_eq!(take(&work), Ok(()));
    }
    assert!(replica.view().load().shown.has_room);
}

#[test]
fn a_newcomer_counts_after_it_pulled_from_a_majority_of_the_holders_before() {
    let mut d = Peer::new(4, &[4]);
    d.take_ring(&[2, 3, 4], &[1, 2, 3]);
    for (from, standing) in [(5, Standing::Extra), (1, Standing::Extra), (1, Standing::Extra), (3, Standing::Counted)] {
        d.replica.nothing_to_pull(PARTITION, source(id(from))).unwrap();
        assert_eq!(d.standing(), standing);
    }
}

#[test]
fn a_first_sync_goes_on_after_a_restart() {
    let mut d = Peer::new(4, &[4]);
    d.take_ring(&[2, 3, 4], &[1, 2, 3]);
    d.replica.nothing_to_pull(PARTITION, source(id(1))).unwrap();
    d.disk.crash(Crash::Process);
    d.replica = open(&d.disk, &d.clock, 9);
    d.take_ring(&[2, 3, 4], &[]);
    assert_eq!(d.standing(), Standing::Extra);
    d.replica.nothing_to_pull(PARTITION, source(id(2))).unwrap();
    assert_eq!(d.standing(), Standing::Counted);
}

#[test]
fn a_newcomer_counts_only_pulls_from_who_sees_its_ring_and_awaits_whom_another_newcomer_awaits() {
    let blind = |peer: u8| Source { sees_ring: false, ..source(id(peer)) };
    let mut d = Peer::new(4, &[4]);
    d.take_ring(&[2, 3, 4], &[1, 2, 3]);
    let counts_writes = |peer: &Peer| peer.replica.partition(PARTITION).counts_writes();
    for peer in [1, 2, 3] {
        d.replica.nothing_to_pull(PARTITION, blind(peer)).unwrap();
    }
    assert!(d.standing() == Standing::Extra && !counts_writes(&d));
    let asked = BTreeSet::from([PARTITION]);
    d.replica.meet(d.id, id(1), &[], &BTreeSet::new());
    d.replica.meet(d.id, id(2), &[], &asked);
    assert!(!counts_writes(&d), "the first was not asked about this partition, and did not tell whom it awaits");
    // The second of them is a newcomer too, and has not heard a majority of those before it.
    let awaits = vec![(PARTITION, vec![vec![id(4), id(5), id(6), id(7)]])];
    d.replica.meet(d.id, id(3), &awaits, &asked);
    assert!(!counts_writes(&d));
    for peer in [2, 3] {
        d.replica.nothing_to_pull(PARTITION, source(id(peer))).unwrap();
    }
    assert_eq!(d.standing(), Standing::Extra);
    let offer = d.replica.pull_offer(PARTITION);
    assert_eq!(d.replica.awaits(&[offer])[0].1, [vec![id(1), id(2), id(3)], vec![id(5), id(6), id(7)]]);
    [1, 5].into_iter().for_each(|peer| d.replica.meet(d.id, id(peer), &[], &asked));
    assert!(!counts_writes(&d), "it does not count itself among those that it awaits");
    d.replica.meet(d.id, id(6), &[], &asked);
    assert!(counts_writes(&d) && d.standing() == Standing::Extra);
    for peer in [5, 6] {
        d.replica.nothing_to_pull(PARTITION, source(id(peer))).unwrap();
    }
    assert!(d.standing() == Standing::Counted && d.replica.awaits(&[offer]).is_empty());
}

#[test]
fn what_was_pulled_before_the_ring_changed_again_is_pulled_again() {
    let mut d = Peer::new(4, &[4]);
    d.take_ring(&[2, 3, 4], &[1, 2, 3]);
    d.replica.nothing_to_pull(PARTITION, source(id(1))).unwrap();
    // It was none of the holders for a moment, in which the others may have acknowledged something.
    d.take_ring(&[1, 2, 3], &[]);
    d.take_ring(&[2, 3, 4], &[1, 2, 3]);
    for (from, standing) in [(2, Standing::Extra), (1, Standing::Counted)] {
        d.replica.nothing_to_pull(PARTITION, source(id(from))).unwrap();
        assert_eq!(d.standing(), standing, "pulled from {from}");
    }
}

#[test]
fn where_former_holders_are_gone_for_good_as_many_others_are_needed_as_a_majority_may_have_left() {
    let mut d = Peer::new(6, &[6]);
    d.take_ring(&[1, 2, 6], &[1, 2, 3, 4, 5]);
    d.replica.forget_former(&[id(4), id(5)].into()).unwrap();
    for (peer, standing) in [(1, Standing::Extra), (7, Standing::Extra), (2, Standing::Extra), (3, Standing::Counted)] {
        d.replica.nothing_to_pull(PARTITION, source(id(peer))).unwrap();
        assert_eq!(d.standing(), standing, "after {peer}");
    }
    let mut e = Peer::new(6, &[6]);
    e.take_ring(&[1, 2, 6], &[1, 2, 3]);
    e.replica.forget_former(&[id(1), id(2), id(3)].into()).unwrap();
    assert_eq!(e.standing(), Standing::Counted, "there is nobody left to wait for");
}

#[test]
fn no_crash_leaves_a_new_member_list_without_the_first_sync_that_it_calls_for() {
    let former = BTreeMap::from([(PARTITION, BTreeSet::from([BTreeSet::from([id(1), id(2)])]))]);
    for kept in 0..3 {
        let mut d = Peer::new(4, &[4]);
        d.replica.sync().unwrap();
        d.replica.adopt_members(("members", b"1, 2, 4".to_vec()), d.id, &ring(&[1, 2, 4]), &former).unwrap();
        d.disk.crash(Crash::Midway(kept));
        d.replica = open(&d.disk, &d.clock, 9);
        let knows_members = d.replica.named("members").unwrap().is_some();
        assert_eq!(knows_members, d.replica.partition(PARTITION).first_sync.is_some());
    }
}

#[test]
fn a_pull_widens_the_clock_at_its_end_and_never_before() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    let superseded = b.write("old").adds[0].1;
    b.write("new");
    let seen = |peer: &Peer| peer.replica.partition(PARTITION).causal.clock.contains(superseded);
    let broken_off = a.begin_pull(&mut b);
    a.compare(&mut b, &broken_off);
    a.replica.abandon_pull(broken_off.0);
    assert!(!seen(&a));
    let mut c = Peer::new(3, &[1, 2, 3]);
    let begun = c.begin_pull(&mut b);
    assert!(matches!(c.replica.end_pull(begun.0).unwrap(), Err(Void)), "nothing was compared yet");
    assert!(!seen(&c));
    let begun = c.begin_pull(&mut b);
    c.compare(&mut b, &begun);
    assert!(!seen(&c));
    assert!(c.replica.end_pull(begun.0).unwrap().is_ok() && seen(&c));
}

#[test]
fn an_add_that_comes_after_its_row_was_compared_is_judged_as_if_the_pull_had_ended() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    let late = b.write("old");
    let new = b.write("new");
    let begun = a.begin_pull(&mut b);
    a.compare(&mut b, &begun);
    assert_eq!(a.hear(&late), None);
    let live = |peer: &Peer| {
        let page = peer.replica.view().load().read(
            &Bytes::from_static(b"key"),
            &ringtide::crdt::command::Selection::All,
            None,
            ringtide::types::Timestamp::default(),
        );
        page.unwrap().rows.get(&RowAddress::value(&Bytes::from_static(b"key"))).map(|row| row.keys().copied().collect::<Vec<_>>())
    };
    assert_eq!(live(&a), Some(vec![new.adds[0].1]));
}

#[test]
fn a_pull_begins_with_clock_and_digests_of_one_moment() {
    let (mut a, mut b) = (Peer::new(1, &[1, 2, 3]), Peer::new(2, &[1, 2, 3]));
    b.write("old");
    let offer = a.replica.pull_offer(PARTITION);
    let start = b.replica.pull_starts(&[offer]).remove(0).1;
    let dot = b.write("new").adds[0].1;
    let PullStart::Open { causal, root, .. } = start else { panic!("nothing to pull") };
    assert!(!causal.clock.contains(dot) && root != b.replica.pull_offer(PARTITION).1);
}

#[test]
fn dots_and_timestamps_go_on_after_all_that_was_lost() {
    let mut a = Peer::new(1, &[1, 2, 3]);
    a.replica.sync().unwrap();
    let mut last = a.write("v").adds.remove(0);
    for seed in 0..5 {
        // The journal falls back, the wall clock too; what left the machine is out there.
        assert!(a.disk.crash(Crash::Machine) > 0);
        a.clock.set_skew(-1_000 * i64::try_from(seed).unwrap());
        a.replica = open(&a.disk, &a.clock, seed);
        a.take_ring(&[1, 2, 3], &[]);
        let next = a.write("w").adds.remove(0);
        assert_eq!(next.1.actor, last.1.actor);
        assert!(next.1.counter > last.1.counter && next.2.timestamp > last.2.timestamp);
        last = next;
    }
}

#[test]
fn a_sealed_partition_is_sealed_again_after_a_restart_and_asks_for_new_confirmations() {
    let mut a = Peer::new(1, &[1, 2, 3]);
    a.write("v");
    a.take_ring(&[2, 3, 4], &[]);
    let seal = a.seal();
    a.confirmed(seal, &[2, 3], &[2, 3, 4]);
    a.disk.crash(Crash::Process);
    a.replica = open(&a.disk, &a.clock, 9);
    a.take_ring(&[2, 3, 4], &[]);
    a.confirmed(seal, &[4], &[2, 3, 4]);
    assert!(matches!(a.replica.partition(PARTITION).role, Role::Sealed { .. }));
    assert_eq!(a.rows(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_comes_too_late_is_joined_and_not_acknowledged() {
    let holders = [1, 2, 3];
    let execute = |peer: &mut Peer, mutation: ringtide::crdt::command::Mutation| {
        let command = Command { key: Bytes::from_static(b"key"), change: Change::Mutation(mutation), blind_for: None };
        match peer.replica.apply(&[Work::Execute(command)]).unwrap().remove(0) {
            Outcome::Executed(Ok(executed)) => executed.delta,
            other => panic!("not executed: {other:?}"),
        }
    };
    let field = || vec![Bytes::from_static(b"f")];
    let (at_ms, condition) = (i64::MAX >> 20, ExpireCondition::Always);
    let decisions =
        [key::Mutation::Expire { at_ms, condition }.into(), hash::Mutation::Expire { fields: field(), at_ms, condition }.into()];
    for decision in decisions {
        let (mut writer, mut in_time, mut late) = (Peer::new(1, &holders), Peer::new(2, &holders), Peer::new(3, &holders));
        let set = execute(&mut writer, hash::Mutation::Set(vec![(field().remove(0), Bytes::from_static(b"v"))]).into());
        let delta = execute(&mut writer, decision);
        assert_eq!((in_time.hear(&set), in_time.hear(&delta)), (None, None));
        tokio::time::sleep(EXPIRY_GRACE + Duration::from_millis(1)).await;
        assert_eq!((late.hear(&set), late.hear(&delta)), (None, Some(Refused::Late)), "{delta:?}");
        assert_eq!(late.rows(), in_time.rows());
    }
}
