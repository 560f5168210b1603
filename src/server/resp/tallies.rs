//! What is counted for each command and each kind of error: for INFO's commandstats, latencystats and errorstats.
//!
//! Times are kept as a histogram with four buckets an octave, so that a percentile is right to within a quarter.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Kinds of errors that are told apart; what comes beyond is counted as a whole only. As in Redis.
const MOST_KINDS: usize = 128;
/// Longest kind of an error, in bytes.
const LONGEST_KIND: usize = 32;
/// Buckets: four for each power of two microseconds up to some hours.
const BUCKETS: usize = 4 * 36;

/// How a command came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was carried out.
    Done,
    /// It was carried out, and answered with an error.
    Failed,
    /// It was not even looked at.
    Rejected,
}

/// One command's figures.
#[derive(Default)]
pub(crate) struct Tally {
    calls: AtomicU64,
    microseconds: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    /// There once the command was called.
    times: OnceLock<Box<[AtomicU64; BUCKETS]>>,
}

/// One command's figures at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Figures {
    /// How often it was carried out.
    pub(crate) calls: u64,
    /// How long that took altogether.
    pub(crate) microseconds: u64,
    /// How often it was refused before.
    pub(crate) rejected: u64,
    /// How often it answered with an error.
    pub(crate) failed: u64,
    /// How many calls ended within each bucket of time.
    times: Vec<u64>,
}

/// Everybody's figures.
pub(crate) struct Tallies {
    rows: Vec<Tally>,
    /// Short: one number is raised, or all are copied.
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Tallies {
    /// For a table of so many rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self { rows: std::iter::repeat_with(Tally::default).take(rows).collect(), errors: Mutex::default() }
    }

    fn errors(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a command.
    pub(crate) fn count(&self, row: usize, took: Duration, outcome: Outcome) {
        let Some(tally) = self.rows.get(row) else { return };
        if outcome == Outcome::Rejected {
            tally.rejected.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tally.calls.fetch_add(1, Ordering::Relaxed);
        tally.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        if outcome == Outcome::Failed {
            tally.failed.fetch_add(1, Ordering::Relaxed);
        }
        let times = tally.times.get_or_init(|| Box::new(std::array::from_fn(|_| AtomicU64::new(0))));
        times[bucket(microseconds)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an error by its first word.
    pub(crate) fn count_error(&self, text: &str) {
        let kind: String = text.split([' ', '\r', '\n']).next().unwrap_or_default().chars().take(LONGEST_KIND).collect();
        let mut errors = self.errors();
        if errors.len() < MOST_KINDS || errors.contains_key(&kind) {
            *errors.entry(kind).or_default() += 1;
        }
    }

    /// How often errors of each kind were answered.
    pub(crate) fn errors_by_kind(&self) -> BTreeMap<String, u64> {
        self.errors().clone()
    }

    /// The figures of one command; `None` where it never came.
    pub(crate) fn figures(&self, row: usize) -> Option<Figures> {
        let tally = self.rows.get(row)?;
        let [calls, microseconds, rejected, failed] =
            [&tally.calls, &tally.microseconds, &tally.rejected, &tally.failed].map(|number| number.load(Ordering::Relaxed));
        let times = tally.times.get().map(|times| times.iter().map(|count| count.load(Ordering::Relaxed)).collect());
        (calls + rejected > 0).then(|| Figures { calls, microseconds, rejected, failed, times: times.unwrap_or_default() })
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        self.errors().clear();
        for Tally { calls, microseconds, rejected, failed, times } in &self.rows {
            let times = times.get().into_iter().flat_map(|times| times.iter());
            [calls, microseconds, rejected, failed].into_iter().chain(times).for_each(|number| number.store(0, Ordering::Relaxed));
        }
    }
}

impl Figures {
    /// How long one call took on average, in microseconds.
    #[expect(clippy::cast_precision_loss, reason = "for people, with two digits behind the point")]
    pub(crate) fn microseconds_per_call(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.microseconds as f64 / self.calls as f64 }
    }

    /// The time within which so many of a thousand calls ended, in microseconds.
    pub(crate) fn percentile(&self, permille: u64) -> u64 {
        let total: u64 = self.times.iter().sum();
        let wanted = (total * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let last = self.times.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        last.map_or(0, upper)
    }

    /// How many calls ended within 1, 2, 4, … microseconds: the powers at which that number grows.
    pub(crate) fn by_powers(&self) -> Vec<(u64, u64)> {
        let (mut powers, mut seen) = (Vec::new(), 0);
        for (exponent, four) in (0u32..).zip(self.times.chunks(4)) {
            let more: u64 = four.iter().sum();
            seen += more;
            if more > 0 {
                powers.push((1 << (exponent + 1), seen));
            }
        }
        powers
    }
}

/// The bucket of a time: the place of its highest bit, and the two bits behind.
fn bucket(microseconds: u64) -> usize {
    let exponent = (microseconds | 1).ilog2();
    let quarter = if exponent < 2 { microseconds << (2 - exponent) } else { microseconds >> (exponent - 2) } & 3;
    let index = u64::from(exponent) * 4 + quarter;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn upper(bucket: usize) -> u64 {
    let (exponent, quarter) = (bucket / 4, bucket as u64 % 4);
    if exponent < 2 { ((4 + quarter) << exponent) / 4 } else { ((5 + quarter) << (exponent - 2)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lies_within_its_bucket() {
        for time in (0..5_000).chain([1 << 20, (1 << 30) + 12_345]) {
            let upper = upper(bucket(time));
            assert!(upper >= time && upper <= time + time / 4 + 1, "{time} {upper}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn commands_are_counted_by_how_they_came_out() {
        let tallies = Tallies::new(2);
        for (micros, outcome) in [(10, Outcome::Done), (20, Outcome::Failed), (1_000, Outcome::Done), (0, Outcome::Rejected)] {
            tallies.count(1, Duration::from_micros(micros), outcome);
        }
        assert_eq!(tallies.figures(0), None);
        let figures = tallies.figures(1).unwrap();
        assert_eq!((figures.calls, figures.microseconds, figures.rejected, figures.failed), (3, 1_030, 1, 1));
        assert!((20..26).contains(&figures.percentile(500)) && figures.percentile(999) >= 1_000);
        assert_eq!(figures.by_powers(), [(16, 1), (32, 2), (1024, 3)]);
        tallies.reset();
        assert_eq!(tallies.figures(1), None);
    }

    #[test]
    fn no_more_kinds_of_errors_are_kept_than_there_may_be() {
        let tallies = Tallies::new(0);
        for number in 0..1_000 {
            tallies.count_error(&format!("KIND{number} text"));
        }
        tallies.count_error("KIND1");
        assert_eq!(tallies.errors_by_kind().len(), MOST_KINDS);
        assert_eq!(tallies.errors_by_kind()["KIND1"], 2);
    }
}
