//! Whole clusters of real nodes, on simulated disks, networks and clocks: faults first, then healing, then everything that was promised
//! must be true.

use ringtide::sim::campaign::{Campaign, replay};
use ringtide::sim::run::run;

const PEERS: usize = 5;
const SEEDS: u64 = 300;

#[test]
fn every_seed_keeps_what_was_promised() {
    let campaign = Campaign::run(0..SEEDS, PEERS, 2, |_, _| {});
    let failures: Vec<String> =
        campaign.violations.iter().map(|(seed, violation)| format!("seed {seed}: {violation}\n  {}", replay(*seed, PEERS))).collect();
    assert!(failures.is_empty(), "{} of {SEEDS} seeds failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [3, 17] {
        assert_eq!(run(seed, PEERS), run(seed, PEERS));
    }
    assert_ne!(run(3, PEERS).unwrap().trace, run(4, PEERS).unwrap().trace);
}
