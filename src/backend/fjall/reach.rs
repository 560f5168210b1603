//! How far the log must reach: the number of the last commit known to be on disk, kept beside the store.
//!
//! fjall can't tell a log that ends because the process was killed from one that ends because a bit of it flipped: it cuts
//! the log at the first thing it can't read, and opens. So each commit writes its number into the store, and after
//! each sync that number goes into a small file:
//!
//! ```text
//! store   … 4711 4712 4713 4714       reach   4713      all is well (4714 was never promised to survive)
//! store   … 4711                      reach   4713      two commits are gone
//! ```
//!
//! The file is not synced each time: after a power failure it may hold an older number, which only makes it promise less.
//! A loss is remembered until the peer has written a lease for a fresh incarnation: a crash in between must not forget it.

use std::io;
use std::path::Path;

use crate::backend::slot_file::{Content, SlotFile};

const MAGIC: [u8; 8] = *b"rt-reach";

/// The file that tells how far the log must reach.
pub(super) struct Reach {
    slots: SlotFile,
    promise: Promise,
}

/// What the file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Promise {
    /// The last commit that was known to be on disk.
    pub(super) number: u64,
    /// Whether commits were found missing since the lease was last written.
    pub(super) lost: bool,
}

impl Reach {
    /// Opens the file or makes one. `None`: there was nothing to be read.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Option<Promise>)> {
        let (slots, content) = SlotFile::open(path, MAGIC)?;
        let found = match content {
            Content::Record(record) => Promise::decode(&record),
            Content::Empty | Content::Spoiled => None,
        };
        Ok((Self { slots, promise: found.unwrap_or_default() }, found))
    }

    /// Every commit up to this one is on disk.
    pub(super) fn reached(&mut self, number: u64) -> io::Result<()> {
        if number > self.promise.number { self.put(Promise { number, ..self.promise }) } else { Ok(()) }
    }

    /// Puts what is so from now on, durably.
    pub(super) fn settle(&mut self, promise: Promise) -> io::Result<()> {
        self.put(promise)?;
        self.slots.sync()
    }

    /// The peer goes on as a fresh incarnation.
    pub(super) fn forgive(&mut self) -> io::Result<()> {
        if self.promise.lost { self.settle(Promise { lost: false, ..self.promise }) } else { Ok(()) }
    }

    /// Makes what was put survive the end of the machine.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.slots.sync()
    }

    fn put(&mut self, promise: Promise) -> io::Result<()> {
        let mut record = promise.number.to_le_bytes().to_vec();
        record.push(u8::from(promise.lost));
        self.slots.write(&record)?;
        self.slots.advance();
        self.promise = promise;
        Ok(())
    }
}

impl Promise {
    fn decode(record: &[u8]) -> Option<Self> {
        let (number, rest) = record.split_first_chunk()?;
        let lost = match rest {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        Some(Self { number: u64::from_le_bytes(*number), lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_only_grows_and_a_loss_is_remembered_until_forgiven() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reach");
        let (mut reach, found) = Reach::open(&path).unwrap();
        assert_eq!(found, None);
        reach.settle(Promise { number: 3, lost: true }).unwrap();
        reach.reached(7).unwrap();
        reach.reached(5).unwrap();
        let (mut reach, found) = Reach::open(&path).unwrap();
        assert_eq!(found, Some(Promise { number: 7, lost: true }));
        reach.forgive().unwrap();
        assert_eq!(Reach::open(&path).unwrap().1, Some(Promise { number: 7, lost: false }));
    }
}
