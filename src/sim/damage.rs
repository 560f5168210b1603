//! Damage at rest: rows of a peer that are lost, changed, or again what they were before, behind the back of whoever runs on the disk.
//!
//! Once everything is mended each damaged row is written to. From that write on the replicas' digests of it differ for good, so that the others
//! pull it from the damaged peer, which finds while it lists its rows that they don't add up, and starts the partition anew from the others.
//!
//! One kind of row is never set back: that of a counter. A peer that finds an older total of its own run where the latest stood goes on
//! from there, and nothing that is checked before a write tells it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::cluster::SimCluster;
use super::history::{History, Value};
use super::storage::SimDisk;
use crate::crdt::command::Mutation;
use crate::crdt::delta::{Kind, RowAddress};
use crate::crdt::string::{SetCondition, SetExpiry};
use crate::crdt::{set, string};
use crate::node::Node;
use crate::quorum::majority;
use crate::replica::layout;
use crate::types::Level;

/// Rows that are damaged at most, each of a key of its own.
const MOST_ROWS: usize = 4;

/// A row on a disk.
#[derive(Clone, Debug)]
pub struct StoredRow {
    row_key: Vec<u8>,
    address: RowAddress,
    value: Bytes,
}

/// How a row is damaged.
#[derive(Clone, Debug)]
pub enum Harm {
    /// It is gone.
    Lost,
    /// One bit of it is another, or it is cut short.
    Spoilt(u64),
    /// It is again what it was.
    SetBack(StoredRow),
}

/// A row that was damaged, and where.
#[derive(Clone, Debug)]
pub struct Damaged {
    victim: usize,
    address: RowAddress,
    /// Whether the damaged peer can tell: then it refuses commands on the row.
    is_told: bool,
}

/// A row on a disk of which something is promised, if there is one.
#[must_use]
pub fn choose_row(disk: &SimDisk, history: &History, random: &mut SmallRng) -> Option<StoredRow> {
    let rows = promised_rows(disk, history);
    let keys: Vec<&Bytes> = rows.keys().collect();
    let of_key = &rows[*keys.get(random.random_range(0..keys.len().max(1)))?];
    of_key.get(random.random_range(0..of_key.len())).cloned()
}

fn promised_rows(disk: &SimDisk, history: &History) -> BTreeMap<Bytes, Vec<StoredRow>> {
    let mut rows: BTreeMap<Bytes, Vec<StoredRow>> = BTreeMap::new();
    disk.visit(b"r", b"s", &mut |row_key, value| {
        let value = Bytes::copy_from_slice(value);
        if let Ok((address, _)) = layout::parse_row(row_key, &value)
            && is_known(history, &address)
        {
            rows.entry(address.key.clone()).or_default().push(StoredRow { row_key: row_key.to_vec(), address, value });
        }
        ControlFlow::Continue(())
    });
    rows
}

/// Whether an earlier form of a row may be put back in its place: it is no counter, another now, and of a partition that still lies there.
#[must_use]
pub fn can_be_set_back(disk: &SimDisk, history: &History, earlier: &StoredRow) -> bool {
    let (mut is_same, mut has_partition) = (false, false);
    let (from, until) = layout::partition_range(layout::partition_of(&earlier.row_key));
    disk.visit(&from, &until, &mut |row_key, value| {
        has_partition = true;
        is_same |= *row_key == *earlier.row_key && *value == *earlier.value;
        ControlFlow::Continue(())
    });
    has_partition && !is_same && !history.counters.contains_key(&earlier.address.key)
}

/// Damages a row.
pub fn harm(cluster: &SimCluster, victim: usize, row: &StoredRow, harm: Harm) -> Damaged {
    let disk = &cluster.peers[victim].disk;
    let is_told = matches!(harm, Harm::Spoilt(_));
    match harm {
        Harm::Lost => disk.lose(&row.row_key),
        Harm::Spoilt(how) => disk.spoil(&row.row_key, how),
        Harm::SetBack(earlier) => disk.set_back(&earlier.row_key, earlier.value),
    }
    Damaged { victim, address: row.address.clone(), is_told }
}

/// Damages some rows at one peer of a cluster that has everything everywhere, and has each of them written to.
///
/// # Errors
/// Where a write was not acknowledged though all but one replica are whole.
pub async fn strike(cluster: &SimCluster, history: &mut History, random: &mut SmallRng) -> Result<(), String> {
    let running: Vec<usize> = (0..cluster.peers.len()).filter(|index| cluster.peers[*index].node.is_some()).collect();
    let victim = running[random.random_range(0..running.len())];
    let rows = promised_rows(&cluster.peers[victim].disk, history);
    let mut keys: Vec<&Bytes> = rows.keys().collect();
    for _ in 0..random.random_range(1..=MOST_ROWS) {
        if keys.is_empty() {
            break;
        }
        let of_key = &rows[keys.swap_remove(random.random_range(0..keys.len()))];
        let row = &of_key[random.random_range(0..of_key.len())];
        let how = if random.random_bool(0.5) { Harm::Lost } else { Harm::Spoilt(random.random()) };
        let damaged = harm(cluster, victim, row, how);
        touch(cluster, history, &damaged, random).await?;
    }
    Ok(())
}

/// Has a damaged row written to, once all other replicas of it are whole.
///
/// # Errors
/// Where the write was not acknowledged.
pub async fn touch(cluster: &SimCluster, history: &mut History, damaged: &Damaged, random: &mut SmallRng) -> Result<(), String> {
    let Damaged { victim, address, is_told } = damaged;
    // A peer that lost a row notices nothing when it writes there, and must do no harm. One that can't read a row refuses.
    let able = |node: &&Node| {
        let peer = node.status().peer;
        node.owners(&address.key).contains(&peer) && !(*is_told && peer == cluster.peers[*victim].id)
    };
    let writers: Vec<&Node> = cluster.running().filter(able).collect();
    let writer = writers[random.random_range(0..writers.len())];
    // Where so many members are gone for good that no majority of replicas is whole, one has to do.
    let level = if writers.len() < majority(writer.status().replicas) { Level::One } else { Level::Quorum };
    write(writer, level, history, address, random.random()).await
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
async fn write(node: &Node, level: Level, history: &mut History, address: &RowAddress, value: u64) -> Result<(), String> {
    let key = &address.key;
    let value = Bytes::from(format!("{value:016x}"));
    let mutation: Mutation = match address.kind {
        Kind::Member => set::Mutation::Add(vec![address.element.clone()]).into(),
        _ if history.counters.contains_key(key) => string::Mutation::Increment(1).into(),
        _ => string::Mutation::Set { value: value.clone(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }.into(),
    };
    let written = node.write(level, key.clone(), mutation).await;
    written.map_err(|error| format!("{key:?} can't be written to with one replica damaged: {error}"))?;
    if let Some(counted) = history.counters.get_mut(key) {
        counted.acknowledged += 1;
    }
    if let Some(written) = history.strings.get_mut(key) {
        written.push(Value { bytes: value, acknowledged: true, lost: false });
    }
    if let Some(known) = history.sets.get_mut(key).and_then(|set| set.get_mut(&address.element)) {
        (known.added, known.removal_sent, known.lost) = (true, false, false);
    }
    Ok(())
}
