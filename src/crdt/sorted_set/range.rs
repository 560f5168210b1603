//! The ranges of a sorted set that commands name.

use std::cmp::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::score::{Order, Score, Scored, compare};

/// A part of a sorted set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Which members.
    pub span: Span,
    /// In which order they are told, and their places counted.
    pub order: Order,
    /// How many of them are left out at first, and how many told at most; negative: none told, and all.
    pub limit: Option<(i64, i64)>,
}

/// Which members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Span {
    /// By their place, both included; negative: from the end.
    Places(i64, i64),
    /// By their scores, the least first.
    Scores(ScoreBound, ScoreBound),
    /// By their bytes, the least first. Means something only where all scores are equal.
    Members(MemberBound, MemberBound),
}

/// An end of a range of scores.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ScoreBound {
    /// The score.
    pub score: Score,
    /// Whether the score itself is left out.
    pub exclusive: bool,
}

/// An end of a range of members.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MemberBound {
    /// Before all members.
    Least,
    /// Behind all members.
    Greatest,
    /// This member too.
    Including(Bytes),
    /// Without this member.
    Excluding(Bytes),
}

impl ScoreBound {
    /// Whether a score lies on the right side of the lesser end, or with `upper` of the greater.
    fn admits(self, score: Score, upper: bool) -> bool {
        match compare(score, self.score) {
            Ordering::Less => upper,
            Ordering::Equal => !self.exclusive,
            Ordering::Greater => !upper,
        }
    }
}

impl MemberBound {
    fn admits(&self, member: &Bytes, upper: bool) -> bool {
        let (bound, exclusive) = match self {
            Self::Least => return !upper,
            Self::Greatest => return upper,
            Self::Including(bound) => (bound, false),
            Self::Excluding(bound) => (bound, true),
        };
        match member.cmp(bound) {
            Ordering::Less => upper,
            Ordering::Equal => !exclusive,
            Ordering::Greater => !upper,
        }
    }
}

impl Range {
    /// Every member, the least score first.
    #[must_use]
    pub fn all() -> Self {
        Self { span: Span::Places(0, -1), order: Order::Ascending, limit: None }
    }

    /// The length of the longest member that it names, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        let length = |bound: &MemberBound| match bound {
            MemberBound::Least | MemberBound::Greatest => 0,
            MemberBound::Including(member) | MemberBound::Excluding(member) => member.len(),
        };
        if let Span::Members(least, greatest) = &self.span { length(least).max(length(greatest)) } else { 0 }
    }

    /// The part of all members, which are given in order of (score, member).
    pub(super) fn of(&self, members: Scored) -> Scored {
        let members = self.order.of(members);
        let told = match &self.span {
            Span::Places(start, stop) => places(members, *start, *stop),
            Span::Scores(..) | Span::Members(..) => {
                let inner = members.into_iter().skip_while(|(member, score)| !self.begins(member, *score));
                inner.take_while(|(member, score)| self.goes_on(member, *score)).collect()
            }
        };
        match self.limit {
            None => told,
            Some((offset, count)) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                told.into_iter().skip(offset).take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
            }
        }
    }

    /// Whether a member lies on the right side of the end where the order begins. Places are not looked at.
    pub(super) fn begins(&self, member: &Bytes, score: Score) -> bool {
        self.admits(member, score, self.order == Order::Descending)
    }

    /// Whether a member lies on the right side of the end that the order leads to. Places are not looked at.
    pub(super) fn goes_on(&self, member: &Bytes, score: Score) -> bool {
        self.admits(member, score, self.order == Order::Ascending)
    }

    /// Whether a member lies on the right side of the lesser end, or with `upper` of the greater.
    fn admits(&self, member: &Bytes, score: Score, upper: bool) -> bool {
        match &self.span {
            Span::Places(..) => true,
            Span::Scores(least, greatest) => if upper { greatest } else { least }.admits(score, upper),
            Span::Members(least, greatest) => if upper { greatest } else { least }.admits(member, upper),
        }
    }
}

/// The members from one place to another, both included; negative: from the end.
fn places(members: Scored, start: i64, stop: i64) -> Scored {
    let count = i64::try_from(members.len()).unwrap_or(i64::MAX);
    let place = |place: i64| if place < 0 { place.saturating_add(count) } else { place };
    let (start, stop) = (place(start).max(0), place(stop).min(count - 1));
    if start > stop {
        return Vec::new();
    }
    let (skipped, told) = (usize::try_from(start).unwrap_or(usize::MAX), usize::try_from(stop - start + 1).unwrap_or(0));
    members.into_iter().skip(skipped).take(told).collect()
}
