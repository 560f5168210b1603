//! Who waits for a key to be written to: whatever commits rows of the key's kind wakes them, a client's write as well as another replica's delta or a pull.
//!
//! A waiter registers first and looks at the key then. A commit notes who waits for its rows before it is published, and wakes them, and everybody
//! who registered meanwhile, afterwards. So whoever does not see a commit is woken by it. While nobody waits a batch costs two looks at an empty table.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::layout;
use crate::crdt::delta::Kind;
use crate::env::Batch;
use crate::types::Place;

/// Everybody who waits. Clones share the table.
#[derive(Clone, Default)]
pub struct Awaited {
    /// Held for a look-up or an insertion; never across an `await`.
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    bells: BTreeMap<u64, Arc<Notify>>,
    /// Who waits for rows whose storage keys begin so. None of these begins with another.
    by_rows: BTreeMap<Vec<u8>, BTreeSet<u64>>,
}

/// One who waits, until it is dropped.
pub struct Wait {
    awaited: Awaited,
    id: u64,
    rows: Vec<u8>,
    bell: Arc<Notify>,
}

/// Whom a commit is to wake.
pub(super) struct Touched {
    named: BTreeSet<u64>,
    since: u64,
}

impl Awaited {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers for rows of a key and kind. What was committed before must be looked for after that.
    #[must_use]
    pub fn wait(&self, place: Place, key: &Bytes, kind: Kind) -> Wait {
        let mut rows = layout::rows_of_key(place, key);
        rows.push(kind as u8);
        let bell = Arc::new(Notify::new());
        let mut table = self.table();
        let id = table.next;
        table.next += 1;
        table.bells.insert(id, Arc::clone(&bell));
        table.by_rows.entry(rows.clone()).or_default().insert(id);
        drop(table);
        Wait { awaited: self.clone(), id, rows, bell }
    }

    /// Who waits for a row that a batch puts.
    pub(super) fn touched(&self, batch: &Batch) -> Touched {
        let table = self.table();
        let mut named = BTreeSet::new();
        if !table.by_rows.is_empty() {
            for (key, _) in batch.changes.iter().filter(|(_, value)| value.is_some()) {
                // Of those that begin no later than the key only the last can be its beginning.
                if let Some((rows, waiters)) =
                    table.by_rows.range::<[u8], _>((Bound::Unbounded, Bound::Included(key.as_slice()))).next_back()
                    && key.starts_with(rows)
                {
                    named.extend(waiters);
                }
            }
        }
        Touched { named, since: table.next }
    }

    /// Wakes those whom a batch touches that can be seen by now.
    pub(super) fn wake(&self, touched: &Touched) {
        let table = self.table();
        let named = touched.named.iter().filter_map(|id| table.bells.get(id));
        named.chain(table.bells.range(touched.since..).map(|(_, bell)| bell)).for_each(|bell| bell.notify_one());
    }
}

impl Wait {
    /// Resolves after a commit that may have put such a row; also after one that came before this is called.
    pub async fn woken(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut table = self.awaited.table();
        table.bells.remove(&self.id);
        if let Some(waiters) = table.by_rows.get_mut(&self.rows) {
            waiters.remove(&self.id);
            if waiters.is_empty() {
                table.by_rows.remove(&self.rows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::crdt::delta::RowAddress;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn wait(awaited: &Awaited, text: &'static str, kind: Kind) -> Wait {
        awaited.wait(Place::of(text.as_bytes(), 4), &key(text), kind)
    }

    fn put(text: &'static str, kind: Kind) -> Batch {
        let address = RowAddress::element(&key(text), kind, &key("element"));
        let mut batch = Batch::default();
        batch.put(layout::row_key(Place::of(text.as_bytes(), 4), &address), Vec::new());
        batch
    }

    fn is_woken(wait: &Wait) -> bool {
        wait.woken().now_or_never().is_some()
    }

    #[test]
    fn a_batch_wakes_who_waits_for_its_rows_and_nobody_else() {
        let awaited = Awaited::default();
        let keys = ["a", "ab", "a\0", "b", ""];
        let waits: Vec<Wait> = keys.iter().flat_map(|text| [Kind::Score, Kind::Item].map(|kind| wait(&awaited, text, kind))).collect();
        for (index, text) in keys.iter().enumerate() {
            let mut batch = put(text, Kind::Item);
            batch.delete(put("b", Kind::Score).changes.remove(0).0);
            batch.put(b"j1".to_vec(), Vec::new());
            awaited.wake(&awaited.touched(&batch));
            let woken: Vec<usize> = (0..waits.len()).filter(|place| is_woken(&waits[*place])).collect();
            assert_eq!(woken, [2 * index + 1], "{text:?}");
        }
        awaited.wake(&awaited.touched(&put("c", Kind::Item)));
        assert!(!waits.iter().any(is_woken));
        drop(waits);
        let table = awaited.table();
        assert_eq!((table.bells.len(), table.by_rows.len()), (0, 0));
    }

    #[test]
    fn whoever_registers_while_a_batch_is_committed_is_woken_once_it_can_be_seen() {
        let awaited = Awaited::default();
        let early = wait(&awaited, "other", Kind::Item);
        let touched = awaited.touched(&put("key", Kind::Item));
        let late = wait(&awaited, "key", Kind::Item);
        awaited.wake(&touched);
        assert_eq!((is_woken(&early), is_woken(&late), is_woken(&late)), (false, true, false));
    }
}
