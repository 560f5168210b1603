//! Every command, a file per family: each file holds the rows of the table, and for each command its parse and reply.

mod acl;
mod action;
mod bitmaps;
mod client;
mod config;
mod connection;
mod dumps;
mod fields;
mod figures;
mod geo;
mod hashes;
mod help;
mod hyperloglogs;
mod info;
mod info_fields;
mod introspection;
mod keys;
mod keyspace;
mod kill;
mod latency;
mod lcs;
mod lists;
mod migrate;
mod moving;
mod object;
mod observing;
mod options;
mod partial;
mod pick;
mod pubsub;
mod ranges;
mod reference;
mod ringtide;
mod scans;
mod server;
mod set_algebra;
mod sets;
mod sort;
mod sorted_set_algebra;
mod sorted_sets;
pub(crate) mod spec;
mod strings;
mod take;
mod takes;
mod transactions;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

pub(crate) use action::{Action, CommandError, Gather, Next, Operation, Shape, Work};
pub(crate) use partial::partly_done;
use spec::{Flags, Parsed, Run, Spec};
pub(crate) use take::{Patience, Take, Taking};

use super::parser::Request;
use super::reply::Reply;
use super::session::Session;
use super::shared::Shared;
use crate::config::MAX_KEY;
use crate::node::OperationError;

/// What a command may need beside its arguments.
pub(crate) struct Call<'a> {
    /// The connection's state.
    pub(crate) session: &'a mut Session,
    /// What all connections share.
    pub(crate) shared: &'a Arc<Shared>,
    /// Whether the command was queued between MULTI and EXEC and now runs.
    pub(crate) in_transaction: bool,
    /// What is noted of the command, for figures.
    pub(crate) note: Note,
}

/// What is known of a command once it was dispatched, beside what it does.
#[derive(Default)]
pub(crate) struct Note {
    /// Its row in the table, counted as [`full_names`] does; `None` for one that doesn't exist.
    pub(crate) row: Option<usize>,
    /// Its arguments, unless they were queued.
    pub(crate) arguments: Vec<Bytes>,
    /// Whether it was refused before it was looked at.
    pub(crate) rejected: bool,
    /// Whether the client wants no reply.
    pub(crate) silent: bool,
}

/// Every family's part of the table.
const FAMILIES: [&[Spec]; 25] = [
    connection::COMMANDS,
    server::COMMANDS,
    strings::COMMANDS,
    bitmaps::COMMANDS,
    keys::COMMANDS,
    keyspace::COMMANDS,
    scans::COMMANDS,
    moving::COMMANDS,
    dumps::COMMANDS,
    migrate::COMMANDS,
    object::COMMANDS,
    sort::COMMANDS,
    sets::COMMANDS,
    set_algebra::COMMANDS,
    hashes::COMMANDS,
    fields::COMMANDS,
    sorted_sets::COMMANDS,
    sorted_set_algebra::COMMANDS,
    geo::COMMANDS,
    lists::COMMANDS,
    takes::COMMANDS,
    hyperloglogs::COMMANDS,
    transactions::COMMANDS,
    pubsub::COMMANDS,
    ringtide::COMMANDS,
];

/// Each command with its number among all rows: subcommands stand behind their command.
static TABLE: LazyLock<BTreeMap<&'static [u8], (&'static Spec, usize)>> = LazyLock::new(|| {
    let mut row = 0;
    let numbered = all().map(|spec| {
        let own = row;
        row += 1 + spec.subcommands().len();
        (spec.name.as_bytes(), (spec, own))
    });
    numbered.collect()
});

/// Every command.
fn all() -> impl Iterator<Item = &'static Spec> {
    FAMILIES.into_iter().flatten()
}

/// The name of every row, in order.
pub(crate) fn full_names() -> impl Iterator<Item = String> {
    all().flat_map(|command| std::iter::once(command).chain(command.subcommands()).map(|spec| full_name(command, spec)))
}

/// The row of a command such as `get` or `client|id`.
fn row_of(name: &[u8]) -> Option<usize> {
    let (command, subcommand) = match name.iter().position(|byte| *byte == b'|') {
        None => (name, None),
        Some(bar) => (&name[..bar], Some(&name[bar + 1..])),
    };
    let (command, row) = find_row(command)?;
    subcommand.map_or(Some(row), |subcommand| place_within(command.subcommands(), subcommand).map(|place| row + 1 + place))
}

/// A row and, where it is one of a command with subcommands, theirs.
fn rows_of(row: usize) -> impl Iterator<Item = usize> {
    let command = TABLE.values().find(|(_, own)| *own == row);
    row..=row + command.map_or(0, |(command, _)| command.subcommands().len())
}

/// The command of a name in any case.
fn find(name: &[u8]) -> Option<&'static Spec> {
    find_row(name).map(|(spec, _)| spec)
}

/// The command of a name in any case, and its row.
fn find_row(name: &[u8]) -> Option<(&'static Spec, usize)> {
    let mut lower = [0; 32];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    TABLE.get(&*lower).copied()
}

/// The subcommand of a name in any case.
fn find_within(subcommands: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    place_within(subcommands, name).and_then(|place| subcommands.get(place))
}

fn place_within(subcommands: &'static [Spec], name: &[u8]) -> Option<usize> {
    subcommands.iter().position(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Whether a command may change something, or EXEC what is queued: what waits while writes are paused.
pub(crate) fn may_change(arguments: &[Bytes], session: &Session) -> bool {
    let Some(command) = arguments.first().and_then(|name| find(name)) else { return false };
    let changes = |spec: &Spec| spec.flags.has(Flags::WRITE) || spec.flags.has(Flags::MAY_REPLICATE);
    changes(command) || command.name == "exec" && session.queues(&|queued| queued.first().and_then(|name| find(name)).is_some_and(changes))
}

/// Decides what a request does; an error is a reply like any other. Between MULTI and EXEC it is queued.
pub(crate) fn dispatch(request: Request, call: &mut Call<'_>) -> Action {
    let result = match request {
        Request::Command(mut arguments) => {
            let result = dispatch_command(&mut arguments, call);
            call.note.arguments = arguments;
            result
        }
        Request::TooBig => Err(CommandError::RequestTooBig),
        Request::Discarded => Err(CommandError::Other(OperationError::Busy.to_string())),
    };
    result.unwrap_or_else(|error| {
        call.note.rejected = true;
        call.session.fail_transaction();
        Action::Reply(error.into())
    })
}

fn dispatch_command(arguments: &mut Vec<Bytes>, call: &mut Call<'_>) -> Parsed {
    let Some(name) = arguments.first() else { return Err(unknown(arguments)) };
    let Some((command, row)) = find_row(name) else {
        // A browser that was made to post to this port: what follows must not be taken for commands.
        let web = [b"post".as_slice(), b"host:"].iter().any(|word| name.eq_ignore_ascii_case(word));
        return if web { Ok(Action::HangUp) } else { Err(unknown(arguments)) };
    };
    let (spec, row) = match (&command.run, arguments.get(1)) {
        (Run::Container(subcommands, _), Some(subcommand)) => {
            let place = place_within(subcommands, subcommand).ok_or_else(|| unknown_subcommand(command, subcommand))?;
            (&subcommands[place], row + 1 + place)
        }
        _ => (command, row),
    };
    call.note.row = Some(row);
    call.session.note_command(command.name, (!std::ptr::eq(command, spec)).then_some(spec.name));
    if !spec.accepts(arguments.len()) {
        return Err(transactions::if_exec(spec, CommandError::WrongArity(full_name(command, spec)), call));
    }
    if !call.session.authenticated && !spec.flags.has(Flags::NO_AUTH) {
        return Err(CommandError::NoAuthentication);
    }
    if call.session.is_restricted() && !call.in_transaction && !spec.flags.has(Flags::SUBSCRIBED) {
        return Err(transactions::if_exec(spec, CommandError::WhileSubscribed(full_name(command, spec)), call));
    }
    if call.session.in_multi() && !spec.flags.has(Flags::UNQUEUED) {
        return call.session.queue(std::mem::take(arguments)).map(|()| Action::Reply(Reply::simple("QUEUED")));
    }
    let action = match &spec.run {
        Run::Pure(parse) => parse(arguments, call.shared.now_ms()),
        Run::Local(run) => run(arguments, call),
        Run::Container(_, Some(bare)) => bare(arguments, call),
        Run::Container(_, None) => Err(CommandError::WrongArity(spec.name.to_owned())),
    };
    // A command that was not queued can't spoil a transaction.
    let action = match action.unwrap_or_else(|error| Action::Reply(error.into())) {
        // Between MULTI and EXEC nothing waits.
        Action::Take(take) if call.in_transaction => Action::Take(take.at_once()),
        action => action,
    };
    Ok(within_limits(action).unwrap_or_else(|error| Action::Reply(error.into())))
}

/// The name of a command, or of a subcommand as `client|id`.
fn full_name(command: &Spec, spec: &Spec) -> String {
    if std::ptr::eq(spec, command) { spec.name.to_owned() } else { format!("{}|{}", command.name, spec.name) }
}

/// The one place where limits of keys and values are checked: no operation reaches a peer around it.
pub(super) fn within_limits(action: Action) -> Parsed {
    match &action {
        Action::Key(operation, _) => operation.check()?,
        Action::Keys(operations, _) | Action::First(operations, _) => operations.iter().try_for_each(Operation::check)?,
        Action::Take(take) if take.named().any(|key| key.len() > MAX_KEY) => return Err(CommandError::KeyTooBig),
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
