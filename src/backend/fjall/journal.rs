//! Reads fjall's journals before fjall does, and sees to it that a damaged one never passes for a complete one.
//!
//! A journal is a row of batches, each `start · items · end`. fjall 3.1.13 takes anything that it can't read for the end of
//! a journal that was being written when the process died: it cuts the file there and opens. For the newest journal
//! that is what a crash looks like. In an older one it is damage, and of the worst kind: rows would be missing whose dots the
//! clock, replayed from a later journal, says were seen. To other peers that is a delete.
//!
//! Every commit carries its number as the first item of its batch (see [`super::keys::COMMIT_NUMBER`]), so completeness can be
//! checked without understanding anything else:
//!
//! ```text
//! 7.jnl   4711 4712 4713 000…      8.jnl   4714 4715 0000…                  whole
//! 7.jnl   4711 ####                8.jnl   4714 4715 0000…                  refused: 4712 is missing in the middle
//! 7.jnl   4711 4712 4713 000…      8.jnl   4714 47                          cut after 4714
//! ```
//!
//! Whether the cut took away something that had been promised to survive is for [`super::reach`] to tell.
//! fjall does report a batch whose checksum is wrong, but by refusing to open, also where a power failure left a hole in the
//! newest batch of the newest journal; so checksums are compared here first. The layout is that of fjall's
//! `journal/entry.rs`, whose version is pinned.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use super::keys;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const PUT: u8 = 0;
const DELETE: u8 = 1;
const UNCOMPRESSED: u8 = 0;
/// The last bytes of every batch.
const TRAILER: &[u8; 4] = b"FJL\x03";
const CHUNK: usize = 64 * 1024;

/// What the journals of a store hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Log {
    /// The oldest commit.
    pub(super) first: Option<Commit>,
    /// The newest commit.
    pub(super) last: Option<Commit>,
}

/// Two numbers of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Commit {
    /// Ours, without gaps.
    pub(super) number: u64,
    /// fjall's, growing.
    pub(super) sequence: u64,
}

/// Why the files of a store can't be used.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The operating system doesn't let them be read.
    Io(PathBuf, io::Error),
    /// Something is missing, or is not what was written.
    Damaged(String),
}

/// Checks every journal in a store's folder, and cuts what can't be read off the newest.
pub(super) fn check(store: &Path) -> Result<Log, Unreadable> {
    let journals = list(store).map_err(|error| Unreadable::Io(store.to_owned(), error))?;
    if journals.is_empty() {
        // fjall would make a new one, and begin to count its writes from nothing: its snapshots would show no table.
        return Err(Unreadable::Damaged("its journal is missing".to_owned()));
    }
    let mut log = Log::default();
    for (position, path) in journals.iter().enumerate() {
        let io_error = |error| Unreadable::Io(path.clone(), error);
        let (end, is_whole) = read(path, &mut log)?;
        if is_whole {
            continue;
        }
        if position + 1 < journals.len() {
            let after = log.last.map_or(0, |commit| commit.number);
            return Err(Unreadable::Damaged(format!("{} can't be read at byte {end}, after commit {after}", path.display())));
        }
        let file = OpenOptions::new().write(true).open(path).map_err(io_error)?;
        file.set_len(end).and_then(|()| file.sync_all()).map_err(io_error)?;
    }
    Ok(log)
}

fn list(store: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(store)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
            let number = number.ok_or_else(|| io::Error::other(format!("{} is not the name of a journal", path.display())))?;
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Reads the batches that carry on from `log`. Tells where they end, and whether nothing but zeros allocated ahead follows.
fn read(path: &Path, log: &mut Log) -> Result<(u64, bool), Unreadable> {
    let io_error = |error| Unreadable::Io(path.to_owned(), error);
    let file = File::open(path).map_err(io_error)?;
    let mut reader = BatchReader { reader: BufReader::with_capacity(CHUNK, file), position: 0, checksum: Xxh3Default::new() };
    let mut end = 0;
    while let Some(commit) = reader.batch().map_err(io_error)? {
        if let Some(last) = log.last
            && (commit.number != last.number + 1 || commit.sequence <= last.sequence)
        {
            let (after, number) = (last.number, commit.number);
            return Err(Unreadable::Damaged(format!("in {} commit {number} follows on {after} at byte {end}", path.display())));
        }
        log.first.get_or_insert(commit);
        log.last = Some(commit);
        end = reader.position;
    }
    let mut rest = reader.reader;
    rest.seek(SeekFrom::Start(end)).and_then(|_| is_zero(&mut rest)).map(|is_whole| (end, is_whole)).map_err(io_error)
}

struct BatchReader<R> {
    reader: R,
    position: u64,
    /// Over the items of the batch that is being read.
    checksum: Xxh3Default,
}

impl<R: BufRead> BatchReader<R> {
    /// Reads one batch; `None` where there is none, or it is not whole.
    fn batch(&mut self) -> io::Result<Option<Commit>> {
        match self.try_batch() {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            other => other,
        }
    }

    fn try_batch(&mut self) -> io::Result<Option<Commit>> {
        if self.take()? != [START] {
            return Ok(None);
        }
        let items = u32::from_le_bytes(self.take()?);
        let sequence = u64::from_le_bytes(self.take()?);
        self.checksum.reset();
        let mut number = None;
        for index in 0..items {
            let [tag, kind, compression] = self.take()?;
            let _keyspace: [u8; 8] = self.take()?;
            let key_length = usize::from(u16::from_le_bytes(self.take()?));
            let value_length = u32::from_le_bytes(self.take()?);
            let stored_length = u32::from_le_bytes(self.take()?);
            let known = tag == ITEM && matches!(kind, PUT | DELETE) && compression == UNCOMPRESSED;
            if !known || !(1..=keys::MAX_STORED).contains(&key_length) || value_length != stored_length {
                return Ok(None);
            }
            if index > 0 {
                self.skip(key_length as u64 + u64::from(value_length))?;
            } else if key_length == keys::COMMIT_NUMBER.len() && value_length == 8 && self.take()? == keys::COMMIT_NUMBER {
                number = Some(u64::from_be_bytes(self.take()?));
            } else {
                return Ok(None);
            }
        }
        let checksum = self.checksum.digest();
        let whole = self.take()? == [END] && u64::from_le_bytes(self.take()?) == checksum && self.take()? == *TRAILER;
        Ok(number.filter(|_| whole).map(|number| Commit { number, sequence }))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.checksum.update(&bytes);
        self.position += N as u64;
        Ok(bytes)
    }

    /// Reads on without keeping what is read: a length may say anything.
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let chunk = self.reader.fill_buf()?;
            let length = chunk.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.checksum.update(&chunk[..length]);
            self.reader.consume(length);
            self.position += length as u64;
            bytes -= length as u64;
        }
        Ok(())
    }
}

fn is_zero(reader: &mut impl BufRead) -> io::Result<bool> {
    let zeros = vec![0; CHUNK];
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(true);
        }
        if chunk != &zeros[..chunk.len()] {
            return Ok(false);
        }
        let length = chunk.len();
        reader.consume(length);
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
