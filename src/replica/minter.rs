//! Mints what must never come twice: dots and timestamps, both under leases that are durable before they are used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand::rngs::SmallRng;

use super::lease::{Fresh, Lease};
use super::partition::PartitionState;
use crate::config::{DOT_LEASE, MAX_ARGUMENTS};
use crate::crdt::dot::{Clock as Dots, Dot};
use crate::env::{Clock, Storage, StorageError};
use crate::hlc::{Hlc, TooFarAhead};
use crate::types::{Actor, Partition, Timestamp};

/// The most dots that one command mints: one for each argument, and floors for the runs it resets.
const DOTS_PER_COMMAND: u64 = 2 * MAX_ARGUMENTS as u64;

/// The lease that the last run left, if it can be proved to be this peer's.
pub(super) fn last_lease(storage: &dyn Storage) -> Result<Option<Lease>, StorageError> {
    let decoded = storage.lease()?.map(|record| Lease::from_bytes(&record)).transpose();
    Ok(decoded.unwrap_or_else(|error| {
        tracing::error!(%error, "the lease record is damaged: this peer goes on as a new author");
        None
    }))
}

/// The author of this peer's dots.
pub struct Minter {
    storage: Arc<dyn Storage>,
    lease: Lease,
    /// The next free counter of each partition.
    next: Vec<u64>,
    /// The greatest of them.
    greatest: u64,
    hybrid_clock: Arc<Mutex<Hlc>>,
}

impl Minter {
    /// Goes on from the lease that the last run left, or as a new author where there is none.
    pub(super) fn open(
        storage: Arc<dyn Storage>,
        previous: Option<Lease>,
        clock: Arc<dyn Clock>,
        partitions: u16,
        random: &mut SmallRng,
    ) -> Result<Self, StorageError> {
        let fresh = Fresh { actor: Actor(random.random()), state_id: random.random() };
        let (lease, start) = Lease::start(previous, fresh, partitions, clock.wall_ms());
        storage.put_lease(&lease.to_bytes())?;
        let mut hybrid_clock = Hlc::start(start.time);
        hybrid_clock.leased(lease.time_until);
        let greatest = start.next.iter().copied().max().unwrap_or(1);
        Ok(Self { storage, lease, next: start.next, greatest, hybrid_clock: Arc::new(Mutex::new(hybrid_clock)) })
    }

    fn hlc(&self) -> MutexGuard<'_, Hlc> {
        self.hybrid_clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock that readers judge expiry by. Its lock is short and never held across an await.
    #[must_use]
    pub fn hybrid_clock(&self) -> Arc<Mutex<Hlc>> {
        Arc::clone(&self.hybrid_clock)
    }

    /// Who writes.
    #[must_use]
    pub fn actor(&self) -> Actor {
        self.lease.actor
    }

    /// The counter that the next dot of a partition gets.
    #[must_use]
    pub fn next_counter(&self, partition: Partition) -> u64 {
        self.next[usize::from(partition.0)]
    }

    /// A timestamp later than every one before.
    pub(super) fn timestamp(&self, wall_ms: u64) -> Result<Timestamp, StorageError> {
        Ok(self.hlc().tick(wall_ms))
    }

    /// The time by which expiry is judged.
    #[must_use]
    pub fn physical(&self, wall_ms: u64) -> Timestamp {
        Timestamp::from_millis(self.hlc().now_ms(wall_ms))
    }

    /// Takes note of another peer's timestamp.
    pub(super) fn observe(&self, timestamp: Timestamp, wall_ms: u64) -> Result<(), TooFarAhead> {
        self.hlc().observe(timestamp, wall_ms)
    }

    /// Makes sure that a command's worth of dots is leased. To be called before it is executed.
    pub(super) fn reserve(&mut self) -> Result<(), StorageError> {
        if self.greatest.saturating_add(DOTS_PER_COMMAND) <= self.lease.dots_until {
            return Ok(());
        }
        self.lease.dots_until = self.greatest.saturating_add(DOTS_PER_COMMAND).saturating_add(DOT_LEASE);
        self.storage.put_lease(&self.lease.to_bytes())
    }

    /// Makes sure that every timestamp that was given out is leased. To be called before a batch is committed.
    pub(super) fn lease_time(&mut self, wall_ms: u64) -> Result<(), StorageError> {
        let target = {
            let hlc = self.hlc();
            if !hlc.needs_lease() {
                return Ok(());
            }
            hlc.lease_target(wall_ms)
        };
        self.lease.time_until = self.lease.time_until.max(target);
        self.storage.put_lease(&self.lease.to_bytes())?;
        self.hlc().leased(target);
        Ok(())
    }

    /// A new dot. A dot that is not used in the end is burned: nobody else gets it.
    pub(super) fn mint(&mut self, partition: Partition) -> Dot {
        let next = &mut self.next[usize::from(partition.0)];
        let counter = *next;
        *next += 1;
        self.greatest = self.greatest.max(*next);
        Dot { actor: self.lease.actor, counter }
    }

    /// Whether a clock holds dots of this author that it has not minted: somebody else uses its identity, or its disk fell back.
    #[must_use]
    pub fn is_impersonated(&self, partition: Partition, seen: &Dots) -> bool {
        seen.latest(self.lease.actor) >= self.next_counter(partition)
    }

    /// Goes on as a new author.
    pub(super) fn renew(&mut self, random: &mut SmallRng) -> Result<(), StorageError> {
        self.lease =
            Lease { actor: Actor(random.random()), state_id: random.random(), born: 1, dots_until: DOT_LEASE, clean: None, ..self.lease };
        self.next.fill(1);
        self.greatest = 1;
        self.storage.put_lease(&self.lease.to_bytes())
    }

    /// Checks at a start that no partition has seen more of this author than it may have minted.
    pub(super) fn check_clocks(&mut self, partitions: &[PartitionState], random: &mut SmallRng) -> Result<(), StorageError> {
        let beyond = |(index, state): (usize, &PartitionState)| state.causal.clock.latest(self.lease.actor) >= self.next[index];
        if partitions.iter().enumerate().any(beyond) {
            tracing::error!(
                "the store holds writes of this peer beyond its lease: the lease was lost or restored; this peer goes on as a new author"
            );
            self.renew(random)?;
        }
        Ok(())
    }

    /// Notes that nothing was lost, so that the next start leaves no gap.
    pub(super) fn close(&mut self) -> Result<(), StorageError> {
        self.lease.clean = Some(self.next.clone());
        self.storage.put_lease(&self.lease.to_bytes())
    }
}
