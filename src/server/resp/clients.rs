//! Who is connected: what CLIENT LIST tells, and the count that is limited.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::reply::Protocol;

/// Every client that is connected.
#[derive(Default)]
pub(crate) struct Clients {
    /// Held for a look-up, an insertion or a copy of the list; never across an `await`.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    last_id: u64,
    connected: BTreeMap<u64, Arc<Client>>,
}

/// One connected client.
pub(crate) struct Client {
    /// Counted from 1 in the order of connecting.
    pub(crate) id: u64,
    address: SocketAddr,
    local: SocketAddr,
    connected_at: Instant,
    /// What its buffers hold.
    pub(crate) buffers: Buffers,
    /// Whether it waits: in BLPOP and its like, or in WAIT.
    pub(crate) is_blocked: AtomicBool,
    /// Told when the client is to be disconnected.
    pub(crate) killed: Notify,
    /// Held for a few assignments; never across an `await`.
    profile: Mutex<Profile>,
}

/// What the buffers of a client hold, in bytes.
#[derive(Default)]
pub(crate) struct Buffers {
    /// Read from it and not yet carried out.
    pub(crate) input: AtomicUsize,
    /// Room for more of it.
    pub(crate) input_free: AtomicUsize,
    /// Replies that it has not read.
    pub(crate) output: AtomicUsize,
    /// Room for replies.
    pub(crate) output_capacity: AtomicUsize,
    /// Messages of channels that wait behind them, their number.
    pub(crate) messages: AtomicUsize,
    /// And their bytes.
    pub(crate) message_bytes: AtomicUsize,
}

impl Buffers {
    /// Bytes that the buffers for input and for replies take.
    pub(crate) fn held(&self) -> (usize, usize) {
        let input = self.input.load(Ordering::Relaxed) + self.input_free.load(Ordering::Relaxed);
        (input, self.output_capacity.load(Ordering::Relaxed))
    }
}

/// What a client told about itself, and what it did last.
#[derive(Clone)]
pub(crate) struct Profile {
    /// CLIENT SETNAME.
    pub(crate) name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub(crate) library_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub(crate) library_version: String,
    /// CLIENT NO-EVICT. Clients are never evicted, so it changes nothing but what is told.
    pub(crate) no_evict: bool,
    /// The version of the protocol.
    pub(crate) protocol: Protocol,
    /// Commands queued since MULTI.
    pub(crate) queued: Option<usize>,
    /// What they cost in memory, in bytes.
    pub(crate) queued_bytes: usize,
    /// Channels, patterns and shard channels that it subscribes to.
    pub(crate) subscriptions: [usize; 3],
    /// The last command, and its subcommand.
    pub(crate) command: (&'static str, Option<&'static str>),
    /// When the client last sent something.
    pub(crate) active_at: Instant,
}

/// A client's place among the connected ones; gives it back when dropped.
pub(crate) struct Seat {
    clients: Arc<Clients>,
    /// Whose place it is.
    pub(crate) client: Arc<Client>,
}

impl Clients {
    /// Takes a place for a new client; `None` where `limit` places are taken.
    pub(crate) fn admit(self: &Arc<Self>, address: SocketAddr, local: SocketAddr, limit: usize) -> Option<Seat> {
        let mut table = lock(&self.table);
        if table.connected.len() >= limit {
            return None;
        }
        table.last_id += 1;
        let now = Instant::now();
        let profile = Profile {
            name: String::new(),
            library_name: String::new(),
            library_version: String::new(),
            no_evict: false,
            protocol: Protocol::default(),
            queued: None,
            queued_bytes: 0,
            subscriptions: [0; 3],
            command: ("NULL", None),
            active_at: now,
        };
        let client = Arc::new(Client {
            id: table.last_id,
            address,
            local,
            connected_at: now,
            buffers: Buffers::default(),
            is_blocked: AtomicBool::new(false),
            killed: Notify::new(),
            profile: Mutex::new(profile),
        });
        table.connected.insert(client.id, client.clone());
        Some(Seat { clients: self.clone(), client })
    }

    /// How many clients are connected.
    pub(crate) fn count(&self) -> usize {
        lock(&self.table).connected.len()
    }

    /// Every connected client, in the order of connecting.
    pub(crate) fn list(&self) -> Vec<Arc<Client>> {
        lock(&self.table).connected.values().cloned().collect()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.clients.table).connected.remove(&self.client.id);
    }
}

impl Client {
    /// What the client told about itself.
    pub(crate) fn profile(&self) -> MutexGuard<'_, Profile> {
        lock(&self.profile)
    }
}

/// A panic elsewhere leaves these tables whole: each change of them is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What sort of client it is, in the words of CLIENT LIST TYPE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClientType {
    /// It asks and is answered.
    Normal,
    /// It subscribes.
    Pubsub,
    /// Another server of Redis: there is none.
    Server,
}

impl ClientType {
    /// The type of a name.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(Self::Normal),
            b"pubsub" => Some(Self::Pubsub),
            b"master" | b"replica" | b"slave" => Some(Self::Server),
            _ => None,
        }
    }
}

impl Client {
    /// What sort of client it is.
    pub(crate) fn client_type(&self) -> ClientType {
        if self.profile().subscriptions == [0; 3] { ClientType::Normal } else { ClientType::Pubsub }
    }

    /// Where it speaks from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it speaks to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }
}

/// A line of CLIENT LIST.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = self.profile().clone();
        let [channels, patterns, shards] = profile.subscriptions;
        let mut flags = String::new();
        for (flag, is_set) in [
            ('P', profile.subscriptions != [0; 3]),
            ('x', profile.queued.is_some()),
            ('b', self.is_blocked.load(Ordering::Relaxed)),
            ('e', profile.no_evict),
        ] {
            flags.extend(is_set.then_some(flag));
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let Buffers { input, input_free, output, output_capacity, messages, message_bytes } = &self.buffers;
        let [input, input_free, output, output_capacity, messages, message_bytes] =
            [input, input_free, output, output_capacity, messages, message_bytes].map(|number| number.load(Ordering::Relaxed));
        let total = size_of::<Self>() + input + input_free + output_capacity + message_bytes + profile.queued_bytes;
        write!(f, "id={} addr={} laddr={} fd=-1 name={} ", self.id, self.address, self.local, profile.name)?;
        write!(f, "age={} idle={} ", self.connected_at.elapsed().as_secs(), profile.active_at.elapsed().as_secs())?;
        write!(f, "flags={flags} db=0 sub={channels} psub={patterns} ssub={shards} ")?;
        match profile.queued {
            Some(queued) => write!(f, "multi={queued} ")?,
            None => write!(f, "multi=-1 ")?,
        }
        write!(f, "qbuf={input} qbuf-free={input_free} argv-mem=0 multi-mem={} ", profile.queued_bytes)?;
        write!(f, "rbs={output_capacity} rbp={output_capacity} obl={output} oll={messages} omem={message_bytes} tot-mem={total} ")?;
        write!(f, "events=r cmd={}", profile.command.0)?;
        if let Some(subcommand) = profile.command.1 {
            write!(f, "|{subcommand}")?;
        }
        write!(f, " user=default redir=-1 resp={} ", profile.protocol.number())?;
        writeln!(f, "lib-name={} lib-ver={}", profile.library_name, profile.library_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_back_with_the_seat() {
        let (clients, address) = (Arc::new(Clients::default()), SocketAddr::from(([127, 0, 0, 1], 7)));
        let first = clients.admit(address, address, 2).unwrap();
        let second = clients.admit(address, address, 2).unwrap();
        assert!(clients.admit(address, address, 2).is_none());
        drop(first);
        let third = clients.admit(address, address, 2).unwrap();
        assert_eq!(clients.list().iter().map(|client| client.id).collect::<Vec<_>>(), [2, 3]);
        drop((second, third));
        assert_eq!(clients.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_told_in_one_line() {
        let (clients, address) = (Arc::new(Clients::default()), SocketAddr::from(([127, 0, 0, 1], 7)));
        let seat = clients.admit(address, address, 2).unwrap();
        seat.client.profile().command = ("client", Some("list"));
        let expected = "id=1 addr=127.0.0.1:7 laddr=127.0.0.1:7 fd=-1 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 \
                        qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=";
        let line = seat.client.to_string();
        assert!(line.starts_with(expected), "{line}");
        assert!(line.ends_with("events=r cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver=\n"), "{line}");
        seat.client.profile().subscriptions = [1, 2, 0];
        assert!(seat.client.to_string().contains(" flags=P db=0 sub=1 psub=2 ssub=0 "));
        seat.client.is_blocked.store(true, Ordering::Relaxed);
        assert!(seat.client.to_string().contains(" flags=Pb "));
    }
}
