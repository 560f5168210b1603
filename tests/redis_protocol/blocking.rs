//! Several connections, some of which wait: compared with a real Redis, and what Redis leaves open.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use ringtide::server::resp::Options;
use tokio::time::{Instant, sleep};

use super::differential::Redis;
use super::wire::{Client, Server, command};

/// What several connections say, step by step: `name: COMMAND` is asked, `name> COMMAND` is sent by one who will wait, `name<` reads the reply that was waited for,
/// and `name!` leaves without a word.
const CONVERSATIONS: [&str; 13] = [
    // One element wakes one client, in the order in which they came.
    "a> BLPOP k 0\nb> BLPOP k 0\nc> BRPOP k 0\nd: RPUSH k 1\na<\nd: RPUSH k 2 3\nb<\nc<\nd: EXISTS k",
    // Several keys, in the order in which they were named.
    "a> BLPOP x y z 0\nd: RPUSH z 1\na<\na> BLPOP x y z 0\nb> BLPOP y 0\nd: RPUSH y 1 2\na<\nb<",
    // A key of another type is no reason to stop waiting.
    "a> BLPOP k 0\nd: SET k v\nd: DEL k\nd: SADD k m\nd: DEL k\nd: ZADD k 1 m\nd: DEL k\nd: LPUSH k 1 2\na<\nd: LRANGE k 0 -1",
    "a> BZPOPMIN k 0\nb> BLPOP k 0\nd: RPUSH k 1\nb<\nd: ZADD k 2 m 1 n\na<\nd: ZRANGE k 0 -1",
    "a> BZPOPMAX x y 0\nb> BZMPOP 0 2 x y MIN COUNT 5\nd: ZADD y 1 m\na<\nd: ZADD x 1 m 2 n 3 o\nb<\nd: EXISTS x y",
    // Moved from one to the next.
    "a> BLMOVE x y LEFT RIGHT 0\nb> BLPOP y 0\nd: RPUSH x 1\na<\nb<\nd: EXISTS x y",
    "a> BRPOPLPUSH x y 0\nd: SET y v\nd: RPUSH x 1\na<\nd: LRANGE x 0 -1\nd: GET y",
    "a> BLMOVE x x LEFT RIGHT 0\nd: RPUSH x 1 2\na<\nd: LRANGE x 0 -1",
    "a> BLMPOP 0 2 x y LEFT COUNT 2\nb> BLMPOP 0 1 y RIGHT COUNT 2\nd: RPUSH y 1 2 3\na<\nb<\nd: EXISTS y",
    // Whoever goes away takes nothing, and whoever is unblocked is told.
    "a> BLPOP k 0\nb> BLPOP k 0\na!\nd: RPUSH k 1\nb<",
    "a: CLIENT ID\na> BLPOP k 0\nb: CLIENT ID\nb> BLPOP k 0\nd: CLIENT UNBLOCK {a} ERROR\na<\nd: CLIENT UNBLOCK {b}\nb<\nd: CLIENT UNBLOCK {b}\nd: RPUSH k 1\na: PING\nd: LLEN k",
    "a: CLIENT ID\na: SET k v\na> WAIT 9 0\nd: CLIENT UNBLOCK {a} ERROR\na<\nd: CLIENT UNBLOCK {a}",
    // A transaction of another.
    "a> BLPOP k 0\nd: MULTI\nd: RPUSH k 1 2\nd: EXEC\na<\nd: LRANGE k 0 -1",
];

/// How many clients wait.
fn waiting(address: SocketAddr) -> usize {
    Client::connect(address).line("CLIENT LIST").matches(" flags=b ").count()
}

async fn until_waiting(address: SocketAddr, count: usize) {
    let begun = Instant::now();
    while waiting(address) != count {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} and not {count} wait", waiting(address));
        sleep(Duration::from_millis(5)).await;
    }
    // A client is told of a moment before it waits.
    sleep(Duration::from_millis(20)).await;
}

/// Plays a conversation; what was replied, in order. Numbers of clients are told by their names.
async fn play(address: SocketAddr, protocol: &str, conversation: &str) -> Vec<String> {
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    let mut ids: BTreeMap<&str, String> = BTreeMap::new();
    let (mut told, mut blocked) = (Vec::new(), 0);
    Client::connect(address).line("FLUSHALL");
    for step in conversation.lines() {
        let (name, rest) = step.split_at(1);
        let client = clients.entry(name).or_insert_with(|| {
            let mut client = Client::connect(address);
            client.line(&format!("HELLO {protocol}"));
            client
        });
        let (sign, line) = rest.split_at(1);
        let line = ids.iter().fold(line.trim().to_owned(), |line, (name, id)| line.replace(&format!("{{{name}}}"), id));
        match sign {
            ":" if line == "CLIENT ID" => drop(ids.insert(name, client.line(&line).trim_start_matches(':').trim().to_owned())),
            ":" => told.push(format!("{step} => {}", client.line(&line))),
            ">" => {
                client.send(&command(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>()));
                blocked += 1;
                until_waiting(address, blocked).await;
            }
            "<" => {
                told.push(format!("{step} => {}", String::from_utf8_lossy(&client.reply().unwrap())));
                client.line("PING");
                blocked -= 1;
            }
            _ => {
                clients.remove(name);
                blocked -= 1;
                until_waiting(address, blocked).await;
            }
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_are_answered_as_redis_answers_them() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    for protocol in ["2", "3"] {
        for conversation in CONVERSATIONS {
            assert_eq!(play(server.resp, protocol, conversation).await, play(redis.address, protocol, conversation).await);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_key_that_another_changed_stops_the_transaction_as_at_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start(Options::default()).await;
    let conversations = [
        "a: WATCH k\nb: SET k 1\na: MULTI\na: SET k 2\na: EXEC\na: GET k\na: MULTI\na: SET k 2\na: EXEC\na: GET k",
        "a: WATCH k\na: MULTI\na: INCR k\nb: INCR k\na: EXEC\na: GET k",
        "a: WATCH k\nb: INCR other\na: MULTI\na: INCR k\na: EXEC",
        "a: HSET k f 1\na: WATCH x k\nb: HSET k g 1\na: MULTI\na: PING\na: EXEC",
        "a: SADD k m\na: WATCH k\nb: SREM k none\na: MULTI\na: PING\na: EXEC",
        "a: ZADD k 1 m\na: WATCH k\nb: ZINCRBY k 1 m\na: RESET\na: MULTI\na: PING\na: EXEC",
        "a: RPUSH k 1\na: WATCH k\nb: DEL k\nb: RPUSH k 1\na: MULTI\na: PING\na: EXEC",
        "a: SET k 1 PX 1\na: BLPOP none 0.05\na: WATCH k\nb: GET k\na: MULTI\na: PING\na: EXEC",
    ];
    for conversation in conversations {
        assert_eq!(play(server.resp, "2", conversation).await, play(redis.address, "2", conversation).await);
    }
    // A key that expires while it is watched is gone.
    for address in [server.resp, redis.address] {
        let mut client = Client::connect(address);
        client.line("SET brief v PX 50");
        client.line("WATCH brief");
        sleep(Duration::from_millis(80)).await;
        client.line("MULTI");
        client.line("PING");
        assert_eq!(client.line("EXEC"), "*-1\r\n");
    }
    let mut greedy = server.client();
    let keys: Vec<String> = (0..1024).map(|number| number.to_string()).collect();
    assert_eq!(greedy.line(&format!("WATCH {}", keys.join(" "))), "+OK\r\n");
    assert_eq!(greedy.line("WATCH 5"), "+OK\r\n");
    assert!(greedy.line("WATCH one-more").starts_with("-TOOBIG "));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_holds_up_its_own_client_only_and_takes_its_time() {
    let server = Server::start(Options::default()).await;
    let (mut waiting_client, mut other) = (server.client(), server.client());
    let begun = Instant::now();
    waiting_client.send(b"BLPOP k 0.3\r\nSET after yes\r\nBLPOP k 0.05\r\nGET after\r\n");
    until_waiting(server.resp, 1).await;
    assert_eq!(other.line("GET after"), "$-1\r\n");
    let replies: Vec<String> = (0..4).map(|_| String::from_utf8(waiting_client.reply().unwrap()).unwrap()).collect();
    assert_eq!(replies, ["*-1\r\n", "+OK\r\n", "*-1\r\n", "$3\r\nyes\r\n"]);
    assert!((Duration::from_millis(350)..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_lets_nobody_wait() {
    let mut server = Server::start(Options::default()).await;
    let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(format!("BLPOP k{} j 0\r\nPING\r\n", index % 3).as_bytes());
    }
    until_waiting(server.resp, 20).await;
    let begun = Instant::now();
    server.begin_to_stop();
    for client in &mut clients {
        assert_eq!(client.reply().as_deref(), Some(&b"*-1\r\n"[..]));
        assert_eq!(client.reply(), None);
    }
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_element_goes_to_one_of_many_who_wait() {
    let server = Server::start(Options::default()).await;
    let (workers, each) = (16usize, 50usize);
    let address = server.resp;
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let word = if worker % 2 == 0 { "BLPOP left right 0" } else { "BLMOVE left right LEFT RIGHT 0" };
                (0..each).map(|_| client.line(word)).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut pusher = server.client();
    // What the odd ones move the even ones pop: twice as many pops as pushes beyond the moves would wait for ever.
    let pushed = workers / 2 * each;
    for number in 0..pushed {
        pusher.stream.write_all(&command(&[b"RPUSH", b"left", format!("{number:04}").as_bytes()])).unwrap();
        pusher.reply().unwrap();
        if number % 50 == 0 {
            sleep(Duration::from_millis(2)).await;
        }
    }
    // The moves take some of the elements from those who would pop them: more are pushed until everybody has had enough.
    let mut more = pushed;
    while !threads.iter().all(std::thread::JoinHandle::is_finished) {
        pusher.line(&format!("RPUSH left {more:04}"));
        more += 1;
        sleep(Duration::from_millis(2)).await;
        assert!(more < pushed + 9_000, "somebody waits for ever");
    }
    let replies: Vec<Vec<String>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let popped = replies.iter().step_by(2).flatten().map(|reply| reply.rsplit("\r\n").nth(1).unwrap().to_owned());
    let mut all: Vec<String> = popped.collect();
    for list in ["left", "right"] {
        let rest = pusher.line(&format!("LRANGE {list} 0 -1"));
        all.extend(rest.split("\r\n").filter(|line| line.len() == 4 && !line.starts_with(['*', '$'])).map(str::to_owned));
    }
    all.sort();
    assert_eq!(all, (0..more).map(|number| format!("{number:04}")).collect::<Vec<_>>(), "each once");
    server.stop().await;
}
