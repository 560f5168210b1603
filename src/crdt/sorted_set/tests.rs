//! Sorted sets, replica against replica.

use super::super::command;
use super::super::delta::Delta;
use super::super::dot::Dot;
use super::super::row::Entry;
use super::super::testing::{DELETE, Replica, TYPE, add as add_to_set, bytes, key, settle};
use super::*;
use crate::types::{Actor, Timestamp};

fn add(members: &[(&str, f64)]) -> command::Mutation {
    add_where(members, AddCondition::default(), false)
}

fn add_where(members: &[(&str, f64)], condition: AddCondition, changed: bool) -> command::Mutation {
    let members = members.iter().map(|(member, score)| (bytes(member), Score::new(*score))).collect();
    Mutation::Add { members, condition, changed }.into()
}

fn increment(member: &str, amount: f64) -> command::Mutation {
    Mutation::Increment { member: bytes(member), amount: Score::new(amount), condition: AddCondition::default() }.into()
}

fn remove(members: &[&str]) -> command::Mutation {
    Mutation::Remove(members.iter().map(|member| bytes(member)).collect()).into()
}

fn told(answer: Answer) -> Vec<(String, f64)> {
    let Answer::Scored(members) = answer else { panic!("members were asked for") };
    members.into_iter().map(|(member, score)| (String::from_utf8(member.to_vec()).unwrap(), score.value())).collect()
}

fn range(replica: &Replica, span: Span, order: Order, limit: Option<(i64, i64)>) -> String {
    let members = told(replica.query(&Query::Range(Range { span, order, limit }).into()).unwrap());
    members.into_iter().map(|(member, _)| member).collect::<Vec<_>>().join(" ")
}

fn shows(replica: &Replica, expected: &[(&str, f64)]) {
    let members = told(replica.query(&Query::Range(Range::all()).into()).unwrap());
    assert_eq!(members, expected.iter().map(|(member, score)| ((*member).to_owned(), *score)).collect::<Vec<_>>());
}

fn score(double: f64) -> Answer {
    Answer::Score(Score::new(double))
}

#[test]
fn conditions_are_those_of_redis() {
    let mut a = Replica::new(1);
    assert_eq!(a.ask(&add(&[("x", 1.0), ("y", 2.0), ("x", 3.0)])), Answer::Integer(2));
    let condition = |presence, comparison| AddCondition { presence, comparison };
    let absent = condition(Presence::Absent, Comparison::Any);
    let present = condition(Presence::Present, Comparison::Any);
    let greater = condition(Presence::Any, Comparison::Greater);
    let less = condition(Presence::Any, Comparison::Less);
    assert_eq!(a.ask(&add_where(&[("x", 9.0), ("z", 0.5)], absent, true)), Answer::Integer(1));
    assert_eq!(a.ask(&add_where(&[("x", 4.0), ("w", 9.0)], present, true)), Answer::Integer(1));
    assert_eq!(a.ask(&add_where(&[("x", 3.0), ("y", 2.5), ("v", 7.0)], greater, true)), Answer::Integer(2));
    assert_eq!(a.ask(&add_where(&[("x", 5.0), ("y", 2.5), ("v", 6.0)], less, true)), Answer::Integer(1));
    shows(&a, &[("z", 0.5), ("y", 2.5), ("x", 4.0), ("v", 6.0)]);
    let by = |amount, condition| Mutation::Increment { member: bytes("x"), amount: Score::new(amount), condition }.into();
    assert_eq!((a.ask(&by(1.0, absent)), a.ask(&by(-1.0, greater)), a.ask(&by(1.0, greater))), (Answer::Nil, Answer::Nil, score(5.0)));
    assert_eq!(a.query(&Query::Scores(vec![bytes("x"), bytes("none")]).into()), Ok(Answer::Scores(vec![Some(Score::new(5.0)), None])));
    assert_eq!(a.ask(&remove(&["x", "none", "x"])), Answer::Integer(1));
    assert_eq!(a.attempt(&add_to_set(&["m"])), Err(Refusal::WrongType));
    assert_eq!(a.query(&TYPE), Ok(Answer::Type(Some(DataType::SortedSet))));
    assert_eq!(a.ask(&DELETE), Answer::Integer(1));
    a.write(&add_to_set(&["m"]));
    assert_eq!(a.attempt(&add(&[("x", 1.0)])), Err(Refusal::WrongType));
}

#[test]
fn ranges_are_those_of_redis() {
    let mut a = Replica::new(1);
    a.write(&add(&[("b", 1.0), ("a", 1.0), ("c", 2.0), ("d", f64::INFINITY), ("e", -3.5)]));
    let places = |start, stop, order| range(&a, Span::Places(start, stop), order, None);
    assert_eq!(places(0, -1, Order::Ascending), "e a b c d");
    assert_eq!(places(-2, 9, Order::Ascending), "c d");
    assert_eq!(places(1, 2, Order::Descending), "c b");
    assert_eq!((places(3, 1, Order::Ascending), places(9, 10, Order::Ascending)), (String::new(), String::new()));
    let at = |score, exclusive| ScoreBound { score: Score::new(score), exclusive };
    let scores = |least, greatest, order, limit| range(&a, Span::Scores(least, greatest), order, limit);
    assert_eq!(scores(at(1.0, false), at(2.0, false), Order::Ascending, None), "a b c");
    assert_eq!(scores(at(1.0, true), at(f64::INFINITY, false), Order::Descending, None), "d c");
    assert_eq!(scores(at(1.0, false), at(2.0, true), Order::Descending, Some((1, 5))), "a");
    assert_eq!(scores(at(-9.0, false), at(9.0, false), Order::Ascending, Some((1, -1))), "a b c");
    assert_eq!(scores(at(-9.0, false), at(9.0, false), Order::Ascending, Some((-1, 2))), "");
    assert_eq!(scores(at(5.0, false), at(1.0, false), Order::Ascending, None), "");
    a.write(&DELETE);
    a.write(&add(&[("a", 0.0), ("b", 0.0), ("c", 0.0), ("cc", -0.0)]));
    let members = |least, greatest, order| range(&a, Span::Members(least, greatest), order, None);
    assert_eq!(members(MemberBound::Least, MemberBound::Including(bytes("b")), Order::Ascending), "a b");
    assert_eq!(members(MemberBound::Excluding(bytes("a")), MemberBound::Greatest, Order::Descending), "cc c b");
    assert_eq!(members(MemberBound::Including(bytes("bb")), MemberBound::Excluding(bytes("cc")), Order::Ascending), "c");
    assert_eq!(members(MemberBound::Greatest, MemberBound::Least, Order::Ascending), "");
}

#[test]
fn members_are_taken_from_either_end_and_by_range() {
    let mut a = Replica::new(1);
    a.write(&add(&[("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0)]));
    let pop = |count, order| Mutation::Pop { count, order }.into();
    assert_eq!(told(a.ask(&pop(1, Order::Ascending))), [("a".to_owned(), 1.0)]);
    assert_eq!(told(a.ask(&pop(2, Order::Descending))), [("e".to_owned(), 5.0), ("d".to_owned(), 4.0)]);
    let rank = |order| Query::Rank { member: bytes("c"), order }.into();
    assert_eq!((a.query(&rank(Order::Ascending)), a.query(&rank(Order::Descending))), (Ok(Answer::Integer(1)), Ok(Answer::Integer(0))));
    let first = Range { span: Span::Places(0, 0), order: Order::Ascending, limit: None };
    assert_eq!(a.ask(&Mutation::RemoveRange(first).into()), Answer::Integer(1));
    shows(&a, &[("c", 3.0)]);
}

#[test]
fn increments_on_both_sides_add_up_exactly() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&add(&[("x", 0.1)]));
    b.pull(&a);
    // One after the other at one peer the scores are the machine's own.
    assert_eq!(a.ask(&increment("x", 0.2)), score(0.1 + 0.2));
    assert_eq!(a.ask(&increment("x", 1e17)), score(0.1 + 0.2 + 1e17));
    assert_eq!(a.ask(&increment("x", -1e17)), score(0.1 + 0.2 + 1e17 - 1e17));
    b.write(&increment("x", 0.5));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[("x", 0.5)]);
    a.write(&increment("y", 1.5));
    b.write(&increment("y", 2.0));
    settle(&mut [&mut a, &mut b]);
    shows(&b, &[("x", 0.5), ("y", 3.5)]);
}

#[test]
fn an_add_wins_over_a_concurrent_remove_and_the_later_score_shows() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&add(&[("x", 1.0), ("y", 1.0)]));
    a.write(&increment("y", 4.0));
    b.pull(&a);
    a.write(&add(&[("x", 1.0)]));
    a.write(&increment("y", 2.0));
    b.write(&remove(&["x", "y"]));
    settle(&mut [&mut a, &mut b]);
    // The remove took of y what it had observed: what was added since counts on from there.
    shows(&a, &[("x", 1.0), ("y", 2.0)]);
    a.write(&add(&[("x", 7.0)]));
    b.at(9).write(&add(&[("x", 3.0)]));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[("y", 2.0), ("x", 3.0)]);
    a.write(&add(&[("x", 8.0), ("y", 9.0)]));
    settle(&mut [&mut a, &mut b]);
    shows(&b, &[("x", 8.0), ("y", 9.0)]);
}

#[test]
fn an_infinite_score_swallows_what_is_added_and_two_of_both_signs_are_refused() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&add(&[("x", f64::INFINITY)]));
    b.pull(&a);
    assert_eq!(a.ask(&increment("x", 5.0)), score(f64::INFINITY));
    assert_eq!(a.attempt(&increment("x", f64::NEG_INFINITY)), Err(Refusal::NotAScore));
    b.write(&remove(&["x"]));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[("x", 5.0)]);
    assert_eq!(a.ask(&increment("x", f64::NEG_INFINITY)), score(f64::NEG_INFINITY));
    a.write(&add(&[("y", f64::MAX)]));
    assert_eq!(a.ask(&increment("y", f64::MAX)), score(f64::INFINITY));
    assert_eq!(a.ask(&increment("y", -f64::MAX)), score(f64::INFINITY));
    shows(&a, &[("x", f64::NEG_INFINITY), ("y", f64::INFINITY)]);
}

#[test]
fn a_blind_write_adds_and_takes_nothing_away() {
    let (mut a, mut fallback) = (Replica::new(1), Replica::new(9));
    a.write(&add(&[("x", 1.0)]));
    a.hear(&fallback.blind(&increment("x", 0.5)).unwrap());
    a.hear(&fallback.blind(&add(&[("y", 2.0)])).unwrap());
    a.hear(&fallback.blind(&increment("z", f64::INFINITY)).unwrap());
    shows(&a, &[("x", 1.5), ("y", 2.0), ("z", f64::INFINITY)]);
    assert_eq!(fallback.blind(&remove(&["x"])), Err(Refusal::NeedsReplica));
    let present = AddCondition { presence: Presence::Present, ..AddCondition::default() };
    assert_eq!(fallback.blind(&add_where(&[("x", 1.0)], present, false)), Err(Refusal::NeedsReplica));
}

#[test]
fn a_run_that_outgrows_what_can_be_stored_is_refused() {
    let mut a = Replica::new(1);
    let edge = Number::new(1.into(), 1088).minus(&Number::new(1.into(), 1023));
    let run = |actor, total| {
        let run = Dot { actor: Actor(actor), counter: 5 };
        let entry = Entry { timestamp: Timestamp(1), decision: None, field_decision: None, payload: Payload::Run { run, total } };
        (RowAddress::element(&key(), Kind::Score, &bytes("x")), run, entry)
    };
    // Nobody gets there by adding doubles; a peer may say that it did.
    a.hear(&Delta { adds: vec![run(1, edge.clone()), run(2, edge.negated())], ..Delta::default() });
    a.counter = 5;
    shows(&a, &[("x", 0.0)]);
    assert_eq!(a.attempt(&increment("x", 2f64.powi(1023))), Err(Refusal::Overflow));
    assert_eq!(a.ask(&increment("x", 2f64.powi(1022))), score(2f64.powi(1022)));
}

#[test]
fn a_delete_takes_what_it_saw_of_a_score_and_no_more() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.write(&add(&[("x", 1.0)]));
    a.write(&increment("x", 4.0));
    b.pull(&a);
    b.write(&DELETE);
    a.write(&increment("x", 2.0));
    settle(&mut [&mut a, &mut b]);
    shows(&a, &[("x", 2.0)]);
}
