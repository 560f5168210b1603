//! From a TCP connection to an admitted peer: encryption (noise), admission, streams (yamux), in this order.
//!
//! Admission stands where the choice of the multiplexer usually stands: a peer that is not admitted never gets to open a stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, Version};
use libp2p::core::{ConnectedPoint, Transport, UpgradeInfo};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, noise, tcp, yamux};

use super::address::is_loopback;
use super::admission::Role;
use super::door::{Door, DoorError};
use crate::config::{ADMISSION_TIMEOUT, STREAMS_PER_CONNECTION};

/// Names the exchange to libp2p. It never changes, so that two versions get as far as telling each other that they differ.
const PROTOCOL: &str = "/ringtide/admission";

/// Builds the whole way from TCP to streams.
pub(super) fn build(keypair: &Keypair, door: Arc<Door>, protected: bool) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let tcp = Guarded { inner: tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)), protected };
    Ok(tcp
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex_ext(move |peer, endpoint| Admit { door, peer: *peer, endpoint: endpoint.clone() })
        .timeout(ADMISSION_TIMEOUT)
        .boxed())
}

/// A transport that dials no other machine in protected mode, and dials from fresh ports.
///
/// From the port it listens on, as libp2p does otherwise, two peers that dial each other at the same moment end up as two
/// diallers of one TCP connection, and neither gets through.
struct Guarded<T> {
    inner: T,
    protected: bool,
}

impl<T: Transport + Unpin> Transport for Guarded<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        if self.protected && !is_loopback(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, DialOpts { port_use: PortUse::New, ..options })
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Runs admission with one peer, then starts the multiplexer.
#[derive(Clone)]
struct Admit {
    door: Arc<Door>,
    peer: PeerId,
    endpoint: ConnectedPoint,
}

impl Admit {
    async fn pass<C: AsyncRead + AsyncWrite + Unpin>(self, stream: &mut C, role: Role) -> Result<yamux::Config, DoorError> {
        self.door.pass(stream, role, self.peer, self.endpoint.get_remote_address()).await?;
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_PER_CONNECTION);
        Ok(config)
    }
}

impl UpgradeInfo for Admit {
    type Info = &'static str;
    type InfoIter = [&'static str; 1];

    fn protocol_info(&self) -> Self::InfoIter {
        [PROTOCOL]
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Admit {
    type Output = yamux::Muxer<C>;
    type Error = DoorError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, mut stream: C, info: Self::Info) -> Self::Future {
        async move {
            let config = self.pass(&mut stream, Role::Listener).await?;
            Ok(config.upgrade_inbound(stream, info).await?)
        }
        .boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Admit {
    type Output = yamux::Muxer<C>;
    type Error = DoorError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, mut stream: C, info: Self::Info) -> Self::Future {
        async move {
            let config = self.pass(&mut stream, Role::Dialler).await?;
            Ok(config.upgrade_outbound(stream, info).await?)
        }
        .boxed()
    }
}
