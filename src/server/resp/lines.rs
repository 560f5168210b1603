//! The lines in which clients of this server wait for keys: one a key, first come, first served.
//!
//! A client that waits for several keys stands in the line of each. Only the first of a line looks at its key, so what comes goes to whoever came first, and one
//! element wakes one client. When it leaves, with something or without, the next one is called, and looks whether there is more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::config::MAX_WAITED_KEYS;
use crate::crdt::delta::Kind;

/// Why a client is not to wait any longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unblocked {
    /// As if its time were over; also where its connection ends.
    TimedOut,
    /// By CLIENT UNBLOCK … ERROR.
    Refused,
}

/// Every line. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    /// Held for look-ups and insertions; never across an `await`.
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    /// Clients by the key and kind of rows that they wait for.
    lines: BTreeMap<(Kind, Bytes), VecDeque<u64>>,
    /// Those who stand in them, by client.
    waiters: BTreeMap<u64, Waiter>,
    /// Places in all lines.
    places: usize,
}

#[derive(Default)]
struct Waiter {
    /// Rings when something about its places changes.
    bell: Arc<Notify>,
    unblocked: Option<Unblocked>,
}

/// The places of one client in the lines, until it is dropped.
pub(crate) struct Queued {
    lines: Lines,
    client: u64,
    kind: Kind,
    keys: Vec<Bytes>,
    bell: Arc<Notify>,
}

impl Lines {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a client at the end of the line of each of these keys. `None` where too many wait already.
    pub(crate) fn join(&self, client: u64, kind: Kind, keys: &[Bytes]) -> Option<Queued> {
        let mut table = self.table();
        if table.places.saturating_add(keys.len()) > MAX_WAITED_KEYS {
            return None;
        }
        let mut joined = Vec::with_capacity(keys.len());
        for key in keys {
            let line = table.lines.entry((kind, key.clone())).or_default();
            // A key may be named twice.
            if line.back() != Some(&client) {
                line.push_back(client);
                joined.push(key.clone());
            }
        }
        table.places += joined.len();
        let bell = Arc::clone(&table.waiters.entry(client).or_default().bell);
        drop(table);
        Some(Queued { lines: self.clone(), client, kind, keys: joined, bell })
    }

    /// Ends the wait of a client; whether it waits.
    pub(crate) fn unblock(&self, client: u64, why: Unblocked) -> bool {
        let mut table = self.table();
        let Some(waiter) = table.waiters.get_mut(&client) else { return false };
        waiter.unblocked.get_or_insert(why);
        waiter.bell.notify_one();
        true
    }
}

impl Queued {
    /// Whether the client is the first in the line of a key.
    pub(crate) fn leads(&self, key: &Bytes) -> bool {
        self.lines.table().lines.get(&(self.kind, key.clone())).and_then(VecDeque::front) == Some(&self.client)
    }

    /// Whether the wait was ended.
    pub(crate) fn unblocked(&self) -> Option<Unblocked> {
        self.lines.table().waiters.get(&self.client).and_then(|waiter| waiter.unblocked)
    }

    /// Resolves when the client has become the first in a line, or its wait was ended; also where that came to pass before this is called.
    pub(crate) async fn called(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        let mut guard = self.lines.table();
        let table = &mut *guard;
        table.waiters.remove(&self.client);
        table.places -= self.keys.len();
        for key in std::mem::take(&mut self.keys) {
            let name = (self.kind, key);
            let Some(line) = table.lines.get_mut(&name) else { continue };
            let led = line.front() == Some(&self.client);
            line.retain(|client| *client != self.client);
            match line.front() {
                None => drop(table.lines.remove(&name)),
                Some(next) if led => {
                    if let Some(waiter) = table.waiters.get(next) {
                        waiter.bell.notify_one();
                    }
                }
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn keys(names: &[&'static str]) -> Vec<Bytes> {
        names.iter().map(|name| Bytes::from_static(name.as_bytes())).collect()
    }

    fn is_called(queued: &Queued) -> bool {
        queued.called().now_or_never().is_some()
    }

    #[test]
    fn the_first_to_come_leads_and_the_next_is_called_when_it_goes() {
        let lines = Lines::default();
        let [a, b] = [&keys(&["a"])[0], &keys(&["b"])[0]];
        let first = lines.join(1, Kind::Item, &keys(&["a", "a"])).unwrap();
        let second = lines.join(2, Kind::Item, &keys(&["a", "b"])).unwrap();
        let third = lines.join(3, Kind::Item, &keys(&["b", "a"])).unwrap();
        let other = lines.join(4, Kind::Score, &keys(&["a"])).unwrap();
        let leads = |queued: &Queued| (queued.leads(a), queued.leads(b));
        assert_eq!([&first, &second, &third, &other].map(leads), [(true, false), (false, true), (false, false), (true, false)]);
        drop(first);
        assert_eq!((is_called(&second), is_called(&third), is_called(&other)), (true, false, false));
        // Whoever goes from the midst of a line calls nobody.
        drop(other);
        drop(second);
        assert_eq!((is_called(&third), leads(&third)), (true, (true, true)));
        drop(third);
        let table = lines.table();
        assert_eq!((table.lines.len(), table.waiters.len(), table.places), (0, 0, 0));
    }

    #[test]
    fn a_wait_is_ended_once_and_for_the_first_reason() {
        let lines = Lines::default();
        assert!(!lines.unblock(7, Unblocked::Refused));
        let queued = lines.join(7, Kind::Item, &keys(&["a"])).unwrap();
        assert_eq!((queued.unblocked(), is_called(&queued)), (None, false));
        assert!(lines.unblock(7, Unblocked::Refused) && lines.unblock(7, Unblocked::TimedOut));
        assert_eq!((queued.unblocked(), is_called(&queued)), (Some(Unblocked::Refused), true));
        drop(queued);
        assert!(!lines.unblock(7, Unblocked::TimedOut));
    }

    #[test]
    fn there_are_only_so_many_places() {
        let lines = Lines::default();
        let many: Vec<Bytes> = (0..MAX_WAITED_KEYS).map(|number| number.to_string().into()).collect();
        let queued = lines.join(1, Kind::Item, &many).unwrap();
        assert!(lines.join(2, Kind::Item, &keys(&["a"])).is_none());
        drop(queued);
        assert!(lines.join(2, Kind::Item, &keys(&["a"])).is_some());
    }
}
