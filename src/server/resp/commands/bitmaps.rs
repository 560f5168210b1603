//! Bits of strings.

use bytes::Bytes;

use super::action::{Action, CommandError, Operation, plain, value_of};
use super::options::{integer, is};
use super::spec::{Flags, Group, Parsed, Spec};
use super::strings::{of_string, write};
use crate::crdt::bits::{self, Change, Combination, Field, FieldChange, Overflow};
use crate::crdt::command::Answer;
use crate::crdt::key;
use crate::crdt::string::{Mutation, Query};
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;

const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
/// Bits that Redis allows in a string.
const MAX_BITS: i64 = 1 << 32;

pub(super) const COMMANDS: &[Spec] = &[
    Group::Bitmap.row("setbit", 4, GROW, "Sets or clears the bit at offset in the string value stored at key", "2.2.0", setbit),
    Group::Bitmap.row(
        "getbit",
        3,
        Flags::READONLY.and(Flags::FAST),
        "Returns the bit value at offset in the string value stored at key",
        "2.2.0",
        getbit,
    ),
    Group::Bitmap.row("bitcount", -2, Flags::READONLY, "Count set bits in a string", "2.6.0", bitcount),
    Group::Bitmap.row("bitpos", -3, Flags::READONLY, "Find first bit set or clear in a string", "2.8.7", bitpos),
    Spec { keys: (2, -1, 1), ..Group::Bitmap.row("bitop", -4, GROW, "Perform bitwise operations between strings", "2.6.0", bitop) },
    Group::Bitmap.row("bitfield", -2, GROW, "Perform arbitrary bitfield integer operations on strings", "3.2.0", bitfield),
    Group::Bitmap.row(
        "bitfield_ro",
        -2,
        Flags::READONLY.and(Flags::FAST),
        "Perform arbitrary bitfield integer operations on strings. Read-only variant of BITFIELD",
        "6.0.0",
        bitfield_ro,
    ),
];

/// An offset in bits; with `#`, in fields of so many.
fn offset(argument: &[u8], bits: Option<u8>) -> Result<u64, CommandError> {
    let (digits, unit) = match (argument.strip_prefix(b"#"), bits) {
        (Some(digits), Some(bits)) => (digits, i64::from(bits)),
        _ => (argument, 1),
    };
    let offset = parse_integer(digits).and_then(|number| number.checked_mul(unit)).filter(|offset| (0..MAX_BITS).contains(offset));
    offset
        .and_then(|offset| u64::try_from(offset).ok())
        .ok_or_else(|| CommandError::other("ERR bit offset is not an integer or out of range"))
}

fn setbit(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let field = Field { signed: false, bits: 1, offset: offset(&arguments[2], None)? };
    let bit = parse_integer(&arguments[3]).filter(|bit| (0..=1).contains(bit));
    let bit = bit.ok_or_else(|| CommandError::other("ERR bit is not an integer or out of range"))?;
    let mutation = Mutation::Fields(vec![FieldChange { field, change: Change::Set(bit), overflow: Overflow::Wrap }]);
    Ok(Operation::write(&arguments[1], mutation).shaped(|answer| match answer {
        Answer::Fields(fields) => Reply::Integer(fields.first().copied().flatten().unwrap_or(0)),
        other => plain(other),
    }))
}

fn getbit(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let offset = offset(&arguments[2], None)?;
    Ok(of_string(&arguments[1], Reply::Integer(0), move |string| Ok(Reply::Integer(i64::from(bits::get(&string, offset))))))
}

/// What START and END mean in a string of so many bytes, as bits: the first and the last; `None` where there is nothing between them.
fn bit_range(start: i64, end: Option<i64>, in_bits: bool, length: usize) -> Option<(u64, u64)> {
    let unit = if in_bits { 1 } else { 8 };
    let total = i64::try_from(length).ok()?.checked_mul(8)? / unit;
    let resolved = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    let (start, end) = (resolved(start), end.map_or(total - 1, resolved).min(total - 1));
    (start <= end).then_some((u64::try_from(start * unit).ok()?, u64::try_from(end * unit + unit - 1).ok()?))
}

/// BYTE or BIT: whether it is the latter.
fn in_bits(argument: &[u8]) -> Result<bool, CommandError> {
    match () {
        () if is(argument, "bit") => Ok(true),
        () if is(argument, "byte") => Ok(false),
        () => Err(CommandError::Syntax),
    }
}

fn bitcount(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let options = arguments[2..].to_vec();
    // Redis looks at the range only where there is a string.
    Ok(of_string(&arguments[1], Reply::Integer(0), move |string| {
        let range = match options.as_slice() {
            [] => bit_range(0, None, false, string.len()),
            [start, end, unit @ ..] if unit.len() < 2 => {
                let (start, end) = (integer(start)?, integer(end)?);
                if start < 0 && end < 0 && start > end {
                    return Ok(Reply::Integer(0));
                }
                bit_range(start, Some(end), unit.first().map_or(Ok(false), |unit| in_bits(unit))?, string.len())
            }
            _ => return Err(CommandError::Syntax),
        };
        Ok(range.map_or(Reply::Integer(0), |(first, last)| Reply::count(bits::count(&string, first, last))))
    }))
}

fn bitpos(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let bit = match integer(&arguments[2])? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::other("ERR The bit argument must be 1 or 0.")),
    };
    let options = arguments[3..].to_vec();
    Ok(of_string(&arguments[1], Reply::Integer(if bit { -1 } else { 0 }), move |string| {
        let (range, is_open) = match options.as_slice() {
            [] => (bit_range(0, None, false, string.len()), true),
            [start] => (bit_range(integer(start)?, None, false, string.len()), true),
            [start, end, unit @ ..] if unit.len() < 2 => {
                let start = integer(start)?;
                let in_bits = unit.first().map_or(Ok(false), |unit| in_bits(unit))?;
                (bit_range(start, Some(integer(end)?), in_bits, string.len()), false)
            }
            _ => return Err(CommandError::Syntax),
        };
        let Some((first, last)) = range else { return Ok(Reply::Integer(-1)) };
        Ok(match bits::find(&string, bit, first, last) {
            Some(found) => Reply::count(found),
            // Without an end the string goes on for ever in zeros.
            None if is_open && !bit => Reply::count(8 * string.len() as u64),
            None => Reply::Integer(-1),
        })
    }))
}

fn bitop(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let combination = match &arguments[1] {
        name if is(name, "and") => Combination::And,
        name if is(name, "or") => Combination::Or,
        name if is(name, "xor") => Combination::Xor,
        name if is(name, "not") => Combination::Not,
        _ => return Err(CommandError::Syntax),
    };
    if combination == Combination::Not && arguments.len() != 4 {
        return Err(CommandError::other("ERR BITOP NOT must be called with a single source key."));
    }
    let target = arguments[2].clone();
    let reads = arguments[3..].iter().map(|key| Operation::read(key, Query::Get)).collect();
    Ok(Action::first(reads, move |answers| {
        let strings: Vec<Bytes> = answers.into_iter().map(value_of).collect::<Result<_, _>>()?;
        let result = bits::combine(combination, &strings);
        let length = Reply::count(result.len());
        let operation =
            if result.is_empty() { Operation::write(&target, key::Mutation::Delete) } else { Operation::write(&target, write(&result)) };
        Ok(operation.shaped(|_| length))
    }))
}

fn bitfield(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let changes = field_changes(&arguments[2..])?;
    if changes.iter().all(|change| change.change == Change::Get) {
        return Ok(read_fields(&arguments[1], changes));
    }
    Ok(Operation::write(&arguments[1], Mutation::Fields(changes)).plain())
}

fn bitfield_ro(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let changes = field_changes(&arguments[2..])?;
    if changes.iter().any(|change| change.change != Change::Get) {
        return Err(CommandError::other("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    Ok(read_fields(&arguments[1], changes))
}

fn read_fields(key: &Bytes, changes: Vec<FieldChange>) -> Action {
    Operation::read(key, Query::Get).shaped(move |answer| {
        let string = if let Answer::Bytes(string) = answer { string } else { Bytes::new() };
        bits::changed(&string, &changes)
            .map_or_else(|refusal| Reply::Error(refusal.to_string()), |(fields, _)| plain(Answer::Fields(fields)))
    })
}

fn field_changes(arguments: &[Bytes]) -> Result<Vec<FieldChange>, CommandError> {
    let (mut changes, mut overflow, mut rest) = (Vec::new(), Overflow::default(), arguments);
    while let [name, after @ ..] = rest {
        let change: fn(i64) -> Change = match after {
            [kind, after @ ..] if is(name, "overflow") => {
                overflow = overflow_of(kind)?;
                rest = after;
                continue;
            }
            [field_type, at, after @ ..] if is(name, "get") => {
                changes.push(FieldChange { field: field(field_type, at)?, change: Change::Get, overflow });
                rest = after;
                continue;
            }
            [_, _, _, ..] if is(name, "set") => Change::Set,
            [_, _, _, ..] if is(name, "incrby") => Change::Add,
            _ => return Err(CommandError::Syntax),
        };
        let [field_type, at, number, after @ ..] = after else { return Err(CommandError::Syntax) };
        changes.push(FieldChange { field: field(field_type, at)?, change: change(integer(number)?), overflow });
        rest = after;
    }
    Ok(changes)
}

fn overflow_of(name: &[u8]) -> Result<Overflow, CommandError> {
    match () {
        () if is(name, "wrap") => Ok(Overflow::Wrap),
        () if is(name, "sat") => Ok(Overflow::Saturate),
        () if is(name, "fail") => Ok(Overflow::Fail),
        () => Err(CommandError::other("ERR Invalid OVERFLOW type specified")),
    }
}

fn field(field_type: &[u8], at: &[u8]) -> Result<Field, CommandError> {
    let typed = match field_type {
        [b'i', digits @ ..] => parse_integer(digits).filter(|bits| (1..=64).contains(bits)).map(|bits| (true, bits)),
        [b'u', digits @ ..] => parse_integer(digits).filter(|bits| (1..=63).contains(bits)).map(|bits| (false, bits)),
        _ => None,
    };
    let typed = typed.and_then(|(signed, bits)| Some((signed, u8::try_from(bits).ok()?)));
    let (signed, bits) = typed.ok_or_else(|| {
        CommandError::other("ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
    })?;
    Ok(Field { signed, bits, offset: offset(at, Some(bits))? })
}
