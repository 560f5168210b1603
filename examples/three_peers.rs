//! Three peers in one process, over real connections on loopback: written at one, read at the others, also while one is gone.
//!
//! `cargo run --example three_peers`

use std::time::Duration;

use ringtide::crdt::string;
use ringtide::embed::{Multiaddr, Peer, Settings};
use ringtide::types::Level;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut peers: Vec<Peer> = Vec::new();
    for name in ["one", "two", "three"] {
        let mut settings = Settings::new(folder.path().join(name));
        // Whoever knows one member learns of all.
        settings.bootstrap =
            peers.iter().take(1).flat_map(Peer::addresses).map(|address| address.parse()).collect::<Result<Vec<Multiaddr>, _>>()?;
        peers.push(Peer::start(settings).await?);
    }
    while peers.iter().any(|peer| peer.node().status().up < 3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("three peers see each other");

    peers[0].set("colour", "green").await?;
    for peer in &peers {
        println!("{} reads {:?}", peer.id(), peer.get("colour").await?);
    }
    // Counters add up wherever they are counted, also at the same time.
    let increments = peers.iter().map(|peer| peer.node().write(Level::Quorum, "count".into(), string::Mutation::Increment(1)));
    for outcome in futures::future::join_all(increments).await {
        outcome?;
    }
    println!("three increments at three peers: {:?}", peers[1].get("count").await?);

    if let Some(gone) = peers.pop() {
        gone.stop().await;
    }
    peers[1].set("colour", "blue").await?;
    println!("with one peer gone, {} reads {:?}", peers[0].id(), peers[0].get("colour").await?);
    for peer in peers {
        peer.stop().await;
    }
    Ok(())
}
