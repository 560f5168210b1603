//! Counters of what the front doors did, for INFO and `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, until it is reset.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the number.
    pub fn add(&self, more: usize) {
        self.0.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// The number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What happened at the Redis protocol since the start, or since `CONFIG RESETSTAT`.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Connections taken.
    pub connections: Counter,
    /// Connections turned away since there were too many.
    pub rejected_connections: Counter,
    /// Commands carried out, those that failed included.
    pub commands: Counter,
    /// Replies that were errors.
    pub errors: Counter,
    /// Connections closed for bytes that were no command.
    pub protocol_errors: Counter,
    /// Subscribers disconnected since they read too slowly.
    pub slow_subscribers: Counter,
    /// Bytes read from clients.
    pub bytes_read: Counter,
    /// Bytes written to clients.
    pub bytes_written: Counter,
}

impl Statistics {
    /// Sets every counter back to zero.
    pub fn reset(&self) {
        let Self { connections, rejected_connections, commands, errors, protocol_errors, slow_subscribers, bytes_read, bytes_written } =
            self;
        for counter in [connections, rejected_connections, commands, errors, protocol_errors, slow_subscribers, bytes_read, bytes_written] {
            counter.0.store(0, Ordering::Relaxed);
        }
    }
}

/// How much happened in the last second: the difference between two looks at the counters.
#[derive(Debug, Default)]
pub struct Rates {
    last: [AtomicU64; 3],
    rates: [AtomicU64; 3],
}

impl Rates {
    /// Looks at the counters. To be called once a second.
    pub fn sample(&self, statistics: &Statistics) {
        let Statistics { commands, bytes_read, bytes_written, .. } = statistics;
        for (place, counter) in [commands, bytes_read, bytes_written].into_iter().enumerate() {
            let now = counter.get();
            let before = self.last[place].swap(now, Ordering::Relaxed);
            self.rates[place].store(now.saturating_sub(before), Ordering::Relaxed);
        }
    }

    /// Commands, bytes read and bytes written in the last second.
    #[must_use]
    pub fn per_second(&self) -> [u64; 3] {
        [0, 1, 2].map(|place| self.rates[place].load(Ordering::Relaxed))
    }
}
