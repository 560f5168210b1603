//! Zones and capacities that were given on the command line, and a peer that leaves and tells how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Cluster, ringtide, run_to_end};

/// Zone and capacity of each peer.
const PEERS: [(&str, &str); 5] = [("a", "1"), ("a", "3"), ("b", "1"), ("b", "1"), ("c", "1")];

#[test]
fn copies_go_to_distinct_zones_in_proportion_to_capacity_and_a_leave_tells_what_it_waits_for() {
    let arguments = |(zone, capacity): (&'static str, &'static str)| ["--zone", zone, "--capacity", capacity];
    let mut cluster = Cluster::start_with(1, &arguments(PEERS[0]));
    PEERS[1..].iter().for_each(|peer| cluster.add(&arguments(*peer)));
    cluster.wait_until_whole();
    let ids: Vec<String> = cluster.peers.iter().map(|peer| peer.ready().peer.clone()).collect();
    let zone_of: BTreeMap<&str, &str> = ids.iter().map(String::as_str).zip(PEERS.map(|(zone, _)| zone)).collect();
    let ring: Vec<Vec<String>> = cluster.peers[4].ask(&["RINGTIDE", "RING"]);
    for holders in &ring {
        let zones: BTreeSet<&str> = holders.iter().map(|holder| zone_of[holder.as_str()]).collect();
        assert_eq!(zones.len(), 3, "two copies in one zone: {holders:?}");
    }
    let share = |index: usize| ring.iter().filter(|holders| holders.contains(&ids[index])).count();
    assert!(share(4) == 256 && share(1) > 2 * share(0) && share(2).abs_diff(share(3)) <= 26, "{:?}", [0, 1, 2, 3, 4].map(share));

    // One of those who take over is down, so the leave has to wait for it.
    let words: Vec<String> = (0..500).flat_map(|number| [format!("key {number}"), number.to_string()]).collect();
    let _: () = cluster.peers[0].ask(&["MSET".to_owned()].into_iter().chain(words).collect::<Vec<_>>());
    cluster.wait_until_converged();
    cluster.peers[4].kill();
    let resp = cluster.peers[0].ready().resp.clone();
    let mut leave = ringtide(&[]);
    leave.args(["leave", "--resp", &resp]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut leaving = leave.spawn().unwrap();
    let mut line = String::new();
    let mut progress = BufReader::new(leaving.stderr.take().unwrap());
    progress.read_line(&mut line).unwrap();
    let waits = line.split_whitespace().next().and_then(|count| count.parse::<usize>().ok());
    assert!(waits.is_some_and(|count| count > 0) && line.contains("still to be handed over"), "{line:?}");
    cluster.restart(4);
    leaving.stderr = Some(progress.into_inner());
    let (status, answer, _) = run_to_end(leaving);
    assert!(status.success() && answer.trim() == "OK", "{answer}");
    let ring: Vec<Vec<String>> = cluster.peers[1].ask(&["RINGTIDE", "RING"]);
    assert!(ring.iter().flatten().all(|holder| *holder != ids[0]));
}
