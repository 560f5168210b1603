//! What the node may rely on from the real network, tried with real peers over loopback.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use bytes::Bytes;
use ringtide::backend::libp2p::admission::{Terms, WIRE_VERSION};
use ringtide::backend::libp2p::{Keypair, Libp2pNetwork, Multiaddr, NetworkConfig, NetworkError, Secret};
use ringtide::config::{LINK_SILENCE, MAX_FRAME};
use ringtide::env::{Lane, Network, NetworkEvent, SendError};
use ringtide::types::{PeerId, Process};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep, timeout};

/// More than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Processes that were started: no two have one number, and who was started later has the greater one.
static STARTED: AtomicU64 = AtomicU64::new(1);

struct Peer {
    network: Arc<Libp2pNetwork>,
    events: Receiver<NetworkEvent>,
}

fn config(bootstrap: &[String]) -> NetworkConfig {
    NetworkConfig {
        keypair: Keypair::generate_ed25519(),
        cluster: "test".to_owned(),
        secret: Some(Secret::new("a secret for tests")),
        partitions: 64,
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap: bootstrap.iter().map(|address| address.parse().unwrap()).collect(),
        mdns: false,
        protected: true,
        process: Process { started_ms: 5_000, number: STARTED.fetch_add(1, Ordering::Relaxed) },
    }
}

impl Peer {
    async fn start(config: NetworkConfig) -> Self {
        let (network, events) = Libp2pNetwork::start(config).await.unwrap();
        Self { network, events }
    }

    fn id(&self) -> PeerId {
        self.network.local()
    }

    async fn event(&mut self) -> NetworkEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("nothing happened").expect("the network is gone")
    }

    async fn connected(&mut self) -> PeerId {
        match self.event().await {
            NetworkEvent::Connected { peer, .. } => peer,
            other => panic!("not connected but {other:?}"),
        }
    }

    async fn disconnected(&mut self) -> PeerId {
        match self.event().await {
            NetworkEvent::Disconnected { peer } => peer,
            other => panic!("not disconnected but {other:?}"),
        }
    }

    async fn frame(&mut self) -> (PeerId, Lane, Bytes) {
        match self.event().await {
            NetworkEvent::Frame { peer, lane, frame } => (peer, lane, frame),
            other => panic!("no frame but {other:?}"),
        }
    }

    /// Waits for the end of the events; a disconnect may or may not be told before it.
    async fn ended(&mut self) {
        while let Some(event) = timeout(PATIENCE, self.events.recv()).await.expect("the network did not stop") {
            assert!(matches!(event, NetworkEvent::Disconnected { .. }), "{event:?}");
        }
    }

    async fn quiet_for(&mut self, duration: Duration) {
        if let Ok(event) = timeout(duration, self.events.recv()).await {
            panic!("unexpected: {event:?}");
        }
    }
}

/// Two connected peers.
async fn pair() -> (Peer, Peer) {
    let mut a = Peer::start(config(&[])).await;
    let mut b = Peer::start(config(&a.network.addresses())).await;
    assert_eq!(a.connected().await, b.id());
    assert_eq!(b.connected().await, a.id());
    (a, b)
}

thread_local! {
    /// What this test logs. Each test runs on a thread of its own, with everything that it starts.
    static LOG: Log = Log::default();
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The log of this thread. One subscriber serves all threads: several, each on its thread, hide lines from each other.
    fn collect() -> Self {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| tracing_subscriber::fmt().with_writer(|| LOG.with(Self::clone)).with_ansi(false).init());
        LOG.with(Self::clone)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn lines(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }

    async fn wait_for(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines(part) == 0 {
            assert!(Instant::now() < deadline, "no line with '{part}' in:\n{}", self.text());
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn frames_arrive_in_order_on_both_lanes_both_ways() {
    let (mut a, mut b) = pair().await;
    let body = |number: u32| {
        // Now and then a large one.
        let length = if number % 97 == 96 { 150_000 } else { number as usize % 400 };
        [number.to_be_bytes().as_slice(), &vec![number as u8; length]].concat()
    };
    for number in 0..500 {
        for lane in [Lane::Operations, Lane::Bulk] {
            a.network.send(b.id(), lane, body(number).into()).unwrap();
            b.network.send(a.id(), lane, body(number).into()).unwrap();
        }
    }
    let (a_id, b_id) = (a.id(), b.id());
    for (receiver, sender) in [(&mut a, b_id), (&mut b, a_id)] {
        let mut next = BTreeMap::new();
        for _ in 0..1000 {
            let (peer, lane, frame) = receiver.frame().await;
            let number = next.entry(lane).or_insert(0);
            assert_eq!((peer, frame), (sender, body(*number).into()));
            *number += 1;
        }
    }
    a.network.send(b.id(), Lane::Bulk, Bytes::new()).unwrap();
    assert_eq!(b.frame().await, (a.id(), Lane::Bulk, Bytes::new()));
}

#[tokio::test]
async fn many_small_frames_take_few_writes() {
    let (a, mut b) = pair().await;
    let (count, start) = (200_000u32, Instant::now());
    let (network, to) = (Arc::clone(&a.network), b.id());
    let sender = tokio::spawn(async move {
        for number in 0..count {
            let frame = Bytes::from([number.to_be_bytes().as_slice(), &[0; 96]].concat());
            while network.send(to, Lane::Operations, frame.clone()) == Err(SendError::Full) {
                sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for number in 0..count {
        let (_, _, frame) = b.frame().await;
        assert_eq!(frame[..4], number.to_be_bytes());
    }
    sender.await.unwrap();
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("{rate:.0} frames a second");
    // One write a frame was measured at 30 to 170 thousand in an optimised build on an idle machine.
    assert!(rate > 20_000.0, "{rate:.0} frames a second");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let (a, mut b) = pair().await;
    let long = Bytes::from(vec![0; MAX_FRAME + 1]);
    assert_eq!(a.network.send(b.id(), Lane::Bulk, long.clone()), Err(SendError::TooLong));
    assert_eq!(a.network.send(PeerId([1; 32]), Lane::Bulk, Bytes::new()), Err(SendError::Unconnected));
    let longest = long.slice(1..);
    assert_eq!(a.network.send(b.id(), Lane::Bulk, longest.clone()), Ok(()));
    assert_eq!(b.frame().await.2, longest);
}

#[tokio::test]
async fn a_peer_that_does_not_read_fills_its_own_queue_and_loses_nothing_that_was_taken() {
    let (a, mut b) = pair().await;
    let mut sent = 0u32;
    loop {
        let frame = Bytes::from([sent.to_be_bytes().as_slice(), &vec![1; 1 << 20]].concat());
        match a.network.send(b.id(), Lane::Bulk, frame) {
            Ok(()) => sent += 1,
            Err(error) => break assert_eq!(error, SendError::Full),
        }
        assert!(sent < 1000, "nothing bounds the queue");
    }
    assert_eq!(a.network.send(b.id(), Lane::Operations, Bytes::from_static(b"other lane")), Ok(()));
    let (mut bulk, mut operations) = (0, 0);
    while bulk < sent || operations < 1 {
        match b.frame().await {
            (_, Lane::Bulk, frame) => {
                assert_eq!(frame[..4], bulk.to_be_bytes());
                bulk += 1;
            }
            (_, Lane::Operations, _) => operations += 1,
        }
    }
}

/// Starts a peer of a cluster and one that differs from it, lets the latter dial, and expects that both say why not.
async fn kept_out(stranger: NetworkConfig, terms: Terms, reason: &str) {
    let log = Log::collect();
    let mut member = Peer::start(config(&[])).await;
    let bootstrap = member.network.addresses().iter().map(|address| address.parse().unwrap()).collect();
    let (network, events) = Libp2pNetwork::start_on_terms(NetworkConfig { bootstrap, ..stranger }, terms).await.unwrap();
    let mut stranger = Peer { network, events };
    log.wait_for(&format!("this peer refused it: {reason}")).await;
    log.wait_for(&format!("this peer was refused by it: {reason}")).await;
    assert!(!log.text().contains("a secret for tests"));
    // Long enough for several dials, which are not worth more lines.
    member.quiet_for(Duration::from_secs(2)).await;
    stranger.quiet_for(Duration::from_millis(10)).await;
    assert_eq!(log.lines("refused it"), 1, "{}", log.text());
    assert_eq!(stranger.network.send(member.id(), Lane::Operations, Bytes::new()), Err(SendError::Unconnected));
}

fn terms(config: &NetworkConfig) -> Terms {
    Terms::new(&config.cluster, config.secret.as_ref(), config.partitions, config.protected)
}

#[tokio::test]
async fn another_secret_is_kept_out() {
    let stranger = NetworkConfig { secret: Some(Secret::new("another")), ..config(&[]) };
    kept_out(stranger.clone(), terms(&stranger), "other secret").await;
}

#[tokio::test]
async fn no_secret_is_kept_out() {
    let stranger = NetworkConfig { secret: None, ..config(&[]) };
    kept_out(stranger.clone(), terms(&stranger), "no secret").await;
}

#[tokio::test]
async fn another_cluster_is_kept_out() {
    let stranger = NetworkConfig { cluster: "other".to_owned(), ..config(&[]) };
    kept_out(stranger.clone(), terms(&stranger), "other cluster: the refusing peer is not part of a cluster named \"other\"").await;
}

#[tokio::test]
async fn another_number_of_partitions_is_kept_out() {
    let stranger = NetworkConfig { partitions: 65, ..config(&[]) };
    kept_out(stranger.clone(), terms(&stranger), "other number of partitions: the refusing peer has 64, the refused one 65").await;
}

#[tokio::test]
async fn another_wire_version_is_kept_out() {
    let stranger = config(&[]);
    let reason = format!("other wire version: the refusing peer speaks version {WIRE_VERSION}, the refused one 9");
    kept_out(stranger.clone(), terms(&stranger).with_version(9), &reason).await;
}

/// The same identity, in another process that is started later.
fn copy_of(original: &NetworkConfig, bootstrap: &[String]) -> NetworkConfig {
    NetworkConfig { keypair: original.keypair.clone(), ..config(bootstrap) }
}

#[tokio::test]
async fn of_two_processes_with_one_identity_that_meet_the_younger_has_to_stop() {
    let log = Log::collect();
    let original = config(&[]);
    let mut first = Peer::start(original.clone()).await;
    let mut second = Peer::start(copy_of(&original, &first.network.addresses())).await;
    log.wait_for("this peer refused it: same identity").await;
    log.wait_for("this peer was refused by it: same identity").await;
    let told = second.event().await;
    assert!(matches!(&told, NetworkEvent::Doubled { reason } if reason.contains("identity of this peer")), "{told:?}");
    first.quiet_for(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn of_two_processes_with_one_identity_that_only_a_third_sees_the_younger_has_to_stop() {
    let log = Log::collect();
    // Whichever of the two ends decides which connection is used.
    for _ in 0..2 {
        let mut third = Peer::start(config(&[])).await;
        let original = config(&third.network.addresses());
        let mut first = Peer::start(original.clone()).await;
        assert_eq!((third.connected().await, first.connected().await), (first.id(), third.id()));
        let mut second = Peer::start(copy_of(&original, &third.network.addresses())).await;
        let reason = loop {
            if let NetworkEvent::Doubled { reason } = second.event().await {
                break reason;
            }
        };
        assert!(reason.contains("take the file 'identity' out of the copy"), "{reason}");
        log.wait_for("two processes run with one identity").await;
        second.network.stop().await;
        while let Ok(event) = first.events.try_recv() {
            assert!(!matches!(event, NetworkEvent::Doubled { .. }), "the elder goes on");
        }
    }
}

/// A process that hangs once it is connected: its connection stays open, as it does when a machine loses its power.
fn hang(config: NetworkConfig) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut peer = Peer::start(config).await;
            peer.connected().await;
            std::thread::park();
        });
    });
}

#[tokio::test]
async fn a_process_that_takes_the_place_of_one_that_hangs_is_linked_soon_and_never_stopped() {
    let mut third = Peer::start(config(&[])).await;
    let original = config(&third.network.addresses());
    hang(original.clone());
    let id = third.connected().await;
    let begin = Instant::now();
    let mut next = Peer::start(copy_of(&original, &third.network.addresses())).await;
    assert_eq!(third.disconnected().await, id);
    assert_eq!((third.connected().await, next.connected().await), (id, third.id()));
    assert!(begin.elapsed() < LINK_SILENCE / 2, "the old connection is not waited for");
    third.network.send(id, Lane::Operations, Bytes::from_static(b"for the new one")).unwrap();
    assert_eq!(next.frame().await.2, "for the new one");
    next.quiet_for(Duration::from_millis(1500)).await;
}

#[tokio::test]
async fn peers_that_dial_each_other_at_once_end_up_with_one_link() {
    for _ in 0..5 {
        let (mut a, mut b) = (Peer::start(config(&[])).await, Peer::start(config(&[])).await);
        a.network.seek(b.id(), b.network.addresses());
        b.network.seek(a.id(), a.network.addresses());
        assert_eq!(a.connected().await, b.id());
        assert_eq!(b.connected().await, a.id());
        a.quiet_for(Duration::from_millis(300)).await;
        b.quiet_for(Duration::from_millis(10)).await;
        a.network.send(b.id(), Lane::Operations, Bytes::from_static(b"x")).unwrap();
        assert_eq!(b.frame().await.2, "x");
        b.network.send(a.id(), Lane::Bulk, Bytes::from_static(b"y")).unwrap();
        assert_eq!(a.frame().await.2, "y");
    }
}

#[tokio::test]
async fn a_peer_that_knows_one_member_learns_all() {
    let mut a = Peer::start(config(&[])).await;
    let mut b = Peer::start(config(&a.network.addresses())).await;
    let mut c = Peer::start(config(&a.network.addresses())).await;
    for (peer, others) in [(&mut a, 2), (&mut b, 2), (&mut c, 2)] {
        for _ in 0..others {
            peer.connected().await;
        }
    }
    c.network.send(b.id(), Lane::Operations, Bytes::from_static(b"hello")).unwrap();
    assert_eq!(b.frame().await, (c.id(), Lane::Operations, Bytes::from_static(b"hello")));
}

#[tokio::test]
async fn a_peer_that_comes_back_is_connected_again() {
    let mut a = Peer::start(config(&[])).await;
    let identity = config(&a.network.addresses());
    let mut b = Peer::start(identity.clone()).await;
    assert_eq!(a.connected().await, b.id());
    b.connected().await;
    let (old_id, old_address) = (b.id(), b.network.addresses());
    b.network.stop().await;
    b.ended().await;
    assert_eq!(a.disconnected().await, old_id);
    assert_eq!(a.network.send(old_id, Lane::Bulk, Bytes::new()), Err(SendError::Unconnected));

    // This time it knows nobody, and is found at its old place because it is sought there.
    a.network.seek(old_id, old_address.clone());
    let listen: Vec<Multiaddr> = vec![old_address[0].parse().unwrap()];
    let mut b = Peer::start(NetworkConfig { listen, bootstrap: Vec::new(), ..identity }).await;
    assert_eq!(a.connected().await, old_id);
    assert_eq!(b.connected().await, a.id());
    b.network.send(a.id(), Lane::Operations, Bytes::from_static(b"back")).unwrap();
    assert_eq!(a.frame().await.2, "back");
}

#[tokio::test]
async fn stopping_sends_what_is_queued() {
    let (a, mut b) = pair().await;
    for number in 0..1000u32 {
        a.network.send(b.id(), Lane::Operations, Bytes::copy_from_slice(&number.to_be_bytes())).unwrap();
    }
    let network = Arc::clone(&a.network);
    let stopping = tokio::spawn(async move { network.stop().await });
    for number in 0..1000u32 {
        assert_eq!(b.frame().await.2, number.to_be_bytes().as_slice());
    }
    assert_eq!(b.disconnected().await, a.id());
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_bootstrap_address_is_dialled_until_somebody_is_there() {
    let place = {
        let first = Peer::start(config(&[])).await;
        let addresses = first.network.addresses();
        first.network.stop().await;
        addresses
    };
    let mut early = Peer::start(config(&place)).await;
    early.quiet_for(Duration::from_millis(1500)).await;
    let listen: Vec<Multiaddr> = vec![place[0].parse().unwrap()];
    let mut late = Peer::start(NetworkConfig { listen, ..config(&[]) }).await;
    assert_eq!(early.connected().await, late.id());
    assert_eq!(late.connected().await, early.id());
}

#[tokio::test]
async fn a_bootstrap_address_may_name_the_peer_and_a_wrong_name_is_told() {
    let log = Log::collect();
    let mut a = Peer::start(config(&[])).await;
    let with = |id: &dyn std::fmt::Display| vec![format!("{}/p2p/{id}", a.network.addresses()[0])];
    let mut right = Peer::start(config(&with(&a.id()))).await;
    assert_eq!(right.connected().await, a.id());
    assert_eq!(log.lines("not reached"), 0, "{}", log.text());
    let other = Libp2pNetwork::peer_id(&Keypair::generate_ed25519()).unwrap();
    let _wrong = Peer::start(config(&with(&other))).await;
    log.wait_for(&format!("not reached, trying again later: Dial error: Unexpected peer ID {}", a.id())).await;
    assert_eq!(a.connected().await, right.id());
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_with_its_name() {
    let a = Peer::start(config(&[])).await;
    let address = a.network.addresses()[0].clone();
    let taken = NetworkConfig { listen: vec![address.parse().unwrap()], ..config(&[]) };
    match Libp2pNetwork::start(taken).await.map(drop) {
        Err(error @ NetworkError::PortTaken(_)) => assert!(error.to_string().contains(&address)),
        other => panic!("{other:?}"),
    }
    for wrong in ["/ip4/127.0.0.1/udp/0/quic-v1", "/dns4/localhost/tcp/1", "/ip4/192.0.2.1/tcp/0"] {
        let config = NetworkConfig { listen: vec![wrong.parse().unwrap()], ..config(&[]) };
        let error = Libp2pNetwork::start(config).await.map(drop).unwrap_err().to_string();
        assert!(error.contains(wrong), "{error}");
    }
}

#[tokio::test]
async fn in_protected_mode_no_other_machine_is_dialled() {
    let log = Log::collect();
    // An address for documentation: nobody is there, and nothing may be sent to it.
    let mut peer = Peer::start(config(&["/ip4/192.0.2.1/tcp/1".to_owned()])).await;
    log.wait_for("not reached").await;
    assert!(log.text().contains("not supported"), "{}", log.text());
    peer.quiet_for(Duration::from_millis(100)).await;
}
