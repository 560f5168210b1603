//! A tiny file that is replaced in place: two slots, written in turn.
//!
//! A record always goes to the slot that does *not* hold the newest one, so a write that is torn by a crash spoils only
//! what was being written, and the record before it is still there:
//!
//! ```text
//! byte 0                                4096                               8192
//!      | magic sequence=6 length … hash | magic sequence=7 length … hash   |
//!                                         ^ newest; the next one goes to the first slot
//! ```
//!
//! Replacing by rename would be simpler, but gives the file a new inode each time, and the lease needs to know that its
//! file is still the same (see `lease_file`). Both slots are allocated when the file is made, so that a full disk does not
//! stop the next write.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const SLOT: usize = 4096;
const HEADER: usize = 8 + 8 + 4;
const HASH: usize = 32;

/// The longest record, in bytes.
pub(super) const MAX_RECORD: usize = SLOT - HEADER - HASH;

/// A file of two slots.
pub(super) struct SlotFile {
    file: File,
    /// Tells what kind of file it is, and its format version.
    magic: [u8; 8],
    /// Sequence number of the newest record; 0 where there is none.
    sequence: u64,
}

/// What a file of two slots holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing was ever written.
    Empty,
    /// The newest record.
    Record(Vec<u8>),
    /// Something that is not a record.
    Spoiled,
}

impl SlotFile {
    /// Opens a file, or makes an empty one.
    pub(super) fn open(path: &Path, magic: [u8; 8]) -> io::Result<(Self, Content)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if file.metadata()?.len() < 2 * SLOT as u64 {
            // Cut short or new: the missing part becomes empty, what is there stays.
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
            file.write_all_at(&vec![0; 2 * SLOT - length], length as u64)?;
            file.sync_all()?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
        }
        let mut opened = Self { file, magic, sequence: 0 };
        let content = opened.read()?;
        Ok((opened, content))
    }

    fn read(&mut self) -> io::Result<Content> {
        let mut newest = None;
        let mut empty = true;
        for slot in 0..2 {
            let mut bytes = vec![0; SLOT];
            self.file.read_exact_at(&mut bytes, slot * SLOT as u64)?;
            empty &= bytes.iter().all(|byte| *byte == 0);
            if let Some((sequence, record)) = decode(&self.magic, &bytes)
                && sequence > self.sequence
            {
                self.sequence = sequence;
                newest = Some(record.to_vec());
            }
        }
        Ok(match newest {
            Some(record) => Content::Record(record),
            None if empty => Content::Empty,
            None => Content::Spoiled,
        })
    }

    /// Writes a record beside the newest one. May be repeated until [`SlotFile::advance`] makes the last one count.
    pub(super) fn write(&self, record: &[u8]) -> io::Result<()> {
        let length = u32::try_from(record.len()).ok().filter(|_| record.len() <= MAX_RECORD);
        let length = length.ok_or_else(|| io::Error::other(format!("a record of {} bytes exceeds {MAX_RECORD}", record.len())))?;
        let next = self.sequence + 1;
        let mut slot = Vec::with_capacity(HEADER + record.len() + HASH);
        slot.extend_from_slice(&self.magic);
        slot.extend_from_slice(&next.to_le_bytes());
        slot.extend_from_slice(&length.to_le_bytes());
        slot.extend_from_slice(record);
        slot.extend_from_slice(blake3::hash(&slot).as_bytes());
        self.file.write_all_at(&slot, next % 2 * SLOT as u64)
    }

    /// Makes the record that was written last the newest, so that the next one goes to the other slot.
    pub(super) fn advance(&mut self) {
        self.sequence += 1;
    }

    /// Returns once all that was written survives the end of the machine, the file's change time included.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// The record in a slot and its sequence number, where it is whole.
fn decode<'a>(magic: &[u8; 8], slot: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let rest = slot.strip_prefix(magic)?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (record, rest) = rest.split_at_checked(length)?;
    let hashed = slot.get(..HEADER + length)?;
    (rest.first_chunk::<HASH>()? == blake3::hash(hashed).as_bytes()).then_some((u64::from_le_bytes(*sequence), record))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_length_and_no_bytes_make_decoding_panic(length: u32, rest in prop::collection::vec(any::<u8>(), 0..200), cut in 0..SLOT) {
            let mut slot = [&MAGIC[..], &7u64.to_le_bytes(), &length.to_le_bytes(), &rest].concat();
            slot.resize(SLOT, 0);
            prop_assert_eq!(decode(&MAGIC, &slot), None);
            prop_assert_eq!(decode(&MAGIC, &slot[..cut]), None);
        }
    }

    const MAGIC: [u8; 8] = *b"a test 1";

    fn put(file: &mut SlotFile, record: &[u8]) {
        file.write(record).unwrap();
        file.advance();
    }

    #[test]
    fn the_newest_record_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slots");
        let (mut file, content) = SlotFile::open(&path, MAGIC).unwrap();
        assert_eq!(content, Content::Empty);
        for number in 0..5u8 {
            put(&mut file, &[number; 3]);
            assert_eq!(SlotFile::open(&path, MAGIC).unwrap().1, Content::Record(vec![number; 3]));
        }
        assert!(file.write(&[0; MAX_RECORD + 1]).is_err());
        put(&mut file, &[9; MAX_RECORD]);
        assert_eq!(SlotFile::open(&path, MAGIC).unwrap().1, Content::Record(vec![9; MAX_RECORD]));
    }

    #[test]
    fn damage_to_the_newest_slot_brings_back_the_one_before_and_to_both_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slots");
        let (mut file, _) = SlotFile::open(&path, MAGIC).unwrap();
        put(&mut file, b"first");
        put(&mut file, b"second");
        let whole = std::fs::read(&path).unwrap();
        let record = HEADER + b"second".len() + HASH;
        for byte in 0..record {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[byte] ^= 1 << bit;
                std::fs::write(&path, &damaged).unwrap();
                assert_eq!(SlotFile::open(&path, MAGIC).unwrap().1, Content::Record(b"first".to_vec()), "byte {byte} bit {bit}");
                damaged[SLOT + byte % 40] ^= 1 << bit;
                std::fs::write(&path, &damaged).unwrap();
                assert_eq!(SlotFile::open(&path, MAGIC).unwrap().1, Content::Spoiled, "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn a_file_cut_short_or_of_another_kind_is_not_read_as_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("slots");
        let (mut file, _) = SlotFile::open(&path, MAGIC).unwrap();
        put(&mut file, b"record");
        assert_eq!(SlotFile::open(&path, *b"a test 2").unwrap().1, Content::Spoiled);
        file.file.set_len(SLOT as u64 + 30).unwrap();
        assert_eq!(SlotFile::open(&path, MAGIC).unwrap().1, Content::Spoiled);
    }
}
