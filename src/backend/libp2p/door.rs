//! The door: runs the exchange of [`super::admission`] over an encrypted stream, tells why somebody stays outside, and hands in
//! what admitted peers say of themselves.
//!
//! Messages are CBOR with a length of two bytes before them. Time is bounded by the transport's timeout, which covers
//! everything from the first byte to here.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::address::is_loopback;
use super::admission::{Admission, Details, Message, ROUNDS, Rejection, Role, Round, Terms};
use super::quiet::Quiet;
use super::twins::Twins;
use crate::config::{MAX_ADMISSION_MESSAGE, PEER_ADDRESSES};
use crate::types::Process;

/// What the swarm's task is told of an exchange.
#[derive(Debug)]
pub(super) enum Met {
    Admitted(Admitted),
    /// This process has to stop, for this reason: an elder one with its identity is alive.
    Elder {
        reason: String,
    },
}

/// What an admitted peer says of itself.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) peer: PeerId,
    /// Where it listens, as far as that can be reached from here.
    pub(super) addresses: Vec<Multiaddr>,
    /// Whether another process was let in under this identity last: its connections are not this one's.
    pub(super) takes_over: bool,
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
    /// This process.
    pub(super) process: Process,
    pub(super) local: PeerId,
    /// Where this peer listens.
    pub(super) listening: Arc<ArcSwap<Vec<Multiaddr>>>,
    pub(super) met: mpsc::Sender<Met>,
    /// Held for a few instructions at a time, never across an await.
    pub(super) quiet: Mutex<Quiet>,
    /// Likewise.
    pub(super) twins: Mutex<Twins>,
}

impl Door {
    /// Lets a peer in or keeps it out, with a line in the log where it stays out.
    pub(super) async fn pass<S>(&self, stream: &mut S, role: Role, remote: PeerId, address: &Multiaddr) -> Result<(), DoorError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let began = self.twins().turn();
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let mut admission = Admission::new(&self.terms, role, self.local, remote, is_loopback(address), nonce);
        let outcome = self.exchange(stream, role, address, &mut admission).await;
        let process = admission.remote_process();
        match &outcome {
            Ok(details) => {
                let takes_over = self.twins().let_in(remote, process, address, began, Instant::now());
                self.let_in(remote, address, details, takes_over);
                self.give_way(details.rival);
            }
            Err(DoorError::Rejected(rejection)) => {
                // The channel has proven that the other side has this peer's own key: nobody else may stop it by saying so.
                if rejection.is_same_identity() && remote == self.local {
                    self.give_way(Some(process));
                }
                if self.may_say(format!("{remote} {rejection}")) {
                    warn!(peer = %remote, %address, "a peer is kept out: this peer {rejection}");
                }
            }
            Err(DoorError::Io(_)) => {}
        }
        outcome.map(drop)
    }

    fn twins(&self) -> MutexGuard<'_, Twins> {
        self.twins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_say(&self, line: String) -> bool {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner).may_say(line, Instant::now())
    }

    /// Has this process stopped where another one, alive under the same identity, is the elder.
    fn give_way(&self, other: Option<Process>) {
        let Some(elder) = other.filter(|other| *other < self.process) else { return };
        let earlier = Duration::from_millis(self.process.started_ms.saturating_sub(elder.started_ms));
        let reason = format!(
            "another process runs with the identity of this peer and was started {earlier:?} before it, so this one stops: its data folder is \
             a copy; take the file 'identity' out of the copy to start it as a peer of its own"
        );
        // Where the swarm's task is that far behind, the next exchange tells it.
        let _ = self.met.try_send(Met::Elder { reason });
    }

    fn let_in(&self, peer: PeerId, from: &Multiaddr, details: &Details, takes_over: bool) {
        let near = is_loopback(from);
        let parsed = details.addresses.iter().filter_map(|address| address.parse::<Multiaddr>().ok());
        let addresses = parsed.filter(|address| near || !is_loopback(address)).take(PEER_ADDRESSES).collect();
        // Where the swarm's task is that far behind, the peer is known without its addresses.
        let _ = self.met.try_send(Met::Admitted(Admitted { peer, addresses, takes_over }));
    }

    /// The process that whoever is at the other end is to be told of, with a line in the log.
    fn rival_of(&self, remote: PeerId, process: Process, address: &Multiaddr) -> Option<Process> {
        let (rival, seen_at) = self.twins().rival(remote, process, Instant::now())?;
        if self.may_say(format!("{remote} twice")) {
            warn!(peer = %remote, one = %address, other = %seen_at, "two processes run with one identity: the younger one is told to stop");
        }
        Some(rival)
    }

    async fn exchange<S>(
        &self,
        stream: &mut S,
        role: Role,
        address: &Multiaddr,
        admission: &mut Admission<'_>,
    ) -> Result<Details, DoorError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let listening: Vec<String> = self.listening.load().iter().take(PEER_ADDRESSES).map(ToString::to_string).collect();
        let mut details = Details::default();
        for round in ROUNDS {
            if role == Role::Dialler {
                send(stream, &self.say(round, admission, &listening, address)).await?;
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
                send(stream, &self.say(round, admission, &listening, address)).await?;
            }
        }
        Ok(details)
    }

    fn say(&self, round: Round, admission: &Admission<'_>, listening: &[String], address: &Multiaddr) -> Message {
        let rival = match round {
            Round::Details => self.rival_of(admission.remote(), admission.remote_process(), address),
            Round::Hello | Round::Proof => None,
        };
        admission.say(round, listening, rival)
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::io::Cursor;

    use super::*;
    use crate::backend::libp2p::admission::{Refusal, WIRE_VERSION};

    /// A stream on which the other side has said all that it will ever say.
    struct Said {
        heard: Cursor<Vec<u8>>,
        told: Vec<u8>,
    }

    impl AsyncRead for Said {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.heard).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Said {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.told).poll_write(cx, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What a door that is protected (or not) makes of a hello from an address, and what it says.
    async fn hear(role: Role, protected: bool, cluster: String, address: &str) -> (Result<(), DoorError>, Vec<u8>) {
        let door = Door {
            terms: Terms::new("c", None, 1, protected),
            process: Process::default(),
            local: PeerId::random(),
            listening: Arc::default(),
            met: mpsc::channel(1).0,
            quiet: Mutex::default(),
            twins: Mutex::default(),
        };
        let body = Message::Hello { version: WIRE_VERSION, cluster, secret: false, nonce: [1; 32], process: Process::default() }.to_bytes();
        let heard = [&u16::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat();
        let mut stream = Said { heard: Cursor::new(heard), told: Vec::new() };
        let outcome = door.pass(&mut stream, role, PeerId::random(), &address.parse().unwrap()).await;
        (outcome, stream.told)
    }

    #[tokio::test]
    async fn the_address_tells_whether_a_peer_is_of_the_same_machine() {
        let far = hear(Role::Listener, true, "c".to_owned(), "/ip4/192.168.1.7/tcp/1").await;
        assert!(matches!(far.0, Err(DoorError::Rejected(Rejection::Refused(Refusal::Protected)))), "{:?}", far.0);
        assert!(far.1.windows(9).any(|window| window == b"Protected"), "it is told why");
        for (protected, address) in [(true, "/ip4/127.0.0.1/tcp/1"), (false, "/ip4/192.168.1.7/tcp/1")] {
            let (outcome, _) = hear(Role::Listener, protected, "c".to_owned(), address).await;
            // It passes this round, and then the other side says nothing more.
            assert!(matches!(outcome, Err(DoorError::Io(_))), "{outcome:?}");
        }
    }

    #[tokio::test]
    async fn only_whoever_has_the_same_key_can_make_this_process_stop() {
        let local = PeerId::random();
        for (remote, stops) in [(PeerId::random(), false), (local, true)] {
            let (met, mut told) = mpsc::channel(1);
            let door = Door {
                terms: Terms::new("c", None, 1, true),
                process: Process { started_ms: 9, number: 9 },
                local,
                listening: Arc::default(),
                met,
                quiet: Mutex::default(),
                twins: Mutex::default(),
            };
            let body = Message::Refusal(Refusal::SameIdentity).to_bytes();
            let heard = [&u16::try_from(body.len()).unwrap().to_be_bytes(), body.as_slice()].concat();
            let mut stream = Said { heard: Cursor::new(heard), told: Vec::new() };
            let outcome = door.pass(&mut stream, Role::Dialler, remote, &"/ip4/127.0.0.1/tcp/1".parse().unwrap()).await;
            assert!(matches!(outcome, Err(DoorError::Rejected(Rejection::RefusedByRemote(_)))), "{outcome:?}");
            assert_eq!(matches!(told.try_recv(), Ok(Met::Elder { .. })), stops);
        }
    }

    #[tokio::test]
    async fn every_exchange_has_a_nonce_of_its_own() {
        let near = "/ip4/127.0.0.1/tcp/1";
        let (_, first) = hear(Role::Dialler, false, "c".to_owned(), near).await;
        let (_, second) = hear(Role::Dialler, false, "c".to_owned(), near).await;
        assert!(first.len() > 32 && first.len().abs_diff(second.len()) < 64);
        assert_ne!(first, second);
    }

    #[tokio::test]
    async fn a_message_longer_than_any_is_not_even_read() {
        let (outcome, told) = hear(Role::Listener, false, "n".repeat(MAX_ADMISSION_MESSAGE), "/ip4/127.0.0.1/tcp/1").await;
        assert!(matches!(outcome, Err(DoorError::Rejected(Rejection::Malformed))), "{outcome:?}");
        assert!(told.is_empty());
    }
}
