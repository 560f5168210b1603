//! ACL: there is one user, who may do everything. Only what clients ask for in passing is offered.

use bytes::Bytes;

use super::action::{Action, CommandError};
use super::introspection::{is_in, lines};
use super::options::is;
use super::spec::{CATEGORIES, Flags, Group, Parsed, Run, Spec};
use super::{Call, all, full_name, help};
use crate::server::resp::reply::Reply;

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = FLAGS.and(Flags::ADMIN);

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, run: fn(&[Bytes], &mut Call<'_>) -> Parsed) -> Spec {
    Spec { name, arity, flags, group: Group::Server, keys: (0, 0, 0), summary, since: "6.0.0", run: Run::Local(run) }
}

pub(super) const SUBCOMMANDS: &[Spec] = &[
    row("whoami", 2, FLAGS, "Return the name of the user associated to the current connection", |_, _| {
        Ok(Action::Reply(Reply::bulk("default")))
    }),
    row("users", 2, ADMIN, "List the username of all the configured ACL rules", |_, _| {
        Ok(Action::Reply(Reply::Array(vec![Reply::bulk("default")])))
    }),
    row("list", 2, ADMIN, "List the current ACL rules in ACL config file format", list),
    row("cat", -2, FLAGS, "List the ACL categories or the commands inside a category", categories),
    row("help", 2, Flags::LOADING.and(Flags::STALE), "Show helpful text about the different subcommands", |_, _| {
        Ok(Action::Reply(lines(help::ACL)))
    }),
];

fn list(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    // A password is told by its hash at Redis; here it stays where it is.
    let password = if call.shared.asks_password() { "" } else { " nopass" };
    Ok(Action::Reply(Reply::Array(vec![Reply::text(format_args!("user default on{password} ~* &* +@all"))])))
}

fn categories(arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    match &arguments[2..] {
        [] => Ok(Action::Reply(Reply::Array(CATEGORIES.into_iter().map(Reply::bulk).collect()))),
        [wanted] => {
            let category = CATEGORIES.into_iter().find(|category| is(wanted, category));
            let category =
                category.ok_or_else(|| CommandError::Other(format!("ERR Unknown category '{}'", String::from_utf8_lossy(wanted))))?;
            let rows = all().flat_map(|command| std::iter::once(command).chain(command.subcommands()).map(move |spec| (command, spec)));
            let within =
                rows.filter(|(command, spec)| spec.subcommands().is_empty() && is_in(&full_name(command, spec), spec, category.as_bytes()));
            Ok(Action::Reply(Reply::Array(within.map(|(command, spec)| Reply::bulk(full_name(command, spec))).collect())))
        }
        _ => Err(CommandError::subcommand_syntax(arguments, "ACL")),
    }
}
