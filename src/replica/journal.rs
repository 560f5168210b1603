//! The journal record of a batch: what it changed in clocks and trees, so that a start need not read the rows.
//!
//! A batch mostly adds a few dots to clocks that are as long as the cluster is old, so a record holds what was added; where a batch did more
//! than that (a pull that took pending over, an emptied partition) it holds clock and pending as they are. The rest are absolute values. A union
//! and an absolute value may be applied twice, so records may be replayed onto a state that has some of them already.
//!
//! ```text
//! record   changes, then for each: partition, flags, keys, causal, [first sync], leaves, then for each: leaf, digest (16)
//! causal   the dots that were added as a clock, or with WHOLE clock and pending
//! ```

use std::collections::BTreeMap;

use super::layout::Damaged;
use super::partition::{self, PartitionChange, PartitionState};
use crate::crdt::codec::{Reader, Writer};
use crate::crdt::delta::Causal;
use crate::crdt::encode;
use crate::types::{Digest, LEAVES, Partition};

/// The version of the format, its first byte.
const VERSION: u8 = 1;
/// The partition was emptied before.
const EMPTIED: u8 = 1;
/// Clock and pending are told as a whole.
const WHOLE: u8 = 2;
/// A first sync is under way.
const FIRST_SYNC: u8 = 4;
/// Longest clock or first sync in a record, in bytes: far more than there can be, and less than a damaged length may claim.
const LONGEST: usize = 64 * 1024 * 1024;

/// The record of changes to the partitions as they are before.
#[must_use]
pub fn to_bytes(changes: &[PartitionChange], before: &[PartitionState]) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION);
    writer.count(changes.len());
    for change in changes {
        let causal = &before[usize::from(change.partition.0)].causal;
        let only_grew = !change.emptied && causal.pending.is_empty() && change.causal.pending.is_empty();
        let flag = |flag: u8, is_set: bool| if is_set { flag } else { 0 };
        writer.number(change.partition.0.into());
        writer.byte(flag(EMPTIED, change.emptied) | flag(WHOLE, !only_grew) | flag(FIRST_SYNC, change.first_sync.is_some()));
        writer.number(change.keys);
        if only_grew {
            writer.bytes(&encode::clock_to_bytes(&change.causal.clock.minus(&causal.clock)));
        } else {
            writer.bytes(&encode::causal_to_bytes(&change.causal));
        }
        if let Some(first_sync) = &change.first_sync {
            writer.bytes(&partition::to_bytes(first_sync));
        }
        writer.count(change.leaves.len());
        for (leaf, digest) in &change.leaves {
            writer.number((*leaf).into());
            writer.raw(&digest.0.to_be_bytes());
        }
    }
    writer.into_bytes()
}

/// Applies a record to the partitions.
///
/// # Errors
/// Where the bytes are no record, or one of other partitions.
pub fn replay(bytes: &bytes::Bytes, states: &mut [PartitionState]) -> Result<(), Damaged> {
    let mut reader = Reader::versioned(bytes, "journal record", VERSION)?;
    for _ in 0..reader.count("changes", states.len())? {
        let change = read_change(&mut reader, states)?;
        states[usize::from(change.partition.0)].apply(change);
    }
    Ok(reader.finish()?)
}

fn read_change(reader: &mut Reader<'_>, states: &[PartitionState]) -> Result<PartitionChange, Damaged> {
    let index = reader.count("partition", states.len().saturating_sub(1))?;
    let flags = reader.byte("flags")?;
    let keys = reader.number("keys")?;
    let bytes = reader.bytes("clock", LONGEST)?;
    let causal = if flags & WHOLE == 0 {
        let mut clock = states[index].causal.clock.clone();
        clock.extend(&encode::clock_from_bytes(&bytes)?);
        Causal { clock, ..Causal::default() }
    } else {
        encode::causal_from_bytes(&bytes)?
    };
    let first_sync =
        if flags & FIRST_SYNC == 0 { None } else { Some(partition::from_bytes("a first sync", &reader.bytes("first sync", LONGEST)?)?) };
    let mut leaves = BTreeMap::new();
    for _ in 0..reader.count("leaves", LEAVES)? {
        let leaf = reader.count("leaf", LEAVES - 1)?;
        let (upper, lower) = (reader.word("digest")?, reader.word("digest")?);
        leaves.insert(u16::try_from(leaf).unwrap_or(u16::MAX), Digest(u128::from(upper) << 64 | u128::from(lower)));
    }
    let partition = Partition(u16::try_from(index).unwrap_or(u16::MAX));
    Ok(PartitionChange { partition, causal, keys, first_sync, leaves, emptied: flags & EMPTIED != 0 })
}
