//! What a key shows as a whole, free of dots: RENAME and COPY read it here and write it there, and what a command computes from several keys is one.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::length::longest_of;
use super::score::Score;

/// About what an element costs beside its bytes, in a delta and in the frame that asks for it.
const ELEMENT_BYTES: usize = 96;

/// What a key shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// A string with its siblings, the one that shows first. A counter is its sum.
    String(Vec<Bytes>),
    /// The members of a set.
    Set(Vec<Bytes>),
    /// The fields of a hash with the values that show.
    Hash(Vec<Field>),
    /// The members of a sorted set with their scores.
    SortedSet(Vec<(Bytes, Score)>),
    /// The items of a list, from the front.
    List(Vec<Bytes>),
    /// The registers of a HyperLogLog, a byte each.
    HyperLogLog(Bytes),
}

/// A field of a hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: Bytes,
    /// The value that shows.
    pub value: Bytes,
    /// When it expires by itself, in milliseconds since 1970; `None`: with its key.
    pub expires_at_ms: Option<u64>,
}

impl Content {
    /// How many elements it has: a string and a HyperLogLog have one.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::String(_) | Self::HyperLogLog(_) => 1,
            Self::Set(elements) | Self::List(elements) => elements.len(),
            Self::Hash(fields) => fields.len(),
            Self::SortedSet(members) => members.len(),
        }
    }

    /// Whether it is nothing: a key has no empty collection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of the longest element, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::String(elements) | Self::Set(elements) | Self::List(elements) => longest_of(elements),
            Self::Hash(fields) => longest_of(fields.iter().flat_map(|field| [&field.name, &field.value])),
            Self::SortedSet(members) => longest_of(members.iter().map(|(member, _)| member)),
            Self::HyperLogLog(_) => 0,
        }
    }

    /// About how many bytes it takes in a delta.
    #[must_use]
    pub fn size(&self) -> usize {
        let bytes: usize = match self {
            Self::String(elements) | Self::Set(elements) | Self::List(elements) => elements.iter().map(Bytes::len).sum(),
            Self::Hash(fields) => fields.iter().map(|field| field.name.len() + field.value.len()).sum(),
            Self::SortedSet(members) => members.iter().map(|(member, _)| member.len()).sum(),
            Self::HyperLogLog(registers) => registers.len() * ELEMENT_BYTES,
        };
        bytes + self.len() * ELEMENT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_counts_every_element() {
        assert!(Content::Set(vec![Bytes::from_static(b"x"); 10]).size() > 10 * ELEMENT_BYTES);
        assert!(Content::Set(Vec::new()).is_empty() && !Content::HyperLogLog(Bytes::new()).is_empty());
        assert_eq!(Content::List(vec![Bytes::from_static(b"abc")]).longest(), 3);
    }
}
