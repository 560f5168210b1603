//! How far this peer's wall clock is off from what most members say.
//!
//! A peer whose clock is far ahead stamps what nobody else takes ([`crate::hlc`]): what its clients write would stand at this peer alone until that
//! time has come. One whose clock is far behind takes nothing from the others, and so decides on less than there is. So each tells its
//! wall time with its heartbeats, and whoever is off by more than clocks may differ, the same way from a majority of the members, has others
//! carry out what its clients write, and says so, until its clock is right.
//!
//! ```text
//! A 12:00   B 12:00   C 13:30       C is ahead of two of three: A and B carry out what is written at C
//! A 12:00   B 13:30                 which of the two is wrong, nobody can tell
//! ```
//!
//! The time that a heartbeat was on its way counts as if the sender were behind: by far less than clocks may differ.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::config::MAX_DRIFT;
use crate::quorum::majority;
use crate::types::PeerId;

/// What others said of their clocks.
#[derive(Debug, Default)]
pub struct Offsets {
    /// By how many milliseconds this peer's clock was ahead of each.
    ahead: BTreeMap<PeerId, i64>,
}

impl Offsets {
    /// A peer told its wall time, at this one.
    pub fn told(&mut self, peer: PeerId, their_ms: u64, own_ms: u64) {
        let signed = |wall_ms: u64| i64::try_from(wall_ms).unwrap_or(i64::MAX);
        self.ahead.insert(peer, signed(own_ms).saturating_sub(signed(their_ms)));
    }

    /// A peer can't be asked any more.
    pub fn forget(&mut self, peer: PeerId) {
        self.ahead.remove(&peer);
    }

    /// By how many milliseconds this peer's clock is ahead of a majority of these members at least, itself one of them; below 0: behind. 0 where there is no
    /// such majority, or where it is off by no more than clocks may differ.
    #[must_use]
    pub fn judge(&self, members: &[PeerId]) -> i64 {
        let most = i64::try_from(MAX_DRIFT.as_millis()).unwrap_or(i64::MAX);
        let mut ahead: Vec<i64> = members.iter().filter_map(|member| self.ahead.get(member).copied()).collect();
        ahead.sort_unstable();
        let needed = majority(members.len());
        let least_behind = ahead.get(needed - 1).copied().filter(|offset| *offset < -most);
        let least_ahead = ahead.iter().rev().nth(needed - 1).copied().filter(|offset| *offset > most);
        least_ahead.or(least_behind).unwrap_or(0)
    }
}

/// The last judgement, for whoever needs it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Skew {
    ms: Arc<AtomicI64>,
}

impl Skew {
    /// By how many milliseconds this peer's clock is off, as [`Offsets::judge`] says.
    #[must_use]
    pub fn ms(&self) -> i64 {
        self.ms.load(Ordering::Relaxed)
    }

    /// Notes a judgement. Tells whether it is another than before whether this peer's clock is off.
    pub fn judged(&self, ms: i64) -> bool {
        (self.ms.swap(ms, Ordering::Relaxed) == 0) != (ms == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN_MS: u64 = 1_000_000;

    /// So many members; this peer is the last of them.
    fn members(count: u8) -> Vec<PeerId> {
        (0..count).map(|member| PeerId([member; 32])).collect()
    }

    /// What is judged where other clocks are ahead of this one by so many seconds.
    fn judged(count: u8, others: &[i64]) -> i64 {
        let mut offsets = Offsets::default();
        for (peer, ahead) in (0..).zip(others) {
            offsets.told(PeerId([peer; 32]), OWN_MS.saturating_add_signed(ahead * 1_000), OWN_MS);
        }
        offsets.judge(&members(count))
    }

    #[test]
    fn a_clock_is_off_where_a_majority_of_all_members_says_so() {
        assert_eq!(judged(3, &[-61, -90]), 61_000);
        assert_eq!(judged(3, &[61, 90]), -61_000);
        assert_eq!(judged(5, &[-100, 0, -70, -80]), 70_000);
        assert_eq!(judged(5, &[-100, 0, -70]), 0, "two of five");
        assert_eq!(judged(3, &[-90]), 0, "one of three");
        assert_eq!(judged(4, &[-90, -90]), 0, "half is no majority");
    }

    #[test]
    fn clocks_that_differ_by_what_they_may_or_both_ways_are_not_judged() {
        assert_eq!(judged(3, &[-60, -60]), 0);
        assert_eq!(judged(3, &[-90, 90]), 0);
        assert_eq!(judged(1, &[]), 0);
        assert_eq!(judged(2, &[-90]), 0, "nobody can tell which of two is wrong");
    }

    #[test]
    fn who_is_gone_or_no_member_has_no_say() {
        let mut offsets = Offsets::default();
        [1, 2].into_iter().for_each(|peer| offsets.told(PeerId([peer; 32]), 0, u64::MAX));
        assert_eq!(offsets.judge(&members(3)), i64::MAX);
        assert_eq!(offsets.judge(&[0, 1, 7].map(|member| PeerId([member; 32]))), 0);
        offsets.forget(PeerId([1; 32]));
        assert_eq!(offsets.judge(&members(3)), 0);
    }

    #[test]
    fn whoever_needs_it_learns_the_last_judgement_and_changes_are_told_once() {
        let skew = Skew::default();
        assert_eq!([0, 70_000, 71_000, 0].map(|ms| skew.clone().judged(ms)), [false, true, false, true]);
        skew.judged(-61_000);
        assert_eq!(skew.ms(), -61_000);
    }
}
