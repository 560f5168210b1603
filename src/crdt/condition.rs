//! What commands on keys and on the fields of hashes may ask in the same words: when they take effect, and what becomes of the end.

use serde::{Deserialize, Serialize};

/// When an EXPIRE takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum ExpireCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only where the key has no expiry.
    NoExpiry,
    /// XX: only where the key has an expiry.
    HasExpiry,
    /// GT: only where the new time is later. A key without expiry never expires, so it counts as latest.
    Later,
    /// LT: only where the new time is earlier.
    Earlier,
    /// XX and LT: only where the key has an expiry and the new time is earlier.
    HasExpiryAndEarlier,
}

impl ExpireCondition {
    /// Whether a new end takes effect where there is this one, in milliseconds since 1970; `None`: never.
    pub(super) fn holds(self, at_ms: i64, until: Option<u64>) -> bool {
        let until = until.map(|end| i64::try_from(end).unwrap_or(i64::MAX));
        match self {
            Self::Always => true,
            Self::NoExpiry => until.is_none(),
            Self::HasExpiry => until.is_some(),
            Self::Later => until.is_some_and(|until| at_ms > until),
            Self::Earlier => until.is_none_or(|until| at_ms < until),
            Self::HasExpiryAndEarlier => until.is_some_and(|until| at_ms < until),
        }
    }
}

/// What a SET or GETEX does to the key's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SetExpiry {
    /// SET: the key no longer expires. GETEX: PERSIST.
    #[default]
    Clear,
    /// The expiry stays as it is.
    Keep,
    /// The key expires at this time, in milliseconds since 1970.
    At(i64),
}

/// When a SET takes place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum SetCondition {
    /// Always.
    #[default]
    Always,
    /// NX: only where the executing replica knows of no such key.
    Absent,
    /// XX: only where the executing replica has the key.
    Present,
}
