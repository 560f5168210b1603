//! Whether the disk has room: a reserve is kept for deletes, which need some before they free any, and for merging tables.
//!
//! fjall takes no more writes, no deletes either, once one write met a full disk, until it is opened again. So the peer stops taking what grows while
//! there is still enough for everything else, and takes it again once somebody has made room. Between the two limits lies a gap, so that
//! a disk at its limit does not switch to and fro.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::FjallOptions;

/// Memtables that may have to be written out while nothing more is taken, and the tables that they are merged into meanwhile.
const MEMTABLES: u64 = 8;
const LEAST_RESERVE: u64 = 64 << 20;

/// Watches the room on the disk of one folder.
#[derive(Default)]
pub(super) struct Room {
    is_full: AtomicBool,
}

impl Room {
    /// Whether there is room now. A disk that can't be asked is taken to have some: the next write will tell.
    pub(super) fn is_there(&self, folder: &Path, options: &FjallOptions) -> bool {
        let Ok(space) = Space::of(folder) else { return true };
        let is_full = space.is_full(self.is_full.load(Ordering::Relaxed), options);
        self.is_full.store(is_full, Ordering::Relaxed);
        !is_full
    }
}

/// Whether a folder's disk has room for a store to be opened and written to.
#[must_use]
pub fn has_room(folder: &Path, options: &FjallOptions) -> bool {
    Space::of(folder).is_ok_and(|space| !space.is_full(true, options))
}

/// Bytes of a filesystem.
#[derive(Clone, Copy, Debug)]
struct Space {
    free: u64,
    total: u64,
}

impl Space {
    fn of(folder: &Path) -> io::Result<Self> {
        let space = rustix::fs::statvfs(folder)?;
        Ok(Self { free: space.f_bavail.saturating_mul(space.f_frsize), total: space.f_blocks.saturating_mul(space.f_frsize) })
    }

    /// Whether too little is left, for a disk that had or had not too little before.
    fn is_full(self, was_full: bool, options: &FjallOptions) -> bool {
        let reserve = MEMTABLES.saturating_mul(options.memtable_bytes).max(LEAST_RESERVE).min(self.total / 4);
        self.free < if was_full { reserve + reserve / 4 } else { reserve }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_disk_is_full_before_it_is_and_has_room_again_some_way_above() {
        let options = FjallOptions::new(256 * MIB);
        let full = |free_mib: u64, was_full| Space { free: free_mib * MIB, total: 10_000 * MIB }.is_full(was_full, &options);
        assert_eq!([full(127, false), full(128, false)], [true, false]);
        assert_eq!([full(159, true), full(160, true)], [true, false]);
    }

    #[test]
    fn a_small_disk_keeps_a_quarter() {
        let full = |free_mib: u64| Space { free: free_mib * MIB, total: 80 * MIB }.is_full(false, &FjallOptions::default());
        assert_eq!([full(19), full(20)], [true, false]);
    }
}
