//! Twenty kills at random moments while clients write.

use std::thread;
use std::time::Duration;

use crate::harness::Cluster;
use crate::load::{Doors, Load};

const KILLS: u64 = 20;

/// Numbers that look random and are the same each time; the moments that they give differ all the same.
fn mixed(number: u64) -> u64 {
    let spread = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread ^ (spread >> 29)
}

#[test]
fn twenty_kills_at_random_moments_lose_nothing_acknowledged_and_bring_nothing_back() {
    let mut cluster = Cluster::start(3);
    let doors = Doors::default();
    for (index, peer) in cluster.peers.iter().enumerate() {
        doors.set(index, Some(peer.ready().resp.clone()));
    }
    let load = Load::start(&doors, 4);
    for kill in 0..KILLS {
        let index = usize::try_from(mixed(kill) % 3).unwrap();
        thread::sleep(Duration::from_millis(mixed(kill + 100) % 300));
        doors.set(index, None);
        cluster.peers[index].kill();
        // Now and then the next one is killed before the one before is back.
        let other = (index + 1) % 3;
        if kill % 5 == 4 {
            doors.set(other, None);
            cluster.peers[other].kill();
        }
        thread::sleep(Duration::from_millis(mixed(kill + 200) % 200));
        for started in [index, other].into_iter().filter(|index| !cluster.peers[*index].is_running()).collect::<Vec<_>>() {
            cluster.restart(started);
            doors.set(started, Some(cluster.peers[started].ready().resp.clone()));
        }
    }
    let books = load.finish();
    let (acknowledged, unknown) = books.iter().fold((0, 0), |sum, book| (sum.0 + book.acknowledged, sum.1 + book.unknown));
    println!("{acknowledged} writes acknowledged, {unknown} with an unknown outcome");
    assert!(acknowledged > KILLS * 20);
    cluster.wait_until_whole();
    cluster.wait_until_converged();
    for peer in &cluster.peers {
        let mut connection = peer.connect();
        let _: () = redis::cmd("RINGTIDE").arg("LEVEL").arg("local").query(&mut connection).unwrap();
        let faults: Vec<String> = books.iter().flat_map(|book| book.faults(&mut connection)).collect();
        assert!(faults.is_empty(), "at {}:\n{}", peer.ready().peer, faults.join("\n"));
        assert!(!peer.log().contains("two processes run with one identity"), "nobody was there twice");
    }
}
