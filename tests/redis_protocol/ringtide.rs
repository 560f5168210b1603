//! The commands that Redis doesn't have, and HTTP: names and forms are a contract.

use std::io::{Read, Write};
use std::net::TcpStream;

use ringtide::server::resp::Options;

use super::wire::Server;

/// The names in a map, which version 2 writes as an array of names and values in turn.
fn has_fields(reply: &str, fields: &[&str]) -> bool {
    fields.iter().all(|field| reply.contains(&format!("${}\r\n{field}\r\n", field.len())))
}

/// The token in the map that SIBLINGS answers with.
fn token(siblings: &[u8]) -> &[u8] {
    let rest = siblings.split_at(siblings.windows(5).position(|bytes| bytes == b"token").unwrap() + 8).1;
    let end = rest.iter().position(|byte| *byte == b'\r').unwrap();
    let length: usize = std::str::from_utf8(&rest[..end]).unwrap().parse().unwrap();
    &rest[end + 2..end + 2 + length]
}

#[tokio::test(flavor = "multi_thread")]
async fn maps_have_the_promised_fields_in_both_versions() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    client.line("SET k v");
    for protocol in ["2", "3"] {
        client.line(&format!("HELLO {protocol}"));
        let map = |count: usize| if protocol == "2" { format!("*{}\r\n", count * 2) } else { format!("%{count}\r\n") };
        let status = client.line("RINGTIDE STATUS");
        let fields = ["peer", "cluster", "version", "members", "up", "partitions", "replicas", "keys", "hints", "syncing", "protected"];
        assert!(status.starts_with(&map(19)) && has_fields(&status, &fields), "{status}");
        let health = ["standing", "handing_over", "disk_full", "clock_ahead_ms"];
        let damage = ["damaged_partitions", "damaged_rows", "unjoined_rows", "mended_records"];
        assert!(has_fields(&status, &health) && has_fields(&status, &damage), "{status}");
        let peers = client.line("RINGTIDE PEERS");
        let fields = ["peer", "state", "zone", "capacity", "address", "partitions", "last_seen_ms", "up"];
        assert!(peers.starts_with(&format!("*1\r\n{}", map(7))) && has_fields(&peers, &fields), "{peers}");
        let siblings = client.line("RINGTIDE SIBLINGS k");
        assert!(siblings.starts_with(&map(2)) && has_fields(&siblings, &["token", "values", "v"]), "{siblings}");
        assert!(client.line("RINGTIDE SIBLINGS none").ends_with("$6\r\nvalues\r\n*0\r\n"));
        client.line("RPUSH list item");
        assert!(client.line("RINGTIDE SIBLINGS list").ends_with("$6\r\nvalues\r\n*0\r\n$5\r\ntypes\r\n*1\r\n$4\r\nlist\r\n"));
        assert_eq!(client.line("RINGTIDE CONVERGED list"), ":1\r\n");
        let explained = client.line("RINGTIDE EXPLAIN k");
        let fields =
            ["partition", "owners", "rows", "kind", "element", "dot", "peer", "written_ms", "content", "shows", "reason", "set_aside"];
        assert!(explained.starts_with(&map(4)) && has_fields(&explained, &fields), "{explained}");
        let sync = client.line("RINGTIDE SYNC");
        let fields = ["partitions", "rows_sent", "rows_received", "bytes_sent", "bytes_received", "ms"];
        assert!(sync.starts_with(&map(6)) && has_fields(&sync, &fields), "{sync}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_are_told_and_set_for_one_connection() {
    let server = Server::start(Options::default()).await;
    let (mut client, mut other) = (server.client(), server.client());
    assert_eq!(client.line("RINGTIDE LEVEL"), "$6\r\nsloppy\r\n");
    assert_eq!(client.line("RINGTIDE LEVEL Quorum"), "+OK\r\n");
    assert_eq!(client.line("RINGTIDE LEVEL"), "$6\r\nquorum\r\n");
    assert_eq!(other.line("RINGTIDE LEVEL"), "$6\r\nsloppy\r\n");
    assert!(client.line("RINGTIDE LEVEL most").starts_with("-ERR unknown level 'most'"));
    assert!(client.line("SET k v").starts_with("-NOQUORUM "), "a lone peer is no majority of three");
    assert_eq!(client.line("RESET"), "+RESET\r\n");
    assert_eq!(client.line("SET k v"), "+OK\r\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn placement_convergence_and_resolution_answer_in_their_forms() {
    let server = Server::start(Options::default()).await;
    let mut client = server.client();
    client.line("SET k v");
    let ring = client.line("RINGTIDE RING");
    assert!(ring.starts_with("*256\r\n*1\r\n$52\r\n12D3KooW"), "{ring}");
    assert!(client.line("RINGTIDE OWNERS k").starts_with("*1\r\n$52\r\n12D3KooW"));
    assert_eq!(client.line("RINGTIDE CONVERGED"), ":1\r\n");
    assert_eq!(client.line("RINGTIDE CONVERGED k"), ":1\r\n");
    assert!(client.line("RINGTIDE DIGEST").starts_with("*256\r\n*2\r\n:0\r\n$32\r\n"));
    let siblings = client.ask(&[b"RINGTIDE", b"SIBLINGS", b"k"]);
    assert_eq!(client.ask(&[b"RINGTIDE", b"RESOLVE", b"k", token(&siblings), b"w"]), b"+OK\r\n");
    assert_eq!(client.line("GET k"), "$1\r\nw\r\n");
    assert!(client.line("RINGTIDE RESOLVE k nonsense w").starts_with("-ERR "));
    for line in ["HSET h f v g w", "SADD s m", "ZADD z 1 m", "RPUSH l i", "PFADD p e"] {
        client.line(line);
    }
    let siblings = client.ask(&[b"RINGTIDE", b"SIBLINGS", b"h", b"f"]);
    assert!(siblings.ends_with(b"$6\r\nvalues\r\n*1\r\n$1\r\nv\r\n"), "{}", String::from_utf8_lossy(&siblings));
    assert_eq!(client.ask(&[b"RINGTIDE", b"RESOLVE", b"h", b"f", token(&siblings), b"x"]), b"+OK\r\n");
    assert_eq!(client.line("HMGET h f g"), "*2\r\n$1\r\nx\r\n$1\r\nw\r\n");
    assert!(client.line("RINGTIDE SIBLINGS k f").ends_with("$6\r\nvalues\r\n*0\r\n"), "a string has no fields");
    assert!(client.line("RINGTIDE RESOLVE k f nonsense x").starts_with("-WRONGTYPE "));
    for key in [b"h", b"s", b"z", b"l", b"p"] {
        assert!(client.ask(&[b"RINGTIDE", b"EXPLAIN", key]).starts_with(b"*8\r\n$9\r\npartition\r\n"));
        let siblings = client.ask(&[b"RINGTIDE", b"SIBLINGS", key]);
        assert_eq!(client.ask(&[b"RINGTIDE", b"RESOLVE", key, token(&siblings), b"v"]), b"+OK\r\n");
        assert_eq!(client.ask(&[b"GET", key]), b"$1\r\nv\r\n");
    }
    assert_eq!(client.line("RINGTIDE SIBLINGS k f g"), "-ERR wrong number of arguments for 'ringtide|siblings' command\r\n");
    assert_eq!(client.line("RINGTIDE RESOLVE k f t v w"), "-ERR wrong number of arguments for 'ringtide|resolve' command\r\n");
    for line in ["RINGTIDE LEAVE", "RINGTIDE LEAVE FORCE"] {
        assert_eq!(client.line(line), "-ERR nobody else is in the ring: what this peer holds would be lost\r\n");
    }
    assert_eq!(client.line("RINGTIDE LEAVE now"), "-ERR syntax error\r\n");
    assert_eq!(client.line("RINGTIDE FORGET x"), "-ERR 'x' is not a peer id (expected the form 12D3KooW…)\r\n");
    let stranger = "12D3KooWLgQdVHsTqV4D6m8LpAaYDpufVPAXPUHLqFMs5pvJThzL";
    assert_eq!(client.line(&format!("RINGTIDE FORGET {stranger}")), "-ERR no member has this peer id\r\n");
    assert_eq!(client.line(&format!("RINGTIDE FORGET {stranger} report")), "-ERR no member has this peer id\r\n");
    assert_eq!(client.line(&format!("RINGTIDE FORGET {stranger} x")), "-ERR syntax error\r\n");
    assert_eq!(client.line("RINGTIDE"), "-ERR wrong number of arguments for 'ringtide' command\r\n");
    assert_eq!(client.line("RINGTIDE OWNERS"), "-ERR wrong number of arguments for 'ringtide|owners' command\r\n");
    assert_eq!(client.line("RINGTIDE WHAT"), "-ERR unknown subcommand 'WHAT'. Try RINGTIDE HELP.\r\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_health_and_numbers() {
    let server = Server::start(Options::default()).await;
    server.client().line("SET k v");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(server.http).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    let health = get("/healthz");
    assert!(health.starts_with("HTTP/1.1 200 OK\r\n") && health.ends_with("\r\n\r\nok"), "{health}");
    let metrics = get("/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n") && metrics.contains("\nringtide_commands_total 1\n"), "{metrics}");
    assert!(get("/other").starts_with("HTTP/1.1 404 Not Found\r\n"));
    server.stop().await;
}
