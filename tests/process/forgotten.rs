//! A peer that was forgotten while it was off comes back with its old disk.

use std::collections::BTreeMap;

use crate::harness::{Cluster, eventually};

const KEYS: usize = 200;

#[test]
fn a_forgotten_peer_is_told_so_serves_nothing_and_joins_again_at_the_start_after() {
    let mut cluster = Cluster::start(4);
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        let _: () = cluster.peers[0].ask(&["SET", key, "old"]);
    }
    let forgotten = cluster.peers[3].ready().peer.clone();
    cluster.peers[3].kill();
    for key in &keys[..KEYS / 2] {
        let _: i64 = cluster.peers[0].ask(&["DEL", key]);
    }
    eventually("a peer that is down can be forgotten", || cluster.peers[0].try_ask::<String>(&["RINGTIDE", "FORGET", &forgotten]));

    // From the first moment on: it asks who belongs before it serves anybody.
    cluster.restart(3);
    let returned = &cluster.peers[3];
    for command in [&["GET", "key-0"][..], &["SET", "key-0", "mine"], &["INCR", "counter"], &["SCAN", "0"], &["DEL", "key-150"]] {
        let error = returned.try_ask::<redis::Value>(command).unwrap_err();
        assert!(error.contains("taken out of the ring by RINGTIDE FORGET"), "{command:?}: {error}");
    }
    let status: BTreeMap<String, String> = returned.ask(&["RINGTIDE", "STATUS"]);
    assert_eq!(status["standing"], "forgotten");
    eventually("its log says so", || {
        if returned.log().contains("taken out of the ring by RINGTIDE FORGET") { Ok(()) } else { Err(returned.log()) }
    });
    // The others go on without it, and it gives up what it held.
    eventually("it hands over what it held", || match returned.try_ask::<BTreeMap<String, String>>(&["RINGTIDE", "STATUS"])? {
        status if status["members"] == "3" && status["keys"] == "0" => Ok(()),
        status => Err(format!("{status:?}")),
    });

    cluster.peers[3].stop();
    cluster.restart(3);
    cluster.wait_until_whole();
    cluster.wait_until_converged();
    for peer in &cluster.peers {
        let mut connection = peer.connect();
        for (number, key) in keys.iter().enumerate() {
            let value: Option<String> = redis::cmd("GET").arg(key).query(&mut connection).unwrap();
            assert_eq!(value.as_deref(), (number >= KEYS / 2).then_some("old"), "{key} at {}", peer.ready().peer);
        }
    }
    let _: () = cluster.peers[3].ask(&["SET", "key-0", "new"]);
    assert_eq!(cluster.peers[0].ask::<String>(&["GET", "key-0"]), "new");
}
