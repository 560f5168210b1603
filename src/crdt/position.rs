//! Where an item stands in its list: names whose order is the order of the list, and between any two of which there is room for another.
//!
//! A position is a path of steps `(place, bunch, index)`. Items that one author adds one after the other share a *bunch*, named by the dot of its first
//! item, and count up or down in it: the index of an item is the distance of its own dot from that of the first. So no position is ever made twice,
//! whatever was removed, crashed or restored in between, and an author may go on with its bunch after every restart.
//!
//! ```text
//! a: RPUSH x y          x  (8, a1, 0)             y  (8, a1, 1)
//! b has seen both, RPUSH u v                      u  (8, a1, 1)(8, b5, 0)     v  (8, a1, 1)(8, b5, 1)
//! a meanwhile RPUSH z                             z  (8, a1, 2)
//! the list              x y u v z                 each run in one piece, at every peer
//! ```
//!
//! A new bunch begins *under* the item beside it: what stands behind an item has positive places below it, what stands before it negative ones. So
//! everything that the peers on one side of a partition push stays together, in the subtree of the item that was last when the partition began, and two sides
//! never interleave, neither at the end nor at the front. Paths that grow past [`NESTED_STEPS`] go back to the shallowest level with a free place, for a new
//! bunch of its own: there only the runs of single authors stay together.
//!
//! No position refers to another one: a removed item leaves nothing behind, and an item that was never heard of does no harm.
//!
//! ```text
//! bytes   of each step: place, actor (8), counter, index; then 0, which is no place
//! number  80 + n, then n bytes, the highest first; below zero 80 - n, then n bytes of the complement
//! ```
//!
//! Their order as bytes is the order of positions: what is below an item comes before its closing 0 where its place is negative, else behind it.
//!
//! Sources: Fugue (Weidner, Kleppmann, 2023) for left and right children and what it is not to interleave; position strings (Weidner, 2022) for bunches; LSEQ
//! (Nédelec et al., 2013) for places that are not halved.

use std::cmp::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::DecodeError;
use super::dot::Dot;
use crate::config::MAX_POSITION;
use crate::types::{Actor, Timestamp};

/// Steps of a path below which a new bunch begins under the item beside it.
const NESTED_STEPS: usize = 8;
/// How far from its neighbour a bunch is placed where that side is free to the end.
const GAP: i64 = 1 << 36;
/// How far from its neighbour a bunch is placed between two others, as far as there is room. Halving the room would use it up within dozens of inserts.
const STRIDE: i128 = 1 << 18;
/// Places of what was pushed without seeing the list: behind (or before) all that was pushed otherwise, in order of time.
const UNSEEN: i64 = 1 << 61;
/// The first byte of the number 0.
const ZERO: u8 = 0x80;

/// Names an item as one replica saw it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ItemName {
    /// The bytes of the position at which it stands.
    pub position: Bytes,
    /// The dots under which it was written, in their order.
    pub dots: Vec<Dot>,
}

/// One step of a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Step {
    /// Where the bunch stands among those below the same item. Never 0.
    place: i64,
    /// The dot of the first item of the bunch.
    bunch: Dot,
    /// Which item of the bunch.
    index: i64,
}

/// Where an item stands in its list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// Never empty.
    steps: Vec<Step>,
}

/// Where inserts go on after this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Growth {
    /// Behind it, as those of RPUSH do.
    Up,
    /// Before it, as those of LPUSH do.
    Down,
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let shared = self.steps.iter().zip(&other.steps).take_while(|(own, other)| own == other).count();
        match (self.steps.get(shared), other.steps.get(shared)) {
            (Some(own), Some(other)) => own.cmp(other),
            (own, other) => own.map_or(0, |step| step.place).cmp(&other.map_or(0, |step| step.place)),
        }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Position {
    /// A position for the item that is written under `dot`, between two neighbours, of which each may be missing. `None` where there is no room: then
    /// thousands of inserts went to this one spot.
    #[must_use]
    pub fn between(before: Option<&Self>, after: Option<&Self>, growth: Growth, dot: Dot) -> Option<Self> {
        let neighbour = if growth == Growth::Up { before } else { after };
        if let Some(next) = neighbour.and_then(|neighbour| neighbour.continued(growth, dot))
            && before.is_none_or(|before| *before < next)
            && after.is_none_or(|after| next < *after)
        {
            return Some(next);
        }
        let (before, after) = (before.map_or(&[][..], |position| &position.steps), after.map_or(&[][..], |position| &position.steps));
        // Under the item before, unless the item after stands there already.
        let nests_in = if !after.starts_with(before) || after.is_empty() { before } else { after };
        if nests_in.len() < NESTED_STEPS
            && let Some(nested) = begun(nests_in, before, after, growth, dot)
        {
            return Some(nested);
        }
        let prefixes = (0..=before.len().max(after.len())).flat_map(|depth| [before.get(..depth), after.get(..depth)]).flatten();
        prefixes.into_iter().find_map(|prefix| begun(prefix, before, after, growth, dot))
    }

    /// A position for an item that is pushed without having seen the list.
    #[must_use]
    pub fn unseen(growth: Growth, now: Timestamp, dot: Dot) -> Self {
        let place = UNSEEN.saturating_add_unsigned(now.0);
        Self { steps: vec![Step { place: if growth == Growth::Up { place } else { -place }, bunch: dot, index: 0 }] }
    }

    /// The next position of the same bunch, where it is the author's own.
    fn continued(&self, growth: Growth, dot: Dot) -> Option<Self> {
        let (last, path) = self.steps.split_last()?;
        let distance = dot.counter.checked_sub(last.bunch.counter).filter(|_| last.bunch.actor == dot.actor)?;
        let index = i64::try_from(distance).ok()?;
        let next = Step { index: if growth == Growth::Up { index } else { -index }, ..*last };
        Some(Self { steps: path.iter().copied().chain([next]).collect() })
    }

    /// The position in bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(24 * self.steps.len());
        for step in &self.steps {
            put_number(&mut bytes, step.place < 0, step.place.unsigned_abs());
            bytes.extend(step.bunch.actor.0.to_be_bytes());
            put_number(&mut bytes, false, step.bunch.counter);
            put_number(&mut bytes, step.index < 0, step.index.unsigned_abs());
        }
        bytes.push(ZERO);
        bytes.into()
    }

    /// Reads a position.
    ///
    /// # Errors
    /// Where the bytes are not the one form of a position within the limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_POSITION {
            return Err(DecodeError::Limit { what: "bytes of a position", found: bytes.len() as u64, limit: MAX_POSITION });
        }
        let mut rest = bytes;
        let mut steps = Vec::new();
        loop {
            let place = signed(&mut rest)?;
            if place == 0 {
                break;
            }
            let (actor, after) = rest.split_first_chunk::<8>().ok_or(DecodeError::Truncated("a position"))?;
            rest = after;
            let counter = match take_number(&mut rest)? {
                (false, counter) if counter > 0 => counter,
                _ => return Err(DecodeError::Invalid("the counter of a bunch is not positive")),
            };
            steps.push(Step { place, bunch: Dot { actor: Actor(u64::from_be_bytes(*actor)), counter }, index: signed(&mut rest)? });
        }
        match (rest.len(), steps.is_empty()) {
            (0, false) => Ok(Self { steps }),
            (0, true) => Err(DecodeError::Invalid("a position has no steps")),
            (left, _) => Err(DecodeError::Trailing(left)),
        }
    }
}

/// A position that begins a bunch below a prefix of a neighbour's path, where there is room.
fn begun(prefix: &[Step], before: &[Step], after: &[Step], growth: Growth, dot: Dot) -> Option<Position> {
    // A missing neighbour, and one that does not stand below the prefix, leaves its side free to the end.
    let bound = |steps: &[Step]| {
        let below = steps.strip_prefix(prefix).filter(|_| !steps.is_empty())?;
        Some(below.first().map_or(0, |step| step.place))
    };
    let place = free_place(bound(before), bound(after), growth)?;
    let position = Position { steps: prefix.iter().copied().chain([Step { place, bunch: dot, index: 0 }]).collect() };
    (position.to_bytes().len() <= MAX_POSITION).then_some(position)
}

/// A place strictly between two others that is not 0.
fn free_place(lower: Option<i64>, upper: Option<i64>, growth: Growth) -> Option<i64> {
    let place = match (lower, upper) {
        (None, None) => Some(GAP),
        (Some(lower), None) => lower.checked_add(GAP),
        (None, Some(upper)) => upper.checked_sub(GAP),
        (Some(lower), Some(upper)) => {
            let stride = STRIDE.min((i128::from(upper) - i128::from(lower)) / 2);
            i64::try_from(if growth == Growth::Up { i128::from(lower) + stride } else { i128::from(upper) - stride }).ok()
        }
    }?;
    let is_free = |place: &i64| *place != 0 && lower.is_none_or(|lower| lower < *place) && upper.is_none_or(|upper| *place < upper);
    [Some(place), place.checked_add(1), place.checked_sub(1)].into_iter().flatten().find(is_free)
}

fn put_number(bytes: &mut Vec<u8>, negative: bool, magnitude: u64) {
    let digits = magnitude.to_be_bytes();
    let digits = &digits[(magnitude.leading_zeros() / 8) as usize..];
    let length = u8::try_from(digits.len()).unwrap_or(8);
    if negative {
        bytes.push(ZERO - length);
        bytes.extend(digits.iter().map(|digit| !digit));
    } else {
        bytes.push(ZERO + length);
        bytes.extend(digits);
    }
}

/// Takes a number off the front: whether it is negative, and its magnitude.
fn take_number(bytes: &mut &[u8]) -> Result<(bool, u64), DecodeError> {
    let (first, rest) = bytes.split_first().ok_or(DecodeError::Truncated("a position"))?;
    let length = usize::from(first.abs_diff(ZERO));
    if length > 8 {
        return Err(DecodeError::Number("a number of a position"));
    }
    let (digits, rest) = rest.split_at_checked(length).ok_or(DecodeError::Truncated("a position"))?;
    let negative = *first < ZERO;
    let digits = digits.iter().map(|digit| if negative { !digit } else { *digit });
    if digits.clone().next() == Some(0) {
        return Err(DecodeError::Number("a number of a position"));
    }
    *bytes = rest;
    Ok((negative, digits.fold(0, |magnitude, digit| magnitude << 8 | u64::from(digit))))
}

fn signed(bytes: &mut &[u8]) -> Result<i64, DecodeError> {
    let (negative, magnitude) = take_number(bytes)?;
    let number = if negative { 0i64.checked_sub_unsigned(magnitude) } else { 0i64.checked_add_unsigned(magnitude) };
    number.ok_or(DecodeError::Number("a number of a position"))
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
