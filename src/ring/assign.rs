//! The walk: partitions find their holders.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::shares::Shares;
use super::tokens::Token;

/// Per partition its holders in order of preference, as indices into the list of members.
pub(super) fn assign(tokens: &[Token], shares: &Shares, partitions: u16) -> Vec<Vec<usize>> {
    let mut assignment = Assignment::new(shares, partitions);
    assignment.walk(tokens);
    for partition in 0..usize::from(partitions) {
        while assignment.holders[partition].len() < shares.copies && assignment.make_room(partition) {}
    }
    assignment.holders
}

struct Assignment<'a> {
    shares: &'a Shares,
    holders: Vec<Vec<usize>>,
    /// Per member the copies that it holds.
    load: Vec<usize>,
}

impl<'a> Assignment<'a> {
    fn new(shares: &'a Shares, partitions: u16) -> Self {
        Self { shares, holders: vec![Vec::new(); usize::from(partitions)], load: vec![0; shares.zone.len()] }
    }

    /// All partitions walk at one speed and take what they meet. A few may end short of copies: those that are left over when
    /// nearly all places are taken.
    fn walk(&mut self, tokens: &[Token]) {
        if self.shares.copies == 0 {
            return;
        }
        let count = self.holders.len() as u128;
        let walks: Vec<(u64, usize)> = (0..count)
            .map(|partition| {
                let point = u64::try_from((partition << 64) / count).unwrap_or(u64::MAX);
                (point, tokens.partition_point(|token| token.position < point))
            })
            .collect();
        let token = |partition: usize, step: usize| tokens[(walks[partition].1 + step) % tokens.len()];
        // What a partition cannot take now it can never take later, so it passes by at once.
        let next = |assignment: &Self, partition: usize, from: usize| {
            let step = (from..tokens.len()).find(|step| assignment.may_take(partition, token(partition, *step).member))?;
            Some(Reverse((token(partition, step).position.wrapping_sub(walks[partition].0), partition, step)))
        };
        let mut meetings: BinaryHeap<_> = (0..walks.len()).filter_map(|partition| next(self, partition, 0)).collect();
        while let Some(Reverse((_, partition, step))) = meetings.pop() {
            let member = token(partition, step).member;
            if self.may_take(partition, member) {
                self.holders[partition].push(member);
                self.load[member] += 1;
            }
            if self.holders[partition].len() < self.shares.copies {
                meetings.extend(next(self, partition, step + 1));
            }
        }
    }

    fn may_take(&self, partition: usize, member: usize) -> bool {
        self.load[member] < self.shares.places[member] && self.may_hold(partition, member, None)
    }

    /// Whether a member could become a holder of a partition, if `leaving` were none any more.
    fn may_hold(&self, partition: usize, member: usize, leaving: Option<usize>) -> bool {
        let holders = &self.holders[partition];
        let zone = self.shares.zone[member];
        let in_zone = holders.iter().filter(|holder| self.shares.zone[**holder] == zone && Some(**holder) != leaving).count();
        !holders.contains(&member) && in_zone < self.shares.per_zone
    }

    /// Finds one more holder for a partition where those with room hold it already: another member takes it and hands one of its own
    /// partitions on, perhaps over several members. The shortest such chain, found breadth first.
    ///
    /// There is always one. Every member offers its fair share of places or more, and were copies divisible, each partition could
    /// give each member that share of itself; so the flow of copies to places can be completed, and a shortest augmenting path does it
    /// (Ford and Fulkerson, 1956).
    fn make_room(&mut self, partition: usize) -> bool {
        // Member reached -> who hands it which partition.
        let mut reached: BTreeMap<usize, (Option<usize>, usize)> = BTreeMap::new();
        let mut unreached: Vec<usize> = (0..self.load.len()).collect();
        let mut queue = VecDeque::new();
        let (mut from, mut handed) = (None, vec![partition]);
        loop {
            for partition in handed {
                let next: Vec<usize> = unreached.extract_if(.., |next| self.may_hold(partition, *next, from)).collect();
                for next in next {
                    reached.insert(next, (from, partition));
                    if self.load[next] < self.shares.places[next] {
                        self.hand_over(next, &reached);
                        return true;
                    }
                    queue.push_back(next);
                }
            }
            let Some(member) = queue.pop_front() else { return false };
            from = Some(member);
            handed = (0..self.holders.len()).filter(|partition| self.holders[*partition].contains(&member)).collect();
        }
    }

    fn hand_over(&mut self, last: usize, reached: &BTreeMap<usize, (Option<usize>, usize)>) {
        self.load[last] += 1;
        let mut member = last;
        while let Some((from, partition)) = reached.get(&member).copied() {
            let holders = &mut self.holders[partition];
            let Some(from) = from else {
                holders.push(member);
                return;
            };
            for holder in holders.iter_mut().filter(|holder| **holder == from) {
                *holder = member;
            }
            member = from;
        }
    }
}
