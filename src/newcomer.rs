//! Where another member list makes this peer a newcomer, and to whom.
//!
//! A peer holds all that a quorum has acknowledged of a partition as long as it was one of the holders all the time, or has pulled from a majority of
//! those who were while it was not. So at each change it asks: in which rings, up to this one, did others hold the partition without it?
//!
//! - The ring before, by its own list.
//! - *Rings that it never saw.* Lists are merged whole, so a peer that was cut off learns of several changes at once. One that is a holder before and after
//!   them may have been none in between, when others acknowledged writes without it. It can't know the order in which things happened, so it
//!   takes every list for possible that has some of the changes and not yet the others:
//!
//!   ```text
//!   A B P    X joins, and takes P's place: A B X    X leaves: A B P    P hears of both: X may have what A or B lacks
//!   ```
//! - The ring of another cluster that it meets. Whoever is younger comes as a newcomer to the other's partitions: as they were before it, and before
//!   whoever is younger still. Else two that join at once would each take the other for a holder before, and know of nobody whom they displaced.
//!
//! A ring too many costs a pull from peers that hold the partition anyway, or did; one too few can cost an acknowledged write.

use std::collections::{BTreeMap, BTreeSet};

use crate::members::{Member, Members};
use crate::ring::{Ring, RingMember};
use crate::types::{Partition, PeerId};

/// For partitions in which a peer is a newcomer, each set of holders before it: it counts for reads once it has pulled from a majority of each.
pub type FormerHolders = BTreeMap<Partition, BTreeSet<BTreeSet<PeerId>>>;

/// Rings that are looked at for one change: enough for six members that came or went unseen at once. Beyond that only those count that are one change
/// away from either end, and those with nearly everybody and nearly nobody.
const MOST_RINGS: usize = 64;
/// Members of all these rings together, so that a large cluster that comes together does not compute rings all the time.
const MOST_SEATS: usize = 2048;
/// Rings that are looked at however many members there are: those with nearly everybody and nearly nobody, the first and the last.
const FEWEST_RINGS: usize = 4;

/// Another member list that is about to be adopted.
pub struct Change<'a> {
    /// The list that this peer had.
    pub known: &'a Members,
    /// The list from which the rings between begin: the same, or one from which on others know better.
    pub before: &'a Members,
    /// The list that it heard.
    pub theirs: &'a Members,
    /// The list that it adopts.
    pub after: &'a Members,
}

impl Change<'_> {
    /// The partitions in which this peer is a newcomer, of so many with so many copies.
    #[must_use]
    pub fn former_holders(&self, local: PeerId, partitions: u16, replicas: usize) -> FormerHolders {
        let build = |members: &Vec<RingMember>| Ring::build(members, partitions, replicas);
        let lists = if self.is_newcomer_to_theirs(local) {
            vec![self.before.ring_members(), self.theirs.older_than(self.known.get(local)).ring_members()]
        } else {
            let paths = self.paths();
            if paths.is_empty() {
                return FormerHolders::new();
            }
            self.between(&paths)
        };
        let after = build(&self.after.ring_members());
        let mut former = FormerHolders::new();
        for ring in lists.iter().map(build) {
            for partition in after.partitions_of(local).filter(|partition| !ring.is_holder(*partition, local)) {
                let holders: BTreeSet<PeerId> = ring.holders(partition).iter().copied().collect();
                if !holders.is_empty() {
                    former.entry(partition).or_default().insert(holders);
                }
            }
        }
        former
    }

    /// Whether the list is that of a cluster which is older than this peer, and which it did not know.
    fn is_newcomer_to_theirs(&self, local: PeerId) -> bool {
        // Also where the others know this peer already: it may have crashed after they heard of it and before it heard of them.
        let Some(own) = self.known.get(local) else { return false };
        let mut strangers = self.theirs.joined().filter(|member| self.known.get(member.peer).is_none());
        strangers.any(|stranger| stranger.age() < own.age())
    }

    /// The members whose place in the ring may have changed, each with the places that it may have had, one after the other.
    fn paths(&self) -> BTreeMap<PeerId, Vec<Option<RingMember>>> {
        let path = |after: &Member| (after.peer, path(self.before.get(after.peer), after));
        self.after.iter().map(path).filter(|(_, path)| path.len() > 1).collect()
    }

    /// The members of the rings that may have been between, that before among them: each member at any place of its path.
    fn between(&self, paths: &BTreeMap<PeerId, Vec<Option<RingMember>>>) -> Vec<Vec<RingMember>> {
        let mut unchanged = self.after.ring_members();
        unchanged.retain(|member| !paths.contains_key(&member.peer));
        let ring = |steps: Vec<usize>| -> Vec<RingMember> {
            let moved = paths.values().zip(steps).filter_map(|(path, step)| path.get(step).cloned().flatten());
            let mut members: Vec<RingMember> = unchanged.iter().cloned().chain(moved).collect();
            members.sort_unstable();
            members
        };
        let lengths: Vec<usize> = paths.values().map(Vec::len).collect();
        let count = lengths.iter().try_fold(1_usize, |count, length| count.checked_mul(*length));
        let most = (MOST_SEATS / (unchanged.len() + paths.len())).clamp(FEWEST_RINGS, MOST_RINGS);
        let rings: BTreeSet<Vec<RingMember>> = match count.filter(|count| *count <= most) {
            Some(count) => (0..count).map(|number| ring(digits(number, &lengths))).collect(),
            None => near_the_ends(&paths.values().collect::<Vec<_>>()).take(most).map(ring).collect(),
        };
        rings.into_iter().collect()
    }
}

/// The places that a member had from one record of it to a later one: those of the two, and what must or may have been between.
fn path(before: Option<&Member>, after: &Member) -> Vec<Option<RingMember>> {
    let place = |member: &Member| member.is_placed().then(|| member.seat());
    let came_and_went = before.map_or(!after.is_placed(), |before| {
        let absences = before.absences.abs_diff(after.absences);
        before.tenure != after.tenure || absences > 1 || (absences == 1 && before.standing != after.standing)
    });
    let mut path = vec![before.and_then(place)];
    if came_and_went {
        path.extend([None, Some(after.seat())]);
    }
    path.push(place(after));
    path.dedup();
    path
}

/// A number written with digits of these bases.
fn digits(mut number: usize, bases: &[usize]) -> Vec<usize> {
    let digit = |base: &usize| {
        let digit = number % base;
        number /= base;
        digit
    };
    bases.iter().map(digit).collect()
}

/// Where all combinations would be too many: all that ever were, all that were never away, the first and the last, then what is one step away from these.
fn near_the_ends<'a>(paths: &'a [&'a Vec<Option<RingMember>>]) -> impl Iterator<Item = Vec<usize>> + 'a {
    let extreme = |placed: bool| paths.iter().map(|path| path.iter().position(|place| place.is_some() == placed).unwrap_or(0)).collect();
    let ends: [Vec<usize>; 2] = [vec![0; paths.len()], paths.iter().map(|path| path.len() - 1).collect()];
    let far = [extreme(true), extreme(false)].into_iter().chain(ends.clone());
    let beside = move |member: usize| {
        let ends = ends.clone();
        (0..paths[member].len()).flat_map(move |step| {
            ends.clone().map(|mut steps| {
                steps[member] = step;
                steps
            })
        })
    };
    far.chain((0..paths.len()).flat_map(beside))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::members::Standing;

    const PARTITIONS: u16 = 64;

    fn id(peer: u8) -> PeerId {
        PeerId(*blake3::hash(&[peer]).as_bytes())
    }

    fn join(members: &mut Members, peer: u8) -> bool {
        members.put_own(Member { born_ms: u64::from(peer), ..Member::sample(id(peer)) })
    }

    fn cluster(peers: impl IntoIterator<Item = u8>) -> Members {
        let mut members = Members::default();
        peers.into_iter().for_each(|peer| assert!(join(&mut members, peer)));
        members
    }

    fn ring(members: &Members) -> Ring {
        Ring::build(&members.ring_members(), PARTITIONS, 3)
    }

    fn former(before: &Members, after: &Members) -> FormerHolders {
        Change { known: before, before, theirs: after, after }.former_holders(id(1), PARTITIONS, 3)
    }

    /// One event of a cluster's life.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Joins(u8),
        Leaves(u8),
        Returns(u8),
        IsReplaced(u8),
        IsBack(u8),
    }

    fn happen(members: &mut Members, event: Event) {
        // Where it can't happen now, nothing does.
        let _ = match event {
            Event::Joins(peer) => members.get(id(peer)).is_none() && join(members, peer),
            Event::Leaves(peer) => members.take_out(id(peer), Standing::Left),
            Event::Returns(peer) => members.join_again(id(peer)),
            Event::IsReplaced(peer) => members.replace(id(peer)),
            Event::IsBack(peer) => members.put_back(id(peer)),
        };
    }

    /// Of other peers than this one, the first.
    fn events() -> impl Strategy<Value = Event> {
        (2..9_u8, 0..5).prop_map(|(peer, kind)| match kind {
            0 => Event::Joins(peer),
            1 => Event::Leaves(peer),
            2 => Event::Returns(peer),
            3 => Event::IsReplaced(peer),
            _ => Event::IsBack(peer),
        })
    }

    proptest! {
        #[test]
        fn no_ring_that_was_missed_is_overlooked(past in prop::collection::vec(events(), 0..6), missed in prop::collection::vec(events(), 0..5)) {
            let mut members = cluster(1..5);
            past.into_iter().for_each(|event| happen(&mut members, event));
            let before = members.clone();
            let rings: Vec<Ring> = std::iter::once(ring(&before))
                .chain(missed.into_iter().map(|event| {
                    happen(&mut members, event);
                    ring(&members)
                }))
                .collect();
            let (former, last) = (former(&before, &members), ring(&members));
            for partition in last.partitions_of(id(1)) {
                for missed in rings.iter().filter(|ring| !ring.is_holder(partition, id(1))) {
                    let holders = missed.holders(partition).iter().copied().collect::<BTreeSet<_>>();
                    prop_assert!(former.get(&partition).is_some_and(|former| former.contains(&holders)), "{partition}: {holders:?}");
                }
            }
        }
    }

    #[test]
    fn a_guest_that_came_and_went_unseen_was_there() {
        for (comes, goes) in [(Event::Joins(5), Event::Leaves(5)), (Event::IsBack(4), Event::IsReplaced(4))] {
            let mut before = cluster(1..5);
            happen(&mut before, Event::IsReplaced(4));
            let (mut meanwhile, without) = (before.clone(), ring(&before));
            happen(&mut meanwhile, comes);
            let with = ring(&meanwhile);
            happen(&mut meanwhile, goes);
            let former = former(&before, &meanwhile);
            let mut lost = without.partitions_of(id(1)).filter(|partition| !with.is_holder(*partition, id(1))).peekable();
            assert!(lost.peek().is_some());
            assert!(lost.all(|partition| former[&partition] == [with.holders(partition).iter().copied().collect()].into()), "{goes:?}");
        }
    }

    #[test]
    fn whoever_holds_a_partition_all_the_time_is_no_newcomer_to_it() {
        let before = cluster(1..5);
        assert!(former(&before, &before).is_empty());
        // It holds more when another leaves, and was a holder of nothing else before.
        let mut after = before.clone();
        happen(&mut after, Event::Leaves(4));
        let gained: BTreeSet<Partition> =
            ring(&after).partitions_of(id(1)).filter(|gained| !ring(&before).is_holder(*gained, id(1))).collect();
        let former = former(&before, &after);
        assert_eq!(former.keys().copied().collect::<BTreeSet<_>>(), gained);
        let before = ring(&before);
        assert!(former.iter().all(|(partition, sets)| *sets == [before.holders(*partition).iter().copied().collect()].into()));
    }

    #[test]
    fn whoever_hears_of_very_many_changes_looks_at_the_fullest_ring_and_at_no_more_than_it_may() {
        for (last, most) in [(12, MOST_RINGS), (100, MOST_SEATS / 100), (250, MOST_SEATS / 250)] {
            let before = cluster(1..5);
            let mut after = cluster(1..=last);
            (4..11).for_each(|peer| happen(&mut after, Event::Leaves(peer)));
            let change = Change { known: &before, before: &before, theirs: &after, after: &after };
            let between = change.between(&change.paths());
            assert!((FEWEST_RINGS..=most).contains(&between.len()), "{} rings of {last}", between.len());
            assert!(between.iter().any(|members| members.len() == usize::from(last)) && between.contains(&before.ring_members()));
        }
    }

    #[test]
    fn whoever_meets_an_elder_cluster_is_a_newcomer_to_all_of_it_and_not_the_other_way_round() {
        let (own, elder) = (cluster([5, 6]), cluster(2..5));
        let mut met = own.clone();
        met.merge_from(&elder);
        let change = |known, theirs| Change { known, before: known, theirs, after: &met };
        let former = change(&own, &elder).former_holders(id(5), PARTITIONS, 3);
        assert_eq!(former.len(), ring(&met).copies(id(5)));
        assert!(former.values().all(|sets| *sets == [(2..5).map(id).collect()].into()));
        let former = change(&elder, &own).former_holders(id(2), PARTITIONS, 3);
        assert!(former.values().flatten().all(|holders| !holders.is_subset(&[5, 6].map(id).into())));
    }
}
