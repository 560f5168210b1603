//! Publish and subscribe across all peers: a message that is published at any peer reaches those who subscribe at every peer that
//! can be reached, at most once, in the order of its publisher's connection. Nothing is kept for who is not there.
//!
//! Each peer knows its own subscribers only ([`table`]). A message goes to the mailboxes here and to every peer where somebody may
//! listen (see [`crate::listeners`]); the publisher is told how many got it, here and at the peers that answer in time.
//!
//! A peer where the first subscriber comes makes the others note that before the subscriber is told that it subscribes: so whatever
//! is published after that reaches it, and where nobody listens PUBLISH costs nothing.

mod mailbox;
mod subscriber;
mod table;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all};

pub use self::mailbox::{Delivery, Mailbox};
pub use self::subscriber::{Subscriber, TooMany};
pub use self::table::Sort;

use self::table::Table;
use crate::config::{LISTEN_PATIENCE, PUBLISH_PATIENCE};
use crate::env::Lane;
use crate::env::message::{Inquiry, Publication, Reply, Request};
use crate::exchange::{AskError, Exchange};
use crate::listeners::Listeners;
use crate::notifications::{Classes, Event};
use crate::topology::Topology;
use crate::types::PeerId;

/// Resolves once the peers that can be reached know that somebody listens here, or have been waited for long enough.
pub type Known = Shared<BoxFuture<'static, ()>>;

/// Channels and subscribers of one peer, and the way to those of others. Clones share everything.
#[derive(Clone)]
pub struct Pubsub {
    topology: Topology,
    exchange: Exchange,
    listeners: Listeners,
    /// Short: a message is put into mailboxes, or a subscription changed. Never held across an await.
    state: Arc<Mutex<State>>,
    /// The classes of events that this peer announces, by their bits.
    classes: Arc<AtomicU16>,
}

#[derive(Default)]
struct State {
    table: Table,
    subscribers: u64,
    /// While somebody subscribes here.
    known: Option<Known>,
}

impl Pubsub {
    /// Nobody subscribes yet.
    #[must_use]
    pub fn new(topology: Topology, exchange: Exchange, listeners: Listeners) -> Self {
        Self { topology, exchange, listeners, state: Arc::default(), classes: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody who may subscribe. Its subscriptions end with it.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        let mut state = self.state();
        state.subscribers += 1;
        Subscriber::new(self.clone(), state.subscribers)
    }

    /// Publishes a message. It is on its way before this returns; the future tells how many got it.
    pub fn publish(&self, publication: Publication) -> impl Future<Output = usize> + Send + use<> {
        let here = self.take(std::slice::from_ref(&publication));
        let asked = self.send(&[publication]);
        let listeners = self.listeners.clone();
        async move {
            let counts = join_all(asked.into_iter().map(|(peer, asking)| {
                let listeners = &listeners;
                async move {
                    match asking.await {
                        Ok(Reply::Count(count)) => usize::try_from(count).unwrap_or(usize::MAX),
                        Err(AskError::TimedOut) => {
                            listeners.missed(peer);
                            0
                        }
                        Ok(_) | Err(_) => 0,
                    }
                }
            }));
            counts.await.into_iter().fold(here, usize::saturating_add)
        }
    }

    /// Which events this peer announces.
    #[must_use]
    pub fn classes(&self) -> Classes {
        Classes::of_bits(self.classes.load(Ordering::Relaxed))
    }

    /// Sets which events this peer announces.
    pub fn set_classes(&self, classes: Classes) {
        self.classes.store(classes.bits(), Ordering::Relaxed);
    }

    /// Announces what happened to a key, as far as that is asked for. Waits for nobody.
    pub fn announce(&self, key: &Bytes, events: impl IntoIterator<Item = Event>) {
        let classes = self.classes();
        let announcements = events.into_iter().flat_map(|event| classes.announcements(key, event));
        let publication = |(channel, message)| Publication { sharded: false, channel, message };
        let publications: Vec<Publication> = announcements.map(publication).collect();
        if !publications.is_empty() {
            self.take(&publications);
            drop(self.send(&publications));
        }
    }

    /// Hands messages to those who subscribe here. Returns how many got one.
    pub fn take(&self, publications: &[Publication]) -> usize {
        let state = self.state();
        publications.iter().map(|publication| state.table.deliver(publication)).sum()
    }

    /// Sends messages to the peers where somebody may listen. Returns the questions to those that are to be waited for.
    fn send(&self, publications: &[Publication]) -> Vec<(PeerId, BoxFuture<'static, Result<Reply, AskError>>)> {
        let audience = self.listeners.among(&self.topology.cluster().reachable);
        let mut asked = Vec::new();
        for listening in audience {
            let request = Request::Publish(publications.to_vec());
            let asking = self.exchange.ask(listening.peer, Lane::Operations, request, PUBLISH_PATIENCE);
            if listening.answers {
                asked.push((listening.peer, asking.boxed()));
            }
        }
        asked
    }

    /// Notes that a peer told where it stands, see [`crate::listeners`].
    pub fn told(&self, peer: PeerId, number: u64) {
        self.listeners.told(peer, number);
    }

    /// A connection to a peer has begun or ended.
    pub fn forget(&self, peer: PeerId) {
        self.listeners.forget(peer);
    }

    /// Answers another peer's question about subscriptions here.
    #[must_use]
    pub fn answer(&self, inquiry: &Inquiry) -> Reply {
        self.state().table.answer(inquiry)
    }

    /// How many channels, patterns and shard channels have subscribers at this peer.
    #[must_use]
    pub fn own_counts(&self) -> (usize, usize, usize) {
        self.state().table.counts()
    }

    /// What every peer answers to a question about subscriptions, this one first.
    async fn ask_all(&self, inquiry: Inquiry) -> Vec<Reply> {
        let audience = self.listeners.among(&self.topology.cluster().reachable);
        let ask = |peer| self.exchange.ask(peer, Lane::Operations, Request::Subscriptions(inquiry.clone()), PUBLISH_PATIENCE);
        let asking: Vec<_> = audience.into_iter().filter(|listening| listening.answers).map(|listening| ask(listening.peer)).collect();
        let here = self.answer(&inquiry);
        std::iter::once(here).chain(join_all(asking).await.into_iter().flatten()).collect()
    }

    async fn names(&self, inquiry: Inquiry) -> BTreeSet<Bytes> {
        let names = |reply| if let Reply::Channels(names) = reply { names } else { Vec::new() };
        self.ask_all(inquiry).await.into_iter().flat_map(names).collect()
    }

    /// The channels that have subscribers at any peer that answers.
    pub async fn channels(&self, sharded: bool, pattern: Option<Bytes>) -> BTreeSet<Bytes> {
        self.names(Inquiry::Channels { sharded, pattern }).await
    }

    /// The patterns that have subscribers at any peer that answers.
    pub async fn patterns(&self) -> BTreeSet<Bytes> {
        self.names(Inquiry::Patterns).await
    }

    /// How many subscribers each of these channels has, at all peers that answer.
    pub async fn counts(&self, sharded: bool, channels: Vec<Bytes>) -> Vec<u64> {
        let mut sums = vec![0; channels.len()];
        for reply in self.ask_all(Inquiry::Subscribers { sharded, channels }).await {
            let Reply::Subscribers(counts) = reply else { continue };
            sums.iter_mut().zip(counts).for_each(|(sum, count): (&mut u64, u64)| *sum = sum.saturating_add(count));
        }
        sums
    }

    /// Makes the others know that somebody listens here, unless they do.
    fn begin_to_listen(&self, state: &mut State) {
        if state.known.is_some() {
            return;
        }
        let number = self.listeners.listen(true);
        let peers = self.topology.cluster();
        let ask = |peer: &PeerId| self.exchange.ask(*peer, Lane::Operations, Request::Listening(number), LISTEN_PATIENCE);
        let asking: Vec<_> = peers.reachable.iter().map(ask).collect();
        // Whoever does not answer learns it from a heartbeat.
        state.known = Some(join_all(asking).map(drop).boxed().shared());
    }

    fn end_to_listen(&self, state: &mut State) {
        if state.table.is_empty() && state.known.take().is_some() {
            self.listeners.listen(false);
        }
    }
}
