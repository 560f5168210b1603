//! What clients notice while a fourth peer joins three that hold much: latency before, during and after, and how long the join takes.
//! All four peers run in this process, over loopback.
//!
//! `cargo run --release --example join_under_load [megabytes]` (100 by default)

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use ringtide::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use ringtide::embed::{Peer, Settings};
use ringtide::types::Level;
use tokio::time::{Instant, sleep};

type Failure = Box<dyn std::error::Error>;

/// Bytes of a value.
const VALUE: usize = 1000;
/// Clients, each of which sends a command, waits for the answer, and pauses.
const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(20);
/// How long latency is measured before and after.
const QUIET: Duration = Duration::from_secs(15);

/// What clients have measured since it was taken last, in microseconds.
type Latencies = Arc<Mutex<Vec<u64>>>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let megabytes: usize = std::env::args().nth(1).map_or(Ok(100), |megabytes| megabytes.parse())?;
    let keys = megabytes * 1000;
    let folder = tempfile::tempdir()?;
    let mut peers = vec![Peer::start(Settings::new(folder.path().join("0"))).await?];
    for number in 1..3 {
        peers.push(Peer::start(beside(&peers[0], &folder.path().join(number.to_string()))?).await?);
    }
    settled(&peers).await;
    for chunk in (0..keys).collect::<Vec<_>>().chunks(256) {
        futures::future::try_join_all(chunk.iter().map(|number| peers[number % 3].node().write(Level::All, key(*number), set(*number))))
            .await?;
    }
    println!("{megabytes} MB in {keys} keys at each of three peers");

    let (latencies, stop) = (Latencies::default(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let node = peers[number % 3].node().clone();
            let (latencies, stop) = (Arc::clone(&latencies), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut random = SmallRng::seed_from_u64(number as u64);
                while !stop.load(Ordering::Relaxed) {
                    let (number, started) = (random.random_range(0..keys), Instant::now());
                    let done = match random.random_bool(0.5) {
                        true => node.write(Level::Sloppy, key(number), set(number)).await.is_ok(),
                        false => node.read(Level::Sloppy, key(number), Query::Get).await.is_ok(),
                    };
                    assert!(done, "a command failed");
                    let passed = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                    latencies.lock().unwrap_or_else(PoisonError::into_inner).push(passed);
                    sleep(PAUSE).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(3)).await;
    let _ = taken(&latencies);
    sleep(QUIET).await;
    tell("before", &taken(&latencies));
    let started = Instant::now();
    peers.push(Peer::start(beside(&peers[0], &folder.path().join("3"))?).await?);
    settled(&peers).await;
    tell("while the fourth joins", &taken(&latencies));
    println!("the join took {:.1} s", started.elapsed().as_secs_f64());
    sleep(QUIET).await;
    tell("after", &taken(&latencies));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await?;
    }
    for peer in peers {
        peer.stop().await;
    }
    Ok(())
}

/// The settings of a peer that finds another.
fn beside(other: &Peer, folder: &Path) -> Result<Settings, Failure> {
    let mut settings = Settings::new(folder);
    settings.bootstrap = other.addresses().iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
    Ok(settings)
}

/// Waits until everybody knows everybody, has what it should have, and has dropped what it should not.
async fn settled(peers: &[Peer]) {
    let is_settled = |peer: &Peer| {
        let status = peer.node().status();
        status.members == peers.len() && status.up == peers.len() && status.syncing + status.handing_over == 0
    };
    while !peers.iter().all(is_settled) {
        sleep(Duration::from_millis(20)).await;
    }
}

fn key(number: usize) -> Bytes {
    format!("key:{number:08}").into()
}

/// A value that cannot be compressed.
fn set(number: usize) -> Mutation {
    let mut value = vec![0; VALUE];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut value);
    Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }
}

fn taken(latencies: &Latencies) -> Vec<u64> {
    std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner))
}

fn tell(when: &str, latencies: &[u64]) {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| sorted.get(sorted.len() * percent / 100).map_or(0.0, |micros| *micros as f64 / 1000.0);
    println!("{when}: {} commands, median {:.2} ms, 99th {:.2} ms", sorted.len(), at(50), at(99));
}
