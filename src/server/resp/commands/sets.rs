//! Sets.

use bytes::Bytes;

use super::Call;
use super::action::{CommandError, Operation, plain};
use super::options::positive;
use super::pick::{picked, random_count};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::Answer;
use crate::crdt::random::Pick;
use crate::crdt::set::{Mutation, Query};
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY.and(Flags::FAST);

const fn local(name: &'static str, flags: Flags, summary: &'static str, run: fn(&[Bytes], &mut Call<'_>) -> Parsed) -> Spec {
    Spec { name, arity: -2, flags, group: Group::Set, keys: (1, 1, 1), summary, since: "1.0.0", run: Run::Local(run) }
}

pub(super) const COMMANDS: &[Spec] = &[
    Group::Set.row("sadd", -3, Flags::WRITE.and(Flags::DENYOOM).and(Flags::FAST), "Add one or more members to a set", "1.0.0", sadd),
    Group::Set.row("srem", -3, Flags::WRITE.and(Flags::FAST), "Remove one or more members from a set", "1.0.0", srem),
    Group::Set.row("smembers", 2, Flags::READONLY, "Get all the members in a set", "1.0.0", smembers),
    Group::Set.row("sismember", 3, READ, "Determine if a given value is a member of a set", "1.0.0", sismember),
    Group::Set.row("smismember", -3, READ, "Returns the membership associated with the given elements for a set", "6.2.0", smismember),
    local("spop", Flags::WRITE.and(Flags::FAST), "Remove and return one or multiple random members from a set", spop),
    local("srandmember", Flags::READONLY, "Get one or multiple random members from a set", srandmember),
    Group::Set.row("scard", 2, READ, "Get the number of members in a set", "1.0.0", scard),
];

fn sadd(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Add(arguments[2..].to_vec())).plain())
}

fn srem(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Remove(arguments[2..].to_vec())).plain())
}

fn smembers(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Members).plain())
}

fn sismember(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let query = Query::Contains(vec![arguments[2].clone()]);
    Ok(Operation::read(&arguments[1], query).shaped(|answer| match answer {
        Answer::Flags(flags) => Reply::Integer(i64::from(flags.first() == Some(&true))),
        other => plain(other),
    }))
}

fn smismember(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Contains(arguments[2..].to_vec())).plain())
}

fn scard(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Cardinality).plain())
}

fn spop(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let seed = call.shared.random();
    let count = match &arguments[2..] {
        [] => None,
        [count] => Some(positive(count)?),
        _ => return Err(CommandError::Syntax),
    };
    let operation = Operation::write(&arguments[1], Mutation::Pop { count: count.unwrap_or(1), seed });
    Ok(operation.shaped(move |answer| match answer {
        Answer::Members(members) if count.is_none() => members.into_iter().next().map_or(Reply::Null, Reply::Bulk),
        other => plain(other),
    }))
}

fn srandmember(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let seed = call.shared.random();
    let pick = match &arguments[2..] {
        [] => Pick::One,
        [count] => random_count(count)?,
        _ => return Err(CommandError::Syntax),
    };
    Ok(Operation::read(&arguments[1], Query::Pick { pick, seed }).shaped(move |answer| match answer {
        Answer::Members(members) => picked(pick, members),
        other => plain(other),
    }))
}
