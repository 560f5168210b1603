//! The peer as a server: size, settings, information, the table of commands.

use bytes::Bytes;
use futures::FutureExt;

use super::action::{Action, CommandError};
use super::options::is;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, acl, config, info, introspection, latency, observing};
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;
use crate::server::resp::shared::VERSION;

const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE);
const QUICK: Flags = ANYTIME.and(Flags::FAST);
const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, since: &'static str, run: Run) -> Spec {
    Spec { name, arity, flags, group: Group::Server, keys: (0, 0, 0), summary, since, run }
}

const fn container(name: &'static str, summary: &'static str, since: &'static str, subcommands: &'static [Spec]) -> Spec {
    row(name, -2, Flags::NONE, summary, since, Run::Container(subcommands, None))
}

pub(super) const COMMANDS: &[Spec] = &[
    row("dbsize", 1, Flags::READONLY.and(Flags::FAST), "Return the number of keys in the whole cluster", "1.0.0", Run::Local(dbsize)),
    row("info", -1, ANYTIME, "Get information and statistics about the server", "1.0.0", Run::Local(info::info)),
    container("config", "A container for server configuration commands", "2.0.0", config::SUBCOMMANDS),
    row(
        "command",
        -1,
        ANYTIME,
        "Get array of command details",
        "2.8.13",
        Run::Container(introspection::SUBCOMMANDS, Some(introspection::command)),
    ),
    container("slowlog", "A container for slow log commands", "2.2.12", observing::SLOWLOG),
    container("latency", "A container for latency diagnostics commands", "2.8.13", latency::SUBCOMMANDS),
    container("memory", "A container for memory diagnostics commands", "4.0.0", observing::MEMORY),
    container("acl", "A container for Access List Control commands; there is one user", "6.0.0", acl::SUBCOMMANDS),
    row("time", 1, QUICK, "Return the current server time", "2.6.0", Run::Local(time)),
    row("role", 1, QUICK.and(Flags::NOSCRIPT), "Return the role of the peer: every one is a master", "2.8.12", Run::Pure(role)),
    row("lastsave", 1, QUICK, "Get the time of the last save: everything is saved always", "1.0.0", Run::Local(last_save)),
    row("save", 1, ADMIN, "Accepted: everything is saved always", "1.0.0", Run::Pure(|_, _| Ok(Action::Reply(Reply::OK)))),
    row("bgsave", -1, ADMIN, "Accepted: everything is saved always", "1.0.0", Run::Pure(background_save)),
    row(
        "bgrewriteaof",
        1,
        ADMIN,
        "Accepted: the log is rewritten all the time",
        "1.0.0",
        Run::Pure(|_, _| Ok(Action::Reply(Reply::simple("Background append only file rewriting started")))),
    ),
    row("swapdb", 3, Flags::WRITE.and(Flags::FAST), "Swap two databases; there is only 0", "4.0.0", Run::Pure(swap)),
    row("lolwut", -1, Flags::READONLY.and(Flags::FAST), "Display the version", "5.0.0", Run::Pure(lolwut)),
    row("debug", -2, ADMIN.and(ANYTIME), "Refused, as Redis does where it is not allowed", "1.0.0", Run::Pure(debug)),
];

fn dbsize(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let node = call.shared.node.clone();
    Ok(Action::Alone(async move { Reply::count(node.key_count().await) }.boxed()))
}

fn time(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let now_ms = call.shared.now_ms();
    Ok(Action::Reply(Reply::Array(vec![Reply::text(now_ms / 1000), Reply::text(now_ms % 1000 * 1000)])))
}

fn role(_arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Action::Reply(Reply::Array(vec![Reply::bulk("master"), Reply::Integer(0), Reply::Array(Vec::new())])))
}

fn last_save(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    Ok(Action::Reply(Reply::Integer(call.shared.now_ms() / 1000)))
}

fn background_save(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    match &arguments[1..] {
        [] => {}
        [word] if is(word, "schedule") => {}
        _ => return Err(CommandError::Syntax),
    }
    Ok(Action::Reply(Reply::simple("Background saving started")))
}

/// `SWAPDB index index`.
fn swap(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    for (index, which) in [(&arguments[1], "first"), (&arguments[2], "second")] {
        let index = parse_integer(index).filter(|index| i32::try_from(*index).is_ok());
        if index.is_none() {
            return Err(CommandError::Other(format!("ERR invalid {which} DB index")));
        }
    }
    if arguments[1..].iter().any(|index| parse_integer(index) != Some(0)) {
        return Err(CommandError::other("ERR DB index is out of range"));
    }
    Ok(Action::Reply(Reply::OK))
}

fn lolwut(_arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Action::Reply(Reply::Text(format!("Ringtide ver. {VERSION}\n"))))
}

fn debug(_arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Err(CommandError::other(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, \
         otherwise you need to set this option in the configuration file, and then restart the server.",
    ))
}
