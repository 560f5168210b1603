//! The slow search for damage at rest: every partition is read once in a period, a little at a time, and compared with its tree and with
//! what is derived of its rows.
//!
//! ```text
//! period   |0    |1    |2    |3    |0 …      one partition after the other, evenly spread
//! read       ■■    ■     ■■■   ■    ■■       a piece, a pause, a piece …
//! ```
//!
//! What turns out not to be whole starts anew from the other holders, which are pulled from at once. Where the rows are whole and what is derived of them
//! is not, that is derived anew.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::serve::Server;
use crate::config::{SCRUB_PAUSE, SCRUB_PIECE};
use crate::replica::leaf::NotTold;
use crate::replica::owner::{Ended, Writer};
use crate::topology::Topology;
use crate::types::{Partition, PeerId};

/// Reads this peer's partitions.
pub struct Scrubber<T> {
    /// Who holds what.
    pub topology: Topology,
    /// The writer of this peer's replica.
    pub writer: Writer<T>,
    /// Starts a damaged partition anew.
    pub server: Server<T>,
    /// Where peers are named that are to be pulled from.
    pub stale: mpsc::Sender<(PeerId, Partition)>,
    /// In which time every partition is read once.
    pub period: Duration,
}

impl<T: Send + 'static> Scrubber<T> {
    /// Runs until the writer ends.
    pub async fn run(self) {
        let count = u32::from(self.topology.partitions());
        loop {
            let started = Instant::now();
            for partition in self.topology.every_partition() {
                sleep_until(started + self.period / count * u32::from(partition.0 + 1)).await;
                if self.look_at(partition).await == Err(Ended) {
                    return;
                }
            }
        }
    }

    /// Reads one partition to its end or the first damage.
    async fn look_at(&self, partition: Partition) -> Result<(), Ended> {
        let Some(mut scrub) = self.writer.step(move |replica| Ok(replica.begin_scrub(partition))).await? else { return Ok(()) };
        loop {
            match scrub.read_on(SCRUB_PIECE) {
                Ok(true) if scrub.is_derived_right() => return Ok(()),
                Ok(true) => {
                    drop(scrub);
                    return self.writer.step(move |replica| replica.derive_anew(partition)).await.map(drop);
                }
                Ok(false) => sleep(SCRUB_PAUSE).await,
                Err(NotTold::NotWhole) => break,
                Err(NotTold::Storage(error)) => {
                    tracing::error!(%partition, %error, "a partition can't be read");
                    // Where that is for good, the writer ends with it.
                    return self.writer.step(|replica| replica.sync()).await;
                }
            }
        }
        drop(scrub);
        tracing::error!(%partition, "rows that nobody had asked for turned out to be lost or damaged");
        self.server.restart_damaged(partition).await;
        for peer in self.topology.cluster().reachable_holders(partition) {
            // A full queue, and whoever can't be reached now, is left to the interval.
            let _ = self.stale.try_send((peer, partition));
        }
        Ok(())
    }
}
