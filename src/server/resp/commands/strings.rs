//! Strings and counters.

use bytes::Bytes;

use super::action::{Action, CommandError, Operation};
use super::options::{StringOptions, Unit, expiry, integer, string_options};
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::{Answer, Refusal};
use crate::crdt::key;
use crate::crdt::string::{Mutation, Query, SetCondition, SetExpiry};
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const FAST_GROW: Flags = GROW.and(Flags::FAST);

pub(super) const COMMANDS: &[Spec] = &[
    Group::String.row("get", 2, READ, "Get the value of a key", "1.0.0", get),
    Group::String.row("set", -3, GROW, "Set the string value of a key", "1.0.0", set),
    Group::String.row("getdel", 2, Flags::WRITE.and(Flags::FAST), "Get the value of a key and delete the key", "6.2.0", getdel),
    Group::String.row("getset", 3, FAST_GROW, "Set the string value of a key and return its old value", "1.0.0", getset),
    Group::String.row(
        "getex",
        -2,
        Flags::WRITE.and(Flags::FAST),
        "Get the value of a key and optionally set its expiration",
        "6.2.0",
        getex,
    ),
    Group::String.row("setnx", 3, FAST_GROW, "Set the value of a key, only if the key does not exist", "1.0.0", setnx),
    Group::String.row("setex", 4, GROW, "Set the value and expiration of a key", "2.0.0", setex),
    Group::String.row("psetex", 4, GROW, "Set the value and expiration in milliseconds of a key", "2.6.0", psetex),
    Spec { keys: (1, -1, 1), ..Group::String.row("mget", -2, READ, "Get the values of all the given keys", "1.0.0", mget) },
    Spec { keys: (1, -1, 2), ..Group::String.row("mset", -3, GROW, "Set multiple keys to multiple values", "1.0.1", mset) },
    Spec {
        keys: (1, -1, 2),
        ..Group::String.row("msetnx", -3, GROW, "Set multiple keys to multiple values, only if none of the keys exist", "1.0.1", msetnx)
    },
    Group::String.row("append", 3, FAST_GROW, "Append a value to a key", "2.0.0", append),
    Group::String.row("strlen", 2, READ, "Get the length of the value stored in a key", "2.2.0", strlen),
    Group::String.row("incrbyfloat", 3, FAST_GROW, "Increment the float value of a key by the given amount", "2.6.0", incrbyfloat),
    Group::String.row("getrange", 4, Flags::READONLY, "Get a substring of the string stored at a key", "2.4.0", getrange),
    Group::String.row("substr", 4, Flags::READONLY, "Get a substring of the string stored at a key", "1.0.0", getrange),
    Group::String.row("setrange", 4, GROW, "Overwrite part of a string at key starting at the specified offset", "2.2.0", setrange),
    Spec { keys: (1, 2, 1), ..Group::String.row("lcs", -3, Flags::READONLY, "Find longest common substring", "7.0.0", super::lcs::lcs) },
    Group::String.row("incr", 2, FAST_GROW, "Increment the integer value of a key by one", "1.0.0", incr),
    Group::String.row("decr", 2, FAST_GROW, "Decrement the integer value of a key by one", "1.0.0", decr),
    Group::String.row("incrby", 3, FAST_GROW, "Increment the integer value of a key by the given amount", "1.0.0", incrby),
    Group::String.row("decrby", 3, FAST_GROW, "Decrement the integer value of a key by the given number", "1.0.0", decrby),
];

/// SET key value.
pub(super) fn write(value: &Bytes) -> Mutation {
    Mutation::Set { value: value.clone(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }
}

fn get(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Get).plain())
}

fn set(arguments: &[Bytes], now_ms: i64) -> Parsed {
    let options = string_options(&arguments[3..], now_ms, "set")?;
    let expiry = options.expiry.unwrap_or_default();
    let mutation = Mutation::Set { value: arguments[2].clone(), expiry, condition: options.condition, get: options.get };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn getdel(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::GetDelete).plain())
}

fn getset(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let mutation = Mutation::Set { value: arguments[2].clone(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: true };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn getex(arguments: &[Bytes], now_ms: i64) -> Parsed {
    let key = &arguments[1];
    match string_options(&arguments[2..], now_ms, "getex") {
        Ok(StringOptions { expiry: None, .. }) => Ok(Operation::read(key, Query::Get).plain()),
        Ok(StringOptions { expiry: Some(expiry), .. }) => Ok(Operation::write(key, Mutation::GetExpire(expiry)).plain()),
        Err(CommandError::Syntax) => Err(CommandError::Syntax),
        // Redis looks at the time only where there is a key.
        Err(error) => Ok(Operation::read(key, Query::Get).shaped(|answer| match answer {
            Answer::Nil => Reply::Null,
            _ => error.into(),
        })),
    }
}

fn setnx(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let mutation = Mutation::Set { value: arguments[2].clone(), expiry: SetExpiry::Clear, condition: SetCondition::Absent, get: false };
    Ok(Operation::write(&arguments[1], mutation).shaped(|answer| Reply::Integer(i64::from(answer != Answer::Nil))))
}

fn setex(arguments: &[Bytes], now_ms: i64) -> Parsed {
    set_for(arguments, Unit::Seconds, now_ms, "setex")
}

fn psetex(arguments: &[Bytes], now_ms: i64) -> Parsed {
    set_for(arguments, Unit::Millis, now_ms, "psetex")
}

fn set_for(arguments: &[Bytes], unit: Unit, now_ms: i64, command: &'static str) -> Parsed {
    let expiry = expiry(&arguments[2], unit, now_ms, command)?;
    let mutation = Mutation::Set { value: arguments[3].clone(), expiry, condition: SetCondition::Always, get: false };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn mget(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let operations = arguments[1..].iter().map(|key| Operation::read(key, Query::Get)).collect();
    Ok(Action::Keys(operations, |answers| {
        let values = answers.into_iter().map(|answer| match answer {
            Ok(Answer::Bytes(value)) => Ok(Reply::Bulk(value)),
            // A key of another type has no value here.
            Ok(_) | Err(OperationError::Refused(Refusal::WrongType)) => Ok(Reply::Null),
            Err(error) => Err(error),
        });
        values.collect::<Result<_, _>>().map_or_else(Reply::from, Reply::Array)
    }))
}

fn mset(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    if arguments.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("mset".to_owned()));
    }
    let operations = arguments[1..].chunks_exact(2).map(|pair| Operation::write(&pair[0], write(&pair[1]))).collect();
    Ok(Action::Keys(operations, |answers| answers.into_iter().find_map(Result::err).map_or(Reply::OK, Reply::from)))
}

/// MSETNX. Whether keys exist is asked first: true for what this peer saw, as SETNX is.
fn msetnx(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    if arguments.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity("msetnx".to_owned()));
    }
    let pairs = || arguments[1..].chunks_exact(2);
    let writes: Vec<Operation> = pairs().map(|pair| Operation::write(&pair[0], write(&pair[1]))).collect();
    writes.iter().try_for_each(Operation::check)?;
    let reads = pairs().map(|pair| Operation::read(&pair[0], key::Query::Type)).collect();
    Ok(Action::first(reads, |answers| {
        for answer in answers {
            if answer? != Answer::Type(None) {
                return Ok(Action::Reply(Reply::Integer(0)));
            }
        }
        Ok(Action::Keys(writes, |answers| answers.into_iter().find_map(Result::err).map_or(Reply::Integer(1), Reply::from)))
    }))
}

/// Asks something about a string, where there is one.
pub(super) fn of_string(key: &Bytes, missing: Reply, ask: impl FnOnce(Bytes) -> Result<Reply, CommandError> + Send + 'static) -> Action {
    Operation::read(key, Query::Get).shaped(|answer| match answer {
        Answer::Bytes(string) => ask(string).unwrap_or_else(Reply::from),
        _ => missing,
    })
}

fn getrange(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (start, end) = (integer(&arguments[2])?, integer(&arguments[3])?);
    Ok(of_string(&arguments[1], Reply::bulk(""), move |string| {
        let length = i64::try_from(string.len()).unwrap_or(i64::MAX);
        let resolved = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
        let (first, last) = (resolved(start), resolved(end).min(length - 1));
        // Two negative ends in the wrong order would meet at the first byte.
        let is_empty = first > last || (start < 0 && end < 0 && start > end);
        let range = usize::try_from(first).ok().zip(usize::try_from(last).ok()).filter(|_| !is_empty);
        Ok(Reply::Bulk(range.map_or_else(Bytes::new, |(first, last)| string.slice(first..=last))))
    }))
}

fn setrange(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let offset = u64::try_from(integer(&arguments[2])?).map_err(|_| CommandError::other("ERR offset is out of range"))?;
    Ok(Operation::write(&arguments[1], Mutation::SetRange { offset, value: arguments[3].clone() }).plain())
}

fn append(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Append(arguments[2].clone())).plain())
}

fn strlen(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Length).plain())
}

fn incr(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(increment(arguments, 1))
}

fn decr(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(increment(arguments, -1))
}

fn incrby(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(increment(arguments, integer(&arguments[2])?))
}

fn decrby(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let negated = integer(&arguments[2])?.checked_neg();
    Ok(increment(arguments, negated.ok_or_else(|| CommandError::other("ERR decrement would overflow"))?))
}

fn incrbyfloat(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::IncrementFloat(arguments[2].clone())).plain())
}

fn increment(arguments: &[Bytes], by: i64) -> Action {
    Operation::write(&arguments[1], Mutation::Increment(by)).plain()
}
