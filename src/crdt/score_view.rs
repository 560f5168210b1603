//! The row of a member of a sorted set, as one reads it: a base that ZADD wrote last, and what ZINCRBY added to it (see [`super::additive`]).

use super::additive::{Additive, Base};
use super::number::Number;
use super::row::Payload;
use super::score::Score;

impl Base for Score {
    fn of(payload: &Payload) -> Option<Self> {
        if let Payload::Score(score) = payload { Some(*score) } else { None }
    }
}

/// What is to be seen in a member's row at one time.
pub type ScoreView = Additive<Score>;

impl Additive<Score> {
    /// The exact sum; `None` where the base is infinite.
    pub(super) fn exact(&self) -> Option<Number> {
        let base = self.base().map_or(Some(Number::ZERO), |base| Number::from_double(base.value()));
        base.map(|base| self.sum(base))
    }

    /// The score; `None` where the member is none.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        match self.base() {
            None if !self.has_runs() => None,
            Some(base) if !self.has_runs() => Some(base.value()),
            base => Some(self.exact().map_or_else(|| base.map_or(0.0, |base| base.value()), |exact| exact.to_double())),
        }
    }
}
