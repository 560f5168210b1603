//! Comparing rows: what another replica told of many ranges, against this one's rows of one moment, in one step and one commit.
//!
//! A step holds up clients' writes, so it ends after so many rows, and a range may be cut: the rows before the cut are compared and
//! marked, the others come with the next step. A listed row whose content is needed and not at hand cuts its range as well.
//!
//! ```text
//! told      a  b  c  d  e        c differs and was not fetched:
//! compared  a  b                 marked up to c, exclusive; c d e stay open, with c named as missing
//! ```
//!
//! Each row is judged, changed and marked in the same step, so the rule that a late add is judged by what was marked needs no more.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::Replica;
use super::layout;
use super::partition::Role;
use super::pulling::{PullId, Running, Step, Void, bounds};
use super::transaction::{Prepared, ReplicaError, Transaction};
use crate::crdt::delta::{Causal, Entry, Row, RowAddress};
use crate::crdt::dot::Dot;
use crate::crdt::expiry::has_decisions;
use crate::crdt::pull::compare_row;
use crate::env::message::{RowRange, RowsThere};
use crate::panics::caught;
use crate::types::{Digest, Partition, Place};

/// A range of one leaf as the other replica told of it, as far as it is not compared yet.
#[derive(Debug)]
pub struct Told {
    range: RowRange,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// Number and digest of its rows.
    Sum { count: u64, digest: Digest },
    /// Its rows by their storage keys, and the clock of the snapshot that they were read from, where decisions are among them.
    Rows { rows: BTreeMap<Vec<u8>, TheirRow>, causal: Option<Arc<Causal>> },
}

/// A row of the other replica: its digest, its content, or both.
#[derive(Debug)]
struct TheirRow {
    address: RowAddress,
    digest: Option<Digest>,
    content: Option<Row>,
    /// The clock of the snapshot that the content was read from, where it is a row of decisions.
    causal: Option<Arc<Causal>>,
}

/// The other replica told of rows that are not in the range it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row was told that lies outside of its range")]
pub struct Misplaced;

impl Told {
    /// A range by number and digest of its rows.
    #[must_use]
    pub fn sum(range: RowRange, count: u64, digest: Digest) -> Self {
        Self { range, content: Content::Sum { count, digest } }
    }

    /// A range by all of its rows.
    ///
    /// # Errors
    /// Where a row lies elsewhere.
    pub fn rows(place: (Partition, u16), range: RowRange, there: RowsThere) -> Result<Self, Misplaced> {
        let causal = there.causal.map(Arc::from);
        let row = |address, row| TheirRow { address, digest: None, content: Some(row), causal: causal.clone() };
        let rows = placed(place, &range, there.rows.into_iter().map(|(address, content)| row(address, content)))?;
        Ok(Self { range, content: Content::Rows { rows, causal } })
    }

    /// A range by the addresses and digests of all of its rows.
    ///
    /// # Errors
    /// Where a row lies elsewhere.
    pub fn listing(place: (Partition, u16), range: RowRange, listing: Vec<(RowAddress, Digest)>) -> Result<Self, Misplaced> {
        let row = |(address, digest)| TheirRow { address, digest: Some(digest), content: None, causal: None };
        let rows = placed(place, &range, listing.into_iter().map(row))?;
        Ok(Self { range, content: Content::Rows { rows, causal: None } })
    }

    /// The leaf that the range is part of.
    #[must_use]
    pub fn leaf(&self) -> u16 {
        self.range.leaf
    }

    /// Brings the contents of listed rows: of those that were asked for, those that are there. One that is not there any more counts
    /// as empty.
    pub fn fetched(&mut self, asked: &[RowAddress], partitions: u16, mut there: RowsThere) {
        let Content::Rows { rows, .. } = &mut self.content else { return };
        let causal: Option<Arc<Causal>> = there.causal.map(Arc::from);
        for address in asked {
            if let Some(row) = rows.get_mut(&layout::row_key(Place::of(&address.key, partitions), address)) {
                row.content = Some(there.rows.remove(address).unwrap_or_default());
                row.causal.clone_from(&causal);
            }
        }
    }
}

/// Rows by their storage keys, all within a range. `place` is the range's partition and how many there are.
fn placed(
    (partition, partitions): (Partition, u16),
    range: &RowRange,
    rows: impl Iterator<Item = TheirRow>,
) -> Result<BTreeMap<Vec<u8>, TheirRow>, Misplaced> {
    let (start, end) = bounds(partition, range);
    let keyed = rows.map(|row| (layout::row_key(Place::of(&row.address.key, partitions), &row.address), row));
    keyed.map(|(key, row)| if start <= key && key < end { Ok((key, row)) } else { Err(Misplaced) }).collect()
}

/// A range of which contents are needed.
#[derive(Debug)]
pub struct Incomplete {
    /// What is left of it.
    pub told: Told,
    /// The rows whose contents are needed, in order of storage.
    pub missing: Vec<RowAddress>,
}

/// How far a step came.
#[derive(Debug, Default)]
pub struct Compared {
    /// Rows that changed here.
    pub changed: u64,
    /// Ranges told by their sums that differ: their contents are to be asked for.
    pub unequal: Vec<RowRange>,
    /// Ranges of which contents are needed.
    pub incomplete: Vec<Incomplete>,
    /// What the step had no room for.
    pub rest: Vec<Told>,
}

/// Why a step is given up as a whole.
enum GivenUp {
    Void,
    Failed(ReplicaError),
}

impl<E: Into<ReplicaError>> From<E> for GivenUp {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Replica {
    /// Compares ranges with the rows of this moment and commits what changes, until the step is long enough: `room` rows, each KiB of one counted as one more.
    ///
    /// # Errors
    /// `Void` where the pull is none any more. Where rows could not be read or written nothing was changed.
    pub fn compare(&mut self, id: PullId, told: Vec<Told>, room: usize) -> Step<Compared> {
        let Some(running) = self.pulls.get(id) else { return Ok(Err(Void)) };
        if self.partition(running.partition).role == Role::Absent {
            return Ok(Err(Void));
        }
        if !self.storage.has_room() {
            return Ok(Err(Void));
        }
        let partition = running.partition;
        let judged = RefCell::default();
        let attempt = caught(|| {
            let transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
            let comparison = Comparison {
                replica: self,
                id,
                running,
                transaction,
                room,
                marks: Vec::new(),
                is_doubted: false,
                judged: &judged,
                left_out: Vec::new(),
            };
            comparison.compare(told)
        });
        let (prepared, compared, marks, left_out) = match attempt {
            Ok(Ok(done)) => done,
            Ok(Err(GivenUp::Void)) => return Ok(Err(Void)),
            Ok(Err(GivenUp::Failed(error))) => {
                if let ReplicaError::Damaged(_) = error {
                    self.suspect(partition);
                }
                return Err(error);
            }
            Err(panicked) => {
                // The transaction is gone, so nothing has changed. This pull is broken off; the next one leaves the row out.
                if let Some((address, dots)) = judged.into_inner() {
                    self.note_unjoined(&address.key.clone(), Some(address), dots, &panicked);
                }
                return Err(panicked.into());
            }
        };
        self.commit(prepared)?;
        marks.iter().for_each(|range| self.mark(id, range));
        self.leave_out(id, left_out);
        Ok(Ok(compared))
    }
}

/// A step in the making.
struct Comparison<'a> {
    replica: &'a Replica,
    id: PullId,
    running: &'a Running,
    transaction: Transaction<'a>,
    /// Rows that the step may still compare.
    room: usize,
    /// Ranges that count as compared once the step is committed.
    marks: Vec<RowRange>,
    /// Whether the range at hand has a row that is not to be believed: then it never counts as compared, and the pull takes no clock over.
    is_doubted: bool,
    /// The row that is being judged, and its dots at the other replica: outlives a panic.
    judged: &'a RefCell<Option<(RowAddress, Vec<Dot>)>>,
    /// Dots of rows that are set aside.
    left_out: Vec<Dot>,
}

/// This replica's rows of a range.
type OwnRows = BTreeMap<Vec<u8>, (RowAddress, Row, Digest)>;

impl Comparison<'_> {
    /// Compares what was told, until the step is long enough. Answers with what is to be committed, and with what follows from that.
    fn compare(mut self, told: Vec<Told>) -> Result<(Prepared, Compared, Vec<RowRange>, Vec<Dot>), GivenUp> {
        let mut compared = Compared::default();
        for told in told {
            self.take(told, &mut compared)?;
        }
        Ok((self.transaction.finish()?, compared, self.marks, self.left_out))
    }

    fn take(&mut self, told: Told, compared: &mut Compared) -> Result<(), GivenUp> {
        if self.room == 0 {
            compared.rest.push(told);
            return Ok(());
        }
        match told.content {
            Content::Sum { count, digest } => {
                if self.adds_up(&told.range, count, digest)? {
                    self.marks.push(told.range);
                } else {
                    compared.unequal.push(told.range);
                }
                Ok(())
            }
            Content::Rows { rows, causal } => self.compare_range(told.range, rows, causal, compared),
        }
    }

    /// Whether the rows here have this number and digest.
    fn adds_up(&mut self, range: &RowRange, count: u64, digest: Digest) -> Result<bool, GivenUp> {
        let (start, end) = bounds(self.running.partition, range);
        let (mut own_count, mut own) = (0, Digest::default());
        self.transaction.visit_range(&start, &end, &mut |_, _, _, digest| {
            own_count += 1;
            own = own.plus(digest);
            ControlFlow::Continue(())
        })?;
        self.room = self.room.saturating_sub(usize::try_from(own_count).unwrap_or(usize::MAX));
        Ok(own_count == count && own == digest)
    }

    /// Compares the rows of a range in order of storage, until one is missing or the step is long enough.
    fn compare_range(
        &mut self,
        range: RowRange,
        mut theirs: BTreeMap<Vec<u8>, TheirRow>,
        causal: Option<Arc<Causal>>,
        compared: &mut Compared,
    ) -> Result<(), GivenUp> {
        let (mut own, mut cut) = self.own_rows(&range)?;
        let known_until = cut.clone();
        while let Some(key) = first_key(&own, &theirs).filter(|key| cut.as_ref().is_none_or(|cut| key < cut)) {
            if self.room == 0 {
                cut = Some(key);
                break;
            }
            let (mine, other) = (own.get(&key), theirs.get(&key));
            let is_equal = match (mine, other) {
                (Some((_, row, digest)), Some(other)) => {
                    other.content.as_ref() == Some(row) || (other.content.is_none() && other.digest == Some(*digest))
                }
                _ => false,
            };
            if !is_equal && other.is_some_and(|other| other.content.is_none()) {
                cut = Some(key);
                break;
            }
            let (mine, other) = (own.remove(&key), theirs.remove(&key));
            self.room -= 1;
            if !is_equal {
                compared.changed += u64::from(self.compare_row(key, mine, other, causal.as_deref())?);
                self.judged.take();
            }
        }
        let is_doubted = std::mem::take(&mut self.is_doubted);
        let Some(cut) = cut else {
            if !is_doubted {
                self.marks.push(range);
            }
            return Ok(());
        };
        let is_known = |key: &Vec<u8>| known_until.as_ref().is_none_or(|known| key < known);
        let is_missing = |(key, other): &(&Vec<u8>, &TheirRow)| {
            other.content.is_none() && is_known(key) && own.get(*key).is_none_or(|(_, _, digest)| other.digest != Some(*digest))
        };
        let missing: Vec<RowAddress> = theirs.iter().filter(is_missing).map(|(_, other)| other.address.clone()).collect();
        let cut = Some(Bytes::from(cut));
        if cut != range.from && !is_doubted {
            self.marks.push(RowRange { until: cut.clone(), ..range.clone() });
        }
        let told = Told { range: RowRange { from: cut, ..range }, content: Content::Rows { rows: theirs, causal } };
        if missing.is_empty() {
            compared.rest.push(told);
        } else {
            compared.incomplete.push(Incomplete { told, missing });
        }
        Ok(())
    }

    /// The rows of a range as far as the step has room for them, and the storage key of the first that it has not.
    fn own_rows(&self, range: &RowRange) -> Result<(OwnRows, Option<Vec<u8>>), ReplicaError> {
        let (mut own, mut cut) = (OwnRows::new(), None);
        let partition = self.running.partition;
        // What the tree says of an empty leaf spares the search.
        if self.replica.partition(partition).tree.leaf(usize::from(range.leaf)) == Digest::default() {
            return Ok((own, cut));
        }
        let (start, end) = bounds(partition, range);
        self.transaction.visit_range(&start, &end, &mut |key, address, row, digest| {
            if own.len() == self.room {
                cut = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            own.insert(key.to_vec(), (address.clone(), row.clone(), digest));
            ControlFlow::Continue(())
        })?;
        Ok((own, cut))
    }

    /// Judges a row that differs and changes it here. Tells whether it did. `causal` is the clock of the snapshot that the range was read from.
    fn compare_row(
        &mut self,
        key: Vec<u8>,
        mine: Option<(RowAddress, Row, Digest)>,
        other: Option<TheirRow>,
        causal: Option<&Causal>,
    ) -> Result<bool, GivenUp> {
        let partition = self.running.partition;
        let (address, row, own_causal) = match other {
            Some(other) => (other.address, other.content.unwrap_or_default(), other.causal),
            None => (mine.as_ref().map(|(address, _, _)| address.clone()).ok_or(GivenUp::Void)?, Row::new(), None),
        };
        let dots: Vec<Dot> = row.keys().copied().collect();
        if self.replica.unjoined.was_tried(&key, dots.iter().copied()) {
            self.left_out.extend(dots);
            return Ok(false);
        }
        self.judged.replace(Some((address.clone(), dots)));
        self.room = self.room.saturating_sub(row.values().map(Entry::size).sum::<usize>() / 1024);
        let newest = row.values().map(|entry| entry.timestamp).max().unwrap_or_default();
        if self.replica.minter.observe(newest, self.replica.clock.wall_ms()).is_err() {
            let peer = self.running.from.peer;
            tracing::warn!(%peer, "a pull met a timestamp too far in the future: that row is left out, and the clock is not taken over");
            self.is_doubted = true;
            return Ok(false);
        }
        let mine = match mine {
            Some((_, row, _)) => row,
            None => self.transaction.row_at(&key, &address)?,
        };
        let their_causal = own_causal.as_deref().or(causal).filter(|_| has_decisions(&address, &row));
        let slips = |address: &RowAddress, dot| self.replica.pulls.slips_past_others(self.id, partition, address, dot);
        let judge = their_causal.unwrap_or_else(|| self.running.pull.theirs());
        let change = compare_row(&mine, self.transaction.causal(partition), &address, &row, judge, slips);
        if change.is_empty() {
            return Ok(false);
        }
        change.apply(&address, self.transaction.causal_mut(partition));
        let Some(row) = change.row else { return Ok(false) };
        self.transaction.put_at(key, address, row);
        Ok(true)
    }
}

fn first_key(own: &OwnRows, theirs: &BTreeMap<Vec<u8>, TheirRow>) -> Option<Vec<u8>> {
    let (own, theirs) = (own.first_key_value().map(|(key, _)| key), theirs.first_key_value().map(|(key, _)| key));
    match (own, theirs) {
        (Some(own), Some(theirs)) if own.cmp(theirs) == Ordering::Less => Some(own.clone()),
        (Some(own), None) => Some(own.clone()),
        (_, theirs) => theirs.cloned(),
    }
}
