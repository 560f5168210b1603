//! Small collections that Redis keeps, and writes, in one piece.
//!
//! ```text
//! listpack   bytes in all, 4 │ entries, 2 │ entry: head, content, its length backwards …           │ 255
//! ziplist    bytes in all, 4 │ last, 4 │ entries, 2 │ entry: length of the one before, head, content … │ 255
//! integers   bytes of each, 4 │ how many, 4 │ integer …
//! ```
//!
//! The lengths backwards only serve those who walk that way, and are passed over. 65,535 entries means: count them.

use bytes::Bytes;

use super::DumpError;
use super::budget::Budget;
use super::reader::{Reader, text};

/// What ends a listpack or ziplist.
const END: u8 = 255;
/// A number of entries that is not known.
const UNCOUNTED: u16 = u16::MAX;

/// The elements of a listpack, integers as the strings that they stand for.
pub(super) fn listpack(packed: Bytes, budget: &mut Budget) -> Result<Vec<Bytes>, DumpError> {
    let length = packed.len();
    let mut reader = Reader::new(packed);
    check_length(reader.array()?, length)?;
    let count = u16::from_le_bytes(reader.array()?);
    entries(&mut reader, count, budget, |reader, first| {
        let before = reader.left() + 1;
        let element = listpack_element(reader, first)?;
        reader.take(backwards(before - reader.left()))?;
        Ok(element)
    })
}

/// The elements of a ziplist, integers as the strings that they stand for.
pub(super) fn ziplist(packed: Bytes, budget: &mut Budget) -> Result<Vec<Bytes>, DumpError> {
    let length = packed.len();
    let mut reader = Reader::new(packed);
    check_length(reader.array()?, length)?;
    reader.take(4)?;
    let count = u16::from_le_bytes(reader.array()?);
    entries(&mut reader, count, budget, |reader, length_before| {
        if length_before == 254 {
            reader.take(4)?;
        }
        ziplist_element(reader)
    })
}

/// The members of a set of integers.
pub(super) fn integers(packed: Bytes, budget: &mut Budget) -> Result<Vec<Bytes>, DumpError> {
    let mut reader = Reader::new(packed);
    let (width, count) = (u32::from_le_bytes(reader.array()?), u32::from_le_bytes(reader.array()?));
    let mut members = Vec::new();
    for _ in 0..count {
        let number = match width {
            2 => i64::from(i16::from_le_bytes(reader.array()?)),
            4 => i64::from(i32::from_le_bytes(reader.array()?)),
            8 => i64::from_le_bytes(reader.array()?),
            _ => return Err(DumpError::Malformed),
        };
        keep(&mut members, text(number), budget)?;
    }
    if reader.left() > 0 { Err(DumpError::Malformed) } else { Ok(members) }
}

fn check_length(told: [u8; 4], length: usize) -> Result<(), DumpError> {
    if usize::try_from(u32::from_le_bytes(told)) == Ok(length) { Ok(()) } else { Err(DumpError::Malformed) }
}

fn keep(elements: &mut Vec<Bytes>, element: Bytes, budget: &mut Budget) -> Result<(), DumpError> {
    budget.element(element.len())?;
    elements.push(element);
    Ok(())
}

/// Entries up to the end, each read from behind its first byte.
fn entries(
    reader: &mut Reader,
    count: u16,
    budget: &mut Budget,
    entry: fn(&mut Reader, u8) -> Result<Bytes, DumpError>,
) -> Result<Vec<Bytes>, DumpError> {
    let mut elements = Vec::new();
    loop {
        match reader.byte()? {
            END => break,
            first => keep(&mut elements, entry(reader, first)?, budget)?,
        }
    }
    let is_counted = count == UNCOUNTED || usize::from(count) == elements.len();
    if is_counted && reader.left() == 0 { Ok(elements) } else { Err(DumpError::Malformed) }
}

fn listpack_element(reader: &mut Reader, first: u8) -> Result<Bytes, DumpError> {
    let low = |bits: u32| u16::from(first & ((1 << bits) - 1));
    Ok(match first {
        0..0x80 => text(i64::from(first)),
        0x80..0xc0 => reader.take(usize::from(low(6)))?,
        0xc0..0xe0 => {
            let number = (low(5) << 8 | u16::from(reader.byte()?)) << 3;
            // The sign is the 13th bit.
            text(i64::from(i16::from_be_bytes(number.to_be_bytes()) >> 3))
        }
        0xe0..0xf0 => {
            let length = low(4) << 8 | u16::from(reader.byte()?);
            reader.take(usize::from(length))?
        }
        0xf0 => {
            let length = u32::from_le_bytes(reader.array()?);
            reader.take(usize::try_from(length).map_err(|_| DumpError::Malformed)?)?
        }
        0xf1 => text(i64::from(i16::from_le_bytes(reader.array()?))),
        0xf2 => text(of_24_bits(reader.array()?)),
        0xf3 => text(i64::from(i32::from_le_bytes(reader.array()?))),
        0xf4 => text(i64::from_le_bytes(reader.array()?)),
        _ => return Err(DumpError::Malformed),
    })
}

/// How many bytes the length of an entry takes behind it, 7 bits each.
fn backwards(length: usize) -> usize {
    match length {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        2_097_152..268_435_456 => 4,
        _ => 5,
    }
}

fn ziplist_element(reader: &mut Reader) -> Result<Bytes, DumpError> {
    let first = reader.byte()?;
    Ok(match first {
        0..0x40 => reader.take(usize::from(first))?,
        0x40..0x80 => {
            let length = u16::from_be_bytes([first & 0x3f, reader.byte()?]);
            reader.take(usize::from(length))?
        }
        0x80 => {
            let length = u32::from_be_bytes(reader.array()?);
            reader.take(usize::try_from(length).map_err(|_| DumpError::Malformed)?)?
        }
        0xc0 => text(i64::from(i16::from_le_bytes(reader.array()?))),
        0xd0 => text(i64::from(i32::from_le_bytes(reader.array()?))),
        0xe0 => text(i64::from_le_bytes(reader.array()?)),
        0xf0 => text(of_24_bits(reader.array()?)),
        0xfe => text(i64::from(i8::from_le_bytes(reader.array()?))),
        0xf1..=0xfd => text(i64::from(first & 0xf) - 1),
        _ => return Err(DumpError::Malformed),
    })
}

fn of_24_bits([low, middle, high]: [u8; 3]) -> i64 {
    i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
}
