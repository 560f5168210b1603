//! What readers see: rows and clocks of the same moment, published after every commit.
//!
//! A read must take a row and the clock that judges it from one snapshot: asking "have you seen it?" after the row was read
//! loses writes. So the writer publishes both together, and reads never wait for it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::layout::{self, Damaged};
use super::minter::Minter;
use super::partition::{PartitionState, Role};
use super::transaction::ReplicaError;
use super::transaction::items::range_on_record;
use crate::config::READ_PAGE;
use crate::crdt::answer;
use crate::crdt::command::Selection;
use crate::crdt::delta::{Causal, Kind, Row, RowAddress, Scope};
use crate::env::Snapshot;
use crate::env::message::{Page, Standing};
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
    hybrid_clock: Arc<Mutex<Hlc>>,
    /// Hints that wait for other peers.
    pub hints: u64,
    actor: Actor,
}

impl View {
    pub(super) fn new(snapshot: Arc<dyn Snapshot>, partitions: &[PartitionState], minter: &Minter, hints: u64) -> Self {
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
                digest: state.total,
                keys: state.keys,
            })
            .collect();
        Self { snapshot, partitions, hybrid_clock: minter.hybrid_clock(), hints, actor: minter.actor() }
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
        let mut page = Page { standing: view.standing, rows: BTreeMap::new(), causal: relevant(&view.causal, key), next: None };
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
        // Steps over the ends of a list where nothing is any more: most keys end before, and those that don't exist look for a record that is not there.
        let (items, is_over) = (layout::rows_of_items(place, key), Cell::new(false));
        let mut part = |from: &[u8], until: &[u8]| {
            if is_over.get() || from >= until {
                return Ok(());
            }
            self.snapshot.scan(from, until, &mut |row_key, value| {
                let flow = take(row_key, value);
                is_over.set(flow.is_break());
                flow
            })
        };
        part(from, &items.0)?;
        if from < items.1.as_slice() && !is_over.get() {
            let (first, last) = range_on_record(&*self.snapshot, place, key)?;
            part(from.max(first.as_slice()), &last)?;
        }
        part(from.max(items.1.as_slice()), &layout::end_of(&start))?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        if let Selection::Elements { kind, elements } = selection {
            for element in elements {
                page.rows.extend(self.row(place, &RowAddress::element(key, *kind, element))?);
            }
        }
        Ok(page)
    }

    /// Reads the expiry row and these rows of a key, and no others.
    ///
    /// # Errors
    /// Where rows could not be read.
    pub fn read_rows(&self, key: &Bytes, addresses: &BTreeSet<RowAddress>) -> Result<Page, ReplicaError> {
        let place = self.place(key);
        let view = self.partition(place.partition);
        let mut page = Page { standing: view.standing, rows: BTreeMap::new(), causal: relevant(&view.causal, key), next: None };
        for address in addresses.iter().chain([&RowAddress::expiry(key)]) {
            page.rows.extend(self.row(place, address)?);
        }
        Ok(page)
    }

    fn row(&self, place: Place, address: &RowAddress) -> Result<Option<(RowAddress, Row)>, ReplicaError> {
        let row_key = layout::row_key(place, address);
        Ok(self.snapshot.get(&row_key)?.map(|value| decode(&row_key, &value)).transpose()?)
    }
}

fn decode(row_key: &[u8], value: &[u8]) -> Result<(RowAddress, Row), Damaged> {
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
