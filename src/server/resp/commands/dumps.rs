//! DUMP and RESTORE: a key as bytes that a Redis takes, and back ([`dump`]).

use bytes::Bytes;

use super::action::{CommandError, Operation};
use super::moving::replace;
use super::options::{integer, is};
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::Answer;
use crate::crdt::key::Query;
use crate::notifications::{Classes, Event};
use crate::server::resp::dump::{self, DumpError};
use crate::server::resp::reply::Reply;

pub(super) const COMMANDS: &[Spec] = &[
    Group::Generic.row(
        "dump",
        2,
        Flags::READONLY,
        "Return a serialized version of the value stored at the specified key.",
        "2.6.0",
        |arguments, _| {
            Ok(Operation::read(&arguments[1], Query::Content { with_token: false }).shaped(|answer| match answer {
                Answer::Content { content: Some(content), .. } => Reply::Bulk(dump::serialize(&content)),
                _ => Reply::Null,
            }))
        },
    ),
    Group::Generic.row(
        "restore",
        -4,
        Flags::WRITE.and(Flags::DENYOOM),
        "Create a key using the provided serialized value, previously obtained using DUMP.",
        "2.6.0",
        restore,
    ),
];

impl From<DumpError> for CommandError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::TooBig => Self::ContentTooBig,
            DumpError::Foreign | DumpError::Malformed => Self::Other(error.to_string()),
        }
    }
}

/// The options of RESTORE.
#[derive(Default)]
struct Options {
    replaces: bool,
    /// Whether the time counts from 1970.
    absolute: bool,
}

impl Options {
    /// When a key was last used, and how often, is checked and not kept: nothing is thrown out here.
    fn read(arguments: &[Bytes]) -> Result<Self, CommandError> {
        let (mut options, mut rest) = (Self::default(), arguments);
        let (mut has_idle_time, mut has_frequency) = (false, false);
        while let Some((name, after)) = rest.split_first() {
            rest = match after {
                after if is(name, "replace") => {
                    options.replaces = true;
                    after
                }
                after if is(name, "absttl") => {
                    options.absolute = true;
                    after
                }
                [seconds, after @ ..] if is(name, "idletime") && !has_frequency => {
                    if integer(seconds)? < 0 {
                        return Err(CommandError::other("ERR Invalid IDLETIME value, must be >= 0"));
                    }
                    has_idle_time = true;
                    after
                }
                [frequency, after @ ..] if is(name, "freq") && !has_idle_time => {
                    if !(0..=255).contains(&integer(frequency)?) {
                        return Err(CommandError::other("ERR Invalid FREQ value, must be >= 0 and <= 255"));
                    }
                    has_frequency = true;
                    after
                }
                _ => return Err(CommandError::Syntax),
            };
        }
        Ok(options)
    }
}

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`. One write puts all of it in place of the key.
fn restore(arguments: &[Bytes], now_ms: i64) -> Parsed {
    let (key, options) = (&arguments[1], Options::read(&arguments[4..])?);
    let busy = Reply::Error("BUSYKEY Target key name already exists.".to_owned());
    match restored(arguments, &options, now_ms) {
        Ok(operation) => Ok(operation.shaped(|answer| if answer == Answer::Integer(1) { Reply::OK } else { busy })),
        Err(error) if options.replaces => Err(error),
        // Whether there is such a key is what Redis looks at first.
        Err(error) => Ok(Operation::read(key, Query::Type).shaped(|answer| if answer == Answer::Type(None) { error.into() } else { busy })),
    }
}

/// The write that puts in place what was dumped.
fn restored(arguments: &[Bytes], options: &Options, now_ms: i64) -> Result<Operation, CommandError> {
    let time = integer(&arguments[2])?;
    let end_ms = match u64::try_from(time) {
        Err(_) => return Err(CommandError::other("ERR Invalid TTL value, must be >= 0")),
        Ok(0) => None,
        Ok(end_ms) if options.absolute => Some(end_ms),
        Ok(_) => u64::try_from(time.saturating_add(now_ms)).ok(),
    };
    let content = dump::deserialize(&arguments[3])?;
    Ok(replace(&arguments[1], content, end_ms, !options.replaces)?.announced(Event::of_replacement(Classes::GENERIC, "restore")))
}
