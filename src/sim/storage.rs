//! A disk in memory, for the simulator: what was synced survives a crash, what was not may be lost.
//!
//! A [`SimDisk`] outlives the processes of its peer; each start opens it and gets a [`SimStorage`]. A crash ends that one: the
//! tasks it runs are aborted, and whatever of it is still held can't write any more.
//!
//! ```text
//! commit 1 2 3   sync   commit 4 5 6   crash      the next process finds 1 2 3, or 1 2 3 4, or 1 2 3 4 5 …
//! ```
//!
//! A process that is *paused* runs none of the tasks that write, and goes on with them later. A disk may also fall back as a whole
//! ([`SimDisk::replace`]): to nothing, or to an earlier copy of itself.
//!
//! Snapshots are cheap: every key keeps its versions, and a snapshot is the number of the commit that it shows. A version goes
//! away when a later one shows in every snapshot that is still held.

use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, ControlFlow};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::task::AbortHandle;

use super::kinds::{Kind, Reached};
use crate::env::storage::{Batch, MAX_STORAGE_KEY, Snapshot, Storage, StorageError, Task, Visitor};

/// Entries that a scan takes out under the lock at once.
const PAGE: usize = 32;

/// How a process ends without having been asked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// The process alone: every commit is still there.
    Process,
    /// The machine: every commit since the last sync is lost.
    Machine,
    /// The machine, after some of what was not synced had reached the disk: the first commits since the last sync, as many as
    /// the number says, taken modulo what there is.
    Midway(u64),
}

/// What goes wrong next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Faults {
    /// The next commit, sync or lease fails. Whether what was written is there after a restart: `Some(true)` yes, `Some(false)` no.
    pub next: Option<bool>,
    /// After so many more reads one fails.
    pub reads: Option<u32>,
    /// The disk is full: commits, syncs and leases fail.
    pub full: bool,
    /// The disk has no room but for what is kept free.
    pub short: bool,
}

/// The disk of a simulated peer.
#[derive(Clone, Default)]
pub struct SimDisk {
    /// Never held while other code runs.
    platter: Arc<Mutex<Platter>>,
}

impl SimDisk {
    /// Starts a process on this disk. One that was started before must have crashed or been dropped; it can't write any more.
    #[must_use]
    pub fn open(&self) -> Arc<SimStorage> {
        self.end_process();
        let mut platter = self.platter();
        // Opening a log syncs what is found in it.
        platter.unsynced.clear();
        Arc::new(SimStorage { disk: self.clone(), process: platter.process })
    }

    /// Ends the running process. Tells how many commits were lost.
    pub fn crash(&self, crash: Crash) -> usize {
        self.end_process();
        let mut platter = self.platter();
        let kept = match crash {
            Crash::Process => platter.unsynced.len(),
            Crash::Machine => 0,
            Crash::Midway(number) => usize::try_from(number % (platter.unsynced.len() as u64 + 1)).unwrap_or(0),
        };
        platter.take_back(kept)
    }

    /// Makes the disk blank, or what another one holds: a copy of its files, of which nobody can prove that it is the same file as before.
    /// The process must have ended.
    pub fn replace(&self, with: Option<&Self>) {
        let rows = with.map(|other| other.platter().newest()).unwrap_or_default();
        let mut platter = self.platter();
        let snapshots = std::mem::take(&mut platter.snapshots);
        let (commit, process, faults) = (platter.commit, platter.process + 1, platter.faults);
        let reached = std::mem::take(&mut platter.reached);
        *platter = Platter { rows, commit, snapshots, process, faults, reached, ..Platter::default() };
    }

    /// A copy of what the disk holds now, as on another disk.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        copy.replace(Some(self));
        copy
    }

    /// Stops the tasks that write until [`Self::resume`], or until the process ends.
    pub fn pause(&self) {
        self.platter().paused = true;
    }

    /// Lets the tasks that write go on.
    pub fn resume(&self) {
        let mut platter = self.platter();
        platter.paused = false;
        let waiting = std::mem::take(&mut platter.waiting);
        drop(platter);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Sets what goes wrong next.
    pub fn set_faults(&self, faults: Faults) {
        self.platter().faults = faults;
    }

    /// Visits what the disk holds now, in order, from `from` (included) to `until` (excluded), until the visitor breaks.
    pub fn visit(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) {
        let platter = self.platter();
        let rows = platter.rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(until)));
        for (key, value) in rows.filter_map(|(key, versions)| Some((key, versions.last()?.1.as_ref()?))) {
            if visit(key, value).is_break() {
                return;
            }
        }
    }

    /// Loses a stored value behind the back of whoever runs on the disk.
    pub fn lose(&self, key: &[u8]) {
        self.platter().rows.remove(key);
    }

    /// Puts an earlier value back behind the back of whoever runs on the disk.
    pub fn set_back(&self, key: &[u8], value: Bytes) {
        let mut platter = self.platter();
        let commit = platter.commit;
        platter.rows.insert(Bytes::copy_from_slice(key), vec![(commit, Some(value))]);
    }

    /// What goes wrong next.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.platter().faults
    }

    /// How often whoever ran on the disk met its faults.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.platter().reached.clone()
    }

    /// Changes a stored value behind the back of whoever runs on the disk: one bit of it, or its length.
    pub fn spoil(&self, key: &[u8], how: u64) {
        let mut platter = self.platter();
        let Some((_, Some(value))) = platter.rows.get_mut(key).and_then(|versions| versions.last_mut()) else { return };
        let mut bytes = value.to_vec();
        let place = usize::try_from(how >> 4).unwrap_or(0).checked_rem(bytes.len()).unwrap_or(0);
        match how & 0b1111 {
            0 | 1 => bytes.truncate(place),
            bit => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << (bit & 0b111)),
        }
        *value = bytes.into();
    }

    /// Commits that a crash of the machine would lose.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.platter().unsynced.len()
    }

    fn end_process(&self) {
        let tasks = self.platter().end_process();
        // Outside of the lock, which the snapshots that a task holds take when they are dropped.
        for task in tasks {
            task.abort();
        }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        // Nothing in here panics midway, and the simulator goes on after a test's own panic.
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that stands still while its disk is paused.
struct Pausable {
    task: Task,
    disk: SimDisk,
}

impl Future for Pausable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut platter = self.disk.platter();
        if platter.paused {
            platter.waiting.push(context.waker().clone());
            platter.reach(Kind::Pause);
            return Poll::Pending;
        }
        drop(platter);
        self.task.as_mut().poll(context)
    }
}

/// The storage of one process on a [`SimDisk`].
pub struct SimStorage {
    disk: SimDisk,
    /// Which process this is: an older one than the disk's has ended.
    process: u64,
}

/// The versions of one key, oldest first: the commit that wrote it, and what it wrote.
type Versions = Vec<(u64, Option<Bytes>)>;

#[derive(Default)]
struct Platter {
    rows: BTreeMap<Bytes, Versions>,
    /// Number of the last commit.
    commit: u64,
    /// How many snapshots show which commit.
    snapshots: BTreeMap<u64, usize>,
    /// Keys with a version that is of no more use once no snapshot before the commit is held; in order of commits.
    stale: VecDeque<(u64, Bytes)>,
    /// For each commit since the last sync, its keys with the values that they had before.
    unsynced: Vec<Vec<(Bytes, Option<Bytes>)>>,
    /// A commit that failed and turns up after a restart all the same.
    limbo: Option<Batch>,
    lease: Option<Vec<u8>>,
    process: u64,
    tasks: Vec<AbortHandle>,
    /// What the running process met, after which it writes nothing more.
    failure: Option<StorageError>,
    faults: Faults,
    /// Whether the tasks that write stand still, and what wakes them.
    paused: bool,
    waiting: Vec<Waker>,
    /// How often faults were met.
    reached: Reached,
}

impl Platter {
    fn end_process(&mut self) -> Vec<AbortHandle> {
        self.process += 1;
        self.failure = None;
        self.paused = false;
        if let Some(batch) = self.limbo.take() {
            self.apply(batch);
        }
        std::mem::take(&mut self.tasks)
    }

    /// The last version of every key.
    fn newest(&self) -> BTreeMap<Bytes, Versions> {
        let last = |(key, versions): (&Bytes, &Versions)| Some((key.clone(), vec![(0, Some(versions.last()?.1.clone()?))]));
        self.rows.iter().filter_map(last).collect()
    }

    fn value_at(versions: &Versions, commit: u64) -> Option<&Bytes> {
        versions.iter().rev().find(|(written, _)| *written <= commit).and_then(|(_, value)| value.as_ref())
    }

    fn apply(&mut self, batch: Batch) {
        self.commit += 1;
        let mut undo = Vec::with_capacity(batch.changes.len());
        for (key, value) in batch.changes {
            let key = Bytes::from(key);
            undo.push((key.clone(), self.write(&key, value.map(Bytes::from))));
        }
        self.unsynced.push(undo);
        self.forget_stale();
    }

    /// Writes one version for the current commit. Tells what the key held before.
    fn write(&mut self, key: &Bytes, value: Option<Bytes>) -> Option<Bytes> {
        let versions = self.rows.entry(key.clone()).or_default();
        let before = versions.last().and_then(|(_, value)| value.clone());
        if versions.last().is_some_and(|(written, _)| *written == self.commit) {
            versions.pop();
        }
        if value.is_none() || !versions.is_empty() {
            self.stale.push_back((self.commit, key.clone()));
        }
        versions.push((self.commit, value));
        before
    }

    /// Takes away versions that no snapshot shows and no later one will.
    fn forget_stale(&mut self) {
        let oldest = self.snapshots.keys().next().copied().unwrap_or(self.commit);
        while let Some((_, key)) = self.stale.pop_front_if(|(commit, _)| *commit <= oldest) {
            let Some(versions) = self.rows.get_mut(&key) else { continue };
            let shown = versions.iter().rposition(|(written, _)| *written <= oldest).unwrap_or(0);
            versions.drain(..shown);
            if let [(_, None)] = versions[..] {
                self.rows.remove(&key);
            }
        }
    }

    /// Undoes the commits since the last sync but the first ones.
    fn take_back(&mut self, kept: usize) -> usize {
        let lost = self.unsynced.split_off(kept.min(self.unsynced.len()));
        if !lost.is_empty() {
            self.commit += 1;
        }
        for (key, before) in lost.iter().rev().flat_map(|undo| undo.iter().rev()) {
            self.write(key, before.clone());
        }
        self.unsynced.clear();
        self.forget_stale();
        lost.len()
    }

    /// Whether a process may write now; if not, it never may again.
    fn check(&mut self, process: u64) -> Result<(), StorageError> {
        if process != self.process {
            return Err(StorageError::Failed("this process has ended".to_owned()));
        }
        if self.failure.is_none() && self.faults.full {
            self.failure = Some(StorageError::Full("no space left in the simulation".to_owned()));
            self.reach(Kind::FullDisk);
        }
        if let Some(failure) = &self.failure { Err(failure.clone()) } else { Ok(()) }
    }

    /// Fails the read that was told to.
    fn check_read(&mut self) -> Result<(), StorageError> {
        let Some(left) = self.faults.reads else { return Ok(()) };
        self.faults.reads = left.checked_sub(1);
        if left == 0 {
            self.reach(Kind::ReadError);
            Err(StorageError::Failed("a read was told to fail by the simulation".to_owned()))
        } else {
            Ok(())
        }
    }

    fn reach(&mut self, kind: Kind) {
        *self.reached.entry(kind).or_default() += 1;
    }

    fn fail_as_told(&mut self, batch: Option<Batch>) -> Result<(), StorageError> {
        let Some(survives) = self.faults.next.take() else { return Ok(()) };
        self.reach(Kind::WriteError);
        self.limbo = batch.filter(|_| survives);
        let failure = StorageError::Failed("told to fail by the simulation".to_owned());
        self.failure = Some(failure.clone());
        Err(failure)
    }
}

impl Storage for SimStorage {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        let mut platter = self.disk.platter();
        let commit = platter.commit;
        *platter.snapshots.entry(commit).or_default() += 1;
        Arc::new(SimSnapshot { disk: self.disk.clone(), commit })
    }

    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        batch.check()?;
        if batch.changes.is_empty() {
            return Ok(());
        }
        let mut platter = self.disk.platter();
        platter.check(self.process)?;
        if platter.faults.next.is_some() {
            return platter.fail_as_told(Some(batch));
        }
        platter.apply(batch);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut platter = self.disk.platter();
        platter.check(self.process)?;
        platter.fail_as_told(None)?;
        platter.unsynced.clear();
        Ok(())
    }

    fn has_room(&self) -> bool {
        let mut platter = self.disk.platter();
        let is_full = platter.faults.short || platter.faults.full;
        *platter.reached.entry(Kind::FullDisk).or_default() += u64::from(is_full);
        !is_full
    }

    fn lease(&self) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.disk.platter().lease.clone())
    }

    fn put_lease(&self, record: &[u8]) -> Result<(), StorageError> {
        let mut platter = self.disk.platter();
        platter.check(self.process)?;
        if platter.faults.next != Some(false) {
            platter.lease = Some(record.to_vec());
        }
        platter.fail_as_told(None)
    }

    fn spawn(&self, _name: &'static str, task: Task) {
        let task = tokio::spawn(Pausable { task, disk: self.disk.clone() }).abort_handle();
        let mut platter = self.disk.platter();
        if self.process == platter.process {
            platter.tasks.retain(|task| !task.is_finished());
            platter.tasks.push(task);
        } else {
            drop(platter);
            task.abort();
        }
    }
}

struct SimSnapshot {
    disk: SimDisk,
    commit: u64,
}

impl Snapshot for SimSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        if key.is_empty() || key.len() > MAX_STORAGE_KEY {
            return Err(StorageError::KeyLength(key.len()));
        }
        let mut platter = self.disk.platter();
        platter.check_read()?;
        Ok(platter.rows.get(key).and_then(|versions| Platter::value_at(versions, self.commit)).cloned())
    }

    fn scan(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.disk.platter().check_read()?;
        let mut next = Bytes::copy_from_slice(from);
        let mut page: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        while *next < *until {
            {
                let platter = self.disk.platter();
                let rows = platter.rows.range::<[u8], _>((Bound::Included(&*next), Bound::Excluded(until))).take(PAGE);
                page.extend(rows.map(|(key, versions)| (key.clone(), Platter::value_at(versions, self.commit).cloned())));
            }
            let is_last = page.len() < PAGE;
            if let Some((key, _)) = page.last() {
                next = [key, &[0][..]].concat().into();
            }
            if show(&mut page, visit).is_break() || is_last {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(&self, from: &[u8], until: &[u8], visit: Visitor<'_>) -> Result<(), StorageError> {
        self.disk.platter().check_read()?;
        let mut end = Bytes::copy_from_slice(until);
        let mut page: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        while *from < *end {
            {
                let platter = self.disk.platter();
                let rows = platter.rows.range::<[u8], _>((Bound::Included(from), Bound::Excluded(&*end))).rev().take(PAGE);
                page.extend(rows.map(|(key, versions)| (key.clone(), Platter::value_at(versions, self.commit).cloned())));
            }
            let is_last = page.len() < PAGE;
            if let Some((key, _)) = page.last() {
                end = key.clone();
            }
            if show(&mut page, visit).is_break() || is_last {
                break;
            }
        }
        Ok(())
    }
}

/// Shows a visitor the keys of a page that hold something, until it breaks.
fn show(page: &mut Vec<(Bytes, Option<Bytes>)>, visit: Visitor<'_>) -> ControlFlow<()> {
    page.drain(..).try_for_each(|(key, value)| value.map_or(ControlFlow::Continue(()), |value| visit(&key, &value)))
}

impl Drop for SimSnapshot {
    fn drop(&mut self) {
        let mut platter = self.disk.platter();
        if let Some(count) = platter.snapshots.get_mut(&self.commit) {
            *count -= 1;
            if *count == 0 {
                platter.snapshots.remove(&self.commit);
            }
        }
    }
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
