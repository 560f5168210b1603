//! At which peers anybody subscribes to channels: so that a message is not sent to those where nobody would hear it.
//!
//! A peer tells it by a number that grows with every change: even where nobody subscribes, odd where somebody does. Every heartbeat
//! carries it, and before the first subscription is confirmed to its client the others are asked to note it. The number tells which
//! of two reports is later, whichever arrives first. A peer that has not told since it was connected may have subscribers.
//!
//! ```text
//! peer B   SUBSCRIBE ─► 7 ─► asks A to note 7 ─► noted ─► the client is told
//! peer A   knows 6: nobody     PUBLISH goes to nobody
//!          knows 7: somebody   PUBLISH goes to B          (a heartbeat with 6 that was overtaken changes nothing)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::types::PeerId;

/// What a peer told, and whether it answers.
#[derive(Clone, Copy, Default)]
struct Known {
    number: Option<u64>,
    /// It left a message unanswered and has not been heard since: nobody waits for it.
    silent: bool,
}

/// Where anybody listens, as far as this peer knows. Clones share everything.
#[derive(Clone)]
pub struct Listeners {
    own: Arc<AtomicU64>,
    /// Short: a look-up or an assignment.
    known: Arc<Mutex<BTreeMap<PeerId, Known>>>,
}

/// A peer to send a message to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audience {
    /// Who.
    pub peer: PeerId,
    /// Whether to wait for its answer.
    pub answers: bool,
}

impl Listeners {
    /// Nobody listens here, and of others nothing is known. The numbers of a process are higher than those of one that was started
    /// before: they begin with the wall clock.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { own: Arc::new(AtomicU64::new(now_ms << 1)), known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<PeerId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this peer tells the others.
    #[must_use]
    pub fn own(&self) -> u64 {
        self.own.load(Ordering::Acquire)
    }

    /// Notes whether anybody listens here. Returns what to tell the others.
    pub fn listen(&self, listening: bool) -> u64 {
        let own = self.own();
        let next = if is_listening(own) == listening { own } else { own + 1 };
        self.own.store(next, Ordering::Release);
        next
    }

    /// A peer has told its number.
    pub fn told(&self, peer: PeerId, number: u64) {
        let mut known = self.known();
        let known = known.entry(peer).or_default();
        known.number = known.number.max(Some(number));
        known.silent = false;
    }

    /// A connection to a peer has begun or ended: what it told may have been lost.
    pub fn forget(&self, peer: PeerId) {
        self.known().remove(&peer);
    }

    /// A peer did not answer in time.
    pub fn missed(&self, peer: PeerId) {
        self.known().entry(peer).or_default().silent = true;
    }

    /// Those of some peers where somebody may listen.
    #[must_use]
    pub fn among(&self, peers: &BTreeSet<PeerId>) -> Vec<Audience> {
        let known = self.known();
        let audience = |peer: &PeerId| {
            let known = known.get(peer).copied().unwrap_or_default();
            known.number.is_none_or(is_listening).then_some(Audience { peer: *peer, answers: !known.silent })
        };
        peers.iter().filter_map(audience).collect()
    }
}

/// Whether a number says that somebody listens.
fn is_listening(number: u64) -> bool {
    number % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn among(listeners: &Listeners) -> Vec<bool> {
        listeners.among(&BTreeSet::from([PEER])).into_iter().map(|audience| audience.answers).collect()
    }

    #[test]
    fn who_has_not_told_may_have_subscribers() {
        let listeners = Listeners::new(5);
        assert_eq!(among(&listeners), [true]);
        listeners.told(PEER, 6);
        assert!(among(&listeners).is_empty());
        listeners.forget(PEER);
        assert_eq!(among(&listeners), [true]);
    }

    #[test]
    fn an_overtaken_report_changes_nothing() {
        let listeners = Listeners::new(5);
        listeners.told(PEER, 7);
        listeners.told(PEER, 6);
        assert_eq!(among(&listeners), [true]);
        listeners.told(PEER, 8);
        assert!(among(&listeners).is_empty());
    }

    #[test]
    fn nobody_waits_for_a_silent_peer_until_it_is_heard() {
        let listeners = Listeners::new(5);
        listeners.told(PEER, 7);
        listeners.missed(PEER);
        assert_eq!(among(&listeners), [false]);
        listeners.told(PEER, 7);
        assert_eq!(among(&listeners), [true]);
    }

    #[test]
    fn the_number_grows_with_every_change_and_over_restarts() {
        let listeners = Listeners::new(5);
        let before = listeners.own();
        let [first, same, none] = [true, true, false].map(|listening| listeners.listen(listening));
        assert!(!is_listening(before) && is_listening(first) && first > before);
        assert_eq!((same, none), (first, first + 1));
        assert!(Listeners::new(6).listen(true) > none - 1 && Listeners::new(5).own() == before);
    }
}
