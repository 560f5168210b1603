//! HyperLogLogs: about how many different elements were added, in at most 16,384 small registers, with an error of about 0.8 %.
//!
//! ```text
//! hash of an element   50 bits: 1 + zeros before the first one, its rank   │ 14 bits: the register
//! ```
//!
//! A register holds the greatest rank that it was given; the more elements, the greater the ranks. Each register is a row, and its value is the
//! greatest of its live entries, so replicas that come together merge by taking maxima. PFADD writes only the registers that grow.
//!
//! How elements are hashed and what registers tell of their number is in [`super::registers`].

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::delta::Delta;
use super::draft::Draft;
use super::expiry::Expiry;
use super::kind::{DataType, Kind};
use super::length::longest_of;
use super::outcome::{Answer, Outcome};
use super::refusal::{ExecuteError, Refusal};
use super::registers::register;
pub use super::registers::{MAX_RANK, REGISTERS, Registers, index_of, rank_of};
use super::row::{Decision, Payload, Row, RowAddress};
use super::rows::Rows;
use super::selection::Selection;
use super::shown::Shown;

/// A change of a HyperLogLog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Adds elements; without any only makes the key. Answers 1 where something changed, else 0.
    Add(Vec<Bytes>),
    /// Takes in registers, as [`Registers::to_bytes`] gives them; without any only makes the key.
    Merge(Bytes),
}

/// A question about a HyperLogLog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// The registers, as [`Registers::to_bytes`] gives them. [`Answer::Nil`] where there is no such key.
    Registers,
}

impl Mutation {
    /// The length of the longest element that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Add(elements) => longest_of(elements),
            Self::Merge(_) => 0,
        }
    }
}

/// The row of a register.
fn address(key: &Bytes, index: u16) -> RowAddress {
    RowAddress::element(key, Kind::Register, &Bytes::copy_from_slice(&index.to_be_bytes()))
}

/// The greatest rank of a row that shows; `None` where nothing shows.
fn rank(row: &Row, expiry: &Expiry) -> Option<u8> {
    row.values().filter(|entry| !expiry.hides(entry)).filter_map(rank_of).max()
}

/// The registers of a key that show.
pub(super) fn registers<R: Rows>(rows: &R, key: &Bytes, expiry: &Expiry) -> Result<Registers, R::Error> {
    let mut registers = Registers::default();
    rows.visit_from(key, Kind::Register, &mut |address, row| {
        if let (Some(index), Some(rank)) = (index_of(&address.element), rank(row, expiry)) {
            registers.0[index] = rank;
        }
        ControlFlow::Continue(())
    })?;
    Ok(registers)
}

/// Refuses a key that shows another type; a string in the words of Redis, where each of them could be a HyperLogLog.
pub(super) fn expect(shown: &Shown) -> Result<(), Refusal> {
    if shown.data_type == Some(DataType::String) { Err(Refusal::NotHyperLogLog) } else { shown.expect(DataType::HyperLogLog) }
}

/// Which rows of a key a query needs.
pub(super) fn selection(_query: &Query) -> Selection {
    Selection::All
}

/// Answers a query.
///
/// # Errors
/// Where the key shows another type.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    let Query::Registers = query;
    Ok(match shown.data_type {
        None => Answer::Nil,
        Some(_) => Answer::Bytes(registers(rows, key, &shown.expiry)?.to_bytes()),
    })
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    expect(shown)?;
    let mut grown = Vec::new();
    for (index, wanted) in wanted(mutation) {
        let address = address(draft.key, index);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        if rank(&row, &shown.expiry).is_none_or(|rank| rank < wanted) {
            grown.push((address, row, wanted));
        }
    }
    if grown.is_empty() && shown.data_type.is_none() {
        grown.push((address(draft.key, 0), Row::new(), 0));
    }
    if grown.is_empty() {
        return Ok((Delta::default(), Answer::flag(false)));
    }
    let decision = shown.write_under(&mut draft);
    for (address, row, rank) in grown {
        // What is not known here of the row is smaller or greater, and does no harm beside the new entry: nothing is replaced but what was read.
        row.iter().filter(|(_, entry)| !shown.expiry.hides(entry)).for_each(|(dot, _)| draft.remove(address.clone(), *dot));
        draft.add(address, decision, Payload::Value(Bytes::copy_from_slice(&[rank])));
    }
    Ok((draft.finish(), Answer::flag(true)))
}

/// Writes registers into a key of which nothing is left.
pub(super) fn write_all(draft: &mut Draft<'_, '_>, decision: Option<Decision>, registers: &Bytes) {
    write_ranks(draft, decision, wanted(&Mutation::Merge(registers.clone())));
}

/// Writes ranks beside those that are there, at least one so that there is a key.
fn write_ranks(draft: &mut Draft<'_, '_>, decision: Option<Decision>, mut ranks: BTreeMap<u16, u8>) {
    if ranks.is_empty() {
        ranks.insert(0, 0);
    }
    for (index, rank) in ranks {
        draft.add(address(draft.key, index), decision, Payload::Value(Bytes::copy_from_slice(&[rank])));
    }
}

/// Executes a mutation having observed nothing: ranks stand beside those that are there.
pub(super) fn execute_blind(draft: &mut Draft<'_, '_>, mutation: &Mutation) -> Answer {
    write_ranks(draft, None, wanted(mutation));
    Answer::flag(true)
}

/// The least rank that a mutation wants each register to have.
fn wanted(mutation: &Mutation) -> BTreeMap<u16, u8> {
    let mut wanted = BTreeMap::new();
    match mutation {
        Mutation::Add(elements) => {
            for (index, rank) in elements.iter().map(|element| register(element)) {
                let greatest = wanted.entry(index).or_insert(rank);
                *greatest = rank.max(*greatest);
            }
        }
        Mutation::Merge(bytes) => {
            wanted.extend((0..).zip(Registers::from_bytes(bytes).0).filter(|(_, rank)| *rank > 0));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::super::testing::{DELETE, GET, Replica, TYPE, bytes, expire, key, set, settle};
    use super::super::{command, string};
    use super::*;

    fn add(elements: &[&str]) -> command::Mutation {
        Mutation::Add(elements.iter().map(|element| bytes(element)).collect()).into()
    }

    fn registers_of(replica: &Replica) -> Option<Registers> {
        match replica.query(&Query::Registers.into()) {
            Ok(Answer::Bytes(bytes)) => Some(Registers::from_bytes(&bytes)),
            _ => None,
        }
    }

    fn count(replica: &Replica) -> u64 {
        registers_of(replica).map_or(0, |registers| registers.count())
    }

    #[test]
    fn elements_are_hashed_as_in_redis() {
        // Told by PFDEBUG GETREG of a Redis of version 7.0.
        let long = "a longer element of 33 bytes here";
        let told = [("", 5938, 2), ("x", 16374, 2), ("hello", 9216, 1), ("12345678", 10579, 3), (long, 7471, 1)];
        for (element, index, rank) in told {
            assert_eq!(register(element.as_bytes()), (index, rank), "{element}");
        }
        assert_eq!(Registers::default().count(), 0);
        let mut all = Registers::default();
        for number in 0..100_000u32 {
            let (index, rank) = register(number.to_string().as_bytes());
            all.0[usize::from(index)] = all.0[usize::from(index)].max(rank);
        }
        assert!((99_000..101_000).contains(&all.count()), "{}", all.count());
    }

    #[test]
    fn adding_writes_only_what_grows() {
        let mut a = Replica::new(1);
        assert_eq!((a.ask(&add(&[])), a.query(&TYPE)), (Answer::Integer(1), Ok(Answer::Type(Some(DataType::HyperLogLog)))));
        assert_eq!((a.ask(&add(&[])), count(&a)), (Answer::Integer(0), 0));
        assert_eq!((a.ask(&add(&["x", "y", "x"])), count(&a)), (Answer::Integer(1), 2));
        assert!(a.write(&add(&["y", "x"])).is_empty());
        assert_eq!(a.write(&add(&["x", "z"])).adds.len(), 1);
    }

    #[test]
    fn replicas_merge_by_the_greatest_rank() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        let words: Vec<String> = (0..600).map(|number| number.to_string()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut whole = Replica::new(3);
        whole.write(&add(&words));
        for chunk in words.chunks(100).enumerate() {
            let replica = if chunk.0 % 2 == 0 { &mut a } else { &mut b };
            replica.write(&add(chunk.1));
        }
        let unseen = b.blind(&add(&words[..50])).unwrap();
        settle(&mut [&mut a, &mut b]);
        a.hear(&unseen);
        assert_eq!(registers_of(&a), registers_of(&whole));
        let mut merged = Replica::new(4);
        let Ok(Answer::Bytes(registers)) = a.query(&Query::Registers.into()) else { panic!("no registers") };
        merged.write(&Mutation::Merge(registers).into());
        assert_eq!(registers_of(&merged), registers_of(&whole));
        assert!(merged.write(&add(&words)).is_empty());
        a.write(&DELETE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!((count(&b), b.state.rows.len()), (0, 0));
    }

    #[test]
    fn a_new_life_does_not_take_over_hidden_ranks() {
        let mut a = Replica::new(1);
        a.write(&add(&["x", "y"]));
        a.at(10).write(&expire(50));
        a.at(50);
        assert_eq!((count(&a), a.ask(&add(&["x"])), count(&a)), (0, Answer::Integer(1), 1));
        assert_eq!(a.state.rows.get(&address(&key(), register(b"x").0)).map(Row::len), Some(2));
    }

    #[test]
    fn it_is_a_string_to_those_who_read_it_and_no_string_is_one() {
        let mut a = Replica::new(1);
        a.write(&add(&["x"]));
        let Ok(Answer::Bytes(dense)) = a.query(&GET) else { panic!("no string") };
        assert_eq!((dense.len(), &dense[..5]), (16 + REGISTERS * 6 / 8, &b"HYLL\0"[..]));
        assert_eq!(a.query(&string::Query::Length.into()), Ok(Answer::Integer(12_304)));
        assert_eq!(a.attempt(&string::Mutation::Append(bytes("x")).into()), Err(Refusal::WrongType));
        let get_set = string::Mutation::GetDelete.into();
        assert_eq!(a.ask(&get_set), Answer::Bytes(dense));
        a.write(&set("s"));
        assert_eq!(a.attempt(&add(&["x"])), Err(Refusal::NotHyperLogLog));
        assert_eq!(a.query(&Query::Registers.into()), Err(Refusal::NotHyperLogLog));
    }
}
