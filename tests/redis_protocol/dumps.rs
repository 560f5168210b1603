//! Keys that go from a real Redis to a peer and back, as bytes that DUMP gives out and by MIGRATE.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use bytes::Bytes;
use proptest::prelude::*;
use ringtide::crdt::content::Content;
use ringtide::crdt::sorted_set::Score;
use ringtide::server::resp::Options;
use ringtide::server::resp::dump;

use super::differential::{Redis, compare_histories};
use super::wire::{Client, Server};

/// Commands that make one key of each type, of sizes about those at which Redis keeps it in another way.
fn contents() -> Vec<(String, Vec<Vec<Vec<u8>>>)> {
    let words = |name: &str, elements: Vec<Vec<u8>>, each: usize| -> Vec<Vec<Vec<u8>>> {
        let command = |part: &[Vec<u8>]| [&[name.into(), b"k".to_vec()], part].concat();
        elements.chunks(each * 400).map(command).collect()
    };
    let long = |length: usize, seed: u8| -> Vec<u8> { (0..length).map(|place| (place * place / 7) as u8 ^ seed).collect() };
    let mut contents: Vec<(String, Vec<Vec<Vec<u8>>>)> = Vec::new();
    for text in ["", "0", "-1", "127", "128", "-129", "32767", "32768", "2147483647", "-2147483649", "01", "abc"] {
        contents.push((format!("string {text}"), words("SET", vec![text.into()], 1)));
    }
    for (name, value) in [
        ("of one byte", vec![b'x'; 1000]),
        ("with a pattern", b"to be or not to be, ".repeat(5000)),
        ("that stays as it is", long(70_000, 3)),
    ] {
        contents.push((format!("string {name}"), words("SET", vec![value], 1)));
    }
    let sizes = [1usize, 2, 127, 128, 129, 511, 512, 513, 2000];
    for size in sizes {
        let texts: Vec<Vec<u8>> = (0..size).map(|number| format!("element {number}").into()).collect();
        // Integers of all widths.
        let numbers: Vec<Vec<u8>> = (0..size)
            .map(|number| ((1i64 << (number % 63)) * if number % 2 == 0 { 1 } else { -1 } + number as i64).to_string().into())
            .collect();
        let scores: [&[u8]; 7] = [b"0", b"-1", b"0.1", b"1e300", b"inf", b"-inf", b"123456789"];
        let scored = texts.iter().enumerate().flat_map(|(place, text)| [scores[place % 7].to_vec(), text.clone()]).collect();
        let pairs = texts.iter().zip(&numbers).flat_map(|(text, number)| [text.clone(), number.clone()]).collect();
        contents.push((format!("list of {size}"), words("RPUSH", texts.clone(), 1)));
        contents.push((format!("list of {size} integers"), words("RPUSH", numbers.clone(), 1)));
        contents.push((format!("set of {size}"), words("SADD", texts, 1)));
        contents.push((format!("set of {size} integers"), words("SADD", numbers, 1)));
        contents.push((format!("hash of {size}"), words("HSET", pairs, 2)));
        contents.push((format!("sorted set of {size}"), words("ZADD", scored, 2)));
    }
    for width in [i64::from(i16::MAX), i64::from(i32::MAX), i64::MAX] {
        let numbers = vec![b"1".to_vec(), width.to_string().into(), (-width).to_string().into()];
        contents.push((format!("integers up to {width}"), words("SADD", numbers, 1)));
    }
    for length in [63, 64, 65, 4095, 4096, 9000, 40_000] {
        let items = vec![long(length, 1), b"1".to_vec(), vec![b'y'; length], long(length, 2)];
        contents.push((format!("list of {length} bytes each"), words("RPUSH", items.clone(), 1)));
        contents.push((format!("set of {length} bytes each"), words("SADD", items.clone(), 1)));
        contents.push((format!("hash of {length} bytes each"), words("HSET", items, 2)));
        let scored = vec![b"1".to_vec(), long(length, 1), b"2".to_vec(), vec![b'y'; length]];
        contents.push((format!("sorted set of {length} bytes each"), words("ZADD", scored, 2)));
    }
    for size in [0usize, 1, 100, 5000] {
        let elements: Vec<Vec<u8>> = (0..size).map(|number| number.to_string().into()).collect();
        let commands = if size == 0 { vec![vec![b"PFADD".to_vec(), b"k".to_vec()]] } else { words("PFADD", elements, 1) };
        contents.push((format!("HyperLogLog of {size}"), commands));
    }
    contents
}

/// The string that a reply holds.
fn bulk(reply: &[u8]) -> Vec<u8> {
    let head = reply.windows(2).position(|pair| pair == b"\r\n").unwrap() + 2;
    assert!(reply[0] == b'$' && reply[1] != b'-', "no payload: {}", String::from_utf8_lossy(reply));
    reply[head..reply.len() - 2].to_vec()
}

/// All that a key shows, in an order of its own.
fn shown(client: &mut Client, key: &str) -> (String, Vec<String>) {
    let data_type = client.line(&format!("TYPE {key}"));
    let line = match data_type.as_str() {
        "+list\r\n" => format!("LRANGE {key} 0 -1"),
        "+set\r\n" => format!("SMEMBERS {key}"),
        "+hash\r\n" => format!("HGETALL {key}"),
        "+zset\r\n" => format!("ZRANGE {key} 0 -1 WITHSCORES"),
        _ if client.line(&format!("PFCOUNT {key}")).starts_with(':') => format!("PFCOUNT {key}"),
        _ => format!("GET {key}"),
    };
    let reply = client.line(&line);
    let mut lines: Vec<String> = reply.split("\r\n").map(str::to_owned).collect();
    if line.starts_with("SMEMBERS") {
        lines.sort_unstable();
    }
    if line.starts_with("HGETALL") {
        let mut pairs: Vec<String> = lines[1..].chunks(4).map(|pair| pair.join(" ")).collect();
        pairs.sort_unstable();
        lines = pairs;
    }
    (format!("{line} {data_type}"), lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_dumps_is_restored_here_and_goes_back() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    // Once as Redis comes, once with nodes of lists that are small, packed by LZF, or one element each.
    for settings in
        [&[][..], &["CONFIG SET list-max-listpack-size 4", "CONFIG SET list-compress-depth 1", "DEBUG QUICKLIST-PACKED-THRESHOLD 100b"]]
    {
        for line in settings {
            assert_eq!(theirs.line(line), "+OK\r\n");
        }
        for (name, commands) in contents() {
            theirs.line("DEL k back");
            for words in &commands {
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                assert!(!theirs.ask(&words).starts_with(b"-"), "{name}");
            }
            let expected = shown(&mut theirs, "k");
            let payload = bulk(&theirs.line_bytes("DUMP k"));
            assert_eq!(ours.ask(&[b"RESTORE", b"k", b"0", &payload, b"REPLACE"]), b"+OK\r\n", "{name}");
            assert_eq!(shown(&mut ours, "k"), expected, "{name}");
            let payload = bulk(&ours.line_bytes("DUMP k"));
            assert_eq!(theirs.ask(&[b"RESTORE", b"back", b"0", &payload]), b"+OK\r\n", "{name}");
            assert_eq!(shown(&mut theirs, "back").1, expected.1, "{name}");
            // Redis packs what it gets as its own; only what was long once and is short now differs, and so does none of these.
            if !name.contains("HyperLogLog") {
                assert_eq!(theirs.line("OBJECT ENCODING back"), theirs.line("OBJECT ENCODING k"), "{name}");
            }
        }
    }
    server.stop().await;
}

/// Payloads of every type, and some that are none.
fn payloads() -> Vec<Vec<u8>> {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let mut payloads: Vec<Vec<u8>> = [
        Content::String(vec![bytes("text")]),
        Content::String(vec![bytes("12")]),
        Content::List(vec![bytes("x"), bytes("7"), bytes("x")]),
        Content::Set(vec![bytes("m")]),
        Content::SortedSet(vec![(bytes("m"), Score::new(1.5)), (bytes("n"), Score::new(f64::INFINITY))]),
    ]
    .iter()
    .map(|content| dump::serialize(content).to_vec())
    .collect();
    let mut changed = payloads[0].clone();
    changed[3] ^= 1;
    payloads.extend([changed, payloads[2][..9].to_vec(), Vec::new()]);
    // Whole, but no string: its length is too long; a set with a member twice; a list of nothing; no type.
    for object in [&b"\x00\x05v"[..], b"\x02\x02\x01x\x01x", b"\x01\x00", b"\x63\x00", b"\x00\xc4"] {
        payloads.push(sealed(object));
    }
    payloads
}

/// An object with version and checksum behind it.
fn sealed(object: &[u8]) -> Vec<u8> {
    let mut payload = [object, &10u16.to_le_bytes()].concat();
    let checksum = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// A command that dumps, restores, or looks at what came of it.
fn any_command() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let key = || proptest::sample::select(vec!["a", "b", "c"]);
    let time = || proptest::sample::select(vec!["0", "0", "100000", "-1", "x", "4102444800000", "9223372036854775808"]);
    let option = || {
        proptest::sample::select(vec![
            "",
            "",
            "REPLACE",
            "replace ABSTTL",
            "ABSTTL",
            "IDLETIME 5",
            "IDLETIME -1",
            "FREQ 255",
            "FREQ 256",
            "FREQ x",
            "IDLETIME",
            "IDLETIME 1 FREQ 1",
            "FREQ 1 REPLACE",
            "FOO",
            "REPLACE REPLACE",
        ])
    };
    let restore = (key(), time(), proptest::sample::select(payloads()), option()).prop_map(|(key, time, payload, options)| {
        // How long is left is never quite the same, so it is seldom looked at.
        let words = [b"RESTORE".to_vec(), key.into(), time.into(), payload].into_iter();
        words.chain(options.split(' ').filter(|word| !word.is_empty()).map(Into::into)).collect()
    });
    let line = prop_oneof![
        2 => (proptest::sample::select(vec!["DUMP", "GET", "TYPE", "SMEMBERS", "PERSIST", "DEL"]), key()).prop_map(|(name, key)| format!("{name} {key}")),
        1 => key().prop_map(|key| format!("LRANGE {key} 0 -1")),
        1 => key().prop_map(|key| format!("ZRANGE {key} 0 -1 WITHSCORES")),
        1 => (proptest::sample::select(vec!["INCR", "APPEND x", "SADD m n", "RPUSH y", "ZINCRBY 1 m"]), key()).prop_map(|(words, key)| {
            let (name, rest) = words.split_once(' ').unwrap_or((words, ""));
            format!("{name} {key} {rest}").trim_end().to_owned()
        }),
        1 => key().prop_map(|key| format!("DUMP {key} {key}")),
    ];
    prop_oneof![2 => restore, 3 => line.prop_map(|line| line.split(' ').map(Into::into).collect())]
}

#[tokio::test(flavor = "multi_thread")]
async fn random_dumps_and_restores_get_the_replies_of_redis() {
    compare_histories("2", any_command(), 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_fields_stay_here_and_are_refused_where_nobody_knows_them() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    ours.line("HSET h f v g w");
    ours.line("HPEXPIREAT h 4102444800000 FIELDS 1 f");
    let payload = bulk(&ours.line_bytes("DUMP h"));
    assert_eq!(ours.ask(&[b"RESTORE", b"copy", b"0", &payload]), b"+OK\r\n");
    assert_eq!(ours.line("HPEXPIRETIME copy FIELDS 2 f g"), "*2\r\n:4102444800000\r\n:-1\r\n");
    assert_eq!(theirs.ask(&[b"RESTORE", b"h", b"0", &payload]), b"-ERR DUMP payload version or checksum are wrong\r\n");
    server.stop().await;
}

/// An end that counts from now, and one from 1970.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_key_is_given_from_now_or_from_1970() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    let payload = dump::serialize(&Content::String(vec![Bytes::from_static(b"v")]));
    client.ask(&[b"RESTORE", b"k", b"4102444800000", &payload, b"ABSTTL"]);
    assert_eq!(client.line("PEXPIRETIME k"), ":4102444800000\r\n");
    client.ask(&[b"RESTORE", b"k", b"100000", &payload, b"REPLACE"]);
    let left: u32 = client.line("PTTL k").trim_matches([':', '\r', '\n']).parse().unwrap();
    assert!((90_000..=100_000).contains(&left), "{left}");
    client.ask(&[b"RESTORE", b"k", b"1", &payload, b"REPLACE", b"ABSTTL"]);
    assert_eq!(client.line("EXISTS k"), ":0\r\n");
    server.stop().await;
}

/// What is said to the one that gives, where `{port}` is that of the other; `>` speaks to the other.
const MIGRATIONS: &str = "
MIGRATE 127.0.0.1 {port} none 0 1000
MIGRATE 127.0.0.1 {port} k 0
MIGRATE 127.0.0.1 {port} k 0 x
MIGRATE 127.0.0.1 {port} k x 1000
MIGRATE 127.0.0.1 {port} k 0 1000 FOO
MIGRATE 127.0.0.1 {port} k 0 1000 AUTH
MIGRATE 127.0.0.1 {port} k 0 1000 AUTH2 user
MIGRATE 127.0.0.1 {port} k 0 1000 KEYS k
SET k v
MIGRATE 127.0.0.1 {port} k 0 1000 COPY
GET k
> GET k
MIGRATE 127.0.0.1 {port} k 0 1000
GET k
MIGRATE 127.0.0.1 {port} k 0 0 REPLACE
GET k
> GET k
RPUSH list a b c
EXPIREAT list 4102444800
SADD set a
> SET set taken
MIGRATE 127.0.0.1 {port}  0 1000 KEYS none list set
EXISTS list set
> LRANGE list 0 -1
> GET set
MIGRATE 127.0.0.1 {port}  0 1000 REPLACE KEYS set
EXISTS set
> SMEMBERS set
SET k v
MIGRATE 127.0.0.1 {port} k 99 1000
MIGRATE 127.0.0.1 {port} k 0 1000 AUTH password
MIGRATE 127.0.0.1 {port} k 0 1000 REPLACE AUTH2 default password
SET k v
MIGRATE 127.0.0.1 {dead} k 0 100
MIGRATE 127.0.0.1 {deaf} k 0 100
GET k
COMMAND GETKEYS MIGRATE 127.0.0.1 1 k 0 1000
COMMAND GETKEYS MIGRATE 127.0.0.1 1  0 1000 COPY KEYS a b
";

/// What both say to that.
fn migrate(from: SocketAddr, to: SocketAddr) -> Vec<String> {
    let (mut source, mut target) = (Client::connect(from), Client::connect(to));
    for client in [&mut source, &mut target] {
        client.line("FLUSHALL");
    }
    // Nobody accepts, so nobody answers; and a port that was given back.
    let deaf = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let ports = [("{port}", to.port()), ("{deaf}", deaf.local_addr().unwrap().port()), ("{dead}", dead)];
    let lines = MIGRATIONS.lines().filter(|line| !line.is_empty()).map(|line| {
        let filled = ports.iter().fold(line.to_owned(), |line, (name, port)| line.replace(name, &port.to_string()));
        let reply = match filled.strip_prefix("> ") {
            Some(line) => target.line(line),
            None => source.line(&filled),
        };
        format!("{line} => {reply}")
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_migrate_between_redis_and_peers_as_between_two_of_redis() {
    let (Some(redis), Some(other_redis)) = (Redis::start().await, Redis::start().await) else { return };
    let (server, other_server) = (Server::start(Options::default()).await, Server::start(Options::default()).await);
    let expected = migrate(redis.address, other_redis.address);
    for (from, to) in [(server.resp, redis.address), (redis.address, server.resp), (server.resp, other_server.resp)] {
        assert_eq!(migrate(from, to), expected);
    }
    server.stop().await;
    other_server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_of_redis_and_of_a_peer_are_told_alike() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    for words in [&["SET", "n", "-129"][..], &["DUMP", "n"], &["SET", "s", "short"], &["DUMP", "s"], &["DUMP", "none"]] {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        assert_eq!(ours.ask(&words), theirs.ask(&words));
    }
    server.stop().await;
}
