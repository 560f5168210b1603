//! What anti-entropy costs, between two real peers over loopback: a first sync, equal replicas, and a peer that lacks a few of many keys.
//!
//! `cargo run --release --example sync_cost [keys]` (100,000 by default)

use std::fs;
use std::path::Path;
use std::time::Duration;

use ringtide::crdt::string::{Mutation, SetCondition, SetExpiry};
use ringtide::embed::{Peer, Settings};
use ringtide::types::Level;
use tokio::time::{Instant, sleep};

type Failure = Box<dyn std::error::Error>;

/// Writes that are under way at the same time.
const AT_ONCE: usize = 512;
/// Bytes of a value.
const VALUE: usize = 100;
/// Keys that the peer lacks that comes back from an older copy of its folder.
const LACKING: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let keys: usize = std::env::args().nth(1).map_or(Ok(100_000), |keys| keys.parse())?;
    let folder = tempfile::tempdir()?;
    let (here, there, copy) = (folder.path().join("here"), folder.path().join("there"), folder.path().join("copy"));
    let first = Peer::start(Settings::new(&here)).await?;
    let started = Instant::now();
    write(&first, "key", keys).await?;
    println!("{keys} keys of {VALUE} bytes written at one peer: {:.2} s", started.elapsed().as_secs_f64());

    let second = Peer::start(beside(&first, &there)?).await?;
    report("first sync of an empty peer", &first, &second, true).await;
    for _ in 0..3 {
        let equal = first.node().sync().await;
        let bytes = equal.bytes_sent + equal.bytes_received;
        println!(
            "equal, both directions: {} rows, {bytes} bytes, {} ms",
            equal.rows_sent + equal.rows_received,
            equal.duration.as_millis()
        );
    }

    // A peer whose folder falls back lacks what was written since, and nobody keeps hints for it.
    second.stop().await;
    copy_folder(&there, &copy)?;
    let second = Peer::start(beside(&first, &there)?).await?;
    all_up(&first, &second).await;
    write(&first, "late", LACKING).await?;
    while first.node().digests().await != second.node().digests().await {
        sleep(Duration::from_millis(5)).await;
    }
    second.stop().await;
    let second = Peer::start(beside(&first, &copy)?).await?;
    report(&format!("back without {LACKING} keys"), &first, &second, false).await;
    second.stop().await;
    first.stop().await;
    Ok(())
}

/// The settings of a peer that finds another.
fn beside(other: &Peer, folder: &Path) -> Result<Settings, Failure> {
    let mut settings = Settings::new(folder);
    settings.bootstrap = other.addresses().iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
    Ok(settings)
}

/// Writes keys with values that cannot be compressed.
async fn write(peer: &Peer, name: &str, keys: usize) -> Result<(), Failure> {
    for chunk in (0..keys).collect::<Vec<_>>().chunks(AT_ONCE) {
        let writes = chunk.iter().map(|number| {
            let key = format!("{name}:{number:08}");
            let mut value = vec![0; VALUE];
            blake3::Hasher::new().update(key.as_bytes()).finalize_xof().fill(&mut value);
            let (expiry, condition) = (SetExpiry::Clear, SetCondition::Always);
            let mutation = Mutation::Set { value: value.into(), expiry, condition, get: false };
            peer.node().write(Level::Sloppy, key.into(), mutation)
        });
        futures::future::try_join_all(writes).await?;
    }
    Ok(())
}

async fn all_up(first: &Peer, second: &Peer) {
    while first.node().status().up < 2 || second.node().status().up < 2 {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until a peer that has just started holds what the other holds, and tells what that took since they found each other.
async fn report(what: &str, first: &Peer, second: &Peer, first_sync: bool) {
    all_up(first, second).await;
    let started = Instant::now();
    while (first_sync && second.node().status().syncing > 0) || first.node().digests().await != second.node().digests().await {
        sleep(Duration::from_millis(1)).await;
    }
    let duration = started.elapsed();
    // Whoever pulls next, pulls from the other as well; that belongs to the cost.
    sleep(Duration::from_millis(500)).await;
    let (sent, received) = second.node().traffic();
    println!("{what}: {} bytes, {} ms", sent + received, duration.as_millis());
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
