//! The commands that took longest to answer, the latest ones.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

/// Arguments of one entry, and bytes of each, as in Redis: what is left out is told.
const MOST_ARGUMENTS: usize = 32;
/// See [`MOST_ARGUMENTS`].
const LONGEST_ARGUMENT: usize = 128;
/// Entries that are kept, whatever is asked for: about 5 kB each.
const MOST_ENTRIES: usize = 10_000;

/// One command that took long.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Counted from 0.
    pub(crate) id: i64,
    /// When it was answered, in seconds since 1970.
    pub(crate) at_s: i64,
    /// How long it took, waiting for other peers included.
    pub(crate) took: Duration,
    /// Its beginning.
    pub(crate) arguments: Vec<Bytes>,
    /// Address of the client.
    pub(crate) address: String,
    /// Name of the client.
    pub(crate) name: String,
}

/// The log.
pub(crate) struct SlowLog {
    /// Commands that take so long are logged, in microseconds; negative: none.
    pub(crate) threshold_us: AtomicI64,
    /// How many entries are kept.
    pub(crate) length: AtomicUsize,
    /// Short: an entry is added, or all are copied.
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    next_id: i64,
    entries: VecDeque<Entry>,
}

impl Default for SlowLog {
    fn default() -> Self {
        Self { threshold_us: AtomicI64::new(10_000), length: AtomicUsize::new(128), log: Mutex::default() }
    }
}

impl SlowLog {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a command that took so long is logged.
    pub(crate) fn wants(&self, took: Duration) -> bool {
        let threshold = u128::try_from(self.threshold_us.load(Ordering::Relaxed));
        threshold.is_ok_and(|threshold| took.as_micros() >= threshold)
    }

    /// Logs a command.
    pub(crate) fn add(&self, arguments: &[Bytes], took: Duration, at_s: i64, address: String, name: String) {
        let length = self.length.load(Ordering::Relaxed).min(MOST_ENTRIES);
        let mut log = self.log();
        let entry = Entry { id: log.next_id, at_s, took, arguments: beginning(arguments), address, name };
        log.next_id += 1;
        log.entries.push_front(entry);
        log.entries.truncate(length);
    }

    /// The latest entries first.
    pub(crate) fn latest(&self, count: usize) -> Vec<Entry> {
        self.log().entries.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.log().entries.len()
    }

    /// Forgets all entries.
    pub(crate) fn reset(&self) {
        self.log().entries.clear();
    }
}

/// The beginning of a command, without what a password may be.
fn beginning(arguments: &[Bytes]) -> Vec<Bytes> {
    let secret = arguments.first().is_some_and(|name| [&b"auth"[..], b"hello"].iter().any(|word| name.eq_ignore_ascii_case(word)));
    let shown = if arguments.len() > MOST_ARGUMENTS { MOST_ARGUMENTS - 1 } else { arguments.len() };
    let mut beginning: Vec<Bytes> = arguments[..shown].iter().map(shortened).collect();
    if secret {
        beginning.iter_mut().skip(1).for_each(|argument| *argument = Bytes::from_static(b"(redacted)"));
    }
    if shown < arguments.len() {
        beginning.push(format!("... ({} more arguments)", arguments.len() - shown).into());
    }
    beginning
}

/// A copy, so that no buffer is kept.
fn shortened(argument: &Bytes) -> Bytes {
    match argument.len().checked_sub(LONGEST_ARGUMENT) {
        None | Some(0) => Bytes::copy_from_slice(argument),
        Some(more) => [&argument[..LONGEST_ARGUMENT], format!("... ({more} more bytes)").as_bytes()].concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &SlowLog, arguments: &[Bytes]) {
        log.add(arguments, Duration::from_millis(20), 7, String::new(), String::new());
    }

    #[test]
    fn the_latest_are_kept_and_told_first() {
        let log = SlowLog::default();
        log.length.store(2, Ordering::Relaxed);
        (0..3).for_each(|number| add(&log, &[format!("{number}").into()]));
        assert_eq!(log.latest(10).iter().map(|entry| entry.id).collect::<Vec<_>>(), [2, 1]);
        log.reset();
        assert_eq!(log.len(), 0);
        assert!(log.wants(Duration::from_millis(10)) && !log.wants(Duration::from_millis(9)));
        log.threshold_us.store(-1, Ordering::Relaxed);
        assert!(!log.wants(Duration::from_secs(10)));
    }

    #[test]
    fn long_commands_are_cut_as_redis_cuts_them_and_no_password_is_kept() {
        let log = SlowLog::default();
        add(&log, &vec![vec![b'a'; 200].into(); 40]);
        let arguments = log.latest(1).remove(0).arguments;
        assert_eq!(arguments.len(), 32);
        assert!(arguments[0].ends_with(b"aaa... (72 more bytes)"));
        assert_eq!(arguments[31], "... (9 more arguments)");
        add(&log, &["AUTH".into(), "sesame".into()]);
        assert_eq!(log.latest(1).remove(0).arguments, ["AUTH", "(redacted)"]);
    }
}
