//! Who is connected: what CLIENT LIST tells, and the count that is limited.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    /// Held for a few assignments; never across an `await`.
    profile: Mutex<Profile>,
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
            subscriptions: [0; 3],
            command: ("NULL", None),
            active_at: now,
        };
        let client = Arc::new(Client { id: table.last_id, address, local, connected_at: now, profile: Mutex::new(profile) });
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

/// A line of CLIENT LIST.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = self.profile().clone();
        let flags = match (profile.queued.is_some(), profile.no_evict) {
            (false, false) => "N",
            (true, false) => "x",
            (false, true) => "e",
            (true, true) => "xe",
        };
        write!(f, "id={} addr={} laddr={} name={} ", self.id, self.address, self.local, profile.name)?;
        write!(f, "age={} idle={} ", self.connected_at.elapsed().as_secs(), profile.active_at.elapsed().as_secs())?;
        write!(f, "flags={flags} db=0 sub=0 psub=0 ssub=0 ")?;
        match profile.queued {
            Some(queued) => write!(f, "multi={queued} ")?,
            None => write!(f, "multi=-1 ")?,
        }
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
        let expected = "id=1 addr=127.0.0.1:7 laddr=127.0.0.1:7 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 events=r \
                        cmd=client|list user=default redir=-1 resp=2 lib-name= lib-ver=\n";
        assert_eq!(seat.client.to_string(), expected);
    }
}
