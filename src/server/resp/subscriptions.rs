//! The subscriptions of one connection, and what it says about them.
//!
//! Messages come to a client between replies, never inside one: neither within the array of EXEC, nor before a subscription was
//! confirmed to it.

use bytes::Bytes;

use super::reply::Reply;
use crate::pubsub::{Delivery, Known, Mailbox, Pubsub, Sort, Subscriber, TooMany};

/// What one connection subscribes to. Nothing is kept for one that never subscribed.
#[derive(Default)]
pub(crate) struct Subscriptions(Option<Subscriber>);

impl Subscriptions {
    /// Subscribes to names in turn: what to reply, and when.
    pub(crate) fn subscribe(&mut self, pubsub: &Pubsub, sort: Sort, names: &[Bytes]) -> (Reply, Option<Known>) {
        let mut replies = Vec::with_capacity(names.len());
        let subscriber = self.0.get_or_insert_with(|| pubsub.subscriber());
        for name in names {
            if let Err(error @ TooMany) = subscriber.subscribe(sort, name) {
                replies.push(Reply::Error(error.to_string()));
                break;
            }
            replies.push(confirmation(word(sort, true), Some(name), counted(subscriber, sort)));
        }
        (Reply::Several(replies), Some(subscriber.known()))
    }

    /// Ends subscriptions to names in turn, or to all of a sort where none is named: what to reply.
    pub(crate) fn unsubscribe(&mut self, sort: Sort, names: &[Bytes]) -> Reply {
        let word = word(sort, false);
        let Some(subscriber) = &mut self.0 else {
            return match names {
                [] => confirmation(word, None, 0),
                names => Reply::Several(names.iter().map(|name| confirmation(word, Some(name), 0)).collect()),
            };
        };
        let all;
        let names = if names.is_empty() {
            all = subscriber.names(sort);
            &all
        } else {
            names
        };
        if names.is_empty() {
            return confirmation(word, None, counted(subscriber, sort));
        }
        let mut replies = Vec::with_capacity(names.len());
        for name in names {
            subscriber.unsubscribe(sort, name);
            replies.push(confirmation(word, Some(name), counted(subscriber, sort)));
        }
        Reply::Several(replies)
    }

    /// Ends every subscription. What waited is dropped.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }

    /// How many channels, patterns and shard channels.
    pub(crate) fn counts(&self) -> [usize; 3] {
        Sort::ALL.map(|sort| self.0.as_ref().map_or(0, |subscriber| subscriber.count(sort)))
    }

    /// Whether there is any.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts() == [0; 3]
    }

    /// What waits for the client, where it ever subscribed.
    pub(crate) fn mailbox(&self) -> Option<&Mailbox> {
        self.0.as_ref().map(|subscriber| &**subscriber.mailbox())
    }

    /// Resolves when messages arrived; never where nothing is subscribed.
    pub(crate) async fn arrived(&self) {
        match self.mailbox() {
            Some(mailbox) => mailbox.arrived().await,
            None => std::future::pending().await,
        }
    }
}

/// The number in a confirmation: channels and patterns together, or shard channels.
fn counted(subscriber: &Subscriber, sort: Sort) -> usize {
    match sort {
        Sort::Channel | Sort::Pattern => subscriber.count(Sort::Channel) + subscriber.count(Sort::Pattern),
        Sort::Shard => subscriber.count(Sort::Shard),
    }
}

fn word(sort: Sort, subscribes: bool) -> &'static str {
    match (sort, subscribes) {
        (Sort::Channel, true) => "subscribe",
        (Sort::Pattern, true) => "psubscribe",
        (Sort::Shard, true) => "ssubscribe",
        (Sort::Channel, false) => "unsubscribe",
        (Sort::Pattern, false) => "punsubscribe",
        (Sort::Shard, false) => "sunsubscribe",
    }
}

fn confirmation(word: &'static str, name: Option<&Bytes>, count: usize) -> Reply {
    let name = name.map_or(Reply::Null, |name| Reply::Bulk(name.clone()));
    Reply::Push(vec![Reply::bulk(word), name, Reply::count(count)])
}

/// A message as the client gets it.
pub(crate) fn message(delivery: Delivery) -> Reply {
    let Delivery { pattern, sharded, channel, message } = delivery;
    let (channel, message) = (Reply::Bulk(channel), Reply::Bulk(message));
    Reply::Push(match pattern {
        Some(pattern) => vec![Reply::bulk("pmessage"), Reply::Bulk(pattern), channel, message],
        None => vec![Reply::bulk(if sharded { "smessage" } else { "message" }), channel, message],
    })
}
