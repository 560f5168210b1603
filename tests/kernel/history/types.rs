//! What a history is about: one type, or all of them side by side.

use std::ops::Range;

use bytes::Bytes;

use super::{BITS, COUNTER, HASH, KEYS, LIST, LOG, SCORES, SET};

/// The commands that a history is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Type {
    String,
    Counter,
    Set,
    Hash,
    SortedSet,
    List,
    HyperLogLog,
    Bitmap,
    All,
}

impl Type {
    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Counter => "counter",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::SortedSet => "sorted-set",
            Self::List => "list",
            Self::HyperLogLog => "hyperloglog",
            Self::Bitmap => "bitmap",
            Self::All => "all",
        }
    }

    /// The keys that its commands are on.
    pub(crate) fn keys(self) -> Vec<Bytes> {
        match self {
            Self::String | Self::Counter => vec![COUNTER],
            Self::Set => vec![SET],
            Self::Hash => vec![HASH],
            Self::SortedSet => vec![SCORES],
            Self::List => vec![LIST],
            Self::HyperLogLog => vec![LOG],
            Self::Bitmap => vec![BITS],
            Self::All => KEYS.to_vec(),
        }
    }

    /// Its commands in families, of each of which there are to be as many.
    pub(crate) fn families(self) -> &'static [Range<u32>] {
        // SET, DEL, GETDEL, EXPIRE, PERSIST and SETEX of the counter; the same with INCR; SADD, SREM and so on; last what replaces a whole key
        // and what removes it as it was read.
        match self {
            Self::String => &[0..3, 9..13, 54..55, 61..62],
            Self::Counter => &[0..3, 9..19, 14..19, 54..55, 61..62],
            Self::Set => &[3..9, 13..14, 19..20, 55..56, 62..63],
            Self::Hash => &[20..28, 20..28, 56..57, 63..64],
            Self::SortedSet => &[28..36, 28..36, 57..58, 64..65],
            Self::List => &[36..44, 48..50, 58..59, 65..66, 68..72],
            Self::HyperLogLog => &[44..48, 44..48, 59..60, 66..67],
            Self::Bitmap => &[50..54, 50..54, 60..61, 67..68],
            Self::All => &[0..20, 20..36, 36..54, 54..72],
        }
    }
}
