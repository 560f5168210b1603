//! Which kinds of faults a simulated run has, and how strong they are, drawn from its seed: some only in one run, nearly all in another (swarm testing: a
//! fault that hides others must be absent now and then).
//!
//! Source: Swarm testing (Groce, Zhang, Eide, Chen, Regehr, 2012).

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::clock::MOST_FROZEN_MS;
use super::kinds::Kind;
use crate::config::Durability;

/// How likely each kind of fault is in one run, and how strong.
#[derive(Clone, Debug)]
pub struct Mixture {
    weights: [u32; Kind::COUNT],
    /// By how much a clock is wrong at most, in milliseconds. Two that are wrong both ways stay within the drift that peers allow.
    pub(super) most_skew_ms: i64,
    /// Whether the end of a machine may lose what was not synced.
    pub(super) lossy_crashes: bool,
    /// How often a disk falls back for other reasons than that.
    pub(super) disasters: u32,
    /// When a write counts as stored.
    pub durability: Durability,
}

impl Mixture {
    /// Draws a mixture.
    pub fn draw(random: &mut SmallRng) -> Self {
        let share = [0.15, 0.3, 0.6, 0.9][random.random_range(0..4)];
        let weights = std::array::from_fn(|_| if random.random_bool(share) { random.random_range(1..10) } else { 0 });
        let mut mixture = Self {
            weights,
            most_skew_ms: [500, 5_000, 20_000, 25_000][random.random_range(0..4)],
            lossy_crashes: random.random_bool(0.5),
            disasters: random.random_range(1..4),
            durability: [Durability::Every(Duration::from_millis(50)), Durability::Always][random.random_range(0..2)],
        };
        if mixture.has(Kind::ClockFreeze) {
            mixture.most_skew_ms = mixture.most_skew_ms.min(15_000);
        }
        if !mixture.has(Kind::ClockStep) {
            mixture.most_skew_ms = 0;
        }
        mixture
    }

    /// Keeps these kinds alone, as strong as can be: what only they bring about.
    #[must_use]
    pub fn only(self, kinds: &[Kind]) -> Self {
        Self { weights: std::array::from_fn(|index| if kinds.iter().any(|kind| *kind as usize == index) { 9 } else { 0 }), ..self }
    }

    /// Whether a kind of fault may strike.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.weights[kind as usize] > 0
    }

    /// By how much two clocks may differ that both are believed, in milliseconds.
    #[must_use]
    pub fn most_apart_ms(&self) -> u64 {
        2 * self.most_skew_ms.unsigned_abs() + if self.has(Kind::ClockFreeze) { MOST_FROZEN_MS } else { 0 }
    }

    /// Whether a command may be executed long after its client gave it up.
    #[must_use]
    pub fn lingers(&self) -> bool {
        self.has(Kind::Pause) || self.has(Kind::Clog)
    }

    /// Draws the kind that strikes next; `None`: something is mended.
    pub(super) fn draw_kind(&self, random: &mut SmallRng) -> Option<Kind> {
        let kinds: u32 = self.weights.iter().sum();
        let mut roll = random.random_range(0..kinds + kinds / 4 + 4);
        Kind::ALL.into_iter().find(|kind| {
            let weight = self.weights[*kind as usize];
            let falls = roll < weight;
            roll = roll.saturating_sub(weight);
            falls
        })
    }
}
