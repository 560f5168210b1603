//! Walking the elements of one key: SSCAN, HSCAN and ZSCAN.

use bytes::Bytes;

use super::action::{Action, CommandError, Operation, plain};
use super::options::{integer, is};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::{Answer, DataType, Query};
use crate::crdt::scan::Scan;
use crate::crdt::{hash, key, set, sorted_set};
use crate::glob;
use crate::server::resp::double::print_double;
use crate::server::resp::reply::Reply;

const fn row(name: &'static str, group: Group, summary: &'static str, parse: fn(&[Bytes], i64) -> Parsed) -> Spec {
    Spec { name, arity: -3, flags: Flags::READONLY, group, keys: (1, 1, 1), summary, since: "2.8.0", run: Run::Pure(parse) }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("sscan", Group::Set, "Incrementally iterate Set elements", |arguments, _| {
        scan(arguments, DataType::Set, |scan| set::Query::Scan(scan).into())
    }),
    row("hscan", Group::Hash, "Incrementally iterate hash fields and associated values", |arguments, _| {
        scan(arguments, DataType::Hash, |scan| hash::Query::Scan(scan).into())
    }),
    row("zscan", Group::SortedSet, "Incrementally iterate sorted sets elements and associated scores", |arguments, _| {
        scan(arguments, DataType::SortedSet, |scan| sorted_set::Query::Scan(scan).into())
    }),
];

/// Reads a cursor as C's `strtoul` does: nothing at all is 0, and a sign is taken.
///
/// # Errors
/// Where it is no number of 64 bits.
pub(super) fn cursor(argument: &[u8]) -> Result<u64, CommandError> {
    let invalid = || CommandError::other("ERR invalid cursor");
    let text = std::str::from_utf8(argument).map_err(|_| invalid())?;
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    match digits {
        "" if text.is_empty() => Ok(0),
        digits if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            let number: u64 = digits.parse().map_err(|_| invalid())?;
            Ok(if is_negative { number.wrapping_neg() } else { number })
        }
        _ => Err(invalid()),
    }
}

/// Reads COUNT.
///
/// # Errors
/// Where it is no integer, or not positive.
pub(super) fn count(argument: &[u8]) -> Result<usize, CommandError> {
    usize::try_from(integer(argument)?).ok().filter(|count| *count > 0).ok_or(CommandError::Syntax)
}

fn scan(arguments: &[Bytes], data_type: DataType, query: fn(Scan) -> Query) -> Parsed {
    let from_hash = cursor(&arguments[2])?;
    match options(&arguments[3..]) {
        Ok((pattern, count)) => {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            Ok(Operation::read(&arguments[1], query(Scan { from_hash, count })).shaped(move |answer| match answer {
                Answer::Scanned { next, elements } => reply(next, *elements, pattern.as_ref()),
                other => plain(other),
            }))
        }
        Err(error) => Ok(unless_missing(&arguments[1], data_type, error)),
    }
}

/// Redis looks at the options only where there is a key, and of the right type.
fn unless_missing(key: &Bytes, data_type: DataType, error: CommandError) -> Action {
    Operation::read(key, key::Query::Type).shaped(move |answer| match answer {
        Answer::Type(None) => reply(0, Answer::Members(Vec::new()), None),
        Answer::Type(Some(shown)) if shown != data_type => Reply::Error(crate::crdt::command::Refusal::WrongType.to_string()),
        _ => error.into(),
    })
}

fn options(arguments: &[Bytes]) -> Result<(Option<Bytes>, usize), CommandError> {
    let (mut pattern, mut most) = (None, 10);
    for option in arguments.chunks(2) {
        match option {
            [name, wanted] if is(name, "match") => pattern = Some(wanted.clone()),
            [name, number] if is(name, "count") => most = count(number)?,
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok((pattern, most))
}

/// The cursor and what matches of the elements.
fn reply(next: u64, elements: Answer, pattern: Option<&Bytes>) -> Reply {
    let matches = |element: &Bytes| pattern.is_none_or(|pattern| glob::matches(pattern, element));
    let told: Vec<Bytes> = match elements {
        Answer::Members(members) => members.into_iter().filter(matches).collect(),
        Answer::Pairs(pairs) => pairs.into_iter().filter(|(field, _)| matches(field)).flat_map(|(field, value)| [field, value]).collect(),
        Answer::Scored(members) => {
            let members = members.into_iter().filter(|(member, _)| matches(member));
            members.flat_map(|(member, score)| [member, print_double(score.value()).into()]).collect()
        }
        other => return plain(other),
    };
    Reply::Array(vec![Reply::Bulk(next.to_string().into()), Reply::Array(told.into_iter().map(Reply::Bulk).collect())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_redis_reads_them() {
        for (text, read) in
            [("0", Some(0)), ("", Some(0)), ("18446744073709551615", Some(u64::MAX)), ("+7", Some(7)), ("-1", Some(u64::MAX))]
        {
            assert_eq!(cursor(text.as_bytes()).ok(), read, "{text:?}");
        }
        for text in ["18446744073709551616", "x", "1x", " 1", "-", "1 "] {
            assert_eq!(cursor(text.as_bytes()), Err(CommandError::other("ERR invalid cursor")), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_chooses_elements_and_their_values_come_along() {
        let pairs = Answer::Pairs(vec![("ab".into(), "1".into()), ("b".into(), "2".into())]);
        let told = reply(5, pairs, Some(&Bytes::from_static(b"a*")));
        let bulk = |text: &'static str| Reply::Bulk(text.into());
        assert_eq!(told, Reply::Array(vec![bulk("5"), Reply::Array(vec![bulk("ab"), bulk("1")])]));
    }
}
