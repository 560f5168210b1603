//! Starting again in one process: what a stop leaves behind is nothing, whatever goes on at that moment.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by a panic")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc as blocking;
use std::time::Duration;

use ringtide::embed::{Multiaddr, Peer, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const RESTARTS: usize = 20;
/// In one of so many runs the other peer does not answer when the stop comes.
const CUT_OFF: usize = 10;
/// Clients of each kind.
const CLIENTS: usize = 4;

fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::new(folder);
    settings.node.request_timeout = Duration::from_secs(1);
    settings.node.anti_entropy_interval = Duration::from_millis(50);
    settings
}

/// A peer with a runtime of its own, which stands still while it is held.
struct Other {
    addresses: Vec<Multiaddr>,
    holds: mpsc::Sender<blocking::Receiver<()>>,
}

impl Other {
    async fn start(settings: Settings) -> Self {
        let (holds, mut held) = mpsc::channel::<blocking::Receiver<()>>(1);
        let (told, addresses) = oneshot::channel();
        std::thread::spawn(move || {
            Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let peer = Peer::start(settings).await.unwrap();
                told.send(peer.addresses()).unwrap();
                while let Some(hold) = held.recv().await {
                    // Ends when whoever holds it lets go.
                    let _ = hold.recv();
                }
            });
        });
        let addresses = addresses.await.unwrap().iter().map(|address| address.parse().unwrap()).collect();
        Self { addresses, holds }
    }

    /// Neither answers nor hangs up, until the result is dropped.
    async fn hold(&self) -> blocking::Sender<()> {
        let (release, hold) = blocking::channel();
        self.holds.send(hold).await.unwrap();
        release
    }
}

/// Clients that write until they can't, in this process and over the network.
fn clients(peer: &Peer) -> Vec<JoinHandle<u64>> {
    let address = peer.resp().unwrap();
    let inside = (0..CLIENTS).map(|client| {
        let node = peer.node().clone();
        tokio::spawn(async move {
            let mut written = 0;
            while node.write(ringtide::types::Level::Sloppy, format!("inside {client} {written}").into(), increment()).await.is_ok() {
                written += 1;
            }
            written
        })
    });
    inside.chain((0..CLIENTS).map(|client| tokio::spawn(outside(address, client)))).collect()
}

/// How much was written by clients whose peer has stopped: they notice.
async fn ended(clients: Vec<JoinHandle<u64>>) -> u64 {
    let mut written = 0;
    for client in clients {
        written += timeout(Duration::from_secs(5), client).await.expect("a client waits for a peer that has stopped").unwrap();
    }
    written
}

fn increment() -> ringtide::crdt::string::Mutation {
    ringtide::crdt::string::Mutation::Increment(1)
}

async fn outside(address: SocketAddr, client: usize) -> u64 {
    let Ok(mut stream) = TcpStream::connect(address).await else { return 0 };
    let (mut answered, mut answer) = (0, [0; 64]);
    while stream.write_all(format!("INCR outside:{client}:{answered}\r\n").as_bytes()).await.is_ok() {
        match stream.read(&mut answer).await {
            Ok(length) if length > 0 => answered += 1,
            Ok(_) | Err(_) => break,
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_starts_again_at_once_and_its_stop_ends_all_while_clients_write_and_a_peer_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let other = Other::start(settings(&folder.path().join("other"))).await;
    let mut again = settings(&folder.path().join("again"));
    again.bootstrap = other.addresses.clone();
    (again.resp, again.http) = (Some(SocketAddr::from(([127, 0, 0, 1], 0))), Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    let (mut writing, mut written, mut held) = (Vec::new(), 0, None);
    for run in 1..=RESTARTS {
        drop(held.take());
        // Clients of the run before may still have their handle of it.
        let peer = Peer::start(again.clone()).await.unwrap();
        written += ended(std::mem::take(&mut writing)).await;
        while peer.node().status().up < 2 {
            sleep(Duration::from_millis(5)).await;
        }
        writing = clients(&peer);
        sleep(Duration::from_millis(50)).await;
        if run.is_multiple_of(CUT_OFF) {
            held = Some(other.hold().await);
            sleep(Duration::from_millis(200)).await;
        }
        timeout(Duration::from_secs(20), peer.stop()).await.unwrap();
    }
    written += ended(writing).await;
    assert!(written > 1000, "only {written} writes");
    let begun = Instant::now();
    while Handle::current().metrics().num_alive_tasks() > 0 {
        assert!(
            begun.elapsed() < Duration::from_millis(500),
            "{} tasks outlived their peer",
            Handle::current().metrics().num_alive_tasks()
        );
        sleep(Duration::from_millis(5)).await;
    }
    drop(held);
}
