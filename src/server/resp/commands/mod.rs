//! Every command, a file per family: each file holds the rows of the table, and for each command its parse and reply.

mod action;
mod bitmaps;
mod client;
mod config;
mod connection;
mod fields;
mod hashes;
mod hyperloglogs;
mod info;
mod introspection;
mod keys;
mod keyspace;
mod lcs;
mod lists;
mod options;
mod pick;
mod ranges;
mod ringtide;
mod server;
mod sets;
mod sorted_sets;
pub(crate) mod spec;
mod strings;
mod transactions;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

pub(crate) use action::{Action, CommandError, Gather, Next, Operation, Shape, Work};
use spec::{Flags, Parsed, Run, Spec};

use super::parser::Request;
use super::reply::Reply;
use super::session::Session;
use super::shared::Shared;

/// What a command may need beside its arguments.
pub(crate) struct Call<'a> {
    /// The connection's state.
    pub(crate) session: &'a mut Session,
    /// What all connections share.
    pub(crate) shared: &'a Arc<Shared>,
    /// Whether the command was queued between MULTI and EXEC and now runs.
    pub(crate) in_transaction: bool,
}

/// Every family's part of the table.
const FAMILIES: [&[Spec]; 14] = [
    connection::COMMANDS,
    server::COMMANDS,
    strings::COMMANDS,
    bitmaps::COMMANDS,
    keys::COMMANDS,
    keyspace::COMMANDS,
    sets::COMMANDS,
    hashes::COMMANDS,
    fields::COMMANDS,
    sorted_sets::COMMANDS,
    lists::COMMANDS,
    hyperloglogs::COMMANDS,
    transactions::COMMANDS,
    ringtide::COMMANDS,
];

static TABLE: LazyLock<BTreeMap<&'static [u8], &'static Spec>> = LazyLock::new(|| all().map(|spec| (spec.name.as_bytes(), spec)).collect());

/// Every command.
fn all() -> impl Iterator<Item = &'static Spec> {
    FAMILIES.into_iter().flatten()
}

/// The command of a name in any case.
fn find(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    TABLE.get(&*lower).copied()
}

/// The subcommand of a name in any case.
fn find_within(subcommands: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    subcommands.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Decides what a request does; an error is a reply like any other. Between MULTI and EXEC it is queued.
pub(crate) fn dispatch(request: Request, call: &mut Call<'_>) -> Action {
    let result = match request {
        Request::Command(arguments) => dispatch_command(arguments, call),
        Request::TooBig => Err(CommandError::RequestTooBig),
    };
    result.unwrap_or_else(|error| {
        call.session.fail_transaction();
        Action::Reply(error.into())
    })
}

fn dispatch_command(arguments: Vec<Bytes>, call: &mut Call<'_>) -> Parsed {
    let Some(name) = arguments.first() else { return Err(unknown(&arguments)) };
    let Some(command) = find(name) else {
        // A browser that was made to post to this port: what follows must not be taken for commands.
        let web = [b"post".as_slice(), b"host:"].iter().any(|word| name.eq_ignore_ascii_case(word));
        return if web { Ok(Action::HangUp) } else { Err(unknown(&arguments)) };
    };
    let spec = match (&command.run, arguments.get(1)) {
        (Run::Container(subcommands, _), Some(subcommand)) => {
            find_within(subcommands, subcommand).ok_or_else(|| unknown_subcommand(command, subcommand))?
        }
        _ => command,
    };
    call.session.note_command(command, spec);
    if !spec.accepts(arguments.len()) {
        let name = if std::ptr::eq(spec, command) { spec.name.to_owned() } else { format!("{}|{}", command.name, spec.name) };
        return Err(CommandError::WrongArity(name));
    }
    if !call.session.authenticated && !spec.flags.has(Flags::NO_AUTH) {
        return Err(CommandError::NoAuthentication);
    }
    if call.session.in_multi() && !spec.flags.has(Flags::UNQUEUED) {
        return call.session.queue(arguments).map(|()| Action::Reply(Reply::simple("QUEUED")));
    }
    let action = match &spec.run {
        Run::Pure(parse) => parse(&arguments, call.shared.now_ms()),
        Run::Local(run) => run(&arguments, call),
        Run::Container(_, Some(bare)) => bare(&arguments, call),
        Run::Container(_, None) => Err(CommandError::WrongArity(spec.name.to_owned())),
    };
    // A command that was not queued can't spoil a transaction.
    let action = action.unwrap_or_else(|error| Action::Reply(error.into()));
    Ok(within_limits(action).unwrap_or_else(|error| Action::Reply(error.into())))
}

/// The one place where limits of keys and values are checked: no operation reaches a peer around it.
pub(super) fn within_limits(action: Action) -> Parsed {
    match &action {
        Action::Key(operation, _) => operation.check()?,
        Action::Keys(operations, _) | Action::First(operations, _) => operations.iter().try_for_each(Operation::check)?,
        _ => {}
    }
    Ok(action)
}

/// The most of a name or of arguments that an error quotes, in bytes.
const QUOTED: usize = 128;

fn unknown(arguments: &[Bytes]) -> CommandError {
    let mut beginning = String::new();
    for argument in arguments.iter().skip(1) {
        if beginning.len() >= QUOTED {
            break;
        }
        beginning.push_str(&format!("'{}' ", quote(argument, QUOTED - beginning.len())));
    }
    CommandError::UnknownCommand { name: quote(arguments.first().map_or(b"", Bytes::as_ref), QUOTED), arguments: beginning }
}

fn unknown_subcommand(command: &Spec, subcommand: &[u8]) -> CommandError {
    CommandError::UnknownSubcommand { command: command.name.to_uppercase(), subcommand: quote(subcommand, QUOTED) }
}

fn quote(bytes: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]).into_owned()
}

#[cfg(test)]
mod tests;
