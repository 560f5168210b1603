//! Every file of a peer's data folder damaged in turn: a flipped bit, a zeroed page, cut short, missing, or as it was some time ago.
//!
//! Each start either refuses, with a sentence that names the folder and what to do, or knows that something is missing and counts for no read before it
//! has synced, or shows everything that was acknowledged, or says that a row can't be read and stops. It never panics, and it never takes what is missing for deleted.
//! `RINGTIDE_SWEEP=2000` tries so many places of every kind of file instead of a few.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use ringtide::backend::{FjallOptions, FjallStorage, SystemClock, identity};
use ringtide::crdt::command::Selection;
use ringtide::crdt::delta::RowAddress;
use ringtide::crdt::string::{Mutation, SetCondition, SetExpiry};
use ringtide::env::Storage;
use ringtide::env::message::Standing;
use ringtide::replica::Replica;
use ringtide::replica::execution::{Change, Command, Work};
use ringtide::ring::{Ring, RingMember};
use ringtide::types::{Partition, PeerId, Timestamp};
use tempfile::TempDir;

const PARTITIONS: u16 = 4;
const KEYS: u32 = 2_000;
const PAGE: u64 = 4096;
/// Tables that a folder must have: with fewer of them there is little to swap or miss.
const LEAST_TABLES: usize = 3;
/// Small, so that there are many tables.
const OPTIONS: FjallOptions = FjallOptions { memory_bytes: 16 << 20, memtable_bytes: 48 << 10 };

/// A replica of a peer that shares everything with two others, and the store under it.
struct Peer {
    replica: Replica,
    storage: Arc<FjallStorage>,
}

fn start(folder: &Path) -> Result<Peer, String> {
    let storage = Arc::new(FjallStorage::open(folder, OPTIONS).map_err(|error| error.to_string())?);
    identity::load_or_create(folder, &*storage).map_err(|error| error.to_string())?;
    let mut replica = Replica::open(storage.clone(), Arc::new(SystemClock), PARTITIONS, 7).map_err(|error| error.to_string())?;
    let member = |peer: u8| RingMember { peer: PeerId([peer; 32]), zone: None, capacity: 1 };
    let ring = Ring::build(&[1, 2, 3].map(member), PARTITIONS, 3);
    replica.take_roles(PeerId([1; 32]), &ring, &BTreeMap::new()).map_err(|error| error.to_string())?;
    replica.prove().map_err(|error| error.to_string())?;
    Ok(Peer { replica, storage })
}

fn key(number: u32) -> Bytes {
    Bytes::from(format!("key {number}"))
}

fn value(number: u32) -> Bytes {
    Bytes::from(number.to_string().repeat(20))
}

fn write(peer: &mut Peer, numbers: std::ops::Range<u32>) {
    for batch in numbers.collect::<Vec<_>>().chunks(10) {
        let set = |number: &u32| {
            let (expiry, condition) = (SetExpiry::Clear, SetCondition::Always);
            let mutation = Mutation::Set { value: value(*number), expiry, condition, get: false };
            Work::Execute(Command { key: key(*number), change: Change::Mutation(mutation.into()), blind_for: None })
        };
        peer.replica.apply(&batch.iter().map(set).collect::<Vec<_>>()).unwrap();
    }
}

/// What became of a start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    /// It did not start, and named the file.
    RefusedByName,
    /// It did not start, and named the folder.
    Refused,
    /// It counts for no read.
    Knows,
    /// Everything is there.
    Whole,
    /// It says that something can't be read, writes nothing more, and the next start refuses.
    Stops,
}

/// Starts and looks at everything.
fn outcome(folder: &Path, damaged: &Path) -> Result<Outcome, String> {
    let peer = match start(folder) {
        Ok(peer) => peer,
        Err(error) if error.contains(damaged.to_str().unwrap()) => return Ok(Outcome::RefusedByName),
        Err(error) if error.contains(folder.to_str().unwrap()) && error.lines().count() == 1 => return Ok(Outcome::Refused),
        Err(error) => return Err(format!("an error that does not help: {error}")),
    };
    let view = peer.replica.view().load_full();
    let counted = (0..PARTITIONS).filter(|partition| view.partition(Partition(*partition)).standing == Standing::Counted).count();
    let (mut missing, mut unreadable) = (0, None);
    for number in 0..KEYS {
        match view.read(&key(number), &Selection::Head, None, Timestamp::from_millis(u64::MAX >> 20)) {
            Ok(page) => match page.rows.get(&RowAddress::value(&key(number))) {
                Some(row) if format!("{row:?}").contains(&format!("{:?}", value(number))) => {}
                Some(row) => return Err(format!("key {number} shows {row:?}")),
                None => missing += 1,
            },
            Err(error) => unreadable = Some(error.to_string()),
        }
    }
    drop(view);
    if let Some(error) = unreadable {
        if peer.storage.sync().is_ok() {
            return Err(format!("it goes on writing though a row can't be read: {error}"));
        }
        drop(peer);
        return match start(folder) {
            Err(error) if error.contains(damaged.to_str().unwrap()) => Ok(Outcome::Stops),
            Err(error) => Err(format!("the next start refuses without naming the file: {error}")),
            Ok(_) => Err("the next start takes the damaged store again".to_owned()),
        };
    }
    match (counted, missing) {
        (0, _) => Ok(Outcome::Knows),
        (_, 0) if counted == usize::from(PARTITIONS) => Ok(Outcome::Whole),
        _ => Err(format!("{missing} keys are missing in silence, {counted} partitions count for reads")),
    }
}

/// A data folder that is put back as it was before each damage, around the lease, which can't be put back.
struct Folder {
    live: TempDir,
    backup: TempDir,
    /// As it was when half of it was written.
    older: TempDir,
}

impl Folder {
    fn filled() -> Self {
        let folder = || tempfile::tempdir().unwrap();
        let filled = Self { live: folder(), backup: folder(), older: folder() };
        let mut peer = start(filled.live.path()).unwrap();
        write(&mut peer, 0..KEYS / 2);
        peer.replica.close().unwrap();
        drop(peer);
        copy(filled.live.path(), filled.older.path(), false);
        let mut peer = start(filled.live.path()).unwrap();
        write(&mut peer, KEYS / 2..KEYS);
        peer.replica.sync().unwrap();
        drop(peer);
        copy(filled.live.path(), filled.backup.path(), false);
        filled
    }

    /// Puts everything back as it was but the lease.
    fn restore(&self) {
        let store = self.live.path().join("store");
        let _ = fs::remove_dir_all(&store);
        let _ = fs::remove_file(self.live.path().join("suspect"));
        copy(&self.backup.path().join("store"), &store, true);
        for name in ["reach", "identity", "lock"] {
            fs::copy(self.backup.path().join(name), self.live.path().join(name)).unwrap();
        }
    }

    /// The files of the folder by their kind, from the backup.
    fn files(&self) -> BTreeMap<&'static str, Vec<PathBuf>> {
        let mut files: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(self.backup.path().join(&folder)).unwrap().map(Result::unwrap) {
                let path = folder.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    folders.push(path);
                } else {
                    files.entry(kind(&path)).or_default().push(path);
                }
            }
        }
        files
    }
}

fn kind(path: &Path) -> &'static str {
    let is_table = path.parent().is_some_and(|parent| parent.ends_with("tables"));
    match path.file_name().and_then(|name| name.to_str()) {
        _ if is_table => "table",
        Some("lease") => "lease",
        Some("reach") => "reach",
        Some("identity") => "identity",
        Some("lock") => "lock",
        Some("version") => "version",
        Some("current") => "current",
        Some(name) if name.ends_with(".jnl") => "journal",
        Some(name) if name.starts_with('v') => "manifest",
        _ => panic!("an unknown file {}", path.display()),
    }
}

/// Copies a folder. Files that fjall never writes to again may be linked.
fn copy(from: &Path, to: &Path, link: bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&path, &target, link);
        } else if link && matches!(kind(&path), "table" | "manifest") {
            fs::hard_link(path, target).unwrap();
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Damage {
    Flip,
    Zero,
    Cut,
    Missing,
    Older,
}

impl Damage {
    /// Strikes a file. `false` where this changes nothing.
    fn strike(self, folder: &Folder, path: &Path, random: &mut SmallRng) -> bool {
        let live = folder.live.path().join(path);
        // A file of its own, where it was linked.
        let bytes = fs::read(&live).unwrap();
        if path != Path::new("lease") {
            fs::remove_file(&live).unwrap();
            fs::write(&live, &bytes).unwrap();
            fs::set_permissions(&live, fs::metadata(folder.backup.path().join(path)).unwrap().permissions()).unwrap();
        }
        let place = random.random_range(0..bytes.len().max(1) as u64);
        let write = |bytes: &[u8], at| OpenOptions::new().write(true).open(&live).unwrap().write_all_at(bytes, at).unwrap();
        let at = usize::try_from(place).unwrap();
        match self {
            Self::Flip if !bytes.is_empty() => write(&[bytes[at] ^ (1 << random.random_range(0..8))], place),
            Self::Zero => {
                let from = place / PAGE * PAGE;
                let page: Vec<u8> = bytes[usize::try_from(from).unwrap()..].iter().take(4096).map(|_| 0).collect();
                write(&page, from);
            }
            Self::Cut => OpenOptions::new().write(true).open(&live).unwrap().set_len(place).unwrap(),
            Self::Missing => fs::remove_file(&live).unwrap(),
            Self::Older => match fs::read(folder.older.path().join(path)) {
                Ok(older) if older != bytes => fs::write(&live, older).unwrap(),
                _ => return false,
            },
            Self::Flip => return false,
        }
        fs::read(&live).ok().is_none_or(|struck| struck != bytes)
    }
}

#[test]
fn a_peer_whose_files_are_damaged_refuses_or_knows_it_and_never_shows_less_in_silence() {
    // How many tables there are is up to what was compacted meanwhile.
    let has_tables = |folder: &Folder| folder.files()["table"].len() >= LEAST_TABLES;
    let folder = (0..20).map(|_| Folder::filled()).find(has_tables).expect("many tables");
    let seed = 7;
    let places = std::env::var("RINGTIDE_SWEEP").ok().map_or(2, |number| number.parse().unwrap());
    let mut random = SmallRng::seed_from_u64(seed);
    let mut counts: BTreeMap<(&str, Damage), BTreeMap<Outcome, usize>> = BTreeMap::new();
    let mut violations = Vec::new();
    folder.restore();
    assert_eq!(outcome(folder.live.path(), Path::new("none")), Ok(Outcome::Whole));
    let files = folder.files();
    assert!(files["table"].len() >= LEAST_TABLES, "{files:?}");
    for (kind, files) in files {
        for damage in [Damage::Flip, Damage::Zero, Damage::Cut, Damage::Missing, Damage::Older] {
            let repeats = if matches!(damage, Damage::Missing | Damage::Older) { files.len() } else { places };
            for repeat in 0..repeats {
                folder.restore();
                let path = &files[repeat % files.len()];
                if !damage.strike(&folder, path, &mut random) {
                    continue;
                }
                match outcome(folder.live.path(), &folder.live.path().join(path)) {
                    Ok(outcome) => *counts.entry((kind, damage)).or_default().entry(outcome).or_default() += 1,
                    Err(violation) => violations.push(format!("{} {damage:?} #{repeat}: {violation}", path.display())),
                }
            }
        }
    }
    for ((kind, damage), outcomes) in &counts {
        println!("{kind:9} {:8} {outcomes:?}", format!("{damage:?}"));
    }
    assert!(violations.is_empty(), "{} violations: {:#?}", violations.len(), &violations[..violations.len().min(20)]);
    let all = |kind: &str, damage| counts.get(&(kind, damage)).map(|outcomes| outcomes.keys().copied().collect::<Vec<_>>());
    // fjall would make some of these anew, without what they led to. Of manifests, all but one are left over.
    for (kind, expected) in [("current", 1), ("version", 1), ("table", 1), ("manifest", 2)] {
        assert_eq!(all(kind, Damage::Missing).unwrap(), [Outcome::RefusedByName, Outcome::Whole][..expected], "{kind}");
    }
    assert_eq!(all("reach", Damage::Missing), Some(vec![Outcome::Knows]));
    assert_eq!(all("lease", Damage::Missing), Some(vec![Outcome::Knows]));
}

/// What is written back to the same place within a quarter of a second is taken for the same file.
#[expect(clippy::disallowed_methods, reason = "the filesystem's clock can't be paused")]
fn let_time_pass() {
    std::thread::sleep(std::time::Duration::from_millis(600));
}

#[test]
fn a_folder_that_was_put_back_as_a_whole_counts_for_no_read_until_it_has_synced() {
    let folder = Folder::filled();
    let_time_pass();
    fs::remove_dir_all(folder.live.path()).unwrap();
    copy(folder.older.path(), folder.live.path(), false);
    // Also where it is killed before anything was synced: the fresh lease makes nobody forget.
    for _ in 0..2 {
        assert_eq!(outcome(folder.live.path(), Path::new("none")), Ok(Outcome::Knows));
    }
}
