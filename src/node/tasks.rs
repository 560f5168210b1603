//! The small tasks of a node: each only passes on, or calls from time to time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::failure::Failure;
use crate::anti_entropy::scrub::Scrubber;
use crate::anti_entropy::serve::Server;
use crate::coordinator::Coordinator;
use crate::coordinator::replication::{Replication, Ticket};
use crate::notifications::Event;
use crate::panics::Panicked;
use crate::pubsub::Pubsub;
use crate::tasks::Tasks;
use crate::types::PeerId;

/// How often writes that nobody acknowledged are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);

/// Starts a task that a peer can't do without: where it panics, the peer is told to stop, instead of going on without it.
pub(super) fn start(tasks: &Tasks, failure: &Arc<Failure>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    let failure = Arc::clone(failure);
    tasks.spawn(async move {
        if let Err(carried) = AssertUnwindSafe(task).catch_unwind().await {
            failure.tell(&format!("the task '{name}': {}", Panicked::of(&*carried)));
        }
    });
}

/// Brings news of a peer to both who bring things home.
pub(super) async fn spread_wakes(mut woken: mpsc::Receiver<PeerId>, anti_entropy: mpsc::Sender<PeerId>, handoff: mpsc::Sender<PeerId>) {
    while let Some(peer) = woken.recv().await {
        // A full queue holds the same peers already, and the interval comes round.
        let _ = anti_entropy.try_send(peer);
        let _ = handoff.try_send(peer);
    }
}

/// Counts expired keys that were removed here, and announces them.
pub(super) async fn tell_expired(mut removed: mpsc::Receiver<Bytes>, pubsub: Pubsub, count: Arc<AtomicU64>) {
    while let Some(key) = removed.recv().await {
        count.fetch_add(1, Ordering::Relaxed);
        pubsub.announce(&key, [Event::EXPIRED]);
    }
}

/// Gives up on writes that nobody acknowledged in time, and sends those again that could not be counted.
pub(super) async fn sweep(replication: Replication) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = replication.uncounted() => replication.spread_again(),
            // A pause that this breaks off is long enough.
            _ = ticks.tick() => {
                replication.sweep();
                replication.spread_again();
            }
        }
    }
}

/// Looks for damage at rest, every partition once in a period, or never.
pub(super) async fn scrub(coordinator: Coordinator, server: Server<Ticket>, period: Option<Duration>) {
    let Coordinator { topology, writer, stale, .. } = coordinator;
    if let Some(period) = period {
        Scrubber { topology, writer, server, stale, period }.run().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_stops_its_peer_and_one_that_ends_does_not() {
        let (tasks, failure) = (Tasks::default(), Arc::new(Failure::default()));
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        start(&tasks, &failure, "short", async { drop(ended) });
        assert!(end.await.is_err() && failure.reason.get().is_none());
        start(&tasks, &failure, "bad", async { panic!("no more") });
        let told = async {
            while failure.reason.get().is_none() {
                tokio::task::yield_now().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(5), told).await;
        assert_eq!(failure.reason.get().map(String::as_str), Some("the task 'bad': it panicked: no more"));
    }
}
