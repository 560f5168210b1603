//! The main job: three peers, one keyspace, and nothing acknowledged is lost.

use crate::harness::{Cluster, Peer, eventually};
use crate::load::{Doors, Load};

/// Acknowledged writes between two crashes.
const WRITES_BETWEEN_CRASHES: u64 = 300;

#[test]
fn a_write_at_one_peer_is_read_at_the_others() {
    let cluster = Cluster::start(3);
    for (index, writer) in cluster.peers.iter().enumerate() {
        let (string, counter, set) = (format!("string-{index}"), format!("counter-{index}"), format!("set-{index}"));
        let _: () = writer.ask(&["SET", &string, "value"]);
        let _: () = writer.ask(&["INCRBY", &counter, "41"]);
        let _: () = writer.ask(&["SADD", &set, "one", "two"]);
        for reader in &cluster.peers {
            assert_eq!(reader.ask::<String>(&["GET", &string]), "value");
            assert_eq!(reader.ask::<i64>(&["GET", &counter]), 41);
            assert_eq!(reader.ask::<i64>(&["SCARD", &set]), 2);
        }
        // And on from another peer than the writer.
        let other = &cluster.peers[(index + 1) % 3];
        assert_eq!(other.ask::<i64>(&["INCR", &counter]), 42);
        assert_eq!(other.ask::<i64>(&["SREM", &set, "one"]), 1);
        assert_eq!(other.ask::<i64>(&["DEL", &string]), 1);
        for reader in &cluster.peers {
            assert_eq!(reader.ask::<Option<String>>(&["GET", &string]), None);
            assert_eq!(reader.ask::<i64>(&["GET", &counter]), 42);
            assert_eq!(reader.ask::<Vec<String>>(&["SMEMBERS", &set]), ["two"]);
        }
    }
    cluster.wait_until_converged();
}

#[test]
fn every_peer_computes_the_same_ring() {
    let cluster = Cluster::start(3);
    let ring: Vec<Vec<String>> = cluster.peers[0].ask(&["RINGTIDE", "RING"]);
    assert_eq!(ring.len(), 256);
    for peer in &cluster.peers {
        assert_eq!(peer.ask::<Vec<Vec<String>>>(&["RINGTIDE", "RING"]), ring);
        assert!(ring.iter().all(|holders| holders.contains(&peer.ready().peer)), "with three peers each holds every partition");
    }
}

/// Ends each peer in turn while clients write, starts it again, and demands in the end everything that was acknowledged.
fn survive(end: impl Fn(&mut Peer)) {
    let mut cluster = Cluster::start(3);
    let doors = Doors::default();
    for (index, peer) in cluster.peers.iter().enumerate() {
        doors.set(index, Some(peer.ready().resp.clone()));
    }
    let load = Load::start(&doors, 4);
    let wait_for_writes = |load: &Load| {
        let target = load.acknowledged() + WRITES_BETWEEN_CRASHES;
        eventually("the load goes on", || match load.acknowledged() {
            acknowledged if acknowledged >= target => Ok(()),
            acknowledged => Err(format!("{acknowledged} of {target} writes")),
        });
    };
    for index in 0..3 {
        wait_for_writes(&load);
        end(&mut cluster.peers[index]);
        doors.set(index, None);
        // The other two take writes all the while.
        wait_for_writes(&load);
        cluster.restart(index);
        doors.set(index, Some(cluster.peers[index].ready().resp.clone()));
        wait_for_writes(&load);
        cluster.wait_until_whole();
    }
    let books = load.finish();
    let (acknowledged, unknown) = books.iter().fold((0, 0), |sum, book| (sum.0 + book.acknowledged, sum.1 + book.unknown));
    println!("{acknowledged} writes acknowledged, {unknown} with an unknown outcome");
    assert!(acknowledged >= 9 * WRITES_BETWEEN_CRASHES);
    cluster.wait_until_whole();
    cluster.wait_until_converged();
    for peer in &cluster.peers {
        // What this peer alone holds is enough: it is a replica of everything.
        let mut connection = peer.connect();
        let _: () = redis::cmd("RINGTIDE").arg("LEVEL").arg("local").query(&mut connection).unwrap();
        let faults: Vec<String> = books.iter().flat_map(|book| book.faults(&mut connection)).collect();
        assert!(faults.is_empty(), "at {}:\n{}", peer.ready().peer, faults.join("\n"));
    }
}

#[test]
fn kill_and_restart_each_in_turn_under_load_loses_nothing_acknowledged() {
    survive(Peer::kill);
}

#[test]
fn stop_and_restart_each_in_turn_under_load_loses_nothing_acknowledged() {
    survive(|peer| {
        let (status, took, log) = peer.stop();
        assert!(status.success() && took.as_secs() <= 10, "{status} after {took:?}: {log}");
    });
}

#[test]
fn all_killed_at_once_lose_nothing_acknowledged() {
    let mut cluster = Cluster::start(3);
    let doors = Doors::default();
    for (index, peer) in cluster.peers.iter().enumerate() {
        doors.set(index, Some(peer.ready().resp.clone()));
    }
    let load = Load::start(&doors, 4);
    eventually("there is something to lose", || if load.acknowledged() > 1000 { Ok(()) } else { Err(load.acknowledged().to_string()) });
    for (index, peer) in cluster.peers.iter_mut().enumerate() {
        peer.kill();
        doors.set(index, None);
    }
    let books = load.finish();
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.wait_until_whole();
    cluster.wait_until_converged();
    for peer in &cluster.peers {
        let faults: Vec<String> = books.iter().flat_map(|book| book.faults(&mut peer.connect())).collect();
        assert!(faults.is_empty(), "at {}:\n{}", peer.ready().peer, faults.join("\n"));
    }
}

#[test]
fn a_lone_peer_takes_writes_and_knows_no_quorum() {
    let cluster = Cluster::start(1);
    let mut connection = cluster.peers[0].connect();
    let _: () = redis::cmd("SET").arg("key").arg("value").query(&mut connection).unwrap();
    let _: () = redis::cmd("RINGTIDE").arg("LEVEL").arg("quorum").query(&mut connection).unwrap();
    let refused = redis::cmd("SET").arg("key").arg("other").query::<()>(&mut connection).unwrap_err();
    assert_eq!(refused.code(), Some("NOQUORUM"), "a majority is counted from the configured copies");
}

#[test]
fn an_error_of_a_command_on_several_keys_says_which_of_them_were_done() {
    let mut cluster = Cluster::start_with(2, &["--replicas", "1"]);
    let keys: Vec<String> = (0..20).map(|number| format!("key-{number}")).collect();
    let own = cluster.peers[0].ready().peer.clone();
    let is_own = |peer: &Peer, key: &String| peer.ask::<Vec<String>>(&["RINGTIDE", "OWNERS", key]) == [own.clone()];
    let (mine, others): (Vec<&String>, Vec<&String>) = keys.iter().partition(|key| is_own(&cluster.peers[0], key));
    assert!(!mine.is_empty() && !others.is_empty());
    for key in &keys {
        let _: () = cluster.peers[0].ask(&["SET", key, "v"]);
    }
    cluster.peers[1].kill();
    let delete: Vec<&str> = ["DEL"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let error = cluster.peers[0].try_ask::<i64>(&delete).unwrap_err();
    let quoted = |keys: &[&String]| keys.iter().map(|key| format!("'{key}'")).collect::<Vec<_>>().join(" ");
    assert!(error.contains(&format!("done: {}; failed: {}", quoted(&mine), quoted(&others))), "{error}");
    assert!(error.contains("NOQUORUM"), "{error}");
    let exist: Vec<&str> = ["EXISTS"].into_iter().chain(mine.iter().map(|key| key.as_str())).collect();
    assert_eq!(cluster.peers[0].ask::<i64>(&exist), 0);
}
