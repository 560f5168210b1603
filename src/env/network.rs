//! The seam to other peers: frames go out, frames and connection changes come in.
//!
//! A network delivers the frames of one lane to a connected peer in order, or drops the connection; it promises
//! nothing more. Frames that were queued when a connection broke may be lost. Only admitted peers appear here: proving
//! the secret, the cluster's name and the wire version is the backend's business.

use bytes::Bytes;

use crate::types::PeerId;

/// Which of the two streams to a peer a frame takes, so that bulk does not hold up commands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Commands, deltas, acknowledgements, heartbeats.
    Operations,
    /// Anti-entropy, handoff, membership.
    Bulk,
}

/// Why a frame was not queued. Nothing of it was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection to the peer.
    #[error("no connection to this peer")]
    Unconnected,
    /// The peer reads more slowly than frames are sent to it, and its queue is full.
    #[error("the queue to this peer is full")]
    Full,
    /// The frame is longer than [`crate::config::MAX_FRAME`].
    #[error("the frame exceeds the largest allowed")]
    TooLong,
}

/// What the network tells the node.
#[derive(Clone, Debug)]
pub enum NetworkEvent {
    /// An admitted peer is connected and both lanes work. Comes again, without a disconnect, only never.
    Connected {
        /// Who.
        peer: PeerId,
        /// Where it is reached, as a multiaddress.
        address: String,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// Who.
        peer: PeerId,
    },
    /// Another process lives with this peer's identity and was started before this one, which has to stop.
    Doubled {
        /// What is to be told, in one sentence.
        reason: String,
    },
    /// A frame arrived.
    Frame {
        /// From whom.
        peer: PeerId,
        /// On which lane.
        lane: Lane,
        /// Its content.
        frame: Bytes,
    },
}

/// Sends frames to connected peers. Events come through the channel that is given out when the network is made.
pub trait Network: Send + Sync + 'static {
    /// The identity of this peer.
    fn local(&self) -> PeerId;

    /// The multiaddresses at which others reach this peer, as far as known by now.
    fn addresses(&self) -> Vec<String>;

    /// Queues a frame and returns at once.
    ///
    /// # Errors
    /// Where nothing was queued.
    fn send(&self, to: PeerId, lane: Lane, frame: Bytes) -> Result<(), SendError>;

    /// Tells where a member may be found, so that the network keeps trying to be connected to it.
    /// An empty list: it is no longer looked for.
    fn seek(&self, peer: PeerId, addresses: Vec<String>);
}
