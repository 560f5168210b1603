//! The Redis protocol: a server that carries out the commands of Redis clients at this peer.
//!
//! The path of a command: [`parser`] → `commands` (what it means) → `pipeline` (what runs at the same time) → [`reply`].

mod announcing;
mod clients;
mod command_error;
mod commands;
mod connection;
mod double;
pub mod dump;
pub mod inline;
pub mod integer;
mod lines;
pub mod parser;
mod pause;
mod pipeline;
pub mod reply;
mod session;
mod shared;
mod slow_log;
mod subscriptions;
mod taking;
mod tallies;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::clients::Seat;
use self::shared::Shared;
use self::tallies::Tallies;
use super::statistics::Statistics;
use crate::config::{DRAIN_CLIENTS, MAX_CLIENTS};
use crate::node::Node;

/// How long the server waits before it tries to accept again where the system is out of something, such as file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Settings of the server.
#[derive(Clone, Debug)]
pub struct Options {
    /// The password that clients have to give first; none is asked for where there is none.
    pub password: Option<String>,
    /// Clients connected at the same time.
    pub max_clients: usize,
    /// How long a client may be silent before it is disconnected, in whole seconds; zero is for ever.
    pub idle_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { password: None, max_clients: MAX_CLIENTS, idle_timeout: Duration::ZERO }
    }
}

/// A server for Redis clients, listening.
pub struct RespServer {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl RespServer {
    /// Listens at an address; port 0 picks a free one. Clients are served by [`RespServer::serve`].
    ///
    /// # Errors
    /// Where the address can't be listened at.
    pub async fn bind(address: SocketAddr, node: Node, options: Options) -> io::Result<Self> {
        Self::on(TcpListener::bind(address).await?, node, options)
    }

    /// As [`RespServer::bind`], on a listener that is there already: so a port that is taken is noticed before a node runs.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub fn on(listener: TcpListener, node: Node, options: Options) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let idle_timeout_s = options.idle_timeout.as_secs();
        let tallies = Tallies::new(commands::full_names().count());
        let shared = Shared::new(node, address, options.password.as_deref(), options.max_clients, idle_timeout_s, tallies);
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// What the server counts, for `/metrics`.
    #[must_use]
    pub fn statistics(&self) -> Arc<Statistics> {
        self.shared.statistics.clone()
    }

    /// Serves clients until `shutdown` resolves. Commands that run then are finished and answered, for a few seconds at most.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, shared } = self;
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.as_mut() => break,
                _ = seconds.tick() => shared.sample_rates(),
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => {
                        let local = stream.local_addr().unwrap_or(shared.address);
                        // In the order of arrival, so that the first ones get the last places.
                        match shared.clients.admit(address, local, shared.max_clients()) {
                            Some(seat) => connections.spawn(welcome(stream, seat, shared.clone(), stopping.clone())),
                            None => connections.spawn(turn_away(stream, shared.clone())),
                        };
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a client");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        // Without a connection left there is nobody to tell.
        let _ = stop.send(true);
        let drained = tokio::time::timeout(DRAIN_CLIENTS, async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        });
        if drained.await.is_err() {
            tracing::warn!(clients = connections.len(), "commands did not finish in time, closing their connections");
            connections.shutdown().await;
        }
    }
}

/// Serves a client.
async fn welcome(stream: TcpStream, seat: Seat, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    // Replies are gathered already; where the option can't be set they only come later.
    let _ = stream.set_nodelay(true);
    shared.statistics.connections.add(1);
    connection::serve(stream, seat, shared, stopping).await;
}

/// Tells a client that there are too many.
async fn turn_away(mut stream: TcpStream, shared: Arc<Shared>) {
    shared.statistics.rejected_connections.add(1);
    // The client is turned away whether it hears why or not.
    let _ = tokio::time::timeout(ACCEPT_PAUSE, stream.write_all(b"-ERR max number of clients reached\r\n")).await;
}

/// A connection that ends by a panic is a bug; it must not take the others with it, nor pass in silence.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a client's connection ended by a bug");
    }
}
