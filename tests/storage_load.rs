//! The store under load, and killed in the middle of it.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, in its helpers too")]

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ringtide::backend::{FjallOptions, FjallStorage};
use ringtide::config::SEALED_MEMTABLES;
use ringtide::env::{Batch, Storage};
use tokio::time::Instant;

const MEMTABLE: u64 = 1 << 20;

fn open(folder: &Path, memtable_bytes: u64) -> FjallStorage {
    FjallStorage::open(folder, FjallOptions { memory_bytes: 16 << 20, memtable_bytes }).unwrap()
}

/// A cheap spread of numbers, so that rows do not come in order.
fn spread(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// Memory of this process that is in RAM, in bytes, where the system tells it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

/// fjall's own way to seal memtables ends in a deadlock of its flush pool at such a pace: writes go on, nothing is flushed,
/// and memory grows by all that is written.
#[test]
fn dozens_of_memtables_are_flushed_under_load_and_memory_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), MEMTABLE);
    let before = resident_bytes();
    let batch_bytes = 64 * 300;
    let started = Instant::now();
    let done = AtomicBool::new(false);
    let (mut batches, mut highest) = (0u64, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                storage.snapshot().get(&spread(number % 50_000)).unwrap();
            }
        });
        while batches < 3000 && started.elapsed() < Duration::from_secs(60) {
            let rows = (0..64).map(|row| (spread(batches * 64 + row).to_vec(), Some(vec![7; 200])));
            storage.commit(Batch { changes: rows.collect() }).unwrap();
            batches += 1;
            let (sealed, bytes) = storage.unflushed();
            assert!(sealed <= SEALED_MEMTABLES, "{sealed} sealed memtables");
            highest = highest.max(bytes);
        }
        done.store(true, Ordering::Relaxed);
    });
    let written = batches * batch_bytes;
    assert!(written > 24 * MEMTABLE, "too little was written to tell anything: {written} bytes");
    // fjall counts a flushed memtable out a little after it is gone, so up to as much again may be on its account.
    assert!(highest <= (2 * SEALED_MEMTABLES as u64 + 3) * MEMTABLE, "{highest} bytes were in memtables");
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        assert!(after < before + (64 << 20), "memory grew from {before} to {after} bytes while {written} were written");
    }
    let draining = Instant::now();
    while storage.unflushed().0 > 0 {
        assert!(draining.elapsed() < Duration::from_secs(10), "sealed memtables are not flushed");
        std::thread::yield_now();
    }
    let snapshot = storage.snapshot();
    for number in (0..batches * 64).step_by(997) {
        assert!(snapshot.get(&spread(number)).unwrap().is_some());
    }
}

const FOLDER: &str = "STORAGE_LOAD_CHILD_FOLDER";

/// Not a test by itself: what the process does that the next test kills.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let storage = open(&PathBuf::from(folder), 64 << 10);
    let mut out = std::io::stdout().lock();
    for number in last_number(&storage) + 1.. {
        let mut batch = Batch::default();
        batch.put([b"row", &number.to_be_bytes()[..]].concat(), number.to_be_bytes().to_vec());
        for copy in 0..8 {
            batch.put(vec![b'c', copy], [&number.to_be_bytes()[..], &[copy; 200]].concat());
        }
        storage.commit(batch).unwrap();
        if number % 10 == 0 {
            storage.sync().unwrap();
        }
        if number % 25 == 0 {
            storage.put_lease(&number.to_be_bytes()).unwrap();
        }
        writeln!(out, "acknowledged {number}").unwrap();
        out.flush().unwrap();
    }
}

fn last_number(storage: &FjallStorage) -> u64 {
    storage.snapshot().get(b"c\0").unwrap().map_or(0, |value| u64::from_be_bytes(value[..8].try_into().unwrap()))
}

fn start_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_commits_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads what the child acknowledged: `lines` of them, then kills it, then reads what it had written until then.
fn kill_after(mut child: Child, lines: usize) -> u64 {
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = |line: String| line.strip_prefix("acknowledged ").and_then(|number| number.parse::<u64>().ok());
    let seen = output.by_ref().filter_map(number).take(lines).last();
    child.kill().unwrap();
    child.wait().unwrap();
    output.filter_map(number).last().or(seen).unwrap()
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_missing_and_no_batch_is_half_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = 0;
    for lines in [1, 700, 3, 180, 1500, 26, 333, 60] {
        let acknowledged = kill_after(start_child(folder.path()), lines);
        let storage = open(folder.path(), 64 << 10);
        assert!(!storage.lost_tail());
        let last = last_number(&storage);
        assert!(acknowledged >= kept + lines as u64 && last >= acknowledged, "{acknowledged} were acknowledged, {last} are there");
        let mut expected = 0;
        let visit = &mut |key: &[u8], value: &[u8]| {
            expected += 1;
            assert_eq!((&key[3..], value), (&u64::to_be_bytes(expected)[..], &u64::to_be_bytes(expected)[..]));
            ControlFlow::Continue(())
        };
        storage.snapshot().scan(b"row", b"rox", visit).unwrap();
        assert_eq!(expected, last);
        for copy in 0..8 {
            let value = storage.snapshot().get(&[b'c', copy]).unwrap().unwrap();
            assert_eq!(value[..], [&last.to_be_bytes()[..], &[copy; 200]].concat()[..], "half a batch");
        }
        let lease = storage.lease().unwrap().map(|record| u64::from_be_bytes(record.try_into().unwrap()));
        assert!(last < 25 || lease.is_some_and(|lease| lease >= acknowledged / 25 * 25), "{lease:?} is older than {acknowledged}");
        kept = last;
    }
}
