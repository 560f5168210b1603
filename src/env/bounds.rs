//! What a frame may make of itself in memory, whatever it holds: not more than about sixteen times the longest frame.
//!
//! One byte of CBOR may become an empty byte string of 32 bytes, or a digest of 16; some bytes of a canonical byte string a row of
//! a kibibyte (see [`crate::crdt::weight`]). Two things bound both:
//!
//! * [`items`] counts the items of a frame before anything is decoded; more than [`MAX_FRAME_ITEMS`] are refused.
//! * Lists in messages are read by [`list`], which takes no more items than a list of its kind ever has, and weighs them together. What the
//!   parts of messages weigh is told in [`super::weights`].

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::crdt::delta::RowAddress;
use crate::crdt::dot::Clock;
use crate::crdt::weight::{self, Scale};
use crate::types::{Digest, Partition, PeerId};

#[cfg(doc)]
use crate::config::MAX_FRAME_ITEMS;

/// Counts the items of some CBOR, up to where it ends or is none. Skips byte strings and texts, and does not recurse.
#[must_use]
pub fn items(bytes: &[u8]) -> usize {
    let (mut rest, mut count) = (bytes, 0);
    while let Some((&head, after)) = rest.split_first() {
        count += 1;
        let (kind, short) = (head >> 5, head & 31);
        let width = match short {
            24..=27 => 1 << (short - 24),
            _ => 0,
        };
        let Some((argument, after)) = after.split_at_checked(width) else { break };
        let argument = if width == 0 { u64::from(short) } else { argument.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) };
        // Bytes and text of a known length stand behind their head; everything else behind it is an item of its own.
        let content = if matches!(kind, 2 | 3) && short != 31 { argument } else { 0 };
        let Some(after) = usize::try_from(content).ok().and_then(|content| after.get(content..)) else { break };
        rest = after;
    }
    count
}

/// What an item of a list weighs beside its items of CBOR, in the units of [`crate::crdt::weight`].
pub(super) trait Weigh {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for u8 {}
impl Weigh for bool {}
impl Weigh for u64 {}
impl Weigh for Bytes {}
impl Weigh for Partition {}
impl Weigh for PeerId {}
impl Weigh for (Partition, Vec<Vec<PeerId>>) {}
impl Weigh for (Partition, u64) {}
impl Weigh for (Partition, Digest) {}
impl Weigh for (Partition, Digest, u64) {}
impl Weigh for (u8, Vec<u64>) {}
impl Weigh for (u16, Vec<RowAddress>) {}

impl Weigh for (Partition, Clock) {
    fn weight(&self) -> usize {
        weight::of_clock(&self.1)
    }
}

/// Reads a list of at most `MOST` items, of a weight that is bounded altogether.
///
/// # Errors
/// Those of the deserializer, and where there are more items or they weigh more.
pub(super) fn list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Weigh,
{
    deserializer.deserialize_seq(Bounded::<T, MOST>(PhantomData))
}

struct Bounded<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Weigh, const MOST: usize> Visitor<'de> for Bounded<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let (mut list, mut scale) = (Vec::new(), Scale::default());
        while let Some(item) = items.next_element::<T>()? {
            if list.len() == MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            scale.put(item.weight()).map_err(A::Error::custom)?;
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Message, Request, RowRange};
    use super::*;
    use crate::config::{MAX_FRAME, MAX_PARTITIONS, RANGES_AT_ONCE};
    use crate::crdt::command::Selection;
    use crate::merkle::NODES;

    #[test]
    fn items_are_counted_and_what_they_hold_is_skipped() {
        let counted = |value: ciborium::Value| {
            let mut bytes = Vec::new();
            ciborium::into_writer(&value, &mut bytes).unwrap();
            items(&bytes)
        };
        let bytes = |length: usize| ciborium::Value::Bytes(vec![0x80; length]);
        assert_eq!(counted(bytes(0)), 1);
        for length in [23, 24, 255, 256, 65_535, 65_536] {
            assert_eq!(counted(ciborium::Value::Array(vec![bytes(length), ciborium::Value::Text("t".repeat(length)), bytes(1)])), 4);
        }
        let map = ciborium::Value::Map(vec![(1.into(), u64::MAX.into()), ("key".into(), ciborium::Value::Null)]);
        assert_eq!(counted(map), 5);
    }

    #[test]
    fn bytes_that_are_no_cbor_end_the_count() {
        assert_eq!(items(&[]), 0);
        assert_eq!(items(&[0x80; 1000]), 1000);
        assert_eq!(items(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]), 1);
        assert_eq!(items(&[0x5b, 0xff]), 1);
        assert_eq!(items(&[0x9f, 0x5f, 0x41, 0, 0xff, 0xff]), 5);
    }

    #[test]
    fn a_list_longer_than_any_of_its_kind_and_a_frame_longer_than_any_are_refused() {
        let read = |request: Request| Message::from_frame(&Message::Request { id: 1, request: Box::new(request) }.to_frame()).is_ok();
        let every = usize::from(MAX_PARTITIONS);
        let open = |count| Request::PullOpen(vec![(Partition(1), Digest(2), 3); count]);
        assert_eq!((read(open(every)), read(open(every + 1))), (true, false));
        let leaves = |count| Request::PullLeaves { partition: Partition(1), state_id: 2, nodes: vec![0; count] };
        assert_eq!((read(leaves(NODES)), read(leaves(NODES + 1))), (true, false));
        let range = RowRange { leaf: 1, from: None, until: None };
        let ranges = |count| Request::PullRanges { partition: Partition(1), state_id: 2, ranges: vec![range.clone(); count] };
        assert_eq!((read(ranges(RANGES_AT_ONCE)), read(ranges(RANGES_AT_ONCE + 1))), (true, false));
        let asked = |length| Request::Read { key: vec![0; length].into(), selection: Selection::Head, after: None };
        assert_eq!((read(asked(MAX_FRAME - 100)), read(asked(MAX_FRAME))), (true, false));
    }
}
