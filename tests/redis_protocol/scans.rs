//! Walking the elements of sets, hashes and sorted sets.

use std::collections::{BTreeMap, BTreeSet};

use ringtide::server::resp::Options;

use super::differential::{Redis, compare};
use super::wire::{Client, Server};

/// The bulk strings of a reply, however they are nested.
fn bulks(reply: &str) -> Vec<String> {
    let lines: Vec<&str> = reply.split("\r\n").collect();
    lines.windows(2).filter(|pair| pair[0].starts_with('$')).map(|pair| pair[1].to_owned()).collect()
}

/// One step: the next cursor, and what was met.
fn step(client: &mut Client, name: &str, key: &str, cursor: &str, options: &str) -> (String, Vec<String>) {
    let reply = client.line(format!("{name} {key} {cursor} {options}").trim_end());
    let mut met = bulks(&reply);
    assert!(!met.is_empty(), "{reply}");
    (met.remove(0), met)
}

fn walk(client: &mut Client, name: &str, key: &str, options: &str) -> Vec<Vec<String>> {
    let (mut steps, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let (next, met) = step(client, name, key, &cursor, options);
        steps.push(met);
        if next == "0" {
            return steps;
        }
        cursor = next;
    }
}

/// A set, a hash and a sorted set of so many elements each.
fn fill(client: &mut Client, size: usize) {
    for first in (0..size).step_by(100) {
        let numbers = || first..size.min(first + 100);
        let list = |of: fn(usize) -> String| numbers().map(of).collect::<Vec<_>>().join(" ");
        client.line(&format!("SADD s {}", list(|number| format!("m{number}"))));
        client.line(&format!("HSET h {}", list(|number| format!("f{number} v{number}"))));
        client.line(&format!("ZADD z {}", list(|number| format!("{number}.5 m{number}"))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_element_is_met_in_steps_of_about_the_count() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    fill(&mut client, 1000);
    for (name, key, per_element) in [("SSCAN", "s", 1), ("HSCAN", "h", 2), ("ZSCAN", "z", 2)] {
        let steps = walk(&mut client, name, key, "COUNT 50");
        assert!(steps.len() >= 20 && steps.iter().all(|step| step.len() <= 50 * per_element), "{name}: {}", steps.len());
        let elements: BTreeSet<String> = steps.concat().chunks(per_element).map(|element| element[0].clone()).collect();
        assert_eq!((steps.concat().len(), elements.len()), (1000 * per_element, 1000));
        assert!(walk(&mut client, name, key, "COUNT 1000000").len() == 1);
        let matched = walk(&mut client, name, key, "MATCH ?99* COUNT 100").concat();
        assert_eq!(matched.chunks(per_element).map(|element| element[0][1..].to_owned()).collect::<BTreeSet<_>>().len(), 11);
    }
    let pairs: BTreeMap<String, String> =
        walk(&mut client, "HSCAN", "h", "").concat().chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    assert!(pairs.iter().all(|(field, value)| field[1..] == value[1..]));
    let scores = walk(&mut client, "ZSCAN", "z", "").concat();
    assert!(scores.chunks(2).all(|pair| pair[1] == format!("{}.5", &pair[0][1..])));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_all_the_time_is_met_while_others_come_and_go() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    fill(&mut client, 600);
    for (name, key, add, remove) in
        [("SSCAN", "s", "SADD s", "SREM s"), ("HSCAN", "h", "HSET h", "HDEL h"), ("ZSCAN", "z", "ZADD z 1", "ZREM z")]
    {
        let (mut met, mut cursor, mut turn) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let (next, elements) = step(&mut client, name, key, &cursor, "COUNT 7");
            met.extend(elements);
            if next == "0" {
                break;
            }
            cursor = next;
            // The even ones stay.
            let gone = if name == "HSCAN" { format!("f{}", 2 * turn + 1) } else { format!("m{}", 2 * turn + 1) };
            client.line(&format!("{remove} {gone}"));
            client.line(&format!("{add} new{turn}{}", if name == "HSCAN" { " v" } else { "" }));
            turn += 1;
        }
        assert!(turn > 50);
        let initial = if name == "HSCAN" { "f" } else { "m" };
        let lost: Vec<usize> = (0..600).step_by(2).filter(|number| !met.contains(&format!("{initial}{number}"))).collect();
        assert!(lost.is_empty(), "{name} did not meet {lost:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn small_collections_and_errors_get_the_replies_of_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    for client in [&mut ours, &mut theirs] {
        client.line("SADD s 1 2 3");
        client.line("HSET h f v g w");
        client.line("ZADD z 1.5 m -inf n 3 o 0.1 p");
        client.line("SET string v");
    }
    for line in ["SSCAN s 0", "HSCAN h 0 COUNT 1", "ZSCAN z 0", "HSCAN h 0 MATCH g*", "ZSCAN z 0 MATCH x COUNT 100", "SSCAN s 0 match 2"] {
        let [mut one, mut other] = [bulks(&ours.line(line)), bulks(&theirs.line(line))];
        one.sort_unstable();
        other.sort_unstable();
        assert_eq!(one, other, "{line}");
    }
    for protocol in ["2", "3"] {
        for client in [&mut ours, &mut theirs] {
            client.line(&format!("HELLO {protocol}"));
        }
        for line in [
            "SSCAN s",
            "SSCAN s x",
            "HSCAN none 0",
            "ZSCAN none 0 BAD",
            "ZSCAN none x",
            "SSCAN none 7 COUNT",
            "SSCAN string 0",
            "SSCAN h 0",
            "HSCAN z 0 BAD",
            "ZSCAN s 0 COUNT 0",
            "HSCAN h 0 COUNT 0",
            "HSCAN h 0 COUNT x",
            "HSCAN h 0 COUNT",
            "HSCAN h 0 TYPE hash",
            "ZSCAN z 18446744073709551616",
            "ZSCAN none -1",
            "SCAN 18446744073709551616",
        ] {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            compare(&mut ours, &mut theirs, &words);
        }
    }
    server.stop().await;
}
