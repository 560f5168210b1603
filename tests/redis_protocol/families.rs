//! Random histories of one family of commands each, to a peer and to a real Redis.

use proptest::prelude::*;

use super::differential::{Redis, compare, compare_histories};
use super::wire::{Client, Server};
use ringtide::server::resp::Options;

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("c")]
}

fn words(line: impl AsRef<str>) -> Vec<String> {
    // A value may be empty, which is a word of its own.
    line.as_ref().trim_end_matches(' ').split(' ').map(str::to_owned).collect()
}

pub(super) fn lists() -> impl Strategy<Value = Vec<String>> {
    let item = || prop_oneof![Just("x"), Just("y"), Just("z"), Just("1")];
    let index = || prop_oneof![4 => (-6..7i32).prop_map(|index| index.to_string()), 1 => Just("q".to_owned())];
    let push = prop_oneof![Just("LPUSH"), Just("RPUSH"), Just("LPUSHX"), Just("RPUSHX")];
    let take = || prop_oneof![Just("LPOP"), Just("RPOP")];
    let position = prop_oneof![
        Just("".to_owned()),
        (-3..4i32).prop_map(|rank| format!("RANK {rank}")),
        (-1..3i32, -2..3i32).prop_map(|(count, rank)| format!("COUNT {count} RANK {rank}")),
        (0..4i32, -2..3i32).prop_map(|(most, rank)| format!("MAXLEN {most} COUNT 0 RANK {rank}")),
        Just("COUNT".to_owned()),
    ];
    prop_oneof![
        8 => (push, key(), proptest::collection::vec(item(), 1..4)).prop_map(|(name, key, items)| format!("{name} {key} {}", items.join(" "))),
        2 => (take(), key()).prop_map(|(name, key)| format!("{name} {key}")),
        1 => (take(), key(), -1..4i32).prop_map(|(name, key, count)| format!("{name} {key} {count}")),
        3 => key().prop_map(|key| format!("LRANGE {key} 0 -1")),
        1 => (key(), index(), index()).prop_map(|(key, start, stop)| format!("LRANGE {key} {start} {stop}")),
        1 => (key(), index()).prop_map(|(key, index)| format!("LINDEX {key} {index}")),
        2 => (key(), index(), item()).prop_map(|(key, index, item)| format!("LSET {key} {index} {item}")),
        4 => (key(), prop_oneof![Just("BEFORE"), Just("after"), Just("at")], item(), item())
            .prop_map(|(key, place, pivot, item)| format!("LINSERT {key} {place} {pivot} {item}")),
        2 => (key(), -2..3i32, item()).prop_map(|(key, count, item)| format!("LREM {key} {count} {item}")),
        1 => (key(), index(), index()).prop_map(|(key, start, stop)| format!("LTRIM {key} {start} {stop}")),
        2 => (key(), item(), position).prop_map(|(key, item, options)| format!("LPOS {key} {item} {options}")),
        1 => (key(), prop_oneof![Just("LLEN"), Just("TYPE"), Just("DEL"), Just("EXISTS"), Just("GET")])
            .prop_map(|(key, name)| format!("{name} {key}")),
        1 => (key(), prop_oneof![Just("SET"), Just("SADD")]).prop_map(|(key, name)| format!("{name} {key} v")),
    ]
    .prop_map(words)
}

fn takes() -> impl Strategy<Value = Vec<String>> {
    let item = || prop_oneof![Just("x"), Just("y"), Just("z")];
    let side = || prop_oneof![8 => Just("LEFT"), 8 => Just("right"), 1 => Just("UP")];
    let end = || prop_oneof![8 => Just("MIN"), 8 => Just("max"), 1 => Just("LEFT")];
    let keys = || proptest::collection::vec(key(), 1..4).prop_map(|keys| keys.join(" "));
    let counted = || {
        (keys(), 0..12u8).prop_map(|(keys, other)| {
            let count = keys.split(' ').count();
            format!("{} {keys}", if other == 0 { count + 1 } else { count })
        })
    };
    let count =
        || prop_oneof![4 => Just(String::new()), 4 => (1..4u8).prop_map(|count| format!("COUNT {count}")), 1 => Just("COUNT 0".to_owned())];
    let timeout = || prop_oneof![8 => Just("0.001"), 1 => Just("-1"), 1 => Just("x")];
    let pop = || prop_oneof![Just("BLPOP"), Just("BRPOP"), Just("BZPOPMIN"), Just("BZPOPMAX")];
    prop_oneof![
        6 => (prop_oneof![Just("RPUSH"), Just("LPUSH")], key(), proptest::collection::vec(item(), 1..4))
            .prop_map(|(name, key, items)| format!("{name} {key} {}", items.join(" "))),
        3 => (key(), 0..4u8, item(), item()).prop_map(|(key, score, one, other)| format!("ZADD {key} {score} {one} 2 {other}")),
        6 => (key(), key(), side(), side()).prop_map(|(from, to, side, other)| format!("LMOVE {from} {to} {side} {other}")),
        2 => (key(), key()).prop_map(|(from, to)| format!("RPOPLPUSH {from} {to}")),
        3 => (counted(), side(), count()).prop_map(|(keys, side, count)| format!("LMPOP {keys} {side} {count}")),
        3 => (counted(), end(), count()).prop_map(|(keys, end, count)| format!("ZMPOP {keys} {end} {count}")),
        2 => (timeout(), counted(), side(), count()).prop_map(|(time, keys, side, count)| format!("BLMPOP {time} {keys} {side} {count}")),
        2 => (timeout(), counted(), end(), count()).prop_map(|(time, keys, end, count)| format!("BZMPOP {time} {keys} {end} {count}")),
        3 => (pop(), keys(), timeout()).prop_map(|(name, keys, time)| format!("{name} {keys} {time}")),
        2 => (key(), key(), side(), side(), timeout()).prop_map(|(from, to, side, other, time)| format!("BLMOVE {from} {to} {side} {other} {time}")),
        1 => (key(), key(), timeout()).prop_map(|(from, to, time)| format!("BRPOPLPUSH {from} {to} {time}")),
        3 => key().prop_map(|key| format!("LRANGE {key} 0 -1")),
        2 => (key(), prop_oneof![Just("DEL"), Just("TYPE"), Just("SET"), Just("EXISTS")])
            .prop_map(|(key, name)| if name == "SET" { format!("SET {key} v") } else { format!("{name} {key}") }),
        3 => prop_oneof![Just("MULTI"), Just("EXEC"), Just("EXEC"), Just("DISCARD"), Just("NOPE")].prop_map(str::to_owned),
    ]
    .prop_map(words)
}

/// Nothing is deleted: a key that was not there, came and went is the same as before, since nothing tells of it any more.
fn watching() -> impl Strategy<Value = Vec<String>> {
    let write = prop_oneof![
        Just("SET # v"),
        Just("INCR #"),
        Just("APPEND # x"),
        Just("GETSET # v"),
        Just("RPUSH # x"),
        Just("RPUSHX # x"),
        Just("LSET # 0 x"),
        Just("HSET # f v"),
        Just("HSETNX # f v"),
        Just("EXPIRE # 100"),
        Just("PERSIST #"),
        Just("SETNX # v"),
    ];
    let read = prop_oneof![Just("GET #"), Just("TYPE #"), Just("TTL #"), Just("LRANGE # 0 -1"), Just("HGETALL #"), Just("EXISTS #")];
    let keys = proptest::collection::vec(key(), 1..3).prop_map(|keys| keys.join(" "));
    prop_oneof![
        4 => (write, key()).prop_map(|(line, key)| line.replace('#', key)),
        2 => (read, key()).prop_map(|(line, key)| line.replace('#', key)),
        3 => keys.prop_map(|keys| format!("WATCH {keys}")),
        1 => prop_oneof![Just("UNWATCH"), Just("DISCARD"), Just("NOPE"), Just("RESET")].prop_map(str::to_owned),
        3 => prop_oneof![Just("MULTI"), Just("EXEC")].prop_map(str::to_owned),
    ]
    .prop_map(words)
}

pub(super) fn strings_and_bits() -> impl Strategy<Value = Vec<String>> {
    let value = || prop_oneof![Just(""), Just("1"), Just("abc"), Just("\u{7f}\u{7f}~"), Just("aXbXcX"), Just("hello world")];
    let number = || prop_oneof![6 => (-20..30i32).prop_map(|number| number.to_string()), 1 => Just("q".to_owned())];
    let unit = || prop_oneof![Just(""), Just("BYTE"), Just("BIT"), Just("bits")];
    let field = prop_oneof![Just("u4"), Just("i5"), Just("u8"), Just("i64"), Just("u63"), Just("u64"), Just("i1"), Just("x8"), Just("u0")];
    let at = prop_oneof![Just("0"), Just("3"), Just("#1"), Just("#2"), Just("17"), Just("-1"), Just("#x"), Just("4294967296")];
    let amount = prop_oneof![Just("1"), Just("-1"), Just("7"), Just("200"), Just("-100"), Just("9223372036854775807"), Just("x")];
    let change = (field, at, amount, 0..8u8).prop_map(|(field, at, amount, what)| match what {
        0..=2 => format!("GET {field} {at}"),
        3 => format!("OVERFLOW SAT SET {field} {at} {amount}"),
        4 => format!("SET {field} {at} {amount}"),
        5 => format!("OVERFLOW FAIL INCRBY {field} {at} {amount}"),
        6 => format!("OVERFLOW SAT INCRBY {field} {at} {amount} OVERFLOW WRAP"),
        _ => format!("INCRBY {field} {at} {amount}"),
    });
    let fields = proptest::collection::vec(change, 0..3).prop_map(|changes| changes.join(" "));
    let lcs = prop_oneof![
        Just(""),
        Just("LEN"),
        Just("IDX"),
        Just("IDX WITHMATCHLEN"),
        Just("IDX MINMATCHLEN 2"),
        Just("LEN IDX"),
        Just("MINMATCHLEN")
    ];
    let on_value = prop_oneof![4 => Just("SET"), 2 => Just("APPEND"), 1 => Just("SADD")];
    prop_oneof![
        6 => (on_value, key(), value()).prop_map(|(name, key, value)| format!("{name} {key} {value}")),
        2 => key().prop_map(|key| format!("GET {key}")),
        2 => (prop_oneof![Just("GETRANGE"), Just("SUBSTR")], key(), number(), number())
            .prop_map(|(name, key, start, end)| format!("{name} {key} {start} {end}")),
        2 => (key(), number(), value()).prop_map(|(key, offset, value)| format!("SETRANGE {key} {offset} {value}")),
        3 => (key(), number(), 0..3u8).prop_map(|(key, offset, bit)| format!("SETBIT {key} {offset} {bit}")),
        1 => (key(), number()).prop_map(|(key, offset)| format!("GETBIT {key} {offset}")),
        1 => key().prop_map(|key| format!("BITCOUNT {key}")),
        3 => (key(), number(), number(), unit()).prop_map(|(key, start, end, unit)| format!("BITCOUNT {key} {start} {end} {unit}")),
        1 => (key(), 0..3u8).prop_map(|(key, bit)| format!("BITPOS {key} {bit}")),
        1 => (key(), 0..2u8, number()).prop_map(|(key, bit, start)| format!("BITPOS {key} {bit} {start}")),
        3 => (key(), 0..2u8, number(), number(), unit()).prop_map(|(key, bit, start, end, unit)| format!("BITPOS {key} {bit} {start} {end} {unit}")),
        3 => (prop_oneof![Just("AND"), Just("or"), Just("XOR"), Just("NOT"), Just("NAND")], key(), proptest::collection::vec(key(), 1..4))
            .prop_map(|(name, target, keys)| format!("BITOP {name} {target} {}", keys.join(" "))),
        4 => (prop_oneof![3 => Just("BITFIELD"), 1 => Just("BITFIELD_RO")], key(), fields).prop_map(|(name, key, fields)| format!("{name} {key} {fields}")),
        2 => (key(), key(), lcs).prop_map(|(left, right, options)| format!("LCS {left} {right} {options}")),
        1 => (key(), key(), value()).prop_map(|(first, second, value)| format!("MSETNX {first} {value} {second} 5")),
        1 => (key(), prop_oneof![Just("STRLEN"), Just("INCR"), Just("DEL"), Just("TYPE")]).prop_map(|(key, name)| format!("{name} {key}")),
    ]
    .prop_map(words)
}

fn hyperloglogs() -> impl Strategy<Value = Vec<String>> {
    let elements =
        || proptest::collection::vec((0..400u32).prop_map(|number| number.to_string()), 0..60).prop_map(|elements| elements.join(" "));
    let keys = || proptest::collection::vec(key(), 1..4).prop_map(|keys| keys.join(" "));
    prop_oneof![
        5 => (key(), elements()).prop_map(|(key, elements)| format!("PFADD {key} {elements}")),
        4 => keys().prop_map(|keys| format!("PFCOUNT {keys}")),
        2 => keys().prop_map(|keys| format!("PFMERGE {keys}")),
        1 => (key(), prop_oneof![Just("DEL"), Just("TYPE"), Just("EXISTS")]).prop_map(|(key, name)| format!("{name} {key}")),
        1 => (key(), prop_oneof![3 => Just("SADD"), 1 => Just("SETNX")]).prop_map(|(key, name)| format!("{name} {key} v")),
    ]
    .prop_map(words)
}

fn several_sets() -> impl Strategy<Value = Vec<String>> {
    let member = || prop_oneof![Just("x"), Just("y"), Just("z"), Just("1"), Just("2")];
    let members = || proptest::collection::vec(member(), 1..4).prop_map(|members| members.join(" "));
    let keys = || proptest::collection::vec(key(), 1..4);
    let score = || proptest::sample::select(vec!["1", "-2.5", "0.1", "inf", "-inf", "1e300", "-0", "3"]);
    let numkeys = |keys: &[&str], wrong: i32| if wrong < 3 { wrong.to_string() } else { keys.len().to_string() };
    let weights = prop_oneof![
        3 => Just(String::new()),
        3 => proptest::collection::vec(proptest::sample::select(vec!["0", "-1", "2", "inf", "0.3", "q"]), 1..4).prop_map(|weights| format!("WEIGHTS {}", weights.join(" "))),
    ];
    let aggregate =
        || proptest::sample::select(vec!["", "", "AGGREGATE MIN", "aggregate max", "AGGREGATE SUM", "AGGREGATE avg", "AGGREGATE"]);
    let scores = || proptest::sample::select(vec!["", "WITHSCORES"]);
    let limit = || proptest::sample::select(vec!["", "LIMIT 1", "LIMIT 0", "LIMIT -1", "LIMIT", "LIMIT 2 LIMIT 9"]);
    let range = proptest::sample::select(vec![
        "0 -1",
        "0 0",
        "-2 -1",
        "5 2",
        "0 -1 REV",
        "(1 +inf BYSCORE",
        "+inf -inf BYSCORE REV LIMIT 0 2",
        "- + BYLEX",
        "0 -1 WITHSCORES",
        "0 x",
        "0 -1 LIMIT 1 1",
    ]);
    let name = || proptest::sample::select(vec!["SINTER", "SUNION", "SDIFF"]);
    let sorted = || proptest::sample::select(vec!["ZUNION", "ZINTER", "ZDIFF"]);
    let copied = proptest::sample::select(vec!["", "", "REPLACE", "DB 0", "DB 0 REPLACE", "DB x", "FOO"]);
    let line = prop_oneof![
        5 => (key(), members()).prop_map(|(key, members)| format!("SADD {key} {members}")),
        6 => (key(), score(), member(), score(), member()).prop_map(|(key, score, member, other, second)| format!("ZADD {key} {score} {member} {other} {second}")),
        1 => (prop_oneof![Just("SET"), Just("LPUSH"), Just("PFADD")], key(), member()).prop_map(|(name, key, member)| format!("{name} {key} {member}")),
        2 => (key(), member()).prop_map(|(key, member)| format!("HSET {key} {member} v {member}2 w")),
        1 => (key(), member()).prop_map(|(key, member)| format!("RPUSH {key} a {member} b {member}")),
        1 => key().prop_map(|key| format!("EXPIREAT {key} 4102444800")),
        3 => (name(), keys()).prop_map(|(name, keys)| format!("{name} {}", keys.join(" "))),
        3 => (name(), key(), keys()).prop_map(|(name, target, keys)| format!("{name}STORE {target} {}", keys.join(" "))),
        2 => (keys(), 0..30i32, limit()).prop_map(move |(keys, wrong, limit)| format!("SINTERCARD {} {} {limit}", numkeys(&keys, wrong), keys.join(" "))),
        2 => (keys(), 0..30i32, limit()).prop_map(move |(keys, wrong, limit)| format!("ZINTERCARD {} {} {limit}", numkeys(&keys, wrong), keys.join(" "))),
        4 => (key(), key(), member()).prop_map(|(source, target, member)| format!("SMOVE {source} {target} {member}")),
        5 => (sorted(), keys(), 0..30i32, weights.clone(), aggregate(), scores())
            .prop_map(move |(name, keys, wrong, weights, aggregate, scores)| format!("{name} {} {} {weights} {aggregate} {scores}", numkeys(&keys, wrong), keys.join(" "))),
        4 => (sorted(), key(), keys(), 0..30i32, weights, aggregate())
            .prop_map(move |(name, target, keys, wrong, weights, aggregate)| format!("{name}STORE {target} {} {} {weights} {aggregate}", numkeys(&keys, wrong), keys.join(" "))),
        2 => (key(), key(), range).prop_map(|(target, source, range)| format!("ZRANGESTORE {target} {source} {range}")),
        4 => (prop_oneof![Just("RENAME"), Just("RENAMENX")], key(), key()).prop_map(|(name, source, target)| format!("{name} {source} {target}")),
        4 => (key(), key(), copied).prop_map(|(source, target, options)| format!("COPY {source} {target} {options}")),
        3 => (proptest::sample::select(vec!["SMEMBERS", "TYPE", "EXPIRETIME", "GET", "DEL", "HGETALL", "PFCOUNT"]), key()).prop_map(|(name, key)| format!("{name} {key}")),
        3 => key().prop_map(|key| format!("ZRANGE {key} 0 -1 WITHSCORES")),
        1 => key().prop_map(|key| format!("LRANGE {key} 0 -1")),
    ];
    line.prop_map(|line| line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_sets_of_several_keys_get_the_replies_of_redis() {
    compare_histories("2", several_sets(), 20).await;
    compare_histories("3", several_sets(), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_lists_get_the_replies_of_redis() {
    compare_histories("2", lists(), 25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_takes_and_transactions_get_the_replies_of_redis() {
    compare_histories("2", takes(), 4).await;
    compare_histories("3", takes(), 2).await;
    compare_histories("2", watching(), 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_strings_and_bits_get_the_replies_of_redis() {
    compare_histories("2", strings_and_bits(), 25).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_hyperloglogs_get_the_replies_of_redis() {
    compare_histories("2", hyperloglogs(), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_elements_are_counted_as_redis_counts_them() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    for size in [10u32, 100, 1_000, 5_000, 20_000, 60_000] {
        for first in (0..size).step_by(500) {
            let elements: Vec<String> = (first..size.min(first + 500)).map(|number| format!("element:{number}")).collect();
            let command: Vec<&[u8]> = [&b"PFADD"[..], b"many"].into_iter().chain(elements.iter().map(String::as_bytes)).collect();
            compare(&mut ours, &mut theirs, &command);
        }
        compare(&mut ours, &mut theirs, &[b"PFCOUNT", b"many"]);
    }
    // At Redis this many elements are kept in the dense form already, but for the count that it remembers.
    let dense = [ours.ask(&[b"GETRANGE", b"many", b"16", b"-1"]), theirs.ask(&[b"GETRANGE", b"many", b"16", b"-1"])];
    assert_eq!(dense[0], dense[1]);
    compare(&mut ours, &mut theirs, &[b"STRLEN", b"many"]);
    server.stop().await;
}
