//! What all connections of one server share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::time::Instant;

use super::clients::Clients;
use super::lines::Lines;
use super::pause::Pause;
use super::slow_log::SlowLog;
use super::tallies::Tallies;
use crate::config::MAX_HELD;
use crate::held::Held;
use crate::node::Node;
use crate::server::statistics::{Rates, Statistics};

/// The version of Redis whose replies are given.
pub(crate) const REDIS_VERSION: &str = "7.0.15";
/// Our own version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What all connections share.
pub(crate) struct Shared {
    /// The peer that carries out commands.
    pub(crate) node: Node,
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    /// Who is connected.
    pub(crate) clients: Arc<Clients>,
    /// Who waits for what.
    pub(crate) lines: Lines,
    /// What happened.
    pub(crate) statistics: Arc<Statistics>,
    /// Since when.
    pub(crate) started_at: Instant,
    /// Most clients at the same time.
    pub(crate) max_clients: AtomicUsize,
    /// After how many seconds without a command a client is disconnected; 0 is never.
    pub(crate) idle_timeout_s: AtomicU64,
    /// What is counted for each command.
    pub(crate) tallies: Tallies,
    /// Commands that took long.
    pub(crate) slow_log: SlowLog,
    /// Whether commands wait.
    pub(crate) pause: Pause,
    /// How much happened in the last second.
    pub(crate) rates: Rates,
    /// What all clients have in memory.
    pub(crate) held: Held,
    password: Option<blake3::Hash>,
}

impl Shared {
    /// The state of a server that listens at `address`.
    pub(crate) fn new(
        node: Node,
        address: SocketAddr,
        password: Option<&str>,
        max_clients: usize,
        idle_timeout_s: u64,
        tallies: Tallies,
    ) -> Self {
        Self {
            node,
            address,
            clients: Arc::default(),
            lines: Lines::default(),
            statistics: Arc::default(),
            started_at: Instant::now(),
            tallies,
            slow_log: SlowLog::default(),
            pause: Pause::default(),
            rates: Rates::default(),
            held: Held::new(MAX_HELD),
            max_clients: AtomicUsize::new(max_clients),
            idle_timeout_s: AtomicU64::new(idle_timeout_s),
            password: password.map(|password| blake3::hash(password.as_bytes())),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        i64::try_from(self.node.now_ms()).unwrap_or(i64::MAX)
    }

    /// The parts that show how much happened in the last second.
    pub(crate) fn sample_rates(&self) {
        self.rates.sample(&self.statistics);
    }

    /// A seed for what is picked at random.
    pub(crate) fn random(&self) -> u64 {
        // Without the machine's randomness the time has to do: what is picked need not be secret.
        getrandom::u64().unwrap_or_else(|_| self.node.now_ms())
    }

    /// Whether clients have to give a password.
    pub(crate) fn asks_password(&self) -> bool {
        self.password.is_some()
    }

    /// Whether these are the user and password asked for. Without a password the user `default` needs none.
    pub(crate) fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        // Hashes are compared in constant time, so that the time it takes tells nothing about the password.
        user == b"default" && self.password.is_none_or(|expected| expected == blake3::hash(password))
    }

    /// Most clients at the same time.
    pub(crate) fn max_clients(&self) -> usize {
        self.max_clients.load(Ordering::Relaxed)
    }

    /// After how many seconds without a command a client is disconnected; 0 is never.
    pub(crate) fn idle_timeout_s(&self) -> u64 {
        self.idle_timeout_s.load(Ordering::Relaxed)
    }
}
