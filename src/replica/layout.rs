//! How a replica's state lies in storage: which key holds what.
//!
//! | key | value |
//! |---|---|
//! | `r` partition position key kind element | a row |
//! | `p` partition | checkpoint of clock, pending, tree and first sync |
//! | `j` number | what one batch changed in clocks and trees since the checkpoint |
//! | `h` peer number | a hint for that peer |
//! | `x` time row | nothing: finds rows by the earliest end of a decision in them |
//! | `c` partition position key | what is derived of a collection's rows: see [`collection`](super::collection) |
//! | `z` partition position key score member | the score's bits: the members of a sorted set in their order |
//! | `d` row key | a damaged row that was set aside |
//! | `m` name | settings and the member list |
//!
//! Rows lie in the order of their hash, so a leaf of the Merkle tree is one range. Keys and elements longer than
//! [`LONGEST_INLINE`] bytes stand there by their BLAKE3 hash; the row then carries them in full. A component stands behind its length; only the
//! position of a list's item, which is never long and always the last, stands there bare, so that items lie in the order of their list. Members and
//! fields lie in the order of their hashes, as keys do: so a scan of a huge collection goes on at a hash, which means the same at every peer.
//!
//! A stored row ends with a checksum of itself and its storage key. The digest of its leaf tells that some row is not what it was, and not
//! which: without a checksum a peer that starts a damaged partition anew would keep a changed entry, or one under a dot that was never
//! minted, and bring it to the others.

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::crdt::codec::DecodeError;
use crate::crdt::delta::{Kind, Row, RowAddress};
use crate::crdt::encode;
use crate::crdt::sorted_set::Score;
use crate::panics::caught;
use crate::types::{LEAVES, Partition, PeerId, Place, key_hash};

/// The longest key or element that stands in a storage key as it is, in bytes.
pub const LONGEST_INLINE: usize = 1000;

const HASHED: u16 = u16::MAX;
const KEY_IN_VALUE: u8 = 1;
const ELEMENT_IN_VALUE: u8 = 2;
/// The checksum at the end of a stored row, in bytes.
const CHECKSUM: usize = 8;
/// Tag, partition, position.
const PLACE_LENGTH: usize = 11;

/// A stored row that does not decode, or is not the row that its key names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stored record is damaged: {0}")]
pub struct Damaged(pub String);

impl From<DecodeError> for Damaged {
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

fn put_component(key: &mut Vec<u8>, component: &[u8]) {
    match u16::try_from(component.len()) {
        Ok(length) if component.len() <= LONGEST_INLINE => {
            key.extend(length.to_be_bytes());
            key.extend(component);
        }
        _ => {
            key.extend(HASHED.to_be_bytes());
            key.extend(blake3::hash(component).as_bytes());
        }
    }
}

/// The start of every row at a place.
#[must_use]
pub fn position(place: Place) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PLACE_LENGTH);
    bytes.push(b'r');
    bytes.extend(place.partition.0.to_be_bytes());
    bytes.extend(place.position.to_be_bytes());
    bytes
}

/// The start of every row of a key.
#[must_use]
pub fn rows_of_key(place: Place, key: &[u8]) -> Vec<u8> {
    let mut bytes = position(place);
    put_component(&mut bytes, key);
    bytes
}

/// The range of storage keys of the items of a key's list. Positions stand there bare, so each of them begins with `start` itself.
#[must_use]
pub fn rows_of_items(place: Place, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut start = rows_of_key(place, key);
    start.push(Kind::Item as u8);
    let end = end_of(&start);
    (start, end)
}

/// The range of storage keys of all rows of a key that are elements of a collection.
#[must_use]
pub fn rows_of_elements(place: Place, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut start = rows_of_key(place, key);
    let end = end_of(&start);
    start.push(Kind::Value as u8 + 1);
    (start, end)
}

/// The range of storage keys of rows of one kind of a key, from a hash of their elements on.
#[must_use]
pub fn rows_from_hash(place: Place, key: &[u8], kind: Kind, hash: u64) -> (Vec<u8>, Vec<u8>) {
    let mut start = rows_of_key(place, key);
    start.push(kind as u8);
    let end = end_of(&start);
    start.extend(hash.to_be_bytes());
    (start, end)
}

/// The hash of the element whose row a storage key of a key and kind names, or begins; `None` where it names none of these.
#[must_use]
pub fn hash_in(row_key: &[u8], place: Place, key: &[u8], kind: Kind) -> Option<u64> {
    let rest = row_key.strip_prefix(rows_of_key(place, key).as_slice())?.strip_prefix(&[kind as u8])?;
    rest.first_chunk().map(|hash| u64::from_be_bytes(*hash))
}

/// The key of what is derived of a collection's rows.
#[must_use]
pub fn collection_key(place: Place, key: &[u8]) -> Vec<u8> {
    let mut bytes = rows_of_key(place, key);
    bytes[0] = b'c';
    bytes
}

/// The range of storage keys of the members of a sorted set in their order.
#[must_use]
pub fn ranks_of_key(place: Place, key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut start = rows_of_key(place, key);
    start[0] = b'z';
    let end = end_of(&start);
    (start, end)
}

/// The key that stands for a member of a sorted set in their order: by score, then by its bytes, which must be no more than [`LONGEST_INLINE`].
#[must_use]
pub fn rank_key(place: Place, key: &[u8], score: Score, member: &[u8]) -> Vec<u8> {
    let mut bytes = ranks_of_key(place, key).0;
    bytes.extend(ordered(score).to_be_bytes());
    bytes.extend(member);
    bytes
}

/// The member that such a key stands for, from the start of its set's range.
#[must_use]
pub fn ranked_member(rank_key: &[u8], start: &[u8]) -> Option<Bytes> {
    rank_key.strip_prefix(start)?.get(8..).map(Bytes::copy_from_slice)
}

/// Numbers in the order of scores; zero and minus zero have the same.
fn ordered(score: Score) -> u64 {
    let bits = (score.value() + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The ranges of all that is derived of collections in a partition.
#[must_use]
pub fn derived_ranges(partition: Partition) -> [(Vec<u8>, Vec<u8>); 2] {
    [b'c', b'z'].map(|tag| {
        let mut start = vec![tag];
        start.extend(partition.0.to_be_bytes());
        let end = end_of(&start);
        (start, end)
    })
}

/// Whether rows of a kind lie in the order of their elements' hashes.
pub(super) fn lies_by_hash(kind: Kind) -> bool {
    matches!(kind, Kind::Member | Kind::Field | Kind::Score)
}

/// The storage key of a row.
#[must_use]
pub fn row_key(place: Place, address: &RowAddress) -> Vec<u8> {
    let mut bytes = rows_of_key(place, &address.key);
    bytes.push(address.kind as u8);
    if lies_by_hash(address.kind) {
        bytes.extend(key_hash(&address.element).to_be_bytes());
    }
    if address.kind == Kind::Item {
        bytes.extend_from_slice(&address.element);
    } else {
        put_component(&mut bytes, &address.element);
    }
    bytes
}

/// The first storage key after all that begin with `prefix`.
#[must_use]
pub fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// The range of storage keys of all rows of a partition.
#[must_use]
pub fn partition_range(partition: Partition) -> (Vec<u8>, Vec<u8>) {
    let mut start = vec![b'r'];
    start.extend(partition.0.to_be_bytes());
    let end = end_of(&start);
    (start, end)
}

/// The range of storage keys of all rows of one leaf of a partition's tree.
#[must_use]
pub fn leaf_range(partition: Partition, leaf: usize) -> (Vec<u8>, Vec<u8>) {
    let bound = |leaf: usize| {
        let mut bytes = vec![b'r'];
        bytes.extend(partition.0.to_be_bytes());
        bytes.extend(((leaf as u64) << 54).to_be_bytes());
        bytes
    };
    let end = if leaf + 1 < LEAVES { bound(leaf + 1) } else { partition_range(partition).1 };
    (bound(leaf), end)
}

/// The partition that a row's storage key lies in.
#[must_use]
pub fn partition_of(row_key: &[u8]) -> Partition {
    Partition(row_key.get(1..).and_then(<[u8]>::first_chunk).map_or(0, |first| u16::from_be_bytes(*first)))
}

/// The leaf that a row's storage key lies in.
#[must_use]
pub fn leaf_of(row_key: &[u8]) -> usize {
    let mut position = [0; 8];
    if let Some(bytes) = row_key.get(3..PLACE_LENGTH) {
        position.copy_from_slice(bytes);
    }
    usize::try_from(u64::from_be_bytes(position) >> 54).unwrap_or(0)
}

fn checksum(row_key: &[u8], content: &[u8]) -> [u8; CHECKSUM] {
    xxh3_64_with_seed(content, xxh3_64(row_key)).to_be_bytes()
}

/// The stored bytes of a row under its storage key, from the canonical bytes of its content.
#[must_use]
pub fn row_value(row_key: &[u8], address: &RowAddress, content: &[u8]) -> Vec<u8> {
    let long_key = address.key.len() > LONGEST_INLINE;
    let long_element = address.element.len() > LONGEST_INLINE && address.kind != Kind::Item;
    let mut bytes = Vec::with_capacity(1 + content.len() + CHECKSUM);
    bytes.push(if long_key { KEY_IN_VALUE } else { 0 } | if long_element { ELEMENT_IN_VALUE } else { 0 });
    for component in [(long_key, &address.key), (long_element, &address.element)] {
        if let (true, component) = component {
            bytes.extend(u32::try_from(component.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(component);
        }
    }
    bytes.extend_from_slice(content);
    let checksum = checksum(row_key, &bytes);
    bytes.extend(checksum);
    bytes
}

/// Splits a stored row into its address and the canonical bytes of its content.
///
/// # Errors
/// Where key or value are not what [`row_key`] and [`row_value`] made.
pub fn parse_row(row_key: &[u8], value: &Bytes) -> Result<(RowAddress, Bytes), Damaged> {
    let damaged = |what: &str| Damaged(format!("row {}: {what}", hex(row_key)));
    let (checked, sum) = value.split_last_chunk::<CHECKSUM>().ok_or_else(|| damaged("cut short"))?;
    if checksum(row_key, checked) != *sum {
        return Err(damaged("it does not match its checksum"));
    }
    let mut value = value.slice(..checked.len());
    let flags = *value.first().ok_or_else(|| damaged("no content"))?;
    let mut content = value.split_off(1);
    let mut long = |flag: u8| -> Result<Option<Bytes>, Damaged> {
        if flags & flag == 0 {
            return Ok(None);
        }
        let length = content.get(..4).and_then(|length| <[u8; 4]>::try_from(length).ok()).map(u32::from_be_bytes);
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(|| damaged("no length"))?;
        if content.len() < 4 + length {
            return Err(damaged("cut short"));
        }
        let mut component = content.split_to(4 + length);
        Ok(Some(component.split_off(4)))
    };
    let (long_key, long_element) = (long(KEY_IN_VALUE)?, long(ELEMENT_IN_VALUE)?);
    let rest = row_key.get(PLACE_LENGTH..).ok_or_else(|| damaged("key cut short"))?;
    let (key, rest) = take_component(rest, long_key).ok_or_else(|| damaged("its key is not the one it was stored under"))?;
    let (kind, rest) = rest.split_first().ok_or_else(|| damaged("no kind"))?;
    let kind = Kind::of(*kind).ok_or_else(|| damaged("unknown kind"))?;
    let (hash, rest) = if lies_by_hash(kind) {
        let (hash, rest) = rest.split_first_chunk().ok_or_else(|| damaged("key cut short"))?;
        (Some(u64::from_be_bytes(*hash)), rest)
    } else {
        (None, rest)
    };
    let (element, rest) = if kind == Kind::Item && long_element.is_none() {
        (Bytes::copy_from_slice(rest), &[][..])
    } else {
        take_component(rest, long_element).ok_or_else(|| damaged("its element is not the one it was stored under"))?
    };
    if !rest.is_empty() || hash.is_some_and(|hash| hash != key_hash(&element)) {
        return Err(damaged("its key is not the one of its element"));
    }
    Ok((RowAddress { key, kind, element }, content))
}

/// A stored row: its address, its content, and the canonical bytes of that.
///
/// # Errors
/// Where the row is not what was written under this key.
pub fn read_row(row_key: &[u8], value: &Bytes) -> Result<(RowAddress, Row, Bytes), Damaged> {
    let damaged = |why: &dyn std::fmt::Display| Damaged(format!("row {}: {why}", hex(row_key)));
    // Nothing is changed here, so a panic leaves nothing behind.
    caught(|| {
        let (address, content) = parse_row(row_key, value)?;
        let row = encode::row_from_bytes(&content).map_err(|error| damaged(&error))?;
        Ok((address, row, content))
    })
    .unwrap_or_else(|panicked| Err(damaged(&panicked)))
}

/// Takes one component off a storage key: as it stands there, or in full from the value if its hash fits.
pub(super) fn take_component(bytes: &[u8], full: Option<Bytes>) -> Option<(Bytes, &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    let length = u16::from_be_bytes(length.try_into().ok()?);
    if length == HASHED {
        let (hash, rest) = rest.split_at_checked(32)?;
        let full = full?;
        return (blake3::hash(&full).as_bytes() == hash).then_some((full, rest));
    }
    let (component, rest) = rest.split_at_checked(usize::from(length))?;
    full.is_none().then(|| (Bytes::copy_from_slice(component), rest))
}

/// The key of a partition's checkpoint.
#[must_use]
pub fn checkpoint_key(partition: Partition) -> Vec<u8> {
    let mut key = vec![b'p'];
    key.extend(partition.0.to_be_bytes());
    key
}

/// The key of a batch's journal record.
#[must_use]
pub fn journal_key(number: u64) -> Vec<u8> {
    let mut key = vec![b'j'];
    key.extend(number.to_be_bytes());
    key
}

/// The key of a hint.
#[must_use]
pub fn hint_key(home: PeerId, number: u64) -> Vec<u8> {
    let mut key = hints_of(home);
    key.extend(number.to_be_bytes());
    key
}

/// The start of every hint for a peer.
#[must_use]
pub fn hints_of(home: PeerId) -> Vec<u8> {
    let mut key = vec![b'h'];
    key.extend(home.0);
    key
}

/// The peer that a hint is for, and its number.
#[must_use]
pub fn parse_hint_key(key: &[u8]) -> Option<(PeerId, u64)> {
    let rest = key.strip_prefix(b"h")?;
    let (home, number) = rest.split_at_checked(32)?;
    Some((PeerId(home.try_into().ok()?), u64::from_be_bytes(number.try_into().ok()?)))
}

/// The key of the index entry of a row in which a decision ends at `end_ms`, in milliseconds since 1970, and none earlier.
#[must_use]
pub fn ending_key(end_ms: u64, row_key: &[u8]) -> Vec<u8> {
    let mut key = vec![b'x'];
    key.extend(end_ms.to_be_bytes());
    key.extend(row_key);
    key
}

/// The end that an index entry names, and the storage key of its row.
#[must_use]
pub fn parse_ending_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (end_ms, row_key) = key.strip_prefix(b"x")?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*end_ms), row_key))
}

/// The key of a named record: settings, members.
#[must_use]
pub fn named_key(name: &str) -> Vec<u8> {
    let mut key = vec![b'm'];
    key.extend(name.as_bytes());
    key
}

/// Bytes as people read them in a log.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().take(64).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::crdt::delta::{Entry, Payload, Row};
    use crate::crdt::dot::Dot;
    use crate::crdt::encode;
    use crate::types::{Actor, Timestamp};

    fn row() -> Row {
        let entry = Entry { timestamp: Timestamp(9), decision: None, field_decision: None, payload: Payload::Present };
        BTreeMap::from([(Dot { actor: Actor(1), counter: 1 }, entry)])
    }

    #[test]
    fn short_and_long_addresses_survive() {
        for (key, element) in [(0, 0), (5, 5), (LONGEST_INLINE, LONGEST_INLINE), (LONGEST_INLINE + 1, 3), (70_000, 70_000)] {
            let address = RowAddress { key: vec![1; key].into(), kind: Kind::Member, element: vec![2; element].into() };
            let place = Place::of(&address.key, 256);
            let stored = row_key(place, &address);
            assert!(stored.len() <= crate::env::storage::MAX_STORAGE_KEY);
            assert_eq!(leaf_of(&stored), place.leaf());
            let (start, end) = leaf_range(place.partition, place.leaf());
            assert!(start <= stored && stored < end);
            let (parsed, content) = parse_row(&stored, &row_value(&stored, &address, &encode::row_to_bytes(&row())).into()).unwrap();
            assert_eq!(parsed, address);
            assert_eq!(encode::row_from_bytes(&content).unwrap(), row());
        }
    }

    #[test]
    fn items_lie_in_the_order_of_their_positions() {
        let address = |element: &'static [u8]| RowAddress { key: "k".into(), kind: Kind::Item, element: Bytes::from_static(element) };
        let place = Place::of(b"k", 256);
        let keys = [&b"\x01"[..], b"\x01\x00", b"\x01\x05", b"\x02"].map(|element| row_key(place, &address(element)));
        assert!(keys.is_sorted());
        let item = address(b"\x01\x05");
        let stored = row_key(place, &item);
        assert_eq!(parse_row(&stored, &row_value(&stored, &item, &encode::row_to_bytes(&row())).into()).unwrap().0, item);
    }

    #[test]
    fn a_row_stored_under_another_key_is_damaged() {
        let address = RowAddress { key: vec![1; 2000].into(), kind: Kind::Member, element: Bytes::new() };
        let other = RowAddress { key: vec![3; 2000].into(), ..address.clone() };
        let place = Place::of(&address.key, 256);
        let stored_under = |row_key: &[u8]| parse_row(row_key, &row_value(row_key, &address, &encode::row_to_bytes(&row())).into());
        assert!(stored_under(&row_key(place, &address)).is_ok());
        assert!(stored_under(&row_key(place, &other)).is_err() && stored_under(&row_key(place, &address)[..20]).is_err());
        assert!(parse_row(&row_key(place, &address), &Bytes::new()).is_err());
    }

    #[test]
    fn no_change_of_a_stored_row_goes_unnoticed() {
        let address = RowAddress::member(&Bytes::from_static(b"key"), &Bytes::from_static(b"member"));
        let row_key = row_key(Place::of(&address.key, 256), &address);
        let value = row_value(&row_key, &address, &encode::row_to_bytes(&row()));
        for place in 0..value.len() {
            assert!(parse_row(&row_key, &Bytes::copy_from_slice(&value[..place])).is_err());
            for bit in 0..8 {
                let mut changed = value.clone();
                changed[place] ^= 1 << bit;
                assert!(parse_row(&row_key, &changed.into()).is_err(), "bit {bit} of byte {place}");
            }
        }
        let elsewhere = [&row_key[..], b"s"].concat();
        assert!(parse_row(&elsewhere, &value.into()).is_err());
    }

    #[test]
    fn the_end_of_a_prefix_comes_after_all_that_begin_with_it() {
        assert_eq!(end_of(&[1, 2]), vec![1, 3]);
        assert_eq!(end_of(&[1, 0xff]), vec![2]);
        assert!(partition_range(Partition(u16::MAX)).1 > partition_range(Partition(u16::MAX)).0);
    }
}
