//! Whole clusters of real nodes, on simulated disks, networks and clocks: faults first, then healing, then everything that was promised
//! must be true.

use ringtide::sim::campaign::{Campaign, replay};
use ringtide::sim::kinds::{COUNTED, Kind};
use ringtide::sim::run::{run, run_with};

const PEERS: usize = 5;
const SEEDS: u64 = 300;

#[test]
fn every_seed_keeps_what_was_promised() {
    let campaign = Campaign::run(0..SEEDS, PEERS, 2, |_, _| {});
    let failures: Vec<String> =
        campaign.violations.iter().map(|(seed, violation)| format!("seed {seed}: {violation}\n  {}", replay(*seed, PEERS))).collect();
    assert!(failures.is_empty(), "{} of {SEEDS} seeds failed:\n{}", failures.len(), failures.join("\n"));
    let unreached: Vec<&str> =
        COUNTED.into_iter().filter(|kind| campaign.reached.get(kind).is_none_or(|count| *count == 0)).map(Kind::name).collect();
    assert!(unreached.is_empty(), "faults that strike and reach nothing: {unreached:?}");
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [3, 17] {
        assert_eq!(run(seed, PEERS), run(seed, PEERS));
    }
    assert_ne!(run(3, PEERS).unwrap().trace, run(4, PEERS).unwrap().trace);
}

/// Where a read fails the process ends. Whatever went on as if nothing were there would leave rows that don't add up, or lose what was acknowledged.
#[test]
fn a_read_that_fails_is_never_taken_for_absence() {
    let mut failed_reads = 0;
    for seed in 0..12 {
        let report = run_with(seed, PEERS, |drawn| drawn.only(&[Kind::ReadError]));
        let report = report.unwrap_or_else(|violation| panic!("seed {seed} with reads that fail alone: {violation}"));
        failed_reads += report.reached.get(&Kind::ReadError).copied().unwrap_or(0);
    }
    assert!(failed_reads > 20, "{failed_reads} reads failed");
}
