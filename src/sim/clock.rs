//! A wall clock for the simulator: follows the paused time of the runtime, and may be set wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::time::Instant;

use crate::env::Clock;

/// Where simulated time begins, in milliseconds since 1970: some day in 2026.
const BEGINNING_MS: u64 = 1_790_000_000_000;

/// The clock of one simulated peer. Clones show the same time.
#[derive(Clone)]
pub struct SimClock {
    started: Instant,
    skew_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is right. To be made inside the simulation's runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { started: Instant::now(), skew_ms: Arc::default() }
    }

    /// Sets by how much the clock is wrong, in milliseconds.
    pub fn set_skew(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
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
        BEGINNING_MS.saturating_add(passed).saturating_add_signed(self.skew_ms.load(Ordering::Relaxed))
    }
}
