//! The same commands to a peer and to a real Redis: every reply has to be the same, byte by byte.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringtide::server::resp::Options;

use super::wire::{Client, Server, reply_length};

/// A real Redis of version 7.0 on a free port; `None`, with the reason printed, where there is none.
pub(super) struct Redis {
    process: Child,
    pub(super) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Redis {
    pub(super) async fn start() -> Option<Self> {
        let version = Command::new("redis-server").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
        if !String::from_utf8_lossy(&version).contains("v=7.0.") {
            println!("skipped: no redis-server of version 7.0 on this machine to compare with");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string(), "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let redis = Self { process, address, _folder: folder };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Some(redis);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("redis-server does not come up");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Replies in a form that may be compared: Redis gives members in no order.
fn comparable(words: &[&[u8]], reply: Vec<u8>) -> Vec<u8> {
    if !words.first().is_some_and(|name| name.eq_ignore_ascii_case(b"smembers")) || !matches!(reply.first(), Some(b'*' | b'~')) {
        return reply;
    }
    let head = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (mut elements, mut rest) = (Vec::new(), &reply[head..]);
    while let Some(length) = reply_length(rest).filter(|_| !rest.is_empty()) {
        elements.push(&rest[..length]);
        rest = &rest[length..];
    }
    elements.sort_unstable();
    [&reply[..head], &elements.concat()].concat()
}

pub(super) fn compare(ours: &mut Client, theirs: &mut Client, words: &[&[u8]]) {
    let shown = || words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ");
    let (our_reply, their_reply) = (comparable(words, ours.ask(words)), comparable(words, theirs.ask(words)));
    assert_eq!(String::from_utf8_lossy(&our_reply), String::from_utf8_lossy(&their_reply), "{}", shown());
}

/// Commands whose replies don't depend on the time or the server.
const CONVERSATION: &str = include_str!("conversation.txt");

#[tokio::test(flavor = "multi_thread")]
async fn a_long_conversation_gets_the_replies_of_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    for protocol in ["2", "3"] {
        let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
        for client in [&mut ours, &mut theirs] {
            client.line(&format!("HELLO {protocol}"));
        }
        for line in CONVERSATION.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            compare(&mut ours, &mut theirs, &words);
        }
        let binary = b"\0\r\n\xff\"'".as_slice();
        for words in [
            [b"SET".as_slice(), binary, binary].as_slice(),
            &[b"GET", binary],
            &[b"SET", b"", b""],
            &[b"GET", b""],
            &[b"STRLEN", b""],
            &[b"SADD", b"binary", binary, b""],
            &[b"SMEMBERS", b"binary"],
            &[b"DEL", b"", binary, b"binary"],
            &[b"FOO", b"a\r\nb"],
            &[b""],
            &[b"INCRBY", b"n", b" 1"],
            &[b"CLIENT", b"SETNAME", b"a b"],
        ] {
            compare(&mut ours, &mut theirs, words);
        }
    }
    server.stop().await;
}

/// A command on one of three keys, with arguments that make it succeed as often as fail.
fn any_command() -> impl Strategy<Value = Vec<String>> {
    let key = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let value = || prop_oneof![Just(""), Just("1"), Just("-7"), Just("01"), Just("abc"), Just("9223372036854775807")];
    let time = || prop_oneof![Just("4102444800"), Just("4102444801"), Just("0"), Just("-5"), Just("x")];
    let option = || prop_oneof![Just(""), Just("NX"), Just("XX"), Just("GT"), Just("LT"), Just("XX LT"), Just("XX GT"), Just("NX GT")];
    let set_option = || {
        prop_oneof![Just(""), Just("NX"), Just("XX"), Just("GET"), Just("KEEPTTL"), Just("EXAT 4102444800"), Just("NX GET"), Just("PXAT 1")]
    };
    let getex_option = || prop_oneof![Just(""), Just("PERSIST"), Just("EXAT 4102444802"), Just("PXAT 1"), Just("EXAT 0")];
    let on_key = prop_oneof![
        Just("GET"),
        Just("GETDEL"),
        Just("STRLEN"),
        Just("INCR"),
        Just("DECR"),
        Just("DEL"),
        Just("EXISTS"),
        Just("TYPE"),
        Just("SMEMBERS"),
        Just("SCARD"),
        Just("EXPIRETIME"),
        Just("PERSIST"),
        Just("UNLINK"),
    ];
    let on_key_and_value = prop_oneof![
        Just("SET"),
        Just("GETSET"),
        Just("SETNX"),
        Just("APPEND"),
        Just("INCRBY"),
        Just("DECRBY"),
        Just("SADD"),
        Just("SREM"),
        Just("SISMEMBER"),
        Just("SMISMEMBER"),
    ];
    let line = prop_oneof![
        4 => (on_key, key()).prop_map(|(name, key)| format!("{name} {key}")),
        5 => (on_key_and_value, key(), value()).prop_map(|(name, key, value)| format!("{name} {key} {value}")),
        2 => (key(), value(), set_option()).prop_map(|(key, value, option)| format!("SET {key} {value} {option}")),
        1 => (key(), getex_option()).prop_map(|(key, option)| format!("GETEX {key} {option}")),
        3 => (key(), time(), option()).prop_map(|(key, time, option)| format!("EXPIREAT {key} {time} {option}")),
        1 => (key(), value(), value()).prop_map(|(key, first, second)| format!("SADD {key} {first} {second}")),
        1 => (key(), key(), value()).prop_map(|(first, second, value)| format!("MSET {first} {value} {second} 5")),
        1 => (key(), key()).prop_map(|(first, second)| format!("MGET {first} {second} {first}")),
        1 => (key(), key()).prop_map(|(first, second)| format!("DEL {first} {second} {first}")),
    ];
    line.prop_map(|line| {
        let line = line.trim_end_matches(' ');
        // A value may be empty, which is a word of its own.
        line.split(' ').map(str::to_owned).collect()
    })
}

/// Plays random histories of commands on the keys a, b and c at both.
pub(super) async fn compare_histories(command: impl Strategy<Value = Vec<String>>, cases: u32) {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let clients = RefCell::new((server.client(), Client::connect(redis.address)));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&proptest::collection::vec(command, 1..40), |history| {
        let (ours, theirs) = &mut *clients.borrow_mut();
        for client in [&mut *ours, &mut *theirs] {
            client.line("DEL a b c");
        }
        for words in &history {
            let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            compare(ours, theirs, &words);
        }
        Ok(())
    });
    if let Err(difference) = result {
        panic!("{difference}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_get_the_replies_of_redis() {
    compare_histories(any_command(), 100).await;
}
