//! Which rows of a key a query needs: what a reader has to fetch before it can answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::kind::Kind;

/// Which rows of a key a query needs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Selection {
    /// Expiry, value, and for every other kind its first rows up to one that shows: enough to tell the type.
    Head,
    /// The head and the rows of these elements.
    Elements {
        /// The kind of their rows.
        kind: Kind,
        /// The elements.
        elements: Vec<Bytes>,
    },
    /// The head, and rows of one kind in the order of their elements' hashes.
    Hashed {
        /// The kind.
        kind: Kind,
        /// The first hash.
        from_hash: u64,
        /// How many rows at most.
        most: u32,
    },
    /// Every row.
    All,
}
