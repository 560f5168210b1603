//! Questions and answers between peers, over a network that only carries frames.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::env::message::{Message, Reply, Request};
use crate::env::{Lane, Network, SendError};
use crate::types::PeerId;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It was never sent.
    #[error("not sent: {0}")]
    NotSent(#[from] SendError),
    /// The connection broke before the answer came: it may have been heard.
    #[error("the connection broke")]
    Lost,
    /// No answer came in time: it may have been heard.
    #[error("no answer in time")]
    TimedOut,
}

struct Waiting {
    peer: PeerId,
    answer: oneshot::Sender<Reply>,
}

struct Inner {
    network: Arc<dyn Network>,
    /// Short: never held across an await.
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    next: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

/// Sends messages, and brings answers to those who asked.
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<Inner>,
}

/// Takes a question off the list when its asker no longer waits.
struct Forget {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.inner.waiting().remove(&self.id);
    }
}

impl Inner {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Over a network. Questions are numbered from `first` on: a random number, so that those of two processes of one peer differ.
    #[must_use]
    pub fn new(network: Arc<dyn Network>, first: u64) -> Self {
        let inner = Inner {
            network,
            waiting: Mutex::default(),
            next: AtomicU64::new(first),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The network below.
    #[must_use]
    pub fn network(&self) -> &Arc<dyn Network> {
        &self.inner.network
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Where it was not queued.
    pub fn tell(&self, peer: PeerId, lane: Lane, message: &Message) -> Result<(), SendError> {
        self.send_frame(peer, lane, message.to_frame())
    }

    /// Sends a message that is encoded already: the same frame may go to several peers.
    ///
    /// # Errors
    /// Where it was not queued.
    pub fn send_frame(&self, peer: PeerId, lane: Lane, frame: bytes::Bytes) -> Result<(), SendError> {
        let length = frame.len() as u64;
        self.inner.network.send(peer, lane, frame)?;
        self.inner.bytes_sent.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// Asks; the question is queued before this returns, so questions to one peer keep their order.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask(
        &self,
        peer: PeerId,
        lane: Lane,
        request: Request,
        patience: Duration,
    ) -> impl Future<Output = Result<Reply, AskError>> + Send + use<> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.inner.waiting().insert(id, Waiting { peer, answer });
        let forget = Forget { inner: Arc::clone(&self.inner), id };
        let sent = self.tell(peer, lane, &Message::Request { id, request: Box::new(request) });
        async move {
            let _forget = forget;
            sent?;
            match timeout(patience, answered).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(_)) => Err(AskError::Lost),
                Err(_) => Err(AskError::TimedOut),
            }
        }
    }

    /// Answers a question. An answer that cannot be sent is lost, as any may be.
    pub fn answer(&self, peer: PeerId, lane: Lane, id: u64, reply: Reply) {
        if let Err(error) = self.tell(peer, lane, &Message::Reply { id, reply: Box::new(reply) }) {
            tracing::debug!(?peer, %error, "an answer was not sent");
        }
    }

    /// Brings an answer to whoever asked this peer.
    pub fn answered(&self, peer: PeerId, id: u64, reply: Reply) {
        let waiting = {
            let mut waiting = self.inner.waiting();
            waiting.get(&id).is_some_and(|waiting| waiting.peer == peer).then(|| waiting.remove(&id)).flatten()
        };
        if let Some(waiting) = waiting {
            let _ = waiting.answer.send(reply);
        }
    }

    /// Ends every wait for a peer whose connection broke.
    pub fn lost(&self, peer: PeerId) {
        self.inner.waiting().retain(|_, waiting| waiting.peer != peer);
    }

    /// Ends every wait.
    pub fn end(&self) {
        self.inner.waiting().clear();
    }

    /// Counts a frame that arrived.
    pub fn count_received(&self, bytes: usize) {
        self.inner.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of frames sent and received since the start.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.inner.bytes_sent.load(Ordering::Relaxed), self.inner.bytes_received.load(Ordering::Relaxed))
    }
}
