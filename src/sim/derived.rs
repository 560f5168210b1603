//! What is derived of rows on a disk, against the rows themselves.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::storage::SimDisk;
use crate::replica::collection::{Collection, Deriving};
use crate::replica::layout;
use crate::types::Place;

/// Every collection's record and every rank on a disk says what the rows say, and there are no others.
///
/// # Errors
/// The first that does not, in words.
pub fn check(disk: &SimDisk, partitions: u16) -> Result<(), String> {
    let mut deriving = Deriving::default();
    let mut damaged = None;
    disk.visit(b"r", b"s", &mut |row_key, value| match layout::read_row(row_key, &Bytes::copy_from_slice(value)) {
        Ok((address, row, content)) => {
            deriving.take_in(Place::of(&address.key, partitions), &address, &row, &content);
            ControlFlow::Continue(())
        }
        Err(error) => {
            damaged = Some(error.to_string());
            ControlFlow::Break(())
        }
    });
    if let Some(damaged) = damaged {
        return Err(damaged);
    }
    let mut expected: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    expected.extend(deriving.finish().changes.into_iter().filter_map(|(key, value)| Some((key, value?))));
    let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for tag in [b"c", b"z"] {
        disk.visit(tag, &[tag[0] + 1], &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        });
    }
    for (key, value) in &expected {
        let Some(told) = found.remove(key) else { return Err(format!("{} is lacking", layout::hex(key))) };
        if key.starts_with(b"c") {
            let read = |bytes: &[u8]| Collection::from_bytes(&Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string());
            let (so, told) = (read(value)?, read(&told)?);
            if !so.agrees_with(&told) {
                return Err(format!("of {} is told {told:?}, and it is {so:?}", layout::hex(key)));
            }
        } else if *value != told {
            return Err(format!("the rank {} has another score", layout::hex(key)));
        }
    }
    found.keys().next().map_or(Ok(()), |key| Err(format!("{} stands for nothing", layout::hex(key))))
}
