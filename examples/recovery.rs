//! How a cluster of real peers over loopback comes back, and what clients feel meanwhile:
//!
//! - the time from the return of a peer until all replicas are equal, against the number of keys that it missed;
//! - the latency of reads and writes before, during and after the loss of one of five peers.
//!
//! `cargo run --release --example recovery [keys missed, at most]` (100,000 by default), on a machine that does nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ringtide::config::DOWN_AFTER;
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::embed::{Peer, Settings};
use ringtide::node::Node;
use ringtide::types::Level;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

type Failure = Box<dyn std::error::Error>;

/// Keys that every peer has before any is missed.
const COMMON: usize = 100_000;
/// Writes that are under way at the same time while keys are made.
const AT_ONCE: usize = 512;
/// Bytes of a value.
const VALUE: usize = 100;
/// Clients at each peer that stays, and how often each sends a command.
const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(5);
/// How long latency is measured before and after the loss; during it lasts until the lost peer counts as down, and a little longer.
const QUIET: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let most: usize = std::env::args().nth(1).map_or(Ok(100_000), |most| most.parse())?;
    returns(most).await?;
    loses_one_of_five().await
}

/// Three peers of which one is away while keys are written.
async fn returns(most: usize) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut peers = start(folder.path(), 3).await?;
    write(peers[0].node(), "common", COMMON).await?;
    equal(&peers).await;
    println!("{COMMON} keys of {VALUE} bytes at three peers; one is away while others are written, and returns:");
    let missed = [10, 1_000, 100_000, 1_000_000];
    for missed in missed.into_iter().filter(|missed| *missed <= most) {
        if let Some(away) = peers.pop() {
            away.stop().await;
        }
        write(peers[0].node(), &format!("missed {missed}"), missed).await?;
        let begun = Instant::now();
        peers.push(Peer::start(settings(folder.path(), 2, &peers)?).await?);
        all_up(&peers).await;
        let returned = Instant::now();
        equal(&peers).await;
        println!(
            "{missed:>8} keys missed: all equal {:>7.3} s after it was seen again, {:>7.3} s after its start",
            returned.elapsed().as_secs_f64(),
            begun.elapsed().as_secs_f64()
        );
    }
    for peer in peers {
        peer.stop().await;
    }
    Ok(())
}

/// Five peers with clients at four of them, of which the fifth ends as if by a crash.
async fn loses_one_of_five() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut peers = start(folder.path(), 5).await?;
    write(peers[0].node(), "key", COMMON / 10).await?;
    println!("one of five peers is lost; latency of {} commands a second at the others, in milliseconds:", 4 * CLIENTS * 200);
    println!("{:30} {:>8} {:>8} {:>8} {:>8} {:>7}", "", "commands", "median", "99th", "longest", "failed");
    let lost = peers.pop();
    let nodes: Vec<Node> = peers.iter().map(|peer| peer.node().clone()).collect();
    measure("before", &nodes, QUIET).await;
    drop(lost);
    measure("during: until it is down", &nodes, DOWN_AFTER + Duration::from_secs(2)).await;
    measure("after", &nodes, QUIET).await;
    for peer in peers {
        peer.stop().await;
    }
    Ok(())
}

async fn start(folder: &Path, count: usize) -> Result<Vec<Peer>, Failure> {
    let mut peers = Vec::new();
    for number in 0..count {
        peers.push(Peer::start(settings(folder, number, &peers)?).await?);
    }
    all_up(&peers).await;
    Ok(peers)
}

fn settings(folder: &Path, number: usize, others: &[Peer]) -> Result<Settings, Failure> {
    let mut settings = Settings::new(folder.join(number.to_string()));
    settings.bootstrap = others.iter().flat_map(Peer::addresses).map(|address| address.parse()).collect::<Result<_, _>>()?;
    Ok(settings)
}

async fn all_up(peers: &[Peer]) {
    while peers.iter().any(|peer| peer.node().status().up < peers.len()) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until all of three peers, which each hold everything, have the same rows.
async fn equal(peers: &[Peer]) {
    loop {
        let mut digests = Vec::new();
        for peer in peers {
            digests.push(peer.node().digests().await);
        }
        if digests.windows(2).all(|two| two[0] == two[1]) {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// A SET to a value that cannot be compressed.
fn set(key: &str) -> Mutation {
    let mut value = vec![0; VALUE];
    blake3::Hasher::new().update(key.as_bytes()).finalize_xof().fill(&mut value);
    Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }
}

async fn write(node: &Node, name: &str, keys: usize) -> Result<(), Failure> {
    for chunk in (0..keys).collect::<Vec<_>>().chunks(AT_ONCE) {
        let key = |number: &usize| format!("{name}:{number:08}");
        let writes = chunk.iter().map(key).map(|key| node.write(Level::Sloppy, key.clone().into(), set(&key)));
        futures::future::try_join_all(writes).await?;
    }
    Ok(())
}

/// What the commands of one kind took.
#[derive(Default)]
struct Latency {
    took: Vec<Duration>,
    /// How many failed, by error.
    failed: BTreeMap<String, usize>,
}

/// Has clients at every node read and write for a while, and tells what they waited.
async fn measure(phase: &str, nodes: &[Node], lasts: Duration) {
    let until = Instant::now() + lasts;
    let clients = nodes.iter().enumerate().flat_map(|(at, node)| (0..CLIENTS).map(move |client| (at * CLIENTS + client, node.clone())));
    let running: Vec<_> = clients.map(|(client, node)| tokio::spawn(work(client, node, until))).collect();
    let mut all: [Latency; 4] = Default::default();
    for client in running {
        if let Ok(own) = client.await {
            for (all, own) in all.iter_mut().zip(own) {
                all.took.extend(own.took);
                own.failed.into_iter().for_each(|(error, count)| *all.failed.entry(error).or_default() += count);
            }
        }
    }
    for (kind, mut latency) in ["GET sloppy", "SET sloppy", "GET quorum", "SET quorum"].into_iter().zip(all) {
        latency.took.sort();
        let at =
            |share: f64| latency.took.get((latency.took.len() as f64 * share) as usize).copied().unwrap_or_default().as_secs_f64() * 1e3;
        let (count, longest) = (latency.took.len(), latency.took.last().copied().unwrap_or_default().as_secs_f64() * 1e3);
        let failed: usize = latency.failed.values().sum();
        println!("{:30} {count:>8} {:>8.2} {:>8.2} {longest:>8.2} {failed:>7}", format!("{phase}, {kind}"), at(0.5), at(0.99));
        latency.failed.iter().for_each(|(error, count)| println!("{:>77}", format!("{count} times {error}")));
    }
}

/// One client: reads and writes in turn, at both levels, at its pace. By kind what each took.
async fn work(client: usize, node: Node, until: Instant) -> [Latency; 4] {
    let mut own: [Latency; 4] = Default::default();
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn = client;
    while Instant::now() < until {
        ticks.tick().await;
        turn += 1;
        let key = format!("key:{:08}", turn * 7919 % (COMMON / 10));
        let level = if turn % 4 < 2 { Level::Sloppy } else { Level::Quorum };
        let begun = Instant::now();
        let failed = if turn.is_multiple_of(2) {
            node.read(level, key.into(), Query::Get).await.err()
        } else {
            node.write(level, key.clone().into(), set(&key)).await.err()
        };
        let latency = &mut own[turn % 4];
        latency.took.push(begun.elapsed());
        if let Some(error) = failed {
            *latency.failed.entry(error.to_string()).or_default() += 1;
        }
    }
    own
}
