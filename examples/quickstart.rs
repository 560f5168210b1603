//! A peer inside a program: no server, no client, the store as a library. Its data survives the end of the peer.
//!
//! `cargo run --example quickstart`

use ringtide::crdt::command::Answer;
use ringtide::crdt::{set, string};
use ringtide::embed::{Peer, Settings};
use ringtide::types::Level;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let peer = Peer::start(Settings::new(folder.path())).await?;
    println!("peer {} runs, protected: {}", peer.id(), peer.node().status().protected);

    peer.set("greeting", "hello").await?;
    println!("greeting = {:?}", peer.get("greeting").await?);

    // Everything else goes through the node: a level, a key, and what is to be done or asked.
    for _ in 0..3 {
        peer.node().write(Level::Sloppy, "visits".into(), string::Mutation::Increment(1)).await?;
    }
    let members = vec!["ada".into(), "grace".into()];
    peer.node().write(Level::Sloppy, "people".into(), set::Mutation::Add(members)).await?;
    println!("visits   = {:?}", peer.get("visits").await?);
    if let Answer::Integer(count) = peer.node().read(Level::Sloppy, "people".into(), set::Query::Cardinality).await? {
        println!("people   : {count}");
    }
    peer.stop().await;

    let again = Peer::start(Settings::new(folder.path())).await?;
    println!("after a restart, greeting = {:?}", again.get("greeting").await?);
    again.stop().await;
    Ok(())
}
