//! The whole key space: walked while peers join, emptied while one is away.

use std::collections::BTreeSet;

use crate::harness::{Cluster, eventually};

const TYPES: [&[&str]; 8] = [
    &["SET", "string", "v"],
    &["INCRBY", "counter", "5"],
    &["HSET", "hash", "f", "v", "g", "w"],
    &["SADD", "set", "a", "b"],
    &["ZADD", "sorted", "1", "a", "2", "b"],
    &["RPUSH", "list", "a", "b"],
    &["PFADD", "log", "a", "b"],
    &["SETBIT", "bits", "9", "1"],
];

#[test]
fn flushall_takes_what_was_seen_also_at_a_peer_that_was_away_and_leaves_what_was_not() {
    let mut cluster = Cluster::start(3);
    for command in TYPES {
        let _: () = cluster.peers[0].ask(command);
    }
    cluster.wait_until_converged();
    // What the third peer takes in while it is alone has been seen by nobody else.
    cluster.peers[0].kill();
    cluster.peers[1].kill();
    eventually("the third peer takes writes alone", || cluster.peers[2].try_ask::<()>(&["SET", "unseen", "stays"]));
    let _: () = cluster.peers[2].ask(&["INCRBY", "counter", "100"]);
    cluster.peers[2].kill();
    cluster.restart(0);
    cluster.restart(1);
    eventually("all is deleted", || cluster.peers[0].try_ask::<()>(&["FLUSHALL"]));
    for peer in &cluster.peers[..2] {
        // The two may just have found each other, and tell what was deleted a moment ago.
        eventually("nothing is told any more", || match peer.ask::<Vec<String>>(&["KEYS", "*"]) {
            keys if keys.is_empty() => Ok(()),
            keys => Err(format!("{keys:?}")),
        });
    }
    let _: () = cluster.peers[1].ask(&["SET", "later", "stays too"]);
    cluster.restart(2);
    cluster.wait_until_whole();
    cluster.wait_until_converged();
    for peer in &cluster.peers {
        let keys: BTreeSet<String> = peer.ask::<Vec<String>>(&["KEYS", "*"]).into_iter().collect();
        assert_eq!(keys, ["counter", "later", "unseen"].map(str::to_owned).into());
        assert_eq!(peer.ask::<i64>(&["GET", "counter"]), 100, "what was seen is reset, the increment that was not stays");
        assert_eq!(peer.ask::<i64>(&["DBSIZE"]), 3);
    }
}

#[test]
fn a_scan_meets_every_key_while_peers_join_and_crash() {
    const KEYS: usize = 2_000;
    let mut cluster = Cluster::start(3);
    let keys: BTreeSet<String> = (0..KEYS).map(|number| format!("key {number}")).collect();
    let mut connection = cluster.peers[0].connect();
    for key in &keys {
        let _: () = redis::cmd("SET").arg(key).arg("v").query(&mut connection).unwrap();
    }
    let (mut met, mut cursor, mut steps) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        // Every step is taken at another peer: a cursor means the same everywhere.
        let running: Vec<usize> = (0..cluster.peers.len()).filter(|index| cluster.peers[*index].is_running()).collect();
        let peer = &cluster.peers[running[steps % running.len()]];
        let (next, some): (String, Vec<String>) = eventually("a step of the walk", || peer.try_ask(&["SCAN", &cursor, "COUNT", "40"]));
        met.extend(some);
        cursor = next;
        steps += 1;
        match steps {
            5 | 15 => cluster.add(&[]),
            25 => cluster.peers[1].kill(),
            35 => cluster.restart(1),
            _ => {}
        }
        if cursor == "0" {
            break;
        }
    }
    assert!(steps > 40, "the walk was over before anything happened: {steps} steps");
    assert_eq!(keys.difference(&met).collect::<Vec<_>>(), Vec::<&String>::new());
}
