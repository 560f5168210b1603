//! Data folders that are copied, restored and wiped, with the identity or without it: no write event gets a name that another has, so
//! increments add up, and of two processes with one identity the younger stops and says why.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::{Cluster, Peer, eventually};

/// How often a counter was counted up.
#[derive(Default)]
struct Count {
    sure: i64,
    unsure: i64,
}

impl Count {
    /// Counts up by one at a peer, so many times, or for as long as it runs.
    fn up(&mut self, peer: &Peer, times: usize) {
        let Ok(mut connection) = peer.try_connect() else { return };
        for _ in 0..times {
            match redis::cmd("INCR").arg("counter").query::<i64>(&mut connection) {
                Ok(_) => self.sure += 1,
                Err(_) => self.unsure += 1,
            }
        }
    }

    /// Demands that every running peer, by what it holds itself, shows what was counted.
    fn check(&self, cluster: &Cluster) {
        cluster.wait_until_converged();
        for peer in cluster.peers.iter().filter(|peer| peer.is_running()) {
            let shown: i64 = peer.ask(&["GET", "counter"]);
            assert!((self.sure..=self.sure + self.unsure).contains(&shown), "{shown} of {} and {} unsure", self.sure, self.unsure);
        }
    }
}

/// Copies a folder with everything that the filesystem can carry along.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success(), "{} can't be copied", from.display());
}

/// Removes everything in a folder but the file `identity`.
fn wipe(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.file_name() != "identity") {
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
}

#[test]
fn of_a_data_folder_and_its_copy_the_younger_process_stops_and_all_increments_add_up() {
    let mut cluster = Cluster::start(3);
    let mut count = Count::default();
    for peer in &cluster.peers {
        count.up(peer, 20);
    }
    let (original, place) = (cluster.data_dir(0), cluster.data_dir(3));
    let (status, _, log) = cluster.peers[0].stop();
    assert!(status.success(), "{log}");
    copy(&original, &place);
    cluster.restart(0);
    let mut twin = Peer::new(&place).with(&["--bootstrap", &cluster.peers[1].ready().addresses[0]]);
    twin.start();
    // It goes on for as long as nobody has noticed.
    count.up(&twin, 50);
    count.up(&cluster.peers[0], 50);
    let (status, log) = twin.wait_for_end();
    assert_eq!(status.code(), Some(1), "{log}");
    let sentence = log.lines().last().unwrap();
    assert!(sentence.contains("another process runs with the identity of this peer"), "{log}");
    let told = |peer: &Peer| peer.log().contains("two processes run with one identity");
    assert!(cluster.peers.iter().any(told), "somebody has noticed");
    count.up(&cluster.peers[0], 20);

    // As the sentence says: a peer of its own, that brings what was written to the copy alone.
    fs::remove_file(place.join("identity")).unwrap();
    cluster.peers.push(Peer::new(&place).with(&["--bootstrap", &cluster.peers[1].ready().addresses[0]]));
    cluster.peers[3].start();
    cluster.wait_until_whole();
    count.up(&cluster.peers[3], 20);
    count.check(&cluster);
}

#[test]
fn two_processes_with_one_identity_and_nobody_else_meet_and_the_younger_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let mut first = Peer::new(&one);
    first.start().stop();
    copy(&one, &other);
    first.start();
    let mut second = Peer::new(&other).with(&["--bootstrap", &first.ready().addresses[0]]);
    second.start();
    let (status, log) = second.wait_for_end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.lines().last().unwrap().contains("take the file 'identity' out of the copy"), "{log}");
    assert_eq!(first.ask::<String>(&["PING"]), "PONG");
}

#[test]
fn a_backup_that_is_put_back_and_a_wiped_disk_mint_no_dot_twice() {
    let mut cluster = Cluster::start(3);
    let mut count = Count::default();
    let (place, backup) = (cluster.data_dir(0), cluster.data_dir(9));
    count.up(&cluster.peers[0], 20);
    cluster.peers[0].stop();
    copy(&place, &backup);
    cluster.restart(0);
    count.up(&cluster.peers[0], 100);
    // What is put back within a quarter of a second passes for what was just written: a filesystem's clock is no finer everywhere.
    thread::sleep(Duration::from_secs(1));
    // Put back into the files that are there, then in place of the whole folder; each time it is written to before it has heard of
    // anything.
    for in_place in [true, false] {
        cluster.peers[0].kill();
        if in_place {
            let lease = fs::read(backup.join("lease")).unwrap();
            for entry in fs::read_dir(&place).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    fs::remove_dir_all(entry.path()).unwrap();
                    copy(&backup.join(entry.file_name()), &entry.path());
                }
            }
            fs::write(place.join("lease"), lease).unwrap();
        } else {
            fs::remove_dir_all(&place).unwrap();
            copy(&backup, &place);
        }
        cluster.restart(0);
        count.up(&cluster.peers[0], 100);
        count.up(&cluster.peers[1], 10);
        count.check(&cluster);
    }
    // The identity alone, and an empty disk.
    cluster.peers[0].kill();
    wipe(&place);
    cluster.restart(0);
    count.up(&cluster.peers[0], 100);
    count.check(&cluster);
    cluster.wait_until_whole();
    assert!(cluster.peers.iter().all(|peer| !peer.log().contains("two processes run with one identity")), "nobody was there twice");
}

#[test]
fn the_data_without_its_identity_is_a_new_peer_that_brings_what_only_it_has() {
    let mut cluster = Cluster::start(3);
    let mut count = Count::default();
    count.up(&cluster.peers[0], 20);
    // What this peer takes while it is alone, nobody else has.
    let former = cluster.peers[0].ready().peer.clone();
    cluster.peers[1].kill();
    cluster.peers[2].kill();
    eventually("it takes writes alone", || cluster.peers[0].try_ask::<i64>(&["INCR", "other"]));
    count.up(&cluster.peers[0], 30);
    cluster.peers[0].kill();
    fs::remove_file(cluster.data_dir(0).join("identity")).unwrap();
    cluster.restart(1);
    cluster.restart(2);
    cluster.restart(0);
    assert_ne!(cluster.peers[0].ready().peer, former);
    count.up(&cluster.peers[0], 30);
    // The peer that it was counts as down until somebody forgets it.
    for peer in &cluster.peers {
        eventually("what it alone had is everywhere", || match peer.try_ask::<i64>(&["GET", "counter"])? {
            shown if shown >= count.sure => Ok(()),
            shown => Err(format!("{shown} of {}", count.sure)),
        });
    }
    assert!(cluster.peers[1].ask::<i64>(&["GET", "counter"]) <= count.sure + count.unsure);
}

#[test]
fn a_peer_that_is_killed_and_started_again_at_once_is_never_taken_for_two() {
    let mut cluster = Cluster::start(3);
    for round in 0..6 {
        let index = round % 3;
        cluster.peers[index].kill();
        cluster.restart(index);
        let _: () = cluster.peers[index].ask(&["SET", "key", "value"]);
    }
    cluster.wait_until_whole();
    for peer in &cluster.peers {
        assert_eq!(peer.ask::<String>(&["GET", "key"]), "value");
        assert!(!peer.log().contains("two processes run with one identity"), "{}", peer.log());
    }
}
