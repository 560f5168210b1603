//! The door: runs the exchange of [`super::admission`] over an encrypted stream, tells why somebody stays outside, and hands in
//! what admitted peers say of themselves.
//!
//! Messages are CBOR with a length of two bytes before them. Time is bounded by the transport's timeout, which covers
//! everything from the first byte to here.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::admission::{Admission, Details, Message, ROUNDS, Rejection, Role, Terms};
use super::quiet::Quiet;
use super::transport::is_loopback;
use crate::config::{MAX_ADMISSION_MESSAGE, PEER_ADDRESSES};

/// What an admitted peer says of itself.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) peer: PeerId,
    /// Where it listens, as far as that can be reached from here.
    pub(super) addresses: Vec<Multiaddr>,
}

/// Why somebody stays outside.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoorError {
    #[error("the connection failed during admission: {0}")]
    Io(#[from] io::Error),
    #[error("this peer {0}")]
    Rejected(#[from] Rejection),
}

/// What every exchange needs.
pub(super) struct Door {
    pub(super) terms: Terms,
    pub(super) local: PeerId,
    /// Where this peer listens.
    pub(super) listening: Arc<ArcSwap<Vec<Multiaddr>>>,
    pub(super) admitted: mpsc::Sender<Admitted>,
    /// Held for a few instructions at a time, never across an await.
    pub(super) quiet: Mutex<Quiet>,
}

impl Door {
    /// Lets a peer in or keeps it out, with a line in the log where it stays out.
    pub(super) async fn pass<S>(&self, stream: &mut S, role: Role, remote: PeerId, address: &Multiaddr) -> Result<(), DoorError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let outcome = self.exchange(stream, role, remote, address).await;
        match &outcome {
            Ok(details) => self.let_in(remote, address, details),
            Err(DoorError::Rejected(rejection)) => {
                let line = format!("{remote} {rejection}");
                if self.quiet.lock().unwrap_or_else(PoisonError::into_inner).may_say(line, Instant::now()) {
                    warn!(peer = %remote, %address, "a peer is kept out: this peer {rejection}");
                }
            }
            Err(DoorError::Io(_)) => {}
        }
        outcome.map(drop)
    }

    fn let_in(&self, peer: PeerId, from: &Multiaddr, details: &Details) {
        let near = is_loopback(from);
        let parsed = details.addresses.iter().filter_map(|address| address.parse::<Multiaddr>().ok());
        let addresses = parsed.filter(|address| near || !is_loopback(address)).take(PEER_ADDRESSES).collect();
        // Where the swarm's task is that far behind, the peer is known without its addresses.
        let _ = self.admitted.try_send(Admitted { peer, addresses });
    }

    async fn exchange<S>(&self, stream: &mut S, role: Role, remote: PeerId, address: &Multiaddr) -> Result<Details, DoorError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let mut admission = Admission::new(&self.terms, role, self.local, remote, is_loopback(address), nonce);
        let listening: Vec<String> = self.listening.load().iter().take(PEER_ADDRESSES).map(ToString::to_string).collect();
        let mut details = Details::default();
        for round in ROUNDS {
            if role == Role::Dialler {
                send(stream, &admission.say(round, &listening)).await?;
            }
            match receive(stream).await.and_then(|message| Ok(admission.hear(round, message)?)) {
                Ok(heard) => details = heard.unwrap_or_default(),
                Err(DoorError::Rejected(Rejection::Refused(refusal))) => {
                    // The other side may be gone by now; then it does not care to know.
                    let _ = send(stream, &Message::Refusal(refusal.clone())).await;
                    let _ = stream.close().await;
                    return Err(Rejection::Refused(refusal).into());
                }
                Err(other) => return Err(other),
            }
            if role == Role::Listener {
                send(stream, &admission.say(round, &listening)).await?;
            }
        }
        Ok(details)
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &Message) -> Result<(), DoorError> {
    let body = message.to_bytes();
    let length = u16::try_from(body.len()).map_err(|_| io::Error::other("a message of admission is too long"))?;
    stream.write_all(&[&length.to_be_bytes(), body.as_slice()].concat()).await?;
    Ok(stream.flush().await?)
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Result<Message, DoorError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_ADMISSION_MESSAGE {
        return Err(Rejection::Malformed.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Message::from_bytes(&bytes).ok_or(DoorError::Rejected(Rejection::Malformed))
}
