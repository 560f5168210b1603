//! SSCAN, HSCAN and ZSCAN: elements in the order of their hashes, so that a cursor, which is the hash of the next one, means the same at every peer.
//!
//! An element that is there all the time is met at least once, whatever is added or removed beside it and whichever peer goes on: its hash stays.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::outcome::Answer;
use super::row::{Row, RowAddress};
use super::rows::Rows;
use super::selection::Selection;
use crate::types::key_hash;

/// Collections of so many elements are told whole, as Redis tells those that it keeps in one piece.
const WHOLE: u32 = 128;
/// Elements of one step at most, whatever COUNT says.
const MOST: u32 = 64 * 1024;

/// One step of a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// The hash to go on from; 0 to begin.
    pub from_hash: u64,
    /// How many elements to tell, about.
    pub count: u32,
}

impl Scan {
    /// The rows that the step needs.
    pub(super) fn selection(self, kind: Kind) -> Selection {
        Selection::Hashed { kind, from_hash: self.from_hash, most: self.looked_at() }
    }

    /// How many elements to look at: one more than a small collection has tells that it is none.
    fn looked_at(self) -> u32 {
        self.count.clamp(WHOLE + 1, MOST)
    }

    /// Tells elements of a kind with what is asked of each. Of a collection that is small all are told.
    pub(super) fn answer<R: Rows, T>(
        self,
        (rows, key, kind): (&R, &Bytes, Kind),
        ask: impl Fn(&RowAddress, &Row) -> Option<T>,
        tell: fn(Vec<T>) -> Answer,
    ) -> Result<Answer, R::Error> {
        let mut met: BTreeMap<u64, Vec<T>> = BTreeMap::new();
        let (mut looked_at, mut left_out) = (0, None);
        let most = self.looked_at();
        rows.visit_hashed(key, kind, self.from_hash, &mut |address, row| {
            let hash = key_hash(&address.element);
            // Elements of one hash are not parted.
            let is_new = !met.contains_key(&hash);
            if is_new && looked_at >= most {
                left_out = Some(hash);
                return ControlFlow::Break(());
            }
            looked_at += 1;
            met.entry(hash).or_default().extend(ask(address, row));
            ControlFlow::Continue(())
        })?;
        let is_whole = self.from_hash == 0 && looked_at <= WHOLE && left_out.is_none();
        let count = if is_whole { usize::MAX } else { usize::try_from(self.count.clamp(1, MOST)).unwrap_or(usize::MAX) };
        let next = met.keys().nth(count).copied().or(left_out).unwrap_or(0);
        let elements = met.into_values().take(count).flatten().collect();
        Ok(Answer::Scanned { next, elements: Box::new(tell(elements)) })
    }
}
