//! Keys of any type: removal, existence, type, expiry; and waiting for replicas.

use std::time::Duration;

use bytes::Bytes;

use super::Call;
use super::action::{Action, CommandError, Operation};
use super::options::{Unit, expire_condition, integer};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::Answer;
use crate::crdt::key::{Mutation, Query};
use crate::node::OperationError;
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);

const fn many(spec: Spec) -> Spec {
    Spec { keys: (1, -1, 1), ..spec }
}

pub(super) const COMMANDS: &[Spec] = &[
    many(Group::Generic.row("del", -2, Flags::WRITE, "Delete a key", "1.0.0", del)),
    many(Group::Generic.row("unlink", -2, WRITE, "Delete a key; here the same as DEL", "4.0.0", del)),
    many(Group::Generic.row("exists", -2, READ, "Determine if a key exists", "1.0.0", exists)),
    many(Group::Generic.row("touch", -2, READ, "Count keys that exist; when they were last accessed is not tracked", "3.2.1", exists)),
    Group::Generic.row("type", 2, READ, "Determine the type stored at key", "1.0.0", type_of),
    Group::Generic.row("expire", -3, WRITE, "Set a key's time to live in seconds", "1.0.0", |arguments, now_ms| {
        expire(arguments, Unit::Seconds, now_ms, "expire")
    }),
    Group::Generic.row("pexpire", -3, WRITE, "Set a key's time to live in milliseconds", "2.6.0", |arguments, now_ms| {
        expire(arguments, Unit::Millis, now_ms, "pexpire")
    }),
    Group::Generic.row("expireat", -3, WRITE, "Set the expiration for a key as a UNIX timestamp", "1.2.0", |arguments, now_ms| {
        expire(arguments, Unit::AtSeconds, now_ms, "expireat")
    }),
    Group::Generic.row(
        "pexpireat",
        -3,
        WRITE,
        "Set the expiration for a key as a UNIX timestamp specified in milliseconds",
        "2.6.0",
        |arguments, now_ms| expire(arguments, Unit::AtMillis, now_ms, "pexpireat"),
    ),
    Group::Generic.row("ttl", 2, READ, "Get the time to live for a key in seconds", "1.0.0", ttl),
    Group::Generic.row("pttl", 2, READ, "Get the time to live for a key in milliseconds", "2.6.0", pttl),
    Group::Generic.row("expiretime", 2, READ, "Get the expiration Unix timestamp for a key", "7.0.0", expiretime),
    Group::Generic.row("pexpiretime", 2, READ, "Get the expiration Unix timestamp for a key in milliseconds", "7.0.0", pexpiretime),
    Group::Generic.row("persist", 2, WRITE, "Remove the expiration from a key", "2.2.0", persist),
    Spec {
        name: "wait",
        arity: 3,
        flags: Flags::NOSCRIPT,
        group: Group::Generic,
        keys: (0, 0, 0),
        summary: "Wait until so many replicas have all writes of this connection",
        since: "3.0.0",
        run: Run::Local(wait),
    },
];

fn del(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    each(arguments, |key| Operation::write(key, Mutation::Delete))
}

fn exists(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    each(arguments, |key| Operation::read(key, Query::Type))
}

/// One operation a key, and the number of keys that were there.
fn each(arguments: &[Bytes], operation: fn(&Bytes) -> Operation) -> Parsed {
    Ok(Action::Keys(arguments[1..].iter().map(operation).collect(), count))
}

fn count(answers: Vec<Result<Answer, OperationError>>) -> Reply {
    let counts = answers.into_iter().map(|answer| {
        answer.map(|answer| match answer {
            Answer::Integer(number) => number,
            Answer::Type(Some(_)) => 1,
            _ => 0,
        })
    });
    counts.sum::<Result<i64, _>>().map_or_else(Reply::from, Reply::Integer)
}

fn type_of(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Type).plain())
}

fn expire(arguments: &[Bytes], unit: Unit, now_ms: i64, command: &'static str) -> Parsed {
    let condition = expire_condition(&arguments[3..])?;
    let time = integer(&arguments[2])?;
    let at_ms = unit.resolve(time, now_ms).ok_or(CommandError::InvalidExpire(command))?;
    Ok(Operation::write(&arguments[1], Mutation::Expire { at_ms, condition }).plain())
}

fn persist(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Persist).plain())
}

fn ttl(arguments: &[Bytes], now_ms: i64) -> Parsed {
    Ok(expiry_of(arguments, move |at_ms| seconds(remaining(at_ms, now_ms))))
}

fn pttl(arguments: &[Bytes], now_ms: i64) -> Parsed {
    Ok(expiry_of(arguments, move |at_ms| remaining(at_ms, now_ms)))
}

fn expiretime(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(expiry_of(arguments, seconds))
}

fn pexpiretime(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(expiry_of(arguments, |at_ms| at_ms))
}

/// Asks when a key expires; −1 and −2 (no expiry, no key) stay as they are.
fn expiry_of(arguments: &[Bytes], show: impl FnOnce(i64) -> i64 + Send + 'static) -> Action {
    Operation::read(&arguments[1], Query::ExpireTime).shaped(|answer| match answer {
        Answer::Integer(at_ms) if at_ms >= 0 => Reply::Integer(show(at_ms)),
        other => super::action::plain(other),
    })
}

fn remaining(at_ms: i64, now_ms: i64) -> i64 {
    at_ms.saturating_sub(now_ms).max(0)
}

/// Milliseconds as seconds, rounded to the nearest.
fn seconds(millis: i64) -> i64 {
    millis / 1000 + i64::from(millis % 1000 >= 500)
}

fn wait(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let replicas = integer(&arguments[1])?;
    let timeout_ms = parse_integer(&arguments[2]).ok_or_else(|| CommandError::other("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| CommandError::other("ERR timeout is negative"))?;
    // Within a transaction nothing waits.
    let timeout = if call.in_transaction { Some(Duration::ZERO) } else { (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms)) };
    Ok(Action::Wait { replicas, timeout })
}
