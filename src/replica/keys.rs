//! Walks the keys of a partition in the order of their hashes, for SCAN and its like.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::layout;
use super::transaction::ReplicaError;
use super::view::View;
use crate::crdt::command::Selection;
use crate::crdt::shown::Shown;
use crate::env::message::{KeyPage, ListedKey};
use crate::types::{Partition, Place, Timestamp, key_hash};

impl View {
    /// The keys of a partition that show at a time, from a hash on, after having looked at `most` keys at most.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn keys(&self, partition: Partition, from_hash: u64, most: usize, now: Timestamp) -> Result<KeyPage, ReplicaError> {
        let count = u16::try_from(self.partitions().len()).unwrap_or(u16::MAX);
        let (start, end) = layout::partition_range(partition);
        let mut page = KeyPage { standing: self.partition(partition).standing, ring: self.ring, keys: Vec::new(), next: None };
        let place = Place::at(from_hash, count);
        let mut from = if place.partition == partition { layout::position(place) } else { start };
        for looked_at in 0.. {
            let Some(key) = self.next_key(&from, &end)? else { break };
            if looked_at == most {
                page.next = Some(key_hash(&key));
                break;
            }
            from = layout::end_of(&layout::rows_of_key(self.place(&key), &key));
            if let Some(data_type) = self.shown(&key, now)?.data_type {
                page.keys.push(ListedKey { key, data_type });
            }
        }
        Ok(page)
    }

    /// The key of the first row from a storage key on.
    fn next_key(&self, from: &[u8], end: &[u8]) -> Result<Option<Bytes>, ReplicaError> {
        let mut found = None;
        self.snapshot.scan(from, end, &mut |row_key, value| {
            found = Some(layout::parse_row(row_key, &Bytes::copy_from_slice(value)).map(|(address, _)| address.key));
            ControlFlow::Break(())
        })?;
        Ok(found.transpose()?)
    }

    /// What a key shows here.
    fn shown(&self, key: &Bytes, now: Timestamp) -> Result<Shown, ReplicaError> {
        let mut page = self.read(key, &Selection::Head, None, now)?;
        loop {
            let Ok(shown) = Shown::read(&page.rows, key, now);
            let Some(after) = page.next.filter(|_| shown.data_type.is_none()) else { return Ok(shown) };
            // So far all of it is hidden. What decides about it is the expiry row, which stays.
            let more = self.read(key, &Selection::Head, Some(&after), now)?;
            page.rows.retain(|address, _| address.kind == crate::crdt::delta::Kind::Expiry);
            page.rows.extend(more.rows);
            page.next = more.next;
        }
    }
}
