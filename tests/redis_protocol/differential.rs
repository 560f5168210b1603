//! The same commands to a peer and to a real Redis: every reply has to be the same, byte by byte.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringtide::server::resp::Options;

use super::wire::{Client, Server, command, reply_length};

/// A real Redis of version 7.0 on a free port; `None`, with the reason printed, where there is none.
pub(super) struct Redis {
    process: Child,
    pub(super) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Redis {
    pub(super) async fn start() -> Option<Self> {
        Self::start_with(&[]).await
    }

    /// With settings of its own.
    pub(super) async fn start_with(settings: &[&str]) -> Option<Self> {
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
            .args(settings)
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

/// Commands whose replies Redis gives in no order.
const UNORDERED: [&str; 11] =
    ["smembers", "spop", "srandmember", "hgetall", "hkeys", "hvals", "hrandfield", "zrandmember", "sinter", "sunion", "sdiff"];

/// Replies in a form that may be compared: what has no order is sorted, in pairs where it is pairs.
fn comparable(words: &[&[u8]], reply: Vec<u8>) -> Vec<u8> {
    let name = words.first().map(|name| String::from_utf8_lossy(name).to_lowercase()).unwrap_or_default();
    // Each packs a key as it likes.
    if name == "dump" && reply.starts_with(b"$") && reply != b"$-1\r\n" {
        return b"$".to_vec();
    }
    // Small HyperLogLogs are kept in another form there.
    if name == "get" && reply.windows(6).any(|window| window == b"\r\nHYLL") {
        return b"HYLL".to_vec();
    }
    if !UNORDERED.contains(&name.as_str()) || !matches!(reply.first(), Some(b'*' | b'~' | b'%')) {
        return reply;
    }
    let head = reply.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (mut elements, mut rest) = (Vec::new(), &reply[head..]);
    while let Some(length) = reply_length(rest).filter(|_| !rest.is_empty()) {
        elements.push(&rest[..length]);
        rest = &rest[length..];
    }
    let is_nested = matches!(elements.first().and_then(|element| element.first()), Some(b'*'));
    let in_pairs = name == "hgetall"
        || name.ends_with("randmember") && words.len() == 4 && !is_nested
        || name == "hrandfield" && words.len() == 4 && !is_nested;
    let mut parts: Vec<Vec<u8>> = elements.chunks(if in_pairs { 2 } else { 1 }).map(<[&[u8]]>::concat).collect();
    parts.sort_unstable();
    [&reply[..head], &parts.concat()].concat()
}

/// A command as people write it.
fn shown(words: &[&[u8]]) -> String {
    words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
}

pub(super) fn compare(ours: &mut Client, theirs: &mut Client, words: &[&[u8]]) {
    let (our_reply, their_reply) = (comparable(words, ours.ask(words)), comparable(words, theirs.ask(words)));
    assert_eq!(String::from_utf8_lossy(&our_reply), String::from_utf8_lossy(&their_reply), "{}", shown(words));
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
pub(super) fn any_command() -> impl Strategy<Value = Vec<String>> {
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
    words_of(line)
}

/// The words of a line.
fn words_of(line: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    line.prop_map(|line| {
        let line = line.trim_end_matches(' ');
        // A value may be empty, which is a word of its own.
        line.split(' ').map(str::to_owned).collect()
    })
}

/// A number as clients send them: often with a fraction, at times none at all.
fn any_float() -> impl Strategy<Value = String> {
    let fixed = [
        "0",
        "1",
        "-7",
        "0.1",
        "-0.3",
        "3.0e3",
        "1e-10",
        "123456789.987654321",
        "9007199254740993",
        "0x10",
        "1e300",
        "inf",
        "-inf",
        "abc",
        "1e5000",
    ];
    prop_oneof![
        3 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        2 => (-1000..1000i32).prop_map(|cents| (f64::from(cents) / 100.0).to_string()),
        1 => (-1e12..1e12f64).prop_map(|double| double.to_string()),
        1 => "-?[0-9]{1,19}[.][0-9]{1,20}",
    ]
}

/// A command on hashes and numbers with fractions.
pub(super) fn any_hash_command() -> impl Strategy<Value = Vec<String>> {
    let key = || prop_oneof![5 => Just("a"), 5 => Just("b"), 1 => Just("c")];
    let field = || prop_oneof![Just("f"), Just("g"), Just("h")];
    let value = || prop_oneof![2 => Just("v".to_owned()), 2 => (-9..99i32).prop_map(|number| number.to_string()), 3 => any_float()];
    let integer =
        || prop_oneof![4 => (-9..99i64).prop_map(|number| number.to_string()), 1 => Just(i64::MAX.to_string()), 1 => Just("x".to_owned())];
    let on_key = prop_oneof![Just("HLEN"), Just("HGETALL"), Just("HKEYS"), Just("HVALS"), Just("TYPE"), Just("DEL"), Just("GET")];
    let on_field = prop_oneof![Just("HGET"), Just("HDEL"), Just("HEXISTS"), Just("HSTRLEN"), Just("HMGET")];
    let line = prop_oneof![
        2 => (on_key, key()).prop_map(|(name, key)| format!("{name} {key}")),
        3 => (on_field, key(), field()).prop_map(|(name, key, field)| format!("{name} {key} {field}")),
        2 => (key(), field(), field()).prop_map(|(key, one, two)| format!("HDEL {key} {one} {two}")),
        2 => (key(), field(), field()).prop_map(|(key, one, two)| format!("HMGET {key} {one} none {two}")),
        3 => (key(), field(), value()).prop_map(|(key, field, value)| format!("HSET {key} {field} {value}")),
        2 => (key(), field(), value(), field(), value()).prop_map(|(key, f, v, g, w)| format!("HSET {key} {f} {v} {g} {w}")),
        1 => (key(), field(), value()).prop_map(|(key, field, value)| format!("HMSET {key} {field} {value}")),
        2 => (key(), field(), value()).prop_map(|(key, field, value)| format!("HSETNX {key} {field} {value}")),
        3 => (key(), field(), integer()).prop_map(|(key, field, by)| format!("HINCRBY {key} {field} {by}")),
        6 => (key(), field(), any_float()).prop_map(|(key, field, by)| format!("HINCRBYFLOAT {key} {field} {by}")),
        1 => (key(), prop_oneof![Just("99"), Just("99 WITHVALUES"), Just("0"), Just("x")])
            .prop_map(|(key, rest)| format!("HRANDFIELD {key} {rest}")),
        4 => any_float().prop_map(|by| format!("INCRBYFLOAT c {by}")),
        1 => any_float().prop_map(|value| format!("SET c {value}")),
        1 => integer().prop_map(|by| format!("INCRBY c {by}")),
        1 => Just("GET c".to_owned()),
    ];
    words_of(line)
}

/// A command on sorted sets and the random ones of sets.
fn any_sorted_set_command() -> impl Strategy<Value = Vec<String>> {
    let key = || prop_oneof![5 => Just("a"), 5 => Just("b"), 1 => Just("c")];
    let member = || prop_oneof![Just("m"), Just("n"), Just("o"), Just("p")];
    let option = || {
        proptest::sample::select(vec!["", "", "NX ", "XX ", "GT ", "LT CH ", "CH ", "INCR ", "XX GT CH ", "NX GT ", "XX INCR ", "LT INCR "])
    };
    let bound =
        || prop_oneof![Just("-inf".to_owned()), Just("+inf".to_owned()), any_float(), any_float().prop_map(|float| format!("({float}"))];
    let place = || (-6..6i32).prop_map(|place| place.to_string());
    let whole_limit = || (-1..3i32, -1..4i32).prop_map(|(offset, count)| format!("LIMIT {offset} {count}"));
    let limit = || prop_oneof![3 => Just(String::new()), 2 => whole_limit(), 1 => Just("LIMIT 1".to_owned())];
    let pair = || (any_float(), member()).prop_map(|(score, member)| format!("{score} {member}"));
    let count = || proptest::sample::select(vec!["", "2", "0", "-1"]);
    let reversed = || proptest::sample::select(vec!["BYSCORE", "BYSCORE REV", "BYSCORE REV WITHSCORES"]);
    let scores = || prop_oneof![2 => Just(""), 1 => Just("WITHSCORES")];
    let with_bounds = || proptest::sample::select(vec!["ZRANGEBYSCORE", "ZREVRANGEBYSCORE"]);
    let line = prop_oneof![
        6 => (key(), option(), pair()).prop_map(|(key, option, pair)| format!("ZADD {key} {option}{pair}")),
        3 => (key(), option(), pair(), pair()).prop_map(|(key, option, one, two)| format!("ZADD {key} {option}{one} {two}")),
        6 => (key(), any_float(), member()).prop_map(|(key, by, member)| format!("ZINCRBY {key} {by} {member}")),
        1 => (key(), member(), member()).prop_map(|(key, one, two)| format!("ZREM {key} {one} {two}")),
        2 => (key(), member(), member()).prop_map(|(key, one, two)| format!("ZMSCORE {key} {one} {two}")),
        3 => (prop_oneof![Just("ZSCORE"), Just("ZRANK"), Just("ZREVRANK")], key(), member())
            .prop_map(|(name, key, member)| format!("{name} {key} {member}")),
        1 => key().prop_map(|key| format!("ZCARD {key}")),
        2 => (prop_oneof![Just("ZCOUNT"), Just("ZREMRANGEBYSCORE")], key(), bound(), bound())
            .prop_map(|(name, key, least, most)| format!("{name} {key} {least} {most}")),
        4 => (with_bounds(), key(), bound(), bound(), scores(), limit())
            .prop_map(|(name, key, least, most, scores, limit)| format!("{name} {key} {least} {most} {scores} {limit}")),
        2 => (key(), bound(), bound(), reversed(), limit())
            .prop_map(|(key, least, most, by, limit)| format!("ZRANGE {key} {least} {most} {by} {limit}")),
        2 => (prop_oneof![Just("ZRANGE"), Just("ZREVRANGE")], key(), place(), place(), scores())
            .prop_map(|(name, key, start, stop, scores)| format!("{name} {key} {start} {stop} {scores}")),
        1 => (key(), place(), place()).prop_map(|(key, start, stop)| format!("ZREMRANGEBYRANK {key} {start} {stop}")),
        1 => (key(), place(), place()).prop_map(|(key, start, stop)| format!("ZRANGE {key} {start} {stop} REV WITHSCORES")),
        2 => (prop_oneof![Just("ZPOPMIN"), Just("ZPOPMAX")], key(), count()).prop_map(|(name, key, count)| format!("{name} {key} {count}")),
        1 => (key(), prop_oneof![Just("99"), Just("99 WITHSCORES"), Just("0"), Just("x")]).prop_map(|(key, rest)| format!("ZRANDMEMBER {key} {rest}")),
        1 => (key(), member(), member()).prop_map(|(key, one, two)| format!("SADD {key} {one} {two}")),
        1 => (key(), prop_oneof![Just("99"), Just("0"), Just("x"), Just("-1")]).prop_map(|(key, count)| format!("SPOP {key} {count}")),
        1 => (key(), prop_oneof![Just("99"), Just("0"), Just("x")]).prop_map(|(key, count)| format!("SRANDMEMBER {key} {count}")),
        1 => (prop_oneof![Just("DEL"), Just("TYPE")], key()).prop_map(|(name, key)| format!("{name} {key}")),
    ];
    words_of(line.prop_map(|line| line.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")))
}

/// Ranges by the members' bytes, which mean something only where all scores are equal.
fn any_lexical_command() -> impl Strategy<Value = Vec<String>> {
    let bound = || proptest::sample::select(vec!["-", "+", "[a", "(a", "[ab", "(b", "[c", "(cc", "a", "["]);
    let member = || proptest::sample::select(vec!["a", "ab", "b", "c", "cc"]);
    let limit = || proptest::sample::select(vec!["", "", "LIMIT 1 2", "LIMIT 0 -1", "LIMIT -1 2"]);
    let name = || proptest::sample::select(vec!["ZRANGEBYLEX", "ZREVRANGEBYLEX"]);
    let line = prop_oneof![
        2 => (member(), member()).prop_map(|(one, two)| format!("ZADD a 0 {one} 0 {two}")),
        3 => (name(), bound(), bound(), limit()).prop_map(|(name, least, most, limit)| format!("{name} a {least} {most} {limit}")),
        1 => (bound(), bound(), limit()).prop_map(|(least, most, limit)| format!("ZRANGE a {least} {most} BYLEX REV {limit}")),
        1 => (bound(), bound()).prop_map(|(least, most)| format!("ZLEXCOUNT a {least} {most}")),
        1 => (bound(), bound()).prop_map(|(least, most)| format!("ZREMRANGEBYLEX a {least} {most}")),
    ];
    words_of(line)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_get_the_replies_of_redis() {
    compare_histories("2", any_command(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_hashes_get_the_replies_of_redis() {
    compare_histories("2", any_hash_command(), 10).await;
    compare_histories("3", any_hash_command(), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_sorted_sets_get_the_replies_of_redis() {
    compare_histories("2", any_sorted_set_command(), 15).await;
    compare_histories("3", any_sorted_set_command(), 10).await;
    compare_histories("3", any_lexical_command(), 10).await;
}

/// Names the seed of all random histories; 0 where it is not set.
const SEED: &str = "RINGTIDE_DIFFERENTIAL_SEED";

/// Commands of a history, on average.
const MEAN_LENGTH: u32 = 20;

/// After so many thousand commands the peer is a new one: counters that were deleted leave traces for minutes, which every later write of the key would read.
const ROUND_THOUSANDS: u32 = 2;

/// Plays random histories of commands on the keys a, b and c at both, in one version of the protocol: about so many thousand commands. All families
/// together play more than 200,000. Every other history is sent as one pipeline.
pub(super) async fn compare_histories<Word: AsRef<[u8]> + std::fmt::Debug>(
    protocol: &str,
    command: impl Strategy<Value = Vec<Word>>,
    thousands: u32,
) {
    let Some(redis) = Redis::start().await else { return };
    let seed: u64 = std::env::var(SEED).map_or(0, |seed| seed.parse().expect("the seed is a number"));
    let command = proptest::collection::vec(command, 1..2 * MEAN_LENGTH as usize);
    let compared = Cell::new(0);
    for round in 0..thousands.div_ceil(ROUND_THOUSANDS) {
        let server = Server::start(Options::default()).await;
        let clients = RefCell::new((server.client(), Client::connect(redis.address)));
        clients.borrow_mut().0.line(&format!("HELLO {protocol}"));
        clients.borrow_mut().1.line(&format!("HELLO {protocol}"));
        clients.borrow_mut().1.line("FLUSHALL");
        let seed = *blake3::hash(&[seed.to_be_bytes(), u64::from(round).to_be_bytes()].concat()).as_bytes();
        let thousands = ROUND_THOUSANDS.min(thousands - round * ROUND_THOUSANDS);
        let config = Config { cases: thousands * 1000 / MEAN_LENGTH, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
        let result = runner.run(&command, |history| {
            let (ours, theirs) = &mut *clients.borrow_mut();
            for client in [&mut *ours, &mut *theirs] {
                for line in ["DISCARD", "UNWATCH", "DEL a b c"] {
                    client.line(line);
                }
            }
            let history: Vec<Vec<&[u8]>> = history.iter().map(|words| words.iter().map(AsRef::as_ref).collect()).collect();
            compared.set(compared.get() + history.len());
            if history.len().is_multiple_of(2) {
                compare_pipeline(ours, theirs, &history);
            } else {
                history.iter().for_each(|words| compare(ours, theirs, words));
            }
            Ok(())
        });
        if let Err(difference) = result {
            panic!("{difference}");
        }
        server.stop().await;
    }
    println!("{} commands compared", compared.get());
}

/// Sends all commands before it reads a reply.
fn compare_pipeline(ours: &mut Client, theirs: &mut Client, history: &[Vec<&[u8]>]) {
    let bytes: Vec<u8> = history.iter().flat_map(|words| command(words)).collect();
    ours.send(&bytes);
    theirs.send(&bytes);
    let read = |client: &mut Client| history.iter().map(|_| client.reply().expect("the connection was closed")).collect::<Vec<_>>();
    // All replies are read before any is judged, so that the next history begins anew.
    for ((words, our_reply), their_reply) in history.iter().zip(read(ours)).zip(read(theirs)) {
        let (our_reply, their_reply) = (comparable(words, our_reply), comparable(words, their_reply));
        assert_eq!(String::from_utf8_lossy(&our_reply), String::from_utf8_lossy(&their_reply), "{} in a pipeline", shown(words));
    }
}
