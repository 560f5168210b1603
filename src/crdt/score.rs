//! Scores of the members of sorted sets, and the orders that they give.

use std::cmp::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A score: a double that is not NaN. Equal are those of the same bits; zero and minus zero order alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
pub struct Score(u64);

impl Score {
    /// The score of a double, which must not be NaN.
    #[must_use]
    pub fn new(double: f64) -> Self {
        Self(double.to_bits())
    }

    /// The double.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// The score with 0 in place of minus zero, as Redis has it in small sorted sets.
    #[must_use]
    pub fn without_negative_zero(self) -> Self {
        Self::new(self.value() + 0.0)
    }

    /// The score of these bits; `None` where they are NaN.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        (!f64::from_bits(bits).is_nan()).then_some(Self(bits))
    }

    /// Its bits, as they are stored.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        self.0
    }
}

impl From<Score> for u64 {
    fn from(score: Score) -> Self {
        score.0
    }
}

impl TryFrom<u64> for Score {
    type Error = &'static str;

    fn try_from(bits: u64) -> Result<Self, Self::Error> {
        Self::from_bits(bits).ok_or("a score is not a number")
    }
}

impl std::fmt::Debug for Score {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.value())
    }
}

/// Members with their scores.
pub(in crate::crdt) type Scored = Vec<(Bytes, Score)>;

pub(super) fn compare(one: Score, other: Score) -> Ordering {
    one.value().partial_cmp(&other.value()).unwrap_or(Ordering::Equal)
}

/// From which end members are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Order {
    /// The least score first.
    #[default]
    Ascending,
    /// The greatest score first.
    Descending,
}

impl Order {
    /// The order from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        if self == Self::Ascending { Self::Descending } else { Self::Ascending }
    }

    /// Whether a score comes before another in this order.
    #[must_use]
    pub fn begins_before(self, score: Score, other: Score) -> bool {
        compare(score, other) == if self == Self::Ascending { Ordering::Less } else { Ordering::Greater }
    }

    /// Members in this order, from those in order of (score, member).
    pub(in crate::crdt) fn of(self, mut members: Scored) -> Scored {
        if self == Self::Descending {
            members.reverse();
        }
        members
    }
}
