//! Keyspace notifications: the same commands to a peer and to a real Redis announce the same events, in the same order.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ringtide::crdt::content::Content;
use ringtide::server::resp::{Options, dump};

use super::differential::{self, Redis};
use super::families;
use super::pubsub::Room;
use super::wire::Server;

/// A room with somebody who listens to all events, 1, and somebody who makes them, 0.
fn room(address: std::net::SocketAddr, letters: &str) -> Room {
    let mut room = Room::enter(address, &["3", "3"]);
    room.step(0, &[b"CONFIG", b"SET", b"notify-keyspace-events", letters.as_bytes()]);
    room.step(1, &[b"PSUBSCRIBE", b"__key*@0__:*"]);
    room
}

/// The events that a command made. A key that expired is told of at Redis when it is looked at, here when it is removed; and what a
/// command does to many members at once has no order at Redis.
fn events(room: &mut Room, words: &[&[u8]]) -> Vec<String> {
    let heard = room.step(0, words).pop().unwrap_or_default();
    heard.into_iter().filter(|frame| !frame.contains("expired")).collect()
}

/// One command of each kind that makes an event, some that make none, and some that empty a key.
const CONVERSATION: &str = "
SET a 1
SET a 2 EX 100
SET a 3 NX
SETNX a 1
SETEX a 100 5
PSETEX a 100000 5
GETSET a 7
APPEND a 1
APPEND fresh text
SETRANGE a 0 9
SETRANGE none 0 
INCR a
DECRBY a 3
INCRBYFLOAT a 0.5
GETEX a
GETEX a EX 100
GETEX a PERSIST
GETEX a PERSIST
GETEX a PXAT 1
GETDEL fresh
GETDEL fresh
MSET a 1 b 2
MSETNX a 1 c 2
MSETNX d 1 c 2
EXPIRE a 100
EXPIRE a 100 NX
EXPIRE none 100
PERSIST a
PERSIST a
EXPIRE a -1
DEL a b none
UNLINK c d
SETBIT bits 7 1
SETBIT bits 7 1
BITFIELD bits GET u8 0
BITFIELD bits SET u8 0 1 INCRBY u8 8 1
BITFIELD bits OVERFLOW FAIL INCRBY u2 0 100
BITOP NOT copy bits
BITOP AND copy none
PFADD hll a b c
PFADD hll a
PFMERGE merged hll
SADD set a b c
SADD set a
SREM set none
SREM set a
SMEMBERS set
SPOP set 0
SPOP set 5
SPOP set
SADD set x
SREM set x
HSET hash f 1 g 2
HSET hash f 1
HSETNX hash f 1
HSETNX hash n 1
HINCRBY hash f 2
HINCRBYFLOAT hash f 0.5
HDEL hash none
HDEL hash f
HDEL hash g n
RPUSH list a b c
LPUSH list z
LPUSHX none a
RPUSHX list b
LSET list 0 y
LINSERT list BEFORE a x
LINSERT list BEFORE none x
LREM list 0 none
LREM list 0 b
LTRIM list 0 -1
LTRIM none 0 -1
LPOP list
RPOP list
LPOP list 0
RPOP list 10
LPOP list
LPUSH list a
LTRIM list 5 9
LPUSH list a
LREM list 0 a
ZADD zset 1 a 2 b 3 c
ZADD zset 5 a
ZADD zset XX 1 none
ZADD zset INCR 2 a
ZINCRBY zset 2 a
ZREM zset none
ZREM zset a
ZPOPMIN zset
ZPOPMAX zset
ZADD zset 1 a 2 b 3 c 4 d
ZREMRANGEBYRANK zset 0 0
ZREMRANGEBYSCORE zset 2 2
ZREMRANGEBYLEX zset [c [c
ZREMRANGEBYRANK zset 0 -1
SADD s1 a b c
SADD s2 c d
SINTERSTORE s3 s1 s2
SUNIONSTORE s3 s1 s2
SDIFFSTORE s3 s1 none
SINTERSTORE s3 s1 none
SINTERSTORE s3 s1 none
SINTER s1 s2
SMOVE s1 s2 a
SMOVE s1 s2 nobody
SADD s4 x
SMOVE s4 s2 x
ZADD z1 1 a 2 b
ZUNIONSTORE z2 2 z1 s1
ZINTERSTORE z2 1 z1
ZDIFFSTORE z2 2 z1 s1
ZDIFFSTORE z2 2 z1 z1
ZRANGESTORE z2 z1 0 -1
ZRANGESTORE z2 z1 5 9
RENAME z1 z3
RENAMENX z3 z4
RENAMENX z4 s1
RENAME z4 s1
RENAME none s1
COPY s1 s5
COPY s1 s5
COPY s2 s5 REPLACE
SORT s5 ALPHA STORE sorted
SORT none STORE sorted
SORT none STORE sorted
TOUCH s5
GEOADD geo 13 38 x 14 38 y
GEOSEARCHSTORE near geo FROMMEMBER x BYRADIUS 1 km
GEORADIUS geo 13 38 1 km STORE near
GEORADIUS geo 0 0 1 km STORE near
LMPOP 2 none list LEFT
RPUSH list a b c
LMPOP 2 none list LEFT
LMPOP 1 list RIGHT COUNT 9
BLPOP none 0.01
RPUSH list a b
BLPOP list 1
BRPOP list 1
ZADD zset 1 a 2 b
ZMPOP 1 zset MIN
BZPOPMAX zset 1
RPUSH list a b c
RPUSH other z
LMOVE list other LEFT RIGHT
LMOVE none other LEFT RIGHT
RPOPLPUSH list list
LMOVE list fresh LEFT RIGHT
LMOVE list fresh LEFT LEFT
LMOVE list fresh RIGHT RIGHT
RPOPLPUSH fresh list
BLMOVE fresh newer LEFT RIGHT 1
GET none
INCR hll
LPUSH hll a
FLUSHALL
";

#[tokio::test(flavor = "multi_thread")]
async fn every_command_announces_what_it_announces_at_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    for letters in ["KEAn", "Eg$", "Kx", "A", ""] {
        let (mut ours, mut theirs) = (room(server.resp, letters), room(redis.address, letters));
        let mut differences = Vec::new();
        for line in CONVERSATION.lines().filter(|line| !line.is_empty()) {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let (mut ours, mut theirs) = (events(&mut ours, &words), events(&mut theirs, &words));
            // What moves is written where it goes before it is removed where it was.
            if line.starts_with("RENAME") || line.starts_with("SMOVE") {
                ours.sort_unstable();
                theirs.sort_unstable();
            }
            if ours != theirs {
                differences.push(format!("{line}\n    {ours:?}\n    {theirs:?}"));
            }
        }
        assert!(differences.is_empty(), "{letters}:\n{}", differences.join("\n"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_restored_is_announced_as_at_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (room(server.resp, "KEAn"), room(redis.address, "KEAn"));
    let payload = dump::serialize(&Content::Set(vec!["m".into()]));
    for line in ["k 0 #", "k 0 #", "k 0 # REPLACE", "k 100000 # REPLACE", "k 1 # ABSTTL", "k 1 # REPLACE ABSTTL", "k 1 # ABSTTL"] {
        let arguments = line.split(' ').map(|word| if word == "#" { &payload[..] } else { word.as_bytes() });
        let words: Vec<&[u8]> = std::iter::once(&b"RESTORE"[..]).chain(arguments).collect();
        assert_eq!(events(&mut ours, &words), events(&mut theirs, &words), "{line}");
    }
    server.stop().await;
}

/// Compares what random histories announce.
async fn compare(command: impl Strategy<Value = Vec<String>>) {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let rooms = std::cell::RefCell::new((room(server.resp, "KEAn"), room(redis.address, "KEAn")));
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&proptest::collection::vec(command, 1..30), |history| {
        let (ours, theirs) = &mut *rooms.borrow_mut();
        for room in [&mut *ours, &mut *theirs] {
            room.step(0, &[b"DEL", b"a", b"b", b"c"]);
        }
        for words in &history {
            let bytes: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
            prop_assert_eq!(events(ours, &bytes), events(theirs, &bytes), "{}", words.join(" "));
        }
        Ok(())
    });
    if let Err(difference) = result {
        panic!("{difference}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_announce_what_they_announce_at_redis() {
    // What is set with an end that has passed is told of as deleted, if at all.
    compare(
        differential::any_command()
            .prop_filter("no end in the past", |words| words.last().is_none_or(|word| word != "1" || words.len() < 5)),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_lists_announce_what_they_announce_at_redis() {
    compare(families::lists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_strings_and_bits_announce_what_they_announce_at_redis() {
    compare(families::strings_and_bits()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_hashes_announce_what_they_announce_at_redis() {
    compare(differential::any_hash_command()).await;
}
