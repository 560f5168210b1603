//! What it costs to change one small element of a collection, by how many elements the collection has: three real peers over loopback in one process.
//!
//! `cargo run --release --example big_collections [elements] [changes]` (1,000,000 and 300 by default)
//!
//! For each kind of change it tells the latency at the default level, median and 99th percentile, and what the peer that executes it sends to the
//! replicas. Both are to be about the same in a collection of ten elements and in a great one.

use std::time::Duration;

use bytes::Bytes;
use ringtide::crdt::command::Mutation;
use ringtide::crdt::list::Side;
use ringtide::crdt::sorted_set::{AddCondition, Order, Score};
use ringtide::crdt::{hash, list, set, sorted_set};
use ringtide::embed::{Multiaddr, Peer, Settings};
use ringtide::types::Level;
use tokio::time::{Instant, sleep};

type Failure = Box<dyn std::error::Error>;

/// The small collection that a great one is compared with.
const SMALL: usize = 10;
/// Elements that one command brings while a collection is made.
const AT_ONCE: usize = 1000;
/// Such commands that are under way at the same time.
const COMMANDS: usize = 8;

/// One kind of change: the command of the turn `n`, and what makes up for it afterwards.
struct Change {
    name: &'static str,
    key: &'static str,
    command: fn(usize) -> Mutation,
    undo: Option<fn(usize) -> Mutation>,
}

/// What a kind of change costs.
struct Cost {
    median: Duration,
    high: Duration,
    bytes: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let elements = arguments.next().transpose()?.unwrap_or(1_000_000);
    let turns = arguments.next().transpose()?.unwrap_or(300);
    let folder = tempfile::tempdir()?;
    let mut peers: Vec<Peer> = Vec::new();
    for name in ["one", "two", "three"] {
        let mut settings = Settings::new(folder.path().join(name));
        settings.bootstrap =
            peers.iter().take(1).flat_map(Peer::addresses).map(|address| address.parse()).collect::<Result<Vec<Multiaddr>, _>>()?;
        // What is measured is a change, not the exchanges that run beside it.
        settings.node.anti_entropy_interval = Duration::from_secs(3600);
        peers.push(Peer::start(settings).await?);
    }
    while peers.iter().any(|peer| peer.node().status().up < 3 || peer.node().status().syncing > 0) {
        sleep(Duration::from_millis(20)).await;
    }
    let peer = &peers[0];
    for (name, size) in [("small", SMALL), ("great", elements)] {
        for (kind, make) in [("hash", fields as fn(_) -> _), ("set", members), ("zset", scores), ("list", items)] {
            let started = Instant::now();
            load(peer, &format!("{name}:{kind}"), size, make).await?;
            println!("{kind} of {size} elements made: {:.2} s", started.elapsed().as_secs_f64());
        }
    }
    println!("\n{:<22} {:>24} {:>24} {:>8}   bytes to replicas", "", "10 elements, us", format!("{elements} elements, us"), "times");
    println!("{:<22} {:>12} {:>11} {:>12} {:>11}", "", "median", "99th", "median", "99th");
    for change in CHANGES {
        let small = measure(peer, "small", &change, turns).await?;
        let great = measure(peer, "great", &change, turns).await?;
        let times = great.median.as_secs_f64() / small.median.as_secs_f64();
        println!(
            "{:<22} {:>12} {:>11} {:>12} {:>11} {:>8.2}   {} / {}",
            change.name,
            small.median.as_micros(),
            small.high.as_micros(),
            great.median.as_micros(),
            great.high.as_micros(),
            times,
            small.bytes,
            great.bytes
        );
    }
    for peer in peers {
        peer.stop().await;
    }
    Ok(())
}

fn name(number: usize) -> Bytes {
    format!("element:{number:08}").into()
}

fn fields(numbers: std::ops::Range<usize>) -> Mutation {
    hash::Mutation::Set(numbers.map(|number| (name(number), Bytes::from_static(b"1"))).collect()).into()
}

fn members(numbers: std::ops::Range<usize>) -> Mutation {
    set::Mutation::Add(numbers.map(name).collect()).into()
}

fn scores(numbers: std::ops::Range<usize>) -> Mutation {
    let members = numbers.map(|number| (name(number), Score::new(f64::from(u32::try_from(number).unwrap_or(u32::MAX))))).collect();
    sorted_set::Mutation::Add { members, condition: AddCondition::default(), changed: false }.into()
}

fn items(numbers: std::ops::Range<usize>) -> Mutation {
    list::Mutation::Push { side: Side::Right, items: numbers.map(name).collect(), only_existing: false }.into()
}

async fn load(peer: &Peer, key: &str, size: usize, make: fn(std::ops::Range<usize>) -> Mutation) -> Result<(), Failure> {
    let parts: Vec<_> = (0..size).step_by(AT_ONCE).map(|first| first..(first + AT_ONCE).min(size)).collect();
    for parts in parts.chunks(COMMANDS) {
        let writes = parts.iter().map(|part| peer.node().write(Level::Sloppy, key.to_owned().into(), make(part.clone())));
        futures::future::try_join_all(writes).await?;
    }
    Ok(())
}

async fn measure(peer: &Peer, name: &str, change: &Change, turns: usize) -> Result<Cost, Failure> {
    let key = Bytes::from(format!("{name}:{}", change.key));
    let mut latencies = Vec::with_capacity(turns);
    let mut bytes = 0;
    for turn in 0..turns {
        let sent = peer.node().traffic().0;
        let started = Instant::now();
        peer.node().write(Level::Sloppy, key.clone(), (change.command)(turn)).await?;
        latencies.push(started.elapsed());
        bytes += peer.node().traffic().0 - sent;
        if let Some(undo) = change.undo {
            peer.node().write(Level::Sloppy, key.clone(), undo(turn)).await?;
        }
    }
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
    Ok(Cost { median: at(50), high: at(99), bytes: bytes / (turns.max(1) as u64) })
}

/// An element that every collection has.
fn known(turn: usize) -> usize {
    turn % SMALL
}

/// An element that none has.
fn new(turn: usize) -> std::ops::Range<usize> {
    let number = 50_000_000 + turn;
    number..number + 1
}

fn known_range(turn: usize) -> std::ops::Range<usize> {
    known(turn)..known(turn) + 1
}

const CHANGES: [Change; 16] = [
    Change { name: "HSET, changed", key: "hash", command: |n| fields(known_range(n)), undo: None },
    Change {
        name: "HSET, new",
        key: "hash",
        command: |n| fields(new(n)),
        undo: Some(|n| hash::Mutation::Remove(vec![name(new(n).start)]).into()),
    },
    Change {
        name: "HDEL",
        key: "hash",
        command: |n| hash::Mutation::Remove(vec![name(known(n))]).into(),
        undo: Some(|n| fields(known_range(n))),
    },
    Change { name: "HINCRBY", key: "hash", command: |n| hash::Mutation::Increment { field: name(known(n)), amount: 1 }.into(), undo: None },
    Change {
        name: "SADD",
        key: "set",
        command: |n| members(new(n)),
        undo: Some(|n| set::Mutation::Remove(vec![name(new(n).start)]).into()),
    },
    Change {
        name: "SREM",
        key: "set",
        command: |n| set::Mutation::Remove(vec![name(known(n))]).into(),
        undo: Some(|n| members(known_range(n))),
    },
    Change {
        name: "SPOP",
        key: "set",
        command: |n| set::Mutation::Pop { count: 1, seed: n as u64 }.into(),
        // Whichever it was: of the small one all are there again, of the great one it makes no difference.
        undo: Some(|_| members(0..SMALL)),
    },
    Change { name: "ZADD, changed", key: "zset", command: |n| scores(known_range(n)), undo: None },
    Change {
        name: "ZADD, new",
        key: "zset",
        command: |n| scores(new(n)),
        undo: Some(|n| sorted_set::Mutation::Remove(vec![name(new(n).start)]).into()),
    },
    Change {
        name: "ZREM",
        key: "zset",
        command: |n| sorted_set::Mutation::Remove(vec![name(known(n))]).into(),
        undo: Some(|n| scores(known_range(n))),
    },
    Change {
        name: "ZPOPMIN",
        key: "zset",
        command: |_| sorted_set::Mutation::Pop { count: 1, order: Order::Ascending }.into(),
        undo: Some(|_| scores(0..SMALL)),
    },
    // Last of its kind: what was counted up and overwritten leaves traces for some minutes, which a removal would have to tell.
    Change {
        name: "ZINCRBY",
        key: "zset",
        command: |n| {
            let (member, amount) = (name(known(n)), Score::new(1.0));
            sorted_set::Mutation::Increment { member, amount, condition: AddCondition::default() }.into()
        },
        undo: Some(|n| scores(known_range(n))),
    },
    Change {
        name: "RPUSH",
        key: "list",
        command: |n| items(new(n)),
        undo: Some(|_| list::Mutation::Pop { side: Side::Right, count: 1 }.into()),
    },
    Change {
        name: "LPOP",
        key: "list",
        command: |_| list::Mutation::Pop { side: Side::Left, count: 1 }.into(),
        undo: Some(|n| list::Mutation::Push { side: Side::Left, items: vec![name(n)], only_existing: false }.into()),
    },
    Change { name: "LSET at the front", key: "list", command: |n| list::Mutation::Set { index: 0, value: name(n) }.into(), undo: None },
    Change { name: "LSET at the back", key: "list", command: |n| list::Mutation::Set { index: -1, value: name(n) }.into(), undo: None },
];
