//! Ranges of sorted sets as commands name them: by place, by score, by the members' bytes.

use bytes::Bytes;

use super::action::{CommandError, Operation, bulks, plain};
use super::options::{integer, is};
use super::spec::Parsed;
use crate::crdt::command::Answer;
use crate::crdt::float::parse_double;
use crate::crdt::sorted_set::{MemberBound, Order, Query, Range, Score, ScoreBound, Span};

/// By what a range is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// Places.
    Places,
    /// Scores.
    Scores,
    /// Members.
    Members,
}

/// ZRANGE and its older relatives, which have their kind of range and their order in their name.
pub(super) fn range_query(arguments: &[Bytes], by: Option<By>, order: Option<Order>) -> Parsed {
    let (range, with_scores) = range(&arguments[1..], by, order, true)?;
    Ok(Operation::read(&arguments[1], Query::Range(range)).shaped(move |answer| match answer {
        Answer::Scored(members) if !with_scores => bulks(members.into_iter().map(|(member, _)| member)),
        other => plain(other),
    }))
}

/// Reads a range: a key, its two ends, and options. Tells also whether scores are asked for, which `may_show_scores` allows.
///
/// # Errors
/// Where an end is none of its kind, or an option does not exist or does not go with the others.
pub(super) fn range(
    arguments: &[Bytes],
    by: Option<By>,
    order: Option<Order>,
    may_show_scores: bool,
) -> Result<(Range, bool), CommandError> {
    let (mut chosen_by, mut chosen_order, mut with_scores, mut limit) = (by, order, false, None);
    let mut rest = arguments[3..].iter();
    while let Some(option) = rest.next() {
        match () {
            () if may_show_scores && is(option, "withscores") => with_scores = true,
            () if is(option, "limit") && rest.len() >= 2 => {
                let mut number = || rest.next().map_or(Err(CommandError::Syntax), |number| integer(number));
                limit = Some((number()?, number()?));
            }
            () if order.is_none() && is(option, "rev") => chosen_order = Some(Order::Descending),
            () if chosen_by.is_none() && is(option, "bylex") => chosen_by = Some(By::Members),
            () if chosen_by.is_none() && is(option, "byscore") => chosen_by = Some(By::Scores),
            () => return Err(CommandError::Syntax),
        }
    }
    let (by, order) = (chosen_by.unwrap_or(By::Places), chosen_order.unwrap_or_default());
    if by == By::Places && limit.is_some_and(|(_, count)| count != -1) {
        let text = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
        return Err(CommandError::other(text));
    }
    if by == By::Members && with_scores {
        return Err(CommandError::other("ERR syntax error, WITHSCORES not supported in combination with BYLEX"));
    }
    let (first, last) = (&arguments[1], &arguments[2]);
    let swapped = by != By::Places && order == Order::Descending;
    let span = if swapped { span(by, last, first)? } else { span(by, first, last)? };
    Ok((Range { span, order, limit: limit.filter(|_| by != By::Places) }, with_scores))
}

/// A range of a kind from its two ends.
///
/// # Errors
/// Where one of them is none of its kind.
pub(super) fn span(by: By, first: &Bytes, last: &Bytes) -> Result<Span, CommandError> {
    Ok(match by {
        By::Places => Span::Places(integer(first)?, integer(last)?),
        By::Scores => Span::Scores(score_bound(first)?, score_bound(last)?),
        By::Members => Span::Members(member_bound(first)?, member_bound(last)?),
    })
}

fn score_bound(argument: &[u8]) -> Result<ScoreBound, CommandError> {
    let (exclusive, text) = match argument {
        [b'(', text @ ..] => (true, text),
        text => (false, text),
    };
    let score = bound(text).ok_or_else(|| CommandError::other("ERR min or max is not a float"))?;
    Ok(ScoreBound { score: Score::new(score), exclusive })
}

/// An end of a range of scores, which Redis reads less strictly than a score: blanks before it, nothing at all for 0, infinite where it is too great.
fn bound(text: &[u8]) -> Option<f64> {
    let text = text.trim_ascii_start();
    if text.is_empty() {
        return Some(0.0);
    }
    let lenient = || std::str::from_utf8(text).ok()?.parse().ok().filter(|double: &f64| !double.is_nan());
    parse_double(text).or_else(lenient)
}

fn member_bound(argument: &Bytes) -> Result<MemberBound, CommandError> {
    match argument.as_ref() {
        b"-" => Ok(MemberBound::Least),
        b"+" => Ok(MemberBound::Greatest),
        [b'[', ..] => Ok(MemberBound::Including(argument.slice(1..))),
        [b'(', ..] => Ok(MemberBound::Excluding(argument.slice(1..))),
        _ => Err(CommandError::other("ERR min or max not valid string range item")),
    }
}
