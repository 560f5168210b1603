//! Random histories of geo commands, of SORT and of OBJECT, to a peer and to a real Redis.

use proptest::prelude::*;

use super::differential::compare_histories;

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("c")]
}

fn words(line: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    line.prop_map(|line| line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

fn degrees() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (-180.0..180.0f64, -85.0..85.0f64).prop_map(|(longitude, latitude)| format!("{longitude} {latitude}")),
        // Near each other, so that small searches find some.
        6 => (-0.05..0.05f64, -0.05..0.05f64).prop_map(|(longitude, latitude)| format!("{} {}", 13.0 + longitude, 38.0 + latitude)),
        2 => (-0.01..0.01f64, 84.0..85.05f64).prop_map(|(longitude, latitude)| format!("{} {latitude}", 180.0 - longitude.abs())),
        1 => proptest::sample::select(vec![
            "0 0", "180 85.05112878", "-180 -85.05112878", "180.1 0", "0 85.06", "x 0", "0 x", "-180 0", "inf 1", "1e-300 -0",
        ])
        .prop_map(str::to_owned),
    ]
}

fn places() -> impl Strategy<Value = Vec<String>> {
    let member = || prop_oneof![Just("p"), Just("q"), Just("r"), Just("s"), Just("t"), Just("u"), Just("nobody")];
    let unit = || proptest::sample::select(vec!["m", "km", "ft", "MI", "km", "km", "parsec"]);
    let length = || {
        prop_oneof![
            4 => proptest::sample::select(vec!["0", "1", "5", "50", "500", "5000", "20000", "-1", "x", "1e-5", "0.5", "40075"]).prop_map(str::to_owned),
            2 => (0.0..20_000.0f64).prop_map(|length| length.to_string()),
        ]
    };
    let option = || {
        proptest::sample::select(vec![
            "",
            "",
            "ASC",
            "DESC",
            "COUNT 2",
            "COUNT 2 ANY",
            "ANY",
            "COUNT 0",
            "WITHDIST",
            "WITHHASH",
            "WITHCOORD",
            "WITHCOORD WITHDIST WITHHASH ASC",
            "COUNT x",
            "COUNT",
            "FOO",
        ])
    };
    let from = || prop_oneof![3 => member().prop_map(|member| format!("FROMMEMBER {member}")), 3 => degrees().prop_map(|place| format!("FROMLONLAT {place}"))];
    let by = || {
        prop_oneof![
            3 => (length(), unit()).prop_map(|(radius, unit)| format!("BYRADIUS {radius} {unit}")),
            3 => (length(), length(), unit()).prop_map(|(width, height, unit)| format!("BYBOX {width} {height} {unit}")),
        ]
    };
    let store = proptest::sample::select(vec!["", "", "STORE c", "STOREDIST c", "STORE"]);
    let by_member = proptest::sample::select(vec!["GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"]);
    let by_place = proptest::sample::select(vec!["GEORADIUS", "GEORADIUS_RO"]);
    words(prop_oneof![
        9 => (key(), degrees(), member(), degrees(), member())
            .prop_map(|(key, place, member, other, second)| format!("GEOADD {key} {place} {member} {other} {second}")),
        3 => (key(), proptest::sample::select(vec!["NX", "XX CH", "CH", "nx xx", "NX CH"]), degrees(), member())
            .prop_map(|(key, option, place, member)| format!("GEOADD {key} {option} {place} {member}")),
        1 => (key(), degrees(), member()).prop_map(|(key, place, member)| format!("GEOADD {key} {place} {member} 1")),
        2 => (key(), member(), member()).prop_map(|(key, one, two)| format!("GEOPOS {key} {one} {two}")),
        2 => (key(), member(), member()).prop_map(|(key, one, two)| format!("GEOHASH {key} {one} {two}")),
        3 => (key(), member(), member(), unit()).prop_map(|(key, one, two, unit)| format!("GEODIST {key} {one} {two} {unit}")),
        9 => (key(), from(), by(), option(), option())
            .prop_map(|(key, from, by, option, other)| format!("GEOSEARCH {key} {from} {by} {option} {other}")),
        1 => (key(), from(), from(), by(), by()).prop_map(|(key, from, also, by, too)| format!("GEOSEARCH {key} {from} {by} {also} {too}")),
        1 => (key(), by(), by()).prop_map(|(key, by, too)| format!("GEOSEARCH {key} {by} {too}")),
        3 => (key(), key(), from(), by(), proptest::sample::select(vec!["", "STOREDIST", "ASC COUNT 2", "WITHDIST"]))
            .prop_map(|(target, source, from, by, option)| format!("GEOSEARCHSTORE {target} {source} {from} {by} {option}")),
        3 => (by_place, key(), degrees(), length(), unit(), option(), store.clone())
            .prop_map(|(name, key, place, radius, unit, option, store)| format!("{name} {key} {place} {radius} {unit} {option} {store}")),
        3 => (by_member, key(), member(), length(), unit(), option(), store)
            .prop_map(|(name, key, member, radius, unit, option, store)| format!("{name} {key} {member} {radius} {unit} {option} {store}")),
        3 => key().prop_map(|key| format!("ZRANGE {key} 0 -1 WITHSCORES")),
        1 => (prop_oneof![Just("DEL"), Just("TYPE")], key()).prop_map(|(name, key)| format!("{name} {key}")),
        1 => (prop_oneof![4 => Just("ZADD"), 1 => Just("HSET")], key(), member()).prop_map(|(name, key, member)| format!("{name} {key} 5 {member}")),
    ])
}

fn sorting() -> impl Strategy<Value = Vec<String>> {
    let element = || proptest::sample::select(vec!["1", "2", "3", "10", "-4.5", "x", "abc"]);
    let elements = || proptest::collection::vec(element(), 1..6).prop_map(|elements| elements.join(" "));
    let by = || proptest::sample::select(vec!["", "", "", "BY w*", "BY h*->f", "BY nosort", "BY *", "BY h*->", "BY"]);
    let get = || proptest::sample::select(vec!["", "", "GET #", "GET w*", "GET w* GET #", "GET h*->f", "GET nothing", "GET #*", "GET"]);
    let limit = || {
        proptest::sample::select(vec![
            "",
            "",
            "LIMIT 0 2",
            "LIMIT 1 10",
            "LIMIT -3 1",
            "LIMIT 9 9",
            "LIMIT 0 -2",
            "LIMIT 1",
            "LIMIT x 1",
            "limit 0 0",
        ])
    };
    let order = || proptest::sample::select(vec!["", "DESC", "ALPHA", "ALPHA DESC", "ASC"]);
    let name = || proptest::sample::select(vec!["SORT", "SORT", "SORT_RO"]);
    let object = proptest::sample::select(vec!["FREQ", "FOO"]);
    let value = || proptest::sample::select(vec!["5", "1", "-0.5", "inf", "y", "nan"]);
    words(prop_oneof![
        6 => (key(), elements()).prop_map(|(key, elements)| format!("RPUSH {key} {elements}")),
        // Of one member: a set has no order that two servers share.
        1 => (prop_oneof![Just("SADD"), Just("PFADD")], key()).prop_map(|(name, key)| format!("{name} {key} 7")),
        2 => (key(), element(), element()).prop_map(|(key, one, two)| format!("ZADD {key} 2 {one} 1 {two}")),
        1 => (key(), value()).prop_map(|(key, value)| format!("SET {key} {value}")),
        3 => (prop_oneof![Just("w1"), Just("w2"), Just("w3"), Just("wx"), Just("w10")], value()).prop_map(|(key, value)| format!("SET {key} {value}")),
        3 => (prop_oneof![Just("h1"), Just("h2"), Just("h3"), Just("hx")], value()).prop_map(|(key, value)| format!("HSET {key} f {value}")),
        1 => Just("DEL w1 w2 w3 wx w10 h1 h2 h3 hx".to_owned()),
        9 => (name(), key(), order(), limit()).prop_map(|(name, key, order, limit)| format!("{name} {key} {order} {limit}")),
        9 => (name(), key(), by(), get(), proptest::sample::select(vec!["", "DESC", "asc"])).prop_map(|(name, key, by, get, order)| format!("{name} {key} {by} {get} {order}")),
        4 => (name(), key(), by(), get(), key()).prop_map(|(name, key, by, get, target)| format!("{name} {key} {by} {get} STORE {target}")),
        2 => (key(), limit(), get()).prop_map(|(key, limit, get)| format!("SORT {key} BY nosort {limit} {get} DESC")),
        2 => (object, key()).prop_map(|(what, key)| format!("OBJECT {what} {key}")),
        1 => (key(), key()).prop_map(|(one, two)| format!("TOUCH {one} {two} {one}")),
        2 => key().prop_map(|key| format!("LRANGE {key} 0 -1")),
        1 => (prop_oneof![Just("DEL"), Just("TYPE"), Just("PEXPIRETIME")], key()).prop_map(|(name, key)| format!("{name} {key}")),
        1 => key().prop_map(|key| format!("PEXPIREAT {key} 4102444800123")),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn random_places_get_the_replies_of_redis() {
    compare_histories("2", places(), 15).await;
    compare_histories("3", places(), 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_sortings_get_the_replies_of_redis() {
    compare_histories("2", sorting(), 15).await;
}
