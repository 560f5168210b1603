//! The member list: a small replicated value of its own, gossiped whole.
//!
//! Each member is a register that its own peer writes (`LWWReg` of the `crdts` crate, marked by a version and, where versions are equal,
//! by the content itself, so that no two peers keep different values under one mark). The list is the union. A peer that is down stays
//! a member: only a decision takes it out. Such a decision, its own (LEAVE) or another's (FORGET), ends the peer's *tenure*, and no later version of the
//! same tenure undoes it: a peer that was forgotten while it was away, and renews its record before it hears of that, stays out. It joins again
//! by beginning its next tenure, as a newcomer.
//!
//! A member that has been down for long is *replaced*: it stays a member and loses its place in the ring, until it is back and takes it again. Both are
//! counted in its record, and the greater count wins, so that neither is undone by an older word.

use std::collections::BTreeMap;

use crdts::{CvRDT, LWWReg};
use serde::{Deserialize, Serialize};

use crate::ring::RingMember;
use crate::types::PeerId;

/// Members that a list may name.
pub const MAX_MEMBERS: usize = 1024;
/// Addresses that a member may have, and the length of each in bytes.
pub const MAX_ADDRESSES: (usize, usize) = (16, 256);
/// Authors that a member is remembered by.
pub const MAX_ACTORS: usize = 64;
/// The longest name of a zone, in bytes.
pub const MAX_ZONE: usize = 64;

/// Whether a member takes part in the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// It does.
    Joined,
    /// It has left.
    Left,
    /// It was taken out, since it is gone for good.
    Forgotten,
}

/// What everybody knows of a member.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// Copies of a partition go to different zones.
    pub zone: Option<String>,
    /// Its share of the ring relative to others.
    pub capacity: u32,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// The authors under which it has written, the latest last.
    pub actors: Vec<u64>,
    /// Counts the times that it has joined again after it was out.
    pub tenure: u64,
    /// Counts how often it was replaced since it had been down for long, and how often it was back, in this tenure: odd while it is replaced.
    #[serde(default)]
    pub absences: u64,
    /// When its data folder was made, in milliseconds since 1970: tells who is the newcomer where two clusters meet.
    pub born_ms: u64,
    /// Whether it has been one of several since, with all that it holds synced. Whoever has not is the newcomer, whatever its clock said when it was born.
    #[serde(default)]
    pub settled: bool,
    /// Whether it takes part.
    pub standing: Standing,
}

impl Member {
    /// Whether it has a place in the ring.
    #[must_use]
    pub fn is_placed(&self) -> bool {
        self.standing == Standing::Joined && self.absences.is_multiple_of(2)
    }

    /// Its place in the ring, where it has one.
    #[must_use]
    pub fn seat(&self) -> RingMember {
        RingMember { peer: self.peer, zone: self.zone.clone(), capacity: self.capacity }
    }

    /// What orders members by their age, the oldest first.
    #[must_use]
    pub fn age(&self) -> (bool, u64, PeerId) {
        (!self.settled, self.born_ms, self.peer)
    }

    /// Keeps the first addresses and the latest authors, so that others (and this peer, at its next start) accept the record.
    fn trim(&mut self) {
        self.addresses.retain(|address| address.len() <= MAX_ADDRESSES.1);
        self.addresses.truncate(MAX_ADDRESSES.0);
        self.actors.drain(..self.actors.len().saturating_sub(MAX_ACTORS));
    }

    /// What is wrong with a record that came from outside, if anything.
    fn fault(&self) -> Option<&'static str> {
        if self.addresses.len() > MAX_ADDRESSES.0 || self.addresses.iter().any(|address| address.len() > MAX_ADDRESSES.1) {
            Some("a member has too many or too long addresses")
        } else if self.actors.len() > MAX_ACTORS {
            Some("a member has too many authors")
        } else if self.zone.as_ref().is_some_and(|zone| zone.len() > MAX_ZONE) {
            Some("the name of a zone is too long")
        } else {
            None
        }
    }
}

/// What orders two values of one member: the tenure and whether it is over, its absences, then the version, then the content.
type Marker = ((u64, Standing, u64), u64, Member);

/// Every member that was ever heard of.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, Member)>", into = "Vec<(u64, Member)>")]
pub struct Members {
    registers: BTreeMap<PeerId, LWWReg<(), Marker>>,
}

impl From<Members> for Vec<(u64, Member)> {
    fn from(members: Members) -> Self {
        let record = |register: LWWReg<(), Marker>| (register.marker.1, register.marker.2);
        members.registers.into_values().map(record).collect()
    }
}

impl TryFrom<Vec<(u64, Member)>> for Members {
    type Error = &'static str;

    fn try_from(records: Vec<(u64, Member)>) -> Result<Self, Self::Error> {
        if records.len() > MAX_MEMBERS {
            return Err("a member list names too many members");
        }
        let mut members = Self::default();
        for (version, member) in records {
            if let Some(fault) = member.fault() {
                return Err(fault);
            }
            members.put(version, member);
        }
        Ok(members)
    }
}

impl CvRDT for Members {
    type Validation = std::convert::Infallible;

    fn validate_merge(&self, _other: &Self) -> Result<(), Self::Validation> {
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        for register in other.registers.into_values() {
            let (_, version, member) = register.marker;
            self.put(version, member);
        }
    }
}

impl Members {
    fn put(&mut self, version: u64, member: Member) {
        if self.registers.len() >= MAX_MEMBERS && !self.registers.contains_key(&member.peer) {
            tracing::warn!(peer = %member.peer, "the member list is full; a member was left out");
            return;
        }
        let peer = member.peer;
        let marker = ((member.tenure, member.standing, member.absences), version, member);
        match self.registers.get_mut(&peer) {
            // The content is part of the marker: equal marks are equal values.
            Some(register) => register.merge(LWWReg { val: (), marker }),
            None => {
                self.registers.insert(peer, LWWReg { val: (), marker });
            }
        }
    }

    /// Takes in another list. Whether anything changed.
    pub fn merge_from(&mut self, other: &Self) -> bool {
        let before = self.clone();
        self.merge(other.clone());
        *self != before
    }

    /// Writes a member's record, cut to what a record may hold, in place of whatever is known of it. Whether anything changed.
    pub fn put_own(&mut self, mut member: Member) -> bool {
        member.trim();
        if self.get(member.peer) == Some(&member) {
            return false;
        }
        let version = self.registers.get(&member.peer).map_or(0, |register| register.marker.1);
        self.put(version.saturating_add(1), member);
        true
    }

    /// Ends a member's tenure, or says of one that has left that it is gone for good. Whether that is news.
    pub fn take_out(&mut self, peer: PeerId, standing: Standing) -> bool {
        let Some(member) = self.get(peer).filter(|member| member.standing < standing).cloned() else { return false };
        self.put_own(Member { standing, ..member })
    }

    /// Begins the next tenure of a member whose last one is over. Whether it was.
    pub fn join_again(&mut self, peer: PeerId) -> bool {
        let Some(member) = self.get(peer).filter(|member| member.standing != Standing::Joined).cloned() else { return false };
        self.put_own(Member { standing: Standing::Joined, tenure: member.tenure.saturating_add(1), absences: 0, ..member })
    }

    /// Takes a member's place in the ring away until it is back. Whether it had one.
    pub fn replace(&mut self, peer: PeerId) -> bool {
        let Some(member) = self.get(peer).filter(|member| member.is_placed()).cloned() else { return false };
        self.put_own(Member { absences: member.absences.saturating_add(1), ..member })
    }

    /// Gives a member that was replaced its place back. Whether it was.
    pub fn put_back(&mut self, peer: PeerId) -> bool {
        let is_replaced = |member: &&Member| member.standing == Standing::Joined && !member.is_placed();
        let Some(member) = self.get(peer).filter(is_replaced).cloned() else { return false };
        self.put_own(Member { absences: member.absences.saturating_add(1), ..member })
    }

    /// A member's record.
    #[must_use]
    pub fn get(&self, peer: PeerId) -> Option<&Member> {
        self.registers.get(&peer).map(|register| &register.marker.2)
    }

    /// Every record, in order of peer.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.registers.values().map(|register| &register.marker.2)
    }

    /// The list without a member, and without whoever was born after it.
    #[must_use]
    pub fn older_than(&self, member: Option<&Member>) -> Self {
        let is_older = |other: &Member| member.is_none_or(|member| other.age() < member.age());
        let older = self.registers.iter().filter(|(_, register)| is_older(&register.marker.2));
        Self { registers: older.map(|(peer, register)| (*peer, register.clone())).collect() }
    }

    /// Those that take part.
    pub fn joined(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| member.standing == Standing::Joined)
    }

    /// Those that have a place in the ring.
    pub fn placed(&self) -> impl Iterator<Item = &Member> {
        self.iter().filter(|member| member.is_placed())
    }

    /// Those that were taken out since they are gone for good.
    pub fn forgotten(&self) -> impl Iterator<Item = PeerId> {
        self.iter().filter(|member| member.standing == Standing::Forgotten).map(|member| member.peer)
    }

    /// Those that have a place in the ring, as the ring needs them.
    #[must_use]
    pub fn ring_members(&self) -> Vec<RingMember> {
        self.placed().map(Member::seat).collect()
    }

    /// Names the list as a whole: peers compare it before they send the list.
    #[must_use]
    pub fn digest(&self) -> u64 {
        digest(self)
    }

    /// Names the ring that follows from the list: who is and was in it, never twice the same. A peer that came and went again leaves another
    /// name behind, since its record stays.
    #[must_use]
    pub fn ring_name(&self) -> u64 {
        let place = |member: &Member| (member.peer, member.tenure, member.standing, member.absences, member.zone.clone(), member.capacity);
        digest(&self.iter().map(place).collect::<Vec<_>>())
    }

    /// The member that an author of dots belongs to.
    #[must_use]
    pub fn author_of(&self, actor: u64) -> Option<PeerId> {
        self.iter().find(|member| member.actors.contains(&actor)).map(|member| member.peer)
    }
}

fn digest(value: &impl Serialize) -> u64 {
    let mut bytes = Vec::new();
    // Writing to memory cannot fail.
    let _ = ciborium::into_writer(value, &mut bytes);
    blake3::hash(&bytes).as_bytes().first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
impl Member {
    /// One of several, for tests.
    pub(crate) fn sample(peer: PeerId) -> Self {
        Self {
            peer,
            zone: None,
            capacity: 1,
            addresses: vec![],
            actors: vec![u64::from(peer.0[0])],
            tenure: 0,
            absences: 0,
            born_ms: 1,
            settled: true,
            standing: Standing::Joined,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(peer: u8, capacity: u32) -> Member {
        Member { capacity, ..Member::sample(PeerId([peer; 32])) }
    }

    fn lists() -> impl Strategy<Value = Members> {
        let standing = proptest::sample::select(vec![Standing::Joined, Standing::Left, Standing::Forgotten]);
        proptest::collection::vec((0..4u8, 0..3u64, 0..3u32, 0..2u64, 0..3u64, standing), 0..8).prop_map(|records| {
            let mut members = Members::default();
            for (peer, version, capacity, tenure, absences, standing) in records {
                members.put(version, Member { tenure, absences, standing, ..member(peer, capacity) });
            }
            members
        })
    }

    fn merged(left: &Members, right: &Members) -> Members {
        let mut merged = left.clone();
        merged.merge_from(right);
        merged
    }

    proptest! {
        #[test]
        fn merging_is_idempotent_commutative_and_associative(a in lists(), b in lists(), c in lists()) {
            prop_assert_eq!(merged(&a, &a), a.clone());
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &b).digest(), merged(&b, &a).digest());
        }

        #[test]
        fn a_list_survives_its_bytes(a in lists()) {
            let mut bytes = Vec::new();
            ciborium::into_writer(&a, &mut bytes).unwrap();
            prop_assert_eq!(ciborium::from_reader::<Members, _>(&bytes[..]).unwrap(), a);
        }
    }

    #[test]
    fn a_peers_own_word_beats_what_others_remember() {
        let mut members = Members::default();
        members.put(7, member(1, 9));
        members.put_own(member(1, 2));
        let mut others = Members::default();
        others.put(7, member(1, 9));
        assert!(!members.clone().merge_from(&others));
        assert_eq!(members.get(PeerId([1; 32])).unwrap().capacity, 2);
        assert_eq!(members.author_of(1), Some(PeerId([1; 32])));
    }

    #[test]
    fn whoever_was_taken_out_stays_out_until_it_joins_again() {
        let peer = PeerId([1; 32]);
        let mut away = Members::default();
        away.put_own(member(1, 1));
        let mut others = away.clone();
        assert!(others.take_out(peer, Standing::Left) && others.take_out(peer, Standing::Forgotten), "it left, and is gone for good");
        assert!(!others.take_out(peer, Standing::Forgotten) && !others.take_out(peer, Standing::Left));
        // It has not heard of that, and renews its record again and again.
        (2..9).for_each(|capacity| assert!(away.put_own(member(1, capacity))));
        away.merge_from(&others);
        assert_eq!(away.get(peer).unwrap().standing, Standing::Forgotten);
        assert_eq!((others.joined().count(), others.forgotten().collect::<Vec<_>>()), (0, vec![peer]));
        assert!(away.join_again(peer) && !away.join_again(peer));
        others.merge_from(&away);
        assert_eq!(others.get(peer).map(|member| (member.standing, member.tenure)), Some((Standing::Joined, 1)));
    }

    #[test]
    fn whoever_is_replaced_keeps_its_seat_and_loses_its_place_until_it_is_back() {
        let peer = PeerId([1; 32]);
        let mut away = Members::default();
        away.put_own(member(1, 1));
        let (mut others, name) = (away.clone(), away.ring_name());
        assert!(!others.put_back(peer) && others.replace(peer) && !others.replace(peer));
        // It has not heard of that, and renews its record again and again.
        (2..9).for_each(|capacity| assert!(away.put_own(member(1, capacity))));
        away.merge_from(&others);
        assert_eq!((away.joined().count(), away.ring_members().len()), (1, 0));
        assert!(away.put_back(peer) && !away.put_back(peer));
        others.merge_from(&away);
        assert_eq!(others.ring_members().len(), 1);
        assert_ne!(others.ring_name(), name, "a ring before and one after an absence are two");
    }

    #[test]
    fn an_own_record_is_cut_to_what_others_accept() {
        let addresses: Vec<String> = std::iter::once("x".repeat(MAX_ADDRESSES.1 + 1)).chain((0..40).map(|port| port.to_string())).collect();
        let full = Member { addresses: addresses.clone(), actors: (0..100).collect(), ..member(1, 1) };
        let mut members = Members::default();
        assert!(members.put_own(full.clone()));
        let kept = members.get(full.peer).unwrap().clone();
        assert_eq!(kept.addresses, addresses[1..=MAX_ADDRESSES.0]);
        assert_eq!(kept.actors, (36..100).collect::<Vec<u64>>());
        let records: Vec<(u64, Member)> = members.clone().into();
        assert_eq!(Members::try_from(records).unwrap(), members);
        // The same once more is no news: else every tick would send the list around.
        assert!(!members.put_own(full));
    }

    #[test]
    fn a_list_beyond_its_limits_is_refused() {
        let long = Member { addresses: vec![String::new(); MAX_ADDRESSES.0 + 1], ..member(1, 1) };
        assert!(Members::try_from(vec![(1, long)]).is_err());
        let zoned = Member { zone: Some("z".repeat(MAX_ZONE + 1)), ..member(1, 1) };
        assert!(Members::try_from(vec![(1, zoned)]).is_err());
        let many = (0..=MAX_MEMBERS).map(|index| {
            let mut peer = [0; 32];
            peer[..8].copy_from_slice(&(index as u64).to_be_bytes());
            (1, Member { peer: PeerId(peer), ..member(1, 1) })
        });
        assert!(Members::try_from(many.collect::<Vec<_>>()).is_err());
    }
}
