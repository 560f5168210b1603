//! Removes expired keys, and expired fields of hashes, for good, with a quorum's consent: until then they are only hidden.
//!
//! One replica may not decide alone: its clock may be fast, and a PERSIST that it never heard of may stand elsewhere. So the first holder that can
//! be reached looks for decisions that are past by the grace time, asks its co-holders whether they say so too, and removes what a
//! majority consents to, by a write like any other. Who consents and what goes is decided in `crdt::removal`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};

use super::{Coordinator, Started};
use crate::config::{EXPIRED_AT_ONCE, EXPIRY_GRACE, EXPIRY_SWEEP};
use crate::crdt::command::Answer;
use crate::crdt::delta::{Kind, Row, RowAddress};
use crate::crdt::removal::{Passed, attests, dots_of, removable};
use crate::env::Lane;
use crate::env::message::{Attestation, MAX_ATTESTED, Reply, Request, Standing};
use crate::quorum;
use crate::replica::execution::{Change, Command};
use crate::replica::expired::Ended;
use crate::replica::transaction::ReplicaError;
use crate::topology::Cluster;
use crate::types::{Level, Partition, PeerId};

/// After so many sweeps of what has ended since the last one, one looks at everything again: what had no quorum then may have one now.
const SWEEPS_TO_WHOLE: u64 = 6;
/// Parts in which one sweep removes one collection, at most.
const MOST_PARTS: usize = 256;

impl Coordinator {
    /// Removes expired keys from time to time, for ever.
    pub async fn sweep_expired(self) {
        let mut ticks = interval(EXPIRY_SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut sweeps, mut swept_until) = (0, 0);
        loop {
            ticks.tick().await;
            sweeps += 1;
            let from_ms = if sweeps % SWEEPS_TO_WHOLE == 0 { 0 } else { swept_until };
            match self.sweep_from(from_ms).await {
                Ok(until_ms) => swept_until = until_ms,
                Err(error) => tracing::error!(%error, "expired keys can't be looked for"),
            }
        }
    }

    /// Removes what ended from `from_ms` on and is past by the grace time; answers with the time up to which it looked.
    async fn sweep_from(&self, from_ms: u64) -> Result<u64, ReplicaError> {
        let grace_ms = u64::try_from(EXPIRY_GRACE.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.view.load().now(self.clock.wall_ms()).millis().saturating_sub(grace_ms);
        let mut next = None;
        loop {
            let ended = self.view.load().ended(from_ms, until_ms, next.as_deref(), EXPIRED_AT_ONCE)?;
            next = ended.next.clone();
            self.remove(ended).await;
            if next.is_none() {
                return Ok(until_ms);
            }
        }
    }

    async fn remove(&self, ended: Ended) {
        let cluster = self.topology.cluster();
        let mut asked = Vec::new();
        for (key, rows) in ended.rows {
            let partition = self.topology.place(&key).partition;
            // One remover is enough: others would only do the same at the same time.
            let first = cluster.ring.holders(partition).iter().find(|peer| self.is_here(&cluster, **peer));
            if first != Some(&self.topology.local()) {
                continue;
            }
            match self.questions(&key, &rows) {
                Ok(questions) => {
                    // What is too much for one question waits for the next whole sweep.
                    let room = MAX_ATTESTED - asked.len();
                    asked.extend(questions.into_iter().take(room).map(|question| (partition, question)));
                }
                Err(error) => tracing::error!(%error, %partition, "an expired key can't be read"),
            }
        }
        // A majority is one of a single ring, this peer among it.
        if asked.is_empty() || self.view.load().ring != cluster.ring.name() {
            return;
        }
        let consents = self.consents(&cluster, &asked).await;
        // Everybody that ever was consents, where these are fewer than a majority: a peer that has always been alone.
        let needed = quorum::majority(self.topology.replicas()).min(cluster.members.iter().count());
        for ((_, question), consents) in asked.into_iter().zip(consents) {
            if consents >= needed {
                self.remove_hidden(Passed { row: question.row, decision: question.decision }).await;
            }
        }
    }

    fn is_here(&self, cluster: &Cluster, peer: PeerId) -> bool {
        peer == self.topology.local() || cluster.reachable.contains(&peer)
    }

    /// What to ask the co-holders about a key, of which these rows have an end behind them.
    fn questions(&self, key: &Bytes, rows: &BTreeSet<RowAddress>) -> Result<Vec<Attestation>, ReplicaError> {
        let view = self.view.load();
        let now = view.now(self.clock.wall_ms());
        let page = view.read_rows(key, rows)?;
        if page.standing != Standing::Counted {
            return Ok(Vec::new());
        }
        let Ok(found) = removable(&page.rows, &page.causal, key, rows, now, EXPIRY_GRACE);
        let none = Row::new();
        let question = |Passed { row, decision }| {
            let standing = dots_of(page.rows.get(&row).unwrap_or(&none), &decision);
            Attestation { row, decision, standing }
        };
        Ok(found.into_iter().map(question).collect())
    }

    /// For each question how many holders consent, this peer among them.
    async fn consents(&self, cluster: &Cluster, asked: &[(Partition, Attestation)]) -> Vec<usize> {
        let mut consents = vec![1; asked.len()];
        let mut by_peer: BTreeMap<PeerId, Vec<usize>> = BTreeMap::new();
        for (place, (partition, _)) in asked.iter().enumerate() {
            for peer in cluster.reachable_holders(*partition) {
                by_peer.entry(peer).or_default().push(place);
            }
        }
        let asking = by_peer.into_iter().map(|(peer, places)| async move {
            let questions = places.iter().map(|place| asked[*place].1.clone()).collect();
            let request = Request::Attest { ring: cluster.ring.name(), asked: questions };
            match self.exchange.ask(peer, Lane::Bulk, request, self.patience).await {
                Ok(Reply::Attested(consents)) if consents.len() == places.len() => places.into_iter().zip(consents).collect(),
                Ok(_) | Err(_) => Vec::new(),
            }
        });
        for (place, consented) in futures::future::join_all(asking).await.into_iter().flatten() {
            consents[place] += usize::from(consented);
        }
        consents
    }

    /// Removes what a decision hides, part by part.
    async fn remove_hidden(&self, passed: Passed) {
        for part in 0..MOST_PARTS {
            let command = Command { key: passed.row.key.clone(), change: Change::RemoveExpired(passed.clone()), blind_for: None };
            let Started::Here(result) = self.command(Level::One, command) else { return };
            match result.await {
                Ok(Ok(written)) if written.answer != Answer::Integer(0) => {
                    if part == 0 && passed.row.kind == Kind::Expiry {
                        // Where nobody keeps up with them, some are not told of.
                        let _ = self.expired.try_send(passed.row.key.clone());
                    }
                }
                _ => return,
            }
        }
    }

    /// Whether this peer consents to each removal. It does not where it can't read what the end of the key or field is.
    #[must_use]
    pub fn attest(&self, ring: u64, asked: &[Attestation]) -> Vec<bool> {
        let view = self.view.load();
        let now = view.now(self.clock.wall_ms());
        let consents = |asked: &Attestation| match view.read_rows(&asked.row.key, &BTreeSet::from([asked.row.clone()])) {
            Ok(page) => {
                let Ok(attested) = attests(&page.rows, &page.causal, &asked.row, &asked.decision, &asked.standing, now, EXPIRY_GRACE);
                page.standing == Standing::Counted && page.ring == ring && attested
            }
            Err(error) => {
                tracing::error!(%error, "the end of a key can't be read");
                false
            }
        };
        asked.iter().map(consents).collect()
    }
}
