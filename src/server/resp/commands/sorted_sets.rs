//! Sorted sets.

use bytes::Bytes;

use super::Call;
use super::action::{CommandError, Operation, plain};
use super::options::{is, positive};
use super::pick::{Pick, random_count};
use super::ranges::{self, By, range_query};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::Answer;
use crate::crdt::float::parse_double;
use crate::crdt::sorted_set::{AddCondition, Comparison, Mutation, Order, Presence, Query, Range, Score};
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY;
const FAST_READ: Flags = READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const FAST_WRITE: Flags = WRITE.and(Flags::FAST);
const GROW: Flags = FAST_WRITE.and(Flags::DENYOOM);

pub(super) const COMMANDS: &[Spec] = &[
    Group::SortedSet.row(
        "zadd",
        -4,
        GROW,
        "Add one or more members to a sorted set, or update its score if it already exists",
        "1.2.0",
        zadd,
    ),
    Group::SortedSet.row("zincrby", 4, GROW, "Increment the score of a member in a sorted set", "1.2.0", zincrby),
    Group::SortedSet.row("zrem", -3, FAST_WRITE, "Remove one or more members from a sorted set", "1.2.0", zrem),
    Group::SortedSet.row("zscore", 3, FAST_READ, "Get the score associated with the given member in a sorted set", "1.2.0", zscore),
    Group::SortedSet.row("zmscore", -3, FAST_READ, "Get the score associated with the given members in a sorted set", "6.2.0", zmscore),
    Group::SortedSet.row("zcard", 2, FAST_READ, "Get the number of members in a sorted set", "1.2.0", zcard),
    Group::SortedSet.row(
        "zcount",
        4,
        FAST_READ,
        "Count the members in a sorted set with scores within the given values",
        "2.0.0",
        |arguments, _| counted(arguments, By::Scores),
    ),
    Group::SortedSet.row(
        "zlexcount",
        4,
        FAST_READ,
        "Count the number of members in a sorted set between a given lexicographical range",
        "2.8.9",
        |arguments, _| counted(arguments, By::Members),
    ),
    Group::SortedSet.row("zrank", 3, FAST_READ, "Determine the index of a member in a sorted set", "2.0.0", |arguments, _| {
        Ok(rank(arguments, Order::Ascending))
    }),
    Group::SortedSet.row(
        "zrevrank",
        3,
        FAST_READ,
        "Determine the index of a member in a sorted set, with scores ordered from high to low",
        "2.0.0",
        |arguments, _| Ok(rank(arguments, Order::Descending)),
    ),
    Group::SortedSet
        .row("zrange", -4, READ, "Return a range of members in a sorted set", "1.2.0", |arguments, _| range_query(arguments, None, None)),
    Group::SortedSet.row(
        "zrevrange",
        -4,
        READ,
        "Return a range of members in a sorted set, by index, with scores ordered from high to low",
        "1.2.0",
        |arguments, _| range_query(arguments, Some(By::Places), Some(Order::Descending)),
    ),
    Group::SortedSet.row("zrangebyscore", -4, READ, "Return a range of members in a sorted set, by score", "1.0.5", |arguments, _| {
        range_query(arguments, Some(By::Scores), Some(Order::Ascending))
    }),
    Group::SortedSet.row(
        "zrevrangebyscore",
        -4,
        READ,
        "Return a range of members in a sorted set, by score, with scores ordered from high to low",
        "2.2.0",
        |arguments, _| range_query(arguments, Some(By::Scores), Some(Order::Descending)),
    ),
    Group::SortedSet.row(
        "zrangebylex",
        -4,
        READ,
        "Return a range of members in a sorted set, by lexicographical range",
        "2.8.9",
        |arguments, _| range_query(arguments, Some(By::Members), Some(Order::Ascending)),
    ),
    Group::SortedSet.row(
        "zrevrangebylex",
        -4,
        READ,
        "Return a range of members in a sorted set, by lexicographical range, ordered from higher to lower strings.",
        "2.8.9",
        |arguments, _| range_query(arguments, Some(By::Members), Some(Order::Descending)),
    ),
    Group::SortedSet.row(
        "zremrangebyrank",
        4,
        WRITE,
        "Remove all members in a sorted set within the given indexes",
        "2.0.0",
        |arguments, _| removed(arguments, By::Places),
    ),
    Group::SortedSet.row(
        "zremrangebyscore",
        4,
        WRITE,
        "Remove all members in a sorted set within the given scores",
        "1.2.0",
        |arguments, _| removed(arguments, By::Scores),
    ),
    Group::SortedSet.row(
        "zremrangebylex",
        4,
        WRITE,
        "Remove all members in a sorted set between the given lexicographical range",
        "2.8.9",
        |arguments, _| removed(arguments, By::Members),
    ),
    Group::SortedSet.row(
        "zpopmin",
        -2,
        FAST_WRITE,
        "Remove and return members with the lowest scores in a sorted set",
        "5.0.0",
        |arguments, _| pop(arguments, Order::Ascending),
    ),
    Group::SortedSet.row(
        "zpopmax",
        -2,
        FAST_WRITE,
        "Remove and return members with the highest scores in a sorted set",
        "5.0.0",
        |arguments, _| pop(arguments, Order::Descending),
    ),
    Spec {
        name: "zrandmember",
        arity: -2,
        flags: READ,
        group: Group::SortedSet,
        keys: (1, 1, 1),
        summary: "Get one or multiple random elements from a sorted set",
        since: "6.2.0",
        run: Run::Local(zrandmember),
    },
];

/// The options of ZADD.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct AddOptions {
    condition: AddCondition,
    changed: bool,
    increment: bool,
}

/// Reads the options of ZADD, and how many arguments they are.
fn add_options(arguments: &[Bytes]) -> (AddOptions, [bool; 4], usize) {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    let mut options = AddOptions::default();
    let mut count = 0;
    for option in arguments {
        match () {
            () if is(option, "nx") => nx = true,
            () if is(option, "xx") => xx = true,
            () if is(option, "gt") => gt = true,
            () if is(option, "lt") => lt = true,
            () if is(option, "ch") => options.changed = true,
            () if is(option, "incr") => options.increment = true,
            () => break,
        }
        count += 1;
    }
    options.condition.presence = match (nx, xx) {
        (true, _) => Presence::Absent,
        (_, true) => Presence::Present,
        _ => Presence::Any,
    };
    options.condition.comparison = match (gt, lt) {
        (true, _) => Comparison::Greater,
        (_, true) => Comparison::Less,
        _ => Comparison::Any,
    };
    (options, [nx, xx, gt, lt], count)
}

fn zadd(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (options, [nx, xx, gt, lt], count) = add_options(&arguments[2..]);
    let pairs = &arguments[2 + count..];
    if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    if nx && xx {
        return Err(CommandError::other("ERR XX and NX options at the same time are not compatible"));
    }
    if nx && (gt || lt) || gt && lt {
        return Err(CommandError::other("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if options.increment && pairs.len() > 2 {
        return Err(CommandError::other("ERR INCR option supports a single increment-element pair"));
    }
    let members = pairs.chunks_exact(2).map(|pair| Ok((pair[1].clone(), score(&pair[0])?)));
    let members: Vec<(Bytes, Score)> = members.collect::<Result<_, CommandError>>()?;
    let AddOptions { condition, changed, increment } = options;
    let mutation = match members.as_slice() {
        [(member, amount)] if increment => Mutation::Increment { member: member.clone(), amount: *amount, condition },
        _ => {
            let members = members.into_iter().map(|(member, score)| (member, score.without_negative_zero())).collect();
            Mutation::Add { members, condition, changed }
        }
    };
    Ok(Operation::write(&arguments[1], mutation).plain())
}

fn score(argument: &[u8]) -> Result<Score, CommandError> {
    parse_double(argument).map(Score::new).ok_or(CommandError::NotAFloat)
}

fn zincrby(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (member, amount) = (arguments[3].clone(), score(&arguments[2])?);
    Ok(Operation::write(&arguments[1], Mutation::Increment { member, amount, condition: AddCondition::default() }).plain())
}

fn zrem(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::write(&arguments[1], Mutation::Remove(arguments[2..].to_vec())).plain())
}

fn zscore(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Scores(vec![arguments[2].clone()])).shaped(|answer| match answer {
        Answer::Scores(scores) => scores.into_iter().next().flatten().map_or(Reply::Null, Reply::Double),
        other => plain(other),
    }))
}

fn zmscore(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Scores(arguments[2..].to_vec())).plain())
}

fn zcard(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Operation::read(&arguments[1], Query::Count(Range::all())).plain())
}

fn counted(arguments: &[Bytes], by: By) -> Parsed {
    let span = ranges::span(by, &arguments[2], &arguments[3])?;
    Ok(Operation::read(&arguments[1], Query::Count(Range { span, order: Order::Ascending, limit: None })).plain())
}

fn rank(arguments: &[Bytes], order: Order) -> super::Action {
    Operation::read(&arguments[1], Query::Rank { member: arguments[2].clone(), order }).plain()
}

fn removed(arguments: &[Bytes], by: By) -> Parsed {
    let span = ranges::span(by, &arguments[2], &arguments[3])?;
    Ok(Operation::write(&arguments[1], Mutation::RemoveRange(Range { span, order: Order::Ascending, limit: None })).plain())
}

fn pop(arguments: &[Bytes], order: Order) -> Parsed {
    let count = match &arguments[2..] {
        [] => None,
        [count] => Some(positive(count)?),
        _ => return Err(CommandError::Syntax),
    };
    let operation = Operation::write(&arguments[1], Mutation::Pop { count: count.unwrap_or(1), order });
    Ok(operation.shaped(move |answer| match answer {
        Answer::Scored(members) if count.is_none() => {
            Reply::Array(members.into_iter().flat_map(|(member, score)| [Reply::Bulk(member), Reply::Double(score)]).collect())
        }
        other => plain(other),
    }))
}

fn zrandmember(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let seed = call.shared.random();
    let pick = match arguments.get(2) {
        None => Pick::One,
        Some(count) => random_count(count)?,
    };
    let with_scores = match &arguments[2..] {
        [_, word] if is(word, "withscores") => true,
        [] | [_] => false,
        _ => return Err(CommandError::Syntax),
    };
    pick.check_pairs(with_scores)?;
    Ok(Operation::read(&arguments[1], Query::Range(Range::all())).shaped(move |answer| match answer {
        Answer::Scored(members) if with_scores => plain(Answer::Scored(pick.of(members, seed))),
        Answer::Scored(members) => pick.reply(members.into_iter().map(|(member, _)| member).collect(), seed),
        other => plain(other),
    }))
}
