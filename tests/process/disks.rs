//! Disks that are full, that lie about a sync, or that are slow. What needs rights that are not there is left out, and says so.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, Peer, eventually, within};

const MIB: usize = 1 << 20;

/// Whether a command can be run here, which the test needs.
fn can_run(program: &str, arguments: &[&str]) -> bool {
    let works = Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success());
    if !works {
        eprintln!("left out: '{program} {}' does not work here", arguments.join(" "));
    }
    works
}

/// Two peers, and a third whose data lies on a filesystem of its own that only it sees. Answers with where the test sees it.
fn with_small_disk(size_mib: usize) -> (Cluster, tempfile::TempDir, PathBuf) {
    let mut cluster = Cluster::start(2);
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={size_mib}m tmpfs {} && exec \"$@\"", folder.path().display());
    let first = cluster.peers[0].ready().addresses[0].clone();
    let mut peer = Peer::new(&folder.path().join("data"))
        .with(&["--memory", "16MiB", "--bootstrap", &first])
        .through(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    peer.start();
    let seen = Path::new("/proc").join(peer.pid().to_string()).join("root").join(folder.path().strip_prefix("/").unwrap());
    cluster.peers.push(peer);
    cluster.wait_until_whole();
    (cluster, folder, seen)
}

fn status(peer: &Peer, name: &str) -> Result<i64, String> {
    let status: std::collections::BTreeMap<String, redis::Value> = peer.try_ask(&["RINGTIDE", "STATUS"])?;
    match status.get(name) {
        Some(redis::Value::Int(number)) => Ok(*number),
        other => Err(format!("{name} is {other:?}")),
    }
}

fn health(peer: &Peer) -> String {
    use std::io::Read;
    let mut stream = std::net::TcpStream::connect(&peer.ready().http).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Runs one command at a level.
fn at_level<T: redis::FromRedisValue>(peer: &Peer, level: &str, arguments: &[&str]) -> Result<T, String> {
    let mut connection = peer.try_connect().map_err(|error| error.to_string())?;
    redis::cmd("RINGTIDE").arg("LEVEL").arg(level).exec(&mut connection).map_err(|error| error.to_string())?;
    let mut command = redis::Cmd::new();
    command.arg(arguments);
    command.query(&mut connection).map_err(|error| error.to_string())
}

#[test]
fn a_peer_whose_disk_is_full_reads_deletes_passes_writes_on_and_recovers_by_itself() {
    if !can_run("unshare", &["-m", "true"]) {
        return;
    }
    let (cluster, _folder, seen) = with_small_disk(200);
    let full = &cluster.peers[2];
    for number in 0..50 {
        let _: () = full.ask(&["SET", &format!("key-{number}"), "before"]);
    }
    let mut connection = full.connect();
    for number in 0..2_000 {
        redis::cmd("SET").arg(format!("old-{number}")).arg("before").exec(&mut connection).unwrap();
    }
    drop(connection);
    let filler = seen.join("filler");
    File::create(&filler).unwrap().write_all(&vec![7; 160 * MIB]).unwrap();
    within(Duration::from_secs(20), "it says that its disk is full", || match status(full, "disk_full")? {
        1 => Ok(()),
        other => Err(format!("disk_full is {other}")),
    });
    assert!(health(full).contains("the disk is full"), "{}", health(full));
    assert!(full.log().contains("the disk is full"));
    // Reads and deletes go on, and what its clients write goes to the others.
    for number in 0..50 {
        assert_eq!(full.ask::<String>(&["GET", &format!("key-{number}")]), "before");
        let _: () = full.ask(&["SET", &format!("new-{number}"), "meanwhile"]);
        let written: Result<(), String> = at_level(full, "quorum", &["SET", &format!("quorum-{number}"), "meanwhile"]);
        assert_eq!(written, Ok(()));
        assert_eq!(full.ask::<i64>(&["DEL", &format!("key-{number}")]), 1);
    }
    let refused: Result<(), String> = at_level(full, "local", &["SET", "key", "value"]);
    assert!(refused.as_ref().is_err_and(|error| error.contains("DISKFULL")), "{refused:?}");
    assert_eq!(full.ask::<String>(&["GET", "new-7"]), "meanwhile");

    // Filled up to the last byte by somebody else, it can't even delete. It stops, and waits for room.
    let _ = File::create(seen.join("more")).unwrap().write_all(&vec![7; 60 * MIB]);
    let mut number = 0;
    within(Duration::from_secs(60), "a delete meets the full disk", || {
        number += 10;
        let old: Vec<String> = (number - 10..number).map(|old| format!("old-{old}")).collect();
        for old in &old {
            let _: Result<i64, String> = full.try_ask(&["DEL", old]);
        }
        if full.log().contains("starts again once there is room") { Ok(()) } else { Err("it goes on".to_owned()) }
    });
    for name in ["filler", "more"] {
        fs::remove_file(seen.join(name)).unwrap();
    }
    within(Duration::from_secs(60), "it takes writes again", || {
        let _: () = at_level(full, "all", &["SET", "after", "value"])?;
        match status(full, "disk_full")? {
            0 => Ok(()),
            other => Err(format!("disk_full is {other}")),
        }
    });
    cluster.wait_until_converged();
    for number in 0..50 {
        assert_eq!(full.ask::<Option<String>>(&["GET", &format!("key-{number}")]), None);
        assert_eq!(full.ask::<Option<String>>(&["GET", &format!("quorum-{number}")]).as_deref(), Some("meanwhile"));
    }
}

#[test]
fn a_sync_that_fails_acknowledges_nothing_and_is_never_tried_again() {
    if !can_run("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let (mut stopped, mut unsynced) = (0, 0);
    for failing in [12, 25, 60] {
        let folder = tempfile::tempdir().unwrap();
        let inject = format!("inject=fsync,fdatasync:error=EIO:when={failing}");
        let strace = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &inject];
        let make = || Peer::new(&folder.path().join("data")).with(&["--durability", "always"]);
        // The store is made first: whoever can't even make it says so, and nothing was promised.
        let mut peer = make();
        peer.start();
        assert_eq!(peer.ask::<i64>(&["INCR", "counter"]), 1);
        peer.kill();
        let mut peer = make().through(&strace);
        if !peer.try_start() {
            continue;
        }
        let mut acknowledged = 1;
        let error = loop {
            match peer.try_ask::<i64>(&["INCR", "counter"]) {
                Ok(number) => acknowledged = number,
                Err(error) => break error,
            }
            assert!(acknowledged < 1_000, "the sync never failed");
        };
        let (status, log) = peer.wait_until_ended();
        assert_eq!(status.code(), Some(1), "{error}; {log}");
        assert!(log.lines().last().is_some_and(|line| line.contains("storage failed")), "it says why: {log}");
        let mut peer = make();
        peer.start();
        // Everything acknowledged is there, and at most what was on its way besides; and no increment takes another's place.
        let found: i64 = peer.ask(&["GET", "counter"]);
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} after {acknowledged} were acknowledged");
        for number in 1..=3 {
            assert_eq!(peer.ask::<i64>(&["INCR", "counter"]), found + number);
        }
        stopped += 1;
        unsynced += found - acknowledged;
    }
    assert!(stopped > 0, "no run got as far as a write");
    // Nothing is written after it, so what is there was on its way when the sync failed.
    assert!(unsynced > 0, "a write was acknowledged though its sync had failed");
}

/// The median and the 99th percentile of so many writes at a peer.
fn latencies(peer: &Peer, level: &str) -> (Duration, Duration) {
    let mut connection = peer.connect();
    redis::cmd("RINGTIDE").arg("LEVEL").arg(level).exec(&mut connection).unwrap();
    let mut times: Vec<Duration> = (0..200)
        .map(|number| {
            let begin = Instant::now();
            redis::cmd("SET").arg(format!("key-{number}")).arg("value").exec(&mut connection).unwrap();
            begin.elapsed()
        })
        .collect();
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
fn a_disk_that_is_slow_by_half_a_second_slows_nobody_elses_clients() {
    if !can_run("strace", &["-o", "/dev/null", "true"]) {
        return;
    }
    let mut cluster = Cluster::start_with(3, &["--durability", "always"]);
    let before = ["sloppy", "quorum"].map(|level| latencies(&cluster.peers[0], level));
    cluster.peers[2].kill();
    let slow = "inject=fsync,fdatasync:delay_enter=500000";
    cluster.restart_through(2, &["strace", "-D", "-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", slow]);
    cluster.wait_until_whole();
    let during = ["sloppy", "quorum"].map(|level| latencies(&cluster.peers[0], level));
    println!("median and 99th, sloppy and quorum: before {before:?}, with one slow disk {during:?}");
    let begin = Instant::now();
    let _: () = at_level(&cluster.peers[0], "all", &["SET", "key", "value"]).unwrap();
    assert!(begin.elapsed() > Duration::from_millis(400), "the disk was not slow: {:?}", begin.elapsed());
    // Whoever waited for the slow one would wait half a second for each write.
    assert!(during.iter().all(|(median, _)| *median < Duration::from_millis(250)), "before {before:?}, during {during:?}");
    eventually("the slow one follows", || {
        let digests = cluster.peers[2].try_ask::<i64>(&["RINGTIDE", "CONVERGED"])?;
        if digests == 1 { Ok(()) } else { Err("not yet".to_owned()) }
    });
}
