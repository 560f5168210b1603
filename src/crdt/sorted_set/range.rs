//! Scores, the order of members, and the ranges of it that commands name.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::delta::{Kind, Rows};
use super::super::shown::Shown;
use super::ScoreView;

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

/// The members that show, in order of (score, member).
pub(in crate::crdt) fn scored<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<Scored, R::Error> {
    let mut members = Vec::new();
    rows.visit_from(key, Kind::Score, &mut |address, row| {
        if address.kind != Kind::Score {
            return ControlFlow::Break(());
        }
        members.extend(ScoreView::of(row, &shown.expiry).score().map(|score| (address.element.clone(), Score::new(score))));
        ControlFlow::Continue(())
    })?;
    members.sort_by(|(one, score), (other, other_score)| compare(*score, *other_score).then_with(|| one.cmp(other)));
    Ok(members)
}

fn compare(one: Score, other: Score) -> Ordering {
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
    /// Members in this order, from those in order of (score, member).
    pub(super) fn of(self, mut members: Scored) -> Scored {
        if self == Self::Descending {
            members.reverse();
        }
        members
    }
}

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
        let told =
            match &self.span {
                Span::Places(start, stop) => places(members, *start, *stop),
                Span::Scores(least, greatest) => self
                    .between(members, |(_, score), upper| if upper { greatest.admits(*score, true) } else { least.admits(*score, false) }),
                Span::Members(least, greatest) => self
                    .between(members, |(member, _), upper| if upper { greatest.admits(member, true) } else { least.admits(member, false) }),
            };
        match self.limit {
            None => told,
            Some((offset, count)) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                told.into_iter().skip(offset).take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
            }
        }
    }

    /// From the first member on the right side of the end where the order begins, to the last on that of the other.
    fn between(&self, members: Scored, admits: impl Fn(&(Bytes, Score), bool) -> bool) -> Scored {
        let descending = self.order == Order::Descending;
        let inner = members.into_iter().skip_while(|member| !admits(member, descending));
        inner.take_while(|member| admits(member, !descending)).collect()
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
