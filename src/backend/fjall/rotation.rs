//! When a full memtable is sealed and handed to the flush pool, and what happens when the pool does not keep up.
//!
//! fjall seals memtables by itself when they pass their size: every write above it posts a message into one bounded queue,
//! and the workers that drain this queue post into it too, with a blocking send. Under load all workers end up in that
//! send. Then nothing is flushed ever again, writes go on succeeding, and memory and journal grow until the machine
//! gives up (fjall pull request 323). So the keyspace is made with a limit that is never reached, and the one thread that
//! commits seals the memtable by our own count. It also waits for the pool *before* it seals: fjall's own waits, inside of
//! its commit, have no end, and would hang for ever on a pool that died of a full disk.

use std::thread;
use std::time::Duration;

use fjall::{AbstractTree, Database, Keyspace, PersistMode};

use crate::config;
use crate::env::StorageError;

/// Sealed memtables at which fjall's commit stops and waits, without an end.
const FJALL_SEALED_LIMIT: usize = 4;
/// Runs in level 0 at which fjall's commit stops and waits, without an end.
const FJALL_RUNS_LIMIT: usize = 30;
const POLL: Duration = Duration::from_millis(5);
/// Polls after which the database is asked whether it is still alive.
const POLLS_PER_CHECK: u32 = 64;

const _: () = assert!(config::SEALED_MEMTABLES < FJALL_SEALED_LIMIT, "fjall must never get to wait");

/// Why the memtable could not be sealed.
#[derive(Debug)]
pub(super) enum Stalled {
    /// The pool did not finish anything in [`config::STORAGE_STALL`].
    Timeout,
    /// fjall has given up.
    Fjall(fjall::Error),
    /// What is to be sealed could not be made durable.
    Promise(StorageError),
}

impl From<fjall::Error> for Stalled {
    fn from(error: fjall::Error) -> Self {
        Self::Fjall(error)
    }
}

/// Seals the active memtable if it holds at least `limit` bytes, once the flush pool has room for it, and `promise` has made
/// what it holds durable.
///
/// Only the committing thread may call this.
pub(super) fn make_room(
    database: &Database,
    keyspace: &Keyspace,
    limit: u64,
    promise: impl FnOnce() -> Result<(), StorageError>,
) -> Result<(), Stalled> {
    if keyspace.tree.active_memtable().size() < limit {
        return Ok(());
    }
    let has_room = || {
        let sealed = keyspace.tree.sealed_memtable_count();
        sealed < config::SEALED_MEMTABLES && sealed + keyspace.tree.l0_run_count() + 1 < FJALL_RUNS_LIMIT
    };
    wait_for(has_room, || database.persist(PersistMode::Buffer))?;
    promise().map_err(Stalled::Promise)?;
    keyspace.rotate_memtable()?;
    Ok(())
}

/// Polls until a condition holds or time is up; `check` is asked now and then whether waiting makes sense still.
#[expect(clippy::disallowed_methods, reason = "this is the committing thread's own, and the flush pool runs in real time")]
fn wait_for(condition: impl Fn() -> bool, check: impl Fn() -> Result<(), fjall::Error>) -> Result<(), Stalled> {
    let polls = u32::try_from(config::STORAGE_STALL.as_millis() / POLL.as_millis()).unwrap_or(u32::MAX);
    for poll in 1..=polls {
        if condition() {
            return Ok(());
        }
        if poll % POLLS_PER_CHECK == 0 {
            check()?;
        }
        thread::sleep(POLL);
    }
    Err(Stalled::Timeout)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn waiting_ends_when_the_condition_holds_or_the_database_has_died() {
        let polls = Cell::new(0);
        let third = || {
            polls.set(polls.get() + 1);
            polls.get() == 3
        };
        assert!(wait_for(third, || Ok(())).is_ok());
        assert_eq!(polls.get(), 3);
        assert!(matches!(wait_for(|| false, || Err(fjall::Error::Poisoned)), Err(Stalled::Fjall(_))));
    }
}
