//! Peers that must not be let in are told why, and get nothing else.

use std::path::Path;

use crate::harness::{Peer, eventually};

const SECRET: &str = "a secret that tests share";

fn member(folder: &Path, name: &str) -> Peer {
    Peer::new(&folder.join(name)).with(&["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"])
}

fn members_seen(peer: &Peer) -> usize {
    peer.ask::<Vec<redis::Value>>(&["RINGTIDE", "PEERS"]).len()
}

#[test]
fn a_stranger_learns_why_and_stays_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = member(folder.path(), "first").with_environment("RINGTIDE_SECRET", SECRET);
    first.start();
    let address = first.ready().addresses[0].clone();
    let _: () = first.ask(&["SET", "key", "private"]);
    let knows = |name| member(folder.path(), name).with_environment("RINGTIDE_SECRET", SECRET).with(&["--bootstrap", &address]);
    let stranger = |name, secret| member(folder.path(), name).with_environment("RINGTIDE_SECRET", secret).with(&["--bootstrap", &address]);
    // What the stranger's log has to say, and what the member's.
    let mut strangers = [
        (stranger("secret", "another secret altogether"), "other secret"),
        (knows("name").with(&["--cluster", "another"]), "cluster"),
        (knows("partitions").with(&["--partitions", "64"]), "partitions"),
        (member(folder.path(), "none").with(&["--bootstrap", &address]), "no secret"),
    ];
    for (stranger, reason) in &mut strangers {
        stranger.start();
        eventually("the stranger's log says why", || {
            let told = stranger.log().lines().any(|line| line.contains("refused") && line.contains(*reason));
            if told { Ok(()) } else { Err(format!("no '{reason}' in: {}", stranger.log())) }
        });
        eventually("the member's log says why", || {
            let told = first.log().lines().any(|line| line.contains("refused") && line.contains(*reason));
            if told { Ok(()) } else { Err(format!("no '{reason}' in: {}", first.log())) }
        });
        assert_eq!((members_seen(stranger), members_seen(&first)), (1, 1), "{reason}");
        assert_eq!(stranger.ask::<Option<String>>(&["GET", "key"]), None);
    }
    // A proper member is let in all the same: the guard is not just a closed door.
    let mut second = knows("second");
    second.start();
    eventually("a proper member joins", || match members_seen(&first) {
        2 => Ok(()),
        seen => Err(format!("{seen} members")),
    });
    assert_eq!(second.ask::<String>(&["GET", "key"]), "private");
}
