//! Clients that wait at one peer for what is pushed at another.

use std::time::{Duration, Instant};

use redis::Connection;

use crate::harness::{Cluster, eventually};

/// Sends a command whose reply is read later.
fn send(connection: &mut Connection, words: &[&str]) {
    let mut command = redis::Cmd::new();
    command.arg(words);
    connection.send_packed_command(&command.get_packed_command()).expect("the command is sent");
}

fn reply<T: redis::FromRedisValue>(connection: &mut Connection) -> T {
    let value = connection.recv_response().expect("a reply comes");
    redis::from_redis_value(value).expect("a reply of this type")
}

/// Waits until a peer has so many clients that wait.
fn until_waiting(cluster: &Cluster, peer: usize, command: &str, count: usize) {
    eventually("the client waits", || {
        let list: String = cluster.peers[peer].try_ask(&["CLIENT", "LIST"])?;
        let waiting = list.matches(&format!("cmd={command} ")).count();
        if waiting == count { Ok(()) } else { Err(format!("{waiting} of {count}")) }
    });
}

#[test]
fn what_is_pushed_at_one_peer_wakes_who_waits_at_another() {
    let cluster = Cluster::start(3);
    let mut waiting = cluster.peers[0].connect();
    let mut pushing = cluster.peers[1].connect();
    let mut times: Vec<Duration> = (0..100)
        .map(|number| {
            send(&mut waiting, &["BLPOP", "queue", "0"]);
            std::thread::sleep(Duration::from_millis(5));
            let begun = Instant::now();
            let _: i64 = redis::cmd("RPUSH").arg("queue").arg(number).query(&mut pushing).expect("the push is taken");
            assert_eq!(reply::<(String, usize)>(&mut waiting), ("queue".to_owned(), number));
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("from a push at one peer to its pop at another: median {:?}, 99th of 100 {:?}", times[50], times[98]);
    // A wake that is lost would take as long as it takes to ask again.
    assert!(times[50] < Duration::from_secs(1), "{times:?}");
    // One at each peer: every element goes to somebody, though perhaps to two where it was popped at two peers at the same moment.
    let mut waiting: Vec<Connection> = cluster.peers.iter().map(|peer| peer.connect()).collect();
    for (index, connection) in waiting.iter_mut().enumerate() {
        send(connection, &["BLMOVE", "jobs", &format!("done {index}"), "LEFT", "RIGHT", "0"]);
        until_waiting(&cluster, index, "blmove", 1);
    }
    for number in 0..3 {
        let _: i64 = redis::cmd("RPUSH").arg("jobs").arg(number).query(&mut pushing).expect("the push is taken");
    }
    let mut moved = 3;
    eventually("everybody got something", || {
        for connection in &mut waiting {
            connection.set_read_timeout(Some(Duration::from_millis(200))).map_err(|error| error.to_string())?;
        }
        let done: usize =
            (0..3).map(|index| cluster.peers[0].ask::<usize>(&["LLEN", &format!("done {index}")])).filter(|length| *length > 0).count();
        if done == 3 {
            return Ok(());
        }
        // Two have taken the same one: there is one more to come for the third.
        cluster.peers[2].ask::<i64>(&["RPUSH", "jobs", &moved.to_string()]);
        moved += 1;
        Err(format!("{done} of 3"))
    });
}

#[test]
fn whoever_waits_is_told_by_another_holder_where_the_first_dies() {
    let mut cluster = Cluster::start_with(4, &["--replicas", "2"]);
    let owners = |key: &str| cluster.peers[0].ask::<Vec<String>>(&["RINGTIDE", "OWNERS", key]);
    let own = cluster.peers[0].ready().peer.clone();
    // A key that the peer where the client waits holds no replica of.
    let key = (0..).map(|number| format!("queue {number}")).find(|key| !owners(key).contains(&own)).expect("there is one");
    let first = owners(&key)[0].clone();
    let dying = cluster.peers.iter().position(|peer| peer.ready().peer == first).expect("it is one of them");
    let mut waiting = cluster.peers[0].connect();
    send(&mut waiting, &["BLPOP", &key, "0"]);
    until_waiting(&cluster, 0, "blpop", 1);
    // Told by the first holder, while it lives.
    let pusher = (1..4).find(|index| *index != dying).expect("there are more");
    cluster.peers[pusher].ask::<i64>(&["RPUSH", &key, "first"]);
    assert_eq!(reply::<(String, String)>(&mut waiting), (key.clone(), "first".to_owned()));
    send(&mut waiting, &["BLPOP", &key, "0"]);
    until_waiting(&cluster, 0, "blpop", 1);
    std::thread::sleep(Duration::from_millis(300));
    cluster.peers[dying].kill();
    let begun = Instant::now();
    eventually("a push is taken", || cluster.peers[pusher].try_ask::<i64>(&["RPUSH", &key, "second"]));
    let popped: (String, String) = reply(&mut waiting);
    println!("told by the other holder {:?} after the death of the first", begun.elapsed());
    assert_eq!(popped, (key, "second".to_owned()));
}
