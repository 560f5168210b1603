//! Hashes: fields as strings and counters, merged each for itself.

use super::super::testing::{DELETE, Replica, TYPE, add, bytes, expire, set as string_set, settle, text};
use super::super::{command, key as any_key};
use super::*;

const YES: Answer = Answer::Integer(1);
const NO: Answer = Answer::Integer(0);

fn set(pairs: &[(&str, &str)]) -> command::Mutation {
    Mutation::Set(pairs.iter().map(|(field, value)| (bytes(field), bytes(value))).collect()).into()
}

fn remove(fields: &[&str]) -> command::Mutation {
    Mutation::Remove(fields.iter().map(|field| bytes(field)).collect()).into()
}

fn increment(field: &str, amount: i64) -> command::Mutation {
    Mutation::Increment { field: bytes(field), amount }.into()
}

fn increment_float(field: &str, amount: &str) -> command::Mutation {
    Mutation::IncrementFloat { field: bytes(field), amount: bytes(amount) }.into()
}

fn pairs(replica: &Replica) -> Vec<(String, String)> {
    let Ok(Answer::Pairs(pairs)) = replica.query(&Query::Pairs.into()) else { panic!("pairs were asked for") };
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    pairs.into_iter().map(|(field, value)| (text(field), text(value))).collect()
}

fn shows(replica: &Replica, expected: &[(&str, &str)]) {
    assert_eq!(pairs(replica), expected.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect::<Vec<_>>());
    assert_eq!(replica.query(&Query::Length.into()), Ok(Answer::count(expected.len())));
}

#[test]
fn answers_are_those_of_redis() {
    let mut a = Replica::new(1);
    assert_eq!(a.ask(&set(&[("f", "1"), ("g", "2"), ("f", "3")])), Answer::Integer(2));
    assert_eq!(a.ask(&set(&[("f", "4"), ("h", "5")])), Answer::Integer(1));
    let new = |field: &str| Mutation::SetNew { field: bytes(field), value: bytes("x") }.into();
    assert_eq!((a.ask(&new("f")), a.ask(&new("i"))), (Answer::Integer(0), Answer::Integer(1)));
    let get = Query::Get(vec![bytes("f"), bytes("none"), bytes("i")]).into();
    assert_eq!(a.query(&get), Ok(Answer::Values(vec![Some(bytes("4")), None, Some(bytes("x"))])));
    assert_eq!((a.ask(&increment("f", 3)), a.ask(&increment("n", -2))), (Answer::Integer(7), Answer::Integer(-2)));
    assert_eq!(a.attempt(&increment("i", 1)), Err(Refusal::FieldNotAnInteger));
    assert_eq!(a.ask(&increment_float("f", "0.25")), text("7.25"));
    assert_eq!(a.attempt(&increment("f", 1)), Err(Refusal::FieldNotAnInteger));
    assert_eq!(a.attempt(&increment_float("i", "1")), Err(Refusal::FieldNotAFloat));
    assert_eq!(a.ask(&remove(&["f", "f", "none"])), Answer::Integer(1));
    shows(&a, &[("g", "2"), ("h", "5"), ("i", "x"), ("n", "-2")]);
    assert_eq!(a.query(&TYPE), Ok(Answer::Type(Some(DataType::Hash))));
    assert_eq!(a.attempt(&add(&["m"])), Err(Refusal::WrongType));
    assert_eq!(a.ask(&remove(&["g", "h", "i", "n"])), Answer::Integer(4));
    assert_eq!(a.query(&TYPE), Ok(Answer::Type(None)));
    a.write(&add(&["m"]));
    assert_eq!(a.attempt(&set(&[("f", "1")])), Err(Refusal::WrongType));
    assert_eq!(a.query(&Query::Pairs.into()), Err(Refusal::WrongType));
}

#[test]
fn fields_written_on_both_sides_are_each_merged_for_themselves() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&set(&[("both", "old"), ("gone", "x"), ("n", "10")]));
    b.pull(&a);
    a.write(&set(&[("both", "a"), ("left", "1")]));
    a.write(&increment("n", 1));
    b.at(5).write(&set(&[("both", "b"), ("right", "2")]));
    b.write(&remove(&["gone"]));
    b.write(&increment_float("n", "0.5"));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[("both", "b"), ("left", "1"), ("n", "11.5"), ("right", "2")]);
}

#[test]
fn a_write_of_a_field_wins_over_a_concurrent_remove() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&set(&[("f", "old"), ("n", "1")]));
    a.write(&increment("n", 4));
    b.pull(&a);
    a.write(&set(&[("f", "new")]));
    a.write(&increment("n", 2));
    b.write(&remove(&["f", "n"]));
    settle(&mut [&mut a, &mut b]);
    // Of the counter the remove took what it had observed.
    shows(&b, &[("f", "new"), ("n", "2")]);
}

#[test]
fn a_delete_resets_the_counters_of_all_fields() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    let names: Vec<String> = (0..crate::config::NAMED_REMOVES + 9).map(|n| format!("f{n}")).collect();
    names.iter().for_each(|name| drop(a.write(&increment(name, 5))));
    b.pull(&a);
    let (first, last) = (names.iter().min().unwrap().as_str(), names.iter().max().unwrap().as_str());
    b.write(&DELETE);
    a.write(&increment(first, 1));
    a.write(&increment(last, 2));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[(first, "1"), (last, "2")]);
}

#[test]
fn a_delete_keeps_what_an_earlier_remove_has_observed() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&increment("f", 5));
    b.pull(&a);
    b.write(&remove(&["f"]));
    b.write(&set(&[("g", "x")]));
    b.write(&DELETE);
    a.write(&increment("f", 2));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[("f", "2")]);
}

#[test]
fn a_delete_tells_of_all_the_floors_that_it_keeps() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    let names: Vec<String> = (0..5 * crate::config::NAMED_REMOVES).map(|n| format!("f{n:03}")).collect();
    names.iter().for_each(|name| drop(a.write(&increment(name, 5))));
    b.pull(&a);
    // Of the removes nobody hears, and their author is lost after the delete.
    names.iter().for_each(|name| drop(b.write(&remove(&[name]))));
    b.write(&set(&[("g", "x")]));
    let delete = b.write(&DELETE);
    names.iter().for_each(|name| drop(a.write(&increment(name, 2))));
    a.hear(&delete);
    let counted: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "2")).collect();
    shows(&a, &counted);
    // Whoever has the floors keeps them, and the delta names no dot that stays.
    b.pull(&a);
    assert!(delete.replaces.iter().all(|replaced| replaced.keeps.is_empty()));
    shows(&b, &counted);
}

#[test]
fn a_write_that_keeps_entries_of_a_counter_tells_them_again() {
    // One has seen more of a run than others have, and is lost after a write that replaces the decisions on the field.
    let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
    c.hear(&a.write(&increment("f", 5)));
    a.write(&increment("f", 2));
    b.pull(&a);
    c.hear(&b.write(&Mutation::Expire { fields: vec![bytes("f")], at_ms: 900, condition: Default::default() }.into()));
    shows(&c, &[("f", "7")]);
    // One has reset the run, and nobody hears of that but by the next write of the field.
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&increment("f", 5));
    b.pull(&a);
    b.write(&remove(&["f"]));
    b.write(&set(&[("f", "10")]));
    let expire = b.write(&Mutation::Expire { fields: vec![bytes("f")], at_ms: 900, condition: Default::default() }.into());
    a.write(&increment("f", 2));
    a.hear(&expire);
    shows(&a, &[("f", "2")]);
}

#[test]
fn a_hash_with_more_counters_than_one_delta_may_reset_is_emptied_in_parts() {
    let mut a = Replica::new(1);
    let names: Vec<String> = (0..16).map(|n| format!("{n:02}").repeat(512 * 1024)).collect();
    names.iter().for_each(|name| drop(a.write(&increment(name, 1))));
    assert_eq!(a.attempt(&DELETE), Err(Refusal::TooManyCounters));
    // Also what is gone is told, until its floors go: in the background, once all replicas have seen it.
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_eq!((a.ask(&remove(&all[..2])), a.attempt(&DELETE)), (Answer::Integer(2), Err(Refusal::TooManyCounters)));
    assert_eq!((a.ask(&remove(&all[2..])), a.ask(&DELETE)), (Answer::Integer(14), NO));
    assert_eq!((a.state.rows.len(), a.attempt(&string_set("v"))), (16, Err(Refusal::TooManyCounters)));
    a.state.rows.retain(|address, _| address.element != names[0]);
    assert_eq!((a.ask(&string_set("v")), a.ask(&DELETE), a.state.rows.len()), (Answer::Ok, YES, 15));
}

#[test]
fn a_blind_write_adds_and_takes_nothing_away() {
    let (mut a, mut fallback) = (Replica::new(1), Replica::new(9));
    a.write(&set(&[("f", "old"), ("n", "1")]));
    a.hear(&fallback.at(5).blind(&set(&[("f", "new")])).unwrap());
    a.hear(&fallback.blind(&increment("n", 2)).unwrap());
    a.hear(&fallback.blind(&increment_float("n", "0.5")).unwrap());
    shows(&a, &[("f", "new"), ("n", "3.5")]);
    assert_eq!(fallback.blind(&remove(&["f"])), Err(Refusal::NeedsReplica));
    assert_eq!(fallback.blind(&increment_float("f", "x")), Err(Refusal::NotAFloat));
}

#[test]
fn a_hash_expires_with_all_that_was_written_into_it() {
    let mut a = Replica::new(1);
    a.write(&set(&[("f", "1")]));
    a.write(&expire(50));
    a.write(&increment("n", 1));
    assert_eq!(a.end(), 50);
    a.at(60);
    shows(&a, &[]);
    a.write(&increment("n", 1));
    shows(&a, &[("n", "1")]);
}

#[test]
fn explain_tells_of_a_field_what_it_tells_of_a_string() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&set(&[("f", "1")]));
    b.at(5).write(&set(&[("f", "2")]));
    b.write(&increment("f", 3));
    settle(&mut [&mut a, &mut b]);
    let told = |replica: &Replica| match replica.query(&any_key::Query::Explain.into()) {
        Ok(Answer::Explained(told)) => told.into_iter().map(|dot| (dot.kind, dot.shows)).collect::<Vec<_>>(),
        other => panic!("{other:?} explains nothing"),
    };
    let field = |shows| ("field".to_owned(), shows);
    assert_eq!(told(&a), [field(false), field(true), field(true)]);
    a.write(&remove(&["f"]));
    // What is left is the floor of the increments that were removed.
    assert_eq!(told(&a), [field(false)]);
}
