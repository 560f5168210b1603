//! Who subscribes to what at this peer: three tables of names, and for each name its subscribers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::mailbox::{Delivery, Mailbox};
use crate::config::MAX_CHANNELS_TOLD;
use crate::env::message::{Inquiry, Publication, Reply};
use crate::glob;

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Sort {
    /// A channel: SUBSCRIBE.
    Channel,
    /// Every channel that a pattern matches: PSUBSCRIBE.
    Pattern,
    /// A channel of SPUBLISH: SSUBSCRIBE.
    Shard,
}

impl Sort {
    /// Every sort, in order.
    pub const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Shard];

    fn of(sharded: bool) -> Self {
        if sharded { Self::Shard } else { Self::Channel }
    }
}

/// The subscribers of one name, by their numbers.
type Subscribers = BTreeMap<u64, Arc<Mailbox>>;

/// Every subscription at this peer.
#[derive(Default)]
pub(super) struct Table {
    names: [BTreeMap<Bytes, Subscribers>; 3],
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeMap::is_empty)
    }

    /// How many channels, patterns and shard channels there are.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let [channels, patterns, shards] = &self.names;
        (channels.len(), patterns.len(), shards.len())
    }

    pub(super) fn add(&mut self, sort: Sort, name: Bytes, subscriber: u64, mailbox: Arc<Mailbox>) {
        self.names[sort as usize].entry(name).or_default().insert(subscriber, mailbox);
    }

    pub(super) fn remove(&mut self, sort: Sort, name: &Bytes, subscriber: u64) {
        let names = &mut self.names[sort as usize];
        if let Some(subscribers) = names.get_mut(name) {
            subscribers.remove(&subscriber);
            if subscribers.is_empty() {
                names.remove(name);
            }
        }
    }

    fn named(&self, sort: Sort) -> &BTreeMap<Bytes, Subscribers> {
        &self.names[sort as usize]
    }

    /// Puts a message into every mailbox that it is for: first those of its channel, then those of each pattern. Returns how many.
    pub(super) fn deliver(&self, publication: &Publication) -> usize {
        let Publication { sharded, channel, message } = publication;
        let delivery = |pattern: Option<&Bytes>| Delivery {
            pattern: pattern.cloned(),
            sharded: *sharded,
            channel: channel.clone(),
            message: message.clone(),
        };
        let direct = self.named(Sort::of(*sharded)).get(channel).into_iter().map(|subscribers| (None, subscribers));
        let patterns = self.named(Sort::Pattern).iter().filter(|(pattern, _)| !sharded && glob::matches(pattern, channel));
        let mut receivers = 0;
        for (pattern, subscribers) in direct.chain(patterns.map(|(pattern, subscribers)| (Some(pattern), subscribers))) {
            subscribers.values().for_each(|mailbox| mailbox.put(delivery(pattern)));
            receivers += subscribers.len();
        }
        receivers
    }

    /// Answers a question about this peer.
    pub(super) fn answer(&self, inquiry: &Inquiry) -> Reply {
        match inquiry {
            Inquiry::Channels { sharded, pattern } => {
                let channels = self.named(Sort::of(*sharded)).keys();
                Reply::Channels(some(channels.filter(|channel| pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, channel)))))
            }
            Inquiry::Subscribers { sharded, channels } => {
                let names = self.named(Sort::of(*sharded));
                Reply::Subscribers(channels.iter().map(|channel| names.get(channel).map_or(0, BTreeMap::len) as u64).collect())
            }
            Inquiry::Patterns => Reply::Channels(some(self.named(Sort::Pattern).keys())),
        }
    }
}

/// As many names as fit a frame.
fn some<'a>(names: impl Iterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let mut room = MAX_CHANNELS_TOLD;
    let fits = |name: &&Bytes| {
        let rest = room.checked_sub(name.len() + 16);
        room = rest.unwrap_or(room);
        rest.is_some()
    };
    names.take_while(fits).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(sharded: bool, channel: &'static str) -> Publication {
        Publication { sharded, channel: channel.into(), message: "m".into() }
    }

    #[test]
    fn a_message_goes_to_its_channel_and_to_every_pattern_that_matches() {
        let (mut table, mailbox) = (Table::default(), Arc::new(Mailbox::default()));
        for (sort, name) in [(Sort::Channel, "news"), (Sort::Pattern, "n*"), (Sort::Pattern, "x*"), (Sort::Shard, "news")] {
            table.add(sort, name.into(), 1, mailbox.clone());
        }
        assert_eq!(table.deliver(&publication(false, "news")), 2);
        assert_eq!(mailbox.take().unwrap().pattern, None);
        assert_eq!(mailbox.take().unwrap().pattern, Some("n*".into()));
        assert_eq!(table.deliver(&publication(true, "news")), 1);
        assert!(mailbox.take().unwrap().sharded && mailbox.take().is_none());
        assert_eq!(table.deliver(&publication(false, "other")), 0);
    }

    #[test]
    fn a_name_without_subscribers_is_gone() {
        let (mut table, name) = (Table::default(), Bytes::from_static(b"news"));
        table.add(Sort::Channel, name.clone(), 1, Arc::default());
        table.add(Sort::Channel, name.clone(), 2, Arc::default());
        table.remove(Sort::Channel, &name, 1);
        let inquiry = Inquiry::Subscribers { sharded: false, channels: vec![name.clone(), "none".into()] };
        assert!(matches!(table.answer(&inquiry), Reply::Subscribers(counts) if counts == [1, 0]));
        table.remove(Sort::Channel, &name, 2);
        assert!(table.is_empty());
    }

    #[test]
    fn no_more_names_are_told_than_fit_a_frame() {
        let name = Bytes::from(vec![b'n'; MAX_CHANNELS_TOLD / 4]);
        assert_eq!(some([&name, &name, &name, &name, &name].into_iter()).len(), 3);
    }
}
