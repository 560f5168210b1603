//! HyperLogLogs.

use bytes::Bytes;

use super::action::{Action, CommandError, Operation};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::Answer;
use crate::crdt::hyperloglog::{Mutation, Query, Registers};
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);

const fn row(
    name: &'static str,
    arity: i64,
    flags: Flags,
    keys: (i64, i64, i64),
    summary: &'static str,
    parse: fn(&[Bytes], i64) -> Parsed,
) -> Spec {
    Spec { name, arity, flags, group: Group::HyperLogLog, keys, summary, since: "2.8.9", run: Run::Pure(parse) }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("pfadd", -2, GROW.and(Flags::FAST), (1, 1, 1), "Adds the specified elements to the specified HyperLogLog.", pfadd),
    row(
        "pfcount",
        -2,
        Flags::READONLY,
        (1, -1, 1),
        "Return the approximated cardinality of the set(s) observed by the HyperLogLog at key(s).",
        pfcount,
    ),
    row("pfmerge", -2, GROW, (1, -1, 1), "Merge N different HyperLogLogs into a single one.", pfmerge),
];

fn pfadd(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Add(arguments[2..].to_vec())).plain())
}

fn reads(keys: &[Bytes]) -> Vec<Operation> {
    keys.iter().map(|key| Operation::read(key, Query::Registers)).collect()
}

fn merged(answers: Vec<Result<Answer, OperationError>>) -> Result<Registers, CommandError> {
    let mut merged = Registers::default();
    for answer in answers {
        if let Answer::Bytes(registers) = answer? {
            merged.merge(&Registers::from_bytes(&registers));
        }
    }
    Ok(merged)
}

fn pfcount(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Action::Keys(reads(&arguments[1..]), |answers| {
        merged(answers).map_or_else(Reply::from, |registers| Reply::count(registers.count()))
    }))
}

/// PFMERGE. The target takes in what the others had, and keeps what it has.
fn pfmerge(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let target = arguments[1].clone();
    // The target is read too, since Redis refuses the first key that is none.
    Ok(Action::first(reads(&arguments[1..]), move |answers| {
        let mutation = Mutation::Merge(merged(answers)?.to_bytes());
        Ok(Operation::write(&target, mutation).shaped(|_| Reply::OK))
    }))
}
