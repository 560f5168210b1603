//! Waits until a key shows something to be taken, wherever it is pushed.
//!
//! Any peer may take the push, but every write reaches the replica that a pop would be executed at. So there the wait is: at this peer itself, or at the
//! holder that commands on the key go to, which answers a request when a commit brings such rows, and after [`AWAIT_RENEWED`] in any case. Whoever waits then
//! looks again, and asks the next holder where the first has gone.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::Coordinator;
use crate::config::AWAIT_RENEWED;
use crate::crdt::answer::{self, KeyView};
use crate::crdt::command::{Answer, DataType, Selection};
use crate::crdt::delta::Kind;
use crate::crdt::key;
use crate::env::Lane;
use crate::env::message::{Reply, Request, Standing};
use crate::types::{Level, Partition, PeerId};

/// How long whoever could not wait anywhere pauses before it looks again.
const PAUSE: Duration = Duration::from_millis(100);

impl Coordinator {
    /// Resolves when a key shows the type of this kind at the replica that takes commands for it, and some time later in any case.
    pub async fn content(&self, level: Level, key: &Bytes, kind: Kind) {
        let partition = self.topology.place(key).partition;
        let told = match self.executor(level, partition) {
            Some(peer) if peer == self.topology.local() => self.content_here(key, kind).await,
            Some(peer) => {
                let request = Request::Await { key: key.clone(), kind };
                let answer = self.exchange.ask(peer, Lane::Operations, request, AWAIT_RENEWED + self.patience).await;
                matches!(answer, Ok(Reply::Done))
            }
            None => false,
        };
        if !told {
            sleep(PAUSE).await;
        }
    }

    /// As [`Coordinator::content`], at this peer's own replica. `false` where it holds none.
    pub async fn content_here(&self, key: &Bytes, kind: Kind) -> bool {
        let place = self.topology.place(key);
        let wait = self.awaited.wait(place, key, kind);
        if !self.view.load().partition(place.partition).holder {
            return false;
        }
        let shows = async {
            while !self.shows(key, kind) {
                wait.woken().await;
            }
        };
        // The time being over is as good a reason to look again.
        let _ = timeout(AWAIT_RENEWED, shows).await;
        true
    }

    /// Whether a key shows the type of a kind here. Where it cannot be read whoever looks will be told why.
    fn shows(&self, key: &Bytes, kind: Kind) -> bool {
        let view = self.view.load();
        let now = view.now(self.clock.wall_ms());
        let Ok(page) = view.read(key, &Selection::Head, None, now) else { return true };
        let shown = answer::answer(&KeyView { rows: page.rows, next_hash: None }, now, key, &key::Query::Type.into());
        shown == Ok(Answer::Type(DataType::of(kind)))
    }

    /// The peer that executes commands on keys of a partition, as [`Coordinator::write`] chooses it first.
    fn executor(&self, level: Level, partition: Partition) -> Option<PeerId> {
        let cluster = self.topology.cluster();
        let (local, standing) = (self.topology.local(), self.view.load().partition(partition).standing);
        let next = cluster.reachable_holders(partition).next();
        let holds = cluster.ring.is_holder(partition, local);
        if holds && (standing == Standing::Counted || level == Level::Local || next.is_none()) { Some(local) } else { next }
    }
}
