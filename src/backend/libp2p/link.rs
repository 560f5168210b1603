//! One link at work: two tasks that write, two that read, and one that watches over them and tells the node.
//!
//! A reader waits for the node when the node is busy, and so does not read on, and so the other peer's writer waits, and its
//! outbox fills: that is the whole of the flow control. Only these tasks ever wait for the node, never the swarm's task.
//!
//! A link that is idle says every [`KEEPALIVE`] that it is alive. One that has said nothing for [`LINK_SILENCE`], or that takes
//! nothing for as long, is dead: a machine that lost its power closes no connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::swarm::ConnectionId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frame::{self, FrameError, Splitter};
use super::links::LaneStreams;
use super::outbox::{Gathered, Outbox};
use crate::config::{KEEPALIVE, LINK_DRAIN, LINK_SILENCE, WRITE_GATHER};
use crate::env::{Lane, NetworkEvent};
use crate::types::PeerId;

/// Where frames to a connected peer are queued.
#[derive(Debug, Default)]
pub(super) struct Route {
    operations: Arc<Outbox>,
    bulk: Arc<Outbox>,
}

impl Route {
    pub(super) fn outbox(&self, lane: Lane) -> &Arc<Outbox> {
        match lane {
            Lane::Operations => &self.operations,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.bulk.is_empty()
    }
}

/// The peers that frames can be sent to by now. Read for every frame, changed only as links come and go.
pub(super) type Routes = ArcSwap<BTreeMap<PeerId, Arc<Route>>>;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it said nothing for {} seconds", LINK_SILENCE.as_secs())]
    Silent,
    #[error("it took nothing for {} seconds", LINK_SILENCE.as_secs())]
    Stuck,
    #[error("it closed the stream")]
    Closed,
    #[error("the node takes no more events")]
    NodeGone,
}

/// A link that can begin.
pub(super) struct Link {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) address: String,
    pub(super) lanes: Vec<LaneStreams>,
    /// Resolves when the former link to this peer has told its end, so that the node hears things in order.
    pub(super) former: Option<oneshot::Receiver<()>>,
    /// Resolves when the connection is closed or was replaced.
    pub(super) abandoned: oneshot::Receiver<()>,
    /// Dropped when this link has told its end.
    pub(super) ended: oneshot::Sender<()>,
    pub(super) events: mpsc::Sender<NetworkEvent>,
    pub(super) routes: Arc<Routes>,
}

/// How a link ended; no error where it was abandoned.
pub(super) struct LinkEnd {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) error: Option<LinkError>,
}

impl Link {
    /// Carries frames until something ends it, and tells the node of its beginning and end.
    pub(super) async fn run(self) -> LinkEnd {
        let Self { peer, connection, address, lanes, former, mut abandoned, ended, events, routes } = self;
        if let Some(former) = former {
            // Either outcome means that the former link is over.
            let _ = former.await;
        }
        let route = Arc::new(Route::default());
        let mut told = false;
        let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
        let work = async {
            set_route(&routes, peer, Some(&route));
            events.send(NetworkEvent::Connected { peer, address }).await.map_err(|_| LinkError::NodeGone)?;
            told = true;
            for LaneStreams { lane, writing, reading } in lanes {
                writers.spawn(write(Arc::clone(route.outbox(lane)), writing));
                readers.spawn(read(peer, lane, reading, events.clone()));
            }
            // The first to end ends all; a task that panicked counts as an end too.
            let first = tokio::select! {
                biased;
                end = readers.join_next() => end,
                end = writers.join_next() => end,
            };
            first.and_then(Result::ok).unwrap_or(Err(LinkError::Closed))
        };
        let outcome: Option<Result<(), LinkError>> = tokio::select! {
            biased;
            _ = &mut abandoned => None,
            outcome = work => Some(outcome),
        };
        set_route(&routes, peer, None);
        writers.shutdown().await;
        // What arrived before the end is still good; a stream that is closed ends after it.
        let _ = timeout(LINK_DRAIN, async { while readers.join_next().await.is_some() {} }).await;
        // No frame may come after the disconnect.
        readers.shutdown().await;
        if told {
            // Fails where the node is gone, and then nobody needs to know.
            let _ = events.send(NetworkEvent::Disconnected { peer }).await;
        }
        drop(ended);
        LinkEnd { peer, connection, error: outcome.and_then(Result::err) }
    }
}

fn set_route(routes: &Routes, peer: PeerId, route: Option<&Arc<Route>>) {
    routes.rcu(|routes| {
        let mut routes = BTreeMap::clone(routes);
        match route {
            Some(route) => routes.insert(peer, Arc::clone(route)),
            None => routes.remove(&peer),
        };
        routes
    });
}

/// Writes what is queued, many small frames at once.
async fn write(outbox: Arc<Outbox>, mut stream: impl AsyncWrite + Unpin) -> Result<(), LinkError> {
    let mut gathered = Gathered::default();
    loop {
        if timeout(KEEPALIVE, outbox.take(&mut gathered)).await.is_err() {
            write_piece(&mut stream, &frame::ALIVE).await?;
            continue;
        }
        write_piece(&mut stream, &gathered.buffer).await?;
        for piece in gathered.body.iter().flat_map(|body| body.chunks(WRITE_GATHER)) {
            write_piece(&mut stream, piece).await?;
        }
    }
}

async fn write_piece(stream: &mut (impl AsyncWrite + Unpin), piece: &[u8]) -> Result<(), LinkError> {
    let written = async {
        stream.write_all(piece).await?;
        stream.flush().await
    };
    Ok(timeout(LINK_SILENCE, written).await.map_err(|_| LinkError::Stuck)??)
}

/// Passes on what arrives, waiting for the node where it is busy.
async fn read(peer: PeerId, lane: Lane, mut stream: impl AsyncRead + Unpin, events: mpsc::Sender<NetworkEvent>) -> Result<(), LinkError> {
    let mut splitter = Splitter::default();
    let mut piece = vec![0; WRITE_GATHER];
    loop {
        let length = timeout(LINK_SILENCE, stream.read(&mut piece)).await.map_err(|_| LinkError::Silent)??;
        if length == 0 {
            return Err(LinkError::Closed);
        }
        splitter.extend(&piece[..length]);
        while let Some(frame) = splitter.next_frame()? {
            events.send(NetworkEvent::Frame { peer, lane, frame }).await.map_err(|_| LinkError::NodeGone)?;
        }
    }
}
