//! Sets of several keys: intersections, unions and differences; and a member that moves from one set to another.
//!
//! Every key is read at the connection's level, and what is stored is written afterwards in place of the whole target.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::action::{Action, CommandError, Operation};
use super::moving::store;
use super::options::{is, positive_or};
use super::partial::half_done;
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::{Answer, DataType, Refusal};
use crate::crdt::content::Content;
use crate::crdt::key;
use crate::crdt::set::{Mutation, Query};
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// A command whose keys stand between these arguments.
const fn keyed(spec: Spec, first: i64, last: i64) -> Spec {
    Spec { keys: (first, last, 1), ..spec }
}

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, parse: fn(&[Bytes], i64) -> Parsed) -> Spec {
    keyed(Group::Set.row(name, arity, flags, summary, "1.0.0", parse), 1, -1)
}

pub(super) const COMMANDS: &[Spec] = &[
    row("sinter", -2, Flags::READONLY, "Intersect multiple sets", |arguments, _| {
        Ok(Action::Keys(members(&arguments[1..]), |answers| Combination::Intersection.told(answers)))
    }),
    row("sunion", -2, Flags::READONLY, "Add multiple sets", |arguments, _| {
        Ok(Action::Keys(members(&arguments[1..]), |answers| Combination::Union.told(answers)))
    }),
    row("sdiff", -2, Flags::READONLY, "Subtract multiple sets", |arguments, _| {
        Ok(Action::Keys(members(&arguments[1..]), |answers| Combination::Difference.told(answers)))
    }),
    row("sinterstore", -3, GROW, "Intersect multiple sets and store the resulting set in a key", |arguments, _| {
        Ok(stored(arguments, Combination::Intersection))
    }),
    row("sunionstore", -3, GROW, "Add multiple sets and store the resulting set in a key", |arguments, _| {
        Ok(stored(arguments, Combination::Union))
    }),
    row("sdiffstore", -3, GROW, "Subtract multiple sets and store the resulting set in a key", |arguments, _| {
        Ok(stored(arguments, Combination::Difference))
    }),
    Spec {
        keys: (0, 0, 0),
        ..Group::Set.row(
            "sintercard",
            -3,
            Flags::READONLY,
            "Intersect multiple sets and return the cardinality of the result",
            "7.0.0",
            sintercard,
        )
    },
    keyed(Group::Set.row("smove", 4, Flags::WRITE.and(Flags::FAST), "Move a member from one set to another", "1.0.0", smove), 1, 2),
];

/// How sets become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Combination {
    Intersection,
    Union,
    Difference,
}

impl Combination {
    /// What sets come to, in the order of the members' bytes.
    fn of(self, answers: Vec<Result<Answer, OperationError>>) -> Result<Vec<Bytes>, CommandError> {
        let mut sets = Vec::with_capacity(answers.len());
        for answer in answers {
            // Each key is looked at, even where the result is clear already: one of another type is an error.
            sets.push(if let Answer::Members(members) = answer? { BTreeSet::from_iter(members) } else { BTreeSet::new() });
        }
        let combined = sets.into_iter().reduce(|one, other| match self {
            Self::Intersection => one.intersection(&other).cloned().collect(),
            Self::Union => one.into_iter().chain(other).collect(),
            Self::Difference => one.difference(&other).cloned().collect(),
        });
        Ok(combined.unwrap_or_default().into_iter().collect())
    }

    /// What sets come to, as a reply.
    fn told(self, answers: Vec<Result<Answer, OperationError>>) -> Reply {
        self.of(answers).map_or_else(Reply::from, |members| Reply::Set(members.into_iter().map(Reply::Bulk).collect()))
    }
}

fn members(keys: &[Bytes]) -> Vec<Operation> {
    keys.iter().map(|key| Operation::read(key, Query::Members)).collect()
}

fn stored(arguments: &[Bytes], combination: Combination) -> Action {
    let target = arguments[1].clone();
    Action::first(members(&arguments[2..]), move |answers| store(&target, Content::Set(combination.of(answers)?)))
}

/// The keys behind their number, and what follows them.
///
/// # Errors
/// Where the number is none, or of more than follow.
fn numbered(arguments: &[Bytes]) -> Result<(&[Bytes], &[Bytes]), CommandError> {
    let (number, rest) = arguments.split_first().ok_or(CommandError::Syntax)?;
    let number = positive_or(number, CommandError::other("ERR numkeys should be greater than 0"))?;
    if number == 0 {
        return Err(CommandError::other("ERR numkeys should be greater than 0"));
    }
    let number = usize::try_from(number).ok().filter(|number| *number <= rest.len());
    Ok(rest.split_at(number.ok_or_else(|| CommandError::other("ERR Number of keys can't be greater than number of args"))?))
}

/// `SINTERCARD numkeys key … [LIMIT n]`, where 0 is no limit.
fn sintercard(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (keys, options) = numbered(&arguments[1..])?;
    let mut limit = 0;
    for option in options.chunks(2) {
        match option {
            [name, number] if is(name, "limit") => limit = positive_or(number, CommandError::other("ERR LIMIT can't be negative"))?,
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(Action::first(members(keys), move |answers| {
        let count = Combination::Intersection.of(answers)?.len() as u64;
        Ok(Action::Reply(Reply::count(if limit == 0 { count } else { count.min(limit) })))
    }))
}

/// SMOVE adds first and removes then: where the second fails the member is in both sets, never in neither.
fn smove(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let [_, source, target, member] = arguments else { return Err(CommandError::Syntax) };
    let (source, target, member) = (source.clone(), target.clone(), vec![member.clone()]);
    let reads = vec![
        Operation::read(&source, key::Query::Type),
        Operation::read(&target, key::Query::Type),
        Operation::read(&source, Query::Contains(member.clone())),
    ];
    Ok(Action::first(reads, move |answers| {
        let mut answers = answers.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Answer::Nil));
        let (there, beyond, contains) = (next()?, next()?, next());
        let is_set = |answer: &Answer| matches!(answer, Answer::Type(None | Some(DataType::Set)));
        match () {
            () if there == Answer::Type(None) => return Ok(Action::Reply(Reply::Integer(0))),
            () if !is_set(&there) || !is_set(&beyond) => return Err(OperationError::Refused(Refusal::WrongType).into()),
            () if contains? != Answer::Flags(vec![true]) => return Ok(Action::Reply(Reply::Integer(0))),
            () if source == target => return Ok(Action::Reply(Reply::Integer(1))),
            () => {}
        }
        let add = Operation::write(&target, Mutation::Add(member.clone()));
        Ok(Action::first(vec![add], move |answers| {
            answers.into_iter().try_for_each(|answer| answer.map(drop))?;
            let remove = Operation::write(&source, Mutation::Remove(member));
            Ok(Action::first(vec![remove], move |answers| {
                let failed = answers.into_iter().find_map(Result::err);
                Ok(Action::Reply(failed.map_or(Reply::Integer(1), |error| half_done(&error, [&target], [&source]))))
            }))
        }))
    }))
}
