//! MULTI, EXEC, DISCARD: commands queued by one connection and run in order, with nothing of that connection between. WATCH: only where some keys are as they were.
//!
//! There is no isolation from other connections and other peers, and no undoing: as in Redis, a command that fails leaves
//! the others standing. What was watched is read again, at the connection's level, when EXEC comes: it refuses where this peer can see that something was written,
//! deleted or expired since. Two peers that do not see each other can both go on.

use bytes::Bytes;

use super::Call;
use super::action::{Action, CommandError, Operation};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::config::MAX_WATCHED;
use crate::crdt::command::Answer;
use crate::crdt::key::Query;
use crate::server::resp::reply::Reply;
use crate::server::resp::session::Transaction;

const ANYTIME: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const FLAGS: Flags = ANYTIME.and(Flags::UNQUEUED);
const QUEUED: Flags = ANYTIME.and(Flags::FAST).and(Flags::ALLOW_BUSY);
const FAST: Flags = QUEUED.and(Flags::UNQUEUED);

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
    Spec {
        arity: -2,
        keys: (1, -1, 1),
        ..row("watch", FAST, "Watch the given keys to determine execution of the MULTI/EXEC block", "2.2.0", watch)
    },
    Spec { flags: QUEUED, ..row("unwatch", FAST, "Forget about all watched keys", "2.2.0", unwatch) },
];

fn multi(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    if call.session.in_multi() {
        return Err(CommandError::other("ERR MULTI calls can not be nested"));
    }
    call.session.begin_transaction();
    Ok(Action::Reply(Reply::OK))
}

fn exec(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let ended = call.session.end_transaction().ok_or_else(|| CommandError::other("ERR EXEC without MULTI"))?;
    let watched = call.session.watched.take();
    match ended {
        Transaction::Failed => Err(CommandError::other("EXECABORT Transaction discarded because of previous errors.")),
        Transaction::Queued { commands, .. } if watched.is_empty() => Ok(Action::Transaction(commands)),
        Transaction::Queued { commands, .. } => {
            let questions = watched.keys().map(|key| Operation::read(key, Query::Digest)).collect();
            Ok(Action::first(questions, move |answers| {
                let shown: Vec<Answer> = answers.into_iter().collect::<Result<_, _>>()?;
                let is_unchanged = shown.iter().eq(watched.values());
                Ok(if is_unchanged { Action::Transaction(commands) } else { Action::Reply(Reply::NullArray) })
            }))
        }
    }
}

fn discard(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.session.end_transaction().ok_or_else(|| CommandError::other("ERR DISCARD without MULTI"))?;
    unwatch(&[], call)
}

fn watch(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    if call.session.in_multi() {
        return Err(CommandError::other("ERR WATCH inside MULTI is not allowed"));
    }
    let (keys, watched) = (arguments[1..].to_vec(), call.session.watched.clone());
    if keys.len() > MAX_WATCHED {
        return Err(CommandError::TooManyWatched);
    }
    let questions = keys.iter().map(|key| Operation::read(key, Query::Digest)).collect();
    Ok(Action::first(questions, move |answers| {
        let shown: Vec<Answer> = answers.into_iter().collect::<Result<_, _>>()?;
        watched.add(keys.into_iter().zip(shown).collect())?;
        Ok(Action::Reply(Reply::OK))
    }))
}

fn unwatch(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.session.watched.take();
    Ok(Action::Reply(Reply::OK))
}
