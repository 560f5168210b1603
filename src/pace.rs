//! How fast rows move between peers while clients are served.
//!
//! Every peer counts the commands of its clients and tells with its heartbeats whether it is busy. While anybody is, a peer that pulls takes one answer at
//! a time, and after each rests for some times as long as that took: what moves then costs everybody a small part of their time, however fast or slow they
//! are. Where nobody is busy, rows move as fast as they can.
//!
//! ```text
//! quiet   [ask, compare][ask, compare][ask, compare]       several at the same time
//! busy    [ask, compare]............................[ask, compare]............................
//! ```

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, sleep};

use crate::config::{
    ANSWER_BYTES, BUSY_ANSWER_BYTES, BUSY_COMMANDS, BUSY_FOR, BUSY_STEP_PARTITIONS, BUSY_STEP_ROWS, LONGEST_REST, RESTS, STEP_PARTITIONS,
    STEP_ROWS,
};

/// What the parts of a peer know of how busy it and others are. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    commands: AtomicU64,
    /// Short: a moment is read or set.
    busy_until: Mutex<Option<Instant>>,
    turn: Turn<()>,
}

impl Pace {
    /// Counts a command of a client.
    pub fn count_command(&self) {
        self.inner.commands.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether this peer's clients have kept it busy since it was asked last.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        let is_busy = self.inner.commands.swap(0, Ordering::Relaxed) >= BUSY_COMMANDS;
        if is_busy {
            self.told_busy();
        }
        is_busy
    }

    /// Somebody is busy.
    pub fn told_busy(&self) {
        *self.busy_until() = Some(Instant::now() + BUSY_FOR);
    }

    /// Does one piece of what moves rows: at once where nobody is busy, else in its turn, and then rests.
    pub async fn paced<T>(&self, piece: impl Future<Output = T>) -> T {
        if !self.is_busy() {
            return piece.await;
        }
        let _turn = self.inner.turn.lock().await;
        let started = Instant::now();
        let done = piece.await;
        if self.is_busy() {
            sleep((started.elapsed() * RESTS).min(LONGEST_REST)).await;
        }
        done
    }

    /// How much one step of a pull compares, see [`STEP_ROWS`].
    #[must_use]
    pub fn step_rows(&self) -> usize {
        if self.is_busy() { BUSY_STEP_ROWS } else { STEP_ROWS }
    }

    /// How many partitions one message begins to pull, see [`STEP_PARTITIONS`].
    #[must_use]
    pub fn step_partitions(&self) -> usize {
        if self.is_busy() { BUSY_STEP_PARTITIONS } else { STEP_PARTITIONS }
    }

    /// How long one answer to a pull is, about, see [`ANSWER_BYTES`].
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        if self.is_busy() { BUSY_ANSWER_BYTES } else { ANSWER_BYTES }
    }

    fn is_busy(&self) -> bool {
        self.busy_until().is_some_and(|until| until > Instant::now())
    }

    fn busy_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.inner.busy_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    /// How long it takes to do ten pieces of 10 ms that all begin at the same time.
    async fn ten_pieces(pace: &Pace) -> Duration {
        let started = Instant::now();
        join_all((0..10).map(|_| pace.paced(async { sleep(Duration::from_millis(10)).await }))).await;
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn pieces_go_one_by_one_with_rests_only_while_somebody_is_busy() {
        let pace = Pace::default();
        (1..BUSY_COMMANDS).for_each(|_| pace.count_command());
        assert!(!pace.was_busy() && !pace.was_busy());
        let steps = |pace: &Pace| (pace.step_partitions(), pace.step_rows(), pace.answer_bytes());
        assert_eq!((ten_pieces(&pace).await, steps(&pace)), (Duration::from_millis(10), (STEP_PARTITIONS, STEP_ROWS, ANSWER_BYTES)));
        (0..BUSY_COMMANDS).for_each(|_| pace.count_command());
        assert!(pace.was_busy() && !pace.was_busy());
        let busy = ten_pieces(&pace).await;
        assert_eq!(busy, Duration::from_millis(10) * 10 * (1 + RESTS));
        assert_eq!(steps(&pace), (BUSY_STEP_PARTITIONS, BUSY_STEP_ROWS, BUSY_ANSWER_BYTES));
        sleep(BUSY_FOR).await;
        assert_eq!(ten_pieces(&pace).await, Duration::from_millis(10));
        pace.told_busy();
        assert_eq!(ten_pieces(&pace).await, busy);
    }
}
