//! Fields that expire, which the Redis of these tests does not know: the replies are those of the versions that do.

use std::time::Duration;

use ringtide::server::resp::Options;

use super::wire::{Client, Server};

fn says(client: &mut Client, line: &str, reply: &str) {
    assert_eq!(client.line(line), reply, "{line}");
}

/// The one number of a reply.
fn number(client: &mut Client, line: &str) -> i64 {
    let reply = client.line(line);
    reply.strip_prefix("*1\r\n:").and_then(|rest| rest.trim_end().parse().ok()).unwrap_or_else(|| panic!("{line} says {reply}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_expire_one_by_one() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    says(&mut client, "HEXPIRE h 10 FIELDS 2 f g", "*2\r\n:-2\r\n:-2\r\n");
    says(&mut client, "HTTL h FIELDS 1 f", "*1\r\n:-2\r\n");
    says(&mut client, "HSET h f 1 g 2 i 3", ":3\r\n");
    says(&mut client, "HTTL h FIELDS 2 f x", "*2\r\n:-1\r\n:-2\r\n");
    says(&mut client, "HEXPIRE h 100 NX FIELDS 3 f g x", "*3\r\n:1\r\n:1\r\n:-2\r\n");
    says(&mut client, "HTTL h FIELDS 1 f", "*1\r\n:100\r\n");
    says(&mut client, "HPEXPIRE h 1 GT FIELDS 1 f", "*1\r\n:0\r\n");
    assert!((99_000..=100_000).contains(&number(&mut client, "HPTTL h FIELDS 1 f")));
    says(&mut client, "HINCRBY h f 5", ":6\r\n");
    says(&mut client, "HSET h g 7", ":0\r\n");
    says(&mut client, "HTTL h FIELDS 2 f g", "*2\r\n:100\r\n:-1\r\n");
    says(&mut client, "HPEXPIREAT h 33177117420500 FIELDS 1 i", "*1\r\n:1\r\n");
    says(&mut client, "HEXPIRETIME h FIELDS 1 i", "*1\r\n:33177117421\r\n");
    says(&mut client, "HPEXPIRETIME h FIELDS 1 i", "*1\r\n:33177117420500\r\n");
    says(&mut client, "HPERSIST h FIELDS 3 i i x", "*3\r\n:1\r\n:-1\r\n:-2\r\n");
    says(&mut client, "HEXPIREAT h 1 FIELDS 1 i", "*1\r\n:2\r\n");
    says(&mut client, "HLEN h", ":2\r\n");
    says(&mut client, "TTL h", ":-1\r\n");
    says(&mut client, "HPEXPIRE h 20 FIELDS 2 f g", "*2\r\n:1\r\n:1\r\n");
    tokio::time::sleep(Duration::from_millis(40)).await;
    says(&mut client, "EXISTS h", ":0\r\n");
    says(&mut client, "HGETALL h", "*0\r\n");
    says(&mut client, "HINCRBY h f 5", ":5\r\n");
    says(&mut client, "HTTL h FIELDS 1 f", "*1\r\n:-1\r\n");
    says(&mut client, "SET s v", "+OK\r\n");
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    for line in ["HTTL s FIELDS 1 f", "HEXPIRE s 1 FIELDS 1 f", "HPERSIST s FIELDS 1 f", "HGETDEL s FIELDS 1 f", "HSETEX s FIELDS 1 f v"] {
        says(&mut client, line, wrong_type);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_and_go_with_their_ends() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    says(&mut client, "HSETEX h FXX EX 100 FIELDS 1 f v", ":0\r\n");
    says(&mut client, "HSETEX h FNX EX 100 FIELDS 2 f v g w", ":1\r\n");
    says(&mut client, "HSETEX h FNX FIELDS 2 f v i w", ":0\r\n");
    says(&mut client, "HTTL h FIELDS 3 f g i", "*3\r\n:100\r\n:100\r\n:-2\r\n");
    says(&mut client, "HSETEX h KEEPTTL FIELDS 1 f z", ":1\r\n");
    says(&mut client, "HGETEX h FIELDS 2 f x", "*2\r\n$1\r\nz\r\n$-1\r\n");
    says(&mut client, "HTTL h FIELDS 1 f", "*1\r\n:100\r\n");
    says(&mut client, "HGETEX h PERSIST FIELDS 1 f", "*1\r\n$1\r\nz\r\n");
    says(&mut client, "HTTL h FIELDS 1 f", "*1\r\n:-1\r\n");
    says(&mut client, "HGETDEL h FIELDS 3 f f x", "*3\r\n$1\r\nz\r\n$-1\r\n$-1\r\n");
    says(&mut client, "HGETEX h EXAT 1 FIELDS 1 g", "*1\r\n$1\r\nw\r\n");
    says(&mut client, "EXISTS h", ":0\r\n");
    drop(client);
    server.stop().await;
}
