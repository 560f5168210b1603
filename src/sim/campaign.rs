//! Many seeds, on all cores: each has a runtime of its own on one thread, so it runs the same wherever and beside whatever it runs.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::kinds::{self, Matrix, Reached};
use super::run::{Report, run};

/// What many runs were together.
#[derive(Debug, Default)]
pub struct Campaign {
    /// Seeds that broke a promise, in order, each with what was wrong.
    pub violations: Vec<(u64, String)>,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that failed.
    pub failed: u64,
    /// Simulated time, for all peers together.
    pub peer_time: Duration,
    /// Which kinds of faults met, in how many runs.
    pub matrix: Matrix,
    /// How often faults reached what they are meant for.
    pub reached: Reached,
}

impl Campaign {
    /// Runs some seeds on so many threads. Each result is also `told`, as soon as it is there.
    pub fn run(seeds: Range<u64>, peers: usize, threads: usize, told: impl Fn(u64, &Result<Report, String>) + Sync) -> Self {
        let next = AtomicU64::new(seeds.start);
        let work = || {
            let mut own = Self::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if !seeds.contains(&seed) {
                    return own;
                }
                let result = run(seed, peers);
                told(seed, &result);
                own.take(seed, result);
            }
        };
        let mut all = Self::default();
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for thread in running {
                match thread.join() {
                    Ok(own) => all.merge(own),
                    // The panic of a run is the caller's.
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        all.violations.sort();
        all
    }

    fn take(&mut self, seed: u64, result: Result<Report, String>) {
        match result {
            Ok(report) => {
                self.acknowledged += report.acknowledged;
                self.failed += report.failed;
                self.peer_time += report.peer_time;
                self.matrix.count(&report.met);
                kinds::add(&mut self.reached, report.reached);
            }
            Err(violation) => self.violations.push((seed, violation)),
        }
    }

    fn merge(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.peer_time += other.peer_time;
        self.matrix.merge(other.matrix);
        kinds::add(&mut self.reached, other.reached);
    }
}

/// The line that runs a seed again.
#[must_use]
pub fn replay(seed: u64, peers: usize) -> String {
    format!("replay: cargo run --release --example simulate -- --seed {seed} --seeds 1 --peers {peers}")
}
