//! Canonical, versioned bytes of the replicated state: what is stored, sent and hashed.
//!
//! Each value has one form (see [`super::codec`]): equal rows give equal bytes and equal digests, in whatever order they came to be. Decoding
//! checks all of it, the sizes against [`crate::config`], the memory that it takes against [`super::weight`], and reserves no more than for what
//! the bytes at hand have room for. Keys and values are slices of the bytes that were given, not copies.
//!
//! ```text
//! clock    actors, then for each: actor (8), ranges, then for each: counters skipped since the last range, counters held less one
//! dot      actor (8), counter
//! address  kind, key, element; kind + 128 and no key: the same key as in the address before
//! row      dots, then for each in order: dot, entry
//! entry    payload kind (+ 128 with a decision, + 64 with one on its field), timestamp (8), [decision], [decision], payload
//! ```
//!
//! A range is told by its distance from the one before, so ranges that overlap, adjoin or run backwards cannot even be written down:
//! `{a: 1..=3, 7..=7}` is `1 a 2 · 0 2 · 2 0` (skip none, hold 3; the 4 is skipped in any case, skip 5 and 6, hold 1).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::Bytes;
use num_bigint::BigInt;

use super::codec::{DecodeError, Reader, Writer};
use super::delta::{Causal, Delta, Pending, Replacement, Scope};
use super::dot::{Clock, Dot};
use super::kind::Kind;
use super::number::{MAX_MANTISSA, Number};
use super::position::Position;
use super::registers;
use super::row::{Decision, Entry, Payload, Row, RowAddress};
use super::score::Score;
use super::weight::{self, Scale};
use crate::config::{MAX_CLOCK_ACTORS, MAX_CLOCK_RANGES, MAX_KEY, MAX_ROW_ENTRIES, MAX_ROWS, MAX_VALUE};
use crate::types::{Actor, Digest, Timestamp};

/// The version of every format in this file, its first byte. A later version reads the former ones.
pub const VERSION: u8 = 1;

/// Added to the first byte of an address: its key is that of the address before.
const SAME_KEY: u8 = 0x80;
/// Added to the first byte of an entry: a decision on its key follows.
const WITH_DECISION: u8 = 0x80;
/// Added to the first byte of an entry: a decision on its field follows, behind one on its key.
const WITH_FIELD_DECISION: u8 = 0x40;

/// The bytes of a clock.
#[must_use]
pub fn clock_to_bytes(clock: &Clock) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION);
    write_clock(&mut writer, clock);
    writer.into_bytes()
}

/// The clock that these bytes hold.
///
/// # Errors
/// Where they are not the one form of a clock within the limits.
pub fn clock_from_bytes(bytes: &Bytes) -> Result<Clock, DecodeError> {
    whole(bytes, "clock", read_clock)
}

/// The bytes of what a replica has seen.
#[must_use]
pub fn causal_to_bytes(causal: &Causal) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION);
    write_clock(&mut writer, &causal.clock);
    writer.count(causal.pending.len());
    for (scope, clock) in &causal.pending {
        write_scope(&mut writer, scope);
        write_clock(&mut writer, clock);
    }
    writer.into_bytes()
}

/// What a replica has seen, from its bytes.
///
/// # Errors
/// Where they are not its one form within the limits.
pub fn causal_from_bytes(bytes: &Bytes) -> Result<Causal, DecodeError> {
    whole(bytes, "clock and pending", |reader| Ok(Causal { clock: read_clock(reader)?, pending: read_pending(reader)? }))
}

/// The bytes of a row.
#[must_use]
pub fn row_to_bytes(row: &Row) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION);
    write_row(&mut writer, row);
    writer.into_bytes()
}

/// The row that these bytes hold; its values are slices of them.
///
/// # Errors
/// Where they are not the one form of a row within the limits. An empty row has none: it is not stored.
pub fn row_from_bytes(bytes: &Bytes) -> Result<Row, DecodeError> {
    whole(bytes, "row", read_row)
}

/// The bytes of a delta.
#[must_use]
pub fn delta_to_bytes(delta: &Delta) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION);
    writer.count(delta.replaces.len());
    for replacement in &delta.replaces {
        write_scope(&mut writer, &replacement.scope);
        write_clock(&mut writer, &replacement.pending);
        writer.count(replacement.keeps.len());
        for dot in &replacement.keeps {
            write_dot(&mut writer, *dot);
        }
    }
    write_clock(&mut writer, &delta.seen);
    writer.count(delta.removes.len());
    let mut before = None;
    for (address, dot) in &delta.removes {
        write_address(&mut writer, address, &mut before);
        write_dot(&mut writer, *dot);
    }
    writer.count(delta.adds.len());
    for (address, dot, entry) in &delta.adds {
        write_address(&mut writer, address, &mut before);
        write_dot(&mut writer, *dot);
        write_entry(&mut writer, entry);
    }
    writer.into_bytes()
}

/// The delta that these bytes hold; its keys and values are slices of them.
///
/// # Errors
/// Where they are not the one form of a delta within the limits, or one dot stands for two entries.
pub fn delta_from_bytes(bytes: &Bytes) -> Result<Delta, DecodeError> {
    whole(bytes, "delta", |reader| {
        let mut scale = Scale::default();
        let replaces = many(reader, "replaced rows and keys", 4, |reader| {
            let scope = read_scope(reader)?;
            let pending = read_clock(reader)?;
            let replacement = Replacement { scope, pending, keeps: many(reader, "kept dots", 9, read_dot)? };
            scale.put(weight::of_replacement(&replacement))?;
            Ok(replacement)
        })?;
        let seen = read_clock(reader)?;
        let mut before = None;
        let removes = many(reader, "removed dots", 10, |reader| Ok((read_address(reader, &mut before)?, read_dot(reader)?)))?;
        let adds = many(reader, "added entries", 19, |reader| {
            let address = read_address(reader, &mut before)?;
            let dot = read_dot(reader)?;
            let entry = read_entry(reader, dot)?;
            check_kind(&address, &entry)?;
            Ok((address, dot, entry))
        })?;
        let mut dots: Vec<Dot> = adds.iter().map(|(_, dot, _)| *dot).collect();
        dots.sort_unstable();
        if dots.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DecodeError::Invalid("a delta adds two entries under one dot"));
        }
        Ok(Delta { replaces, seen, removes, adds })
    })
}

/// The bytes of an address.
#[must_use]
pub fn address_to_bytes(address: &RowAddress) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION);
    write_address(&mut writer, address, &mut None);
    writer.into_bytes()
}

/// The address that these bytes hold.
///
/// # Errors
/// Where they are not the one form of an address within the limits.
pub fn address_from_bytes(bytes: &Bytes) -> Result<RowAddress, DecodeError> {
    whole(bytes, "address", |reader| read_address(reader, &mut None))
}

/// What a row contributes to the digest of its leaf. An empty row contributes nothing.
#[must_use]
pub fn row_digest(address: &RowAddress, row: &Row) -> Digest {
    if row.is_empty() { Digest::default() } else { stored_row_digest(address, &row_to_bytes(row)) }
}

/// What a row contributes to the digest of its leaf, from the bytes of [`row_to_bytes`].
#[must_use]
pub fn stored_row_digest(address: &RowAddress, row_bytes: &[u8]) -> Digest {
    /// Keeps these hashes apart from every other use of BLAKE3, so that no value can be made to look like a row elsewhere.
    static KEY: LazyLock<[u8; 32]> = LazyLock::new(|| blake3::derive_key("ringtide 2026 row digest v1", b""));
    let mut head = Writer::new();
    write_address(&mut head, address, &mut None);
    let mut hasher = blake3::Hasher::new_keyed(&KEY);
    hasher.update(head.as_slice());
    hasher.update(row_bytes);
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Digest(u128::from_be_bytes(first))
}

/// Reads what follows the version to its end.
fn whole<T>(bytes: &Bytes, what: &'static str, read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
    let mut reader = Reader::versioned(bytes, what, VERSION)?;
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Reads a counted list of at most [`MAX_ROWS`] items, none of which takes less than `shortest` bytes.
fn many<'a, T>(
    reader: &mut Reader<'a>,
    what: &'static str,
    shortest: usize,
    mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(what, MAX_ROWS)?;
    let mut items = Vec::with_capacity(count.min(reader.left() / shortest));
    for _ in 0..count {
        items.push(read(reader)?);
    }
    Ok(items)
}

fn write_clock(writer: &mut Writer, clock: &Clock) {
    writer.count(clock.ranges().count());
    for (actor, ranges) in clock.ranges() {
        writer.word(actor.0);
        writer.count(ranges.len());
        let mut least = 1;
        for &(first, last) in ranges {
            writer.number(first.saturating_sub(least));
            writer.number(last - first);
            least = last.saturating_add(2);
        }
    }
}

fn read_clock(reader: &mut Reader<'_>) -> Result<Clock, DecodeError> {
    let mut clock = Clock::new();
    let mut before = None;
    let mut left = MAX_CLOCK_RANGES;
    for _ in 0..reader.count("actors of a clock", MAX_CLOCK_ACTORS)? {
        let actor = Actor(reader.word("actor")?);
        if before.is_some_and(|before| before >= actor) {
            return Err(DecodeError::Invalid("the actors of a clock are not in order"));
        }
        before = Some(actor);
        let ranges = reader.count("ranges of a clock", left)?;
        left -= ranges;
        if ranges == 0 {
            return Err(DecodeError::Invalid("a clock names an actor without any dot"));
        }
        let mut least = Some(1u64);
        for _ in 0..ranges {
            let skipped = reader.number("range of a clock")?;
            let more = reader.number("range of a clock")?;
            let first = least.and_then(|least| least.checked_add(skipped));
            let bounds = first.and_then(|first| Some((first, first.checked_add(more)?)));
            let (first, last) = bounds.ok_or(DecodeError::Number("range of a clock"))?;
            clock.insert_range(actor, first, last);
            least = last.checked_add(2);
        }
    }
    Ok(clock)
}

fn read_pending(reader: &mut Reader<'_>) -> Result<Pending, DecodeError> {
    let (mut pending, mut scale) = (Pending::new(), Scale::default());
    for _ in 0..reader.count("pending rows and keys", MAX_ROWS)? {
        let scope = read_scope(reader)?;
        let clock = read_clock(reader)?;
        if clock.is_empty() {
            return Err(DecodeError::Invalid("a pending clock is empty"));
        }
        if pending.last_key_value().is_some_and(|(before, _)| *before >= scope) {
            return Err(DecodeError::Invalid("the pending rows and keys are not in order"));
        }
        scale.put(1 + weight::of_pending(&clock))?;
        pending.insert(scope, clock);
    }
    Ok(pending)
}

fn write_dot(writer: &mut Writer, dot: Dot) {
    writer.word(dot.actor.0);
    writer.number(dot.counter);
}

fn read_dot(reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
    let dot = Dot { actor: Actor(reader.word("actor")?), counter: reader.number("counter")? };
    if dot.counter == 0 { Err(DecodeError::Invalid("a dot's counter is 0")) } else { Ok(dot) }
}

fn write_scope(writer: &mut Writer, scope: &Scope) {
    match scope {
        Scope::Row(address) => {
            writer.byte(0);
            write_address(writer, address, &mut None);
        }
        Scope::Key(key) => {
            writer.byte(1);
            writer.bytes(key);
        }
    }
}

fn read_scope(reader: &mut Reader<'_>) -> Result<Scope, DecodeError> {
    match reader.byte("scope")? {
        0 => Ok(Scope::Row(read_address(reader, &mut None)?)),
        1 => Ok(Scope::Key(reader.bytes("key", MAX_KEY)?)),
        tag => Err(DecodeError::Tag { what: "scope", tag }),
    }
}

/// Writes an address behind the one whose key is `before`, if any.
pub(super) fn write_address<'a>(writer: &mut Writer, address: &'a RowAddress, before: &mut Option<&'a Bytes>) {
    if before.is_some_and(|before| *before == address.key) {
        writer.byte(address.kind as u8 | SAME_KEY);
    } else {
        writer.byte(address.kind as u8);
        writer.bytes(&address.key);
        *before = Some(&address.key);
    }
    if address.kind.has_elements() {
        writer.bytes(&address.element);
    }
}

/// Reads an address behind the one whose key is `before`, if any.
pub(super) fn read_address(reader: &mut Reader<'_>, before: &mut Option<Bytes>) -> Result<RowAddress, DecodeError> {
    let tag = reader.byte("address")?;
    let kind = Kind::of(tag & !SAME_KEY).ok_or(DecodeError::Tag { what: "kind of row", tag })?;
    let key = match before {
        Some(before) if tag & SAME_KEY != 0 => before.clone(),
        None if tag & SAME_KEY != 0 => return Err(DecodeError::Invalid("the first address names no key")),
        before => {
            let key = reader.bytes("key", MAX_KEY)?;
            if before.as_ref() == Some(&key) {
                return Err(DecodeError::Invalid("an address repeats the key of the one before"));
            }
            *before = Some(key.clone());
            key
        }
    };
    let element = if kind.has_elements() { reader.bytes("element", MAX_VALUE)? } else { Bytes::new() };
    if kind == Kind::Item {
        Position::from_bytes(&element)?;
    }
    Ok(RowAddress { key, kind, element })
}

pub(super) fn write_row(writer: &mut Writer, row: &Row) {
    writer.count(row.len());
    for (dot, entry) in row {
        write_dot(writer, *dot);
        write_entry(writer, entry);
    }
}

pub(super) fn read_row(reader: &mut Reader<'_>) -> Result<Row, DecodeError> {
    let mut row = BTreeMap::new();
    for _ in 0..reader.count("entries of a row", MAX_ROW_ENTRIES)? {
        let dot = read_dot(reader)?;
        if row.last_key_value().is_some_and(|(before, _)| *before >= dot) {
            return Err(DecodeError::Invalid("the entries of a row are not in order"));
        }
        row.insert(dot, read_entry(reader, dot)?);
    }
    if row.is_empty() { Err(DecodeError::Invalid("a row is empty")) } else { Ok(row) }
}

fn write_entry(writer: &mut Writer, entry: &Entry) {
    let kind = match &entry.payload {
        Payload::Value(_) => 0,
        Payload::Run { total: Number::Integer(_), .. } => 1,
        Payload::Floor { total: Number::Integer(_), .. } => 2,
        Payload::Present => 3,
        Payload::Decision(_) => 4,
        Payload::Run { .. } => 5,
        Payload::Floor { .. } => 6,
        Payload::Score(_) => 7,
    };
    let flag = |decision: Option<Decision>, flag| if decision.is_some() { flag } else { 0 };
    writer.byte(kind | flag(entry.decision, WITH_DECISION) | flag(entry.field_decision, WITH_FIELD_DECISION));
    writer.word(entry.timestamp.0);
    for decision in [&entry.decision, &entry.field_decision].into_iter().flatten() {
        write_decision(writer, decision);
    }
    match &entry.payload {
        Payload::Value(value) => writer.bytes(value),
        Payload::Run { run, total } => {
            write_dot(writer, *run);
            write_number(writer, total);
        }
        Payload::Floor { run, upto, total } => {
            write_dot(writer, *run);
            writer.number(*upto);
            write_number(writer, total);
        }
        Payload::Score(score) => writer.word(score.to_bits()),
        Payload::Present => {}
        Payload::Decision(decision) => write_decision(writer, decision),
    }
}

fn read_entry(reader: &mut Reader<'_>, dot: Dot) -> Result<Entry, DecodeError> {
    let tag = reader.byte("entry")?;
    let timestamp = Timestamp(reader.word("timestamp")?);
    let mut carried = |flag| if tag & flag == 0 { Ok(None) } else { read_decision(reader).map(Some) };
    let (decision, field_decision) = (carried(WITH_DECISION)?, carried(WITH_FIELD_DECISION)?);
    let payload = match tag & !(WITH_DECISION | WITH_FIELD_DECISION) {
        0 => Payload::Value(reader.bytes("value", MAX_VALUE)?),
        tag @ (1 | 5) => {
            let run = read_dot(reader)?;
            if run.actor != dot.actor || run.counter > dot.counter {
                return Err(DecodeError::Invalid("a run's entry was not written by the run's actor after it began"));
            }
            Payload::Run { run, total: read_number(reader, tag == 1)? }
        }
        tag @ (2 | 6) => {
            let run = read_dot(reader)?;
            let upto = reader.number("end of a floor")?;
            if upto < run.counter {
                return Err(DecodeError::Invalid("a floor ends before its run began"));
            }
            Payload::Floor { run, upto, total: read_number(reader, tag == 2)? }
        }
        3 => Payload::Present,
        4 => Payload::Decision(read_decision(reader)?),
        7 => Payload::Score(Score::from_bits(reader.word("score")?).ok_or(DecodeError::Invalid("a score is not a number"))?),
        _ => return Err(DecodeError::Tag { what: "payload", tag }),
    };
    Ok(Entry { timestamp, decision, field_decision, payload })
}

/// Writes a number as an integer, or as its power of two and mantissa. Which of them is told by the kind of the payload.
pub(super) fn write_number(writer: &mut Writer, number: &Number) {
    match number {
        Number::Integer(integer) => writer.signed(*integer),
        Number::Dyadic(_) => {
            let (mantissa, exponent) = number.parts();
            writer.signed(i128::from(exponent));
            writer.bytes(&mantissa.to_signed_bytes_be());
        }
    }
}

/// Reads a number in its one form.
pub(super) fn read_number(reader: &mut Reader<'_>, is_integer: bool) -> Result<Number, DecodeError> {
    if is_integer {
        return reader.signed("total").map(Number::Integer);
    }
    let exponent = i64::try_from(reader.signed("power of two")?).map_err(|_| DecodeError::Number("power of two"))?;
    let bytes = reader.bytes("mantissa", MAX_MANTISSA)?;
    let mantissa = BigInt::from_signed_bytes_be(&bytes);
    let number = if mantissa.to_signed_bytes_be() == bytes { Number::from_parts(mantissa, exponent) } else { None };
    number.ok_or(DecodeError::Invalid("a total is not in its one form, or beyond all numbers that can be added up"))
}

fn write_decision(writer: &mut Writer, decision: &Decision) {
    writer.byte(u8::from(decision.time.is_some()));
    if let Some(time) = decision.time {
        writer.number(time);
    }
    writer.word(decision.timestamp.0);
    writer.word(decision.since.0);
}

fn read_decision(reader: &mut Reader<'_>) -> Result<Decision, DecodeError> {
    let time = match reader.byte("decision")? {
        0 => None,
        1 => Some(reader.number("time of a decision")?),
        tag => return Err(DecodeError::Tag { what: "decision", tag }),
    };
    Ok(Decision { time, timestamp: Timestamp(reader.word("timestamp")?), since: Timestamp(reader.word("timestamp")?) })
}

/// Refuses an entry in a row of a kind that never holds such.
pub(super) fn check_kind(address: &RowAddress, entry: &Entry) -> Result<(), DecodeError> {
    let fits = match address.kind {
        Kind::Register => registers::index_of(&address.element).is_some() && registers::rank_of(entry).is_some(),
        kind => entry.fits(kind),
    };
    if fits { Ok(()) } else { Err(DecodeError::Invalid("an entry does not fit the kind of its row")) }
}
