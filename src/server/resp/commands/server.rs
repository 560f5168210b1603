//! The peer as a server: size, settings, information, the table of commands.

use bytes::Bytes;
use futures::FutureExt;

use super::Call;
use super::action::Action;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{config, info, introspection};
use crate::server::resp::reply::Reply;

const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE);

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, since: &'static str, run: Run) -> Spec {
    Spec { name, arity, flags, group: Group::Server, keys: (0, 0, 0), summary, since, run }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("dbsize", 1, Flags::READONLY.and(Flags::FAST), "Return the number of keys in the whole cluster", "1.0.0", Run::Local(dbsize)),
    row("info", -1, ANYTIME, "Get information and statistics about the server", "1.0.0", Run::Local(info::info)),
    row("config", -2, Flags::NONE, "A container for server configuration commands", "2.0.0", Run::Container(config::SUBCOMMANDS, None)),
    row(
        "command",
        -1,
        ANYTIME,
        "Get array of command details",
        "2.8.13",
        Run::Container(introspection::SUBCOMMANDS, Some(introspection::command)),
    ),
];

fn dbsize(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let node = call.shared.node.clone();
    Ok(Action::Alone(async move { Reply::count(node.key_count().await) }.boxed()))
}
