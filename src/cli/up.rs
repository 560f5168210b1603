//! `ringtide up`: runs one peer until it is told to stop, or stops by itself.

use std::io::Write;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Failure;
use super::logging;
use super::settings::Up;
use crate::backend::FjallOptions;
use crate::backend::fjall::has_room;
use crate::config;
use crate::embed::{Peer, Settings};

/// How often a full disk is looked at.
const ROOM_POLL: Duration = Duration::from_secs(2);

/// Runs the peer. Returns once it has stopped.
pub(crate) fn run(settings: Up) -> Result<(), Failure> {
    logging::start(&settings.log, settings.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot be started: {error}")))?;
    let outcome = runtime.block_on(serve(settings));
    // Whatever still runs now was given its time; blocking work must not hold the process up.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

async fn serve(settings: Up) -> Result<(), Failure> {
    let mut stop = stop_signal().map_err(Failure::Failed)?;
    if settings.stop_with_stdin {
        stop.also_with_stdin();
    }
    let mut settings = settings.peer;
    let mut is_first = true;
    loop {
        let peer = tokio::select! {
            biased;
            () = stop.wait() => return Ok(()),
            started = Peer::start(settings.clone()) => started.map_err(|error| Failure::Failed(error.to_string()))?,
        };
        if is_first {
            warn_of_open_doors(&peer);
            // The reader of the line may be gone; the peer serves all the same.
            let _ = writeln!(std::io::stdout(), "{}", ready_line(&peer));
        }
        is_first = false;
        let outcome = tokio::select! {
            biased;
            () = stop.wait() => Ok(()),
            reason = peer.failed() => Err(Failure::Failed(reason)),
        };
        let is_full = outcome.is_err() && peer.failed_for_room();
        // Clients find it again where they found it before.
        (settings.resp, settings.http) = (peer.resp(), peer.http());
        let stopped = stop_cleanly(peer, outcome).await;
        if !is_full {
            return stopped;
        }
        tracing::error!("the disk was full before anything could be done about it: the peer starts again once there is room");
        tokio::select! {
            biased;
            () = stop.wait() => return Ok(()),
            () = room(&settings) => {}
        }
    }
}

/// Resolves once the disk has room for a peer.
async fn room(settings: &Settings) {
    let options = FjallOptions::new(settings.memory_bytes);
    while !has_room(&settings.data_dir, &options) {
        sleep(ROOM_POLL).await;
    }
}

async fn stop_cleanly(peer: Peer, outcome: Result<(), Failure>) -> Result<(), Failure> {
    tracing::info!("stopping");
    match timeout(config::STOP_TIMEOUT, peer.stop()).await {
        Ok(()) => outcome,
        Err(_) => outcome.and(Err(Failure::Failed(format!(
            "the peer did not stop cleanly within {} s; what was acknowledged is stored as --durability promises",
            config::STOP_TIMEOUT.as_secs()
        )))),
    }
}

/// Says who can reach this peer, where that may surprise.
fn warn_of_open_doors(peer: &Peer) {
    if peer.node().status().protected {
        tracing::warn!(
            "protected mode: without --secret-file this peer accepts peers of this machine only, and looks for none on the network"
        );
    }
    if let Some(address) = peer.resp().filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(%address, "clients need no password: whoever can reach the address of --resp can read and write everything");
    }
}

/// The one line on stdout.
fn ready_line(peer: &Peer) -> String {
    let door = |address: Option<std::net::SocketAddr>| address.map_or_else(|| "off".to_owned(), |address| address.to_string());
    format!("ready peer={} resp={} http={} p2p={}", peer.id(), door(peer.resp()), door(peer.http()), peer.addresses().join(","))
}

/// Resolves when the process is told to stop.
pub(crate) struct StopSignal {
    receiver: mpsc::Receiver<()>,
    sender: mpsc::Sender<()>,
}

impl StopSignal {
    /// Waits until the process is told to stop.
    pub(crate) async fn wait(&mut self) {
        self.receiver.recv().await;
    }

    /// Takes the end of the standard input as such a signal, too.
    pub(crate) fn also_with_stdin(&self) {
        let sender = self.sender.clone();
        // Standard input can only be read by blocking; the thread ends with the process.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = sender.blocking_send(());
        });
    }
}

/// Listens for SIGINT and SIGTERM from now on.
pub(crate) fn stop_signal() -> Result<StopSignal, String> {
    let (sender, receiver) = mpsc::channel(1);
    let failed = |error: std::io::Error| format!("signals cannot be listened for: {error}");
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind).map_err(failed)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let _ = sender.try_send(());
                }
            });
        }
    }
    #[cfg(not(unix))]
    {
        let mut signals = tokio::signal::windows::ctrl_c().map_err(failed)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                let _ = sender.try_send(());
            }
        });
    }
    Ok(StopSignal { receiver, sender })
}
