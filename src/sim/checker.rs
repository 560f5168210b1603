//! What must be true of a cluster that has healed.
//!
//! - Everybody agrees, and says so; the next exchanges move nothing.
//! - What was acknowledged is there, but for what [`super::losses`] excuses: what only one disk held when that disk fell back.
//! - The rows of every disk add up to its digests and to what is derived of them; nobody holds more than what is its own.
//! - No dot names two writes, over the whole run. What was deleted does not come back, and what has ended goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::time::sleep;

use super::cluster::SimCluster;
use super::derived;
use super::expiry::{Fate, fate};
use super::history::History;
use super::storage::Crash;
use super::workload::is_of_field;
use crate::config::{EXPIRY_GRACE, EXPIRY_SWEEP, PENDING_FOR};
use crate::crdt::command::{Answer, Explained, Query};
use crate::crdt::delta::RowAddress;
use crate::crdt::{encode, key, set, string};
use crate::env::Clock;
use crate::node::Node;
use crate::replica::layout;
use crate::types::{Digest, Level, Partition};

/// Longer than it takes from the end of a key's grace time to its removal, also where a sweep has looked at it in vain before.
const SWEPT: Duration = Duration::from_secs(8 * EXPIRY_SWEEP.as_secs());
/// How long a healed cluster may take to agree.
const CONVERGENCE: Duration = Duration::from_secs(300);

/// Checks everything; in words, the first thing that is not as it must be. `doubt_ms` is by how much clocks may have disagreed about when a
/// command was executed.
///
/// # Errors
/// A violation.
pub async fn check(cluster: &mut SimCluster, history: &History, doubt_ms: u64) -> Result<(), String> {
    cluster.converge(CONVERGENCE).await.map_err(|missing| format!("the cluster did not converge: {missing}"))?;
    // What was to end soon has ended by every clock.
    sleep(Duration::from_millis((history.last_end_ms() + 1).saturating_sub(cluster.truth.wall_ms()))).await;
    let nodes: Vec<Node> = cluster.running().cloned().collect();
    for node in &nodes {
        promises(node, history).await?;
        ends(node, history, doubt_ms).await?;
    }
    quiet(&nodes).await?;
    whole(cluster).await?;
    for (index, peer) in cluster.peers.iter().enumerate().filter(|(_, peer)| peer.node.is_some()) {
        let partitions = nodes.first().map_or(1, |node| node.status().partitions);
        derived::check(&peer.disk, partitions).map_err(|wrong| format!("what node {index} derived is not so: {wrong}"))?;
    }
    cluster.network.check_dots(cluster.peers.iter().map(|peer| &peer.disk))
}

async fn ask(node: &Node, key: &Bytes, query: impl Into<Query>) -> Result<Answer, String> {
    node.read(Level::One, key.clone(), query).await.map_err(|error| format!("{key:?} can't be read after healing: {error}"))
}

/// Everything that clients were promised, as one peer sees it.
async fn promises(node: &Node, history: &History) -> Result<(), String> {
    for key in history.lasting_keys() {
        keeps(history, key, &ask(node, key, question(history, key)).await?)?;
    }
    Ok(())
}

/// What to ask about a key, by what clients do with it.
fn question(history: &History, key: &Bytes) -> Query {
    if history.counters.contains_key(key) {
        string::Query::Get.into()
    } else if history.sets.contains_key(key) {
        set::Query::Members.into()
    } else {
        string::Query::Siblings.into()
    }
}

/// Whether an answer to the [`question`] about a key keeps what was promised of it.
fn keeps(history: &History, key: &Bytes, answer: &Answer) -> Result<(), String> {
    if let Some(counted) = history.counters.get(key) {
        let value = match answer {
            Answer::Nil => 0,
            Answer::Bytes(text) => crate::crdt::number::parse_integer(text).ok_or_else(|| format!("{key:?} is no number: {text:?}"))?,
            other => return Err(format!("{key:?} answers {other:?}")),
        };
        if (value - counted.acknowledged).abs() > counted.unknown {
            return Err(format!("{key:?} is {value}, but {} was acknowledged and {} is unknown", counted.acknowledged, counted.unknown));
        }
    }
    if let Some(members) = history.sets.get(key) {
        let Answer::Members(present) = answer else { return Err(format!("{key:?} is no set")) };
        let lost = members.iter().find(|(member, known)| known.is_promised() && !present.contains(member));
        if let Some((member, _)) = lost {
            return Err(format!("{key:?} lost {member:?}, whose add was acknowledged"));
        }
    }
    if let Some(kept) = history.values_kept(key) {
        let Answer::Siblings { values, .. } = answer else { return Err(format!("{key:?} is no string")) };
        if !kept.iter().any(|value| values.contains(value)) {
            return Err(format!("{key:?} holds {values:?}, and none of {kept:?}"));
        }
    }
    Ok(())
}

/// While a cluster that had everything everywhere hands partitions over, and processes end and start, no read that is answered misses
/// anything: who has not got it yet does not count.
///
/// # Errors
/// A violation, or where a peer did not start.
pub async fn watch(cluster: &mut SimCluster, history: &History, random: &mut SmallRng) -> Result<(), String> {
    let keys: Vec<&Bytes> = history.lasting_keys().collect();
    for _ in 0..random.random_range(20..80) {
        sleep(Duration::from_millis(random.random_range(0..200))).await;
        let index = random.random_range(0..cluster.peers.len());
        match random.random_range(0..20) {
            0 if cluster.running().count() > 1 => cluster.crash(index, Crash::Process),
            1..4 => cluster.restart(index).await.map_err(|error| format!("a peer did not start: {error}"))?,
            _ => {}
        }
        // A peer that has not met the others yet is a cluster of its own, which has nothing.
        let joined = cluster.joined();
        let Some(node) = cluster.peers[index].node.as_ref().filter(|node| node.status().members == joined) else { continue };
        let Some(key) = keys.get(random.random_range(0..keys.len().max(1))) else { continue };
        let level = [Level::Local, Level::One, Level::Sloppy, Level::Quorum][random.random_range(0..4)];
        if let Ok(answer) = node.read(level, (*key).clone(), question(history, key)).await {
            keeps(history, key, &answer).map_err(|lost| format!("read at {level} during a handover: {lost}"))?;
        }
    }
    Ok(())
}

/// What was promised of keys that expire, as one peer sees it.
async fn ends(node: &Node, history: &History, doubt_ms: u64) -> Result<(), String> {
    for (key, commands) in history.expiring_keys() {
        match fate(commands, doubt_ms) {
            Fate::Open => {}
            Fate::Gone => {
                let answer = ask(node, key, key::Query::Type).await?;
                if answer != Answer::Type(None) {
                    return Err(format!("{key:?} should have expired and is {answer:?} after {commands:?}"));
                }
            }
            Fate::Shows(any) if is_of_field(key) => {
                let Answer::Explained(told) = ask(node, key, key::Query::Explain).await? else {
                    return Err(format!("{key:?} can't be explained"));
                };
                let is_one = |told: &Explained, value: &Bytes| told.content.as_bytes().windows(value.len()).any(|part| part == value);
                let mut lasting = told.iter().filter(|told| !told.reason.starts_with("hidden"));
                if !lasting.any(|told| any.iter().any(|value| is_one(told, value))) {
                    return Err(format!("the field of {key:?} should last and holds {told:?} after {commands:?}"));
                }
            }
            Fate::Shows(any) => {
                let Answer::Siblings { values, .. } = ask(node, key, string::Query::Siblings).await? else {
                    return Err(format!("{key:?} is no string"));
                };
                if !any.iter().any(|value| values.contains(value)) {
                    return Err(format!("{key:?} should last and holds {values:?} after {commands:?}"));
                }
            }
        }
    }
    Ok(())
}

/// Nothing is left on any disk of keys that have expired, once their grace time is over and they were looked at since. Where a disk fell back, dots went
/// with it that others may wait for: then the rows may stay until that is given up, and no longer.
///
/// # Errors
/// A violation.
pub async fn check_swept(cluster: &SimCluster, history: &History, doubt_ms: u64) -> Result<(), String> {
    let gone: BTreeSet<&Bytes> =
        history.expiring_keys().filter(|(_, commands)| fate(commands, doubt_ms) == Fate::Gone).map(|(key, _)| key).collect();
    if gone.is_empty() {
        return Ok(());
    }
    sleep(EXPIRY_GRACE + SWEPT).await;
    let mut left = left_over(cluster, &gone);
    if history.fell_back && left.is_some() {
        sleep(PENDING_FOR + EXPIRY_GRACE + SWEPT).await;
        left = left_over(cluster, &gone);
    }
    match left {
        None => Ok(()),
        Some((index, address)) => {
            let commands = &history.expiring[&address.key];
            Err(format!("node {index} still has {address:?}, which expired long ago, after {commands:?}"))
        }
    }
}

/// A row of one of these keys, and the peer that has it.
fn left_over(cluster: &SimCluster, gone: &BTreeSet<&Bytes>) -> Option<(usize, RowAddress)> {
    let mut left = None;
    for (index, peer) in cluster.peers.iter().enumerate() {
        peer.disk.visit(b"r", b"s", &mut |row_key, value| match layout::parse_row(row_key, &Bytes::copy_from_slice(value)) {
            Ok((address, _)) if gone.contains(&address.key) => {
                left.get_or_insert((index, address));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        });
    }
    left
}

/// The rows on every disk add up to the digests that their peer tells, and no other rows are there.
async fn whole(cluster: &SimCluster) -> Result<(), String> {
    for (index, peer) in cluster.peers.iter().enumerate() {
        let Some(node) = &peer.node else { continue };
        let mut found: BTreeMap<Partition, Digest> = BTreeMap::new();
        let mut damaged = None;
        peer.disk.visit(b"r", b"s", &mut |row_key, value| match layout::parse_row(row_key, &Bytes::copy_from_slice(value)) {
            Ok((address, content)) => {
                let sum = found.entry(node.partition(&address.key)).or_default();
                *sum = sum.plus(encode::stored_row_digest(&address, &content));
                ControlFlow::Continue(())
            }
            Err(error) => {
                damaged = Some(error);
                ControlFlow::Break(())
            }
        });
        if let Some(error) = damaged {
            return Err(format!("node {index} still has a damaged row: {error}"));
        }
        for (partition, told) in node.digests().await {
            if found.remove(&partition).unwrap_or_default() != told {
                return Err(format!("the rows of partition {partition} at node {index} don't add up to its digest"));
            }
        }
        if let Some(partition) = found.keys().next() {
            return Err(format!("node {index} has rows of partition {partition}, which it does not hold"));
        }
    }
    Ok(())
}

/// The next exchanges move nothing.
async fn quiet(nodes: &[Node]) -> Result<(), String> {
    for node in nodes {
        let report = node.sync().await;
        if (report.rows_sent, report.rows_received) != (0, 0) {
            return Err(format!("a converged cluster still moves rows: {report:?}"));
        }
    }
    Ok(())
}

/// Deletes every key, with all peers up, and tells the keys.
///
/// # Errors
/// Where a key could not be deleted.
pub async fn delete_all(node: &Node, history: &History) -> Result<Vec<Bytes>, String> {
    let keys: Vec<Bytes> = history.lasting_keys().chain(history.expiring.keys()).cloned().collect();
    for key in &keys {
        node.write(Level::Sloppy, key.clone(), key::Mutation::Delete)
            .await
            .map_err(|error| format!("{key:?} can't be deleted: {error}"))?;
    }
    Ok(keys)
}

/// Nothing that was deleted is back, at any peer.
///
/// # Errors
/// A violation.
pub async fn check_gone(cluster: &SimCluster, keys: &[Bytes]) -> Result<(), String> {
    cluster.converge(CONVERGENCE).await.map_err(|missing| format!("the cluster did not converge after deletes: {missing}"))?;
    for node in cluster.running() {
        for key in keys {
            let answer = ask(node, key, key::Query::Type).await?;
            if answer != Answer::Type(None) {
                return Err(format!("{key:?} was deleted and is back: {answer:?}"));
            }
        }
    }
    Ok(())
}
