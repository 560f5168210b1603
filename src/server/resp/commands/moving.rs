//! Keys that become others: RENAME and COPY, and what a command computed that takes the place of a key.
//!
//! Source and target may lie at different peers, so there are two writes: first the target is replaced in one mutation, then exactly what was read is
//! removed at the source. Where the second fails the content is at both keys, never at neither; what others wrote to the source meanwhile stays there.

use bytes::Bytes;

use super::action::{Action, CommandError, Operation};
use super::options::{database, is};
use super::partial::half_done;
use super::spec::{Flags, Group, Parsed, Spec};
use crate::config::{MAX_CONTENT, MAX_TOKEN};
use crate::crdt::command::{Answer, Refusal};
use crate::crdt::content::Content;
use crate::crdt::key::{Mutation, Query};
use crate::node::OperationError;
use crate::notifications::{Classes, Event};
use crate::server::resp::reply::Reply;

const fn row(
    name: &'static str,
    arity: i64,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    parse: fn(&[Bytes], i64) -> Parsed,
) -> Spec {
    Spec { keys: (1, 2, 1), ..Group::Generic.row(name, arity, flags, summary, since, parse) }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("rename", 3, Flags::WRITE, "Rename a key", "1.0.0", rename),
    row("renamenx", 3, Flags::WRITE.and(Flags::FAST), "Rename a key, only if the new key does not exist", "1.0.0", renamenx),
    row("copy", -3, Flags::WRITE.and(Flags::DENYOOM), "Copy a key", "6.2.0", copy),
    Group::Generic.row("move", 3, Flags::WRITE.and(Flags::FAST), "Move a key to another database; there is only 0", "1.0.0", move_key),
];

/// Puts what a command computed in place of whatever a key holds, and replies how many elements it has. Nothing deletes the key. Announced as this
/// event.
///
/// # Errors
/// Where it is more than can be written at once.
pub(super) fn store(target: &Bytes, content: Content, class: Classes, event: &'static str) -> Parsed {
    let count = Reply::count(content.len());
    let operation = if content.is_empty() {
        Operation::write(target, Mutation::Delete)
    } else {
        replace(target, content, None, false)?.announced(Event::of_replacement(class, event))
    };
    Ok(operation.shaped(|_| count))
}

/// Puts content in place of whatever a key holds: answers 1, or 0 where the key had to be new and is not.
///
/// # Errors
/// Where it is more than can be written at once.
pub(super) fn replace(target: &Bytes, content: Content, expires_at_ms: Option<u64>, only_new: bool) -> Result<Operation, CommandError> {
    if content.size() > MAX_CONTENT {
        return Err(CommandError::ContentTooBig);
    }
    Ok(Operation::write(target, Mutation::Replace { content, expires_at_ms, only_new }))
}

fn same() -> CommandError {
    CommandError::other("ERR source and destination objects are the same")
}

/// What a key holds, when it expires, and the token of that; `None` where there is no key.
type Source = Option<(Content, Option<u64>, Bytes)>;

/// Reads a key and goes on with what it holds.
fn with_content(key: &Bytes, with_token: bool, next: impl FnOnce(Source) -> Parsed + Send + 'static) -> Action {
    Action::first(vec![Operation::read(key, Query::Content { with_token })], move |answers| {
        next(match answers.into_iter().next().unwrap_or(Ok(Answer::Nil))? {
            Answer::Content { content: Some(content), expires_at_ms, token } => Some((content, expires_at_ms, token)),
            _ => None,
        })
    })
}

fn rename(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(renamed(&arguments[1], &arguments[2], false))
}

fn renamenx(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(renamed(&arguments[1], &arguments[2], true))
}

fn renamed(source: &Bytes, target: &Bytes, only_new: bool) -> Action {
    let (source, target) = (source.clone(), target.clone());
    let done = if only_new { Reply::Integer(1) } else { Reply::OK };
    with_content(&source.clone(), true, move |held| {
        let Some((content, expires_at_ms, token)) = held else { return Err(OperationError::Refused(Refusal::NoSuchKey).into()) };
        if source == target {
            return Ok(Action::Reply(if only_new { Reply::Integer(0) } else { Reply::OK }));
        }
        if token.len() > MAX_TOKEN {
            return Err(CommandError::ContentTooBig);
        }
        let remove = Operation::write(&source, Mutation::RemoveSeen { token });
        Ok(Action::first(vec![replace(&target, content, expires_at_ms, only_new)?], move |answers| {
            if answers.into_iter().next().unwrap_or(Ok(Answer::Nil))? != Answer::Integer(1) {
                return Ok(Action::Reply(Reply::Integer(0)));
            }
            Ok(Action::first(vec![remove], move |answers| {
                let failed = answers.into_iter().find_map(Result::err);
                Ok(Action::Reply(failed.map_or(done, |error| half_done(&error, [&target], [&source]))))
            }))
        }))
    })
}

/// `COPY source target [DB 0] [REPLACE]`.
fn copy(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let (mut replaces, mut rest) = (false, &arguments[3..]);
    while let Some((option, after)) = rest.split_first() {
        rest = match after {
            after if is(option, "replace") => {
                replaces = true;
                after
            }
            [number, after @ ..] if is(option, "db") => {
                database(number)?;
                after
            }
            _ => return Err(CommandError::Syntax),
        };
    }
    let (source, target) = (&arguments[1], arguments[2].clone());
    if *source == target {
        return Err(same());
    }
    Ok(with_content(source, false, move |held| match held {
        None => Ok(Action::Reply(Reply::Integer(0))),
        Some((content, expires_at_ms, _)) => {
            Ok(replace(&target, content, expires_at_ms, !replaces)?.announced(Event::of_replacement(Classes::GENERIC, "copy_to")).plain())
        }
    }))
}

fn move_key(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    database(&arguments[2])?;
    Err(same())
}
