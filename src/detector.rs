//! Who is up: a failure detector that hears heartbeats and measures silence.
//!
//! A peer is *suspect* when its connection is gone or it has been silent for a while, and *down* when the silence lasts. Neither moves
//! data: a peer that is down stays a member, and only one that is down for long is replaced ([`crate::absences`]). Time is an argument, in milliseconds that never step back.

use std::collections::BTreeMap;

use crate::config::{DOWN_AFTER, SUSPECT_AFTER};
use crate::types::PeerId;

/// How a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It answers.
    Up,
    /// It has not answered for a while, or its connection is gone.
    Suspect,
    /// It has not answered for long, or was never heard.
    Down,
}

#[derive(Debug)]
struct Known {
    heard_ms: u64,
    connected: bool,
    state: State,
}

impl Known {
    fn judged(&self, now_ms: u64) -> State {
        let silent_ms = u128::from(now_ms.saturating_sub(self.heard_ms));
        if silent_ms >= DOWN_AFTER.as_millis() {
            State::Down
        } else if silent_ms >= SUSPECT_AFTER.as_millis() || !self.connected {
            State::Suspect
        } else {
            State::Up
        }
    }
}

/// What is known of every peer that was ever connected.
#[derive(Debug, Default)]
pub struct Detector {
    peers: BTreeMap<PeerId, Known>,
}

impl Detector {
    /// Something came from a peer.
    pub fn heard(&mut self, peer: PeerId, now_ms: u64) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.heard_ms = known.heard_ms.max(now_ms);
        }
    }

    /// A peer is connected.
    pub fn connected(&mut self, peer: PeerId, now_ms: u64) {
        let known = self.peers.entry(peer).or_insert(Known { heard_ms: now_ms, connected: true, state: State::Down });
        known.connected = true;
        known.heard_ms = known.heard_ms.max(now_ms);
    }

    /// A peer's connection is gone.
    pub fn disconnected(&mut self, peer: PeerId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connected = false;
        }
    }

    /// Judges everybody anew; tells whose state has changed.
    pub fn tick(&mut self, now_ms: u64) -> Vec<(PeerId, State)> {
        let mut changed = Vec::new();
        for (peer, known) in &mut self.peers {
            let state = known.judged(now_ms);
            if state != known.state {
                known.state = state;
                changed.push((*peer, state));
            }
        }
        changed
    }

    /// How a peer was at the last tick.
    #[must_use]
    pub fn state(&self, peer: PeerId) -> State {
        self.peers.get(&peer).map_or(State::Down, |known| known.state)
    }

    /// When a peer was last heard.
    #[must_use]
    pub fn last_heard(&self, peer: PeerId) -> Option<u64> {
        self.peers.get(&peer).map(|known| known.heard_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    #[test]
    fn silence_makes_suspect_then_down_and_a_word_makes_up() {
        let mut detector = Detector::default();
        assert_eq!(detector.state(PEER), State::Down);
        detector.connected(PEER, 0);
        assert_eq!(detector.tick(0), [(PEER, State::Up)]);
        assert_eq!(detector.tick(2_999), []);
        assert_eq!(detector.tick(3_000), [(PEER, State::Suspect)]);
        assert_eq!(detector.tick(10_000), [(PEER, State::Down)]);
        detector.heard(PEER, 10_001);
        assert_eq!(detector.tick(10_001), [(PEER, State::Up)]);
        assert_eq!(detector.last_heard(PEER), Some(10_001));
    }

    #[test]
    fn a_broken_connection_is_suspect_at_once() {
        let mut detector = Detector::default();
        detector.connected(PEER, 0);
        detector.tick(0);
        detector.disconnected(PEER);
        assert_eq!(detector.tick(1), [(PEER, State::Suspect)]);
        detector.connected(PEER, 2);
        assert_eq!(detector.tick(2), [(PEER, State::Up)]);
    }

    proptest! {
        #[test]
        fn the_state_depends_on_silence_and_connection_alone(events in proptest::collection::vec((0..4u8, 0..4_000u64), 1..40)) {
            let mut detector = Detector::default();
            let (mut now, mut last, mut connected) = (0, None, false);
            for (event, passed) in events {
                now += passed;
                match event {
                    0 => { detector.connected(PEER, now); last = Some(now); connected = true; }
                    1 => { detector.disconnected(PEER); connected = false; }
                    2 => { detector.heard(PEER, now); last = last.map(|_| now); }
                    _ => {}
                }
                detector.tick(now);
                let expected = match last.map(|last: u64| now - last) {
                    None => State::Down,
                    Some(silent) if silent >= 10_000 => State::Down,
                    Some(silent) if silent >= 3_000 || !connected => State::Suspect,
                    Some(_) => State::Up,
                };
                prop_assert_eq!(detector.state(PEER), expected);
            }
        }
    }
}
