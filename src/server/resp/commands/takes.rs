//! Taking out of the first list or sorted set that has something, moving from list to list, and waiting until there is something.

use std::time::Duration;

use bytes::Bytes;

use super::action::{Action, CommandError, plain};
use super::options::{is, positive_or};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::take::{Patience, Take, Taking};
use crate::crdt::command::{Answer, Mutation};
use crate::crdt::float::{Float, parse_long_double};
use crate::crdt::list::{self, Side};
use crate::crdt::sorted_set::{self, Order};
use crate::server::resp::reply::Reply;

const MOVE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const BLOCK: Flags = Flags::WRITE.and(Flags::NOSCRIPT).and(Flags::BLOCKING);
const FAST_BLOCK: Flags = BLOCK.and(Flags::FAST);
const MANY: Flags = Flags::WRITE.and(Flags::MOVABLEKEYS);
const BLOCK_MANY: Flags = MANY.and(Flags::BLOCKING);

/// Where the keys of a command are that takes a number of them.
const COUNTED: (i64, i64, i64) = (0, 0, 0);
/// All but the last argument.
const LISTED: (i64, i64, i64) = (1, -2, 1);
/// The first two arguments.
const TWO: (i64, i64, i64) = (1, 2, 1);

/// What of a command is the same as of others: its family, flags and keys.
type Like = (Group, Flags, (i64, i64, i64));

const fn row(
    name: &'static str,
    arity: i64,
    (group, flags, keys): Like,
    summary: &'static str,
    since: &'static str,
    parse: fn(&[Bytes], i64) -> Parsed,
) -> Spec {
    Spec { name, arity, flags, group, keys, summary, since, run: Run::Pure(parse) }
}

const LIST: Group = Group::List;
const SORTED: Group = Group::SortedSet;

pub(super) const COMMANDS: &[Spec] = &[
    row("lmove", 5, (LIST, MOVE, TWO), "Pop an element from a list, push it to another list and return it", "6.2.0", |arguments, _| {
        moved(arguments, None)
    }),
    row(
        "blmove",
        6,
        (LIST, MOVE.and(BLOCK), TWO),
        "Pop an element from a list, push it to another list and return it; or block until one is available",
        "6.2.0",
        |arguments, _| moved(arguments, arguments.get(5)),
    ),
    row(
        "rpoplpush",
        3,
        (LIST, MOVE, TWO),
        "Remove the last element in a list, prepend it to another list and return it",
        "1.2.0",
        |arguments, _| moved_by(arguments, (Side::Right, Side::Left), Patience::None),
    ),
    row(
        "brpoplpush",
        4,
        (LIST, MOVE.and(BLOCK), TWO),
        "Pop an element from a list, push it to another list and return it; or block until one is available",
        "2.2.0",
        |arguments, _| moved_by(arguments, (Side::Right, Side::Left), patience(&arguments[3])?),
    ),
    row(
        "blpop",
        -3,
        (LIST, BLOCK, LISTED),
        "Remove and get the first element in a list, or block until one is available",
        "2.0.0",
        |arguments, _| popped(arguments, list::Mutation::Pop { side: Side::Left, count: 1 }),
    ),
    row(
        "brpop",
        -3,
        (LIST, BLOCK, LISTED),
        "Remove and get the last element in a list, or block until one is available",
        "2.0.0",
        |arguments, _| popped(arguments, list::Mutation::Pop { side: Side::Right, count: 1 }),
    ),
    row(
        "bzpopmin",
        -3,
        (SORTED, FAST_BLOCK, LISTED),
        "Remove and return the member with the lowest score from one or more sorted sets, or block until one is available",
        "5.0.0",
        |arguments, _| popped(arguments, sorted_set::Mutation::Pop { count: 1, order: Order::Ascending }),
    ),
    row(
        "bzpopmax",
        -3,
        (SORTED, FAST_BLOCK, LISTED),
        "Remove and return the member with the highest score from one or more sorted sets, or block until one is available",
        "5.0.0",
        |arguments, _| popped(arguments, sorted_set::Mutation::Pop { count: 1, order: Order::Descending }),
    ),
    row("lmpop", -4, (LIST, MANY, COUNTED), "Pop elements from a list", "7.0.0", |arguments, _| {
        popped_from_many(&arguments[1..], None, list_pop)
    }),
    row("blmpop", -5, (LIST, BLOCK_MANY, COUNTED), "Pop elements from a list, or block until one is available", "7.0.0", |arguments, _| {
        popped_from_many(&arguments[2..], Some(&arguments[1]), list_pop)
    }),
    row("zmpop", -4, (SORTED, MANY, COUNTED), "Remove and return members with scores in a sorted set", "7.0.0", |arguments, _| {
        popped_from_many(&arguments[1..], None, sorted_set_pop)
    }),
    row(
        "bzmpop",
        -5,
        (SORTED, BLOCK_MANY, COUNTED),
        "Remove and return members with scores in a sorted set or block until one is available",
        "7.0.0",
        |arguments, _| popped_from_many(&arguments[2..], Some(&arguments[1]), sorted_set_pop),
    ),
];

/// How long to wait, in seconds as they are typed.
fn patience(argument: &[u8]) -> Result<Patience, CommandError> {
    let not_a_time = || CommandError::other("ERR timeout is not a float or out of range");
    // Redis counts milliseconds in 64 bits, where what is too great comes out negative.
    let milliseconds = match parse_long_double(argument).ok_or_else(not_a_time)? {
        Float::Finite(seconds) => (seconds.to_double() * 1000.0).ceil(),
        Float::Infinite { .. } => f64::INFINITY,
    };
    if milliseconds < 0.0 || milliseconds >= i64::MAX as f64 {
        return Err(CommandError::other("ERR timeout is negative"));
    }
    Ok(if milliseconds > 0.0 { Patience::Brief(Duration::from_secs_f64(milliseconds / 1000.0)) } else { Patience::Endless })
}

/// How long to wait where a timeout is given.
fn patience_of(timeout: Option<&Bytes>) -> Result<Patience, CommandError> {
    timeout.map_or(Ok(Patience::None), |timeout| patience(timeout))
}

fn side(argument: &[u8]) -> Result<Side, CommandError> {
    match (is(argument, "left"), is(argument, "right")) {
        (true, _) => Ok(Side::Left),
        (_, true) => Ok(Side::Right),
        _ => Err(CommandError::Syntax),
    }
}

/// LMOVE, BLMOVE.
fn moved(arguments: &[Bytes], timeout: Option<&Bytes>) -> Parsed {
    let sides = (side(&arguments[3])?, side(&arguments[4])?);
    moved_by(arguments, sides, patience_of(timeout)?)
}

fn moved_by(arguments: &[Bytes], (from, to): (Side, Side), patience: Patience) -> Parsed {
    let work = Taking::Move { from, destination: arguments[2].clone(), to };
    let keys = vec![arguments[1].clone()];
    Ok(Action::Take(Take { keys, work, patience, shape: |_, item| plain(item), nothing: Reply::Null }))
}

/// BLPOP, BRPOP, BZPOPMIN, BZPOPMAX.
fn popped(arguments: &[Bytes], mutation: impl Into<Mutation>) -> Parsed {
    let (timeout, keys) = arguments[1..].split_last().ok_or(CommandError::Syntax)?;
    let (work, patience) = (Taking::Pop(mutation.into()), patience(timeout)?);
    Ok(Action::Take(Take { keys: keys.to_vec(), work, patience, shape: with_one, nothing: Reply::NullArray }))
}

fn list_pop(word: &[u8], count: u64) -> Result<Mutation, CommandError> {
    Ok(list::Mutation::Pop { side: side(word)?, count }.into())
}

fn sorted_set_pop(word: &[u8], count: u64) -> Result<Mutation, CommandError> {
    let order = match (is(word, "min"), is(word, "max")) {
        (true, _) => Order::Ascending,
        (_, true) => Order::Descending,
        _ => return Err(CommandError::Syntax),
    };
    Ok(sorted_set::Mutation::Pop { count, order }.into())
}

/// `numkeys key… word [COUNT count]`. The word is read before the count, and the timeout last, as Redis does.
fn popped_from_many(arguments: &[Bytes], timeout: Option<&Bytes>, pop: fn(&[u8], u64) -> Result<Mutation, CommandError>) -> Parsed {
    let number = positive_or(&arguments[0], CommandError::NotPositive).ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| CommandError::other("ERR numkeys should be greater than 0"))?;
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    let (keys, rest) = arguments[1..].split_at_checked(number).ok_or(CommandError::Syntax)?;
    let (word, options) = rest.split_first().ok_or(CommandError::Syntax)?;
    pop(word, 1)?;
    let count = match options {
        [] => 1,
        [name, count, rest @ ..] if is(name, "count") => {
            let refused = || CommandError::other("ERR count should be greater than 0");
            let count = positive_or(count, refused()).ok().filter(|count| *count > 0).ok_or_else(refused)?;
            if !rest.is_empty() {
                return Err(CommandError::Syntax);
            }
            count
        }
        _ => return Err(CommandError::Syntax),
    };
    let (work, patience) = (Taking::Pop(pop(word, count)?), patience_of(timeout)?);
    Ok(Action::Take(Take { keys: keys.to_vec(), work, patience, shape: with_many, nothing: Reply::NullArray }))
}

/// A key and the one element that was taken out of it, with its score.
fn with_one(key: Bytes, answer: Answer) -> Reply {
    let element = match answer {
        Answer::Items(items) => items.into_iter().map(Reply::Bulk).collect(),
        Answer::Scored(members) => members.into_iter().flat_map(|(member, score)| [Reply::Bulk(member), Reply::Double(score)]).collect(),
        other => vec![plain(other)],
    };
    Reply::Array([vec![Reply::Bulk(key)], element].concat())
}

/// A key and the array of what was taken out of it; a member stands in an array with its score, in both versions of the protocol.
fn with_many(key: Bytes, answer: Answer) -> Reply {
    let elements = match answer {
        Answer::Scored(members) => {
            let pair = |(member, score)| Reply::Array(vec![Reply::Bulk(member), Reply::Double(score)]);
            Reply::Array(members.into_iter().map(pair).collect())
        }
        other => plain(other),
    };
    Reply::Array(vec![Reply::Bulk(key), elements])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_is_read_as_redis_reads_it() {
        for (text, expected) in [
            ("0", Patience::Endless),
            ("-0.0001", Patience::Endless),
            ("0.0001", Patience::Brief(Duration::from_millis(1))),
            ("1.5", Patience::Brief(Duration::from_millis(1500))),
            ("0x10", Patience::Brief(Duration::from_secs(16))),
        ] {
            assert_eq!(patience(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["-1", "-0.001", "inf", "1e300", "9223372036854776"] {
            assert_eq!(patience(text.as_bytes()), Err(CommandError::other("ERR timeout is negative")), "{text}");
        }
        for text in ["", "x", "1s", " 1", "nan", "0x"] {
            assert_eq!(patience(text.as_bytes()), Err(CommandError::other("ERR timeout is not a float or out of range")), "{text}");
        }
    }
}
