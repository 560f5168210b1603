//! The plain encoding of each type: a count, and the elements one after the other.

use bytes::{BufMut, Bytes};

use super::types;
use crate::crdt::content::{Content, Field};
use crate::crdt::hyperloglog::Registers;
use crate::server::resp::integer::parse_integer;

/// The longest string that may be an integer of 32 bits, in bytes.
const LONGEST_INTEGER: usize = 11;

/// An object behind its type, and whether fields of it have ends.
pub(super) fn object(content: &Content) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match content {
        Content::String(values) => {
            bytes.put_u8(types::STRING);
            string(&mut bytes, values.first().map_or(b"", Bytes::as_ref));
        }
        Content::HyperLogLog(registers) => {
            bytes.put_u8(types::STRING);
            string(&mut bytes, &Registers::from_bytes(registers).to_dense());
        }
        Content::List(items) => elements(&mut bytes, types::LIST, items),
        Content::Set(members) => elements(&mut bytes, types::SET, members),
        Content::SortedSet(members) => {
            bytes.put_u8(types::SORTED_SET);
            length(&mut bytes, members.len() as u64);
            for (member, score) in members {
                string(&mut bytes, member);
                bytes.put_u64_le(score.to_bits());
            }
        }
        Content::Hash(all) => return (fields(bytes, all), all.iter().any(|field| field.expires_at_ms.is_some())),
    }
    (bytes, false)
}

fn elements(bytes: &mut Vec<u8>, data_type: u8, elements: &[Bytes]) {
    bytes.put_u8(data_type);
    length(bytes, elements.len() as u64);
    elements.iter().for_each(|element| string(bytes, element));
}

/// Fields. Where some have ends, each stands behind its own: the first one is 1, none is 0.
fn fields(mut bytes: Vec<u8>, fields: &[Field]) -> Vec<u8> {
    let first_end = fields.iter().filter_map(|field| field.expires_at_ms).min();
    match first_end {
        None => bytes.put_u8(types::HASH),
        Some(first_end) => {
            bytes.put_u8(types::HASH_WITH_ENDS);
            bytes.put_u64_le(first_end);
        }
    }
    length(&mut bytes, fields.len() as u64);
    for Field { name, value, expires_at_ms } in fields {
        if let Some(first_end) = first_end {
            length(&mut bytes, expires_at_ms.map_or(0, |end| end - first_end + 1));
        }
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// A length, as short as may be.
fn length(bytes: &mut Vec<u8>, length: u64) {
    match (u8::try_from(length), u16::try_from(length), u32::try_from(length)) {
        (Ok(length @ 0..0x40), ..) => bytes.put_u8(length),
        (_, Ok(length @ 0..0x4000), _) => bytes.put_u16(0x4000 | length),
        (.., Ok(length)) => {
            bytes.put_u8(0x80);
            bytes.put_u32(length);
        }
        _ => {
            bytes.put_u8(0x81);
            bytes.put_u64(length);
        }
    }
}

/// A string; an integer of up to 32 bits as that.
fn string(bytes: &mut Vec<u8>, string: &[u8]) {
    let number = if string.len() <= LONGEST_INTEGER { parse_integer(string).and_then(|number| i32::try_from(number).ok()) } else { None };
    match number.map(|number| (i8::try_from(number), i16::try_from(number), number)) {
        None => {
            length(bytes, string.len() as u64);
            bytes.put_slice(string);
        }
        Some((Ok(number), ..)) => {
            bytes.put_u8(0xc0);
            bytes.put_i8(number);
        }
        Some((_, Ok(number), _)) => {
            bytes.put_u8(0xc1);
            bytes.put_i16_le(number);
        }
        Some((.., number)) => {
            bytes.put_u8(0xc2);
            bytes.put_i32_le(number);
        }
    }
}
