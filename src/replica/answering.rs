//! Answers from the rows of this replica alone, read as far as the question goes, with the digest of all rows of the key.
//!
//! Merging replicas that have the same live dots in every row of a key gives just these rows: no voice has seen one go. So where the digests of as many
//! replicas as a read asks for are equal, the answer of one stands, and nobody sends a million rows to have them compared.

use std::cell::Cell;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::collection::{self, Collection, Content};
use super::layout;
use super::transaction::ReplicaError;
use super::view::{View, decode};
use crate::config::{ANSWER_BYTES, MAX_READ};
use crate::crdt::answer::answer_from;
use crate::crdt::command::Query;
use crate::crdt::delta::{Kind, Row, RowAddress, Rows};
use crate::crdt::rows;
use crate::crdt::rows::VisitRanked;
use crate::crdt::sorted_set::{Order, Score};
use crate::crdt::summary::Summary;
use crate::env::message::{Answered, Standing};
use crate::types::{Digest, Place, Timestamp};

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum NotAnswered {
    /// Rows could not be read.
    #[error(transparent)]
    Failed(#[from] ReplicaError),
    /// It takes more rows than are read at once: [`MAX_READ`].
    #[error("the key is too large to be read at once")]
    TooLarge,
}

/// The rows of one key in a view.
struct KeyRows<'v> {
    view: &'v View,
    place: Place,
    on_record: Option<Collection>,
    /// Bytes of rows that were read.
    read: Cell<usize>,
}

impl View {
    /// Answers a question about a key from these rows alone; without one tells only their digest.
    ///
    /// # Errors
    /// Where rows could not be read, or the answer takes too many of them.
    pub fn answer(&self, key: &Bytes, query: Option<&Query>, now: Timestamp) -> Result<Answered, NotAnswered> {
        let place = self.place(key);
        let standing = self.partition(place.partition).standing;
        let mut answered = Answered { standing, ring: self.ring, digest: Digest::default(), bytes: 0, answer: None };
        if standing == Standing::Absent {
            return Ok(answered);
        }
        let on_record = Collection::read(&*self.snapshot, place, key).map_err(ReplicaError::from)?;
        let rows = KeyRows { view: self, place, on_record, read: Cell::new(0) };
        (answered.digest, answered.bytes) = rows.digest(key)?;
        answered.answer = query.map(|query| answer_from(&rows, now, key, query)).transpose()?;
        Ok(answered)
    }
}

impl Answered {
    /// This answer as it is sent: without the answer itself where a frame might not hold it.
    #[must_use]
    pub fn to_send(mut self) -> Self {
        self.answer = self.answer.filter(|answer| answer.as_ref().map_or(true, |answer| answer.weight() <= ANSWER_BYTES));
        self
    }
}

impl KeyRows<'_> {
    /// The digest and the bytes of every row of the key.
    fn digest(&self, key: &Bytes) -> Result<(Digest, u64), NotAnswered> {
        let mut collection = self.on_record.clone().unwrap_or_default();
        let (elements, end) = layout::rows_of_elements(self.place, key);
        let until = if self.on_record.is_some() { elements } else { end };
        let mut failure = None;
        let scanned = self.view.snapshot.scan(&layout::rows_of_key(self.place, key), &until, &mut |row_key, value| match layout::read_row(
            row_key,
            &Bytes::copy_from_slice(value),
        ) {
            Ok((address, _, content)) => {
                collection.follow_content(Content::default(), Content::of(&address, &content));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(ReplicaError::from(error));
                ControlFlow::Break(())
            }
        });
        scanned.map_err(ReplicaError::from)?;
        failure.map_or(Ok((collection.digest, collection.bytes)), |failure| Err(failure.into()))
    }

    /// Calls a visitor with a row, and counts what is read.
    fn show(
        &self,
        (row_key, value): (&[u8], &[u8]),
        failure: &mut Option<NotAnswered>,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.read.set(self.read.get() + row_key.len() + value.len());
        match decode(row_key, value) {
            _ if self.read.get() > MAX_READ => *failure = Some(NotAnswered::TooLarge),
            Ok((address, row)) => return visitor(&address, &row),
            Err(error) => *failure = Some(ReplicaError::from(error).into()),
        }
        ControlFlow::Break(())
    }
}

impl Rows for KeyRows<'_> {
    type Error = NotAnswered;

    fn row(&self, address: &RowAddress) -> Result<Row, NotAnswered> {
        Ok(self.view.row(self.place, address)?.map(|(_, row)| row).unwrap_or_default())
    }

    fn visit_from(
        &self,
        key: &Bytes,
        kind: Kind,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), NotAnswered> {
        let mut start = layout::rows_of_key(self.place, key);
        start.push(kind as u8);
        let mut failure = None;
        self.view.scan_rows(self.place, key, &start, &mut |row_key, value| self.show((row_key, value), &mut failure, visitor))?;
        failure.map_or(Ok(()), Err)
    }

    fn visit_back(
        &self,
        key: &Bytes,
        kind: Kind,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), NotAnswered> {
        let (start, end) = match (&self.on_record, kind) {
            (Some(collection), Kind::Item) => collection.range_of_items(self.place, key),
            _ => {
                let mut start = layout::rows_of_key(self.place, key);
                start.push(kind as u8);
                let end = layout::end_of(&start);
                (start, end)
            }
        };
        let mut failure = None;
        let visited = self.view.snapshot.scan_back(&start, &end, &mut |row_key, value| self.show((row_key, value), &mut failure, visitor));
        visited.map_err(ReplicaError::from)?;
        failure.map_or(Ok(()), Err)
    }

    fn summary(&self, key: &Bytes) -> Result<Summary, NotAnswered> {
        match &self.on_record {
            Some(collection) => Ok(collection.summary),
            None => rows::summary_of(self, key),
        }
    }

    fn visit_hashed(
        &self,
        key: &Bytes,
        kind: Kind,
        from_hash: u64,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), NotAnswered> {
        let (start, end) = layout::rows_from_hash(self.place, key, kind, from_hash);
        let mut failure = None;
        let visited = self.view.snapshot.scan(&start, &end, &mut |row_key, value| self.show((row_key, value), &mut failure, visitor));
        visited.map_err(ReplicaError::from)?;
        failure.map_or(Ok(()), Err)
    }

    fn visit_ranked(&self, key: &Bytes, order: Order, from: Option<Score>, visitor: &mut VisitRanked<'_>) -> Result<bool, NotAnswered> {
        if self.on_record.as_ref().is_none_or(|collection| collection.unranked > 0) {
            return Ok(false);
        }
        let visited =
            collection::visit_ranks(&*self.view.snapshot, self.place, key, order, from, &std::collections::BTreeMap::new(), visitor);
        visited.map_err(ReplicaError::from)?;
        Ok(true)
    }
}
