//! Time passes, or clocks tell it wrong: a peer that was away for years, and clocks that are off by less and by more than peers allow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::time::Duration;

use bytes::Bytes;
use ringtide::config::{Durability, MAX_DRIFT};
use ringtide::crdt::command::Answer;
use ringtide::crdt::key;
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::node::{Node, OperationError, PeerState};
use ringtide::sim::cluster::SimCluster;
use ringtide::sim::storage::Crash;
use ringtide::types::Level;
use tokio::time::{advance, sleep};

const PATIENCE: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(60 * 60);
const KEYS: i64 = 1_200;

async fn cluster(seed: u64) -> SimCluster {
    let cluster = SimCluster::start(3, 3, seed, Durability::System).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    cluster
}

fn node(cluster: &SimCluster, index: usize) -> Node {
    cluster.peers[index].node.clone().unwrap()
}

fn key_of(number: i64) -> Bytes {
    Bytes::from(format!("key {number}"))
}

fn set_until(value: &'static str, expiry: SetExpiry) -> Mutation {
    Mutation::Set { value: value.into(), expiry, condition: SetCondition::Always, get: false }
}

fn set(value: &'static str) -> Mutation {
    set_until(value, SetExpiry::Clear)
}

async fn write(node: &Node, level: Level, number: i64, mutation: Mutation) {
    node.write(level, key_of(number), mutation).await.unwrap();
}

async fn shown(node: &Node, level: Level, number: i64) -> Answer {
    node.read(level, key_of(number), Query::Get).await.unwrap()
}

/// Cuts the last peer off from the others, and waits until both sides have noticed.
async fn cut_off(cluster: &SimCluster) {
    let away = cluster.peers[2].id;
    for index in 0..2 {
        cluster.network.cut(cluster.peers[index].id, away);
        cluster.network.cut(away, cluster.peers[index].id);
    }
    let sees_up = |node: &Node| node.peers().iter().filter(|peer| peer.state == PeerState::Up).count();
    while sees_up(&node(cluster, 2)) > 1
        || sees_up(&node(cluster, 0)) > 2
        || node(cluster, 0).status().up > 2
        || node(cluster, 2).status().up > 1
    {
        sleep(Duration::from_secs(1)).await;
    }
}

/// What becomes of a key, by its number: what the side of two does, what the other does, and what must show in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    DeletedHere,
    OverwrittenHere,
    ExpiredHere,
    DeletedThere,
    OverwrittenThere,
    CountedThereDeletedHere,
}

impl Fate {
    fn of(number: i64) -> Self {
        use Fate::{CountedThereDeletedHere, DeletedHere, DeletedThere, ExpiredHere, OverwrittenHere, OverwrittenThere};
        let fates = [DeletedHere, OverwrittenHere, ExpiredHere, DeletedThere, OverwrittenThere, CountedThereDeletedHere];
        fates[usize::try_from(number).unwrap() % fates.len()]
    }

    fn end(self) -> Answer {
        match self {
            Self::DeletedHere | Self::ExpiredHere | Self::DeletedThere => Answer::Nil,
            Self::OverwrittenHere => Answer::Bytes("here".into()),
            Self::OverwrittenThere => Answer::Bytes("there".into()),
            // The delete has reset what it had seen.
            Self::CountedThereDeletedHere => Answer::Bytes("7".into()),
        }
    }
}

/// A peer is cut off while much is deleted, overwritten and expires, and takes writes of its own; then it is off for so long.
async fn be_away(hours: u32, years: u32) {
    let mut cluster = cluster(u64::from(hours)).await;
    let (here, there) = (node(&cluster, 0), node(&cluster, 2));
    for number in 0..KEYS {
        let mutation = if Fate::of(number) == Fate::CountedThereDeletedHere { Mutation::Increment(100) } else { set("old") };
        write(&here, Level::All, number, mutation).await;
    }
    cut_off(&cluster).await;
    let soon = i64::try_from(here.now_ms()).unwrap() + 600_000;
    for number in 0..KEYS {
        let one = [&here, &node(&cluster, 1)][usize::try_from(number).unwrap() / 6 % 2].clone();
        match Fate::of(number) {
            Fate::DeletedHere => drop(one.write(Level::Quorum, key_of(number), key::Mutation::Delete).await.unwrap()),
            Fate::OverwrittenHere => write(&one, Level::Quorum, number, set("here")).await,
            Fate::ExpiredHere => write(&one, Level::Quorum, number, set_until("ends", SetExpiry::At(soon))).await,
            Fate::DeletedThere => drop(there.write(Level::Sloppy, key_of(number), key::Mutation::Delete).await.unwrap()),
            Fate::OverwrittenThere => write(&there, Level::Sloppy, number, set("there")).await,
            Fate::CountedThereDeletedHere => {
                one.write(Level::Quorum, key_of(number), key::Mutation::Delete).await.unwrap();
                write(&there, Level::Sloppy, number, Mutation::Increment(7)).await;
            }
        }
    }
    drop((here, there));
    cluster.crash(2, Crash::Process);
    sleep(HOUR * hours).await;
    // For years nothing runs at all.
    cluster.crash(0, Crash::Process);
    cluster.crash(1, Crash::Process);
    advance(HOUR * 24 * 365 * years).await;
    cluster.network.heal();
    cluster.restart(0).await.unwrap();
    cluster.restart(1).await.unwrap();
    sleep(HOUR / 6).await;
    cluster.restart(2).await.unwrap();
    cluster.converge(PATIENCE).await.unwrap();
    for index in 0..3 {
        let node = node(&cluster, index);
        for number in 0..KEYS {
            assert_eq!(shown(&node, Level::Local, number).await, Fate::of(number).end(), "{number}, {:?}, at {index}", Fate::of(number));
        }
    }
    // And it stays so, and every key can be written.
    sleep(HOUR / 6).await;
    cluster.converge(PATIENCE).await.unwrap();
    for number in 0..KEYS / 10 {
        assert_eq!(shown(&node(&cluster, 1), Level::Quorum, number).await, Fate::of(number).end());
        write(&node(&cluster, 2), Level::Quorum, number, set("new")).await;
        assert_eq!(shown(&node(&cluster, 0), Level::Quorum, number).await, Answer::Bytes("new".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_away_for_an_hour_brings_its_own_writes_and_nothing_that_was_deleted() {
    be_away(1, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_was_away_for_years_brings_its_own_writes_and_nothing_that_was_deleted() {
    be_away(0, 3).await;
}

#[tokio::test(start_paused = true)]
async fn with_clocks_that_are_off_by_what_is_allowed_the_later_write_and_the_delete_win() {
    let cluster = cluster(5).await;
    let most = i64::try_from(MAX_DRIFT.as_millis()).unwrap() - 1_000;
    // One peer is ahead of the others by all that is allowed, then right, then behind, then ahead again.
    for (round, skew_ms) in (0..).zip([most, 0, -most, most / 2]) {
        // What was stamped by the fast clock is past for the slow one, too.
        sleep(3 * MAX_DRIFT).await;
        cluster.peers[0].clock.set_skew(skew_ms);
        for number in 0..20 {
            let number = round * 20 + number;
            // Whoever writes later has the slower clock, and still its write is the later one.
            write(&node(&cluster, 0), Level::All, number, set("first")).await;
            write(&node(&cluster, 1), Level::All, number, set("second")).await;
            assert_eq!(shown(&node(&cluster, 2), Level::All, number).await, Answer::Bytes("second".into()));
            write(&node(&cluster, 0), Level::All, number, set("third")).await;
            node(&cluster, 2).write(Level::All, key_of(number), key::Mutation::Delete).await.unwrap();
            for index in 0..3 {
                assert_eq!(shown(&node(&cluster, index), Level::All, number).await, Answer::Nil, "skew {skew_ms} ms");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_whose_clock_is_too_far_ahead_is_not_believed_and_the_others_go_on() {
    let cluster = cluster(6).await;
    for (round, ahead) in (0..).zip([MAX_DRIFT + Duration::from_millis(1_000), HOUR, HOUR * 24 * 365]) {
        cluster.peers[0].clock.set_skew(i64::try_from(ahead.as_millis()).unwrap());
        let number = round;
        write(&node(&cluster, 1), Level::Quorum, number, set("before")).await;
        let refused = node(&cluster, 0).write(Level::Quorum, key_of(number), set("from the future")).await;
        assert!(matches!(refused, Err(OperationError::NoQuorum { .. })), "{refused:?}");
        for index in 1..3 {
            assert_eq!(shown(&node(&cluster, index), Level::Local, number).await, Answer::Bytes("before".into()), "nobody has stored it");
        }
        // The others write on, and do not hear on it when they read.
        write(&node(&cluster, 1), Level::Quorum, number, set("after")).await;
        for index in 1..3 {
            assert_eq!(shown(&node(&cluster, index), Level::Local, number).await, Answer::Bytes("after".into()));
            assert_eq!(shown(&node(&cluster, index), Level::Quorum, number).await, Answer::Bytes("after".into()));
        }
        // Once its clock is right, its clients write too, and are believed.
        cluster.peers[0].clock.set_skew(0);
        write(&node(&cluster, 0), Level::Quorum, number, set("in time")).await;
        write(&node(&cluster, 0), Level::Quorum, number + 10, set("in time")).await;
        for index in 1..3 {
            assert_eq!(shown(&node(&cluster, index), Level::Quorum, number).await, Answer::Bytes("in time".into()));
            assert_eq!(shown(&node(&cluster, index), Level::Quorum, number + 10).await, Answer::Bytes("in time".into()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_at_a_peer_whose_clock_is_off_is_carried_out_by_others() {
    let cluster = cluster(7).await;
    let hour = i64::try_from(HOUR.as_millis()).unwrap();
    for (round, skew_ms) in (0..).zip([hour, -hour, 365 * 24 * hour, -365 * 24 * hour]) {
        cluster.peers[0].clock.set_skew(skew_ms);
        sleep(Duration::from_secs(3)).await;
        let off_ms = node(&cluster, 0).status().clock_ahead_ms;
        assert!((off_ms - skew_ms).abs() < 1_000, "{off_ms} instead of {skew_ms}");
        assert_eq!([1, 2].map(|index| node(&cluster, index).status().clock_ahead_ms), [0, 0], "a majority is right");
        for number in 0..20 {
            let number = round * 20 + number;
            // At the peer itself, and at one that would have it carry out every third.
            for (index, level) in [(0, Level::Quorum), (0, Level::Sloppy), (1, Level::Quorum)] {
                write(&node(&cluster, index), level, number, set("written")).await;
            }
            for index in 1..3 {
                assert_eq!(
                    shown(&node(&cluster, index), Level::Quorum, number).await,
                    Answer::Bytes("written".into()),
                    "skew {skew_ms} ms"
                );
            }
        }
        cluster.peers[0].clock.set_skew(0);
        sleep(Duration::from_secs(3)).await;
        assert_eq!(node(&cluster, 0).status().clock_ahead_ms, 0);
        cluster.converge(Duration::from_secs(120)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_stamped_by_a_clock_far_ahead_holds_up_nothing_beside_it() {
    let cluster = cluster(8).await;
    cut_off(&cluster).await;
    for number in 0..20 {
        write(&node(&cluster, 2), Level::Local, number, set("in time")).await;
    }
    cluster.peers[2].clock.set_skew(i64::try_from(HOUR.as_millis()).unwrap());
    for number in 20..40 {
        write(&node(&cluster, 2), Level::Local, number, set("from the future")).await;
    }
    cluster.peers[2].clock.set_skew(0);
    cluster.network.heal();
    for (pause, number, value) in [
        (2 * MAX_DRIFT, 0, Answer::Bytes("in time".into())),
        (Duration::ZERO, 20, Answer::Nil),
        (HOUR, 20, Answer::Bytes("from the future".into())),
    ] {
        sleep(pause).await;
        for number in number..number + 20 {
            for index in (0..3).filter(|index| *index != 2) {
                assert_eq!(shown(&node(&cluster, index), Level::Local, number).await, value);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_whose_clock_is_behind_is_a_newcomer_still() {
    for years in [1, 56] {
        let mut cluster = SimCluster::start(4, 3, 8, Durability::System).await.unwrap();
        cluster.converge(PATIENCE).await.unwrap();
        // One of the three misses what the other two acknowledge.
        for other in [0, 2] {
            cluster.network.cut(cluster.peers[1].id, cluster.peers[other].id);
            cluster.network.cut(cluster.peers[other].id, cluster.peers[1].id);
        }
        sleep(Duration::from_secs(20)).await;
        for number in 0..100 {
            write(&node(&cluster, 0), Level::Quorum, number, set("acknowledged")).await;
        }
        // By its clock the fourth was there before everybody else.
        cluster.peers[3].clock.set_skew(-years * 365 * 24 * i64::try_from(HOUR.as_millis()).unwrap());
        cluster.join_next().await.unwrap();
        sleep(Duration::from_secs(60)).await;
        let mut found = 0;
        for (index, number) in (0..4).flat_map(|index| (0..100).map(move |number| (index, number))) {
            match node(&cluster, index).read(Level::Quorum, key_of(number), Query::Get).await {
                Ok(answer) => assert_eq!(answer, Answer::Bytes("acknowledged".into()), "{number} at {index}"),
                Err(_) => continue,
            }
            found += 1;
        }
        assert!(found > 0);
        cluster.network.heal();
        cluster.peers[3].clock.set_skew(0);
        cluster.converge(PATIENCE).await.unwrap();
        for (index, number) in (0..4).flat_map(|index| (0..100).map(move |number| (index, number))) {
            assert_eq!(shown(&node(&cluster, index), Level::Quorum, number).await, Answer::Bytes("acknowledged".into()));
        }
    }
}
