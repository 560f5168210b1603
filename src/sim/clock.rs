//! A wall clock for the simulator: follows the paused time of the runtime, and may be set wrong, or stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tokio::time::Instant;

use crate::env::Clock;

/// Where simulated time begins, in milliseconds since 1970: some day in 2026.
const BEGINNING_MS: u64 = 1_790_000_000_000;

/// The clock of one simulated peer. Clones show the same time.
#[derive(Clone)]
pub struct SimClock {
    started: Instant,
    skew_ms: Arc<AtomicI64>,
    /// The time at which the clock stands still; 0 where it runs.
    frozen_ms: Arc<AtomicU64>,
    /// How often it was read while it stood behind.
    read_behind: Arc<AtomicU64>,
}

/// How far a clock that stands still falls behind; then somebody notices, and it runs again at that distance.
pub const MOST_FROZEN_MS: u64 = 20_000;

impl SimClock {
    /// A clock that is right. To be made inside the simulation's runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), skew_ms: Arc::default(), frozen_ms: Arc::default(), read_behind: Arc::default() }
    }

    /// Sets by how much the clock is wrong, in milliseconds.
    pub fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// How often the clock was read while it stood still and showed less than it should.
    #[must_use]
    pub fn read_behind(&self) -> u64 {
        self.read_behind.load(Ordering::Relaxed)
    }

    /// Lets the clock stand still, or run again: then it steps to where it would be.
    pub fn freeze(&self, is_frozen: bool) {
        self.frozen_ms.store(if is_frozen { self.wall_ms() } else { 0 }, Ordering::Relaxed);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let running = BEGINNING_MS.saturating_add(passed).saturating_add_signed(self.skew_ms.load(Ordering::Relaxed));
        match self.frozen_ms.load(Ordering::Relaxed) {
            0 => running,
            frozen => {
                let shown = frozen.clamp(running.saturating_sub(MOST_FROZEN_MS), running);
                self.read_behind.fetch_add(u64::from(shown < running), Ordering::Relaxed);
                shown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stands_still_falls_behind_no_further_than_it_may() {
        let (right, clock) = (SimClock::new(), SimClock::new());
        clock.freeze(true);
        sleep(Duration::from_millis(MOST_FROZEN_MS - 1)).await;
        assert_eq!(clock.wall_ms(), BEGINNING_MS);
        sleep(Duration::from_millis(MOST_FROZEN_MS)).await;
        assert_eq!(clock.wall_ms(), right.wall_ms() - MOST_FROZEN_MS);
        clock.freeze(false);
        assert_eq!(clock.wall_ms(), right.wall_ms());
    }
}
