//! Reads the manifests of fjall's trees before fjall does, and the frames of the tables that they name.
//!
//! fjall believes both. What of them is missing it makes anew, with everything below it thrown away; and lengths in them it allocates before any
//! checksum is compared, so that one flipped bit ends the process without a word. All that it takes to notice is there already: a tree's file `current`
//! holds the checksum of its manifest, and the manifest that of each table, as fjall 3.1.13 and lsm-tree 3.1.10 write them:
//!
//! ```text
//! current     version: u64 · checksum of v{version}: u128 · 0
//! v{version}  an archive: … section "tables": levels: u8 × (runs: u8 × (tables: u32 × (id: u64 · 0 · checksum: u128 · sequence: u64))) …
//! tables/{id} an archive
//! archive     sections · "TOC!" count: u32 × (position: u64 · length: u64 · name) · "SFA!" 1 0 · checksum of TOC: u128 · its position and length: u64 each
//! ```
//!
//! To read whole tables takes time, a second for every gigabyte or so. It is done only when something else has gone wrong, to name the file.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3Default;

use super::journal::Unreadable;

/// The trees of a store: fjall's own about its keyspaces, and ours.
const TREES: [&str; 2] = ["0", "1"];
/// What the file `version` holds.
const VERSION: &[u8; 4] = b"FJL\x03";
const TRAILER: usize = 4 + 1 + 1 + 16 + 8 + 8;
/// The longest table of contents, or list of tables, that is read: far more than either takes.
const LONGEST: u64 = 64 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// A table as its manifest names it.
struct Table {
    path: PathBuf,
    checksum: u128,
}

/// Checks that a store has all its files, and that those which tell where the others are can be believed.
pub(super) fn check(store: &Path) -> Result<(), Unreadable> {
    let version = read_small(&store.join("version"))?;
    // Another version is for fjall to tell.
    if version.len() != VERSION.len() || version[..3] != VERSION[..3] {
        return Err(damaged(&store.join("version"), "holds something else than a version"));
    }
    // Nothing stands in it; who has the folder open is told by a lock of our own.
    let lock = store.join("lock");
    File::options().write(true).create(true).truncate(false).open(&lock).map_err(|error| Unreadable::Io(lock, error))?;
    for table in tables(store)? {
        contents(&table.path)?;
    }
    Ok(())
}

/// Reads every table in full, until one is not what was written.
pub(super) fn check_in_full(store: &Path) -> Result<(), Unreadable> {
    for table in tables(store)? {
        if checksum_of(&table.path)? != table.checksum {
            return Err(damaged(&table.path, "is not what was written"));
        }
    }
    Ok(())
}

/// The tables of every tree, from manifests that can be believed.
fn tables(store: &Path) -> Result<Vec<Table>, Unreadable> {
    let mut tables = Vec::new();
    for tree in TREES {
        let tree = store.join("keyspaces").join(tree);
        let current = tree.join("current");
        let pointer = read_small(&current)?;
        let named = pointer.split_first_chunk().and_then(|(version, rest)| Some((u64::from_le_bytes(*version), rest.split_first_chunk()?)));
        let Some((version, (checksum, [0]))) = named else { return Err(damaged(&current, "can't be read")) };
        let manifest = tree.join(format!("v{version}"));
        if checksum_of(&manifest)? != u128::from_le_bytes(*checksum) {
            return Err(damaged(&manifest, "is not the one that 'current' beside it was written for"));
        }
        for (id, checksum) in tables_in(&manifest)? {
            tables.push(Table { path: tree.join("tables").join(id.to_string()), checksum });
        }
    }
    Ok(tables)
}

/// The numbers and checksums of the tables in a manifest.
fn tables_in(manifest: &Path) -> Result<Vec<(u64, u128)>, Unreadable> {
    let section = contents(manifest)?.into_iter().find(|section| section.name == b"tables");
    let listed = section.filter(|section| section.length <= LONGEST).map(|section| read_at(manifest, section.position, section.length));
    let listed = listed.ok_or_else(|| damaged(manifest, "lists no tables"))??;
    parse_tables(&listed).ok_or_else(|| damaged(manifest, "has a list of tables that can't be read"))
}

fn parse_tables(mut bytes: &[u8]) -> Option<Vec<(u64, u128)>> {
    let mut tables = Vec::new();
    for _level in 0..take::<1>(&mut bytes)?[0] {
        for _run in 0..take::<1>(&mut bytes)?[0] {
            for _table in 0..u32::from_le_bytes(take(&mut bytes)?) {
                let (id, _kind, checksum) = (u64::from_le_bytes(take(&mut bytes)?), take::<1>(&mut bytes)?, take(&mut bytes)?);
                let _sequence: [u8; 8] = take(&mut bytes)?;
                tables.push((id, u128::from_le_bytes(checksum)));
            }
        }
    }
    Some(tables)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// A part of an archive.
struct Section {
    name: Vec<u8>,
    position: u64,
    length: u64,
}

/// What an archive says of its sections, once its checksum was compared.
fn contents(path: &Path) -> Result<Vec<Section>, Unreadable> {
    let length = fs::metadata(path).map_err(|error| missing_or(path, error))?.len();
    let end = length.checked_sub(TRAILER as u64).ok_or_else(|| damaged(path, "is cut short"))?;
    let trailer = read_at(path, end, TRAILER as u64)?;
    let parsed = || {
        let mut rest = trailer.strip_prefix(b"SFA!\x01\x00")?;
        let checksum = u128::from_le_bytes(take(&mut rest)?);
        let (position, length) = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
        (length <= LONGEST && position.checked_add(length)? == end).then_some((checksum, position, length))
    };
    let (checksum, position, length) = parsed().ok_or_else(|| damaged(path, "has no readable end"))?;
    let table = read_at(path, position, length)?;
    if xxhash_rust::xxh3::xxh3_128(&table) != checksum {
        return Err(damaged(path, "has a table of contents that does not match its checksum"));
    }
    let sections = parse_contents(&table).ok_or_else(|| damaged(path, "has a table of contents that can't be read"))?;
    let fits = |section: &Section| section.position.checked_add(section.length).is_some_and(|end| end <= position);
    if sections.iter().all(fits) { Ok(sections) } else { Err(damaged(path, "names sections beyond its end")) }
}

fn parse_contents(table: &[u8]) -> Option<Vec<Section>> {
    let mut rest = table.strip_prefix(b"TOC!")?;
    let mut sections = Vec::new();
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        let (position, length) = (u64::from_le_bytes(take(&mut rest)?), u64::from_le_bytes(take(&mut rest)?));
        let name_length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let (name, after) = rest.split_at_checked(name_length)?;
        sections.push(Section { name: name.to_vec(), position, length });
        rest = after;
    }
    Some(sections)
}

fn read_small(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(4096).read_to_end(&mut bytes)).map_err(|error| missing_or(path, error))?;
    Ok(bytes)
}

fn read_at(path: &Path, position: u64, length: u64) -> Result<Vec<u8>, Unreadable> {
    let read = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::Error::from(ErrorKind::UnexpectedEof)) }
    };
    read().map_err(|error| missing_or(path, error))
}

/// The checksum of a whole file, read in pieces.
fn checksum_of(path: &Path) -> Result<u128, Unreadable> {
    let read = || {
        let (mut file, mut checksum, mut chunk) = (File::open(path)?, Xxh3Default::new(), vec![0; CHUNK]);
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(checksum.digest128()),
                length => checksum.update(&chunk[..length]),
            }
        }
    };
    read().map_err(|error| missing_or(path, error))
}

fn damaged(path: &Path, what: &str) -> Unreadable {
    Unreadable::Damaged(format!("{} {what}", path.display()))
}

/// A file that should be there and is not is damage; what else the operating system says, it says.
fn missing_or(path: &Path, error: io::Error) -> Unreadable {
    match error.kind() {
        ErrorKind::NotFound => damaged(path, "is missing"),
        ErrorKind::UnexpectedEof => damaged(path, "is cut short"),
        _ => Unreadable::Io(path.to_owned(), error),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An archive of one section, as lsm-tree writes it.
    fn archive(content: &[u8]) -> Vec<u8> {
        let mut table = b"TOC!\x01\0\0\0".to_vec();
        table.extend(0u64.to_le_bytes());
        table.extend((content.len() as u64).to_le_bytes());
        table.extend(6u16.to_le_bytes());
        table.extend(b"tables");
        let mut bytes = [content, &table, b"SFA!\x01\0"].concat();
        bytes.extend(xxhash_rust::xxh3::xxh3_128(&table).to_le_bytes());
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend((table.len() as u64).to_le_bytes());
        bytes
    }

    #[test]
    fn no_flipped_bit_and_no_cut_of_the_frame_of_an_archive_goes_unnoticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let content = b"one table";
        let whole = archive(content);
        fs::write(&path, &whole).unwrap();
        let sections = contents(&path).unwrap();
        assert_eq!((sections.len(), sections[0].name.as_slice(), sections[0].length), (1, b"tables".as_slice(), 9));
        for byte in content.len()..whole.len() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << (byte % 8);
            fs::write(&path, &flipped).unwrap();
            assert!(matches!(contents(&path), Err(Unreadable::Damaged(cause)) if cause.contains("archive")), "byte {byte}");
            fs::write(&path, &whole[..byte]).unwrap();
            assert!(matches!(contents(&path), Err(Unreadable::Damaged(_))), "cut at {byte}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_parsing_panic_or_take_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(tables) = parse_tables(&bytes) {
                prop_assert!(tables.len() * 33 <= bytes.len());
            }
            if let Some(sections) = parse_contents(&[b"TOC!", bytes.as_slice()].concat()) {
                prop_assert!(sections.len() * 18 <= bytes.len());
            }
        }
    }
}
