//! Finds what may be removed for good: rows in which an expiry decision has ended, through an index by time.
//!
//! The index is local and derived: [`Transaction::finish`](super::transaction::Transaction::finish) keeps it in the batch that writes the
//! row. It only says where to look; what may go is decided by `crdt::removal`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::layout;
use super::transaction::ReplicaError;
use super::view::View;
use crate::crdt::delta::RowAddress;

/// Some of the rows in which a decision has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The rows, by their keys.
    pub rows: BTreeMap<Bytes, BTreeSet<RowAddress>>,
    /// Where to go on; `None` where there is no more.
    pub next: Option<Vec<u8>>,
}

impl View {
    /// Rows of which the earliest decision ends before `until_ms` (milliseconds since 1970), at most `most` of them, from where a page before
    /// said or from `from_ms` on.
    ///
    /// # Errors
    /// Where the disk could not be read. A damaged row is left out and named in the log.
    pub fn ended(&self, from_ms: u64, until_ms: u64, next: Option<&[u8]>, most: usize) -> Result<Ended, ReplicaError> {
        let start = next.map_or_else(|| layout::ending_key(from_ms, &[]), <[u8]>::to_vec);
        let (mut row_keys, mut ended) = (Vec::new(), Ended::default());
        self.snapshot.scan(&start, &layout::ending_key(until_ms, &[]), &mut |key, _| {
            if row_keys.len() == most {
                ended.next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            row_keys.extend(layout::parse_ending_key(key).map(|(_, row_key)| row_key.to_vec()));
            ControlFlow::Continue(())
        })?;
        for row_key in row_keys {
            // A row that was damaged and dropped leaves its entry behind.
            let Some(value) = self.snapshot.get(&row_key)? else { continue };
            match layout::parse_row(&row_key, &value) {
                Ok((address, _)) => drop(ended.rows.entry(address.key.clone()).or_default().insert(address)),
                // Whoever pulls it will have it mended; until then it must not keep the others.
                Err(error) => tracing::error!(%error, "an expired row can't be read"),
            }
        }
        Ok(ended)
    }
}
