//! What waits for one subscriber: a queue that ends, rather than grow without a bound, where nobody reads from it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{HIGH_MAILBOX, MAILBOX_PATIENCE, MAX_MAILBOX};

/// What a message costs beside its bytes, about.
const MESSAGE_COST: usize = 128;

/// A message for a subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The pattern that matched; `None` where the channel itself is subscribed to.
    pub pattern: Option<Bytes>,
    /// Whether the channel is one of those of SPUBLISH.
    pub sharded: bool,
    /// The channel.
    pub channel: Bytes,
    /// The message.
    pub message: Bytes,
}

impl Delivery {
    fn cost(&self) -> usize {
        self.pattern.as_ref().map_or(0, Bytes::len) + self.channel.len() + self.message.len() + MESSAGE_COST
    }
}

/// The queue of one subscriber.
#[derive(Default)]
pub struct Mailbox {
    /// Short: one message is put or taken.
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    /// Since when more than [`HIGH_MAILBOX`] waits.
    high_since: Option<Instant>,
    /// Too much waited. Nothing is taken any more.
    overflown: bool,
}

impl Mailbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message. A mailbox that overflows loses everything, once and for all.
    pub(super) fn put(&self, delivery: Delivery) {
        let mut state = self.state();
        if state.overflown {
            return;
        }
        state.bytes += delivery.cost();
        state.waiting.push_back(delivery);
        state.judge();
        drop(state);
        self.arrived.notify_one();
    }

    /// Takes the first message.
    pub fn take(&self) -> Option<Delivery> {
        let mut state = self.state();
        let delivery = state.waiting.pop_front()?;
        state.bytes -= delivery.cost();
        state.judge();
        Some(delivery)
    }

    /// Bytes that wait, bookkeeping included.
    pub fn bytes(&self) -> usize {
        self.state().bytes
    }

    /// Messages that wait.
    pub fn count(&self) -> usize {
        self.state().waiting.len()
    }

    /// Whether too much waited, or much for too long.
    pub fn is_overflown(&self) -> bool {
        let mut state = self.state();
        state.judge();
        state.overflown
    }

    /// Resolves when something was put since the last time.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

impl State {
    fn judge(&mut self) {
        self.high_since = if self.bytes > HIGH_MAILBOX { self.high_since.or_else(|| Some(Instant::now())) } else { None };
        if self.bytes > MAX_MAILBOX || self.high_since.is_some_and(|since| since.elapsed() >= MAILBOX_PATIENCE) {
            *self = Self { overflown: true, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn delivery(length: usize) -> Delivery {
        Delivery { pattern: None, sharded: false, channel: Bytes::new(), message: vec![0; length - MESSAGE_COST].into() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_dropped_at_the_bound() {
        let mailbox = Mailbox::default();
        for _ in 0..32 {
            mailbox.put(delivery(1024 * 1024));
        }
        assert!(!mailbox.is_overflown() && mailbox.bytes() == MAX_MAILBOX);
        mailbox.put(delivery(1024));
        assert!(mailbox.is_overflown() && mailbox.bytes() == 0 && mailbox.take().is_none());
        mailbox.put(delivery(1024));
        assert_eq!(mailbox.count(), 0, "it stays closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_mailbox_may_be_rather_full_for_a_minute_and_no_longer() {
        let mailbox = Mailbox::default();
        mailbox.put(delivery(HIGH_MAILBOX + 1));
        tokio::time::sleep(MAILBOX_PATIENCE - Duration::from_secs(1)).await;
        assert!(mailbox.take().is_some());
        mailbox.put(delivery(HIGH_MAILBOX + 1));
        tokio::time::sleep(MAILBOX_PATIENCE - Duration::from_secs(1)).await;
        assert!(!mailbox.is_overflown(), "it was emptied in between");
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(mailbox.is_overflown());
    }
}
