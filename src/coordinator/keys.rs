//! Walks the keys of the whole cluster, partition by partition in the order of their hashes.
//!
//! A cursor is the hash of the next key, so it stays good while peers join and leave: a key that was there all the time is met at least
//! once. Of each partition as many replicas are asked as the level says, and what any of them shows is told.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::Coordinator;
use super::operation::OperationError;
use super::read::OTHER_RING_PAUSE;
use crate::config::MAX_SCANNED;
use crate::crdt::command::DataType;
use crate::env::Lane;
use crate::env::message::{KeyPage, ListedKey, Reply, Request, Standing};
use crate::quorum;
use crate::types::{Level, Partition, PeerId, Place, key_hash};

/// Some keys of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The keys with their types.
    pub keys: Vec<(Bytes, DataType)>,
    /// Where to go on; `None` where every key was met.
    pub next: Option<u64>,
}

impl Coordinator {
    /// Keys from a cursor on, about as many as asked for: fewer where there are no more, or many expired.
    ///
    /// # Errors
    /// Where too few replicas of a partition could be asked.
    pub async fn scan(&self, level: Level, cursor: u64, count: usize) -> Result<Scanned, OperationError> {
        self.check_standing()?;
        let count = count.clamp(1, MAX_SCANNED);
        let partitions = self.topology.partitions();
        let mut scanned = Scanned { keys: Vec::new(), next: Some(cursor) };
        while let Some(from_hash) = scanned.next.filter(|_| scanned.keys.len() < count) {
            let partition = Place::at(from_hash, partitions).partition;
            let (keys, next) = self.keys_of(level, partition, from_hash, count - scanned.keys.len()).await?;
            scanned.keys.extend(keys.into_iter().map(|listed| (listed.key, listed.data_type)));
            let after = Partition(partition.0 + 1);
            scanned.next = next.or_else(|| (after.0 < partitions).then(|| Place::first_hash(after, partitions)));
        }
        Ok(scanned)
    }

    /// What any of the replicas that the level asks for shows of a partition, as far as all of them have told.
    async fn keys_of(
        &self,
        level: Level,
        partition: Partition,
        from_hash: u64,
        most: usize,
    ) -> Result<(Vec<ListedKey>, Option<u64>), OperationError> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let pages = self.key_pages(level, partition, from_hash, most).await?;
        let next = pages.iter().filter_map(|page| page.next).min();
        let told = |listed: &ListedKey| next.is_none_or(|next| key_hash(&listed.key) < next);
        let mut keys: BTreeMap<(u64, Bytes), ListedKey> = BTreeMap::new();
        for listed in pages.into_iter().flat_map(|page| page.keys).filter(told) {
            keys.entry((key_hash(&listed.key), listed.key.clone())).or_insert(listed);
        }
        Ok((keys.into_values().collect(), next))
    }

    /// As many pages as the level asks for, and those that do not count. As with other reads, a difference of rings is waited for to pass.
    async fn key_pages(&self, level: Level, partition: Partition, from_hash: u64, most: u32) -> Result<Vec<KeyPage>, OperationError> {
        let until = Instant::now() + self.patience;
        loop {
            match self.key_pages_once(level, partition, from_hash, most).await {
                Err((_, true)) if Instant::now() < until => sleep(OTHER_RING_PAUSE).await,
                pages => return pages.map_err(|(error, _)| error),
            }
        }
    }

    /// Where too few pages count, tells also whether one did not since its peer sees another ring.
    async fn key_pages_once(
        &self,
        level: Level,
        partition: Partition,
        from_hash: u64,
        most: u32,
    ) -> Result<Vec<KeyPage>, (OperationError, bool)> {
        let cluster = self.topology.cluster();
        let mut pages = Vec::new();
        if let Reply::Keys(page) = self.own_keys(partition, from_hash, most) {
            pages.push(page);
        }
        let agrees = |page: &KeyPage| level < Level::Quorum || page.ring == cluster.ring.name();
        let counted = |pages: &[KeyPage]| pages.iter().filter(|page| page.standing == Standing::Counted && agrees(page)).count();
        let others: Vec<PeerId> = cluster.reachable_holders(partition).chain(cluster.reachable_former(partition)).collect();
        let needed = quorum::needed_for_read(level, self.topology.replicas(), others.len() + counted(&pages));
        if counted(&pages) < needed && level > Level::Local {
            let asking = others.into_iter().map(|peer| {
                let request = Request::Keys { partition, from_hash, most };
                self.exchange.ask(peer, Lane::Bulk, request, self.patience)
            });
            let replies = join_all(asking).await;
            pages.extend(replies.into_iter().filter_map(|reply| if let Ok(Reply::Keys(page)) = reply { Some(page) } else { None }));
        }
        pages.retain(|page| page.standing != Standing::Absent);
        let (reached, sees_other_ring) = (counted(&pages), !pages.iter().all(agrees));
        let error = match () {
            () if reached >= needed || level == Level::Sloppy && reached >= 1 => return Ok(pages),
            () if level == Level::Local => OperationError::NoReplica,
            () if reached == 0 && !pages.is_empty() => OperationError::Syncing,
            () => OperationError::NoQuorum { reached, needed },
        };
        Err((error, sees_other_ring))
    }

    /// The keys of a partition as this peer has them.
    #[must_use]
    pub fn own_keys(&self, partition: Partition, from_hash: u64, most: u32) -> Reply {
        let view = self.view.load();
        if usize::from(partition.0) >= view.partitions().len() {
            return Reply::Unavailable("there is no such partition".to_owned());
        }
        let most = usize::try_from(most).unwrap_or(MAX_SCANNED).min(MAX_SCANNED);
        match view.keys(partition, from_hash, most, view.now(self.clock.wall_ms())) {
            Ok(page) => Reply::Keys(page),
            Err(error) => {
                tracing::error!(%error, %partition, "keys can't be listed");
                Reply::Unavailable(error.to_string())
            }
        }
    }
}
