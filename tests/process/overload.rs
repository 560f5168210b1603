//! More than a peer can take: what clients and peers hold in its memory is bounded, whoever can't be served hears `BUSY`, and when the load ends
//! all is as before.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringtide::config::{MAX_CLIENTS, MAX_HELD};

use crate::harness::{Cluster, Peer, send_signal, within};

const MIB: u64 = 1 << 20;
/// What a process may grow by beside what clients hold: caches, write buffers, what the allocator keeps.
const SLACK: u64 = 256 * MIB;
/// Within this time everything is as before the load.
const RECOVERY: Duration = Duration::from_secs(60);

/// One command as it is sent.
fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn stream(peer: &Peer) -> TcpStream {
    let stream = TcpStream::connect(&peer.ready().resp).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// How many files a process may have open.
fn files_allowed() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Watches the memory of a peer for a while. Returns the most that it had.
fn watch(peer: &Peer, duration: Duration) -> u64 {
    let begin = Instant::now();
    let mut most = 0;
    while begin.elapsed() < duration {
        most = most.max(peer.resident_bytes());
        thread::sleep(Duration::from_millis(20));
    }
    most
}

/// How long a peer takes for a command of one client: the median of some hundred SETs and GETs, one after another.
fn latency(peer: &Peer) -> Result<Duration, String> {
    let mut stream = TcpStream::connect(&peer.ready().resp).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
    let mut lines = BufReader::new(stream.try_clone().map_err(|error| error.to_string())?).lines();
    let mut took = Vec::new();
    for _ in 0..150 {
        for (command, expected) in [("SET latency v", &["+OK"][..]), ("GET latency", &["$1", "v"])] {
            let begin = Instant::now();
            stream.write_all(format!("{command}\r\n").as_bytes()).map_err(|error| error.to_string())?;
            for expected in expected {
                let line = lines.next().and_then(Result::ok).unwrap_or_default();
                if line != *expected {
                    return Err(format!("{command} was answered by '{line}'"));
                }
            }
            took.push(begin.elapsed());
        }
    }
    took.sort();
    Ok(took[took.len() / 2])
}

/// Demands that clients are served as if nothing had been, and are not served more slowly than `before`. Tests beside this one slow it down for a
/// while; an overload that is not over does so for good.
fn expect_recovery(peer: &Peer, before: Duration) {
    within(RECOVERY, "clients are served as before", || match latency(peer)? {
        median if median <= 3 * before + Duration::from_millis(2) => Ok(()),
        median => Err(format!("a command takes {median:?}, and took {before:?} before")),
    });
}

#[test]
fn clients_that_read_nothing_hold_no_more_than_all_clients_may() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path()).with(&["--memory", "64MiB"]);
    peer.start();
    let quiet = latency(&peer).unwrap();
    let _: () = peer.ask(&["SET".as_bytes(), b"long", &vec![b'x'; 2 << 20]]);
    let before = peer.resident_bytes();
    // Four gigabytes, if they got it all.
    let request = command(&[b"GET", b"long"]).repeat(50);
    let readers: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut reader = stream(&peer);
            reader.write_all(&request).unwrap();
            reader
        })
        .collect();
    let most = watch(&peer, Duration::from_secs(4));
    assert!(most < before + MAX_HELD as u64 + SLACK, "memory grew from {before} to {most}");
    // Whoever needs no memory is served.
    assert_eq!(peer.ask::<String>(&["PING"]), "PONG");
    drop(readers);
    expect_recovery(&peer, quiet);
}

#[test]
fn readers_that_take_nothing_are_sent_away_where_others_need_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path()).with(&["--memory", "64MiB"]);
    peer.start();
    let quiet = latency(&peer).unwrap();
    let _: () = peer.ask(&["SET".as_bytes(), b"long", &vec![b'x'; 8 << 20]]);
    let request = command(&[b"GET", b"long"]).repeat(20);
    let readers: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut reader = stream(&peer);
            reader.write_all(&request).unwrap();
            reader
        })
        .collect();
    within(RECOVERY, "somebody hears that it is too much", || match peer.try_ask::<String>(&["GET", "long"]) {
        Err(error) if error.contains("BUSY") => Ok(()),
        other => Err(format!("{} bytes", other.map_or(0, |value| value.len()))),
    });
    // They stay connected, and read nothing.
    expect_recovery(&peer, quiet);
    drop(readers);
}

#[test]
fn commands_that_are_never_finished_are_thrown_away_where_memory_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path()).with(&["--memory", "64MiB"]);
    peer.start();
    let quiet = latency(&peer).unwrap();
    let before = peer.resident_bytes();
    let (length, sent) = (16 << 20, 8 << 20);
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${length}\r\n");
    let mut writers: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut writer = stream(&peer);
            writer.write_all(head.as_bytes()).unwrap();
            writer.write_all(&vec![b'x'; sent]).unwrap();
            writer
        })
        .collect();
    let most = watch(&peer, Duration::from_secs(2));
    assert!(most < before + MAX_HELD as u64 + SLACK, "memory grew from {before} to {most}");
    // The last ones are told when they have finished, and go on.
    let last = writers.last_mut().unwrap();
    last.write_all(&vec![b'x'; length - sent]).unwrap();
    last.write_all(b"\r\nPING\r\n").unwrap();
    let mut lines = BufReader::new(last).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("-BUSY"));
    assert_eq!(lines.next().unwrap().unwrap(), "+PONG");
    drop(writers);
    expect_recovery(&peer, quiet);
}

#[test]
fn tens_of_thousands_of_commands_in_one_pipeline_are_all_answered() {
    let commands: usize = std::env::var("RINGTIDE_PIPELINE").ok().and_then(|number| number.parse().ok()).unwrap_or(50_000);
    let cluster = Cluster::start_with(3, &["--memory", "64MiB"]);
    let peer = &cluster.peers[0];
    let quiet = latency(peer).unwrap();
    let before = peer.resident_bytes();
    let mut writer = stream(peer);
    let reader = writer.try_clone().unwrap();
    let writing = thread::spawn(move || {
        for number in 0..commands {
            let key = format!("key-{}", number % 1000);
            writer.write_all(&command(&[b"SET", key.as_bytes(), b"value"])).unwrap();
        }
    });
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = BufReader::new(reader).lines();
    for _ in 0..commands {
        *answers.entry(lines.next().unwrap().unwrap()).or_default() += 1;
    }
    writing.join().unwrap();
    println!("{answers:?}");
    assert!(answers.keys().all(|answer| answer == "+OK" || answer.starts_with("-BUSY")), "{answers:?}");
    assert!(answers["+OK"] > commands / 2);
    let after = peer.resident_bytes();
    assert!(after < before + SLACK, "memory grew from {before} to {after}");
    expect_recovery(peer, quiet);
}

#[test]
fn ten_thousand_clients_are_served_and_the_next_one_is_turned_away() {
    if files_allowed() < MAX_CLIENTS + 1_000 {
        return println!("skipped: a process may open {} files only here", files_allowed());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path());
    peer.start();
    let quiet = latency(&peer).unwrap();
    let before = peer.resident_bytes();
    let mut clients: Vec<TcpStream> = Vec::with_capacity(MAX_CLIENTS);
    for _ in 0..MAX_CLIENTS {
        clients.push(stream(&peer));
    }
    let mut answer = [0; 7];
    for client in &mut clients {
        client.write_all(b"PING\r\n").unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
    }
    let after = peer.resident_bytes();
    println!("{} bytes a client", (after - before) / clients.len() as u64);
    assert!(after < before + SLACK, "memory grew from {before} to {after}");
    let mut refusal = String::new();
    stream(&peer).read_to_string(&mut refusal).unwrap();
    assert_eq!(refusal, "-ERR max number of clients reached\r\n");
    drop(clients);
    expect_recovery(&peer, quiet);
}

#[test]
fn a_peer_that_stops_reading_costs_the_others_bounded_memory_and_is_brought_up_to_date() {
    let cluster = Cluster::start_with(3, &["--memory", "64MiB"]);
    let quiet = latency(&cluster.peers[0]).unwrap();
    let before: Vec<u64> = cluster.peers.iter().map(Peer::resident_bytes).collect();
    let stopped = cluster.peers[2].pid();
    send_signal(stopped, "STOP");
    let stop = AtomicBool::new(false);
    let value = vec![b'y'; 128 << 10];
    let most = thread::scope(|scope| {
        for client in 0..6 {
            let (stop, value, peer) = (&stop, &value, &cluster.peers[client % 2]);
            scope.spawn(move || {
                let mut connection = stream(peer);
                let mut lines = BufReader::new(connection.try_clone().unwrap()).lines();
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    for slot in 0..8 {
                        let key = format!("key-{client}-{}", (round * 8 + slot) % 100);
                        connection.write_all(&command(&[b"SET", key.as_bytes(), value])).unwrap();
                    }
                    for _ in 0..8 {
                        let answer = lines.next().unwrap().unwrap();
                        assert!(answer == "+OK" || answer.starts_with("-BUSY") || answer.starts_with("-NOQUORUM"), "{answer}");
                    }
                }
            });
        }
        let most = watch(&cluster.peers[0], Duration::from_secs(8));
        stop.store(true, Ordering::Relaxed);
        most
    });
    send_signal(stopped, "CONT");
    assert!(most < before[0] + 3 * SLACK, "memory grew from {} to {most}", before[0]);
    cluster.wait_until_whole();
    cluster.wait_until_converged();
    cluster.peers.iter().for_each(|peer| expect_recovery(peer, quiet));
}
