//! Records as they could stand on a damaged disk when a peer starts: refused, or read as the same once they are written again.

use bytes::Bytes;
use ringtide::members::Members;
use ringtide::replica::hints::Hint;
use ringtide::replica::journal;
use ringtide::replica::layout;
use ringtide::replica::partition::{Checkpoint, PartitionState, from_bytes, to_bytes};
use ringtide::types::{Digest, Place};
use serde::{Deserialize, Serialize};

/// Partitions of the key space.
const PARTITIONS: u16 = 16;

/// The first byte chooses the kind of record, the rest is read as one.
pub(crate) fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 6 {
        0 => {
            let record = Bytes::copy_from_slice(bytes);
            let mut states: Vec<PartitionState> = (0..PARTITIONS).map(|_| PartitionState::empty(1, 1)).collect();
            if journal::replay(&record, &mut states).is_ok() {
                let totals: Vec<Digest> = states.iter().map(|state| state.total).collect();
                let sums: Vec<Digest> = states.iter().map(|state| state.tree.total()).collect();
                assert_eq!(totals, sums, "a change broke the sum of the leaves");
                assert_eq!(journal::replay(&record, &mut states), Ok(()));
                assert!(states.iter().map(|state| state.total).eq(totals), "a record that is replayed twice does more than once");
            }
        }
        1 => {
            if let Some(checkpoint) = survives::<Checkpoint>(bytes) {
                let mut state = PartitionState::empty(1, 1);
                if state.restore(checkpoint).is_ok() {
                    assert_eq!(state.total, state.tree.total());
                    let again = to_bytes(&state.checkpoint());
                    let mut other = PartitionState::empty(1, 1);
                    let restored = from_bytes("a checkpoint", &again).and_then(|checkpoint| other.restore(checkpoint));
                    assert_eq!(restored, Ok(()));
                    assert_eq!(to_bytes(&other.checkpoint()), again, "a state changed on its way");
                }
            }
        }
        2 => drop(survives::<Hint>(bytes)),
        3 => {
            if let Some(members) = survives::<Members>(bytes) {
                assert!(!members.clone().merge_from(&members), "a list is news to itself");
            }
        }
        4 => row(bytes),
        _ => {
            if let Some((home, number)) = layout::parse_hint_key(bytes) {
                assert_eq!(layout::hint_key(home, number), bytes);
            }
        }
    }
}

/// Reads a record, writes it, and reads it again.
fn survives<T: Serialize + for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    let record: T = from_bytes("a record", bytes).ok()?;
    let again = to_bytes(&record);
    match from_bytes::<T>("a record", &again) {
        Ok(record) => assert_eq!(to_bytes(&record), again, "a record changed on its way"),
        Err(error) => panic!("{error} once it is written"),
    }
    Some(record)
}

/// A row under its storage key, which stands behind its length of two bytes.
fn row(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (key, value) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
    let Ok((address, content)) = layout::parse_row(key, &Bytes::copy_from_slice(value)) else { return };
    assert!(layout::leaf_of(key) < ringtide::types::LEAVES);
    if address.key.len() > layout::LONGEST_INLINE || address.element.len() > layout::LONGEST_INLINE {
        return;
    }
    // But for its place and for what is never looked at, the key is the one that such a row is stored under.
    let stored = layout::row_key(Place::of(&address.key, PARTITIONS), &address);
    assert_eq!(stored.get(11..), key.get(11..), "a row was read under a key that it never has");
    let again = layout::row_value(key, &address, &content);
    assert_eq!(layout::parse_row(key, &again.into()), Ok((address, content)));
}
