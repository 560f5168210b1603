//! Bytes that no honest client sends: an error, a closed connection, flat memory, and nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::harness::Peer;

/// What one hostile connection may cost at most, with room for what the allocator keeps.
const MEMORY_SLACK: u64 = 48 << 20;

/// Sends bytes and reads until the peer closes or falls silent. Returns what it answered and whether it closed.
fn send(address: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // The peer may close while this is still being written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (answer, true),
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return (answer, true),
            Err(_) => {
                let _ = stream.shutdown(Shutdown::Both);
                return (answer, false);
            }
        }
    }
}

#[test]
fn hostile_bytes_get_an_error_and_a_closed_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path());
    peer.start();
    let address = peer.ready().resp.clone();
    let mut bystander = peer.connect();
    let _: () = redis::cmd("SET").arg("key").arg("value").query(&mut bystander).unwrap();
    let before = peer.resident_bytes();
    let attacks: [(&str, Vec<u8>); 7] = [
        ("nested arrays", b"*1\r\n".repeat(20_000)),
        ("too many arguments", b"*2147483647\r\n".to_vec()),
        ("a bulk beyond all limits", b"*2\r\n$3\r\nGET\r\n$9223372036854775807\r\n".to_vec()),
        ("64 KiB without a line end", vec![b'a'; 70_000]),
        ("a negative length", b"*1\r\n$-7\r\n".to_vec()),
        ("no length", b"*\r\n$\r\n".to_vec()),
        ("a length that is no number", b"*1\r\n$12abc\r\n".to_vec()),
    ];
    for (name, bytes) in &attacks {
        let (answer, closed) = send(&address, bytes);
        assert!(closed, "{name}: the connection is closed");
        assert!(answer.is_empty() || answer.starts_with(b"-ERR"), "{name}: {}", answer.escape_ascii());
    }
    // Many at once, each announcing more than it sends: what is announced must not be allocated.
    let waiting: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777216\r\n").unwrap();
            stream
        })
        .collect();
    let value: String = redis::cmd("GET").arg("key").query(&mut bystander).unwrap();
    assert_eq!(value, "value", "nobody else notices");
    let after = peer.resident_bytes();
    assert!(after < before + MEMORY_SLACK, "memory grew from {before} to {after}");
    drop(waiting);
}

#[test]
fn hostile_bytes_on_the_port_of_peers_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path());
    peer.start();
    let address = peer.ready().addresses[0].clone();
    let mut parts = address.split('/').skip(2).step_by(2);
    let (ip, port) = (parts.next().unwrap(), parts.next().unwrap());
    let before = peer.resident_bytes();
    for bytes in [vec![0xff; 64 * 1024], b"\x00\x00\x00\x04".repeat(1000), b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        send(&format!("{ip}:{port}"), &bytes);
    }
    let after = peer.resident_bytes();
    assert!(after < before + MEMORY_SLACK, "memory grew from {before} to {after}");
    assert_eq!(peer.ask::<String>(&["PING"]), "PONG");
}
