//! What this peer is to each partition, as the ring changes: holder, sealed former holder, or nothing.
//!
//! A former holder *seals* a partition: it takes no write, delta or hint for it and confirms nobody's handover, else two
//! that leave could count on each other and both drop. It drops its rows when its view at that moment names N holders and each of
//! them has confirmed, durably, that it pulled everything since the seal. With fewer than N it waits, unless fewer are left in the ring.

use std::collections::BTreeSet;

use rand::RngExt;

use super::partition::Role;
use super::transaction::{ReplicaError, Transaction};
use super::{Replica, layout};
use crate::newcomer::FormerHolders;
use crate::ring::Ring;
use crate::types::{Partition, PeerId};

impl Replica {
    /// Takes the roles that a ring gives. `former` names the partitions in which this peer is a newcomer, and to whom.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn take_roles(&mut self, local: PeerId, ring: &Ring, former: &FormerHolders) -> Result<(), ReplicaError> {
        self.change_roles(local, ring, former, None)
    }

    /// Keeps the member list that a ring follows from, and takes the roles that it gives: in one batch. Else a peer that crashed between the
    /// two would come back as a holder that knows of no first sync, and count for reads with nothing in its hands.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn adopt_members(
        &mut self,
        record: (&str, Vec<u8>),
        local: PeerId,
        ring: &Ring,
        former: &FormerHolders,
    ) -> Result<(), ReplicaError> {
        self.change_roles(local, ring, former, Some(record))
    }

    fn change_roles(
        &mut self,
        local: PeerId,
        ring: &Ring,
        former: &FormerHolders,
        record: Option<(&str, Vec<u8>)>,
    ) -> Result<(), ReplicaError> {
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        if let Some((name, value)) = record {
            transaction.put_record(layout::named_key(name), value);
        }
        let mut roles = Vec::with_capacity(self.partitions.len());
        for (index, state) in self.partitions.iter().enumerate() {
            let partition = Partition(u16::try_from(index).unwrap_or(u16::MAX));
            let holder = ring.is_holder(partition, local);
            let mut former = former.get(&partition).into_iter().flatten().filter(|holders| !holders.is_empty()).peekable();
            if holder && former.peek().is_some() {
                let mut first_sync = transaction.first_sync(partition).cloned().unwrap_or_default();
                // What was pulled so far was pulled before anybody saw this ring: those before may have acknowledged more since.
                first_sync.pulled.clear();
                first_sync.met.clear();
                first_sync.former.extend(former.cloned());
                transaction.set_first_sync(partition, Some(first_sync));
            }
            roles.push(match (&state.role, holder) {
                // Becoming a holder again voids the confirmations that it had.
                (_, true) => Role::Holder,
                (sealed @ Role::Sealed { .. }, false) => sealed.clone(),
                (_, false) if state.is_blank() => Role::Absent,
                (_, false) => Role::Sealed { seal: self.random.random(), confirmed: BTreeSet::new() },
            });
        }
        let prepared = transaction.finish()?;
        self.ring = ring.name();
        for ((state, role), index) in self.partitions.iter_mut().zip(roles).zip(0..) {
            state.role = role;
            state.co_holders = ring.holders(Partition(index)).iter().copied().filter(|holder| *holder != local).collect();
        }
        self.commit(prepared)?;
        self.publish();
        Ok(())
    }

    /// Forgets former holders that are gone for good: a first sync no longer waits for them.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn forget_former(&mut self, gone: &BTreeSet<PeerId>) -> Result<(), ReplicaError> {
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        for (index, state) in self.partitions.iter().enumerate() {
            let Some(first_sync) = &state.first_sync else { continue };
            let mut rest = first_sync.clone();
            rest.gone.extend(first_sync.former.iter().flatten().filter(|former| gone.contains(former)));
            if rest.gone != first_sync.gone {
                transaction.set_first_sync(Partition(u16::try_from(index).unwrap_or(u16::MAX)), (!rest.is_done()).then_some(rest));
            }
        }
        let prepared = transaction.finish()?;
        self.commit(prepared)
    }

    /// The partitions that this peer has sealed, with the seals and who has confirmed them.
    #[must_use]
    pub fn sealed(&self) -> Vec<(Partition, u64, BTreeSet<PeerId>)> {
        let seals = self.partitions.iter().enumerate().filter_map(|(index, state)| match &state.role {
            Role::Sealed { seal, confirmed } => Some((Partition(u16::try_from(index).unwrap_or(u16::MAX)), *seal, confirmed.clone())),
            Role::Holder | Role::Absent => None,
        });
        seals.collect()
    }

    /// Notes that a holder has everything of a sealed partition. Where all `holders` of the ring of this moment have, and they are
    /// at least `copies` many, the rows are dropped.
    ///
    /// # Errors
    /// Where the disk failed.
    pub fn confirmed(
        &mut self,
        partition: Partition,
        seal: u64,
        by: PeerId,
        holders: &[PeerId],
        copies: usize,
    ) -> Result<(), ReplicaError> {
        let Some(state) = self.partitions.get_mut(usize::from(partition.0)) else { return Ok(()) };
        let Role::Sealed { seal: own, confirmed } = &mut state.role else { return Ok(()) };
        if *own != seal {
            return Ok(());
        }
        confirmed.insert(by);
        if holders.len() < copies || !holders.iter().all(|holder| confirmed.contains(holder)) {
            return Ok(());
        }
        let mut transaction = Transaction::begin(&self.partitions, self.storage.snapshot());
        transaction.empty(partition)?;
        let prepared = transaction.finish()?;
        self.partition_mut(partition).role = Role::Absent;
        self.commit(prepared)?;
        self.new_state(partition);
        tracing::info!(%partition, "every holder has this partition, its rows were dropped here");
        Ok(())
    }
}
