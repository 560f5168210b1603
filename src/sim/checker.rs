//! What must be true of a cluster that has healed.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::SimCluster;
use super::workload::History;
use crate::crdt::command::{Answer, Query};
use crate::crdt::{key, set, string};
use crate::node::Node;
use crate::types::Level;

/// How long a healed cluster may take to agree.
const CONVERGENCE: Duration = Duration::from_secs(300);

/// Checks everything; in words, the first thing that is not as it must be.
///
/// # Errors
/// A violation.
pub async fn check(cluster: &mut SimCluster, history: &History) -> Result<(), String> {
    cluster.converge(CONVERGENCE).await.map_err(|missing| format!("the cluster did not converge: {missing}"))?;
    let nodes: Vec<Node> = cluster.running().cloned().collect();
    for node in &nodes {
        promises(node, history).await?;
    }
    quiet(&nodes).await
}

async fn ask(node: &Node, key: &Bytes, query: impl Into<Query>) -> Result<Answer, String> {
    node.read(Level::One, key.clone(), query).await.map_err(|error| format!("{key:?} can't be read after healing: {error}"))
}

/// Everything that clients were promised, as one peer sees it.
async fn promises(node: &Node, history: &History) -> Result<(), String> {
    for (key, counted) in &history.counters {
        let value = match ask(node, key, string::Query::Get).await? {
            Answer::Nil => 0,
            Answer::Bytes(text) => crate::crdt::counter::parse(&text).ok_or_else(|| format!("{key:?} is no number: {text:?}"))?,
            other => return Err(format!("{key:?} answers {other:?}")),
        };
        if (value - counted.acknowledged).abs() > counted.unknown {
            return Err(format!("{key:?} is {value}, but {} was acknowledged and {} is unknown", counted.acknowledged, counted.unknown));
        }
    }
    for (key, members) in &history.sets {
        let Answer::Members(present) = ask(node, key, set::Query::Members).await? else { return Err(format!("{key:?} is no set")) };
        let lost = members.iter().find(|(member, known)| known.added && !known.removal_sent && !present.contains(member));
        if let Some((member, _)) = lost {
            return Err(format!("{key:?} lost {member:?}, whose add was acknowledged"));
        }
    }
    for (key, written) in &history.strings {
        let Answer::Siblings { values, .. } = ask(node, key, string::Query::Siblings).await? else {
            return Err(format!("{key:?} is no string"));
        };
        let Some(last) = written.iter().rposition(|(_, acknowledged)| *acknowledged) else { continue };
        if !written[last..].iter().any(|(value, _)| values.contains(value)) {
            return Err(format!("{key:?} holds {values:?}, but {:?} was acknowledged last", written[last].0));
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
    let keys: Vec<Bytes> = history.counters.keys().chain(history.sets.keys()).chain(history.strings.keys()).cloned().collect();
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
