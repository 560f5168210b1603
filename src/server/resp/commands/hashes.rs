//! Hashes.

use bytes::Bytes;

use super::Call;
use super::action::{CommandError, Operation, bulks, plain};
use super::options::{integer, is};
use super::pick::{check_pairs, picked, random_count};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::Answer;
use crate::crdt::float::{Float, parse_long_double};
use crate::crdt::hash::{Mutation, Query};
use crate::crdt::random::Pick;
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = WRITE.and(Flags::DENYOOM);

pub(super) const COMMANDS: &[Spec] = &[
    Group::Hash.row("hset", -4, GROW, "Set the string value of a hash field", "2.0.0", hset),
    Group::Hash.row("hsetnx", 4, GROW, "Set the value of a hash field, only if the field does not exist", "2.0.0", hsetnx),
    Group::Hash.row("hmset", -4, GROW, "Set multiple hash fields to multiple values", "2.0.0", hmset),
    Group::Hash.row("hget", 3, READ, "Get the value of a hash field", "2.0.0", hget),
    Group::Hash.row("hmget", -3, READ, "Get the values of all the given hash fields", "2.0.0", hmget),
    Group::Hash.row("hexists", 3, READ, "Determine if a hash field exists", "2.0.0", hexists),
    Group::Hash.row("hstrlen", 3, READ, "Get the length of the value of a hash field", "3.2.0", hstrlen),
    Group::Hash.row("hdel", -3, WRITE, "Delete one or more hash fields", "2.0.0", hdel),
    Group::Hash.row("hlen", 2, READ, "Get the number of fields in a hash", "2.0.0", hlen),
    Group::Hash.row("hgetall", 2, Flags::READONLY, "Get all the fields and values in a hash", "2.0.0", hgetall),
    Group::Hash.row("hkeys", 2, Flags::READONLY, "Get all the fields in a hash", "2.0.0", hkeys),
    Group::Hash.row("hvals", 2, Flags::READONLY, "Get all the values in a hash", "2.0.0", hvals),
    Group::Hash.row("hincrby", 4, GROW, "Increment the integer value of a hash field by the given number", "2.0.0", hincrby),
    Group::Hash.row("hincrbyfloat", 4, GROW, "Increment the float value of a hash field by the given amount", "2.6.0", hincrbyfloat),
    Spec {
        name: "hrandfield",
        arity: -2,
        flags: Flags::READONLY,
        group: Group::Hash,
        keys: (1, 1, 1),
        summary: "Get one or multiple random fields from a hash",
        since: "6.2.0",
        run: Run::Local(hrandfield),
    },
];

/// The fields and values of HSET or HMSET.
fn pairs(arguments: &[Bytes], command: &str) -> Result<Mutation, CommandError> {
    if !arguments.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity(command.to_owned()));
    }
    Ok(Mutation::Set(arguments[2..].chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()))
}

fn hset(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], pairs(arguments, "hset")?).plain())
}

fn hmset(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], pairs(arguments, "hmset")?).shaped(|answer| match answer {
        Answer::Integer(_) => Reply::OK,
        other => plain(other),
    }))
}

fn hsetnx(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let mutation = Mutation::SetNew { field: arguments[2].clone(), value: arguments[3].clone() };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

/// Asks for one field, and shows what there is of it.
fn one_field(arguments: &[Bytes], show: fn(Option<Bytes>) -> Reply) -> Parsed {
    let query = Query::Get(vec![arguments[2].clone()]);
    Ok(Operation::read(&arguments[1], query).shaped(move |answer| match answer {
        Answer::Values(values) => show(values.into_iter().next().flatten()),
        other => plain(other),
    }))
}

fn hget(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    one_field(arguments, |value| value.map_or(Reply::Null, Reply::Bulk))
}

fn hexists(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    one_field(arguments, |value| Reply::Integer(i64::from(value.is_some())))
}

fn hstrlen(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    one_field(arguments, |value| Reply::count(value.map_or(0, |value| value.len())))
}

fn hmget(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Get(arguments[2..].to_vec())).plain())
}

fn hdel(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Remove(arguments[2..].to_vec())).plain())
}

fn hlen(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Length).plain())
}

fn hgetall(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Pairs).plain())
}

/// Asks for all fields, and shows a part of each.
fn all_fields(arguments: &[Bytes], part: fn((Bytes, Bytes)) -> Bytes) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Pairs).shaped(move |answer| match answer {
        Answer::Pairs(pairs) => bulks(pairs.into_iter().map(part)),
        other => plain(other),
    }))
}

fn hkeys(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    all_fields(arguments, |(field, _)| field)
}

fn hvals(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    all_fields(arguments, |(_, value)| value)
}

fn hincrby(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let mutation = Mutation::Increment { field: arguments[2].clone(), amount: integer(&arguments[3])? };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn hincrbyfloat(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    match parse_long_double(&arguments[3]) {
        None => Err(CommandError::NotAFloat),
        Some(Float::Infinite { .. }) => Err(CommandError::other("ERR value is NaN or Infinity")),
        Some(Float::Finite(_)) => {
            let mutation = Mutation::IncrementFloat { field: arguments[2].clone(), amount: arguments[3].clone() };
            Ok(Operation::write(&arguments[1], mutation).plain())
        }
    }
}

fn hrandfield(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let seed = call.shared.random();
    let pick = match arguments.get(2) {
        None => Pick::One,
        Some(count) => random_count(count)?,
    };
    let with_values = match &arguments[2..] {
        [_, word] if is(word, "withvalues") => true,
        [] | [_] => false,
        _ => return Err(CommandError::Syntax),
    };
    check_pairs(pick, with_values)?;
    Ok(Operation::read(&arguments[1], Query::Pick { pick, seed }).shaped(move |answer| match answer {
        Answer::Pairs(pairs) if with_values => {
            Reply::Pairs(pairs.into_iter().map(|(field, value)| (Reply::Bulk(field), Reply::Bulk(value))).collect())
        }
        Answer::Pairs(pairs) => picked(pick, pairs.into_iter().map(|(field, _)| field).collect()),
        other => plain(other),
    }))
}
