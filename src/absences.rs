//! Which members are to be replaced in the ring, since they have been down for long.
//!
//! Whoever is down for longer than a patience is *missed* by the peers that see it so, and each tells with its heartbeats whom it misses.
//! Once a majority of all members misses the same one, whoever notices writes it down in the member list, and the ring is built without it. So
//! no side of a network partition replaces the other, but a majority may; and one broken cable between two peers replaces nobody.
//!
//! A peer that comes back takes its place again at once, and is waited for twice as long the next time: one that comes and goes does
//! not make data move to and fro. It is trusted as before when it has stayed up for as long as it would have been waited for.
//!
//! ```text
//! patience 10 min     down 0:00   replaced 0:10   back 0:30   down 0:31   replaced 0:51   back 1:00   up until 1:40: 10 min again
//! ```
//!
//! Time is an argument, in milliseconds that never step back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::members::Members;
use crate::types::PeerId;

/// How often patience is doubled at most: 64 times as long.
const MOST_DOUBLINGS: u32 = 6;

/// How a member has been lately.
#[derive(Clone, Copy, Debug)]
struct Lately {
    is_down: bool,
    /// Since when it is so, or since when it has its place again.
    since_ms: u64,
    absences: u64,
    doublings: u32,
}

/// Who is missed, by whom.
#[derive(Debug)]
pub struct Absences {
    patience_ms: Option<u64>,
    lately: BTreeMap<PeerId, Lately>,
    told: BTreeMap<PeerId, BTreeSet<PeerId>>,
}

impl Absences {
    /// Misses whoever is down for so long; without a patience nobody.
    #[must_use]
    pub fn new(patience: Option<Duration>) -> Self {
        let patience_ms = patience.map(|patience| u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
        Self { patience_ms, lately: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Notes how a member is, and how often it has been replaced and come back.
    pub fn observe(&mut self, peer: PeerId, is_down: bool, absences: u64, now_ms: u64) {
        let patience_ms = self.patience_ms;
        let lately = self.lately.entry(peer).or_insert(Lately { is_down, since_ms: now_ms, absences, doublings: 0 });
        if absences > lately.absences {
            lately.absences = absences;
            if absences.is_multiple_of(2) {
                lately.doublings = (lately.doublings + 1).min(MOST_DOUBLINGS);
                lately.since_ms = now_ms;
            }
        }
        if is_down != lately.is_down {
            (lately.is_down, lately.since_ms) = (is_down, now_ms);
        }
        if !is_down && lately.lasts(patience_ms, now_ms) {
            lately.doublings = 0;
        }
    }

    /// Whom this peer misses.
    #[must_use]
    pub fn missed(&self, now_ms: u64) -> Vec<PeerId> {
        let is_missed = |lately: &Lately| lately.is_down && lately.absences.is_multiple_of(2) && lately.lasts(self.patience_ms, now_ms);
        self.lately.iter().filter(|(_, lately)| is_missed(lately)).map(|(peer, _)| *peer).collect()
    }

    /// A peer told whom it misses.
    pub fn told(&mut self, by: PeerId, missed: Vec<PeerId>) {
        self.told.insert(by, missed.into_iter().collect());
    }

    /// Whom a majority of all members misses: this peer and those that are `up`. Nobody where fewer peers than copies would keep a place.
    #[must_use]
    pub fn to_replace(&self, local: PeerId, members: &Members, up: &BTreeSet<PeerId>, replicas: usize, now_ms: u64) -> Option<PeerId> {
        let (joined, placed) = (members.joined().count(), members.placed().count());
        let is_voter = |peer: &PeerId| *peer == local || up.contains(peer);
        let voters: Vec<PeerId> = members.joined().map(|member| member.peer).filter(is_voter).collect();
        let misses = |voter: &PeerId, missed: PeerId| *voter == local || self.told.get(voter).is_some_and(|told| told.contains(&missed));
        let is_agreed = |missed: &PeerId| voters.iter().filter(|voter| misses(voter, *missed)).count() * 2 > joined;
        let is_placed = |missed: &PeerId| members.get(*missed).is_some_and(|member| member.is_placed());
        let missed = self.missed(now_ms).into_iter();
        missed.filter(|missed| placed > replicas && is_placed(missed)).find(is_agreed)
    }
}

impl Lately {
    /// Whether it has been as it is for as long as it is waited for.
    fn lasts(&self, patience_ms: Option<u64>, now_ms: u64) -> bool {
        let waited_for = patience_ms.map(|patience_ms| patience_ms.saturating_mul(1 << self.doublings));
        waited_for.is_some_and(|waited_for| now_ms.saturating_sub(self.since_ms) >= waited_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{Member, Standing};

    const MINUTE: u64 = 60_000;

    fn peer(name: u8) -> PeerId {
        PeerId([name; 32])
    }

    fn members(count: u8) -> Members {
        let mut members = Members::default();
        for name in 1..=count {
            let (addresses, actors) = (Vec::new(), Vec::new());
            let (zone, capacity, tenure, absences, born_ms, settled, standing) = (None, 1, 0, 0, 1, true, Standing::Joined);
            members.put_own(Member { peer: peer(name), zone, capacity, addresses, actors, tenure, absences, born_ms, settled, standing });
        }
        members
    }

    fn absences() -> Absences {
        Absences::new(Some(Duration::from_secs(600)))
    }

    #[test]
    fn whoever_is_down_for_long_is_missed_and_a_word_begins_the_time_anew() {
        let mut absences = absences();
        absences.observe(peer(5), true, 0, 0);
        absences.observe(peer(5), false, 0, 9 * MINUTE);
        absences.observe(peer(5), true, 0, 9 * MINUTE + 1);
        assert!(absences.missed(19 * MINUTE).is_empty());
        assert_eq!(absences.missed(19 * MINUTE + 1), [peer(5)]);
        let mut never = Absences::new(None);
        never.observe(peer(5), true, 0, 0);
        assert!(never.missed(u64::MAX).is_empty());
    }

    #[test]
    fn only_a_majority_of_all_members_replaces() {
        let (members, mut absences) = (members(5), absences());
        absences.observe(peer(5), true, 0, 0);
        let now_ms = 10 * MINUTE;
        let decide = |absences: &Absences, up: &[u8]| {
            let up = up.iter().map(|name| peer(*name)).collect();
            absences.to_replace(peer(1), &members, &up, 3, now_ms)
        };
        for by in [2, 3] {
            assert_eq!(decide(&absences, &[2, 3, 4]), None);
            absences.told(peer(by), vec![peer(5)]);
        }
        assert_eq!(decide(&absences, &[2, 3, 4]), Some(peer(5)));
        // What somebody said who is away itself by now says nothing of this moment; nor does a stranger's word.
        assert_eq!(decide(&absences, &[2, 4]), None);
        absences.told(peer(9), vec![peer(5)]);
        assert_eq!(decide(&absences, &[2, 4, 9]), None);
        absences.told(peer(3), vec![]);
        assert_eq!(decide(&absences, &[2, 3, 4]), None);
    }

    #[test]
    fn nobody_is_replaced_where_nobody_could_take_its_place() {
        let mut absences = absences();
        absences.observe(peer(4), true, 0, 0);
        absences.told(peer(2), vec![peer(4)]);
        absences.told(peer(3), vec![peer(4)]);
        let up = [peer(2), peer(3)].into();
        let decide = |members: &Members, replicas| absences.to_replace(peer(1), members, &up, replicas, 10 * MINUTE);
        assert_eq!(decide(&members(4), 4), None);
        let mut members = members(4);
        assert_eq!(decide(&members, 3), Some(peer(4)));
        assert!(members.replace(peer(4)) && !members.replace(peer(4)));
        assert_eq!((decide(&members, 3), members.joined().count(), members.placed().count()), (None, 4, 3));
    }

    #[test]
    fn whoever_comes_and_goes_is_waited_for_longer_until_it_has_stayed() {
        let mut absences = absences();
        let mut now_ms = 0;
        let mut replaced_after = |absences: &mut Absences, count: u64| {
            absences.observe(peer(5), true, 2 * count, now_ms);
            let down_ms = now_ms;
            while absences.missed(now_ms).is_empty() {
                now_ms += MINUTE;
            }
            absences.observe(peer(5), true, 2 * count + 1, now_ms);
            assert!(absences.missed(now_ms + 1000 * MINUTE).is_empty(), "it is replaced already");
            let waited = (now_ms - down_ms) / MINUTE;
            absences.observe(peer(5), false, 2 * count + 2, now_ms + MINUTE);
            now_ms += 2 * MINUTE;
            waited
        };
        let waited: Vec<u64> = (0..8).map(|count| replaced_after(&mut absences, count)).collect();
        assert_eq!(waited, [10, 20, 40, 80, 160, 320, 640, 640]);
        let mut later = |absences: &mut Absences, minutes| {
            now_ms += minutes * MINUTE;
            absences.observe(peer(5), false, 16, now_ms);
        };
        later(&mut absences, 700);
        absences.observe(peer(5), true, 16, now_ms);
        assert_eq!((absences.missed(now_ms + 10 * MINUTE - 1).len(), absences.missed(now_ms + 10 * MINUTE).len()), (0, 1));
    }

    #[test]
    fn whoever_is_back_for_others_only_is_not_replaced_again_at_once() {
        let mut absences = absences();
        absences.observe(peer(5), true, 0, 0);
        absences.observe(peer(5), true, 1, 10 * MINUTE);
        absences.observe(peer(5), true, 2, 11 * MINUTE);
        assert!(absences.missed(31 * MINUTE - 1).is_empty());
        assert_eq!(absences.missed(31 * MINUTE), [peer(5)]);
    }
}
