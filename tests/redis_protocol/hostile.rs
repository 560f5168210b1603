//! What is no client: an error, a closed connection, and nobody else notices.

use ringtide::server::resp::Options;

use super::wire::{Server, command};

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_command_get_an_error_and_the_door() {
    let server = Server::start(Options::default()).await;
    let mut witness = server.client();
    let (nested, endless) = (b"*1\r\n".repeat(20_000), vec![b'a'; 64 * 1024 + 1]);
    let cases: [(&[u8], &str); 6] = [
        (&nested, "-ERR Protocol error: expected '$', got '*'\r\n"),
        (b"*2147483647\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*1\r\n$9223372036854775807\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (&endless, "-ERR Protocol error: too big inline request\r\n"),
        (b"SET k v\r\n*1\r\n$-1\r\nSET k w\r\n", "+OK\r\n-ERR Protocol error: invalid bulk length\r\n"),
        (b"ping \"\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ];
    for (bytes, expected) in cases {
        let mut client = server.client();
        client.send(bytes);
        let mut replies = String::new();
        while let Some(reply) = client.reply() {
            replies.push_str(&String::from_utf8_lossy(&reply));
        }
        assert_eq!(replies, expected);
        assert_eq!(witness.line("PING"), "+PONG\r\n");
    }
    assert_eq!(witness.line("GET k"), "$1\r\nv\r\n", "nothing after the error was carried out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_was_made_to_post_here_changes_nothing() {
    let server = Server::start(Options::default()).await;
    for request in ["POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k v\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k v\r\n"] {
        let mut client = server.client();
        client.send(request.as_bytes());
        assert_eq!(client.reply(), None);
    }
    assert_eq!(server.client().line("EXISTS k"), ":0\r\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_told_and_stores_nothing() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    let (key, value) = (vec![b'k'; 64 * 1024], vec![b'v'; 16 * 1024 * 1024]);
    let (long_key, long_value) = ([&key[..], b"k"].concat(), [&value[..], b"v"].concat());
    for words in [
        [b"SET".as_slice(), &long_key, b"v"].as_slice(),
        &[b"SET", b"k", &long_value],
        &[b"APPEND", b"k", &long_value],
        &[b"SADD", b"k", b"m", &long_value],
        &[b"MSET", b"k", b"v", &long_key, b"v"],
        &[b"RINGTIDE", b"RESOLVE", b"k", b"", &long_value],
    ] {
        let reply = client.ask(words);
        assert!(reply.starts_with(b"-TOOBIG "), "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(client.line("EXISTS k"), ":0\r\n");
    assert_eq!(client.ask(&[b"SET", &key, &value]), b"+OK\r\n");
    assert_eq!(client.ask(&[b"STRLEN", &key]), b":16777216\r\n");
    assert!(client.ask(&[b"APPEND", &key, b"v"]).starts_with(b"-TOOBIG "));
    assert_eq!(client.ask(&[b"GET", &key]).len(), value.len() + "$16777216\r\n\r\n".len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time_is_a_client_like_any_other() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    for byte in command(&[b"ECHO", b"abc"]) {
        client.send(&[byte]);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(client.reply().as_deref(), Some(&b"$3\r\nabc\r\n"[..]));
    server.stop().await;
}
