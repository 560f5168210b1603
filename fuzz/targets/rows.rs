//! Bytes as they could stand on a damaged disk or come from a broken peer: refused, or exactly the one form of what was read.

use bytes::Bytes;
use ringtide::crdt::{encode, wire};
use ringtide::replica::lease::Lease;

/// The first byte chooses the format, the rest is read in it.
pub(crate) fn run(data: &[u8]) {
    let Some((format, rest)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    let again = match format % 6 {
        0 => encode::row_from_bytes(&bytes).map(|row| encode::row_to_bytes(&row)),
        1 => wire::rows_from_bytes(&bytes).map(|rows| wire::rows_to_bytes(&rows)),
        2 => encode::clock_from_bytes(&bytes).map(|clock| encode::clock_to_bytes(&clock)),
        3 => encode::causal_from_bytes(&bytes).map(|causal| encode::causal_to_bytes(&causal)),
        4 => encode::address_from_bytes(&bytes).map(|address| encode::address_to_bytes(&address)),
        _ => Lease::from_bytes(&bytes).map(|lease| lease.to_bytes()),
    };
    match again {
        Ok(again) => assert_eq!(again, bytes, "a second form of one value was taken"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
