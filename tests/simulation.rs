//! Whole clusters of real nodes, on simulated disks, networks and clocks: faults first, then healing, then everything that was promised
//! must be true.

use std::sync::atomic::{AtomicU64, Ordering};

use ringtide::sim::run::run;

const PEERS: usize = 5;
const SEEDS: u64 = 300;

#[test]
fn every_seed_keeps_what_was_promised() {
    let next = AtomicU64::new(0);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut failures = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= SEEDS {
                            return failures;
                        }
                        if let Err(violation) = run(seed, PEERS) {
                            failures.push(format!(
                                "{violation}\n  replay: cargo run --release --example simulate -- --seed {seed} --seeds 1 --peers {PEERS}"
                            ));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} of {SEEDS} seeds failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [3, 17] {
        assert_eq!(run(seed, PEERS), run(seed, PEERS));
    }
    assert_ne!(run(3, PEERS).unwrap().trace, run(4, PEERS).unwrap().trace);
}
