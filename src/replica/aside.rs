//! Rows that were set aside: in nobody's way, and shown to whoever asks for their key.
//!
//! Two things can be wrong with a row, and they are not treated alike:
//!
//! ```text
//! it can't be read      its bytes move to a place of their own, its partition starts anew from the other holders
//! it can't be joined    a join with it panicked: what is here stays as it was, what came is refused and not counted as seen
//! ```
//!
//! Of the second nobody can tell whether the row here or what came is to blame, and to take away a row that can be read could take the only copy. Nothing
//! is acknowledged that was not joined, so who sent it keeps it. A pull leaves the row out: it takes the other replica's clock over but for the dots of
//! that row, which stay unheard of here instead of passing for deleted. So the other rows are synced, and the next start tries again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::layout;
use crate::crdt::delta::{Delta, Kind, RowAddress, Scope};
use crate::crdt::dot::Dot;
use crate::env::{Snapshot, StorageError};
use crate::panics::Panicked;
use crate::types::Place;

/// Rows that are set aside at most, of either sort: more of them are one fault, and tell no more.
pub(super) const MOST_ASIDE: u64 = 1024;
/// Rows that are named of one write that can't be joined: it is one fault, and more of them tell no more.
pub(super) const MOST_NAMED: usize = 8;

/// A row that was set aside at this peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetAside {
    /// What the row is for; `None` where a command on the key failed, and no row of it is known to be the cause.
    pub kind: Option<Kind>,
    /// Its element, or the start of its storage key in hexadecimal where the element is too long to stand there.
    pub element: Bytes,
    /// Why, for people.
    pub reason: String,
}

/// What could not be joined.
#[derive(Clone, Debug)]
struct NotJoined {
    address: Option<RowAddress>,
    /// The dots of what came.
    dots: Vec<Dot>,
    why: Panicked,
}

/// The rows that could not be joined since the start, under their storage keys; or under the start of those of a key, where a command on it failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Unjoined {
    rows: Arc<BTreeMap<Vec<u8>, NotJoined>>,
}

impl Unjoined {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Whether joining just these dots into the row was tried before.
    pub(super) fn was_tried(&self, row_key: &[u8], dots: impl IntoIterator<Item = Dot>) -> bool {
        !self.rows.is_empty() && self.rows.get(row_key).is_some_and(|known| dots.into_iter().eq(known.dots.iter().copied()))
    }

    /// Notes one more: a row with the dots that came for it, or without an address a key. Says so where it was not known.
    pub(super) fn note(&mut self, place: Place, key: &[u8], address: Option<RowAddress>, dots: Vec<Dot>, why: Panicked) {
        let row_key = address.as_ref().map_or_else(|| layout::rows_of_key(place, key), |address| layout::row_key(place, address));
        if self.rows.len() as u64 >= MOST_ASIDE && !self.rows.contains_key(&row_key) {
            return;
        }
        let (said, row) = (why.clone(), layout::hex(&row_key));
        if Arc::make_mut(&mut self.rows).insert(row_key, NotJoined { address, dots, why }).is_none() {
            tracing::error!(key = %key.escape_ascii(), row, why = %said, "a row can't be joined and is set aside: what came for it is refused");
        }
    }
}

/// The rows that a delta names, with the dots that it adds to each; of a replaced key, the key.
pub(super) fn named(delta: &Delta) -> BTreeMap<(Bytes, Option<RowAddress>), Vec<Dot>> {
    let mut named: BTreeMap<(Bytes, Option<RowAddress>), Vec<Dot>> = BTreeMap::new();
    for (address, dot, _) in &delta.adds {
        named.entry((address.key.clone(), Some(address.clone()))).or_default().push(*dot);
    }
    for address in delta.removes.iter().map(|(address, _)| address) {
        named.entry((address.key.clone(), Some(address.clone()))).or_default();
    }
    for replacement in &delta.replaces {
        let name = match &replacement.scope {
            Scope::Row(address) => (address.key.clone(), Some(address.clone())),
            Scope::Key(key) => (key.clone(), None),
        };
        named.entry(name).or_default();
    }
    named.values_mut().for_each(|dots| dots.sort_unstable());
    named
}

/// What a row's storage key tells of the row behind the start of its key's rows: its kind, and its element where that stands there.
fn named_in(rest: &[u8]) -> (Option<Kind>, Option<Bytes>) {
    let Some((kind, rest)) = rest.split_first().and_then(|(kind, rest)| Some((Kind::of(*kind)?, rest))) else { return (None, None) };
    let element = match kind {
        Kind::Item => Some(Bytes::copy_from_slice(rest)),
        _ => rest
            .get(if layout::lies_by_hash(kind) { 8 } else { 0 }..)
            .and_then(|rest| layout::take_component(rest, None))
            .map(|(element, _)| element),
    };
    (Some(kind), element)
}

/// The rows of a key that are set aside, as a snapshot and the list of those that could not be joined show them.
pub(super) fn of_key(snapshot: &dyn Snapshot, unjoined: &Unjoined, place: Place, key: &[u8]) -> Result<Vec<SetAside>, StorageError> {
    let rows = layout::rows_of_key(place, key);
    let start = aside_key(&rows);
    let mut found = Vec::new();
    snapshot.scan(&start, &layout::end_of(&start), &mut |aside, value| {
        let (kind, element) = named_in(aside.get(start.len()..).unwrap_or_default());
        let element = element.unwrap_or_else(|| layout::hex(aside).into());
        found.push(SetAside { kind, element, reason: format!("it could not be read; its {} bytes are kept", value.len()) });
        ControlFlow::Continue(())
    })?;
    let unjoined = unjoined.rows.range(rows.clone()..layout::end_of(&rows));
    found.extend(unjoined.map(|(_, NotJoined { address, why, .. })| SetAside {
        kind: address.as_ref().map(|address| address.kind),
        element: address.as_ref().map(|address| address.element.clone()).unwrap_or_default(),
        reason: format!("it can't be joined: {why}"),
    }));
    Ok(found)
}

/// Counts the rows that could not be read and are kept.
pub(super) fn count(snapshot: &dyn Snapshot) -> Result<u64, StorageError> {
    let mut count = 0;
    snapshot.scan(b"d", b"e", &mut |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// The key under which the bytes of a row are kept that can't be read.
pub(super) fn aside_key(row_key: &[u8]) -> Vec<u8> {
    [b"d", row_key].concat()
}
