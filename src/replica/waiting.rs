//! What stays pending since nobody has it any more.
//!
//! Something is pending where a write is known to be superseded that has not been seen here yet. Its delta mostly crosses with the other for some
//! milliseconds. Where its author died with it, it never comes, and would be remembered for ever. So what has been pending for a
//! day, while a pull that began later was completed from every co-replica, is given up: whoever might have had it was asked.
//!
//! The others hold the same pending and give it up at their own time. Until then a pull would bring it back, so what was given up is
//! not taken from a pull for one more day.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::config::PENDING_FOR;
use crate::crdt::delta::{Causal, Pending, Scope};
use crate::crdt::dot::Clock;
use crate::types::PeerId;

/// What is pending in one partition, and since when this is known. A restart begins to count anew.
#[derive(Debug, Default)]
pub struct Waiting {
    noted: BTreeMap<Scope, (Clock, Instant)>,
    /// When the last completed pull from each peer began.
    pulled: BTreeMap<PeerId, Instant>,
    given_up: BTreeMap<Scope, (Clock, Instant)>,
}

impl Waiting {
    /// Notes a completed pull that began at `began`, and what is pending after it. Tells what is to be given up.
    pub fn pulled(&mut self, from: PeerId, began: Instant, pending: &Pending, co_holders: &BTreeSet<PeerId>) -> Vec<Scope> {
        let now = Instant::now();
        self.pulled.insert(from, began);
        self.given_up.retain(|_, (_, since)| now - *since < PENDING_FOR);
        self.noted.retain(|scope, (clock, _)| pending.get(scope) == Some(clock));
        for (scope, clock) in pending {
            self.noted.entry(scope.clone()).or_insert_with(|| (clock.clone(), now));
        }
        let all_asked_since = |since: Instant| co_holders.iter().all(|peer| self.pulled.get(peer).is_some_and(|began| *began >= since));
        let over = self.noted.iter().filter(|(_, (_, since))| now - *since >= PENDING_FOR && all_asked_since(*since));
        let over: Vec<Scope> = over.map(|(scope, _)| scope.clone()).collect();
        for scope in &over {
            if let Some((clock, _)) = self.noted.remove(scope) {
                self.given_up.insert(scope.clone(), (clock, now));
            }
        }
        over
    }

    /// Takes out of what another replica has seen what was given up here.
    pub fn without_given_up(&self, theirs: &mut Causal) {
        for (scope, (clock, _)) in &self.given_up {
            if let Some(pending) = theirs.pending.get_mut(scope) {
                pending.subtract(clock);
                if pending.is_empty() {
                    theirs.pending.remove(scope);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::advance;

    use super::*;
    use crate::crdt::dot::Dot;
    use crate::types::Actor;

    const HOUR: Duration = Duration::from_secs(3600);

    fn peer(name: u8) -> PeerId {
        PeerId([name; 32])
    }

    fn pending(counters: &[u64]) -> Pending {
        let clock = counters.iter().map(|counter| Dot { actor: Actor(1), counter: *counter }).collect();
        Pending::from([(Scope::Key(Bytes::from_static(b"k")), clock)])
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_has_is_given_up_after_a_day_and_a_pull_from_everybody() {
        let others = BTreeSet::from([peer(2), peer(3)]);
        let mut waiting = Waiting::default();
        let early = Instant::now();
        assert!(waiting.pulled(peer(2), early, &pending(&[7]), &others).is_empty());
        advance(HOUR).await;
        assert!(waiting.pulled(peer(3), Instant::now(), &pending(&[7]), &others).is_empty(), "an hour is no day");
        advance(24 * HOUR).await;
        assert!(waiting.pulled(peer(2), early - HOUR, &pending(&[7]), &others).is_empty(), "this pull began before it was noted");
        assert_eq!(waiting.pulled(peer(2), Instant::now(), &pending(&[7]), &others).len(), 1);
        // The others still have it, and it is not taken back.
        let mut theirs = Causal { pending: pending(&[7]), ..Causal::default() };
        waiting.without_given_up(&mut theirs);
        assert_eq!(theirs, Causal::default());
    }

    #[tokio::test(start_paused = true)]
    async fn what_grew_or_came_again_waits_anew() {
        let others = BTreeSet::from([peer(2)]);
        let mut waiting = Waiting::default();
        waiting.pulled(peer(2), Instant::now(), &pending(&[7]), &others);
        advance(23 * HOUR).await;
        assert!(waiting.pulled(peer(2), Instant::now(), &pending(&[7, 8]), &others).is_empty());
        advance(23 * HOUR).await;
        assert!(waiting.pulled(peer(2), Instant::now(), &pending(&[7, 8]), &others).is_empty());
        advance(HOUR).await;
        assert_eq!(waiting.pulled(peer(2), Instant::now(), &pending(&[7, 8]), &others).len(), 1);
        // More than what was given up is news.
        let mut theirs = Causal { pending: pending(&[7, 9]), ..Causal::default() };
        waiting.without_given_up(&mut theirs);
        assert_eq!(theirs.pending, pending(&[9]));
    }
}
