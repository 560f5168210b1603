//! The hybrid logical clock: timestamps that follow wall time where it moves forward, and causality where it does not.
//!
//! A timestamp is 48 bits of milliseconds and 16 bits that count within one. Each is greater than every one that this clock has given out
//! or observed before, so a write is stamped later than what its writer had read, even if the wall clock was set back:
//!
//! ```
//! use ringtide::hlc::Hlc;
//! use ringtide::types::Timestamp;
//!
//! let mut clock = Hlc::start(Timestamp::default());
//! let first = clock.tick(5_000);
//! clock.observe(Timestamp::from_millis(5_300), 5_001)?; // a peer whose clock is ahead
//! assert!(clock.tick(5_001) > Timestamp::from_millis(5_300));
//! assert!(clock.observe(Timestamp::from_millis(99_000), 5_002).is_err()); // too far ahead: refused, the clock does not move
//! # Ok::<(), ringtide::hlc::TooFarAhead>(())
//! ```
//!
//! So that a restart does not repeat timestamps, the clock runs under a *lease*: a high-water mark that is durable before a timestamp
//! below it leaves the machine. A start continues after the mark. Whoever uses the clock asks [`Hlc::needs_lease`] before a commit.
//!
//! Source: Logical physical clocks (Kulkarni, Demirbas, Madappa, Avva, Leone, 2014).

use crate::config::{CLOCK_LEASE, MAX_DRIFT};
use crate::types::Timestamp;

/// The shortest lease past the latest timestamp: 100 ms, room for six million timestamps.
const LEAST_LEASE: u64 = 100 << 16;

/// A remote timestamp that lies further ahead than clocks may differ. It must not be stored: nothing could be written over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a timestamp is {ahead_ms} ms ahead of this peer's clock; one of the two clocks is wrong")]
pub struct TooFarAhead {
    /// By how much, in milliseconds.
    pub ahead_ms: u64,
}

/// A hybrid logical clock. Wall time is an argument, so that the clock itself is pure.
#[derive(Clone, Debug)]
pub struct Hlc {
    /// The latest timestamp given out, observed or read.
    last: Timestamp,
    /// Up to where timestamps may be used: the mark that is durable.
    lease_until: Timestamp,
}

impl Hlc {
    /// A clock that continues after the end of the lease of the run before; [`Timestamp::default`] where there was none.
    #[must_use]
    pub fn start(lease_until: Timestamp) -> Self {
        Self { last: lease_until, lease_until }
    }

    /// The next timestamp: greater than every one before. At the very end of the range (the year 10889) it stands still.
    pub fn tick(&mut self, wall_ms: u64) -> Timestamp {
        let next = Timestamp(self.last.0.saturating_add(1));
        self.last = next.max(Timestamp::from_millis(wall_ms));
        self.last
    }

    /// How far a timestamp lies ahead of wall time, where that is further than clocks may differ.
    #[must_use]
    pub fn too_far_ahead(timestamp: Timestamp, wall_ms: u64) -> Option<TooFarAhead> {
        let ahead_ms = timestamp.millis().saturating_sub(wall_ms);
        (u128::from(ahead_ms) > MAX_DRIFT.as_millis()).then_some(TooFarAhead { ahead_ms })
    }

    /// Takes note of a timestamp that another peer gave out, so that the next one here is greater. To be asked before it is stored.
    ///
    /// # Errors
    /// Where it is further ahead of wall time than [`MAX_DRIFT`]. The clock does not move. Wall time is what counts, not this
    /// clock's reading: otherwise one wrong peer could pull all the others away, step by step.
    pub fn observe(&mut self, timestamp: Timestamp, wall_ms: u64) -> Result<(), TooFarAhead> {
        if let Some(too_far) = Self::too_far_ahead(timestamp, wall_ms) {
            return Err(too_far);
        }
        self.last = self.last.max(timestamp);
        Ok(())
    }

    /// The time by which expiry is judged, in milliseconds since 1970. It never steps back, whatever the wall clock does: who has once
    /// said that a time is past must not later take a decision that was due before it (`KERNEL` section 7). For that to
    /// hold over a restart too, what is said is said under a lease.
    pub fn now_ms(&mut self, wall_ms: u64) -> u64 {
        self.last = self.last.max(Timestamp::from_millis(wall_ms));
        self.last.millis()
    }

    /// Whether a timestamp was given out or read that no lease covers yet. Nothing that was done at it may be committed or told
    /// before [`Self::lease_target`] is durable.
    #[must_use]
    pub fn needs_lease(&self) -> bool {
        self.last > self.lease_until
    }

    /// Up to where the next lease should reach: [`CLOCK_LEASE`] past wall time, and past the latest timestamp in any case.
    /// Past that by a little only, so that a peer that crashes again and again does not run away from wall time.
    #[must_use]
    pub fn lease_target(&self, wall_ms: u64) -> Timestamp {
        const { assert!(CLOCK_LEASE.as_millis() < MAX_DRIFT.as_millis(), "a restart must not run into the drift guard") };
        let lease_ms = u64::try_from(CLOCK_LEASE.as_millis()).unwrap_or(u64::MAX);
        Timestamp::from_millis(wall_ms.saturating_add(lease_ms)).max(Timestamp(self.last.0.saturating_add(LEAST_LEASE)))
    }

    /// Notes that a lease is durable.
    pub fn leased(&mut self, until: Timestamp) {
        self.lease_until = self.lease_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DRIFT_MS: u64 = 60_000;

    proptest! {
        /// Whatever the wall clock and the other peers do, over restarts that keep nothing but the lease.
        #[test]
        fn no_timestamp_comes_twice_and_no_reading_steps_back(events in proptest::collection::vec((0..4, 0..1_000_000u64), 1..60)) {
            let mut clock = Hlc::start(Timestamp::default());
            let (mut durable, mut last, mut reading) = (Timestamp::default(), Timestamp::default(), 0);
            for (event, wall_ms) in events {
                match event {
                    0 => {
                        let next = clock.tick(wall_ms);
                        prop_assert!(next > last);
                        last = next;
                    }
                    1 => {
                        let remote = Timestamp::from_millis(wall_ms + wall_ms % 100_000);
                        match clock.observe(remote, wall_ms) {
                            Ok(()) => last = last.max(remote),
                            Err(TooFarAhead { ahead_ms }) => prop_assert!(ahead_ms > DRIFT_MS),
                        }
                    }
                    2 => {
                        let now_ms = clock.now_ms(wall_ms);
                        prop_assert!(now_ms >= reading && now_ms >= wall_ms);
                        reading = now_ms;
                    }
                    _ => clock = Hlc::start(durable),
                }
                if clock.needs_lease() {
                    durable = clock.lease_target(wall_ms);
                    clock.leased(durable);
                    prop_assert!(!clock.needs_lease());
                }
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_goes_on_counting() {
        let mut clock = Hlc::start(Timestamp::default());
        let first = clock.tick(5_000);
        assert_eq!(first, Timestamp::from_millis(5_000));
        assert_eq!(clock.tick(3_000), Timestamp(first.0 + 1));
        assert_eq!(clock.now_ms(1_000), 5_000);
    }

    #[test]
    fn a_timestamp_too_far_ahead_is_refused_and_moves_nothing() {
        let mut clock = Hlc::start(Timestamp::default());
        assert_eq!(clock.observe(Timestamp::from_millis(5_000 + DRIFT_MS), 5_000), Ok(()));
        let too_far = Timestamp::from_millis(5_001 + DRIFT_MS);
        assert_eq!(clock.observe(too_far, 5_000), Err(TooFarAhead { ahead_ms: DRIFT_MS + 1 }));
        assert_eq!(clock.tick(5_000), Timestamp(Timestamp::from_millis(5_000 + DRIFT_MS).0 + 1));
    }

    #[test]
    fn wrong_peers_cannot_pull_the_clock_away_step_by_step() {
        let mut clock = Hlc::start(Timestamp::default());
        for step in 1..100 {
            let _ = clock.observe(Timestamp::from_millis(step * DRIFT_MS), 0);
        }
        assert!(clock.now_ms(0) <= DRIFT_MS);
    }

    #[test]
    fn a_start_continues_after_the_lease_and_asks_for_a_new_one() {
        let mut clock = Hlc::start(Timestamp::default());
        assert!(!clock.needs_lease());
        clock.tick(5_000);
        assert!(clock.needs_lease());
        let until = clock.lease_target(5_000);
        clock.leased(until);
        assert!(!clock.needs_lease());
        let mut again = Hlc::start(until);
        assert!(!again.needs_lease());
        assert!(again.tick(5_001) > until);
        assert!(again.needs_lease());
    }

    #[test]
    fn crashes_in_a_row_do_not_drive_the_clock_away_from_wall_time() {
        let mut durable = Timestamp::default();
        for _ in 0..100 {
            let mut clock = Hlc::start(durable);
            clock.tick(5_000);
            durable = clock.lease_target(5_000);
        }
        assert!(durable.millis() < 5_000 + DRIFT_MS / 2);
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        let mut clock = Hlc::start(Timestamp(u64::MAX));
        assert_eq!(clock.tick(u64::MAX), Timestamp(u64::MAX));
        assert_eq!(clock.lease_target(u64::MAX), Timestamp(u64::MAX));
        assert_eq!(Hlc::start(Timestamp::default()).observe(Timestamp(u64::MAX), u64::MAX), Ok(()));
        assert!(Hlc::start(Timestamp::default()).observe(Timestamp(u64::MAX), 0).is_err());
    }
}
