//! Conversations of several connections that publish and subscribe, with a peer and with a real Redis: each connection has to
//! see the same, message by message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringtide::server::resp::Options;

use super::differential::Redis;
use super::wire::{Client, Server, command};

/// Several connections to one server.
pub(super) struct Room {
    clients: Vec<Client>,
    /// Who is between MULTI and EXEC.
    queueing: Vec<bool>,
    steps: usize,
}

impl Room {
    pub(super) fn enter(address: SocketAddr, protocols: &[&str]) -> Self {
        let mut clients: Vec<Client> = protocols.iter().map(|_| Client::connect(address)).collect();
        for (client, protocol) in clients.iter_mut().zip(protocols) {
            client.line(&format!("HELLO {protocol}"));
        }
        Self { queueing: vec![false; clients.len()], clients, steps: 0 }
    }

    /// What each connection gets when one of them sends a command; a PING to each marks the end, unless it would be queued.
    pub(super) fn step(&mut self, speaker: usize, words: &[&[u8]]) -> Vec<Vec<String>> {
        self.steps += 1;
        let mark = format!("mark-{}", self.steps);
        let mut heard = vec![Vec::new(); self.clients.len()];
        // The speaker first: what it does is done when it has its replies.
        let client = &mut self.clients[speaker];
        client.send(&command(words));
        let is = |name: &[u8]| words[0].eq_ignore_ascii_case(name);
        if is(b"multi") || self.queueing[speaker] && !is(b"exec") && !is(b"reset") && !is(b"discard") {
            let reply = String::from_utf8_lossy(&client.reply().expect("the connection was closed")).into_owned();
            self.queueing[speaker] |= reply == "+OK\r\n";
            heard[speaker].push(reply);
        } else {
            self.queueing[speaker] = false;
        }
        let order = std::iter::once(speaker).chain((0..heard.len()).filter(|listener| *listener != speaker));
        for listener in order.filter(|listener| !self.queueing[*listener]) {
            self.clients[listener].send(&command(&[b"PING", mark.as_bytes()]));
            heard[listener].extend(hear(&mut self.clients[listener], &mark));
        }
        heard
    }
}

/// Frames up to the one that holds the mark.
fn hear(client: &mut Client, mark: &str) -> Vec<String> {
    let mut frames = Vec::new();
    loop {
        let frame = String::from_utf8_lossy(&client.reply().expect("the connection was closed")).into_owned();
        if frame.contains(mark) {
            return frames;
        }
        frames.push(frame);
    }
}

/// Lines such as `1 SUBSCRIBE a`: which connection says what.
const CONVERSATION: &str = "
0 PUBLISH a nobody
1 SUBSCRIBE a b a
0 PUBLISH a first
0 SPUBLISH a other
1 PSUBSCRIBE a? [b-c] *
0 PUBLISH ab x
0 PUBLISH b x
1 SSUBSCRIBE a
0 SPUBLISH a shard
0 PUBLISH a message
2 SUBSCRIBE a
2 PUBLISH a self
0 PUBSUB CHANNELS a*
0 PUBSUB CHANNELS b
0 PUBSUB CHANNELS x y
0 PUBSUB SHARDCHANNELS
0 PUBSUB NUMSUB
0 PUBSUB NUMSUB a b none
0 PUBSUB SHARDNUMSUB a b
0 PUBSUB NUMPAT
0 PUBSUB
0 PUBSUB WHAT
0 PUBSUB HELP
0 PUBSUB NUMPAT x
1 GET k
1 CLIENT GETNAME
1 WHAT
1 PING
1 PING a b
1 MULTI
1 EXEC
1 UNSUBSCRIBE none
1 UNSUBSCRIBE b
1 PUNSUBSCRIBE *
0 PUBLISH b x
0 PUBLISH a x
1 SUNSUBSCRIBE
1 SUNSUBSCRIBE
0 PUBSUB CHANNELS
1 UNSUBSCRIBE a
1 PUNSUBSCRIBE a? [b-c]
1 PUNSUBSCRIBE
1 UNSUBSCRIBE
1 UNSUBSCRIBE a b
1 GET k
1 SUBSCRIBE
1 SUBSCRIBE a
1 RESET
0 PUBLISH a x
1 MULTI
1 SUBSCRIBE c d
1 SSUBSCRIBE e
1 GET k
1 EXEC
0 PUBLISH d x
1 RESET
1 UNSUBSCRIBE
0 PUBLISH a
0 PUBLISH a b c
0 SPUBLISH a
0 PUBSUB NUMPAT
2 MULTI
2 PUBLISH z x
2 SUBSCRIBE z
2 EXEC
0 PUBLISH z x
0 PUBLISH  empty
1 SUBSCRIBE 
0 PUBLISH  empty
";

fn rooms(ours: SocketAddr, theirs: SocketAddr, protocols: &[&str]) -> (Room, Room) {
    (Room::enter(ours, protocols), Room::enter(theirs, protocols))
}

fn compare(rooms: &mut (Room, Room), speaker: usize, line: &str) {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    assert_eq!(sorted(rooms.0.step(speaker, &words)), sorted(rooms.1.step(speaker, &words)), "{speaker} {line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_hear_what_they_hear_of_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    for protocols in [["2", "2", "3"], ["3", "3", "3"]] {
        let mut rooms = rooms(server.resp, redis.address, &protocols);
        for line in CONVERSATION.lines().filter(|line| !line.is_empty()) {
            let (speaker, line) = line.split_once(' ').unwrap();
            compare(&mut rooms, speaker.parse().unwrap(), line);
        }
    }
    server.stop().await;
}

fn any_step() -> impl Strategy<Value = (usize, String)> {
    let channel = || prop_oneof![Just("a"), Just("b"), Just("ab")];
    let pattern = || prop_oneof![Just("a*"), Just("?"), Just("[ab]"), Just("x")];
    let publish = prop_oneof![3 => Just("PUBLISH"), 1 => Just("SPUBLISH")];
    let on_channel = prop_oneof![3 => Just("SUBSCRIBE"), 2 => Just("UNSUBSCRIBE"), 1 => Just("SSUBSCRIBE"), 1 => Just("SUNSUBSCRIBE")];
    let on_pattern = prop_oneof![2 => Just("PSUBSCRIBE"), 1 => Just("PUNSUBSCRIBE")];
    let alone = prop_oneof![Just("RESET"), Just("PING"), Just("GET k"), Just("PUBSUB NUMPAT"), Just("PUBSUB NUMSUB a b")];
    let line = prop_oneof![
        6 => (publish, channel()).prop_map(|(name, channel)| format!("{name} {channel} m")),
        5 => (on_channel, channel()).prop_map(|(name, channel)| format!("{name} {channel}")),
        1 => (channel(), channel()).prop_map(|(one, two)| format!("SUBSCRIBE {one} {two}")),
        3 => (on_pattern, pattern()).prop_map(|(name, pattern)| format!("{name} {pattern}")),
        1 => alone.prop_map(str::to_owned),
    ];
    (0..3usize, line)
}

/// Redis tells the patterns that match one message in an order of its own.
fn sorted(heard: Vec<Vec<String>>) -> Vec<Vec<String>> {
    heard
        .into_iter()
        .map(|mut frames| {
            frames.sort_unstable();
            frames
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn random_subscribers_hear_what_they_hear_of_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let addresses = (server.resp, redis.address);
    let result = runner.run(&proptest::collection::vec(any_step(), 1..40), |steps| {
        let (mut ours, mut theirs) = rooms(addresses.0, addresses.1, &["2", "3", "3"]);
        for (speaker, line) in steps {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let (ours, theirs) = (sorted(ours.step(speaker, &words)), sorted(theirs.step(speaker, &words)));
            prop_assert_eq!(ours, theirs, "{} {}", speaker, line);
        }
        Ok(())
    });
    if let Err(difference) = result {
        panic!("{difference}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_the_order_of_their_publisher() {
    let server = Server::start(Options::default()).await;
    let (mut listener, mut publisher) = (server.client(), server.client());
    listener.line("SUBSCRIBE a");
    for round in 0..20 {
        let batch: Vec<u8> = (0..100).flat_map(|number| command(&[b"PUBLISH", b"a", format!("{round}-{number}").as_bytes()])).collect();
        publisher.send(&batch);
    }
    for round in 0..20 {
        for number in 0..100 {
            let message = String::from_utf8(listener.reply().unwrap()).unwrap();
            assert!(message.ends_with(&format!("\r\n{round}-{number}\r\n")), "{round}-{number}: {message}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_comes_between_the_replies_of_a_transaction() {
    let server = Server::start(Options::default()).await;
    let mut listener = server.client();
    listener.line("HELLO 3");
    listener.line("SUBSCRIBE a");
    let (address, stopped) = (server.resp, Arc::new(AtomicBool::new(false)));
    let publisher = {
        let stopped = stopped.clone();
        std::thread::spawn(move || {
            let mut client = Client::connect(address);
            while !stopped.load(Ordering::Relaxed) {
                client.line("PUBLISH a message");
            }
        })
    };
    let transaction = [b"MULTI\r\n".to_vec(), b"INCR n\r\n".repeat(20), b"EXEC\r\n".to_vec()].concat();
    let mut heard = 0;
    for _ in 0..100 {
        listener.send(&transaction);
        let replies = loop {
            let reply = String::from_utf8(listener.reply().unwrap()).unwrap();
            heard += i32::from(reply.starts_with(">3"));
            if reply.starts_with('*') {
                break reply;
            }
        };
        assert!(!replies.contains("message"), "{replies}");
    }
    stopped.store(true, Ordering::Relaxed);
    publisher.join().unwrap();
    assert!(heard > 100, "{heard} messages came meanwhile");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hears_of_a_write_can_read_it() {
    let server = Server::start(Options::default()).await;
    let (mut listener, mut reader, mut publisher) = (server.client(), server.client(), server.client());
    listener.line("SUBSCRIBE a");
    for number in 0..200 {
        let text = number.to_string();
        publisher.send(&[command(&[b"SET", b"k", text.as_bytes()]), command(&[b"PUBLISH", b"a", b"look"])].concat());
        listener.reply().unwrap();
        assert_eq!(reader.line("GET k"), format!("${}\r\n{text}\r\n", text.len()));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_reads_nothing_is_sent_away() {
    let server = Server::start(Options::default()).await;
    let (mut deaf, mut publisher) = (server.client(), server.client());
    deaf.line("SUBSCRIBE a");
    let message = vec![b'x'; 1_000_000];
    let mut heard = 0;
    for _ in 0..100 {
        heard += i32::from(publisher.ask(&[b"PUBLISH", b"a", &message]) == b":1\r\n");
        // What a socket holds is not bounded by the peer, so that much more than the bound is published.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!((30..60).contains(&heard), "{heard} messages of a megabyte were taken for a client that reads none");
    assert_eq!(publisher.line("PUBSUB NUMSUB a"), "*2\r\n$1\r\na\r\n:0\r\n");
    while deaf.reply().is_some() {}
    server.stop().await;
}
