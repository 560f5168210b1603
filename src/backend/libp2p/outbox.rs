//! The frames that wait to be written to one lane of one peer.
//!
//! Bounded in bytes, so that a peer that reads slowly costs no more than [`crate::config::MAX_PEER_QUEUE`] a lane; what does not fit is
//! refused at once, since nobody who sends may wait. The writer takes everything small that waits as one buffer: one write of
//! sixty frames costs about what one write of one frame costs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::frame;
use crate::config::{MAX_PEER_QUEUE, WRITE_GATHER};
use crate::env::SendError;

/// What one waiting frame costs beside its bytes, so that a flood of tiny frames is bounded too.
const FRAME_COST: usize = 64;

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Held for a few instructions at a time, never across an await.
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    /// The cost of what waits and of what the writer holds.
    cost: usize,
    /// The part of it that the writer holds.
    taken: usize,
}

/// What the writer writes next: a buffer with many small frames, then at most one large frame's body as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gathered {
    pub(super) buffer: Vec<u8>,
    pub(super) body: Option<Bytes>,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds the lock; if something did, the queue would still be a queue.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame.
    pub(super) fn push(&self, frame: Bytes) -> Result<(), SendError> {
        frame::header(frame.len()).ok_or(SendError::TooLong)?;
        let mut waiting = self.lock();
        let cost = waiting.cost + frame.len() + FRAME_COST;
        if cost > MAX_PEER_QUEUE {
            return Err(SendError::Full);
        }
        waiting.cost = cost;
        waiting.frames.push_back(frame);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Whether everything was written.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().cost == 0
    }

    /// Waits for frames and takes as many as one write should carry. What was taken before counts as written.
    pub(super) async fn take(&self, into: &mut Gathered) {
        loop {
            if self.try_take(into) {
                return;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self, into: &mut Gathered) -> bool {
        into.buffer.clear();
        into.body = None;
        let mut waiting = self.lock();
        waiting.cost -= std::mem::take(&mut waiting.taken);
        while into.body.is_none() && into.buffer.len() < WRITE_GATHER {
            let Some(frame) = waiting.frames.pop_front() else {
                break;
            };
            waiting.taken += frame.len() + FRAME_COST;
            // Checked when the frame was queued.
            into.buffer.extend_from_slice(&frame::header(frame.len()).unwrap_or_default());
            if frame.len() < WRITE_GATHER / 2 {
                into.buffer.extend_from_slice(&frame);
            } else {
                into.body = Some(frame);
            }
        }
        waiting.taken > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::libp2p::frame::Splitter;
    use crate::config::MAX_FRAME;

    #[test]
    fn small_frames_are_written_together_and_all_in_order() {
        let outbox = Outbox::default();
        let frames: Vec<Bytes> = (0..500u32).map(|n| Bytes::from(vec![n as u8; if n == 300 { 100_000 } else { n as usize }])).collect();
        for frame in &frames {
            outbox.push(frame.clone()).unwrap();
        }
        let (mut gathered, mut splitter, mut writes, mut read) = (Gathered::default(), Splitter::default(), 0, Vec::new());
        while outbox.try_take(&mut gathered) {
            writes += 1;
            splitter.extend(&gathered.buffer);
            splitter.extend(gathered.body.as_deref().unwrap_or_default());
            while let Some(frame) = splitter.next_frame().unwrap() {
                read.push(frame);
            }
        }
        assert_eq!(read, frames);
        assert!(writes < 10, "{writes} writes");
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_full_outbox_refuses_until_something_was_written() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; MAX_FRAME]);
        outbox.push(frame.clone()).unwrap();
        assert_eq!(outbox.push(frame.clone()), Err(SendError::Full));
        let mut gathered = Gathered::default();
        assert!(outbox.try_take(&mut gathered));
        assert_eq!(outbox.push(frame.clone()), Err(SendError::Full), "it is still being written");
        assert!(!outbox.try_take(&mut gathered));
        assert_eq!(outbox.push(frame), Ok(()));
    }

    #[test]
    fn tiny_frames_fill_it_too() {
        let outbox = Outbox::default();
        let fits = (0..).find(|_| outbox.push(Bytes::new()).is_err());
        assert_eq!(fits, Some(MAX_PEER_QUEUE / FRAME_COST));
    }

    #[test]
    fn a_frame_that_nobody_would_read_is_refused() {
        let outbox = Outbox::default();
        assert_eq!(outbox.push(Bytes::from(vec![0; MAX_FRAME + 1])), Err(SendError::TooLong));
        assert!(outbox.is_empty());
    }
}
