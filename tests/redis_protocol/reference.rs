//! What COMMAND tells of each command, compared with what a real Redis tells of it.

use ringtide::server::resp::Options;
use serde_json::{Map, Value};

use super::differential::Redis;
use super::wire::{Client, Server};

/// The value that a reply in version 3 of the protocol stands for. What has no order is sorted.
fn value(rest: &mut &[u8]) -> Value {
    let end = rest.windows(2).position(|pair| pair == b"\r\n").unwrap();
    let (sort, head) = (rest[0], std::str::from_utf8(&rest[1..end]).unwrap());
    *rest = &rest[end + 2..];
    let count = || head.parse::<usize>().unwrap();
    match sort {
        b'+' | b'-' => head.into(),
        b':' => head.parse::<i64>().unwrap().into(),
        b'_' => Value::Null,
        b'$' => {
            let (text, behind) = rest.split_at(count());
            *rest = &behind[2..];
            String::from_utf8_lossy(text).into()
        }
        b'*' => (0..count()).map(|_| value(rest)).collect(),
        b'~' => {
            let mut elements: Vec<Value> = (0..count()).map(|_| value(rest)).collect();
            elements.sort_by_key(Value::to_string);
            elements.into()
        }
        b'%' => {
            let pair = |_| (value(rest).as_str().unwrap().to_owned(), value(rest));
            (0..count()).map(pair).collect::<Map<_, _>>().into()
        }
        other => panic!("unknown type of reply {:?}", char::from(other)),
    }
}

fn ask(client: &mut Client, line: &str) -> Value {
    value(&mut &client.line_bytes(line)[..])
}

/// Without what is said in words of our own, and without subcommands, which are asked for one by one.
fn comparable(mut document: Value) -> Value {
    if let Some(pairs) = document.as_object_mut() {
        for name in ["summary", "history", "subcommands"] {
            pairs.remove(name);
        }
    }
    if let Some(columns) = document.as_array_mut() {
        columns.truncate(9);
    }
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_command_is_what_redis_tells_of_it() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let (mut ours, mut theirs) = (server.client(), Client::connect(redis.address));
    for client in [&mut ours, &mut theirs] {
        client.line("HELLO 3");
    }
    let names = ask(&mut ours, "COMMAND LIST");
    let (mut compared, mut differences) = (0, Vec::new());
    for name in names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        let [info, their_info] = [&mut ours, &mut theirs].map(|client| comparable(ask(client, &format!("COMMAND INFO {name}"))[0].take()));
        if their_info.is_null() {
            continue;
        }
        let [docs, their_docs] =
            [&mut ours, &mut theirs].map(|client| comparable(ask(client, &format!("COMMAND DOCS {name}"))[name].take()));
        compared += 1;
        for (ours, theirs) in [(info, their_info), (docs, their_docs)] {
            if ours != theirs {
                differences.push(format!("{name}\n    {ours}\n    {theirs}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(compared > 200, "{compared} compared only");
    server.stop().await;
}
