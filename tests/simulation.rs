//! smoke
use bytes::Bytes;
use ringtide::config::Durability;
use ringtide::crdt::command::*;
use ringtide::sim::cluster::SimCluster;
use ringtide::types::Level;
use std::time::Duration;

#[test]
fn smoke() {
    tracing_subscriber::fmt().with_env_filter("info").with_test_writer().init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let cluster = SimCluster::start(3, 1, Durability::Always).await.unwrap();
        let node = cluster.peers[0].node.clone().unwrap();
        let k = Bytes::from_static(b"k");
        let set = |v: &'static [u8]| Mutation::Set {
            value: Bytes::from_static(v),
            expiry: SetExpiry::Clear,
            condition: SetCondition::Always,
            get: false,
        };
        println!("{:?}", node.write(Level::Sloppy, k.clone(), set(b"1")).await);
        println!("{:?}", node.read(Level::Sloppy, k.clone(), Query::Get).await);
        println!("{:?}", cluster.converge(Duration::from_secs(60)).await);
        for i in 0..3 {
            let n = cluster.peers[i].node.clone().unwrap();
            println!("{:?}", n.read(Level::Quorum, k.clone(), Query::Get).await);
            println!("{:?}", n.write(Level::All, k.clone(), Mutation::Increment(5)).await);
        }
        println!("{:?}", node.read(Level::All, k.clone(), Query::Get).await);
        println!("{:?}", node.read(Level::All, k.clone(), Query::Explain).await);
        println!("{:?}", cluster.converge(Duration::from_secs(60)).await);
        println!("{:?}", node.sync().await);
        println!("{:?}", node.status());
    });
}
