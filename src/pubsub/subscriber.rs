//! Somebody who subscribes: its own list of names, and its mailbox.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;

use super::mailbox::Mailbox;
use super::table::Sort;
use super::{Known, Pubsub};
use crate::config::MAX_SUBSCRIBED;

/// What a subscription costs beside its name, in the tables here and there, about.
const SUBSCRIPTION_COST: usize = 256;

/// A subscription that would be one too many. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("TOOBIG the channels and patterns of a client exceed 64 MiB")]
pub struct TooMany;

/// Somebody who subscribes, until it is dropped.
pub struct Subscriber {
    pubsub: Pubsub,
    number: u64,
    mailbox: Arc<Mailbox>,
    names: [BTreeSet<Bytes>; 3],
    cost: usize,
}

impl Subscriber {
    pub(super) fn new(pubsub: Pubsub, number: u64) -> Self {
        Self { pubsub, number, mailbox: Arc::default(), names: Default::default(), cost: 0 }
    }

    /// What waits for it.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// How many names of a sort it subscribes to.
    #[must_use]
    pub fn count(&self, sort: Sort) -> usize {
        self.names[sort as usize].len()
    }

    /// The names of a sort that it subscribes to, in the order of their bytes.
    #[must_use]
    pub fn names(&self, sort: Sort) -> Vec<Bytes> {
        self.names[sort as usize].iter().cloned().collect()
    }

    /// Subscribes. Messages arrive from now on.
    ///
    /// # Errors
    /// Where it subscribes to too much.
    pub fn subscribe(&mut self, sort: Sort, name: &Bytes) -> Result<(), TooMany> {
        if self.names[sort as usize].contains(name) {
            return Ok(());
        }
        let cost = self.cost + name.len() + SUBSCRIPTION_COST;
        if cost > MAX_SUBSCRIBED {
            return Err(TooMany);
        }
        // A name of its own: the client's input buffer must not live as long.
        let name = Bytes::copy_from_slice(name);
        let mut state = self.pubsub.state();
        state.table.add(sort, name.clone(), self.number, self.mailbox.clone());
        self.pubsub.begin_to_listen(&mut state);
        drop(state);
        self.cost = cost;
        self.names[sort as usize].insert(name);
        Ok(())
    }

    /// Ends a subscription, if there is such a one. No message of it arrives any more; those that arrived stay.
    pub fn unsubscribe(&mut self, sort: Sort, name: &Bytes) {
        if !self.names[sort as usize].remove(name) {
            return;
        }
        self.cost -= name.len() + SUBSCRIPTION_COST;
        let mut state = self.pubsub.state();
        state.table.remove(sort, name, self.number);
        self.pubsub.end_to_listen(&mut state);
    }

    /// Resolves once whatever is published at any peer reaches this one.
    pub fn known(&self) -> Known {
        let known = self.pubsub.state().known.clone();
        known.unwrap_or_else(|| std::future::ready(()).boxed().shared())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut state = self.pubsub.state();
        for sort in Sort::ALL {
            self.names[sort as usize].iter().for_each(|name| state.table.remove(sort, name, self.number));
        }
        self.pubsub.end_to_listen(&mut state);
    }
}
