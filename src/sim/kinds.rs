//! The kinds of faults, and which of them met: were there at the same time in one run.
//!
//! Bugs live where two faults meet that nobody thought of together, so a run tells which pairs did. A fault lasts from its strike
//! until it is mended, and a little longer for what it leaves behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Frames get lost over connections that stay.
    Loss,
    /// Frames arrive twice.
    Duplicates,
    /// Frames overtake each other.
    Reordering,
    /// Frames take long.
    Delay,
    /// Nothing gets through in one direction between two peers.
    OneWayCut,
    /// Nothing gets through between two peers that both reach others.
    PartialCut,
    /// The peers fall into two groups that reach nobody of the other.
    Split,
    /// A link stays open and moves nothing, or a trickle.
    Clog,
    /// A process ends without being asked.
    Kill,
    /// A machine ends: what was not synced is lost, all of it or its end.
    PowerLoss,
    /// A process stands still for a while, and goes on.
    Pause,
    /// A peer comes back with a blank disk under its old identity.
    Wipe,
    /// A peer comes back with an older copy of its disk.
    Restore,
    /// A second process runs on a copy of a peer's disk, under its identity.
    Twin,
    /// A commit, a sync or a lease fails.
    WriteError,
    /// A read fails.
    ReadError,
    /// There is no room on a disk.
    FullDisk,
    /// A stored row is changed behind the back of its peer.
    BitFlip,
    /// A stored row is gone behind the back of its peer.
    LostRow,
    /// A stored row is again what it was before, behind the back of its peer.
    StaleRow,
    /// A wall clock steps, forth or back.
    ClockStep,
    /// A wall clock stands still, and then steps to where it would be.
    ClockFreeze,
    /// A wall clock is further ahead than peers believe.
    ClockFarAhead,
    /// A peer joins.
    Join,
    /// A peer leaves.
    Leave,
    /// A peer that is down is taken out for good, and comes back later.
    Forget,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Loss,
        Self::Duplicates,
        Self::Reordering,
        Self::Delay,
        Self::OneWayCut,
        Self::PartialCut,
        Self::Split,
        Self::Clog,
        Self::Kill,
        Self::PowerLoss,
        Self::Pause,
        Self::Wipe,
        Self::Restore,
        Self::Twin,
        Self::WriteError,
        Self::ReadError,
        Self::FullDisk,
        Self::BitFlip,
        Self::LostRow,
        Self::StaleRow,
        Self::ClockStep,
        Self::ClockFreeze,
        Self::ClockFarAhead,
        Self::Join,
        Self::Leave,
        Self::Forget,
    ];

    /// Its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicates => "duplicates",
            Self::Reordering => "reordering",
            Self::Delay => "delay",
            Self::OneWayCut => "one-way cut",
            Self::PartialCut => "partial cut",
            Self::Split => "split",
            Self::Clog => "clog",
            Self::Kill => "kill",
            Self::PowerLoss => "power loss",
            Self::Pause => "pause",
            Self::Wipe => "wipe",
            Self::Restore => "restore",
            Self::Twin => "twin",
            Self::WriteError => "write error",
            Self::ReadError => "read error",
            Self::FullDisk => "full disk",
            Self::BitFlip => "bit flip",
            Self::LostRow => "lost row",
            Self::StaleRow => "stale row",
            Self::ClockStep => "clock step",
            Self::ClockFreeze => "clock freeze",
            Self::ClockFarAhead => "clock far ahead",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Forget => "forget",
        }
    }
}

/// How often each kind of fault reached the code that it is meant for: a frame was lost, a commit refused, a clock read while it stood still. A fault that
/// strikes and reaches nobody tests nothing.
pub type Reached = BTreeMap<Kind, u64>;

/// The kinds of which it is counted; the others do all that they do in the moment in which they strike.
pub const COUNTED: [Kind; 9] = [
    Kind::Loss,
    Kind::Duplicates,
    Kind::Clog,
    Kind::Pause,
    Kind::WriteError,
    Kind::ReadError,
    Kind::FullDisk,
    Kind::ClockFreeze,
    Kind::Forget,
];

/// Adds what another counted.
pub fn add(reached: &mut Reached, other: Reached) {
    other.into_iter().for_each(|(kind, count)| *reached.entry(kind).or_default() += count);
}

/// Pairs of kinds that met in one run, the lesser first; a kind also meets itself.
pub type Met = BTreeSet<(Kind, Kind)>;

/// Pairs that never met are named up to this number.
const MOST_NAMED: usize = 20;

/// In how many runs each pair of kinds met. Shown as a table, below it the pairs that never did, or their number where they are many.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    runs: BTreeMap<(Kind, Kind), u64>,
}

impl Matrix {
    /// Counts what met in one run.
    pub fn count(&mut self, met: &Met) {
        met.iter().for_each(|pair| *self.runs.entry(*pair).or_default() += 1);
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: Self) {
        other.runs.into_iter().for_each(|(pair, runs)| *self.runs.entry(pair).or_default() += runs);
    }

    /// The pairs of different kinds that never met.
    pub fn never_met(&self) -> impl Iterator<Item = (Kind, Kind)> {
        let pairs = Kind::ALL.iter().flat_map(|one| Kind::ALL.iter().map(|other| (*one, *other)));
        pairs.filter(|(one, other)| one < other && !self.runs.contains_key(&(*one, *other)))
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "runs in which two kinds of faults met:")?;
        write!(f, "{:19}", "")?;
        for number in 1..=Kind::COUNT {
            write!(f, "{number:5}")?;
        }
        writeln!(f)?;
        for (number, row) in (1..).zip(Kind::ALL) {
            write!(f, "{number:2} {:16}", row.name())?;
            for column in Kind::ALL.iter().take_while(|column| **column <= row) {
                match self.runs.get(&(*column, row)) {
                    Some(runs) => write!(f, "{runs:5}")?,
                    None => write!(f, "{:>5}", "-")?,
                }
            }
            writeln!(f)?;
        }
        let never: Vec<String> = self.never_met().map(|(one, other)| format!("{} and {}", one.name(), other.name())).collect();
        match never.len() {
            0 => write!(f, "every two kinds met"),
            1..=MOST_NAMED => write!(f, "never met: {}", never.join(", ")),
            number => write!(f, "{number} pairs never met"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_counts_runs_and_names_what_never_met() {
        let mut matrix = Matrix::default();
        matrix.count(&Met::from([(Kind::Loss, Kind::Kill), (Kind::Kill, Kind::Kill)]));
        matrix.count(&Met::from([(Kind::Loss, Kind::Kill)]));
        assert_eq!(matrix.never_met().count(), Kind::COUNT * (Kind::COUNT - 1) / 2 - 1);
        let shown = matrix.to_string();
        let row = shown.lines().find(|line| line.contains("kill")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["9", "kill", "2", "-", "-", "-", "-", "-", "-", "-", "1"]);
        assert!(shown.ends_with("324 pairs never met"), "{shown}");
        let pairs = Kind::ALL.iter().flat_map(|one| Kind::ALL.iter().map(|other| (*one, *other)));
        matrix.count(&pairs.filter(|(one, other)| *one < Kind::Leave || *other < Kind::Leave).collect());
        assert!(matrix.to_string().ends_with("never met: leave and forget"));
        matrix.count(&Kind::ALL.iter().flat_map(|one| Kind::ALL.iter().map(|other| (*one, *other))).collect());
        assert!(matrix.to_string().ends_with("every two kinds met"));
    }

    #[test]
    fn kinds_are_listed_in_their_order() {
        assert!(Kind::ALL.is_sorted());
    }
}
