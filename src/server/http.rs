//! HTTP for those who run the peer: `/healthz` for probes, `/metrics` for Prometheus (OpenMetrics text).
//!
//! Both only tell. Metrics are made anew from the peer's own numbers at each request, so nothing is counted twice.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, LabelSetEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::breakable::Breakable;
use super::statistics::Statistics;
use crate::config::DRAIN_CLIENTS;
use crate::node::{Node, PeerState, PeerStatus, Status};

/// An HTTP server, listening.
pub struct HttpServer {
    listener: TcpListener,
    address: SocketAddr,
    sources: Sources,
}

/// Where the numbers come from.
#[derive(Clone)]
struct Sources {
    node: Node,
    clients: Option<Arc<Statistics>>,
}

impl HttpServer {
    /// Listens at an address; port 0 picks a free one. `clients` are the counters of the Redis protocol, where it is served.
    ///
    /// # Errors
    /// Where the address can't be listened at.
    pub async fn bind(address: SocketAddr, node: Node, clients: Option<Arc<Statistics>>) -> io::Result<Self> {
        Self::on(TcpListener::bind(address).await?, node, clients)
    }

    /// As [`HttpServer::bind`], on a listener that is there already: so a port that is taken is noticed before a node runs.
    ///
    /// # Errors
    /// Where the listener has no address.
    pub fn on(listener: TcpListener, node: Node, clients: Option<Arc<Statistics>>) -> io::Result<Self> {
        Ok(Self { address: listener.local_addr()?, listener, sources: Sources { node, clients } })
    }

    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` resolves. Requests under way then are finished, for a few seconds at most.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let router = Router::new().route("/healthz", get(health)).route("/metrics", get(metrics)).with_state(self.sources);
        let shutdown = shutdown.shared();
        let broken = CancellationToken::new();
        let listener = Breakable { listener: self.listener, broken: broken.clone() };
        let mut server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone()).into_future();
        let too_late = async {
            shutdown.await;
            tokio::time::sleep(DRAIN_CLIENTS).await;
        };
        let ended = tokio::select! {
            biased;
            ended = &mut server => ended,
            () = too_late => {
                tracing::warn!("HTTP requests did not finish in time, closing their connections");
                broken.cancel();
                server.await
            }
        };
        if let Err(error) = ended {
            tracing::error!(%error, "the HTTP server ended");
        }
    }
}

/// A peer whose disk is full serves what it has, and passes writes on: it is not to be taken out of service for that.
async fn health(State(sources): State<Sources>) -> &'static str {
    if sources.node.status().has_room { "ok" } else { "ok, but the disk is full: new data goes to other peers" }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let (status, peers) = (sources.node.status(), sources.node.peers());
    let mut page = String::new();
    match text::encode(&mut page, &registry(&status, &peers, sources.clients.as_deref())) {
        Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics cannot be written: {error}\n")).into_response(),
    }
}

/// The numbers of this moment.
fn registry(status: &Status, peers: &[PeerStatus], clients: Option<&Statistics>) -> Registry {
    let mut registry = Registry::with_prefix("ringtide");
    let mut gauge = |name: &str, help: &str, value: i64| registry.register(name, help, ConstGauge::new(value));
    gauge("members", "Members of the ring, this peer included", count(status.members));
    gauge("members_up", "Members that are up", count(status.up));
    gauge("partitions", "Partitions of the key space", i64::from(status.partitions));
    gauge("replicas", "Configured copies of each partition", count(status.replicas));
    gauge("keys", "Keys on this peer", count(status.keys));
    gauge("hints", "Hints that wait here for other peers", count(status.hints));
    gauge("syncing_partitions", "Partitions whose first sync is not done here", count(status.syncing));
    gauge("disk_full", "1 where the disk has room for deletes only, else 0", i64::from(!status.has_room));
    gauge(
        "damaged_partitions",
        "Times that rows of a partition were found lost or damaged, since the start",
        count(status.damage.partitions),
    );
    gauge("damaged_rows", "Damaged rows that were set aside", count(status.damage.rows_aside));
    gauge("mended_records", "Records derived of rows that were found lost or wrong, since the start", count(status.damage.derived));
    gauge("unjoined_rows", "Rows that could not be joined, since the start", count(status.damage.rows_unjoined));
    gauge("clock_ahead_ms", "Milliseconds that the clock is ahead of those of most members, where that is too much", status.clock_ahead_ms);
    if let Some(clients) = clients {
        let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
        counter("client_connections", "Connections of clients taken", clients.connections.get());
        counter("client_connections_rejected", "Connections turned away since there were too many", clients.rejected_connections.get());
        counter("commands", "Commands carried out, those that failed included", clients.commands.get());
        counter("command_errors", "Replies that were errors", clients.errors.get());
        counter("protocol_errors", "Connections closed for bytes that were no command", clients.protocol_errors.get());
        counter("slow_subscribers", "Subscribers disconnected since they read too slowly", clients.slow_subscribers.get());
        counter("client_read_bytes", "Bytes read from clients", clients.bytes_read.get());
        counter("client_written_bytes", "Bytes written to clients", clients.bytes_written.get());
    }
    let per_peer = |value: fn(&PeerStatus) -> i64| PerPeer(peers.iter().map(|peer| (peer.peer.to_string(), value(peer))).collect());
    registry.register("peer_up", "1 where the member answers, else 0", per_peer(|peer| i64::from(peer.state == PeerState::Up)));
    registry.register("peer_partitions", "Partition copies that the member holds", per_peer(|peer| count(peer.partitions)));
    registry
}

fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// A gauge with one value a member, labelled by its peer id.
#[derive(Debug)]
struct PerPeer(Vec<(String, i64)>);

#[derive(Debug)]
struct PeerLabel<'a>(&'a str);

impl EncodeLabelSet for PeerLabel<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("peer", self.0)].encode(encoder)
    }
}

impl EncodeMetric for PerPeer {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (peer, value) in &self.0 {
            encoder.encode_family(&PeerLabel(peer))?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::runtime::Handle;
    use tokio::sync::oneshot;

    use super::*;
    use crate::members::Standing;
    use crate::replica::damage::Damage;
    use crate::sim::cluster::SimCluster;
    use crate::types::PeerId;

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_does_not_outlive_the_server() {
        let cluster = SimCluster::start(1, 1, 7, crate::config::Durability::System).await.unwrap();
        let node = cluster.peers[0].node.clone().unwrap();
        let others = Handle::current().metrics().num_alive_tasks();
        let server = HttpServer::bind(SocketAddr::from(([127, 0, 0, 1], 0)), node, None).await.unwrap();
        let (address, (stop, stopped)) = (server.local_addr(), oneshot::channel::<()>());
        let serving = tokio::spawn(server.serve(stopped.map(drop)));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nhost: ").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.send(()).unwrap();
        serving.await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(Handle::current().metrics().num_alive_tasks(), others);
        assert!(client.read_u8().await.is_err(), "the connection was left open");
    }

    #[test]
    fn tells_the_numbers_of_peer_members_and_clients() {
        let peer = PeerId([3; 32]);
        let status = Status {
            peer,
            cluster: "c".to_owned(),
            standing: Standing::Joined,
            members: 3,
            up: 2,
            partitions: 256,
            replicas: 3,
            keys: 7,
            hints: 0,
            syncing: 1,
            handing_over: 0,
            protected: true,
            damage: Damage { partitions: 2, rows_aside: 5, rows_unjoined: 3, derived: 4 },
            has_room: false,
            clock_ahead_ms: -70_000,
        };
        let member =
            PeerStatus { peer, state: PeerState::Up, zone: None, capacity: 1, address: None, partitions: 12, last_seen_ms: Some(0) };
        let statistics = Statistics::default();
        statistics.commands.add(41);
        let mut page = String::new();
        text::encode(&mut page, &registry(&status, &[member], Some(&statistics))).unwrap();
        for line in [
            "ringtide_keys 7",
            "ringtide_commands_total 41",
            "ringtide_syncing_partitions 1",
            "ringtide_disk_full 1",
            "ringtide_damaged_rows 5",
            "ringtide_unjoined_rows 3",
            "ringtide_mended_records 4",
            "ringtide_clock_ahead_ms -70000",
            "# EOF",
        ] {
            assert!(page.lines().any(|known| known == line), "{line} in {page}");
        }
        assert!(page.contains(&format!("ringtide_peer_partitions{{peer=\"{peer}\"}} 12")), "{page}");
    }
}
