//! CLIENT: who is connected, and what they told about themselves.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::action::{Action, CommandError};
use super::introspection::lines;
use super::options::{client_type, integer, is};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, help, kill};
use crate::server::resp::integer::parse_integer;
use crate::server::resp::lines::Unblocked;
use crate::server::resp::reply::Reply;
use crate::server::resp::session::Silence;

/// A pause whose end no clock shows ends after so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = FLAGS.and(Flags::ADMIN);

const fn row(
    name: &'static str,
    arity: i64,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&[Bytes], &mut Call<'_>) -> Parsed,
) -> Spec {
    Spec { name, arity, flags, group: Group::Connection, keys: (0, 0, 0), summary, since, run: Run::Local(run) }
}

pub(super) const SUBCOMMANDS: &[Spec] = &[
    row("id", 2, FLAGS, "Returns the client ID for the current connection", "5.0.0", id),
    row("setname", 3, FLAGS, "Set the current connection name", "2.6.9", set_name),
    row("getname", 2, FLAGS, "Get the current connection name", "2.6.9", get_name),
    row("setinfo", 4, FLAGS, "Set client or connection specific info", "7.2.0", set_info),
    row("info", 2, FLAGS, "Returns information about the current client connection.", "6.2.0", info),
    row("list", -2, ADMIN, "Get the list of client connections", "2.4.0", list),
    row("kill", -3, ADMIN, "Kill the connection of a client", "2.4.0", kill::kill),
    row("pause", -3, ADMIN, "Stop processing commands from clients for some time", "2.9.50", pause),
    row("unpause", 2, ADMIN, "Resume processing of clients that were paused", "6.2.0", unpause),
    row("reply", 3, FLAGS, "Instruct the server whether to reply to commands", "3.2.0", reply),
    row("no-evict", 3, ADMIN, "Set client eviction mode for the current connection", "7.0.0", no_evict),
    row("unblock", -3, ADMIN, "Unblock a client blocked in a blocking command from a different connection", "5.0.0", unblock),
    row("no-touch", 3, FLAGS, "Accepted for clients that send it: there is nothing to touch", "7.2.0", no_touch),
    row("tracking", -3, FLAGS, "Client side caching is not offered: only OFF is taken", "6.0.0", tracking),
    row("caching", 3, FLAGS, "Client side caching is not offered", "6.0.0", caching),
    row("getredir", 2, FLAGS, "Get tracking notifications redirection client ID if any", "6.0.0", |_, _| {
        Ok(Action::Reply(Reply::Integer(-1)))
    }),
    row(
        "trackinginfo",
        2,
        FLAGS,
        "Return information about server assisted client side caching for the current connection",
        "6.2.0",
        |_, _| Ok(Action::Reply(tracking_info())),
    ),
    row("help", 2, Flags::LOADING.and(Flags::STALE), "Show helpful text about the different subcommands", "5.0.0", |_, _| {
        Ok(Action::Reply(lines(help::CLIENT)))
    }),
];

/// A name as clients may give themselves; it has to fit into a line of CLIENT LIST.
///
/// # Errors
/// Where it holds spaces, line ends or anything that is not printable ASCII.
pub(super) fn checked_name(name: &[u8]) -> Result<String, CommandError> {
    printable(name).ok_or_else(|| CommandError::other("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn printable(text: &[u8]) -> Option<String> {
    text.iter().all(u8::is_ascii_graphic).then(|| String::from_utf8_lossy(text).into_owned())
}

fn id(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    Ok(Action::Reply(Reply::count(call.session.client.id)))
}

fn set_name(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.session.client.profile().name = checked_name(&arguments[2])?;
    Ok(Action::Reply(Reply::OK))
}

fn get_name(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let name = call.session.client.profile().name.clone();
    Ok(Action::Reply(if name.is_empty() { Reply::Null } else { Reply::bulk(name) }))
}

fn set_info(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let (attribute, value) = (&arguments[2], printable(&arguments[3]));
    let refused = || {
        let attribute = String::from_utf8_lossy(attribute).to_lowercase();
        CommandError::Other(format!("ERR {attribute} cannot contain spaces, newlines or special characters."))
    };
    let mut profile = call.session.client.profile();
    if is(attribute, "lib-name") {
        profile.library_name = value.ok_or_else(refused)?;
    } else if is(attribute, "lib-ver") {
        profile.library_version = value.ok_or_else(refused)?;
    } else {
        return Err(CommandError::Other(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(attribute))));
    }
    Ok(Action::Reply(Reply::OK))
}

fn info(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    Ok(Action::Reply(Reply::Text(call.session.client.to_string())))
}

/// `CLIENT LIST [TYPE type | ID id…]`.
fn list(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let mut clients = call.shared.clients.list();
    match &arguments[2..] {
        [] => {}
        [option, kind] if is(option, "type") => {
            let kind = client_type(kind)?;
            clients.retain(|client| client.client_type() == kind);
        }
        [option, ids @ ..] if is(option, "id") && !ids.is_empty() => {
            let ids: Option<Vec<u64>> = ids.iter().map(|id| parse_integer(id).and_then(|id| u64::try_from(id).ok())).collect();
            let ids = ids.ok_or_else(|| CommandError::other("ERR Invalid client ID"))?;
            clients.retain(|client| ids.contains(&client.id));
        }
        _ => return Err(CommandError::Syntax),
    }
    Ok(Action::Reply(Reply::Text(clients.iter().map(ToString::to_string).collect())))
}

/// `CLIENT PAUSE timeout [WRITE | ALL]`.
fn pause(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let all = match &arguments[3..] {
        [] => true,
        [mode] if is(mode, "all") => true,
        [mode] if is(mode, "write") => false,
        [_] => return Err(CommandError::other("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(CommandError::subcommand_syntax(arguments, "CLIENT")),
    };
    let timeout_ms = parse_integer(&arguments[2]).ok_or_else(|| CommandError::other("ERR timeout is not an integer or out of range"))?;
    let timeout_ms = u64::try_from(timeout_ms).map_err(|_| CommandError::other("ERR timeout is negative"))?;
    let now = Instant::now();
    let until = now.checked_add(Duration::from_millis(timeout_ms)).unwrap_or(now + LONGEST_PAUSE);
    call.shared.pause.begin(until, all);
    Ok(Action::Reply(Reply::OK))
}

fn unpause(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.shared.pause.end();
    Ok(Action::Reply(Reply::OK))
}

/// `CLIENT REPLY ON | OFF | SKIP`. Only ON is answered.
fn reply(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let silence = &mut call.session.silence;
    match () {
        () if is(&arguments[2], "on") => *silence = Silence::None,
        () if is(&arguments[2], "off") => *silence = Silence::Lasting,
        () if is(&arguments[2], "skip") && *silence == Silence::Lasting => {}
        () if is(&arguments[2], "skip") => *silence = Silence::Next,
        () => return Err(CommandError::Syntax),
    }
    Ok(Action::Reply(Reply::OK))
}

fn tracking(arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    if on_or_off(&arguments[2])? {
        return Err(CommandError::other("ERR Client side caching is not offered"));
    }
    Ok(Action::Reply(Reply::OK))
}

fn caching(_arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    Err(CommandError::other("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"))
}

fn tracking_info() -> Reply {
    let flags = Reply::Set(vec![Reply::bulk("off")]);
    Reply::map([("flags", flags), ("redirect", Reply::Integer(-1)), ("prefixes", Reply::Array(Vec::new()))])
}

/// `CLIENT UNBLOCK id [TIMEOUT | ERROR]`.
fn unblock(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let why = match &arguments[3..] {
        [] => Unblocked::TimedOut,
        [why] if is(why, "timeout") => Unblocked::TimedOut,
        [why] if is(why, "error") => Unblocked::Refused,
        [_] => return Err(CommandError::other("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(CommandError::other("ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.")),
    };
    let client = u64::try_from(integer(&arguments[2])?).ok();
    let waited = client.is_some_and(|client| call.shared.lines.unblock(client, why));
    Ok(Action::Reply(Reply::Integer(i64::from(waited))))
}

fn no_evict(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.session.client.profile().no_evict = on_or_off(&arguments[2])?;
    Ok(Action::Reply(Reply::OK))
}

fn no_touch(arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    on_or_off(&arguments[2])?;
    Ok(Action::Reply(Reply::OK))
}

fn on_or_off(argument: &[u8]) -> Result<bool, CommandError> {
    match (is(argument, "on"), is(argument, "off")) {
        (true, _) => Ok(true),
        (_, true) => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}
