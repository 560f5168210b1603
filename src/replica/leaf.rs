//! Leaves as they are told to those who pull: read once, found whole in the same pass, and cut to what one answer takes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::{self, Damaged};
use super::pulling::bounds;
use crate::config::ANSWER_BYTES;
use crate::crdt::delta::{Causal, Row, RowAddress};
use crate::crdt::encode;
use crate::crdt::expiry::has_decisions;
use crate::env::message::{RangeContent, RowRange, RowsThere};
use crate::env::{Snapshot, StorageError};
use crate::types::{Digest, LEAVES, Partition, Place};

/// A range of this many bytes is sent with its rows, a longer one is listed first.
const ROWS_AT_ONCE: usize = 2048;
/// A range of this many rows is listed row by row, a longer one in parts.
const LISTED_ROWS: usize = 256;
/// Addresses of this many bytes are listed, more are told in parts; a single row is always listed.
const LISTED_BYTES: usize = ANSWER_BYTES / 4;
/// Parts that a long range is told in: more of them cost bytes, fewer cost rounds.
const PARTS: usize = 32;
/// What stands around a row or an address in an answer, in bytes, about.
const ROW_OVERHEAD: usize = 32;

/// One leaf at one moment.
#[derive(Clone)]
pub struct Leaf {
    pub(super) partition: Partition,
    pub(super) number: u16,
    pub(super) snapshot: Arc<dyn Snapshot>,
    pub(super) causal: Arc<Causal>,
    pub(super) digest: Digest,
    /// Whether nothing lies between this leaf and the one that was asked for before it, so that one pass reads both.
    pub(super) adjoins: bool,
}

/// Why a leaf was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// Rows are missing or damaged: what this replica says about absence must not be believed.
    #[error("the rows of a leaf do not add up to its digest")]
    NotWhole,
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Splits a stored row into its address, its content and its digest.
pub(super) fn read(row_key: &[u8], value: &[u8]) -> Result<(RowAddress, Row, Digest), Damaged> {
    let (address, row, content) = layout::read_row(row_key, &Bytes::copy_from_slice(value))?;
    let digest = encode::stored_row_digest(&address, &content);
    Ok((address, row, digest))
}

/// Reads leaves from the first on, as a whole, as far as one pass reaches and about `room` bytes hold. Each is found to add up to its
/// digest before anything is told of it. Answers with the contents and their bytes.
///
/// # Errors
/// `NotWhole` where rows are missing or damaged.
pub fn tell_whole(leaves: &[Leaf], room: usize) -> Result<(Vec<RangeContent>, usize), NotTold> {
    let run = leaves.iter().skip(1).take_while(|leaf| leaf.adjoins).count() + 1;
    let Some(([first, ..], last)) = leaves.get(..run).map(|leaves| (leaves, leaves.last())) else { return Ok((Vec::new(), 0)) };
    let start = first.range().0;
    let end = last.unwrap_or(first).range().1;
    let mut leaves = leaves.iter().take(run).peekable();
    let (mut contents, mut used) = (Vec::new(), 0);
    let mut gathered = Gathered::default();
    let mut is_whole = true;
    first.snapshot.scan(&start, &end, &mut |row_key, value| {
        while let Some(leaf) = leaves.next_if(|leaf| usize::from(leaf.number) < layout::leaf_of(row_key)) {
            match std::mem::take(&mut gathered).finish_whole(leaf) {
                Some((content, bytes)) => {
                    contents.push(content);
                    used += bytes;
                }
                None => is_whole = false,
            }
            if !is_whole || used >= room {
                return ControlFlow::Break(());
            }
        }
        is_whole = gathered.add(row_key, value).is_ok();
        if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    for leaf in leaves {
        if !is_whole || used >= room {
            break;
        }
        match std::mem::take(&mut gathered).finish_whole(leaf) {
            Some((content, bytes)) => {
                contents.push(content);
                used += bytes;
            }
            None => is_whole = false,
        }
    }
    if is_whole { Ok((contents, used)) } else { Err(NotTold::NotWhole) }
}

impl Leaf {
    /// Which leaf it is.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        layout::leaf_range(self.partition, usize::from(self.number).min(LEAVES - 1))
    }

    fn gather(&self, start: &[u8], end: &[u8]) -> Result<Gathered, NotTold> {
        let mut gathered = Gathered::default();
        let mut read = Ok(());
        self.snapshot.scan(start, end, &mut |row_key, value| {
            read = gathered.add(row_key, value);
            if read.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        read.map(|()| gathered).map_err(|_| NotTold::NotWhole)
    }

    /// Whether the rows add up to the digest. To be asked once, before anything is told of a part.
    ///
    /// # Errors
    /// `NotWhole` where rows are missing or damaged.
    pub fn verify(&self) -> Result<(), NotTold> {
        let (start, end) = self.range();
        if self.gather(&start, &end)?.sum == self.digest { Ok(()) } else { Err(NotTold::NotWhole) }
    }

    /// What a range of the leaf holds, once the leaf was found whole, and its bytes.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn tell(&self, range: &RowRange) -> Result<(RangeContent, usize), NotTold> {
        let (start, end) = bounds(self.partition, range);
        Ok(self.gather(&start, &end)?.finish(&self.causal))
    }

    /// The contents of rows from the first on, as far as about `room` bytes hold: how many addresses are answered, those of their rows
    /// that are there, and the bytes.
    ///
    /// # Errors
    /// Where they could not be read.
    pub fn tell_rows(&self, addresses: &[RowAddress], partitions: u16, room: usize) -> Result<(u64, RowsThere, usize), NotTold> {
        let (mut answered, mut rows, mut used) = (0, BTreeMap::new(), 0);
        for address in addresses {
            let row_key = layout::row_key(Place::of(&address.key, partitions), address);
            answered += 1;
            used += ROW_OVERHEAD;
            if let Some(value) = self.snapshot.get(&row_key)? {
                let (address, row, _) = read(&row_key, &value).map_err(|_| NotTold::NotWhole)?;
                used += row_key.len() + value.len();
                rows.insert(address, row);
            }
            if used >= room {
                break;
            }
        }
        Ok((answered, judged(rows, &self.causal), used))
    }
}

/// Rows together with the clock of their snapshot, where that is what judges them.
fn judged(rows: BTreeMap<RowAddress, Row>, causal: &Causal) -> RowsThere {
    let decisions = rows.iter().any(|(address, row)| has_decisions(address, row));
    RowsThere { rows, causal: decisions.then(|| Box::new(causal.clone())) }
}

/// What a range holds: its rows while they are small, a listing while it is short, parts in any case.
#[derive(Default)]
struct Gathered {
    sum: Digest,
    count: usize,
    bytes: usize,
    listed_bytes: usize,
    rows: BTreeMap<RowAddress, Row>,
    listing: Vec<(RowAddress, Digest)>,
    parts: Parts,
}

impl Gathered {
    fn add(&mut self, row_key: &[u8], value: &[u8]) -> Result<(), Damaged> {
        let (address, row, digest) = read(row_key, value)?;
        self.sum = self.sum.plus(digest);
        self.count += 1;
        self.bytes += row_key.len() + value.len();
        self.listed_bytes += address.key.len() + address.element.len() + ROW_OVERHEAD;
        self.parts.add(row_key, digest);
        if self.is_listed() {
            self.listing.push((address.clone(), digest));
        }
        if self.bytes <= ROWS_AT_ONCE {
            self.rows.insert(address, row);
        }
        Ok(())
    }

    fn is_listed(&self) -> bool {
        self.count == 1 || (self.count <= LISTED_ROWS && self.listed_bytes <= LISTED_BYTES)
    }

    /// The content of a whole leaf with its bytes; `None` where it does not add up.
    fn finish_whole(self, leaf: &Leaf) -> Option<(RangeContent, usize)> {
        (self.sum == leaf.digest).then(|| self.finish(&leaf.causal))
    }

    fn finish(self, causal: &Causal) -> (RangeContent, usize) {
        if self.bytes <= ROWS_AT_ONCE {
            (RangeContent::Rows(judged(self.rows, causal)), self.bytes + ROW_OVERHEAD)
        } else if self.is_listed() {
            (RangeContent::Listing(self.listing), self.listed_bytes)
        } else {
            let parts = self.parts.finish();
            let bytes = parts.iter().map(|(end, _, _)| end.as_ref().map_or(0, Bytes::len) + ROW_OVERHEAD).sum();
            (RangeContent::Parts(parts), bytes)
        }
    }
}

/// Gathers a range into at most [`PARTS`] parts of about equal length in one pass: when there are twice as many, neighbours melt.
struct Parts {
    /// First key, rows and digest of each part.
    parts: Vec<(Vec<u8>, u64, Digest)>,
    rows_per_part: u64,
}

impl Default for Parts {
    fn default() -> Self {
        Self { parts: Vec::new(), rows_per_part: 1 }
    }
}

impl Parts {
    fn add(&mut self, row_key: &[u8], digest: Digest) {
        match self.parts.last_mut() {
            Some((_, count, sum)) if *count < self.rows_per_part => {
                *count += 1;
                *sum = sum.plus(digest);
            }
            _ => self.parts.push((row_key.to_vec(), 1, digest)),
        }
        if self.parts.len() > 2 * PARTS {
            let melted = self.parts.chunks(2).filter_map(|pair| {
                let (first, count, digest) = pair.first()?.clone();
                Some(pair.get(1).map_or((first.clone(), count, digest), |next| (first, count + next.1, digest.plus(next.2))))
            });
            self.parts = melted.collect();
            self.rows_per_part *= 2;
        }
    }

    /// Each part with the key at which it ends, excluded.
    fn finish(self) -> Vec<(Option<Bytes>, u64, Digest)> {
        let ends = self.parts.iter().skip(1).map(|(first, _, _)| Some(Bytes::from(first.clone()))).chain([None]).collect::<Vec<_>>();
        self.parts.into_iter().zip(ends).map(|((_, count, digest), end)| (end, count, digest)).collect()
    }
}
