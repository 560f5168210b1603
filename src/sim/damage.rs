//! Damage at rest: rows of a running peer that are lost or changed on its disk behind its back.
//!
//! It strikes a cluster that has everything everywhere, at one peer, so that the other replicas of each row are whole. Then each damaged row is
//! written to. From that write on the replicas' digests of it differ for good, so that the others pull it from the damaged peer, which finds while it lists
//! its rows that they don't add up, and starts the partition anew from the others.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::cluster::SimCluster;
use super::workload::History;
use crate::crdt::command::Mutation;
use crate::crdt::delta::{Kind, RowAddress};
use crate::crdt::string::{SetCondition, SetExpiry};
use crate::crdt::{set, string};
use crate::node::Node;
use crate::replica::layout;
use crate::types::Level;

/// Rows that are damaged at most, each of a key of its own.
const MOST_ROWS: usize = 4;

/// Damages some rows at one peer, and has each of them written to.
///
/// # Errors
/// Where a write was not acknowledged though all but one replica are whole.
pub async fn strike(cluster: &SimCluster, history: &mut History, random: &mut SmallRng) -> Result<(), String> {
    let running: Vec<usize> = (0..cluster.peers.len()).filter(|index| cluster.peers[*index].node.is_some()).collect();
    let victim = &cluster.peers[running[random.random_range(0..running.len())]];
    let mut rows: BTreeMap<Bytes, Vec<(Vec<u8>, RowAddress)>> = BTreeMap::new();
    victim.disk.visit(b"r", b"s", &mut |row_key, value| {
        if let Ok((address, _)) = layout::parse_row(row_key, &Bytes::copy_from_slice(value))
            && is_known(history, &address)
        {
            rows.entry(address.key.clone()).or_default().push((row_key.to_vec(), address));
        }
        ControlFlow::Continue(())
    });
    let mut keys: Vec<Bytes> = rows.keys().cloned().collect();
    for _ in 0..random.random_range(1..=MOST_ROWS) {
        if keys.is_empty() {
            break;
        }
        let of_key = &rows[&keys.swap_remove(random.random_range(0..keys.len()))];
        let (row_key, address) = &of_key[random.random_range(0..of_key.len())];
        let is_lost = random.random_bool(0.5);
        if is_lost {
            victim.disk.lose(row_key);
        } else {
            victim.disk.spoil(row_key, random.random());
        }
        // A peer that lost a row notices nothing when it writes there, and must do no harm. One that can't read a row refuses.
        let able = |node: &&Node| {
            let peer = node.status().peer;
            node.owners(&address.key).contains(&peer) && (is_lost || peer != victim.id)
        };
        let writers: Vec<&Node> = cluster.running().filter(able).collect();
        let writer = writers[random.random_range(0..writers.len())];
        touch(writer, history, address, random.random()).await?;
    }
    Ok(())
}

/// Whether what a row holds is promised, by its key.
fn is_known(history: &History, address: &RowAddress) -> bool {
    match address.kind {
        // The workload makes no others.
        Kind::Expiry | Kind::Field | Kind::Score | Kind::Item | Kind::Register => false,
        Kind::Value => history.counters.contains_key(&address.key) || history.strings.contains_key(&address.key),
        Kind::Member => history.sets.contains_key(&address.key),
    }
}

/// Writes to a row, and notes what was promised by that.
async fn touch(node: &Node, history: &mut History, address: &RowAddress, value: u64) -> Result<(), String> {
    let key = &address.key;
    let value = Bytes::from(format!("{value:016x}"));
    let mutation: Mutation = match address.kind {
        Kind::Member => set::Mutation::Add(vec![address.element.clone()]).into(),
        _ if history.counters.contains_key(key) => string::Mutation::Increment(1).into(),
        _ => string::Mutation::Set { value: value.clone(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }.into(),
    };
    let written = node.write(Level::Quorum, key.clone(), mutation).await;
    written.map_err(|error| format!("{key:?} can't be written to with one replica damaged: {error}"))?;
    if let Some(counted) = history.counters.get_mut(key) {
        counted.acknowledged += 1;
    }
    if let Some(written) = history.strings.get_mut(key) {
        written.push((value, true));
    }
    if let Some(known) = history.sets.get_mut(key).and_then(|set| set.get_mut(&address.element)) {
        known.added = true;
        known.removal_sent = false;
    }
    Ok(())
}
