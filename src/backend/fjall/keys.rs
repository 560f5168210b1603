//! How the keys of the seam lie in the keyspace, so that one key is left for this backend's own record.
//!
//! Keys that begin with `ff` get another `ff` in front. The order stays, and everything that begins with `ff 00` is ours:
//!
//! ```text
//! seam   …  fe 33   ff       ff 00
//! store  …  fe 33   ff ff    ff ff 00      and between fe… and ff ff… :  ff 00 = the number of the last commit
//! ```

use std::borrow::Cow;

use crate::env::storage::MAX_STORAGE_KEY;

/// The key under which each commit puts its number.
pub(super) const COMMIT_NUMBER: [u8; 2] = [0xff, 0x00];

/// The longest key in the keyspace.
pub(super) const MAX_STORED: usize = MAX_STORAGE_KEY + 1;

/// The key in the keyspace for a key of the seam.
pub(super) fn stored(key: Vec<u8>) -> Vec<u8> {
    match stored_ref(&key) {
        Cow::Borrowed(_) => key,
        Cow::Owned(key) => key,
    }
}

/// As [`stored`], for a key or bound that stays where it is.
pub(super) fn stored_ref(key: &[u8]) -> Cow<'_, [u8]> {
    if key.first() == Some(&0xff) { Cow::Owned([&[0xff], key].concat()) } else { Cow::Borrowed(key) }
}

/// A bound that may be longer than any key: cut where it can no longer make a difference, since fjall takes at most 64 KiB.
pub(super) fn bound(key: &[u8]) -> Cow<'_, [u8]> {
    stored_ref(key.get(..=MAX_STORAGE_KEY).unwrap_or(key))
}

/// The key of the seam for a key in the keyspace; `None` for this backend's own.
pub(super) fn seam(key: &[u8]) -> Option<&[u8]> {
    match key {
        [0xff, rest @ ..] => (rest.first() == Some(&0xff)).then_some(rest),
        key => Some(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_in_the_same_order_and_never_meet_ours() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for length in 1..=3 {
            for digits in 0..4usize.pow(length) {
                let digit = |place: u32| [0x00, 0x01, 0xfe, 0xff][digits / 4usize.pow(place) % 4];
                keys.push((0..length).map(digit).collect());
            }
        }
        keys.sort();
        let stored: Vec<Vec<u8>> = keys.iter().cloned().map(stored).collect();
        assert!(stored.is_sorted());
        for (key, stored) in keys.iter().zip(&stored) {
            assert_eq!(seam(stored), Some(key.as_slice()));
            assert!(!stored.starts_with(&COMMIT_NUMBER));
            assert_eq!(&*bound(key), stored);
        }
        assert_eq!(seam(&COMMIT_NUMBER), None);
    }

    #[test]
    fn a_bound_longer_than_any_key_still_parts_the_same_keys() {
        let long = vec![7; 100_000];
        let longest = vec![7; MAX_STORAGE_KEY];
        let above = [vec![7; MAX_STORAGE_KEY - 1], vec![8]].concat();
        assert!(bound(&long).len() <= MAX_STORED + 1);
        assert!(*stored(longest) < *bound(&long) && *bound(&long) < *stored(above));
    }
}
