//! A load of writes on a cluster, with a book of what was acknowledged.
//!
//! Each worker writes keys of its own, one command at a time, at any peer that answers, while peers are killed around it. What
//! the book says must hold afterwards at every peer:
//!
//! - a string holds the last acknowledged value, or a later one whose outcome was unknown;
//! - a counter lies between its acknowledged increments and those plus the unknown ones, each counted once at most;
//! - a set holds every acknowledged member, and no member that was removed with success.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redis::{Connection, RedisResult};

/// What one worker's keys must hold.
#[derive(Default, Debug)]
pub(crate) struct Book {
    /// Per string: the last acknowledged value, and later values whose outcome is unknown.
    pub(crate) strings: BTreeMap<String, (Option<u64>, BTreeSet<u64>)>,
    /// Per counter: acknowledged increments, and increments whose outcome is unknown.
    pub(crate) counters: BTreeMap<String, (i64, i64)>,
    /// Per set: members that must be there, members that must not, and members that may.
    pub(crate) sets: BTreeMap<String, SetBook>,
    /// Writes that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Writes whose outcome is unknown.
    pub(crate) unknown: u64,
}

/// What a set must hold.
#[derive(Default, Debug)]
pub(crate) struct SetBook {
    pub(crate) present: BTreeSet<u64>,
    pub(crate) absent: BTreeSet<u64>,
    pub(crate) either: BTreeSet<u64>,
}

/// Where clients of the cluster connect; peers come and go.
#[derive(Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<Vec<Option<String>>>>);

impl Doors {
    /// Sets where a peer is reached; `None` while it is down.
    pub(crate) fn set(&self, index: usize, address: Option<String>) {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doors.len() <= index {
            doors.resize(index + 1, None);
        }
        doors[index] = address;
    }

    /// A connection to some peer, tried in turn from `start`.
    fn connect(&self, start: usize) -> Option<Connection> {
        let doors = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (0..doors.len()).find_map(|step| {
            let address = doors[(start + step) % doors.len()].as_ref()?;
            let client = redis::Client::open(format!("redis://{address}/?protocol=resp3")).ok()?;
            let connection = client.get_connection_with_timeout(Duration::from_secs(2)).ok()?;
            connection.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
            Some(connection)
        })
    }
}

/// Workers that write until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    progress: Arc<Mutex<Vec<u64>>>,
    workers: Vec<JoinHandle<Book>>,
}

impl Load {
    /// Starts workers.
    pub(crate) fn start(doors: &Doors, workers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Mutex::new(vec![0; workers]));
        let spawn = |number| {
            let (doors, stop, progress) = (doors.clone(), Arc::clone(&stop), Arc::clone(&progress));
            thread::spawn(move || work(number, &doors, &stop, &progress))
        };
        let workers = (0..workers).map(spawn).collect();
        Self { stop, progress, workers }
    }

    /// Writes acknowledged so far, by all workers.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).iter().sum()
    }

    /// Stops the workers and returns their books.
    pub(crate) fn finish(self) -> Vec<Book> {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.into_iter().map(|worker| worker.join().expect("a worker ends")).collect()
    }
}

/// Whether an answer with an error says that nothing was done. Only then a retry is no second write.
fn nothing_was_done(error: &redis::RedisError) -> bool {
    matches!(error.code(), Some("BUSY" | "SYNCING" | "NOREPLICA" | "DISKFULL"))
}

fn work(number: usize, doors: &Doors, stop: &AtomicBool, progress: &Mutex<Vec<u64>>) -> Book {
    let mut book = Book::default();
    let mut connection = None;
    let mut step = 0u64;
    while !stop.load(Ordering::Relaxed) {
        step += 1;
        if connection.is_none() || step.is_multiple_of(64) {
            connection = doors.connect(number + usize::try_from(step).unwrap_or(0));
        }
        let Some(open) = connection.as_mut() else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        match write(number, step, open, &mut book) {
            Ok(()) => book.acknowledged += 1,
            Err(error) => {
                book.unknown += u64::from(!nothing_was_done(&error));
                connection = None;
            }
        }
        progress.lock().unwrap_or_else(PoisonError::into_inner)[number] = book.acknowledged;
    }
    book
}

/// One write of the worker, entered in its book.
fn write(number: usize, step: u64, connection: &mut Connection, book: &mut Book) -> RedisResult<()> {
    let slot = (step / 4) % 20;
    match step % 4 {
        0 => {
            let key = format!("string:{number}:{slot}");
            let outcome: RedisResult<()> = redis::cmd("SET").arg(&key).arg(step).query(connection);
            let (last, later) = book.strings.entry(key).or_default();
            match &outcome {
                Ok(()) => {
                    *last = Some(step);
                    later.clear();
                }
                Err(error) if nothing_was_done(error) => {}
                Err(_) => drop(later.insert(step)),
            }
            outcome
        }
        1 => {
            let key = format!("counter:{number}:{}", slot % 5);
            let outcome: RedisResult<i64> = redis::cmd("INCR").arg(&key).query(connection);
            let (sure, unsure) = book.counters.entry(key).or_default();
            match &outcome {
                Ok(_) => *sure += 1,
                Err(error) if nothing_was_done(error) => {}
                Err(_) => *unsure += 1,
            }
            outcome.map(drop)
        }
        2 => {
            let key = format!("set:{number}:{}", slot % 5);
            let outcome: RedisResult<i64> = redis::cmd("SADD").arg(&key).arg(step).query(connection);
            let set = book.sets.entry(key).or_default();
            match &outcome {
                Ok(_) => drop(set.present.insert(step)),
                Err(error) if nothing_was_done(error) => {}
                Err(_) => drop(set.either.insert(step)),
            }
            outcome.map(drop)
        }
        _ => {
            let key = format!("set:{number}:{}", slot % 5);
            let set = book.sets.entry(key.clone()).or_default();
            let Some(member) = set.present.first().copied().filter(|_| set.present.len() > 10) else { return Ok(()) };
            let outcome: RedisResult<i64> = redis::cmd("SREM").arg(&key).arg(member).query(connection);
            match &outcome {
                // A peer that has not seen the member yet removes nothing; then it stays.
                Ok(1) => {
                    set.present.remove(&member);
                    set.absent.insert(member);
                }
                Ok(_) => {}
                Err(error) if nothing_was_done(error) => {}
                Err(_) => {
                    set.present.remove(&member);
                    set.either.insert(member);
                }
            }
            outcome.map(drop)
        }
    }
}

impl Book {
    /// What is wrong with the keys as one peer tells them.
    pub(crate) fn faults(&self, connection: &mut Connection) -> Vec<String> {
        let mut faults = Vec::new();
        for (key, (last, later)) in &self.strings {
            let value: RedisResult<Option<u64>> = redis::cmd("GET").arg(key).query(connection);
            let good = matches!(&value, Ok(value) if value == last || value.is_some_and(|value| later.contains(&value)));
            if !good {
                faults.push(format!("{key} is {value:?}, acknowledged was {last:?}, unknown are {later:?}"));
            }
        }
        for (key, (sure, unsure)) in &self.counters {
            let value: RedisResult<Option<i64>> = redis::cmd("GET").arg(key).query(connection);
            let good = matches!(&value, Ok(value) if (*sure..=sure + unsure).contains(&value.unwrap_or(0)));
            if !good {
                faults.push(format!("{key} is {value:?}, acknowledged were {sure}, unknown are {unsure}"));
            }
        }
        for (key, set) in &self.sets {
            let members: BTreeSet<u64> = match redis::cmd("SMEMBERS").arg(key).query(connection) {
                Ok(members) => members,
                Err(error) => {
                    faults.push(format!("{key} cannot be read: {error}"));
                    continue;
                }
            };
            let lost: Vec<_> = set.present.difference(&members).collect();
            let back: Vec<_> = set.absent.intersection(&members).collect();
            let strange: Vec<_> = members.iter().filter(|member| !set.present.contains(member) && !set.either.contains(member)).collect();
            if !(lost.is_empty() && back.is_empty() && strange.is_empty()) {
                faults.push(format!("{key}: lost {lost:?}, back again {back:?}, of unknown origin {strange:?}"));
            }
        }
        faults
    }
}
