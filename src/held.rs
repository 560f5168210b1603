//! A bound on what several parts of a peer hold in memory together: each takes its share, or is told that there is no room.
//!
//! Shares are given back when they are dropped. Whoever asks while less than all is taken gets a share of any size, so that nothing is
//! refused for ever; the bound is exceeded by that at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What may be held, in bytes. Clones share one bound.
#[derive(Clone, Debug)]
pub struct Held {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// Some bytes that are held.
#[derive(Debug)]
pub struct Share {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Nothing is held yet, and about so many bytes may be.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Bytes that are held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether there is no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= self.most
    }

    /// Takes a share; `None` where there is no room.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Share> {
        let share = self.take_anyway(bytes);
        // Another may have come in between: then both are refused, rather than neither.
        (self.bytes().saturating_sub(bytes) < self.most).then_some(share)
    }

    /// Takes a share of what is there already, room or not.
    #[must_use]
    pub fn take_anyway(&self, bytes: usize) -> Share {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Share { taken: Arc::clone(&self.taken), bytes }
    }
}

impl Share {
    /// Notes that there is more of it now, or less.
    pub fn resize(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.taken.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.taken.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_given_until_there_is_no_room_and_come_back() {
        let held = Held::new(100);
        let (small, large) = (held.take(99).unwrap(), held.take(1_000).unwrap());
        assert!(held.is_full() && held.take(1).is_none());
        assert_eq!(held.bytes(), 1_099);
        drop(large);
        assert!(!held.is_full());
        drop(small);
        assert_eq!(held.bytes(), 0);
    }

    #[test]
    fn a_share_grows_and_shrinks_and_what_is_there_counts_in_any_case() {
        let held = Held::new(10);
        let mut share = held.take_anyway(50);
        assert!(held.take(1).is_none());
        share.resize(5);
        assert_eq!((held.bytes(), held.take(1).is_some()), (5, true));
        share.resize(30);
        assert_eq!(held.bytes(), 30);
    }
}
