//! `ringtide local`: a whole cluster on this machine, each peer a process of its own, as on real machines.
//!
//! The first peer is started alone; the others are told its address. Each child holds one end of a pipe as its standard input and
//! stops when that ends, so no child outlives this process, however it ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

use super::Failure;
use super::settings::Local;
use super::up::stop_signal;
use crate::config;

/// How long a peer may take until it serves clients.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the children are looked after.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs the cluster until the process is told to stop.
pub(crate) fn run(settings: &Local) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the runtime cannot be started: {error}")))?;
    match &settings.data_dir {
        Some(folder) => runtime.block_on(play(settings, folder)),
        None => {
            let folder = tempfile::Builder::new()
                .prefix("ringtide-local-")
                .tempdir()
                .map_err(|error| Failure::Failed(format!("no temporary folder can be made: {error}")))?;
            let outcome = runtime.block_on(play(settings, folder.path()));
            folder.close().map_err(|error| Failure::Failed(format!("the temporary folder cannot be removed: {error}")))?;
            outcome
        }
    }
}

/// A child and what it said when it was ready.
struct LocalPeer {
    number: usize,
    child: Child,
    stdout: mpsc::Receiver<String>,
}

async fn play(settings: &Local, folder: &Path) -> Result<(), Failure> {
    let mut stop = stop_signal().map_err(Failure::Failed)?;
    let mut peers = Vec::new();
    let outcome = tokio::select! {
        biased;
        () = stop.wait() => Ok(()),
        outcome = start_and_watch(settings, folder, &mut peers) => outcome,
    };
    stop_all(&mut peers).await;
    outcome
}

/// Starts all peers, says how to reach them, and returns when one of them ends by itself.
async fn start_and_watch(settings: &Local, folder: &Path, peers: &mut Vec<LocalPeer>) -> Result<(), Failure> {
    let mut first_address = None;
    println!("starting {} peers with their data in {}", settings.peers, folder.display());
    for number in 1..=settings.peers {
        let data_dir = folder.join(format!("peer-{number}"));
        peers.push(LocalPeer::spawn(number, &data_dir, settings, first_address.as_deref()).map_err(Failure::Failed)?);
        let Some(peer) = peers.last_mut() else { continue };
        let ready = peer.ready().await.map_err(Failure::Failed)?;
        println!("peer {number}  redis-cli -p {}  http://{}  {}", port(&ready.resp), ready.http, ready.peer);
        first_address.get_or_insert(ready.address);
    }
    println!("all up; Ctrl-C stops them");
    let mut watch = interval(WATCH_INTERVAL);
    loop {
        watch.tick().await;
        for peer in peers.iter_mut() {
            if let Some(status) = peer.ended() {
                return Err(Failure::Failed(format!("peer {} has ended by itself ({status}), so the others are stopped", peer.number)));
            }
        }
    }
}

/// The parts of the line that a peer prints when it serves clients.
#[derive(PartialEq, Eq, Debug)]
struct Ready {
    peer: String,
    resp: String,
    http: String,
    address: String,
}

impl Ready {
    fn parse(line: &str) -> Option<Self> {
        let words = line.strip_prefix("ready ")?;
        let field = |name: &str| words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let address = field("p2p")?.split(',').next()?.to_owned();
        Some(Self { peer: field("peer")?.to_owned(), resp: field("resp")?.to_owned(), http: field("http")?.to_owned(), address })
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap_or(address)
}

impl LocalPeer {
    fn spawn(number: usize, data_dir: &Path, settings: &Local, bootstrap: Option<&str>) -> Result<Self, String> {
        let failed = |error| format!("peer {number} cannot be started: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data-dir").arg(data_dir);
        command.args(["--cluster", "local", "--resp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--stop-with-stdin"]);
        command.args(["--log", &settings.log]);
        if let Some(address) = bootstrap {
            command.args(["--bootstrap", address]);
        }
        // Settings meant for one peer would be wrong for several.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"RINGTIDE_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (sender, stdout) = mpsc::channel(1);
        if let Some(pipe) = child.stdout.take() {
            // A pipe can only be read by blocking; the thread ends with the child.
            std::thread::spawn(move || BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| sender.blocking_send(line)));
        }
        Ok(Self { number, child, stdout })
    }

    async fn ready(&mut self) -> Result<Ready, String> {
        match timeout(READY_TIMEOUT, self.stdout.recv()).await {
            Ok(Some(line)) => Ready::parse(&line).ok_or_else(|| format!("peer {} said '{line}' instead of being ready", self.number)),
            Ok(None) => Err(format!("peer {} has ended before it was ready", self.number)),
            Err(_) => Err(format!("peer {} was not ready within {} s", self.number, READY_TIMEOUT.as_secs())),
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// Tells all children to stop and waits for them; who takes too long is killed.
async fn stop_all(peers: &mut [LocalPeer]) {
    for peer in peers.iter_mut() {
        drop(peer.child.stdin.take());
    }
    let deadline = Instant::now() + config::STOP_TIMEOUT + Duration::from_secs(2);
    let mut watch = interval(WATCH_INTERVAL);
    while peers.iter_mut().any(|peer| peer.ended().is_none()) && Instant::now() < deadline {
        watch.tick().await;
    }
    for peer in peers.iter_mut().filter_map(|peer| peer.ended().is_none().then_some(peer)) {
        // It may have ended in this moment, which is as good.
        let _ = peer.child.kill();
        let _ = peer.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_taken_apart() {
        let line = "ready peer=12D3KooWx resp=127.0.0.1:7379 http=off p2p=/ip4/127.0.0.1/tcp/1,/ip4/10.0.0.1/tcp/1";
        let ready = Ready::parse(line).unwrap();
        assert_eq!((ready.peer.as_str(), ready.http.as_str(), ready.address.as_str()), ("12D3KooWx", "off", "/ip4/127.0.0.1/tcp/1"));
        assert_eq!(port(&ready.resp), "7379");
        assert_eq!(Ready::parse("ready peer=x"), None);
        assert_eq!(Ready::parse("steady"), None);
    }
}
