//! Lists.

use bytes::Bytes;

use super::action::{CommandError, Operation, plain};
use super::options::{integer, is, positive, positive_or};
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::Answer;
use crate::crdt::list::{Mutation, Query, Side};
use crate::server::resp::reply::Reply;

const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const FAST_GROW: Flags = GROW.and(Flags::FAST);
const TAKE: Flags = Flags::WRITE.and(Flags::FAST);

pub(super) const COMMANDS: &[Spec] = &[
    Group::List.row("lpush", -3, FAST_GROW, "Prepend one or multiple elements to a list", "1.0.0", |arguments, _| {
        push(arguments, Side::Left, false)
    }),
    Group::List.row("rpush", -3, FAST_GROW, "Append one or multiple elements to a list", "1.0.0", |arguments, _| {
        push(arguments, Side::Right, false)
    }),
    Group::List.row("lpushx", -3, FAST_GROW, "Prepend an element to a list, only if the list exists", "2.2.0", |arguments, _| {
        push(arguments, Side::Left, true)
    }),
    Group::List.row("rpushx", -3, FAST_GROW, "Append an element to a list, only if the list exists", "2.2.0", |arguments, _| {
        push(arguments, Side::Right, true)
    }),
    Group::List
        .row("lpop", -2, TAKE, "Remove and get the first elements in a list", "1.0.0", |arguments, _| pop(arguments, Side::Left, "lpop")),
    Group::List
        .row("rpop", -2, TAKE, "Remove and get the last elements in a list", "1.0.0", |arguments, _| pop(arguments, Side::Right, "rpop")),
    Group::List.row("llen", 2, Flags::READONLY.and(Flags::FAST), "Get the length of a list", "1.0.0", llen),
    Group::List.row("lrange", 4, Flags::READONLY, "Get a range of elements from a list", "1.0.0", lrange),
    Group::List.row("lindex", 3, Flags::READONLY, "Get an element from a list by its index", "1.0.0", lindex),
    Group::List.row("lset", 4, GROW, "Set the value of an element in a list by its index", "1.0.0", lset),
    Group::List.row("linsert", 5, GROW, "Insert an element before or after another element in a list", "2.2.0", linsert),
    Group::List.row("lrem", 4, Flags::WRITE, "Remove elements from a list", "1.0.0", lrem),
    Group::List.row("ltrim", 4, Flags::WRITE, "Trim a list to the specified range", "1.0.0", ltrim),
    Group::List.row("lpos", -3, Flags::READONLY, "Return the index of matching elements on a list", "6.0.6", lpos),
];

fn push(arguments: &[Bytes], side: Side, only_existing: bool) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Push { side, items: arguments[2..].to_vec(), only_existing }).plain())
}

fn pop(arguments: &[Bytes], side: Side, command: &'static str) -> Parsed {
    match &arguments[2..] {
        [] => Ok(Operation::write(&arguments[1], Mutation::Pop { side, count: 1 }).shaped(|answer| match answer {
            Answer::Items(items) => items.into_iter().next().map_or(Reply::Null, Reply::Bulk),
            other => plain(other),
        })),
        [count] => {
            let count = positive(count)?;
            Ok(Operation::write(&arguments[1], Mutation::Pop { side, count }).shaped(|answer| match answer {
                Answer::Nil => Reply::NullArray,
                other => plain(other),
            }))
        }
        _ => Err(CommandError::WrongArity(command.to_owned())),
    }
}

fn llen(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Length).plain())
}

fn lrange(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (start, stop) = (integer(&arguments[2])?, integer(&arguments[3])?);
    Ok(Operation::read(&arguments[1], Query::Range { start, stop }).plain())
}

fn lindex(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    match integer(&arguments[2]) {
        Ok(index) => Ok(Operation::read(&arguments[1], Query::Index(index)).plain()),
        // Redis looks at the index only where there is a list.
        Err(error) => Ok(Operation::read(&arguments[1], Query::Index(0)).shaped(|answer| match answer {
            Answer::Nil => Reply::Null,
            _ => error.into(),
        })),
    }
}

fn lset(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    match integer(&arguments[2]) {
        Ok(index) => Ok(Operation::write(&arguments[1], Mutation::Set { index, value: arguments[3].clone() }).plain()),
        Err(error) => Ok(Operation::read(&arguments[1], Query::Index(0)).shaped(|answer| match answer {
            Answer::Nil => CommandError::other("ERR no such key").into(),
            _ => error.into(),
        })),
    }
}

fn linsert(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let before = match &arguments[2] {
        place if is(place, "before") => true,
        place if is(place, "after") => false,
        _ => return Err(CommandError::Syntax),
    };
    let mutation = Mutation::Insert { pivot: arguments[3].clone(), item: arguments[4].clone(), before };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn lrem(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let mutation = Mutation::Remove { count: integer(&arguments[2])?, item: arguments[3].clone() };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn ltrim(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (start, stop) = (integer(&arguments[2])?, integer(&arguments[3])?);
    Ok(Operation::write(&arguments[1], Mutation::Trim { start, stop }).plain())
}

fn lpos(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (mut rank, mut count, mut most) = (1, None, 0);
    for option in arguments[3..].chunks(2) {
        match option {
            [name, value] if is(name, "rank") => rank = rank_of(value)?,
            [name, value] if is(name, "count") => count = Some(positive_or(value, CommandError::other("ERR COUNT can't be negative"))?),
            [name, value] if is(name, "maxlen") => most = positive_or(value, CommandError::other("ERR MAXLEN can't be negative"))?,
            _ => return Err(CommandError::Syntax),
        }
    }
    let query = Query::Find { item: arguments[2].clone(), rank, count: count.unwrap_or(1), most };
    Ok(Operation::read(&arguments[1], query).shaped(move |answer| match answer {
        Answer::Indexes(indexes) if count.is_none() => indexes.first().map_or(Reply::Null, |index| Reply::Integer(*index)),
        other => plain(other),
    }))
}

fn rank_of(argument: &[u8]) -> Result<i64, CommandError> {
    match integer(argument)? {
        0 => Err(CommandError::other(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
        )),
        // Redis negates it, which changes nothing, and then finds the first from the back.
        i64::MIN => Ok(-1),
        rank => Ok(rank),
    }
}
