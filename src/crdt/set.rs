//! Sets: a row a member. A member is in the set while its row has a live entry that shows.
//!
//! Adding writes a new dot even where the member is there already: a concurrent remove had not seen that dot, so the add wins.
//! Changing one member of a set of a million reads and writes the row of that member, and the first row that shows.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::delta::Delta;
use super::draft::Draft;
use super::expiry::Expiry;
use super::kind::{DataType, Kind};
use super::length::longest_of;
use super::outcome::{Answer, Outcome};
use super::random::Pick;
use super::refusal::{ExecuteError, Refusal};
use super::row::{Payload, Row, RowAddress};
use super::rows::Rows;
use super::scan::Scan;
use super::selection::Selection;
use super::shown::Shown;
use crate::config::MAX_VALUE;

/// A change of a set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Adds members. Answers how many were new.
    Add(Vec<Bytes>),
    /// Removes members. Answers how many there were.
    Remove(Vec<Bytes>),
    /// Removes members picked at random and answers with them.
    Pop {
        /// How many at most.
        count: u64,
        /// What they are picked by.
        seed: u64,
    },
}

/// A question about a set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// Every member.
    Members,
    /// Members picked at random.
    Pick {
        /// How many.
        pick: Pick,
        /// What they are picked by.
        seed: u64,
    },
    /// Members from a hash on: [`Answer::Scanned`].
    Scan(Scan),
    /// How many members there are.
    Cardinality,
    /// For each element whether it is a member: [`Answer::Flags`].
    Contains(Vec<Bytes>),
}

impl Mutation {
    /// The length of the longest element that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Add(members) | Self::Remove(members) => longest_of(members),
            Self::Pop { .. } => 0,
        }
    }
}

impl Query {
    /// The length of the longest element that it names, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Contains(elements) => longest_of(elements),
            Self::Members | Self::Pick { .. } | Self::Scan(_) | Self::Cardinality => 0,
        }
    }
}

/// Which rows of a key a query needs.
pub(super) fn selection(query: &Query) -> Selection {
    match query {
        Query::Contains(elements) => Selection::Elements { kind: Kind::Member, elements: elements.clone() },
        Query::Scan(scan) => scan.selection(Kind::Member),
        Query::Members | Query::Pick { .. } | Query::Cardinality => Selection::All,
    }
}

/// Answers a query of a key that shows no other type.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    Ok(match query {
        Query::Members => Answer::Members(members(rows, key, &shown.expiry)?),
        Query::Pick { pick, seed } => Answer::Members(picked(rows, shown, key, *pick, *seed)?),
        Query::Scan(scan) => scan.answer((rows, key, Kind::Member), |address, row| told(shown, address, row), Answer::Members)?,
        Query::Cardinality => {
            let summary = rows.summary(key)?;
            let number = usize::try_from(summary.count(Kind::Member)).unwrap_or(usize::MAX);
            Answer::count(if summary.stands(&shown.expiry) { number } else { members(rows, key, &shown.expiry)?.len() })
        }
        Query::Contains(elements) => {
            let is_member = |element| is_member(rows, &shown.expiry, &RowAddress::member(key, element));
            Answer::Flags(elements.iter().map(is_member).collect::<Result<_, _>>()?)
        }
    })
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    shown.expect(DataType::Set)?;
    match mutation {
        Mutation::Add(members) => add(rows, shown, draft, members),
        Mutation::Remove(members) => remove(rows, shown, draft, members),
        Mutation::Pop { count, seed } => {
            let pick = Pick::Distinct(usize::try_from(*count).unwrap_or(usize::MAX));
            let picked = picked(rows, shown, draft.key, pick, *seed).map_err(ExecuteError::Rows)?;
            let (delta, _) = remove(rows, shown, draft, &picked)?;
            Ok((delta, Answer::Members(picked)))
        }
    }
}

/// Executes a mutation having observed nothing: members can be added.
pub(super) fn execute_blind(draft: &mut Draft<'_, '_>, mutation: &Mutation) -> Result<Answer, Refusal> {
    let Mutation::Add(members) = mutation else { return Err(Refusal::NeedsReplica) };
    if longest_of(members) > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let members: BTreeSet<&Bytes> = members.iter().collect();
    for member in &members {
        draft.add(RowAddress::member(draft.key, member), None, Payload::Present);
    }
    Ok(Answer::count(members.len()))
}

/// Whether the row of a member shows it.
fn is_member<R: Rows>(rows: &R, expiry: &Expiry, address: &RowAddress) -> Result<bool, R::Error> {
    Ok(rows.row(address)?.values().any(|entry| !expiry.hides(entry)))
}

/// The member of a row, where it shows.
fn told(shown: &Shown, address: &RowAddress, row: &Row) -> Option<Bytes> {
    row.values().any(|entry| !shown.expiry.hides(entry)).then(|| address.element.clone())
}

/// Members picked at random.
fn picked<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, pick: Pick, seed: u64) -> Result<Vec<Bytes>, R::Error> {
    pick.of_rows(seed, (rows, shown, key, Kind::Member), |address, row| told(shown, address, row))
}

/// The members that show.
pub(super) fn members<R: Rows>(rows: &R, key: &Bytes, expiry: &Expiry) -> Result<Vec<Bytes>, R::Error> {
    let mut members = Vec::new();
    rows.visit(key, &mut |address, row| {
        if address.kind == Kind::Member && row.values().any(|entry| !expiry.hides(entry)) {
            members.push(address.element.clone());
        }
        std::ops::ControlFlow::Continue(())
    })?;
    Ok(members)
}

/// SADD.
fn add<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, members: &[Bytes]) -> Outcome<R::Error> {
    let members: BTreeSet<&Bytes> = members.iter().collect();
    if members.iter().any(|member| member.len() > MAX_VALUE) {
        return Err(Refusal::TooBig.into());
    }
    if members.is_empty() {
        return Ok((Delta::default(), Answer::Integer(0)));
    }
    let decision = shown.write_under(&mut draft);
    let mut added = 0;
    for member in members {
        let address = RowAddress::member(draft.key, member);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        added += i64::from(!row.values().any(|entry| !shown.expiry.hides(entry)));
        draft.replace_row(address.clone(), &row, Vec::new());
        draft.add(address, decision, Payload::Present);
    }
    Ok((draft.finish(), Answer::Integer(added)))
}

/// SREM. A member that does not show is not there, and is left to the removal of what its decision hides.
fn remove<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, members: &[Bytes]) -> Outcome<R::Error> {
    let mut removed = 0;
    for member in members.iter().collect::<BTreeSet<&Bytes>>() {
        let address = RowAddress::member(draft.key, member);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        if row.values().any(|entry| !shown.expiry.hides(entry)) {
            removed += 1;
            draft.replace_row(address, &row, Vec::new());
        }
    }
    Ok((draft.finish(), Answer::Integer(removed)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::ops::ControlFlow;

    use super::super::memory::MemoryState;
    use super::super::summary::Summary;
    use super::super::testing::{DELETE, GET, Replica, TYPE, add, bytes, key, remove, set, settle, text};
    use super::super::{command, key as any_key, string};
    use super::*;

    #[test]
    fn an_add_wins_over_a_concurrent_remove() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        assert_eq!(a.ask(&add(&["x", "y", "x"])), Answer::Integer(2));
        b.pull(&a);
        assert_eq!(a.ask(&add(&["x"])), Answer::Integer(0));
        assert_eq!(b.ask(&remove(&["x", "y", "z", "y"])), Answer::Integer(2));
        assert_eq!(b.query(&TYPE), Ok(Answer::Type(None)));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.members(), b.members()), (vec!["x".to_owned()], vec!["x".to_owned()]));
    }

    #[test]
    fn a_remove_of_what_is_not_there_changes_nothing() {
        let mut a = Replica::new(1);
        assert!(a.write(&remove(&["x"])).is_empty());
        assert!(a.write(&add(&[])).is_empty());
        a.write(&add(&["x"]));
        let before = a.state.clone();
        assert!(a.write(&remove(&["y"])).is_empty());
        assert_eq!(a.state, before);
    }

    #[test]
    fn answers_about_members() {
        let mut a = Replica::new(1);
        let contains = |a: &Replica| a.query(&Query::Contains(vec![bytes("b"), bytes("c")]).into());
        assert_eq!((contains(&a), a.members()), (Ok(Answer::Flags(vec![false, false])), vec![]));
        a.write(&add(&["b", "a"]));
        assert_eq!((contains(&a), a.members()), (Ok(Answer::Flags(vec![true, false])), vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(a.query(&Query::Cardinality.into()), Ok(Answer::Integer(2)));
        for query in [GET, string::Query::Length.into()] {
            assert_eq!(a.query(&query), Err(Refusal::WrongType));
        }
        a.write(&set("s"));
        assert_eq!(contains(&a), Err(Refusal::WrongType));
        assert_eq!(a.attempt(&add(&["x"])), Err(Refusal::WrongType));
        assert_eq!(a.attempt(&remove(&["x"])), Err(Refusal::WrongType));
    }

    #[test]
    fn of_two_types_the_string_shows_and_a_delete_takes_both() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("s"));
        b.write(&add(&["x"]));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("s"), text("s")));
        let Ok(Answer::Explained(told)) = a.query(&any_key::Query::Explain.into()) else { panic!("not explained") };
        assert_eq!(told.iter().map(|dot| (dot.kind.as_str(), dot.shows)).collect::<Vec<_>>(), [("value", true), ("member", false)]);
        b.write(&DELETE);
        settle(&mut [&mut a, &mut b]);
        assert!(a.state.rows.is_empty());
    }

    /// Counts the rows that are read.
    struct Counted<'s>(&'s MemoryState, Cell<usize>);

    impl Rows for Counted<'_> {
        type Error = Infallible;

        fn row(&self, address: &RowAddress) -> Result<Row, Infallible> {
            self.1.set(self.1.get() + 1);
            self.0.row(address)
        }

        fn visit_from(
            &self,
            key: &Bytes,
            kind: Kind,
            visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
        ) -> Result<(), Infallible> {
            self.0.visit_from(key, kind, &mut |address, row| {
                self.1.set(self.1.get() + 1);
                visitor(address, row)
            })
        }

        fn visit_back(
            &self,
            key: &Bytes,
            kind: Kind,
            visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
        ) -> Result<(), Infallible> {
            self.0.visit_back(key, kind, &mut |address, row| {
                self.1.set(self.1.get() + 1);
                visitor(address, row)
            })
        }

        fn summary(&self, key: &Bytes) -> Result<Summary, Infallible> {
            self.0.summary(key)
        }
    }

    #[test]
    fn changing_a_large_set_reads_little_and_deleting_it_says_little() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        let members: Vec<String> = (0..2000).map(|n| format!("m{n}")).collect();
        a.write(&Mutation::Add(members.iter().map(|member| bytes(member)).collect()).into());
        b.pull(&a);
        let rows_read = |a: &mut Replica, mutation: &command::Mutation| {
            a.author(|state, author| {
                let counted = Counted(state, Cell::new(0));
                let executed = super::super::execute::execute(&counted, &state.causal, author, &key(), mutation).unwrap();
                (counted.1.get(), executed.delta)
            })
        };
        assert!(rows_read(&mut a, &add(&["m7"])).0 <= 3);
        assert!(rows_read(&mut a, &remove(&["m7", "m8"])).0 <= 4);
        let (read, delta) = rows_read(&mut a, &DELETE);
        assert!(read < 200 && delta.removes.len() == crate::config::NAMED_REMOVES);
        b.hear(&delta);
        assert!(b.state.rows.is_empty());
    }
}
