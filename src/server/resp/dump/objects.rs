//! What the types of a payload hold.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::budget::Budget;
use super::reader::Reader;
use super::{DumpError, packed, types};
use crate::crdt::content::{Content, Field};
use crate::crdt::float::parse_double;
use crate::crdt::hyperloglog::Registers;
use crate::crdt::sorted_set::Score;
use crate::server::resp::integer::parse_integer;

/// A node of a quicklist that is one long element.
const PLAIN_NODE: u64 = 1;
/// A node of a quicklist that is a listpack.
const PACKED_NODE: u64 = 2;
/// The latest time at which a field may end, in milliseconds since 1970.
const LATEST_END_MS: u64 = 0xffff_ffff_ffff - 1;

/// Reads an object behind its type.
///
/// # Errors
/// Where it is none, is nothing, holds an element twice, or too much.
pub(super) fn read(reader: &mut Reader, budget: &mut Budget) -> Result<Content, DumpError> {
    let content = match reader.byte()? {
        types::STRING => string(element(reader, budget)?),
        types::LIST => Content::List(elements(reader, budget, 1)?),
        types::LIST_ZIPLIST => Content::List(packed::ziplist(reader.string(budget)?, budget)?),
        types::LIST_ZIPLISTS => Content::List(nodes(reader, budget, |reader, budget| packed::ziplist(reader.string(budget)?, budget))?),
        types::LIST_LISTPACKS => Content::List(nodes(reader, budget, node)?),
        types::SET => set(elements(reader, budget, 1)?)?,
        types::SET_INTEGERS => set(packed::integers(reader.string(budget)?, budget)?)?,
        types::SET_LISTPACK => set(packed::listpack(reader.string(budget)?, budget)?)?,
        types::HASH => hash(in_pairs(elements(reader, budget, 2)?)?)?,
        types::HASH_ZIPLIST => hash(in_pairs(packed::ziplist(reader.string(budget)?, budget)?)?)?,
        types::HASH_LISTPACK => hash(in_pairs(packed::listpack(reader.string(budget)?, budget)?)?)?,
        types::HASH_WITH_ENDS => hash(with_ends(reader, budget)?)?,
        types::HASH_LISTPACK_WITH_ENDS => hash(packed_with_ends(reader, budget)?)?,
        types::SORTED_SET => sorted_set(scored(reader, budget)?)?,
        types::SORTED_SET_ZIPLIST => sorted_set(with_scores(packed::ziplist(reader.string(budget)?, budget)?)?)?,
        types::SORTED_SET_LISTPACK => sorted_set(with_scores(packed::listpack(reader.string(budget)?, budget)?)?)?,
        _ => return Err(DumpError::Malformed),
    };
    if content.is_empty() { Err(DumpError::Malformed) } else { Ok(content) }
}

/// To Redis a HyperLogLog is a string that looks like one.
fn string(value: Bytes) -> Content {
    match Registers::of_string(&value) {
        Some(registers) => Content::HyperLogLog(registers.to_bytes()),
        None => Content::String(vec![value]),
    }
}

fn element(reader: &mut Reader, budget: &mut Budget) -> Result<Bytes, DumpError> {
    let element = reader.string(budget)?;
    budget.element(element.len())?;
    Ok(element)
}

/// A count, and so many elements, or so many times several.
fn elements(reader: &mut Reader, budget: &mut Budget, times: u64) -> Result<Vec<Bytes>, DumpError> {
    let count = reader.length()?.checked_mul(times).ok_or(DumpError::Malformed)?;
    (0..count).map(|_| element(reader, budget)).collect()
}

/// The nodes of a quicklist. One that is empty is passed over, as in Redis.
fn nodes(
    reader: &mut Reader,
    budget: &mut Budget,
    node: fn(&mut Reader, &mut Budget) -> Result<Vec<Bytes>, DumpError>,
) -> Result<Vec<Bytes>, DumpError> {
    let mut items = Vec::new();
    for _ in 0..reader.length()? {
        items.append(&mut node(reader, budget)?);
    }
    Ok(items)
}

fn node(reader: &mut Reader, budget: &mut Budget) -> Result<Vec<Bytes>, DumpError> {
    match reader.length()? {
        PLAIN_NODE => Ok(vec![element(reader, budget)?]),
        PACKED_NODE => packed::listpack(reader.string(budget)?, budget),
        _ => Err(DumpError::Malformed),
    }
}

/// Elements by two.
fn in_pairs(elements: Vec<Bytes>) -> Result<Vec<Field>, DumpError> {
    let (pairs, rest) = elements.as_chunks::<2>();
    let field = |[name, value]: &[Bytes; 2]| Field { name: name.clone(), value: value.clone(), expires_at_ms: None };
    if rest.is_empty() { Ok(pairs.iter().map(field).collect()) } else { Err(DumpError::Malformed) }
}

/// The end of a field, which 0 says it has not.
fn end(at_ms: u64) -> Result<Option<u64>, DumpError> {
    if at_ms > LATEST_END_MS { Err(DumpError::Malformed) } else { Ok((at_ms > 0).then_some(at_ms)) }
}

/// Fields with their ends, counted from the first one.
fn with_ends(reader: &mut Reader, budget: &mut Budget) -> Result<Vec<Field>, DumpError> {
    let first_end = u64::from_le_bytes(reader.array()?);
    let mut fields = Vec::new();
    for _ in 0..reader.length()? {
        let expires_at_ms = match reader.length()? {
            0 => None,
            later => end(first_end.checked_add(later - 1).ok_or(DumpError::Malformed)?)?,
        };
        let (name, value) = (element(reader, budget)?, element(reader, budget)?);
        fields.push(Field { name, value, expires_at_ms });
    }
    Ok(fields)
}

/// A listpack of names, values and ends, behind the first end.
fn packed_with_ends(reader: &mut Reader, budget: &mut Budget) -> Result<Vec<Field>, DumpError> {
    reader.array::<8>()?;
    let elements = packed::listpack(reader.string(budget)?, budget)?;
    let (triples, rest) = elements.as_chunks::<3>();
    let field = |[name, value, at_ms]: &[Bytes; 3]| {
        let at_ms = parse_integer(at_ms).and_then(|at_ms| u64::try_from(at_ms).ok()).ok_or(DumpError::Malformed)?;
        Ok(Field { name: name.clone(), value: value.clone(), expires_at_ms: end(at_ms)? })
    };
    if rest.is_empty() { triples.iter().map(field).collect() } else { Err(DumpError::Malformed) }
}

/// Members, each before the bits of its score.
fn scored(reader: &mut Reader, budget: &mut Budget) -> Result<Vec<(Bytes, Score)>, DumpError> {
    let count = reader.length()?;
    let member = |_| {
        let member = element(reader, budget)?;
        Ok((member, Score::from_bits(u64::from_le_bytes(reader.array()?)).ok_or(DumpError::Malformed)?))
    };
    (0..count).map(member).collect()
}

/// Members, each before its score in figures.
fn with_scores(elements: Vec<Bytes>) -> Result<Vec<(Bytes, Score)>, DumpError> {
    let (pairs, rest) = elements.as_chunks::<2>();
    let member = |[member, score]: &[Bytes; 2]| Ok((member.clone(), Score::new(parse_double(score).ok_or(DumpError::Malformed)?)));
    if rest.is_empty() { pairs.iter().map(member).collect() } else { Err(DumpError::Malformed) }
}

fn set(members: Vec<Bytes>) -> Result<Content, DumpError> {
    check_distinct(members.iter())?;
    Ok(Content::Set(members))
}

fn hash(fields: Vec<Field>) -> Result<Content, DumpError> {
    check_distinct(fields.iter().map(|field| &field.name))?;
    Ok(Content::Hash(fields))
}

fn sorted_set(members: Vec<(Bytes, Score)>) -> Result<Content, DumpError> {
    check_distinct(members.iter().map(|(member, _)| member))?;
    Ok(Content::SortedSet(members))
}

/// Whether no element comes twice.
fn check_distinct<'a>(elements: impl Iterator<Item = &'a Bytes>) -> Result<(), DumpError> {
    let mut met = BTreeSet::new();
    for element in elements {
        if !met.insert(element) {
            return Err(DumpError::Malformed);
        }
    }
    Ok(())
}
