//! Reads: as many voices as the level asks for, merged, and those that were behind repaired.
//!
//! Each voice brings rows and the clock that judges them from one snapshot. A voice that has not finished its first sync, or no longer
//! holds the partition, is heard but not counted: it may have the only copy of a write. Nor does a majority count a voice that sees another
//! ring: a majority of either ring could then miss what one of the other has acknowledged. Such differences last for moments, so the read
//! waits for them to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep};

use super::Coordinator;
use super::operation::OperationError;
use super::replication::length_of;
use crate::config::{MAX_READ, READ_PAGE};
use crate::crdt::answer::{self, KeyView};
use crate::crdt::command::{Answer, Query, Selection};
use crate::crdt::delta::{Delta, Kind, Row, RowAddress};
use crate::crdt::merge::{Voice, merge};
use crate::env::Lane;
use crate::env::message::{Message, Page, Reply, Request, Sent, Standing};
use crate::hlc::Hlc;
use crate::quorum;
use crate::replica::layout;
use crate::replica::transaction::ReplicaError;
use crate::topology::Cluster;
use crate::types::{Level, Partition, PeerId, Place, Timestamp, key_hash};

/// Pages of one key that a read takes from one peer at most: bounds what a single command holds in memory.
const MOST_PAGES: usize = MAX_READ / READ_PAGE;
/// How long to wait before voices are asked again that saw another ring: news of members needs about as long.
pub(super) const OTHER_RING_PAUSE: Duration = Duration::from_millis(20);

/// What one peer said.
pub(super) struct Heard<T> {
    peer: PeerId,
    pub(super) told: T,
}

/// What a read asks each peer for.
pub(super) trait Asked: Sync {
    /// What a peer tells.
    type Told: Send;

    /// What this peer tells.
    fn here(&self, coordinator: &Coordinator, key: &Bytes) -> Result<Self::Told, OperationError>;

    /// What another peer tells; `None` where it does not.
    fn there<'r>(&'r self, coordinator: &'r Coordinator, peer: PeerId, key: &'r Bytes) -> BoxFuture<'r, Option<Self::Told>>;

    /// What it is worth, and the name of the ring that the peer sees.
    fn standing(told: &Self::Told) -> (Standing, u64);
}

impl Asked for Selection {
    type Told = Page;

    fn here(&self, coordinator: &Coordinator, key: &Bytes) -> Result<Page, OperationError> {
        coordinator.read_own(key, self)
    }

    fn there<'r>(&'r self, coordinator: &'r Coordinator, peer: PeerId, key: &'r Bytes) -> BoxFuture<'r, Option<Page>> {
        coordinator.read_there(peer, key, self).boxed()
    }

    fn standing(page: &Page) -> (Standing, u64) {
        (page.standing, page.ring)
    }
}

/// Too few voices were heard that count.
struct NotHeard {
    error: OperationError,
    /// Whether one of them was not counted since it sees another ring: it may count a moment later.
    sees_other_ring: bool,
}

impl From<OperationError> for NotHeard {
    fn from(error: OperationError) -> Self {
        Self { error, sees_other_ring: false }
    }
}

impl Coordinator {
    /// Asks something about a key.
    pub(super) async fn read_at(&self, level: Level, key: Bytes, query: Query) -> Result<Answer, OperationError> {
        let place = self.topology.place(&key);
        let selection = answer::selection(&query);
        if selection != Selection::All {
            let heard = self.gather(level, place, &key, &selection).await?;
            let now = self.view.load().now(self.clock.wall_ms());
            let (view, complete) = if let [only] = heard.as_slice() {
                // Nothing to merge: the common case of a local read.
                (KeyView { rows: only.told.rows.clone(), next_hash: only.told.hashed_until }, true)
            } else {
                self.merge(place, &key, &selection, heard, now)
            };
            // What the voices showed first may have been refuted by others, or be only the beginning: then only the whole key tells.
            if complete && !answer::needs_all(&view, &query) {
                return Ok(answer::answer(&view, now, &key, &query)?);
            }
        }
        if let Some(agreed) = self.agreed(level, place, &key, &query).await? {
            return Ok(agreed?);
        }
        let heard = self.gather(level, place, &key, &Selection::All).await?;
        let now = self.view.load().now(self.clock.wall_ms());
        let (view, _) = self.merge(place, &key, &Selection::All, heard, now);
        Ok(answer::answer(&view, now, &key, &query)?)
    }

    /// Hears as many peers as the level asks for, and former holders beside them: one of these may have the only copy of a write.
    pub(super) async fn gather<A: Asked>(
        &self,
        level: Level,
        place: Place,
        key: &Bytes,
        asked: &A,
    ) -> Result<Vec<Heard<A::Told>>, OperationError> {
        let until = Instant::now() + self.patience;
        loop {
            match self.gather_once(level, place, key, asked).await {
                Err(NotHeard { sees_other_ring: true, .. }) if Instant::now() < until => sleep(OTHER_RING_PAUSE).await,
                heard => return heard.map_err(|not_heard| not_heard.error),
            }
        }
    }

    async fn gather_once<A: Asked>(&self, level: Level, place: Place, key: &Bytes, asked: &A) -> Result<Vec<Heard<A::Told>>, NotHeard> {
        let cluster = self.topology.cluster();
        let former: Vec<PeerId> = if level > Level::One { cluster.reachable_former(place.partition).collect() } else { Vec::new() };
        if former.is_empty() {
            return self.gather_counted(&cluster, level, place, key, asked).await;
        }
        let beside = join_all(former.into_iter().map(|peer| self.hear(peer, key, asked)));
        let (heard, beside) = join(self.gather_counted(&cluster, level, place, key, asked), beside).await;
        let voices = beside.into_iter().flatten().filter(|voice| A::standing(&voice.told).0 != Standing::Absent);
        heard.map(|heard| heard.into_iter().chain(voices).collect())
    }

    async fn hear<A: Asked>(&self, peer: PeerId, key: &Bytes, asked: &A) -> Option<Heard<A::Told>> {
        asked.there(self, peer, key).await.map(|told| Heard { peer, told })
    }

    /// Hears as many holders as the level asks for.
    async fn gather_counted<A: Asked>(
        &self,
        cluster: &Cluster,
        level: Level,
        place: Place,
        key: &Bytes,
        question: &A,
    ) -> Result<Vec<Heard<A::Told>>, NotHeard> {
        let local = self.topology.local();
        let standing = self.view.load().partition(place.partition).standing;
        let mut others: Vec<PeerId> = cluster.reachable_holders(place.partition).collect();
        let counted_here = usize::from(standing == Standing::Counted);
        if level == Level::Local && standing != Standing::Counted {
            return Err(if standing == Standing::Absent { OperationError::NoReplica } else { OperationError::Syncing }.into());
        }
        let needed = quorum::needed_for_read(level, self.topology.replicas(), others.len() + counted_here);
        let mut heard = Vec::new();
        let mut counted = 0;
        let mut sees_other_ring = false;
        // Whether a voice counts; below `quorum` nothing is promised that another ring could break.
        let mut counts = |(standing, ring): (Standing, u64)| {
            let agrees = level < Level::Quorum || ring == cluster.ring.name();
            sees_other_ring |= !agrees;
            usize::from(standing == Standing::Counted && agrees)
        };
        let mut damaged = None;
        if standing != Standing::Absent {
            match question.here(self, key) {
                // The others are heard in its place.
                Err(error @ OperationError::Damaged(_)) if level > Level::Local => damaged = Some(error),
                told => {
                    let told = told?;
                    counted += counts(A::standing(&told));
                    heard.push(Heard { peer: local, told });
                }
            }
        }
        others.reverse();
        let mut asked: FuturesUnordered<BoxFuture<'_, Option<Heard<A::Told>>>> = FuturesUnordered::new();
        let mut heard_extra = false;
        loop {
            while counted + asked.len() < needed {
                let Some(peer) = others.pop() else { break };
                asked.push(Box::pin(self.hear(peer, key, question)));
            }
            if counted >= needed {
                break;
            }
            match asked.next().await {
                Some(Some(voice)) => {
                    let (standing, ring) = A::standing(&voice.told);
                    counted += counts((standing, ring));
                    heard_extra |= standing == Standing::Extra;
                    if standing != Standing::Absent {
                        heard.push(voice);
                    }
                }
                Some(None) => {}
                None => break,
            }
        }
        let enough = if level == Level::Sloppy { counted >= 1 } else { counted >= needed && counted > 0 };
        if enough {
            return Ok(heard);
        }
        if let Some(error) = damaged.filter(|_| counted == 0) {
            return Err(error.into());
        }
        let syncing = counted == 0 && (heard_extra || standing == Standing::Extra) && level <= Level::Sloppy;
        let error = if syncing { OperationError::Syncing } else { OperationError::NoQuorum { reached: counted, needed } };
        Err(NotHeard { error, sees_other_ring })
    }

    fn read_own(&self, key: &Bytes, selection: &Selection) -> Result<Page, OperationError> {
        let view = self.view.load();
        let now = view.now(self.clock.wall_ms());
        let read = |after: Option<&[u8]>| view.read(key, selection, after, now).map_err(|error| self.unreadable(key, error));
        let mut page = read(None)?;
        let mut pages = 1;
        while let (Selection::All, Some(after), true) = (selection, page.next.clone(), pages < MOST_PAGES) {
            let more = read(Some(&after))?;
            page.rows.extend(more.rows);
            page.next = more.next;
            pages += 1;
        }
        complete(page, selection)
    }

    /// What a row of a key that can't be read means for who asked: its partition starts anew, and the others have it meanwhile.
    pub fn unreadable(&self, key: &[u8], error: ReplicaError) -> OperationError {
        match error {
            ReplicaError::Damaged(_) | ReplicaError::Unjoinable(_) => {
                let (writer, partition) = (self.writer.clone(), self.topology.place(key).partition);
                self.tasks.spawn(async move {
                    let noted = writer.step(move |replica| {
                        replica.met_damage(partition);
                        Ok(())
                    });
                    // Where the writer has ended, the next start reads the row again.
                    let _ = noted.await;
                });
                OperationError::Damaged(error.to_string())
            }
            ReplicaError::Storage(error) => OperationError::Stopped(error.to_string()),
        }
    }

    /// Reads at another peer, page by page. Rows of later pages are judged by the clock of the first: a clock may be older than the
    /// rows it judges, never newer.
    async fn read_there(&self, peer: PeerId, key: &Bytes, selection: &Selection) -> Option<Page> {
        let mut page: Option<Page> = None;
        for _ in 0..MOST_PAGES {
            let after = page.as_ref().and_then(|page| page.next.clone());
            let request = Request::Read { key: key.clone(), selection: selection.clone(), after };
            let Ok(Reply::Page(next)) = self.exchange.ask(peer, Lane::Operations, request, self.patience).await else { return None };
            match &mut page {
                None => page = Some(*next),
                Some(page) => {
                    page.rows.extend(next.rows);
                    page.next = next.next;
                }
            }
            if *selection != Selection::All || page.as_ref().is_none_or(|page| page.next.is_none()) {
                break;
            }
        }
        let page = complete(page?, selection).ok()?;
        // What it tells was refused, or would be, and nothing could be written over it: it is not believed.
        let newest = page.rows.values().flat_map(|row| row.values()).map(|entry| entry.timestamp).max().unwrap_or_default();
        if let Some(error) = Hlc::too_far_ahead(newest, self.clock.wall_ms()) {
            tracing::warn!(%peer, %error, "a peer's answer to a read is not counted");
            return None;
        }
        Some(page)
    }

    /// Merges what was heard, repairs who was behind, and tells whether what is left answers for the whole key.
    fn merge(&self, place: Place, key: &Bytes, selection: &Selection, heard: Vec<Heard<Page>>, now: Timestamp) -> (KeyView, bool) {
        // A page that ended early says nothing of the rows behind its end, but for those that were asked for by name or hash.
        let bound = heard.iter().filter_map(|heard| heard.told.next.clone()).min();
        let next_hash = heard.iter().filter_map(|heard| heard.told.hashed_until).min();
        let named: BTreeSet<RowAddress> = match selection {
            Selection::Elements { kind, elements } => elements.iter().map(|element| RowAddress::element(key, *kind, element)).collect(),
            Selection::Head | Selection::Hashed { .. } | Selection::All => BTreeSet::new(),
        };
        let is_hashed = |address: &RowAddress| {
            let Selection::Hashed { kind, from_hash, .. } = selection else { return false };
            let hash = key_hash(&address.element);
            address.kind == *kind && *from_hash <= hash && next_hash.is_none_or(|next| hash < next)
        };
        let within = |address: &RowAddress| {
            bound.as_ref().is_none_or(|bound| layout::row_key(place, address).as_slice() < bound.as_ref())
                || named.contains(address)
                || is_hashed(address)
        };
        let (mut voices, mut peers) = (Vec::with_capacity(heard.len()), Vec::with_capacity(heard.len()));
        for Heard { peer, told: page } in heard {
            let rows: BTreeMap<RowAddress, Row> = page.rows.into_iter().filter(|(address, _)| within(address)).collect();
            voices.push(Voice { rows, causal: page.causal });
            peers.push(peer);
        }
        let mut merged = merge(&voices);
        merged.view.next_hash = next_hash;
        let cluster = self.topology.cluster();
        for repair in std::mem::take(&mut merged.repairs) {
            // A former holder takes nothing in.
            let Some(peer) = peers.get(repair.voice).copied().filter(|peer| cluster.ring.is_holder(place.partition, *peer)) else {
                continue;
            };
            if repair.must_pull && peer == self.topology.local() {
                self.pull_from_others(place.partition, &peers);
            }
            self.repair(place, peer, repair.adds);
        }
        let rows = &merged.view.rows;
        let complete = bound.is_none() || rows.keys().any(|address| address.kind != Kind::Expiry && answer::shows(rows, address, now));
        (merged.view, complete)
    }

    /// This peer holds what should go, and pulls: reads are not checked for whole leaves, and remove nothing. Others find out by themselves.
    fn pull_from_others(&self, partition: Partition, heard: &[PeerId]) {
        for peer in heard.iter().filter(|peer| **peer != self.topology.local()) {
            let _ = self.stale.try_send((*peer, partition));
        }
    }

    /// Brings a peer what it lacked.
    fn repair(&self, place: Place, peer: PeerId, adds: Delta) {
        if adds.is_empty() {
            return;
        }
        let sent = Sent { partition: place.partition, delta: adds, hint_for: None };
        if peer == self.topology.local() {
            let bytes = length_of(&sent.delta);
            let _ = self.writer.receive(peer, 0, 0, vec![sent], bytes);
        } else {
            let _ = self.exchange.tell(peer, Lane::Operations, &Message::Deltas { frame: 0, ring: 0, deltas: vec![sent] });
        }
    }
}

/// A whole key must have been read to its end.
fn complete(page: Page, selection: &Selection) -> Result<Page, OperationError> {
    if *selection == Selection::All && page.next.is_some() {
        return Err(OperationError::TooBig("the key is too large to be read at once".to_owned()));
    }
    Ok(page)
}
