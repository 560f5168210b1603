//! A store whose files were damaged, cut or taken away never passes for a complete one: it says so, or it is refused.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::fs::{self, OpenOptions};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringtide::backend::{FjallOptions, FjallStorage, OpenError};
use ringtide::env::{Batch, Storage};
use tempfile::TempDir;

const COMMITS: u32 = 100;

fn open(folder: &Path) -> Result<FjallStorage, OpenError> {
    FjallStorage::open(folder, FjallOptions::new(16 << 20))
}

fn commit(storage: &FjallStorage, number: u32) {
    let mut batch = Batch::default();
    batch.put(b"last".to_vec(), number.to_be_bytes().to_vec());
    batch.put([b"row", &number.to_be_bytes()[..]].concat(), vec![number.to_be_bytes()[3]; 50]);
    storage.commit(batch).unwrap();
}

/// How many commits a store shows, once it is certain that they are the first ones.
fn commits(storage: &FjallStorage) -> u32 {
    let snapshot = storage.snapshot();
    let last = snapshot.get(b"last").unwrap().map_or(0, |value| u32::from_be_bytes(value[..].try_into().unwrap()));
    let mut expected = 0u32;
    let visit = &mut |key: &[u8], value: &[u8]| {
        expected += 1;
        assert_eq!((key, value), (&[b"row", &expected.to_be_bytes()[..]].concat()[..], &[expected.to_be_bytes()[3]; 50][..]));
        ControlFlow::Continue(())
    };
    snapshot.scan(b"row", b"rox", visit).unwrap();
    assert_eq!(expected, last, "a hole");
    last
}

fn journal(folder: &Path) -> PathBuf {
    folder.join("store/0.jnl")
}

/// A folder that was closed cleanly, with a lease, and everything in the journal.
fn closed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path()).unwrap();
    for number in 1..=COMMITS {
        commit(&storage, number);
    }
    storage.put_lease(b"lease").unwrap();
    drop(storage);
    // Opening takes the room away that the journal was given ahead.
    assert_eq!(commits(&open(folder.path()).unwrap()), COMMITS);
    folder
}

#[test]
fn a_flipped_bit_in_the_journal_is_never_silent() {
    let folder = closed();
    let whole = fs::read(journal(folder.path())).unwrap();
    let store = folder.path().join("store");
    let backup = tempfile::tempdir().unwrap();
    copy(&store, backup.path());
    let (mut lost, mut refused, mut harmless) = (0, 0, 0);
    for position in (3..whole.len()).step_by(whole.len() / 70) {
        fs::remove_dir_all(&store).unwrap();
        copy(backup.path(), &store);
        // The promise goes back as well: a loss once found is remembered.
        let reach = fs::read(folder.path().join("reach")).unwrap();
        let mut damaged = whole.clone();
        damaged[position] ^= 1 << (position % 8);
        fs::write(journal(folder.path()), damaged).unwrap();
        match open(folder.path()) {
            Err(error) => {
                refused += 1;
                assert!(matches!(error, OpenError::Damaged { .. }) && error.to_string().contains(store.to_str().unwrap()), "{error}");
            }
            Ok(storage) if storage.lost_tail() => {
                lost += 1;
                assert_eq!(storage.lease().unwrap(), None);
                assert!(commits(&storage) < COMMITS);
            }
            Ok(storage) => {
                harmless += 1;
                assert_eq!(commits(&storage), COMMITS, "byte {position}: commits are missing in silence");
            }
        }
        fs::write(folder.path().join("reach"), reach).unwrap();
    }
    assert!(lost > 50, "{lost} lost, {refused} refused, {harmless} harmless");
    assert!(harmless < 4, "only the first sequence number may change unseen: {lost} lost, {refused} refused, {harmless} harmless");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() { copy(&entry.path(), &target) } else { assert!(fs::copy(entry.path(), target).is_ok()) }
    }
}

#[test]
fn a_lost_end_voids_the_lease_until_a_new_one_is_written() {
    let folder = closed();
    assert_eq!(open(folder.path()).unwrap().lease().unwrap().as_deref(), Some(&b"lease"[..]));
    let file = OpenOptions::new().write(true).open(journal(folder.path())).unwrap();
    file.set_len(file.metadata().unwrap().len() * 2 / 3).unwrap();
    // A crash before the fresh incarnation was written down, even after commits that pass the old end, forgets nothing.
    for round in 0..3 {
        let storage = open(folder.path()).unwrap();
        assert!(storage.lost_tail());
        assert_eq!(storage.lease().unwrap(), None, "round {round}");
        let kept = commits(&storage);
        assert!(kept >= COMMITS / 2 && (round > 0 || kept < COMMITS));
        for number in kept + 1..=COMMITS + 5 {
            commit(&storage, number);
        }
    }
    let storage = open(folder.path()).unwrap();
    storage.put_lease(b"fresh").unwrap();
    assert_eq!(storage.lease().unwrap().as_deref(), Some(&b"fresh"[..]));
    drop(storage);
    let storage = open(folder.path()).unwrap();
    assert_eq!((storage.lost_tail(), storage.lease().unwrap().as_deref()), (false, Some(&b"fresh"[..])));
    assert_eq!(commits(&storage), COMMITS + 5);
}

#[test]
fn an_end_that_was_never_synced_may_be_missing() {
    let folder = closed();
    let length = fs::metadata(journal(folder.path())).unwrap().len();
    let reach = fs::read(folder.path().join("reach")).unwrap();
    let storage = open(folder.path()).unwrap();
    commit(&storage, COMMITS + 1);
    drop(storage);
    // As if the machine had stopped before the sync: with half a batch in the journal, and the promise of before.
    fs::write(folder.path().join("reach"), reach).unwrap();
    OpenOptions::new().write(true).open(journal(folder.path())).unwrap().set_len(length + 60).unwrap();
    let storage = open(folder.path()).unwrap();
    assert_eq!((storage.lost_tail(), commits(&storage)), (false, COMMITS));
}

#[test]
fn files_taken_away_are_noticed() {
    let folder = closed();
    fs::remove_file(folder.path().join("reach")).unwrap();
    let storage = open(folder.path()).unwrap();
    assert!(storage.lost_tail(), "without the promise nothing proves that all is there");
    storage.put_lease(b"lease").unwrap();
    drop(storage);

    fs::remove_file(journal(folder.path())).unwrap();
    let Err(error) = open(folder.path()) else { panic!("opened a store without a journal") };
    assert!(error.to_string().contains("its journal is missing"), "{error}");

    fs::remove_dir_all(folder.path().join("store")).unwrap();
    let storage = open(folder.path()).unwrap();
    assert_eq!((storage.lost_tail(), storage.lease().unwrap(), commits(&storage)), (true, None, 0));
}

#[test]
fn a_journal_that_does_not_carry_on_where_the_tables_end_is_refused() {
    let folder = closed();
    let whole = fs::read(journal(folder.path())).unwrap();
    assert_eq!(whole.len() % COMMITS as usize, 0, "commits of equal length");
    fs::write(journal(folder.path()), &whole[whole.len() / 2..]).unwrap();
    let Err(error) = open(folder.path()) else { panic!("opened a store whose first half is missing") };
    assert!(error.to_string().contains("its journals begin at 51"), "{error}");
}

#[test]
fn a_store_that_was_not_finished_being_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("store.new/keyspaces")).unwrap();
    fs::write(folder.path().join("store.new/0.jnl"), "half").unwrap();
    let storage = open(folder.path()).unwrap();
    assert_eq!((storage.lost_tail(), commits(&storage)), (false, 0));
    assert!(!folder.path().join("store.new").exists());
}

#[test]
fn another_version_and_garbage_are_refused_in_one_sentence() {
    let folder = closed();
    let version = folder.path().join("store/version");
    let original = fs::read(&version).unwrap();
    for garbage in [b"FJL\x02".to_vec(), b"garbage".to_vec(), vec![]] {
        fs::write(&version, garbage).unwrap();
        let Err(error) = open(folder.path()) else { panic!("opened another version") };
        assert!(matches!(error, OpenError::Version { .. } | OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("store") && !error.to_string().contains('\n'), "{error}");
    }
    fs::write(&version, original).unwrap();
    let manifest = folder.path().join("store/keyspaces/1/current");
    let file = OpenOptions::new().write(true).open(&manifest).unwrap();
    file.write_all_at(&[0xff; 8], 0).unwrap();
    let Err(error) = open(folder.path()) else { panic!("opened garbage") };
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[test]
fn a_store_of_which_a_part_could_not_be_read_takes_no_more_writes_and_names_the_file_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    // Small, so that there are tables.
    let open = || FjallStorage::open(folder.path(), FjallOptions { memory_bytes: 16 << 20, memtable_bytes: 48 << 10 });
    let storage = open().unwrap();
    (1..=2_000).for_each(|number| commit(&storage, number));
    drop(storage);
    let tables: Vec<PathBuf> =
        fs::read_dir(folder.path().join("store/keyspaces/1/tables")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!tables.is_empty());
    for table in &tables {
        let mut bytes = fs::read(table).unwrap();
        bytes[200] ^= 0x52;
        fs::write(table, bytes).unwrap();
    }
    // The start looks at what it needs; the rest is found where it is read.
    let storage = open().unwrap();
    let mut batch = Batch::default();
    batch.put(b"other".to_vec(), vec![1]);
    storage.commit(batch.clone()).unwrap();
    let read = storage.snapshot().scan(b"row", b"rox", &mut |_, _| ControlFlow::Continue(()));
    assert!(read.as_ref().is_err_and(|error| error.to_string().contains("start again")), "{read:?}");
    assert_eq!((storage.commit(batch), storage.sync()), (read.clone(), read), "what could not be read may not be written over");
    drop(storage);
    let Err(error) = open() else { panic!("opened a store of which a part can't be read") };
    assert!(tables.iter().any(|table| error.to_string().contains(table.to_str().unwrap())), "{error}");
}
