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

use super::damage::{MOST_ASIDE, aside_key};
use super::execution::Work;
use super::transaction::ReplicaError;
use super::view::View;
use super::{Replica, layout};
use crate::crdt::delta::{Delta, Kind, RowAddress, Scope};
use crate::crdt::dot::Dot;
use crate::panics::Panicked;
use crate::types::Place;

/// Rows that are named of one write that can't be joined: it is one fault, and more of them tell no more.
const MOST_NAMED: usize = 8;

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

    /// Notes one more. Says so where it was not known.
    fn note(&mut self, key: &[u8], row_key: Vec<u8>, not_joined: NotJoined) {
        if self.rows.len() as u64 >= MOST_ASIDE && !self.rows.contains_key(&row_key) {
            return;
        }
        let (why, row) = (not_joined.why.clone(), layout::hex(&row_key));
        if Arc::make_mut(&mut self.rows).insert(row_key, not_joined).is_none() {
            tracing::error!(key = %key.escape_ascii(), row, %why, "a row can't be joined and is set aside: what came for it is refused");
        }
    }
}

/// The rows that a delta names, with the dots that it adds to each; of a replaced key, the key.
fn named(delta: &Delta) -> BTreeMap<(Bytes, Option<RowAddress>), Vec<Dot>> {
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

impl Replica {
    /// Sets aside what a piece of a batch was about: it can't be joined.
    pub(super) fn set_aside(&mut self, piece: &Work, why: &Panicked) {
        let named = match piece {
            Work::Execute(command) => BTreeMap::from([((command.key.clone(), None), Vec::new())]),
            Work::Receive(sent) => named(&sent.delta),
        };
        for ((key, address), dots) in named.into_iter().take(MOST_NAMED) {
            self.note_unjoined(&key, address, dots, why);
        }
        self.publish();
    }

    /// Sets one row aside that a pull brought.
    pub(super) fn set_row_aside(&mut self, address: RowAddress, dots: Vec<Dot>, why: &Panicked) {
        self.note_unjoined(&address.key.clone(), Some(address), dots, why);
        self.publish();
    }

    fn note_unjoined(&mut self, key: &[u8], address: Option<RowAddress>, dots: Vec<Dot>, why: &Panicked) {
        let place = Place::of(key, self.partition_count());
        let row_key = address.as_ref().map_or_else(|| layout::rows_of_key(place, key), |address| layout::row_key(place, address));
        self.unjoined.note(key, row_key, NotJoined { address, dots, why: why.clone() });
        self.damage.rows_unjoined = self.unjoined.count();
    }
}

impl View {
    /// The rows of a key that are set aside at this peer.
    ///
    /// # Errors
    /// Where they could not be read.
    pub fn set_aside(&self, key: &[u8]) -> Result<Vec<SetAside>, ReplicaError> {
        let rows = layout::rows_of_key(self.place(key), key);
        let start = aside_key(&rows);
        let mut found = Vec::new();
        self.snapshot.scan(&start, &layout::end_of(&start), &mut |aside, value| {
            let (kind, element) = named_in(aside.get(start.len()..).unwrap_or_default());
            let element = element.unwrap_or_else(|| layout::hex(aside).into());
            found.push(SetAside { kind, element, reason: format!("it could not be read; its {} bytes are kept", value.len()) });
            ControlFlow::Continue(())
        })?;
        let unjoined = self.unjoined.rows.range(rows.clone()..layout::end_of(&rows));
        found.extend(unjoined.map(|(_, NotJoined { address, why, .. })| SetAside {
            kind: address.as_ref().map(|address| address.kind),
            element: address.as_ref().map(|address| address.element.clone()).unwrap_or_default(),
            reason: format!("it can't be joined: {why}"),
        }));
        Ok(found)
    }
}
