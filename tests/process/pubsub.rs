//! Messages across peers: whoever subscribes at any peer hears what is published at any other.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Cluster, Peer, eventually, send_signal};

/// A connection that subscribes.
struct Listener {
    stream: BufReader<TcpStream>,
}

impl Listener {
    /// Subscribes, and waits until that is confirmed.
    fn new(peer: &Peer, subscription: &str) -> Self {
        let mut stream = TcpStream::connect(&peer.ready().resp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(format!("{subscription}\r\n").as_bytes()).unwrap();
        let mut listener = Self { stream: BufReader::new(stream) };
        assert_eq!(listener.frame()[0], subscription.split(' ').next().unwrap().to_lowercase());
        listener
    }

    /// The three or four texts of what comes next.
    fn frame(&mut self) -> Vec<String> {
        let mut line = || {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let count: usize = line()[1..].parse().unwrap();
        let text = |_| {
            let head = line();
            if head.starts_with(':') { head } else { line() }
        };
        (0..count).map(text).collect()
    }

    fn hears(&mut self, message: &str) {
        assert_eq!(self.frame().last().map(String::as_str), Some(message));
    }
}

#[test]
fn a_message_reaches_subscribers_at_every_peer_in_order_and_once() {
    let cluster = Cluster::start(3);
    let [first, second, third] = [0, 1, 2].map(|index| &cluster.peers[index]);
    assert_eq!(third.ask::<i64>(&["PUBLISH", "news", "nobody"]), 0);
    for round in 0..20 {
        // Whoever was told that it subscribes hears what is published after that, at once.
        let mut here = Listener::new(first, "SUBSCRIBE news");
        let mut there = Listener::new(second, "PSUBSCRIBE n*");
        let mut shard = Listener::new(second, "SSUBSCRIBE news");
        let mut publisher = third.connect();
        for number in 0..20 {
            let text = format!("{round}-{number}");
            let heard: i64 = redis::cmd("PUBLISH").arg("news").arg(&text).query(&mut publisher).unwrap();
            assert_eq!(heard, 2, "{text}");
            here.hears(&text);
            there.hears(&text);
        }
        assert_eq!(second.ask::<i64>(&["SPUBLISH", "news", "shard"]), 1);
        shard.hears("shard");
        assert_eq!(third.ask::<Vec<String>>(&["PUBSUB", "CHANNELS"]), ["news"]);
        assert_eq!(third.ask::<Vec<String>>(&["PUBSUB", "NUMSUB", "news", "none"]), ["news", "1", "none", "0"]);
        assert_eq!(third.ask::<i64>(&["PUBSUB", "NUMPAT"]), 1);
        // A connection that is closed is noticed a moment later, and counts until then: the next round must not meet it.
        drop((here, there, shard));
        eventually("nobody listens any more", || {
            let heard = ["PUBLISH", "SPUBLISH"].map(|publish| third.ask::<i64>(&[publish, "news", "nobody"]));
            if heard == [0, 0] { Ok(()) } else { Err(format!("{heard:?}")) }
        });
    }
}

#[test]
fn a_peer_that_is_gone_or_hangs_holds_up_no_publisher() {
    let mut cluster = Cluster::start(3);
    let mut here = Listener::new(&cluster.peers[0], "SUBSCRIBE news");
    let _gone = Listener::new(&cluster.peers[1], "SUBSCRIBE news");
    assert_eq!(cluster.peers[2].ask::<i64>(&["PUBLISH", "news", "both"]), 2);
    here.hears("both");
    // A peer that hangs is waited for once, and not again.
    send_signal(cluster.peers[1].pid(), "STOP");
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    for number in 0..20 {
        assert_eq!(cluster.peers[2].ask::<i64>(&["PUBLISH", "news", &number.to_string()]), 1);
        here.hears(&number.to_string());
    }
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(3), "20 messages took {took:?}");
    send_signal(cluster.peers[1].pid(), "CONT");
    cluster.peers[1].kill();
    eventually("the other is heard", || match cluster.peers[2].ask::<i64>(&["PUBLISH", "news", "one"]) {
        1 => Ok(()),
        heard => Err(heard.to_string()),
    });
    // Subscribers of a peer that comes back are heard of again.
    cluster.restart(1);
    cluster.wait_until_whole();
    let mut back = Listener::new(&cluster.peers[1], "SUBSCRIBE news");
    assert_eq!(cluster.peers[2].ask::<i64>(&["PUBLISH", "news", "again"]), 2);
    back.hears("again");
}

#[test]
fn a_change_is_announced_to_listeners_at_every_peer() {
    let cluster = Cluster::start(3);
    let mut listener = Listener::new(&cluster.peers[0], "PSUBSCRIBE __keyevent@0__:*");
    let _: () = cluster.peers[1].ask(&["CONFIG", "SET", "notify-keyspace-events", "E$sg"]);
    let mut heard = |event: &str, key: &str| {
        let frame = listener.frame();
        assert_eq!((frame[2].as_str(), frame[3].as_str()), (format!("__keyevent@0__:{event}").as_str(), key));
    };
    for number in 0..20 {
        // Some of the keys are executed at another peer than the one that announces.
        let key = format!("key-{number}");
        let _: () = cluster.peers[1].ask(&["SADD", &key, "a", "b"]);
        heard("sadd", &key);
        let _: i64 = cluster.peers[1].ask(&["SREM", &key, "a", "b"]);
        heard("srem", &key);
        heard("del", &key);
    }
    // The setting is one peer's own.
    let _: () = cluster.peers[2].ask(&["SET", "quiet", "v"]);
    let _: () = cluster.peers[1].ask(&["SET", "loud", "v"]);
    heard("set", "loud");
}
