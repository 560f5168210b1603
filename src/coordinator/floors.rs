//! Clears counter floors that have done their work: every replica has seen the run end, durably, so nobody can bring it back.
//!
//! Only the owner of a run can tell that it is over. From time to time it asks the co-holders of partitions in which floors of its runs
//! stand for their durable clocks, and takes the floors away whose runs all of them hold in full (`crdt::counter`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::{Coordinator, Started};
use crate::config::FLOOR_SWEEP;
use crate::crdt::dot::Clock;
use crate::env::Lane;
use crate::env::message::{Reply, Request};
use crate::replica::execution::{Change, Command};
use crate::replica::owner::Ended;
use crate::types::{Level, Partition, PeerId};

impl Coordinator {
    /// Clears floors from time to time, until the writer ends.
    pub async fn sweep_floors(self) {
        let mut ticks = interval(FLOOR_SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.clear_floors().await == Err(Ended) {
                return;
            }
        }
    }

    async fn clear_floors(&self) -> Result<(), Ended> {
        let floors = self.writer.step(|replica| Ok(replica.own_floors())).await?;
        if floors.is_empty() {
            return Ok(());
        }
        let mut clocks = self.durable_clocks(floors.iter().map(|(partition, _)| *partition).collect()).await?;
        for (partition, rows) in floors {
            let Some(durable) = clocks.remove(&partition).map(Arc::<[Clock]>::from) else { continue };
            for address in rows {
                let (key, durable) = (address.key.clone(), Arc::clone(&durable));
                let command = Command { key, change: Change::ClearFloors { address, durable }, blind_for: None };
                if let Started::Here(result) = self.command(Level::One, command) {
                    let _ = result.await;
                }
            }
        }
        Ok(())
    }

    /// The durable clocks of all holders of each partition; a partition is left out where one of them did not tell.
    async fn durable_clocks(&self, partitions: Vec<Partition>) -> Result<BTreeMap<Partition, Vec<Clock>>, Ended> {
        let cluster = self.topology.cluster();
        let local = self.topology.local();
        let mut asked: BTreeMap<PeerId, Vec<Partition>> = BTreeMap::new();
        for partition in &partitions {
            for holder in cluster.ring.holders(*partition).iter().filter(|holder| **holder != local) {
                asked.entry(*holder).or_default().push(*partition);
            }
        }
        let asking = asked.into_iter().map(|(peer, partitions)| async move {
            match self.exchange.ask(peer, Lane::Bulk, Request::DurableClocks(partitions), self.patience).await {
                Ok(Reply::DurableClocks(clocks)) => clocks.into_iter().collect(),
                Ok(_) | Err(_) => BTreeMap::new(),
            }
        });
        let mut told: BTreeMap<Partition, Vec<Clock>> = BTreeMap::new();
        let own = self.writer.step(move |replica| replica.durable_clocks(&partitions)).await?;
        for (partition, clock) in futures::future::join_all(asking).await.into_iter().flatten().chain(own) {
            told.entry(partition).or_default().push(clock);
        }
        told.retain(|partition, clocks| clocks.len() == cluster.ring.holders(*partition).len());
        Ok(told)
    }
}
