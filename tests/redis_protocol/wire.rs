//! A client that sees every byte, and a lone peer to talk to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringtide::backend::{FjallOptions, FjallStorage, SystemClock};
use ringtide::config::NodeConfig;
use ringtide::env::{Lane, Network, NetworkEvent, SendError};
use ringtide::node::Node;
use ringtide::server::http::HttpServer;
use ringtide::server::resp::{Options, RespServer};
use ringtide::types::PeerId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// The network of a peer that is alone.
struct Alone;

impl Network for Alone {
    fn local(&self) -> PeerId {
        PeerId([7; 32])
    }

    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn send(&self, _to: PeerId, _lane: Lane, _frame: Bytes) -> Result<(), SendError> {
        Err(SendError::Unconnected)
    }

    fn seek(&self, _peer: PeerId, _addresses: Vec<String>) {}
}

/// A lone peer with its own servers.
pub(crate) struct Server {
    pub(crate) resp: SocketAddr,
    pub(crate) http: SocketAddr,
    node: Node,
    _events: mpsc::Sender<NetworkEvent>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(FjallStorage::open(folder.path(), FjallOptions::default()).unwrap());
        let (events, inbox) = mpsc::channel(1);
        let node = Node::start(NodeConfig::default(), Arc::new(Alone), inbox, storage, Arc::new(SystemClock)).await.unwrap();
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = RespServer::bind(any_port, node.clone(), options).await.unwrap();
        let http = HttpServer::bind(any_port, node.clone(), Some(server.statistics())).await.unwrap();
        let (resp, http_address) = (server.local_addr(), http.local_addr());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(async move {
            let _ = stopped.await;
        }));
        tokio::spawn(http.serve(std::future::pending()));
        Self { resp, http: http_address, node, _events: events, stop: Some(stop), serving, _folder: folder }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.resp)
    }

    /// Tells the server to stop, and returns at once.
    pub(crate) fn begin_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Stops server and peer.
    pub(crate) async fn stop(mut self) {
        self.begin_to_stop();
        self.serving.await.unwrap();
        self.node.stop().await;
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The bytes of the next reply; `None` where the connection was closed instead.
    pub(crate) fn reply(&mut self) -> Option<Vec<u8>> {
        let mut chunk = vec![0; 64 * 1024];
        loop {
            if let Some(length) = reply_length(&self.received) {
                let rest = self.received.split_off(length);
                return Some(std::mem::replace(&mut self.received, rest));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no reply: {error}; received {:?}", String::from_utf8_lossy(&self.received)),
            }
        }
    }

    pub(crate) fn ask(&mut self, words: &[&[u8]]) -> Vec<u8> {
        self.send(&command(words));
        self.reply().expect("the connection was closed")
    }

    /// Sends the words of a line as a command; the reply as text.
    pub(crate) fn line(&mut self, line: &str) -> String {
        String::from_utf8_lossy(&self.line_bytes(line)).into_owned()
    }

    /// Sends the words of a line as a command; the reply as it comes.
    pub(crate) fn line_bytes(&mut self, line: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.ask(&words)
    }
}

/// The bytes of a command.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// How long the reply is that the bytes begin with; `None` where it is not complete.
pub(crate) fn reply_length(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let number = || -> i64 { std::str::from_utf8(&bytes[1..line]).unwrap().parse().unwrap() };
    let mut length = line + 2;
    let elements = match bytes[0] {
        b'+' | b'-' | b':' | b'_' | b',' => 0,
        b'$' | b'=' if number() < 0 => 0,
        b'$' | b'=' => {
            length += usize::try_from(number()).unwrap() + 2;
            0
        }
        b'*' | b'~' | b'>' => number(),
        b'%' => number() * 2,
        other => panic!("unknown type of reply {:?} in {:?}", char::from(other), String::from_utf8_lossy(bytes)),
    };
    for _ in 0..elements {
        length += reply_length(bytes.get(length..)?)?;
    }
    (length <= bytes.len()).then_some(length)
}
