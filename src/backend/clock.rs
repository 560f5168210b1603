//! Wall time as the operating system tells it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::env::Clock;

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam's one real source of wall time")]
    fn wall_ms(&self) -> u64 {
        // A clock set to before 1970 reads as 1970: the hybrid logical clock then runs on its own.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_time_after_this_was_written_that_does_not_stand_still() {
        let first = SystemClock.wall_ms();
        assert!(first > 1_700_000_000_000, "not milliseconds since 1970: {first}");
        let later = (0..10_000_000).map(|_| SystemClock.wall_ms()).find(|now| *now != first);
        assert!(later.is_some());
    }
}
