//! What readers see: rows and clocks of the same moment, published after every commit.
//!
//! A read must take a row and the clock that judges it from one snapshot: asking "have you seen it?" after the row was read
//! loses writes. So the writer publishes both together, and reads never wait for it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::aside::{self, SetAside, Unjoined};
use super::collection::Collection;
use super::damage::Damage;
use super::layout::{self, Damaged};
use super::minter::Minter;
use super::partition::{PartitionState, Role};
use super::transaction::ReplicaError;
use crate::config::READ_PAGE;
use crate::crdt::answer;
use crate::crdt::command::Selection;
use crate::crdt::delta::{Causal, Kind, Row, RowAddress, Scope};
use crate::env::Snapshot;
use crate::env::message::{Page, Standing};
use crate::env::storage::Visitor;
use crate::hlc::Hlc;
use crate::types::{Actor, Digest, Partition, Place, Timestamp};

/// One partition as published.
#[derive(Clone, Debug)]
pub struct PartitionView {
    /// Clock and pending.
    pub causal: Arc<Causal>,
    /// What an answer about it is worth.
    pub standing: Standing,
    /// Whether this peer is one of the holders.
    pub holder: bool,
    /// Whether a majority may count what is written here.
    pub counts_writes: bool,
    /// The digest of its rows.
    pub digest: Digest,
    /// Its number of keys.
    pub keys: u64,
}

/// Everything committed at one moment.
pub struct View {
    /// The rows.
    pub snapshot: Arc<dyn Snapshot>,
    partitions: Box<[PartitionView]>,
    /// The name of the ring that the roles follow from.
    pub ring: u64,
    hybrid_clock: Arc<Mutex<Hlc>>,
    /// What is told to people.
    pub shown: Shown,
    pub(super) unjoined: Unjoined,
    actor: Actor,
}

/// What a view tells besides rows and clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Hints that wait for other peers.
    pub hints: u64,
    /// Damage that was found.
    pub damage: Damage,
    /// Whether the disk has room for what grows.
    pub has_room: bool,
}

impl View {
    pub(super) fn new(
        snapshot: Arc<dyn Snapshot>,
        partitions: &[PartitionState],
        ring: u64,
        minter: &Minter,
        (shown, unjoined): (Shown, Unjoined),
    ) -> Self {
        let partitions = partitions
            .iter()
            .map(|state| PartitionView {
                causal: Arc::clone(&state.causal),
                standing: match &state.role {
                    Role::Holder if state.first_sync.is_none() => Standing::Counted,
                    Role::Holder | Role::Sealed { .. } => Standing::Extra,
                    Role::Absent => Standing::Absent,
                },
                holder: state.role == Role::Holder,
                counts_writes: state.counts_writes(),
                digest: state.total,
                keys: state.keys,
            })
            .collect();
        Self { snapshot, partitions, ring, hybrid_clock: minter.hybrid_clock(), shown, unjoined, actor: minter.actor() }
    }

    /// The author of this peer's dots.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.actor
    }

    /// One partition.
    #[must_use]
    pub fn partition(&self, partition: Partition) -> &PartitionView {
        &self.partitions[usize::from(partition.0)]
    }

    /// Every partition, from 0.
    #[must_use]
    pub fn partitions(&self) -> &[PartitionView] {
        &self.partitions
    }

    /// The partitions that this peer no longer holds and still has rows of.
    #[must_use]
    pub fn sealed(&self) -> Vec<Partition> {
        let sealed = self.partitions.iter().zip(0..).filter(|(view, _)| !view.holder && view.standing == Standing::Extra);
        sealed.map(|(_, index)| Partition(index)).collect()
    }

    /// The place of a key.
    #[must_use]
    pub fn place(&self, key: &[u8]) -> Place {
        Place::of(key, u16::try_from(self.partitions.len()).unwrap_or(u16::MAX))
    }

    /// The time by which expiry is judged: physical, and never stepping back.
    #[must_use]
    pub fn now(&self, wall_ms: u64) -> Timestamp {
        Timestamp::from_millis(self.hybrid_clock.lock().unwrap_or_else(PoisonError::into_inner).now_ms(wall_ms))
    }

    /// Reads rows of a key, from the storage key `after` on where the page before ended there.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn read(&self, key: &Bytes, selection: &Selection, after: Option<&[u8]>, now: Timestamp) -> Result<Page, ReplicaError> {
        let place = self.place(key);
        let view = self.partition(place.partition);
        let mut page = self.empty_page(view, key);
        if view.standing == Standing::Absent {
            return Ok(page);
        }
        let start = layout::rows_of_key(place, key);
        let from = after.filter(|after| after.starts_with(&start)).unwrap_or(&start);
        let head_only = !matches!(selection, Selection::All);
        let mut size = 0;
        let mut failure = None;
        let mut take = |row_key: &[u8], value: &[u8]| {
            if size > READ_PAGE {
                page.next = Some(Bytes::copy_from_slice(row_key));
                return ControlFlow::Break(());
            }
            size += row_key.len() + value.len();
            match decode(row_key, value) {
                Ok((address, row)) => {
                    page.rows.insert(address.clone(), row);
                    if head_only && address.kind != Kind::Expiry && answer::shows(&page.rows, &address, now) {
                        page.next = Some([row_key, &[0]].concat().into());
                        return ControlFlow::Break(());
                    }
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let (elements, _) = layout::rows_of_elements(place, key);
        let mut is_over = false;
        if head_only && after.is_none() {
            // Most keys are strings: their rows are found by their addresses, which costs less than a search.
            for address in [RowAddress::expiry(key), RowAddress::value(key)] {
                let row_key = layout::row_key(place, &address);
                let value = if is_over { None } else { self.snapshot.get(&row_key)? };
                is_over = value.is_some_and(|value| take(&row_key, &value).is_break()) || is_over;
            }
        }
        if !is_over {
            let from = if head_only { from.max(elements.as_slice()) } else { from };
            self.scan_rows(place, key, from, &mut take)?;
        }
        if let Some(error) = failure {
            return Err(error.into());
        }
        match selection {
            Selection::Head | Selection::All => {}
            Selection::Elements { kind, elements } => {
                for element in elements {
                    page.rows.extend(self.row(place, &RowAddress::element(key, *kind, element))?);
                }
            }
            Selection::Hashed { kind, from_hash, most } => self.read_hashed(place, key, (*kind, *from_hash, *most), &mut page)?,
        }
        Ok(page)
    }

    /// Adds rows of one kind to a page, in the order of their elements' hashes. Those of one hash are not parted.
    fn read_hashed(
        &self,
        place: Place,
        key: &Bytes,
        (kind, from_hash, most): (Kind, u64, u32),
        page: &mut Page,
    ) -> Result<(), ReplicaError> {
        let (start, end) = layout::rows_from_hash(place, key, kind, from_hash);
        let (mut looked_at, mut size, mut last_hash, mut failure) = (0, 0, None, None);
        self.snapshot.scan(&start, &end, &mut |row_key, value| {
            let hash = layout::hash_in(row_key, place, key, kind);
            if hash != last_hash && (looked_at >= most || size > READ_PAGE) {
                page.hashed_until = hash;
                return ControlFlow::Break(());
            }
            last_hash = hash;
            looked_at += 1;
            size += row_key.len() + value.len();
            match decode(row_key, value) {
                Ok((address, row)) => {
                    page.rows.insert(address, row);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    /// Scans the rows of a key from a storage key on, and steps over the ends of its list where nothing is any more.
    pub(super) fn scan_rows(&self, place: Place, key: &[u8], from: &[u8], visit: Visitor<'_>) -> Result<(), ReplicaError> {
        // Most keys end before their items would begin, and those that don't exist look for a record that is not there.
        let (items, is_over) = (layout::rows_of_items(place, key), Cell::new(false));
        let mut part = |from: &[u8], until: &[u8]| {
            if is_over.get() || from >= until {
                return Ok(());
            }
            self.snapshot.scan(from, until, &mut |row_key, value| {
                let flow = visit(row_key, value);
                is_over.set(flow.is_break());
                flow
            })
        };
        part(from, &items.0)?;
        if from < items.1.as_slice() && !is_over.get() {
            let (first, last) = self.range_of_items(place, key)?;
            part(from.max(first.as_slice()), &last)?;
        }
        Ok(part(from.max(items.1.as_slice()), &layout::end_of(&layout::rows_of_key(place, key)))?)
    }

    /// The range of storage keys in which the items of a key lie.
    pub(super) fn range_of_items(&self, place: Place, key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), ReplicaError> {
        let on_record = Collection::read(&*self.snapshot, place, key)?;
        Ok(on_record.map_or_else(|| layout::rows_of_items(place, key), |collection| collection.range_of_items(place, key)))
    }

    /// Reads the expiry row and these rows of a key, and no others.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn read_rows(&self, key: &Bytes, addresses: &BTreeSet<RowAddress>) -> Result<Page, ReplicaError> {
        let place = self.place(key);
        let view = self.partition(place.partition);
        let mut page = self.empty_page(view, key);
        for address in addresses.iter().chain([&RowAddress::expiry(key)]) {
            page.rows.extend(self.row(place, address)?);
        }
        Ok(page)
    }

    /// The rows of a key that are set aside at this peer.
    ///
    /// # Errors
    /// Where they could not be read.
    pub fn set_aside(&self, key: &[u8]) -> Result<Vec<SetAside>, ReplicaError> {
        Ok(aside::of_key(&*self.snapshot, &self.unjoined, self.place(key), key)?)
    }

    fn empty_page(&self, view: &PartitionView, key: &Bytes) -> Page {
        let causal = relevant(&view.causal, key);
        Page { standing: view.standing, ring: self.ring, rows: BTreeMap::new(), causal, next: None, hashed_until: None }
    }

    pub(super) fn row(&self, place: Place, address: &RowAddress) -> Result<Option<(RowAddress, Row)>, ReplicaError> {
        let row_key = layout::row_key(place, address);
        Ok(self.snapshot.get(&row_key)?.map(|value| decode(&row_key, &value)).transpose()?)
    }
}

pub(super) fn decode(row_key: &[u8], value: &[u8]) -> Result<(RowAddress, Row), Damaged> {
    layout::read_row(row_key, &Bytes::copy_from_slice(value)).map(|(address, row, _)| (address, row))
}

/// The part of a partition's clock and pending that judges rows of a key.
fn relevant(causal: &Causal, key: &Bytes) -> Causal {
    let about_key = |scope: &Scope| match scope {
        Scope::Key(of) => of == key,
        Scope::Row(address) => address.key == *key,
    };
    let pending = causal.pending.iter().filter(|(scope, _)| about_key(scope)).map(|(scope, clock)| (scope.clone(), clock.clone()));
    Causal { clock: causal.clock.clone(), pending: pending.collect() }
}
