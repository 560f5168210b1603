//! Lists at one replica as Redis has them, and at several as they come together.

use std::cell::Cell;
use std::convert::Infallible;
use std::ops::ControlFlow;

use super::super::command;
use super::super::memory::MemoryState;
use super::super::row::{Row, RowAddress};
use super::super::summary::Summary;
use super::super::testing::{DELETE, Replica, TYPE, add, bytes, expire, key, set as set_string, settle, text};
use super::*;
use crate::config::MAX_VALUE;

fn push_to(side: Side, items: &[&str]) -> command::Mutation {
    Mutation::Push { side, items: items.iter().map(|item| bytes(item)).collect(), only_existing: false }.into()
}

fn rpush(items: &[&str]) -> command::Mutation {
    push_to(Side::Right, items)
}

fn lpush(items: &[&str]) -> command::Mutation {
    push_to(Side::Left, items)
}

fn pop(side: Side, count: u64) -> command::Mutation {
    Mutation::Pop { side, count }.into()
}

fn set(index: i64, value: &str) -> command::Mutation {
    Mutation::Set { index, value: bytes(value) }.into()
}

fn insert(before: bool, pivot: &str, item: &str) -> command::Mutation {
    Mutation::Insert { pivot: bytes(pivot), item: bytes(item), before }.into()
}

fn remove(count: i64, item: &str) -> command::Mutation {
    Mutation::Remove { count, item: bytes(item) }.into()
}

fn trim(start: i64, stop: i64) -> command::Mutation {
    Mutation::Trim { start, stop }.into()
}

fn items(words: &[&str]) -> Answer {
    Answer::Items(words.iter().map(|word| bytes(word)).collect())
}

fn shown(replica: &Replica) -> String {
    let Ok(Answer::Items(items)) = replica.query(&Query::Range { start: 0, stop: -1 }.into()) else { panic!("no list") };
    items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_list_does_what_redis_does() {
    let mut a = Replica::new(1);
    assert_eq!(a.ask(&Mutation::Push { side: Side::Left, items: vec![bytes("x")], only_existing: true }.into()), Answer::Integer(0));
    assert_eq!(a.ask(&pop(Side::Left, 1)), Answer::Nil);
    assert_eq!(a.ask(&rpush(&["a", "b"])), Answer::Integer(2));
    assert_eq!(a.ask(&lpush(&["y", "x"])), Answer::Integer(4));
    assert_eq!(a.ask(&Mutation::Push { side: Side::Right, items: vec![bytes("c")], only_existing: true }.into()), Answer::Integer(5));
    assert_eq!(shown(&a), "x y a b c");
    assert_eq!((a.ask(&insert(true, "a", "1")), a.ask(&insert(false, "a", "2"))), (Answer::Integer(6), Answer::Integer(7)));
    assert_eq!((a.ask(&insert(false, "c", "3")), a.ask(&insert(true, "?", "4"))), (Answer::Integer(8), Answer::Integer(-1)));
    assert_eq!(shown(&a), "x y 1 a 2 b c 3");
    assert_eq!((a.ask(&set(1, "Y")), a.ask(&set(-1, "x"))), (Answer::Ok, Answer::Ok));
    assert_eq!(shown(&a), "x Y 1 a 2 b c x");
    assert_eq!(
        (a.attempt(&set(8, "?")).unwrap_err(), a.attempt(&set(-9, "?")).unwrap_err()),
        (Refusal::IndexOutOfRange, Refusal::IndexOutOfRange)
    );
    let find = |rank, count, most| Query::Find { item: bytes("x"), rank, count, most }.into();
    assert_eq!(a.query(&find(1, 0, 0)), Ok(Answer::Indexes(vec![0, 7])));
    assert_eq!(a.query(&find(-1, 1, 0)), Ok(Answer::Indexes(vec![7])));
    assert_eq!((a.query(&find(2, 1, 0)), a.query(&find(2, 1, 7))), (Ok(Answer::Indexes(vec![7])), Ok(Answer::Indexes(vec![]))));
    assert_eq!((a.query(&Query::Index(-8).into()), a.query(&Query::Index(8).into())), (Ok(text("x")), Ok(Answer::Nil)));
    assert_eq!(a.query(&Query::Range { start: -3, stop: 100 }.into()), Ok(items(&["b", "c", "x"])));
    assert_eq!(a.query(&Query::Range { start: 5, stop: 4 }.into()), Ok(items(&[])));
    assert_eq!(a.ask(&remove(-1, "x")), Answer::Integer(1));
    assert_eq!((a.ask(&pop(Side::Left, 2)), a.ask(&pop(Side::Right, 1))), (items(&["x", "Y"]), items(&["c"])));
    assert_eq!((a.ask(&trim(1, -2)), shown(&a)), (Answer::Ok, "a 2".to_owned()));
    assert_eq!((a.ask(&pop(Side::Left, 0)), a.ask(&pop(Side::Right, 9))), (items(&[]), items(&["2", "a"])));
    assert_eq!(a.query(&TYPE), Ok(Answer::Type(None)));
    assert_eq!((a.attempt(&set(0, "?")).unwrap_err(), a.ask(&insert(true, "a", "b"))), (Refusal::NoSuchKey, Answer::Integer(0)));
    a.write(&rpush(&["a", "b", "a"]));
    assert_eq!((a.ask(&remove(0, "a")), a.ask(&trim(5, 9)), a.query(&TYPE)), (Answer::Integer(2), Answer::Ok, Ok(Answer::Type(None))));
    assert!(a.state.rows.is_empty());
}

#[test]
fn other_types_and_long_items_are_refused() {
    let mut a = Replica::new(1);
    a.write(&add(&["m"]));
    for mutation in [rpush(&["x"]), pop(Side::Left, 1), set(0, "x"), insert(true, "x", "y"), remove(0, "x"), trim(0, 1)] {
        assert_eq!(a.attempt(&mutation), Err(Refusal::WrongType));
    }
    assert_eq!(a.query(&Query::Length.into()), Err(Refusal::WrongType));
    a.write(&DELETE);
    a.write(&rpush(&["x"]));
    assert_eq!(a.attempt(&add(&["m"])), Err(Refusal::WrongType));
    let long = "x".repeat(MAX_VALUE + 1);
    assert_eq!((a.attempt(&rpush(&["y", &long])), a.attempt(&set(0, &long))), (Err(Refusal::TooBig), Err(Refusal::TooBig)));
    a.write(&set_string("s"));
    assert_eq!((a.get(), a.state.rows.len()), (text("s"), 1));
}

#[test]
fn pushes_on_both_sides_stay_and_do_not_interleave() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&rpush(&["m"]));
    b.pull(&a);
    for item in ["1", "2", "3"] {
        a.write(&rpush(&[item]));
        b.write(&rpush(&[&format!("{item}'")]));
        a.write(&lpush(&[&format!("-{item}")]));
        b.write(&lpush(&[&format!("-{item}'")]));
    }
    settle(&mut [&mut a, &mut b]);
    for run in ["-3' -2' -1'", "-3 -2 -1", "1 2 3", "1' 2' 3'"] {
        assert!(shown(&b).contains(run), "{run} is torn apart in {}", shown(&b));
    }
}

#[test]
fn both_sides_may_pop_the_same_item_and_an_overwritten_one_stays() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&rpush(&["1", "2", "3"]));
    b.pull(&a);
    assert_eq!((a.ask(&pop(Side::Left, 1)), b.ask(&pop(Side::Left, 1))), (items(&["1"]), items(&["1"])));
    b.write(&set(0, "two"));
    a.write(&pop(Side::Left, 1));
    settle(&mut [&mut a, &mut b]);
    assert_eq!(shown(&a), "two 3");
}

#[test]
fn of_two_values_of_one_item_the_latest_shows_and_the_next_replaces_both() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&rpush(&["1", "2"]));
    b.pull(&a);
    a.write(&set(0, "early"));
    b.at(5).write(&set(0, "late"));
    settle(&mut [&mut a, &mut b]);
    assert_eq!((shown(&a), a.state.rows.values().map(Row::len).max()), ("late 2".to_owned(), Some(2)));
    let Ok(Answer::Explained(told)) = a.query(&super::super::key::Query::Explain.into()) else { panic!("not explained") };
    let told: Vec<_> = told.iter().map(|dot| (dot.content.as_str(), dot.shows)).collect();
    assert_eq!(told, [("\"early\"", false), ("\"late\"", true), ("\"2\"", true)]);
    a.write(&set(0, "both"));
    settle(&mut [&mut a, &mut b]);
    assert_eq!((shown(&b), b.state.rows.values().map(Row::len).max()), ("both 2".to_owned(), Some(1)));
}

#[test]
fn a_pop_is_not_undone_by_a_value_that_only_one_replica_had() {
    let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
    let pushed = a.write(&rpush(&["old"]));
    b.hear(&pushed);
    // The next two writes reach c alone; then a is gone for good.
    a.write(&set(0, "new"));
    c.hear(&a.write(&pop(Side::Left, 1)));
    c.hear(&pushed);
    settle(&mut [&mut b, &mut c]);
    assert_eq!((shown(&b), shown(&c)), (String::new(), String::new()));
}

#[test]
fn a_position_is_not_made_again_after_its_item_was_popped() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&rpush(&["1", "2"]));
    b.pull(&a);
    b.write(&set(-1, "kept"));
    a.write(&pop(Side::Right, 1));
    a.write(&rpush(&["new"]));
    settle(&mut [&mut a, &mut b]);
    assert_eq!(shown(&a), "1 kept new");
}

#[test]
fn what_was_pushed_unseen_stands_at_the_end() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&rpush(&["1", "2"]));
    let unseen = [b.blind(&rpush(&["3", "4"])).unwrap(), b.blind(&rpush(&["5"])).unwrap(), b.blind(&lpush(&["0", "-1"])).unwrap()];
    unseen.iter().for_each(|delta| a.hear(delta));
    assert_eq!(shown(&a), "-1 0 1 2 3 4 5");
    assert_eq!((a.ask(&rpush(&["6"])), shown(&a)), (Answer::Integer(8), "-1 0 1 2 3 4 5 6".to_owned()));
    assert_eq!(b.blind(&pop(Side::Left, 1)), Err(Refusal::NeedsReplica));
}

#[test]
fn an_expired_list_begins_anew_and_counts_anew() {
    let mut a = Replica::new(1);
    a.write(&rpush(&["1", "2"]));
    a.at(10).write(&expire(50));
    assert_eq!((a.ask(&rpush(&["3"])), a.end()), (Answer::Integer(3), 50));
    a.at(50);
    assert_eq!(a.ask(&pop(Side::Left, 1)), Answer::Nil);
    assert_eq!((a.ask(&rpush(&["4"])), a.ask(&lpush(&["0"])), shown(&a)), (Answer::Integer(1), Answer::Integer(2), "0 4".to_owned()));
    assert_eq!((a.ask(&insert(true, "4", "3")), a.ask(&pop(Side::Right, 9))), (Answer::Integer(3), items(&["4", "3", "0"])));
}

/// Counts the rows that are read.
struct Counted<'s>(&'s MemoryState, Cell<usize>);

impl Rows for Counted<'_> {
    type Error = Infallible;

    fn row(&self, address: &RowAddress) -> Result<Row, Infallible> {
        self.1.set(self.1.get() + 1);
        self.0.row(address)
    }

    fn visit_from(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Infallible> {
        self.0.visit_from(key, kind, &mut |address, row| {
            self.1.set(self.1.get() + 1);
            visitor(address, row)
        })
    }

    fn visit_back(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Infallible> {
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
fn pushing_and_popping_at_the_ends_reads_little_of_a_long_list() {
    let mut a = Replica::new(1);
    let words: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    a.write(&rpush(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    for mutation in [rpush(&["x"]), lpush(&["x"]), pop(Side::Left, 1), pop(Side::Right, 2), set(-1, "x"), set(1, "x")] {
        let read = a.author(|state, author| {
            let counted = Counted(state, Cell::new(0));
            super::super::execute::execute(&counted, &state.causal, author, &key(), &mutation).unwrap();
            counted.1.get()
        });
        assert!(read <= 4, "{mutation:?} read {read} rows");
    }
}
