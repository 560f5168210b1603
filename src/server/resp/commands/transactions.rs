//! MULTI, EXEC, DISCARD: commands queued by one connection and run in order, with nothing of that connection between.
//!
//! There is no isolation from other connections and other peers, and no undoing: as in Redis, a command that fails leaves
//! the others standing.

use bytes::Bytes;

use super::Call;
use super::action::{Action, CommandError};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::server::resp::reply::Reply;
use crate::server::resp::session::Transaction;

const FLAGS: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::UNQUEUED);
const FAST: Flags = FLAGS.and(Flags::FAST).and(Flags::ALLOW_BUSY);

const fn row(
    name: &'static str,
    flags: Flags,
    summary: &'static str,
    since: &'static str,
    run: fn(&[Bytes], &mut Call<'_>) -> Parsed,
) -> Spec {
    Spec { name, arity: 1, flags, group: Group::Transactions, keys: (0, 0, 0), summary, since, run: Run::Local(run) }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("multi", FAST, "Mark the start of a transaction block", "1.2.0", multi),
    row("exec", FLAGS, "Execute all commands issued after MULTI", "1.2.0", exec),
    row("discard", FAST, "Discard all commands issued after MULTI", "2.0.0", discard),
];

fn multi(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    if call.session.in_multi() {
        return Err(CommandError::other("ERR MULTI calls can not be nested"));
    }
    call.session.begin_transaction();
    Ok(Action::Reply(Reply::OK))
}

fn exec(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    match call.session.end_transaction() {
        None => Err(CommandError::other("ERR EXEC without MULTI")),
        Some(Transaction::Failed) => Err(CommandError::other("EXECABORT Transaction discarded because of previous errors.")),
        Some(Transaction::Queued { commands, .. }) => Ok(Action::Transaction(commands)),
    }
}

fn discard(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.session.end_transaction().map(|_| Action::Reply(Reply::OK)).ok_or_else(|| CommandError::other("ERR DISCARD without MULTI"))
}
