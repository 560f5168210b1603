//! Lengths of keys, values and elements, and their limits.

use bytes::Bytes;

use crate::config::{MAX_KEY, MAX_VALUE};

/// What of a command exceeds its limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooLong {
    /// The key: [`MAX_KEY`].
    Key,
    /// A value or element: [`MAX_VALUE`].
    Value,
}

/// Checks the limits of a command on one key: of the key itself, and of the longest value or element.
///
/// # Errors
/// Names what is too long.
pub fn check_lengths(key: &Bytes, longest: usize) -> Result<(), TooLong> {
    match () {
        () if key.len() > MAX_KEY => Err(TooLong::Key),
        () if longest > MAX_VALUE => Err(TooLong::Value),
        () => Ok(()),
    }
}

/// The length of the longest of some elements.
pub(super) fn longest_of<'a>(elements: impl IntoIterator<Item = &'a Bytes>) -> usize {
    elements.into_iter().map(Bytes::len).max().unwrap_or(0)
}
