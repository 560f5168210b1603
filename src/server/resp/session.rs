//! What one connection remembers between its commands.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

use super::clients::Client;
use super::command_error::CommandError;
use super::reply::{Protocol, Reply};
use super::subscriptions::Subscriptions;
use crate::config::{MAX_QUEUED, MAX_RECEIPTS, MAX_WATCHED};
use crate::crdt::command::Answer;
use crate::node::Receipt;
use crate::pubsub::{Known, Pubsub, Sort};
use crate::types::Level;

/// The state of one connection.
pub(crate) struct Session {
    /// The version of the protocol.
    pub(crate) protocol: Protocol,
    /// How many replicas commands wait for.
    pub(crate) level: Level,
    /// Whether the client gave the password, or none is needed.
    pub(crate) authenticated: bool,
    /// Its entry in the list of clients.
    pub(crate) client: Arc<Client>,
    /// The writes that WAIT asks about.
    pub(crate) receipts: Receipts,
    /// What it subscribes to.
    pub(crate) subscriptions: Subscriptions,
    /// Which replies the client wants.
    pub(crate) silence: Silence,
    /// The keys that the next EXEC depends on.
    pub(crate) watched: Watched,
    transaction: Option<Transaction>,
}

/// Which replies a client wants: CLIENT REPLY.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Silence {
    /// All of them.
    #[default]
    None,
    /// None.
    Lasting,
    /// Not that to the next command, nor that to the one that said so.
    Next,
    /// Not that to this command.
    This,
}

/// Keys that WATCH named, and the digest of what each showed then. Clones share them: they are read after the command that asks for them was parsed.
#[derive(Clone, Default)]
pub(crate) struct Watched {
    /// Held for an insertion or while it is emptied; never across an `await`.
    keys: Arc<Mutex<BTreeMap<Bytes, Answer>>>,
}

impl Watched {
    /// Adds keys as they showed. One that is watched already stays as it was.
    ///
    /// # Errors
    /// Where that would be too many; none is added.
    pub(crate) fn add(&self, shown: Vec<(Bytes, Answer)>) -> Result<(), CommandError> {
        let mut keys = self.lock();
        let new = shown.iter().filter(|(key, _)| !keys.contains_key(key)).count();
        if keys.len() + new > MAX_WATCHED {
            return Err(CommandError::TooManyWatched);
        }
        for (key, answer) in shown {
            keys.entry(key).or_insert(answer);
        }
        Ok(())
    }

    /// Forgets every key; what each showed.
    pub(crate) fn take(&self) -> BTreeMap<Bytes, Answer> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bytes, Answer>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was queued since MULTI.
pub(crate) enum Transaction {
    /// Commands that wait for EXEC.
    Queued {
        /// Name and arguments of each.
        commands: Vec<Vec<Bytes>>,
        /// What they cost in memory, in bytes.
        cost: usize,
    },
    /// A command could not be queued, so EXEC will refuse all.
    Failed,
}

/// What an argument costs beside its bytes, about.
const ARGUMENT_COST: usize = 64;

impl Session {
    /// The state of a new connection.
    pub(crate) fn new(client: Arc<Client>, authenticated: bool) -> Self {
        let (protocol, level, receipts) = (Protocol::default(), Level::default(), Receipts::default());
        let (subscriptions, silence, watched) = (Subscriptions::default(), Silence::default(), Watched::default());
        Self { protocol, level, authenticated, client, receipts, subscriptions, silence, watched, transaction: None }
    }

    /// Changes the version of the protocol.
    pub(crate) fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.profile().protocol = protocol;
    }

    /// Records the names of a command and of its subcommand for CLIENT LIST.
    pub(crate) fn note_command(&self, command: &'static str, subcommand: Option<&'static str>) {
        let mut profile = self.client.profile();
        profile.command = (command, subcommand);
        profile.active_at = Instant::now();
    }

    /// Puts everything back to what a new connection has, except what it wrote.
    pub(crate) fn reset(&mut self, authenticated: bool) {
        self.end_transaction();
        self.subscriptions.clear();
        self.silence = Silence::None;
        self.watched.take();
        self.speak(Protocol::default());
        self.level = Level::default();
        self.authenticated = authenticated;
        let mut profile = self.client.profile();
        profile.name.clear();
        profile.subscriptions = [0; 3];
    }

    /// Whether nothing but what concerns subscriptions may be asked, since other replies could not be told from messages.
    pub(crate) fn is_restricted(&self) -> bool {
        self.protocol == Protocol::Resp2 && !self.subscriptions.is_empty()
    }

    /// Another command begins.
    pub(crate) fn begin_command(&mut self) {
        self.silence = match self.silence {
            Silence::Next => Silence::This,
            Silence::This => Silence::None,
            lasting => lasting,
        };
    }

    /// Whether any of the queued commands is such.
    pub(crate) fn queues(&self, is_such: &dyn Fn(&[Bytes]) -> bool) -> bool {
        matches!(&self.transaction, Some(Transaction::Queued { commands, .. }) if commands.iter().any(|command| is_such(command)))
    }

    /// Subscribes: what to reply, and when.
    pub(crate) fn subscribe(&mut self, pubsub: &Pubsub, sort: Sort, names: &[Bytes]) -> (Reply, Option<Known>) {
        let subscribed = self.subscriptions.subscribe(pubsub, sort, names);
        self.client.profile().subscriptions = self.subscriptions.counts();
        subscribed
    }

    /// Ends subscriptions: what to reply.
    pub(crate) fn unsubscribe(&mut self, sort: Sort, names: &[Bytes]) -> Reply {
        let reply = self.subscriptions.unsubscribe(sort, names);
        self.client.profile().subscriptions = self.subscriptions.counts();
        reply
    }

    /// Whether commands are queued.
    pub(crate) fn in_multi(&self) -> bool {
        self.transaction.is_some()
    }

    /// MULTI.
    pub(crate) fn begin_transaction(&mut self) {
        self.transaction = Some(Transaction::Queued { commands: Vec::new(), cost: 0 });
        self.client.profile().queued = Some(0);
    }

    /// EXEC or DISCARD: what was queued, `None` without MULTI.
    pub(crate) fn end_transaction(&mut self) -> Option<Transaction> {
        let mut profile = self.client.profile();
        (profile.queued, profile.queued_bytes) = (None, 0);
        self.transaction.take()
    }

    /// Makes EXEC refuse all that was queued, and forgets it.
    pub(crate) fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            *transaction = Transaction::Failed;
        }
    }

    /// Queues a command for EXEC.
    ///
    /// # Errors
    /// Where the queue is full.
    pub(crate) fn queue(&mut self, arguments: Vec<Bytes>) -> Result<(), CommandError> {
        if let Some(Transaction::Queued { commands, cost }) = &mut self.transaction {
            *cost += arguments.iter().map(|argument| argument.len() + ARGUMENT_COST).sum::<usize>();
            if *cost > MAX_QUEUED {
                return Err(CommandError::QueueTooBig);
            }
            commands.push(arguments);
            let mut profile = self.client.profile();
            (profile.queued, profile.queued_bytes) = (Some(commands.len()), *cost);
        }
        Ok(())
    }
}

/// The latest writes of a connection, each batch once.
#[derive(Clone, Default)]
pub(crate) struct Receipts(VecDeque<Receipt>);

impl Receipts {
    /// Adds writes; the oldest go where there are too many.
    pub(crate) fn add(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            // Writes of one pipeline mostly end up in one batch.
            if !self.0.iter().rev().take(4).any(|known| known == receipt) {
                self.0.push_back(*receipt);
            }
        }
        let surplus = self.0.len().saturating_sub(MAX_RECEIPTS);
        self.0.drain(..surplus);
    }

    /// Takes out writes that every replica has.
    pub(crate) fn prune(&mut self, complete: &[Receipt]) {
        self.0.retain(|receipt| !complete.contains(receipt));
    }

    /// The writes.
    pub(crate) fn to_vec(&self) -> Vec<Receipt> {
        self.0.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PeerId;

    fn receipt(batch: u64) -> Receipt {
        Receipt { executor: PeerId([1; 32]), batch }
    }

    #[test]
    fn a_key_is_watched_as_it_was_first_and_only_so_many_are() {
        let watched = Watched::default();
        let shown = |name: String, digest| (Bytes::from(name), Answer::Integer(digest));
        watched.add(vec![shown("k".to_owned(), 1), shown("k".to_owned(), 2)]).unwrap();
        watched.add(vec![shown("k".to_owned(), 3)]).unwrap();
        assert_eq!(watched.add((0..MAX_WATCHED).map(|number| shown(number.to_string(), 0)).collect()), Err(CommandError::TooManyWatched));
        assert_eq!(watched.take(), BTreeMap::from([shown("k".to_owned(), 1)]));
        watched.add((0..MAX_WATCHED).map(|number| shown(number.to_string(), 0)).collect()).unwrap();
        assert_eq!(watched.add(vec![shown("k".to_owned(), 1)]), Err(CommandError::TooManyWatched));
    }

    #[test]
    fn a_batch_is_asked_about_once_and_the_latest_are_kept() {
        let mut receipts = Receipts::default();
        receipts.add(&[receipt(1), receipt(2), receipt(1)]);
        assert_eq!(receipts.to_vec(), [receipt(1), receipt(2)]);
        for batch in 0..5000 {
            receipts.add(&[receipt(batch)]);
        }
        assert_eq!(receipts.to_vec().len(), MAX_RECEIPTS);
        assert_eq!(receipts.to_vec().last(), Some(&receipt(4999)));
        receipts.prune(&[receipt(4999)]);
        assert_eq!(receipts.to_vec().last(), Some(&receipt(4998)));
    }
}
