//! What simulated clients were promised, by the acknowledgements alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::expiry::{Command, Outcome};

/// What clients know of one counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The sum of acknowledged increments.
    pub acknowledged: i64,
    /// By how much the counter may differ from it: the sum of increments whose outcome is unknown, and what was lost with a disk.
    pub unknown: i64,
}

/// What clients know of one member of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its add was acknowledged.
    pub added: bool,
    /// A remove of it was sent.
    pub removal_sent: bool,
    /// It was lost with the only disk that held it.
    pub lost: bool,
}

impl Membership {
    /// Whether the member has to be there.
    #[must_use]
    pub fn is_promised(&self) -> bool {
        self.added && !self.removal_sent && !self.lost
    }
}

/// One value that was written to a string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub bytes: Bytes,
    /// Whether its write was acknowledged.
    pub acknowledged: bool,
    /// Whether it was lost with the only disk that held it, or what replaced it was.
    pub lost: bool,
}

/// What clients were promised.
#[derive(Debug, Default)]
pub struct History {
    /// By key.
    pub counters: BTreeMap<Bytes, Counted>,
    /// By key and member.
    pub sets: BTreeMap<Bytes, BTreeMap<Bytes, Membership>>,
    /// By key: values in the order they were written.
    pub strings: BTreeMap<Bytes, Vec<Value>>,
    /// By key that may expire: the commands on it, in order.
    pub expiring: BTreeMap<Bytes, Vec<Command>>,
    /// Keys that may expire of which nothing is promised any more: a decision on them was lost with the only disk that held it.
    pub open: BTreeSet<Bytes>,
    /// Keys that a write is under way for, where a key has one writer.
    pub(super) writing: BTreeSet<Bytes>,
    /// Whether a command that was given up may be executed at any later time: peers stand still, or links are clogged.
    pub lingers: bool,
    /// Commands that were acknowledged.
    pub acknowledged: u64,
    /// Commands that failed or whose outcome is unknown.
    pub failed: u64,
}

impl History {
    pub(super) fn count(&mut self, acknowledged: bool) {
        if acknowledged {
            self.acknowledged += 1;
        } else {
            self.failed += 1;
        }
    }

    /// The values of a string of which one has to be among its siblings; `None` where nothing is promised.
    #[must_use]
    pub fn values_kept(&self, key: &Bytes) -> Option<Vec<&Bytes>> {
        let written = self.strings.get(key)?;
        let last = written.iter().rposition(|value| value.acknowledged && !value.lost)?;
        // A write that was given up and is executed later replaces what was written after it.
        let late = written[..last].iter().filter(|value| self.lingers && !value.acknowledged);
        Some(late.chain(&written[last..]).map(|value| &value.bytes).collect())
    }

    /// Every key of which something is promised, but for those that may expire.
    pub fn lasting_keys(&self) -> impl Iterator<Item = &Bytes> {
        self.counters.keys().chain(self.sets.keys()).chain(self.strings.keys())
    }

    /// Keys that may expire and of which something is promised, with the commands on them.
    pub fn expiring_keys(&self) -> impl Iterator<Item = (&Bytes, &[Command])> {
        self.expiring.iter().filter(|(key, _)| !self.open.contains(*key)).map(|(key, commands)| (key, commands.as_slice()))
    }

    /// The last brief end that any command gave a key, in milliseconds since 1970.
    #[must_use]
    pub fn last_end_ms(&self) -> u64 {
        let brief = self.expiring.values().flatten().filter(|command| command.is_brief());
        brief.filter_map(Command::end).max().unwrap_or(0)
    }

    /// The outcome of a command that got no answer.
    #[must_use]
    pub fn unanswered(&self) -> Outcome {
        if self.lingers { Outcome::Adrift } else { Outcome::Unknown }
    }
}
