//! Pulls in batches, replica against replica: what one step compares, where it ends, and what slips in between.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ringtide::anti_entropy::serve::Server;
use ringtide::config::{ANSWER_BYTES, Durability, STEP_ROWS};
use ringtide::crdt::command::Mutation;
use ringtide::crdt::delta::{Delta, RowAddress};
use ringtide::crdt::string::{SetCondition, SetExpiry};
use ringtide::crdt::{hash, key, set, string};
use ringtide::env::message::{PullStart, RangeContent, Refused, Reply, RowRange, Sent};
use ringtide::env::{Batch, Storage};
use ringtide::members::Members;
use ringtide::pace::Pace;
use ringtide::replica::comparing::{Incomplete, Told};
use ringtide::replica::execution::{Change, Command, Executed, NotExecuted, Outcome, Work};
use ringtide::replica::owner::{Outlet, Writer};
use ringtide::replica::pulling::{Begun, PullId, Source, Void};
use ringtide::replica::{Replica, layout, leaf};
use ringtide::ring::{Ring, RingMember};
use ringtide::sim::clock::SimClock;
use ringtide::sim::storage::SimDisk;
use ringtide::topology::Topology;
use ringtide::types::{LEAVES, Partition, PeerId, Place, key_hash};
use tokio::time::Instant;

const PARTITION: Partition = Partition(0);

/// A replica of the only partition, and its disk.
struct Side {
    peer: PeerId,
    disk: SimDisk,
    storage: Arc<dyn Storage>,
    replica: Replica,
}

/// Takes the results of a writer that nobody waits for.
struct Unheard;

impl Outlet<()> for Unheard {
    fn executed(&mut self, _: Vec<((), Result<Executed, NotExecuted>)>) {}
    fn received(&mut self, _: PeerId, _: u64, _: Vec<(u32, Refused)>) {}
    fn failed(&mut self, reason: &str) {
        panic!("{reason}");
    }
}

impl Side {
    fn new(number: u8) -> Self {
        Self::on(SimDisk::default(), number)
    }

    /// A replica that starts with what it finds on a disk.
    fn on(disk: SimDisk, number: u8) -> Self {
        let (peer, storage): (_, Arc<dyn Storage>) = (PeerId([number; 32]), disk.open());
        let mut replica = Replica::open(Arc::clone(&storage), Arc::new(SimClock::new()), 1, number.into()).unwrap();
        let ring = Ring::build(&[RingMember { peer, zone: None, capacity: 1 }], 1, 1);
        replica.take_roles(peer, &ring, &BTreeMap::new()).unwrap();
        Self { peer, disk, storage, replica }
    }

    fn execute(&mut self, key: &Bytes, mutation: impl Into<Mutation>) -> Delta {
        let command = Command { key: key.clone(), change: Change::Mutation(mutation.into()), blind_for: None };
        match self.replica.apply(&[Work::Execute(command)]).unwrap().remove(0) {
            Outcome::Executed(executed) => executed.unwrap().delta,
            Outcome::Received(_) => panic!("a command was executed"),
        }
    }

    fn set(&mut self, key: &Bytes, value: &[u8]) -> Delta {
        let (expiry, condition) = (SetExpiry::Clear, SetCondition::Always);
        self.execute(key, string::Mutation::Set { value: Bytes::copy_from_slice(value), expiry, condition, get: false })
    }

    fn receive(&mut self, delta: Delta) {
        let sent = Sent { partition: PARTITION, delta, hint_for: None };
        assert!(matches!(self.replica.apply(&[Work::Receive(sent)]).unwrap()[..], [Outcome::Received(None)]));
    }

    fn digest(&self) -> u128 {
        self.replica.partition(PARTITION).total.0
    }
}

/// A pull that has begun, with the leaves that differ.
struct Pulling {
    id: PullId,
    state_id: u64,
    leaves: Vec<u16>,
}

fn begin(here: &mut Side, there: &mut Side) -> Pulling {
    let offer = here.replica.pull_offer(PARTITION);
    let (_, start) = there.replica.pull_starts(&[offer]).remove(0);
    let PullStart::Open { state_id, causal, root, nodes, .. } = start else { panic!("nothing differs") };
    let Begun::Differs { pull, nodes } = here
        .replica
        .begin_pull(PARTITION, Source { peer: there.peer, began: Instant::now(), sees_ring: true }, state_id, *causal, root, &nodes)
        .unwrap()
    else {
        panic!("nothing differs")
    };
    let told = there.replica.leaves(PARTITION, state_id, &nodes).unwrap();
    let leaves = told.iter().flat_map(|(node, digests)| here.replica.compare_leaves(pull, *node, digests).unwrap()).collect();
    Pulling { id: pull, state_id, leaves }
}

/// What the other side tells of leaves, as many as it puts into one answer.
fn tell(there: &mut Side, pulling: &Pulling, leaves: &[u16]) -> Vec<Told> {
    let opened = there.replica.open_leaves(PARTITION, pulling.state_id, leaves).unwrap();
    let mut contents = Vec::new();
    while contents.len() < leaves.len() {
        contents.extend(leaf::tell_whole(&opened[contents.len()..], ANSWER_BYTES).unwrap().0);
    }
    let whole = leaves.iter().map(|leaf| RowRange { leaf: *leaf, from: None, until: None });
    whole.zip(contents).flat_map(|(range, content)| told(range, content)).collect()
}

fn told(range: RowRange, content: RangeContent) -> Vec<Told> {
    match content {
        RangeContent::Rows(rows) => vec![Told::rows((PARTITION, 1), range, rows).unwrap()],
        RangeContent::Listing(listing) => vec![Told::listing((PARTITION, 1), range, listing).unwrap()],
        RangeContent::Parts(parts) => {
            let mut from = None;
            let part = |(until, count, digest): (Option<Bytes>, u64, _)| {
                let from = std::mem::replace(&mut from, until.clone());
                Told::sum(RowRange { leaf: range.leaf, from, until }, count, digest)
            };
            parts.into_iter().map(part).collect()
        }
    }
}

/// Fetches missing contents, `most` bytes at a time.
fn fetch(there: &mut Side, pulling: &Pulling, incomplete: Vec<Incomplete>, most: usize) -> Vec<Told> {
    let fetched = incomplete.into_iter().map(|Incomplete { mut told, missing }| {
        let leaf = there.replica.open_leaves(PARTITION, pulling.state_id, &[told.leaf()]).unwrap().remove(0);
        let (answered, rows, _) = leaf.tell_rows(&missing, 1, most).unwrap();
        told.fetched(&missing[..usize::try_from(answered).unwrap()], 1, rows);
        told
    });
    fetched.collect()
}

/// Pulls to the end; answers with the rows that changed in each step.
fn pull(here: &mut Side, there: &mut Side, most: usize) -> Vec<u64> {
    let pulling = begin(here, there);
    let mut waiting = tell(there, &pulling, &pulling.leaves);
    let mut steps = Vec::new();
    while !waiting.is_empty() {
        let compared = here.replica.compare(pulling.id, waiting, STEP_ROWS).unwrap().unwrap();
        steps.push(compared.changed);
        waiting = compared.rest;
        for range in compared.unequal {
            let leaf = there.replica.open_leaves(PARTITION, pulling.state_id, &[range.leaf]).unwrap().remove(0);
            let content = leaf.tell(&range).unwrap().0;
            waiting.extend(told(range, content));
        }
        waiting.extend(fetch(there, &pulling, compared.incomplete, most));
    }
    here.replica.end_pull(pulling.id).unwrap().unwrap();
    steps
}

fn key(number: usize) -> Bytes {
    format!("key:{number}").into()
}

/// Members of one set, so rows of one leaf, in the order of their rows.
fn members(count: usize) -> Vec<Bytes> {
    (0..count).map(|number| format!("member:{number:06}").into()).collect()
}

#[tokio::test(start_paused = true)]
async fn many_leaves_are_compared_in_one_step_and_one_commit() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    for number in 0..400 {
        there.set(&key(number), b"value");
    }
    let before = here.disk.unsynced();
    assert_eq!(pull(&mut here, &mut there, ANSWER_BYTES), vec![400]);
    assert_eq!(here.digest(), there.digest());
    // The clock holds every dot by then, so the end has nothing to write.
    assert_eq!(here.disk.unsynced() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_ends_after_so_many_rows_and_the_next_goes_on_where_it_ended() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    for chunk in (0..3000).collect::<Vec<_>>().chunks(100) {
        for number in chunk {
            there.set(&key(*number), b"value");
        }
    }
    let steps = pull(&mut here, &mut there, ANSWER_BYTES);
    assert!(steps.len() >= 3 && steps.iter().all(|changed| *changed <= STEP_ROWS as u64), "{steps:?}");
    assert_eq!((steps.iter().sum::<u64>(), here.digest()), (3000, there.digest()));
}

#[tokio::test(start_paused = true)]
async fn long_values_end_a_step_earlier() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    for number in 0..300 {
        there.set(&key(number), &[7; 16 * 1024]);
    }
    let steps = pull(&mut here, &mut there, ANSWER_BYTES);
    assert!(steps.iter().all(|changed| *changed <= 80), "{steps:?}");
    assert_eq!(here.digest(), there.digest());
}

#[tokio::test(start_paused = true)]
async fn a_large_set_is_taken_part_by_part_and_given_up_step_by_step() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    let set = Bytes::from_static(b"set");
    let all = members(4000);
    let delta = there.execute(&set, set::Mutation::Add(all.clone()));
    // Contents come a few at a time: each answer cuts the range behind its last row.
    pull(&mut here, &mut there, 2000);
    assert_eq!(here.digest(), there.digest());
    // A third has had it as well, and hears of the removal by a pull alone.
    let mut third = Side::new(3);
    third.receive(delta);
    there.execute(&set, key::Mutation::Delete);
    let steps = pull(&mut third, &mut there, ANSWER_BYTES);
    assert!(steps.len() >= 4 && steps.iter().all(|changed| *changed <= STEP_ROWS as u64), "{steps:?}");
    assert_eq!((third.digest(), there.digest()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_listed_row_that_differs_here_is_fetched_and_one_that_is_equal_is_not() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    for number in 1..=2 {
        here.receive(there.set(&key(number), &[1; 3000]));
    }
    there.set(&key(1), &[2; 3000]);
    assert_ne!(here.digest(), there.digest());
    assert_eq!(pull(&mut here, &mut there, ANSWER_BYTES), vec![0, 1]);
    assert_eq!(here.digest(), there.digest());
}

#[tokio::test(start_paused = true)]
async fn what_comes_late_is_judged_by_whether_its_row_was_compared_before_the_cut() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    let set = Bytes::from_static(b"set");
    let mut all = members(STEP_ROWS + 200);
    // In the order in which they lie.
    all.sort_by_key(|member| key_hash(member));
    let (early, late) = (all[10].clone(), all[STEP_ROWS + 100].clone());
    // Two adds that the other replica has superseded, and that are still on their way here.
    let (add_early, add_late) =
        (there.execute(&set, set::Mutation::Add(vec![early])), there.execute(&set, set::Mutation::Add(vec![late.clone()])));
    there.execute(&set, key::Mutation::Delete);
    // Rows enough that one step does not reach the end of the leaf.
    let mut third = Side::new(3);
    let everything = third.execute(
        &set,
        set::Mutation::Add(all.iter().enumerate().filter(|(n, _)| *n != 10 && *n != STEP_ROWS + 100).map(|(_, m)| m.clone()).collect()),
    );
    here.receive(everything);
    let pulling = begin(&mut here, &mut there);
    let told = tell(&mut there, &pulling, &pulling.leaves);
    let compared = here.replica.compare(pulling.id, told, STEP_ROWS).unwrap().unwrap();
    assert_eq!(compared.rest.len(), 1, "the step ends within the leaf");
    let before = here.digest();
    here.receive(add_early);
    assert_eq!(here.digest(), before, "an add behind the cut was taken");
    here.receive(add_late);
    assert_ne!(here.digest(), before, "an add before the cut was not taken");
    assert_eq!(here.replica.end_pull(pulling.id).unwrap(), Err(Void), "a pull that is not complete must not take the clock over");

    // The same once more, to the end: the row is compared now and the add found superseded.
    pull(&mut here, &mut there, ANSWER_BYTES);
    assert_eq!(here.digest(), before);
}

#[tokio::test(start_paused = true)]
async fn a_row_with_decisions_comes_with_all_that_was_seen_of_it_when_it_was_read() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    let (hash, fields) = (Bytes::from_static(b"hash"), || vec![Bytes::from_static(b"f")]);
    let end = |at_ms| hash::Mutation::Expire { fields: fields(), at_ms, condition: key::ExpireCondition::Always };
    there.execute(&hash, hash::Mutation::Set(vec![(fields().remove(0), Bytes::from_static(b"v"))]));
    let pulling = begin(&mut here, &mut there);
    // Taken and replaced since the pull began, and still on its way here.
    let late = there.execute(&hash, end(i64::MAX >> 20));
    there.execute(&hash, hash::Mutation::Persist(fields()));
    let told = tell(&mut there, &pulling, &pulling.leaves);
    here.replica.compare(pulling.id, told, STEP_ROWS).unwrap().unwrap();
    assert_eq!(here.digest(), there.digest());
    here.receive(late);
    assert_eq!(here.digest(), there.digest(), "a decision is back that the other replica had seen go");
}

#[tokio::test(start_paused = true)]
async fn rows_outside_of_the_range_that_was_asked_for_are_refused() {
    let mut there = Side::new(2);
    there.set(&key(1), b"value");
    let leaf = u16::try_from(Place::of(&key(1), 1).leaf()).unwrap();
    let opened = there.replica.open_leaves(PARTITION, there.replica.partition(PARTITION).state_id, &[leaf]).unwrap();
    let Ok((contents, _)) = leaf::tell_whole(&opened, ANSWER_BYTES) else { panic!("the leaf is whole") };
    let [RangeContent::Rows(rows)] = &contents[..] else { panic!("one row is told as it is") };
    let range = |leaf| RowRange { leaf, from: None, until: None };
    assert!(Told::rows((PARTITION, 1), range(leaf), rows.clone()).is_ok());
    assert!(Told::rows((PARTITION, 1), range((leaf + 1) % 1024), rows.clone()).is_err());
    assert!(Told::rows((Partition(1), 2), range(leaf), rows.clone()).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_leaf_whose_rows_are_gone_is_not_told_and_neither_are_those_read_in_the_same_pass() {
    let mut there = Side::new(2);
    for number in 0..400 {
        there.set(&key(number), b"value");
    }
    let all: Vec<u16> = (0..u16::try_from(LEAVES).unwrap()).collect();
    let state_id = there.replica.partition(PARTITION).state_id;
    let opened = there.replica.open_leaves(PARTITION, state_id, &all).unwrap();
    assert_eq!(leaf::tell_whole(&opened, usize::MAX).unwrap().0.len(), LEAVES);
    // A little room ends the pass behind a leaf, and what is told is told in full.
    let (some, _) = leaf::tell_whole(&opened, 1000).unwrap();
    assert!(!some.is_empty() && some.len() < LEAVES);
    let lost = Place::of(&key(7), 1);
    let mut batch = Batch::default();
    batch.delete(layout::row_key(lost, &RowAddress::value(&key(7))));
    there.storage.commit(batch).unwrap();
    let mut there = Side::on(there.disk.clone(), 2);
    let state_id = there.replica.partition(PARTITION).state_id;
    let opened = there.replica.open_leaves(PARTITION, state_id, &all).unwrap();
    assert!(leaf::tell_whole(&opened, usize::MAX).is_err());
    let from = |leaf: usize| &opened[leaf..];
    assert_eq!(leaf::tell_whole(from(lost.leaf() + 1), usize::MAX).unwrap().0.len(), LEAVES - 1 - lost.leaf());
}

#[tokio::test(start_paused = true)]
async fn a_second_pull_is_told_in_parts_of_what_was_written_since_the_first() {
    let mut there = Side::new(2);
    let set = Bytes::from_static(b"set");
    there.execute(&set, set::Mutation::Add(members(400)));
    let state_id = there.replica.partition(PARTITION).state_id;
    let leaf = u16::try_from(Place::of(&set, 1).leaf()).unwrap();
    let writer = Writer::start(there.replica, Durability::System, &there.storage, Unheard);
    let server = Server::new(Topology::new(there.peer, 1, 1, Members::default()), writer.clone(), Pace::default());
    let asker = PeerId([1; 32]);
    let tell = async |range| match server.ranges(asker, PARTITION, state_id, vec![range]).await {
        Reply::Ranges(mut contents) => contents.remove(0),
        other => panic!("{other:?}"),
    };
    let whole = RowRange { leaf, from: None, until: None };
    assert!(matches!(tell(whole.clone()).await, RangeContent::Parts(_)));
    let added = Bytes::from_static(b"member:000200:added");
    let command = Command { key: set.clone(), change: Change::Mutation(set::Mutation::Add(vec![added.clone()]).into()), blind_for: None };
    writer.step(move |replica| replica.apply(&[Work::Execute(command)]).map(drop)).await.unwrap();

    let RangeContent::Parts(parts) = tell(whole).await else { panic!("a large leaf is told in parts") };
    let (mut from, mut found) = (None, Vec::new());
    for (until, _, _) in parts {
        match tell(RowRange { leaf, from, until: until.clone() }).await {
            RangeContent::Rows(rows) => found.extend(rows.rows.into_keys()),
            RangeContent::Listing(listing) => found.extend(listing.into_iter().map(|(address, _)| address)),
            RangeContent::Parts(_) => panic!("a part of a few rows is not told in parts"),
        }
        from = until;
    }
    assert_eq!(found.len(), 401);
    assert!(found.contains(&RowAddress::member(&set, &added)));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_anew_finds_clocks_trees_and_numbers_of_keys_as_they_were() {
    let (mut here, mut there) = (Side::new(1), Side::new(2));
    let set = Bytes::from_static(b"set");
    let delta = there.execute(&set, set::Mutation::Add(members(3)));
    // What a removal has seen and the add has not brought yet stays pending here.
    here.receive(there.execute(&set, key::Mutation::Delete));
    for number in 0..20 {
        here.set(&key(number), b"value");
        there.set(&key(number + 10), b"value");
    }
    here.execute(&key(3), key::Mutation::Delete);
    here.receive(delta);
    pull(&mut here, &mut there, ANSWER_BYTES);
    here.set(&key(50), b"value");
    let state = here.replica.partition(PARTITION);
    let (causal, total, keys) = (Arc::clone(&state.causal), state.total, state.keys);
    let again = Side::on(here.disk.clone(), 1);
    let state = again.replica.partition(PARTITION);
    assert_eq!((&state.causal, state.total, state.keys, state.tree.total()), (&causal, total, keys, total));
    assert_eq!(state.keys, 30);
}
