//! The lease record: how far this peer may have used its dots, in a file that proves that it is no copy.
//!
//! A dot that is minted twice loses data everywhere, silently. The record must therefore neither fall back when the store's
//! journal does (so it is a file of its own, synced at every write) nor come back from a backup. A restored folder looks
//! exactly like the peer of some days ago; the only things it can't carry along are what the filesystem says about the
//! file. So each record names the file that it was written into:
//!
//! | copied or restored how | what gives it away |
//! |---|---|
//! | `cp -a`, `rsync`, an image, another machine | device or inode differ |
//! | written back over the same file | the change time is that of the restore; no system call sets it |
//! | the disk of a virtual machine put back | the machine was started anew since |
//! | the whole filesystem rolled back while the machine ran on | nothing here: peers that have seen newer dots must tell |
//!
//! False alarms (a `chmod`, a machine that was started anew for another reason) cost one fresh incarnation, nothing more.
//!
//! The change time of a write can't be known before it, only guessed from the clock. The guess is compared with what
//! the filesystem then says and, where it was wrong (a network filesystem has its own clock), replaced by that and
//! written again. That is also why the check at the start allows a small difference: the time between a guess and its write.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock::SystemClock;
use super::slot_file::{Content, SlotFile};
use crate::env::Clock;

const MAGIC: [u8; 8] = *b"rt-lease";
const ATTEMPTS: usize = 8;
const TOLERANCE: Duration = Duration::from_millis(250);

/// The file that holds the lease record.
pub(super) struct LeaseFile {
    path: PathBuf,
    slots: SlotFile,
    record: Option<Vec<u8>>,
}

/// What tells a file from its copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Origin {
    device: u64,
    inode: u64,
    /// Names the run of the machine, where the system tells it: no two runs have the same.
    boot: u128,
    /// Nanoseconds since 1970 by the filesystem.
    changed_ns: i128,
}

impl LeaseFile {
    /// Opens the file, or makes an empty one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let (slots, content) = SlotFile::open(path, MAGIC)?;
        let actual = Origin::of(&slots)?;
        let record = match content {
            Content::Empty => None,
            Content::Spoiled => {
                tracing::error!("{} holds no readable lease: a fresh incarnation is taken", path.display());
                None
            }
            Content::Record(bytes) => match Origin::decode(&bytes) {
                None => {
                    tracing::error!("{} holds no lease record: a fresh incarnation is taken", path.display());
                    None
                }
                Some((recorded, record)) => match recorded.differs(actual) {
                    None => Some(record.to_vec()),
                    Some(reason) => {
                        tracing::error!("{} was {reason} since this peer wrote it: a fresh incarnation is taken", path.display());
                        None
                    }
                },
            },
        };
        Ok(Self { path: path.to_owned(), slots, record })
    }

    /// The record that was last written here.
    pub(super) fn record(&self) -> Option<Vec<u8>> {
        self.record.clone()
    }

    /// Replaces the record, durably.
    pub(super) fn replace(&mut self, record: &[u8]) -> io::Result<()> {
        let mut origin = Origin { changed_ns: i128::from(SystemClock.wall_ms()) * 1_000_000, ..Origin::of(&self.slots)? };
        let mut proven = false;
        for _ in 0..ATTEMPTS {
            self.slots.write(&origin.encode(record))?;
            let actual = Origin::of(&self.slots)?;
            proven = origin.differs(actual).is_none();
            if proven {
                break;
            }
            origin = actual;
        }
        if !proven {
            tracing::warn!("the change time of {} wanders: the next start will take a fresh incarnation", self.path.display());
        }
        // Not only the data: the change time is part of the proof.
        self.slots.sync()?;
        self.slots.advance();
        self.record = Some(record.to_vec());
        Ok(())
    }
}

impl Origin {
    fn of(slots: &SlotFile) -> io::Result<Self> {
        let metadata = slots.metadata()?;
        let changed_ns = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        Ok(Self { device: metadata.dev(), inode: metadata.ino(), boot: boot(), changed_ns })
    }

    /// Why a file can't be the one that the record was written into.
    fn differs(self, actual: Self) -> Option<&'static str> {
        if (self.device, self.inode) != (actual.device, actual.inode) {
            Some("copied or moved to another filesystem")
        } else if self.boot != actual.boot {
            Some("on a machine that was started anew")
        } else if self.changed_ns.abs_diff(actual.changed_ns) > TOLERANCE.as_nanos() {
            Some("changed or restored")
        } else {
            None
        }
    }

    fn encode(self, record: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48 + record.len());
        bytes.extend_from_slice(&self.device.to_le_bytes());
        bytes.extend_from_slice(&self.inode.to_le_bytes());
        bytes.extend_from_slice(&self.boot.to_le_bytes());
        bytes.extend_from_slice(&self.changed_ns.to_le_bytes());
        bytes.extend_from_slice(record);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (device, rest) = bytes.split_first_chunk()?;
        let (inode, rest) = rest.split_first_chunk()?;
        let (boot, rest) = rest.split_first_chunk()?;
        let (changed_ns, record) = rest.split_first_chunk()?;
        let origin = Self {
            device: u64::from_le_bytes(*device),
            inode: u64::from_le_bytes(*inode),
            boot: u128::from_le_bytes(*boot),
            changed_ns: i128::from_le_bytes(*changed_ns),
        };
        Some((origin, record))
    }
}

/// What names this run of the machine; zero where the system does not tell.
fn boot() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody who puts a backup back is faster than.
    const PUT_BACK: Duration = Duration::from_millis(500);

    #[expect(clippy::disallowed_methods, reason = "the filesystem's clock can't be paused")]
    fn outwait_tolerance() {
        std::thread::sleep(PUT_BACK);
    }

    fn reopened(path: &Path) -> Option<Vec<u8>> {
        LeaseFile::open(path).unwrap().record()
    }

    #[test]
    fn the_last_record_comes_back_from_the_file_it_was_written_into() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        let mut file = LeaseFile::open(&path).unwrap();
        assert_eq!(file.record(), None);
        for record in [b"one".as_slice(), b"two", b"three"] {
            file.replace(record).unwrap();
            assert_eq!(file.record().as_deref(), Some(record));
            assert_eq!(reopened(&path).as_deref(), Some(record));
        }
    }

    #[test]
    fn moving_the_folder_is_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        std::fs::create_dir(&old).unwrap();
        LeaseFile::open(&old.join("lease")).unwrap().replace(b"record").unwrap();
        std::fs::rename(&old, &new).unwrap();
        assert_eq!(reopened(&new.join("lease")).as_deref(), Some(b"record".as_slice()));
    }

    #[test]
    fn a_copy_is_no_lease_and_becomes_one_only_by_writing() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("lease"), folder.path().join("copy"));
        LeaseFile::open(&path).unwrap().replace(b"record").unwrap();
        std::fs::copy(&path, &copy).unwrap();
        assert_eq!(reopened(&copy), None);
        LeaseFile::open(&copy).unwrap().replace(b"fresh").unwrap();
        assert_eq!(reopened(&copy).as_deref(), Some(b"fresh".as_slice()));
        assert_eq!(reopened(&path).as_deref(), Some(b"record".as_slice()));
    }

    #[test]
    fn an_older_record_written_back_over_the_same_file_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        let mut file = LeaseFile::open(&path).unwrap();
        file.replace(b"old").unwrap();
        let backup = std::fs::read(&path).unwrap();
        file.replace(b"new").unwrap();
        outwait_tolerance();
        std::fs::write(&path, backup).unwrap();
        assert_eq!(reopened(&path), None);
    }

    #[test]
    fn a_record_of_another_run_of_the_machine_is_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        let file = LeaseFile::open(&path).unwrap();
        let origin = Origin { changed_ns: i128::from(SystemClock.wall_ms()) * 1_000_000, ..Origin::of(&file.slots).unwrap() };
        assert_ne!(origin.boot, 0, "the system tells it");
        file.slots.write(&Origin { boot: origin.boot ^ 1, ..origin }.encode(b"record")).unwrap();
        file.slots.sync().unwrap();
        assert_eq!(reopened(&path), None);
        file.slots.write(&origin.encode(b"record")).unwrap();
        file.slots.sync().unwrap();
        assert_eq!(reopened(&path).as_deref(), Some(b"record".as_slice()));
    }

    #[test]
    fn a_touched_file_is_no_lease() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        LeaseFile::open(&path).unwrap().replace(b"record").unwrap();
        outwait_tolerance();
        assert_eq!(reopened(&path).as_deref(), Some(b"record".as_slice()), "reading must not spoil it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(reopened(&path), None);
    }
}
