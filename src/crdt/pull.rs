//! The decisions of a pull: how a replica A takes in what a replica B has, row by row, while both go on taking writes.
//!
//! A reads B's clock before anything else, then compares row after row, and takes the clock over at the very end. One row is judged by one
//! rule, *seen and not live means deleted*:
//!
//! ```text
//! live at     the other has seen it     A then
//! A alone     yes: it was superseded    drops it
//! A alone     no: B never heard of it   keeps it (and may push it)
//! B alone     yes: it was superseded    leaves it
//! B alone     no                        takes it
//! ```
//!
//! Two things make that safe beside concurrent writes. The clock comes last: had A taken it first, or a pull broken off half-way, A would
//! claim to have seen writes whose rows it never got, and call them deleted. And what slips in behind the comparison is judged as if
//! the clock were there already: B superseded `d1`, A compares the row, then a late delta brings `d1` to A. In A's own clock `d1` is
//! new; but B had seen it and not listed it, so [`Pull::slips`] says that it is dead.
//!
//! `KERNEL` section 5 numbers the steps. Source: `DottedDB` (Gonçalves et al., 2017), whose node clocks are compared the same way.

use std::collections::BTreeMap;

use super::delta::{Causal, Scope};
use super::dot::{Clock, Dot};
use super::expiry::has_decisions;
use super::row::{Row, RowAddress};
use crate::types::LEAVES;

/// What comparing one row changes at the replica that pulls. Rows, clock and pending change in one atomic step.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowChange {
    /// The row from now on, where it differs from what it was.
    pub row: Option<Row>,
    /// How many dots were taken from the other replica.
    pub taken: usize,
    /// How many dots were dropped.
    pub dropped: usize,
    /// Live dots that the other replica has never heard of, and may be pushed.
    pub unknown_there: Vec<Dot>,
    /// Dots that the clock holds from now on.
    seen: Vec<Dot>,
    /// What the other replica has seen in a row of decisions.
    seen_there: Clock,
}

impl RowChange {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.row.is_none() && self.seen.is_empty() && self.seen_there.is_empty()
    }

    /// Brings clock and pending up to the change. To be written together with [`Self::row`].
    pub fn apply(&self, address: &RowAddress, causal: &mut Causal) {
        for dot in &self.seen {
            causal.clock.insert(*dot);
        }
        causal.supersede(&Scope::Row(address.clone()), &self.seen_there);
        causal.settle(self.seen.iter().copied());
    }
}

/// Compares one row with another replica's, with both clocks of this moment.
///
/// `theirs` and `their_causal` were read from one snapshot, or the clock before the row. `slips` tells of an add that another running
/// pull has already judged; see [`Pull::slips`].
///
/// A row with expiry decisions brings along what the other replica has seen of it, as pending: who decides on an expiry must
/// know that there is more to know (`KERNEL` section 7).
#[must_use]
pub fn compare_row(
    mine: &Row,
    my_causal: &Causal,
    address: &RowAddress,
    theirs: &Row,
    their_causal: &Causal,
    slips: impl Fn(&RowAddress, Dot) -> bool,
) -> RowChange {
    let mut change = RowChange::default();
    let mut row = mine.clone();
    row.retain(|dot, _| {
        if theirs.contains_key(dot) {
            return true;
        }
        let superseded = their_causal.has_seen(address, *dot);
        if superseded {
            change.dropped += 1;
        } else {
            change.unknown_there.push(*dot);
        }
        !superseded
    });
    for (dot, entry) in theirs {
        if mine.contains_key(dot) || my_causal.has_seen(address, *dot) {
            continue;
        }
        if !slips(address, *dot) {
            row.insert(*dot, entry.clone());
            change.taken += 1;
        }
        change.seen.push(*dot);
    }
    if change.taken + change.dropped > 0 {
        change.row = Some(row);
    }
    if has_decisions(address, mine) || has_decisions(address, theirs) {
        change.seen_there = their_causal.seen_for(address).minus(&my_causal.clock);
    }
    change
}

/// Why a pull must not be finished: what one of the two replicas had seen is no longer what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the pull is void: a replica has started anew since it began")]
pub struct Void;

/// The rows from a position (included) to another (excluded); `None` is the end on that side.
type Range<P> = (Option<P>, Option<P>);

/// A pull that is under way. `P` is a row's position in the order in which the rows of a leaf are compared.
#[derive(Clone, Debug)]
pub struct Pull<P> {
    /// What the other replica had seen before any of its digests or rows was read.
    theirs: Causal,
    /// State ids at the start: of the replica that pulls, of the other.
    state_ids: (u64, u64),
    /// Whether a leaf was compared or skipped.
    compared: Vec<bool>,
    /// Within leaves that are being compared, the rows that were: in order, apart from each other.
    ranges: BTreeMap<usize, Vec<Range<P>>>,
    has_left_out: bool,
}

impl<P: Ord> Pull<P> {
    /// Begins with what the other replica has seen, read before any of its digests, and the state ids of both.
    #[must_use]
    pub fn new(theirs: Causal, my_state_id: u64, their_state_id: u64) -> Self {
        Self {
            theirs,
            state_ids: (my_state_id, their_state_id),
            compared: vec![false; LEAVES],
            ranges: BTreeMap::new(),
            has_left_out: false,
        }
    }

    /// Whether both replicas are still those that the pull began with. To be asked with every piece of it that arrives: a replica that has
    /// started anew may have lost rows which the clock of the start calls seen.
    ///
    /// # Errors
    /// Where one of the state ids is another than at the start.
    pub fn check(&self, my_state_id: u64, their_state_id: u64) -> Result<(), Void> {
        if self.state_ids == (my_state_id, their_state_id) { Ok(()) } else { Err(Void) }
    }

    /// What the other replica had seen when the pull began.
    #[must_use]
    pub fn theirs(&self) -> &Causal {
        &self.theirs
    }

    /// Leaves dots out that could not be joined here: they stay unheard of when the pull ends, and nobody takes them for deleted.
    pub fn leave_out(&mut self, dots: impl IntoIterator<Item = Dot>) {
        for dot in dots {
            self.theirs.clock.remove(dot);
            self.has_left_out = true;
        }
    }

    /// Whether anything was left out: then this replica must not confirm that it has all that the other has.
    #[must_use]
    pub fn has_left_out(&self) -> bool {
        self.has_left_out
    }

    /// Notes that a leaf was compared in full, or skipped since its digests were equal, with both replicas' rows of this moment.
    pub fn leaf_compared(&mut self, leaf: usize) {
        if let Some(compared) = self.compared.get_mut(leaf) {
            *compared = true;
        }
        self.ranges.remove(&leaf);
    }

    /// Notes that the rows of a leaf from `from` (included) until `until` (excluded) were compared; `None` is the leaf's end on that side.
    /// Once the ranges reach from one end to the other, in whatever order they came, the leaf is compared.
    pub fn rows_compared(&mut self, leaf: usize, from: Option<P>, until: Option<P>) {
        let ranges = self.ranges.entry(leaf).or_default();
        ranges.push((from, until));
        ranges.sort_by(|(left, _), (right, _)| left.cmp(right));
        ranges.dedup_by(|(from, until), (_, end)| {
            let touches = end.is_none() || *from <= *end;
            if touches && end.is_some() && (until.is_none() || *until > *end) {
                *end = until.take();
            }
            touches
        });
        if matches!(ranges.as_slice(), [(None, None)]) {
            self.leaf_compared(leaf);
        }
    }

    /// Whether an add for a row of `leaf` comes too late for the comparison: the row was compared or skipped, and the other replica had
    /// seen the dot. The add is then taken as seen and superseded, as if the pull had ended already.
    #[must_use]
    pub fn slips(&self, leaf: usize, position: &P, address: &RowAddress, dot: Dot) -> bool {
        (self.compared.get(leaf) == Some(&true) || self.in_ranges(leaf, position)) && self.theirs.has_seen(address, dot)
    }

    fn in_ranges(&self, leaf: usize, position: &P) -> bool {
        self.ranges.get(&leaf).is_some_and(|ranges| {
            let holds = |(from, until): &Range<P>| {
                from.as_ref().is_none_or(|from| from <= position) && until.as_ref().is_none_or(|until| position < until)
            };
            ranges.iter().any(holds)
        })
    }

    /// Whether every leaf was compared or skipped, so that the pull may be finished.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.compared.iter().all(|compared| *compared)
    }

    /// Ends the pull: what the other replica had seen is seen here too. Also where both roots were equal at once, since clocks
    /// are no part of a digest.
    ///
    /// # Errors
    /// Where one of the state ids is another than at the start. Nothing is changed.
    pub fn finish(self, mine: &mut Causal, my_state_id: u64, their_state_id: u64) -> Result<(), Void> {
        self.check(my_state_id, their_state_id)?;
        mine.clock.extend(&self.theirs.clock);
        for (scope, pending) in &self.theirs.pending {
            mine.supersede(scope, pending);
        }
        mine.settle_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::row::{Entry, Payload};
    use super::*;
    use crate::types::{Actor, Timestamp};

    fn dot(counter: u64) -> Dot {
        Dot { actor: Actor(1), counter }
    }

    fn row(counters: &[u64]) -> Row {
        let entry = Entry { timestamp: Timestamp(1), decision: None, field_decision: None, payload: Payload::Present };
        counters.iter().map(|counter| (dot(*counter), entry.clone())).collect()
    }

    fn seen(counters: &[u64]) -> Causal {
        Causal { clock: counters.iter().map(|counter| dot(*counter)).collect(), ..Causal::default() }
    }

    fn member(name: &'static [u8]) -> RowAddress {
        RowAddress::member(&Bytes::from_static(b"k"), &Bytes::from_static(name))
    }

    #[test]
    fn each_dot_is_judged_by_whether_the_other_has_seen_it() {
        let change =
            compare_row(&row(&[1, 2, 3]), &seen(&[1, 2, 3, 5]), &member(b"m"), &row(&[3, 4, 5]), &seen(&[2, 3, 4, 5]), |_, _| false);
        assert_eq!(change.row, Some(row(&[1, 3, 4])));
        assert_eq!((change.taken, change.dropped, change.unknown_there.as_slice()), (1, 1, &[dot(1)][..]));
        let mut causal = seen(&[1, 2, 3, 5]);
        change.apply(&member(b"m"), &mut causal);
        assert_eq!(causal, seen(&[1, 2, 3, 4, 5]));
    }

    #[test]
    fn what_is_pending_counts_as_seen_on_both_sides() {
        let pending = Causal { pending: BTreeMap::from([(Scope::Row(member(b"m")), seen(&[1]).clock)]), ..Causal::default() };
        assert_eq!(compare_row(&row(&[1]), &seen(&[1]), &member(b"m"), &row(&[]), &pending, |_, _| false).row, Some(row(&[])));
        assert!(compare_row(&row(&[]), &pending, &member(b"m"), &row(&[1]), &seen(&[1]), |_, _| false).is_empty());
        assert_eq!(compare_row(&row(&[]), &pending, &member(b"n"), &row(&[1]), &seen(&[1]), |_, _| false).row, Some(row(&[1])));
    }

    #[test]
    fn a_dot_that_slips_is_seen_and_not_taken() {
        let change = compare_row(&row(&[]), &seen(&[]), &member(b"m"), &row(&[1]), &seen(&[1]), |_, _| true);
        let mut causal = Causal::default();
        change.apply(&member(b"m"), &mut causal);
        assert_eq!((change.row, causal), (None, seen(&[1])));
    }

    #[test]
    fn an_expiry_row_brings_what_was_seen_of_it() {
        let address = RowAddress::expiry(&Bytes::from_static(b"k"));
        let mut causal = seen(&[1]);
        compare_row(&row(&[]), &causal, &address, &row(&[]), &seen(&[1, 2]), |_, _| false).apply(&address, &mut causal);
        assert!(causal.is_pending(&address, dot(2)));
        assert!(!causal.clock.contains(dot(2)));
    }

    #[test]
    fn only_rows_that_were_compared_let_adds_slip() {
        let mut pull = Pull::new(seen(&[1]), 7, 8);
        assert!(!pull.slips(3, &member(b"m"), &member(b"m"), dot(1)));
        pull.rows_compared(3, None, Some(member(b"c")));
        pull.rows_compared(3, Some(member(b"c")), Some(member(b"m")));
        assert!(pull.slips(3, &member(b"c"), &member(b"c"), dot(1)));
        assert!(!pull.slips(3, &member(b"m"), &member(b"m"), dot(1)));
        assert!(!pull.slips(4, &member(b"c"), &member(b"c"), dot(1)));
        pull.leaf_compared(3);
        assert!(pull.slips(3, &member(b"m"), &member(b"m"), dot(1)));
        assert!(!pull.slips(3, &member(b"m"), &member(b"m"), dot(2)));
    }

    #[test]
    fn a_leaf_is_compared_once_its_ranges_leave_no_gap() {
        let position = |name: &'static [u8]| Some(member(name));
        let mut pull = Pull::new(seen(&[1]), 7, 8);
        (0..LEAVES).filter(|leaf| *leaf != 3).for_each(|leaf| pull.leaf_compared(leaf));
        for (from, until) in
            [(position(b"m"), None), (None, position(b"c")), (position(b"f"), position(b"m")), (position(b"g"), position(b"h"))]
        {
            pull.rows_compared(3, from, until);
            assert!(!pull.is_complete());
        }
        assert!(pull.slips(3, &member(b"k"), &member(b"k"), dot(1)));
        assert!(!pull.slips(3, &member(b"d"), &member(b"d"), dot(1)));
        pull.rows_compared(3, position(b"c"), position(b"f"));
        assert!(pull.is_complete());
    }

    #[test]
    fn a_pull_that_outlived_a_state_changes_nothing() {
        for ids in [(7, 9), (9, 8)] {
            let mut causal = Causal::default();
            assert_eq!(Pull::<RowAddress>::new(seen(&[1]), 7, 8).finish(&mut causal, ids.0, ids.1), Err(Void));
            assert_eq!(causal, Causal::default());
        }
        let mut causal = Causal::default();
        assert_eq!(Pull::<RowAddress>::new(seen(&[1]), 7, 8).finish(&mut causal, 7, 8), Ok(()));
        assert_eq!(causal, seen(&[1]));
    }
}
