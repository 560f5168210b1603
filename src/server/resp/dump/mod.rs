//! What DUMP gives out and RESTORE takes: one key in the serialization of Redis, so that data moves from a Redis to a peer and back.
//!
//! ```text
//! type, 1 byte │ object │ version, 2 bytes │ CRC64 of all before, 8 bytes          (numbers from the least byte)
//! ```
//!
//! Written are the plain encodings, an element after the other: every Redis since 7.0 takes them, and packs them itself as its settings say. Read
//! are all that Redis 4.0 to 7.4 write: listpacks, ziplists, sets of integers, quicklists, and strings that LZF made shorter. Only a hash
//! with fields that end by themselves needs what Redis has since 7.4, and says so by its version: an older one refuses it rather than forget the ends.
//!
//! ```text
//! "v" of 1 byte       00 01 76   0a 00   91 08 ce b2 19 38 8a ce
//! ```
//!
//! Nothing here is larger in memory than what arrived, but for what LZF unpacks and what stands around each element; both are counted while they
//! come to be ([`Budget`]).
//!
//! Source: `rdb.c`, `listpack.c`, `ziplist.c` and `intset.c` of Redis.

mod budget;
mod lzf;
mod objects;
mod packed;
mod reader;
mod writer;

use bytes::{BufMut, Bytes};
use crc::{CRC_64_REDIS, Crc, Table};

use self::budget::Budget;
use self::reader::Reader;
use crate::crdt::content::Content;

/// The version of what every Redis since 7.0 takes.
const VERSION: u16 = 10;
/// The version of what knows the ends of fields, and the latest that is read.
const VERSION_WITH_ENDS: u16 = 12;
/// Bytes of the version.
const VERSION_BYTES: usize = 2;
/// Bytes of the checksum.
const CHECKSUM_BYTES: usize = 8;

static CHECKSUM: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_REDIS);

/// The types of objects by their first byte, as Redis numbers them.
mod types {
    pub(super) const STRING: u8 = 0;
    pub(super) const LIST: u8 = 1;
    pub(super) const SET: u8 = 2;
    pub(super) const HASH: u8 = 4;
    pub(super) const SORTED_SET: u8 = 5;
    pub(super) const LIST_ZIPLIST: u8 = 10;
    pub(super) const SET_INTEGERS: u8 = 11;
    pub(super) const SORTED_SET_ZIPLIST: u8 = 12;
    pub(super) const HASH_ZIPLIST: u8 = 13;
    pub(super) const LIST_ZIPLISTS: u8 = 14;
    pub(super) const HASH_LISTPACK: u8 = 16;
    pub(super) const SORTED_SET_LISTPACK: u8 = 17;
    pub(super) const LIST_LISTPACKS: u8 = 18;
    pub(super) const SET_LISTPACK: u8 = 20;
    pub(super) const HASH_WITH_ENDS: u8 = 24;
    pub(super) const HASH_LISTPACK_WITH_ENDS: u8 = 25;
}

/// Why a payload was refused. The texts are those of Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DumpError {
    /// It does not end as a payload does, its version is later than what is known, or it was changed on its way.
    #[error("ERR DUMP payload version or checksum are wrong")]
    Foreign,
    /// It is whole and does not make sense.
    #[error("ERR Bad data format")]
    Malformed,
    /// It holds more than may be written to a key at once.
    #[error("TOOBIG what would be written to a key at once exceeds 24 MiB")]
    TooBig,
}

/// The payload of what a key shows. Of a string's siblings it holds the one that shows.
#[must_use]
pub fn serialize(content: &Content) -> Bytes {
    let (mut payload, has_ends) = writer::object(content);
    payload.put_u16_le(if has_ends { VERSION_WITH_ENDS } else { VERSION });
    payload.put_u64_le(CHECKSUM.checksum(&payload));
    payload.into()
}

/// What a payload holds; never nothing.
///
/// # Errors
/// Where the payload is none, or holds too much. What stands behind the object is ignored, as Redis does.
pub fn deserialize(payload: &Bytes) -> Result<Content, DumpError> {
    let end = payload.len().checked_sub(CHECKSUM_BYTES).ok_or(DumpError::Foreign)?;
    let (told, checksum) = payload.split_at(end);
    let (_, version) = told.split_last_chunk::<VERSION_BYTES>().ok_or(DumpError::Foreign)?;
    if u16::from_le_bytes(*version) > VERSION_WITH_ENDS || checksum != CHECKSUM.checksum(told).to_le_bytes() {
        return Err(DumpError::Foreign);
    }
    objects::read(&mut Reader::new(payload.slice(..end - VERSION_BYTES)), &mut Budget::default())
}

#[cfg(test)]
mod tests;
