//! What a connection promises: order, bounds, transactions, a clean end.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use ringtide::server::resp::Options;

use super::wire::{Client, Server, command};

/// Waits until something holds.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_answered_in_order_and_reads_its_own_writes() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for number in 0..500 {
        let text = number.to_string();
        requests.extend(command(&[b"SET", b"k", text.as_bytes()]));
        requests.extend(command(&[b"GET", b"k"]));
        requests.extend(command(&[b"MGET", b"k", b"none", b"k"]));
        expected.push("+OK\r\n".to_owned());
        let bulk = format!("${}\r\n{text}\r\n", text.len());
        expected.push(bulk.clone());
        expected.push(format!("*3\r\n{bulk}$-1\r\n{bulk}"));
    }
    for piece in requests.chunks(1_009) {
        client.send(piece);
    }
    for expected in expected {
        assert_eq!(String::from_utf8_lossy(&client.reply().unwrap()), expected);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_speaks_the_version_of_its_moment() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    client.send(b"GET none\r\nHELLO 3\r\nGET none\r\nHELLO 2\r\nGET none\r\n");
    let replies: Vec<Vec<u8>> = (0..5).map(|_| client.reply().unwrap()).collect();
    assert_eq!((replies[0].as_slice(), replies[2].as_slice(), replies[4].as_slice()), (&b"$-1\r\n"[..], &b"_\r\n"[..], &b"$-1\r\n"[..]));
    assert_eq!((replies[1][0], replies[3][0]), (b'%', b'*'));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_not_read_from_either() {
    let server = Server::start(Options::default()).await;
    let mut greedy = server.client();
    assert_eq!(greedy.ask(&[b"SET", b"mb", &vec![b'x'; 1_000_000]]), b"+OK\r\n");
    greedy.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let request = command(&[b"GET", b"mb"]);
    let batch = request.repeat(1_000);
    let mut sent = 0;
    // 100 MB of requests ask for 5 TB of replies.
    let refused = (0..5_000).find_map(|_| match greedy.stream.write(&batch) {
        Ok(length) => {
            sent += length;
            None
        }
        Err(error) => Some(error.kind()),
    });
    assert!(matches!(refused, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "the server goes on reading: {refused:?}");
    assert_eq!(server.client().line("PING"), "+PONG\r\n", "others are served meanwhile");
    let whole = sent / request.len();
    assert!(whole > 100, "requests are read ahead of replies");
    for _ in 0..100 {
        assert_eq!(greedy.reply().unwrap().len(), 1_000_000 + "$1000000\r\n\r\n".len());
    }
    drop(greedy);
    eventually("its place is free", || !server.client().line("CLIENT LIST").contains("cmd=get")).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_began_is_finished_without_its_client() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    client.ask(&[b"SET", b"mb", &vec![b'x'; 1_000_000]]);
    let mut requests = b"MULTI\r\n".to_vec();
    requests.extend(b"GET mb\r\n".repeat(500));
    requests.extend(b"SET done yes\r\nEXEC\r\n");
    client.send(&requests);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut other = server.client();
    assert_eq!(other.line("GET done"), "$-1\r\n", "its replies are still waiting to be read");
    drop(client);
    eventually("the transaction is finished", || other.line("GET done") == "$3\r\nyes\r\n").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_end_is_cut_off() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    assert_eq!(client.line("MULTI"), "+OK\r\n");
    let value = vec![b'x'; 1_000_000];
    let replies: Vec<Vec<u8>> = (0..80).map(|_| client.ask(&[b"SET", b"k", &value])).collect();
    assert_eq!(replies[0], b"+QUEUED\r\n");
    assert!(replies.iter().any(|reply| reply.starts_with(b"-TOOBIG ")));
    assert_eq!(client.line("EXEC"), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(client.line("EXISTS k"), ":0\r\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_clients_are_told_so_and_places_are_given_back() {
    let server = Server::start(Options { max_clients: 2, ..Options::default() }).await;
    let (mut first, mut second) = (server.client(), server.client());
    assert_eq!((first.line("PING"), second.line("PING")), ("+PONG\r\n".to_owned(), "+PONG\r\n".to_owned()));
    let mut third = server.client();
    assert_eq!(third.reply().as_deref(), Some(&b"-ERR max number of clients reached\r\n"[..]));
    assert_eq!(third.reply(), None);
    drop(first);
    eventually("a place is free", || {
        let mut client = server.client();
        client.stream.write_all(b"PING\r\n").is_ok() && client.reply().is_some_and(|reply| reply == b"+PONG\r\n")
    })
    .await;
    assert_eq!(second.line("CONFIG SET maxclients 1"), "+OK\r\n");
    eventually("the new limit holds", || server.client().reply_or_silence().is_some_and(|reply| reply.starts_with(b"-ERR max"))).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_password_nothing_works_but_the_greeting() {
    let server = Server::start(Options { password: Some("sesame".to_owned()), ..Options::default() }).await;
    let mut client = server.client();
    for line in ["PING", "GET k", "SET k v", "CLIENT LIST", "CONFIG GET *", "INFO", "COMMAND", "MULTI", "EXEC", "RINGTIDE STATUS", "DBSIZE"]
    {
        assert_eq!(client.line(line), "-NOAUTH Authentication required.\r\n", "{line}");
    }
    assert!(client.line("HELLO 3").starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
    for line in ["AUTH wrong", "AUTH default wrong", "AUTH other sesame", "HELLO 3 AUTH default wrong"] {
        assert_eq!(client.line(line), "-WRONGPASS invalid username-password pair or user is disabled.\r\n", "{line}");
    }
    assert_eq!(client.line("AUTH sesame"), "+OK\r\n");
    assert_eq!(client.line("EXISTS k"), ":0\r\n");
    assert_eq!(client.line("RESET"), "+RESET\r\n");
    assert_eq!(client.line("PING"), "-NOAUTH Authentication required.\r\n");
    assert!(server.client().line("HELLO 2 AUTH default sesame SETNAME me").starts_with("*14\r\n"));
    let mut stranger = server.client();
    stranger.send(b"*11\r\n");
    assert_eq!(stranger.reply().as_deref(), Some(&b"-ERR Protocol error: unauthenticated multibulk length\r\n"[..]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_ever_ends_with_the_client() {
    let server = Server::start(Options::default()).await;
    let mut waiting = server.client();
    assert_eq!(waiting.line("SET k v"), "+OK\r\n");
    assert_eq!(waiting.line("WAIT 1 0"), ":1\r\n");
    assert_eq!(waiting.line("WAIT 9 20"), ":1\r\n");
    waiting.send(b"WAIT 9 0\r\nPING\r\n");
    let mut other = server.client();
    eventually("it waits", || other.line("CLIENT LIST").contains("cmd=wait")).await;
    let id = other.line("CLIENT LIST").lines().find(|line| line.contains("cmd=wait")).and_then(|line| line.split(' ').next()).unwrap()[3..]
        .to_owned();
    // Whoever ends the wait of another does as if its time were over.
    assert_eq!(other.line(&format!("CLIENT UNBLOCK {id}")), ":1\r\n");
    assert_eq!((waiting.reply().unwrap(), waiting.reply().unwrap()), (b":1\r\n".to_vec(), b"+PONG\r\n".to_vec()));
    waiting.send(b"WAIT 9 0\r\n");
    eventually("it waits again", || other.line("CLIENT LIST").contains("cmd=wait")).await;
    drop(waiting);
    eventually("it is gone", || !other.line("CLIENT LIST").contains("cmd=wait")).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_run_when_the_server_stops_are_answered() {
    let mut server = Server::start(Options::default()).await;
    let (mut idle, mut busy) = (server.client(), server.client());
    assert_eq!(idle.line("PING"), "+PONG\r\n");
    busy.send(&command(&[b"SET", b"k", b"v"]).repeat(200));
    assert_eq!(busy.reply().as_deref(), Some(&b"+OK\r\n"[..]));
    server.begin_to_stop();
    let mut rest = Vec::new();
    busy.stream.read_to_end(&mut rest).unwrap();
    assert!(rest.chunks(5).all(|reply| reply == b"+OK\r\n"), "replies are whole and in order");
    assert_eq!(idle.reply(), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_half_closing_is_answered() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    client.send(b"SET k v\r\nGET k\r\nGET");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.reply().as_deref(), Some(&b"+OK\r\n"[..]));
    assert_eq!(client.reply().as_deref(), Some(&b"$1\r\nv\r\n"[..]));
    assert_eq!(client.reply(), None);
    server.stop().await;
}

impl Client {
    /// A reply that comes unasked, if one does.
    fn reply_or_silence(&mut self) -> Option<Vec<u8>> {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut bytes = vec![0; 1024];
        let length = self.stream.read(&mut bytes).unwrap_or(0);
        bytes.truncate(length);
        (length > 0).then_some(bytes)
    }
}
