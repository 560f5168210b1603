//! Sorted sets of several keys: unions, intersections and differences, with sets among them as if every score were 1; and ranges that are stored.
//!
//! Scores are added in the order in which Redis does, the smallest set first, since sums of doubles depend on it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::action::{Action, CommandError, Operation, bulks, plain};
use super::moving::store;
use super::options::{integer, is, positive_or};
use super::ranges;
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::{Answer, Refusal};
use crate::crdt::content::Content;
use crate::crdt::float::parse_double;
use crate::crdt::key;
use crate::crdt::sorted_set::{Query, Score};
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);

/// A command whose keys are counted by an argument.
const fn counted(name: &'static str, summary: &'static str, since: &'static str, parse: fn(&[Bytes], i64) -> Parsed) -> Spec {
    Spec { keys: (0, 0, 0), ..Group::SortedSet.row(name, -3, Flags::READONLY, summary, since, parse) }
}

pub(super) const COMMANDS: &[Spec] = &[
    counted("zunion", "Add multiple sorted sets", "6.2.0", |arguments, _| read(arguments, "zunion", Combination::Union)),
    counted("zinter", "Intersect multiple sorted sets", "6.2.0", |arguments, _| read(arguments, "zinter", Combination::Intersection)),
    counted("zdiff", "Subtract multiple sorted sets", "6.2.0", |arguments, _| read(arguments, "zdiff", Combination::Difference)),
    counted("zintercard", "Intersect multiple sorted sets and return the cardinality of the result", "7.0.0", zintercard),
    Group::SortedSet.row(
        "zunionstore",
        -4,
        GROW,
        "Add multiple sorted sets and store the resulting sorted set in a new key",
        "2.0.0",
        |arguments, _| stored(arguments, "zunionstore", Combination::Union),
    ),
    Group::SortedSet.row(
        "zinterstore",
        -4,
        GROW,
        "Intersect multiple sorted sets and store the resulting sorted set in a new key",
        "2.0.0",
        |arguments, _| stored(arguments, "zinterstore", Combination::Intersection),
    ),
    Group::SortedSet.row(
        "zdiffstore",
        -4,
        GROW,
        "Subtract multiple sorted sets and store the resulting sorted set in a new key",
        "6.2.0",
        |arguments, _| stored(arguments, "zdiffstore", Combination::Difference),
    ),
    Spec {
        keys: (1, 2, 1),
        ..Group::SortedSet.row("zrangestore", -5, GROW, "Store a range of members from sorted set into another key", "6.2.0", zrangestore)
    },
];

/// How sorted sets become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Combination {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the scores that a member has in several sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Aggregate {
    #[default]
    Sum,
    Least,
    Greatest,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            // Infinite scores of both signs add up to 0.
            Self::Sum => number(one + other),
            Self::Least if other < one => other,
            Self::Greatest if other > one => other,
            Self::Least | Self::Greatest => one,
        }
    }
}

/// A score, 0 in place of what is no number.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What follows the keys.
#[derive(Default)]
struct Options {
    /// None where all are 1.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: u64,
}

/// What may follow the keys.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Allowed {
    weights: bool,
    scores: bool,
    limit: bool,
}

fn options(arguments: &[Bytes], keys: usize, allowed: Allowed) -> Result<Options, CommandError> {
    let (mut options, mut rest) = (Options::default(), arguments);
    while let Some((name, after)) = rest.split_first() {
        rest = match after {
            [..] if allowed.weights && after.len() >= keys && is(name, "weights") => {
                let weight = |weight: &Bytes| parse_double(weight).ok_or_else(|| CommandError::other("ERR weight value is not a float"));
                options.weights = after[..keys].iter().map(weight).collect::<Result<_, _>>()?;
                &after[keys..]
            }
            [kind, after @ ..] if allowed.weights && is(name, "aggregate") => {
                options.aggregate = match () {
                    () if is(kind, "sum") => Aggregate::Sum,
                    () if is(kind, "min") => Aggregate::Least,
                    () if is(kind, "max") => Aggregate::Greatest,
                    () => return Err(CommandError::Syntax),
                };
                after
            }
            after if allowed.scores && is(name, "withscores") => {
                options.with_scores = true;
                after
            }
            [number, after @ ..] if allowed.limit && is(name, "limit") => {
                options.limit = positive_or(number, CommandError::other("ERR LIMIT can't be negative"))?;
                after
            }
            _ => return Err(CommandError::Syntax),
        };
    }
    Ok(options)
}

/// The keys behind their number, and what follows them, with the errors of this family.
fn keys<'a>(arguments: &'a [Bytes], command: &str) -> Result<(&'a [Bytes], &'a [Bytes]), CommandError> {
    let (count, rest) = arguments.split_first().ok_or(CommandError::Syntax)?;
    let count = integer(count)?;
    if count < 1 {
        return Err(CommandError::other(format!("ERR at least 1 input key is needed for '{command}' command")));
    }
    let count = usize::try_from(count).ok().filter(|count| *count <= rest.len()).ok_or(CommandError::Syntax)?;
    Ok(rest.split_at(count))
}

fn contents(keys: &[Bytes]) -> Vec<Operation> {
    keys.iter().map(|key| Operation::read(key, key::Query::Content { with_token: false })).collect()
}

/// The members of each key with their scores.
fn inputs(answers: Vec<Result<Answer, OperationError>>) -> Result<Vec<BTreeMap<Bytes, f64>>, CommandError> {
    let input = |answer: Result<Answer, OperationError>| match answer? {
        Answer::Content { content: None, .. } => Ok(BTreeMap::new()),
        Answer::Content { content: Some(Content::Set(members)), .. } => Ok(members.into_iter().map(|member| (member, 1.0)).collect()),
        Answer::Content { content: Some(Content::SortedSet(members)), .. } => {
            Ok(members.into_iter().map(|(member, score)| (member, score.value())).collect())
        }
        _ => Err(OperationError::Refused(Refusal::WrongType).into()),
    };
    answers.into_iter().map(input).collect()
}

impl Combination {
    /// What sorted sets come to, in order of (score, member).
    fn of(self, inputs: Vec<BTreeMap<Bytes, f64>>, options: &Options) -> Vec<(Bytes, Score)> {
        let weights = options.weights.iter().copied().chain(std::iter::repeat(1.0));
        let mut weighted: Vec<(BTreeMap<Bytes, f64>, f64)> = inputs.into_iter().zip(weights).collect();
        if self != Self::Difference {
            weighted.sort_by_key(|(members, _)| members.len());
        }
        let mut rest = weighted.into_iter();
        let Some((first, weight)) = rest.next() else { return Vec::new() };
        let mut combined: BTreeMap<Bytes, f64> = first.into_iter().map(|(member, score)| (member, number(weight * score))).collect();
        for (members, weight) in rest {
            match self {
                Self::Union => {
                    for (member, score) in members {
                        let score = number(weight * score);
                        combined.entry(member).and_modify(|sum| *sum = options.aggregate.of(*sum, score)).or_insert(score);
                    }
                }
                Self::Intersection => combined.retain(|member, sum| {
                    let Some(score) = members.get(member) else { return false };
                    *sum = options.aggregate.of(*sum, weight * score);
                    true
                }),
                Self::Difference => combined.retain(|member, _| !members.contains_key(member)),
            }
        }
        let mut scored: Vec<(Bytes, Score)> = combined.into_iter().map(|(member, score)| (member, Score::new(score))).collect();
        // The members are in the order of their bytes already, and stay so where scores are equal.
        scored.sort_by(|(_, one), (_, other)| one.value().partial_cmp(&other.value()).unwrap_or(Ordering::Equal));
        scored
    }

    /// Whether scores are weighted at all.
    fn allowed(self, scores: bool) -> Allowed {
        Allowed { weights: self != Self::Difference, scores, limit: false }
    }
}

fn read(arguments: &[Bytes], command: &str, combination: Combination) -> Parsed {
    let (keys, rest) = keys(&arguments[1..], command)?;
    let options = options(rest, keys.len(), combination.allowed(true));
    Ok(Action::first(contents(keys), move |answers| {
        // Redis looks at the options only where no key is of another type.
        let (inputs, options) = (inputs(answers)?, options?);
        let members = combination.of(inputs, &options);
        Ok(Action::Reply(if options.with_scores {
            plain(Answer::Scored(members))
        } else {
            bulks(members.into_iter().map(|(member, _)| member))
        }))
    }))
}

fn stored(arguments: &[Bytes], command: &str, combination: Combination) -> Parsed {
    let (target, (keys, rest)) = (arguments[1].clone(), keys(&arguments[2..], command)?);
    let options = options(rest, keys.len(), combination.allowed(false));
    Ok(Action::first(contents(keys), move |answers| {
        let (inputs, options) = (inputs(answers)?, options?);
        let members = combination.of(inputs, &options).into_iter();
        store(&target, Content::SortedSet(members.map(|(member, score)| (member, score.without_negative_zero())).collect()))
    }))
}

fn zintercard(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (keys, rest) = keys(&arguments[1..], "zintercard")?;
    let options = options(rest, keys.len(), Allowed { weights: false, scores: false, limit: true });
    Ok(Action::first(contents(keys), move |answers| {
        let (inputs, options) = (inputs(answers)?, options?);
        let count = Combination::Intersection.of(inputs, &options).len() as u64;
        Ok(Action::Reply(Reply::count(if options.limit == 0 { count } else { count.min(options.limit) })))
    }))
}

/// `ZRANGESTORE target source first last …`.
fn zrangestore(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (range, _) = ranges::range(&arguments[2..], None, None, false)?;
    let target = arguments[1].clone();
    Ok(Action::first(vec![Operation::read(&arguments[2], Query::Range(range))], move |answers| {
        let members = answers.into_iter().next().unwrap_or(Ok(Answer::Nil))?;
        store(&target, Content::SortedSet(if let Answer::Scored(members) = members { members } else { Vec::new() }))
    }))
}
