//! Fields that expire: at one replica as Redis has them, and at several as they come together.

use std::time::Duration;

use super::super::super::command::Mutation as Command;
use super::super::super::delta::{Delta, Scope};
use super::super::super::dot::Dot;
use super::super::super::expiry::earliest_end;
use super::super::super::key as any_key;
use super::super::super::kind::Kind;
use super::super::super::number::Number;
use super::super::super::removal::{Passed, attests, dots_of, removable, removal};
use super::super::super::row::{Entry, Payload, Row, RowAddress};
use super::super::super::runs::holds_data;
use super::super::super::testing::{DELETE, PERSIST, Replica, TYPE, bytes, expire as expire_key, key, set as set_string, settle};
use super::super::{Mutation, Query};
use super::*;
use crate::types::Actor;

const GRACE: Duration = Duration::from_millis(20);

fn names(fields: &[&str]) -> Vec<Bytes> {
    fields.iter().map(|field| bytes(field)).collect()
}

fn set(field: &str, value: &str) -> Command {
    Mutation::Set(vec![(bytes(field), bytes(value))]).into()
}

fn set_expiring(field: &str, value: &str, expiry: SetExpiry) -> Command {
    Mutation::SetExpiring { pairs: vec![(bytes(field), bytes(value))], expiry, condition: SetCondition::Always }.into()
}

fn increment(field: &str, amount: i64) -> Command {
    Mutation::Increment { field: bytes(field), amount }.into()
}

fn remove(field: &str) -> Command {
    Mutation::Remove(names(&[field])).into()
}

fn expire_if(fields: &[&str], at_ms: i64, condition: ExpireCondition) -> Command {
    Mutation::Expire { fields: names(fields), at_ms, condition }.into()
}

fn expire(fields: &[&str], at_ms: i64) -> Command {
    expire_if(fields, at_ms, ExpireCondition::Always)
}

fn persist(fields: &[&str]) -> Command {
    Mutation::Persist(names(fields)).into()
}

fn numbers(numbers: &[i64]) -> Answer {
    Answer::Numbers(numbers.to_vec())
}

fn end(replica: &Replica, field: &str) -> i64 {
    match replica.query(&Query::Ends(names(&[field])).into()) {
        Ok(Answer::Numbers(ends)) => ends[0],
        other => panic!("{other:?} is no end"),
    }
}

fn value(replica: &Replica, field: &str) -> Option<String> {
    match replica.query(&Query::Get(names(&[field])).into()) {
        Ok(Answer::Values(values)) => values[0].as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap()),
        other => panic!("{other:?} is no value"),
    }
}

fn row(replica: &Replica, field: &str) -> Row {
    replica.state.rows.get(&address(&key(), &bytes(field))).cloned().unwrap_or_default()
}

fn standing(replica: &Replica, field: &str) -> Vec<Option<u64>> {
    Expiry::about(Subject::Field, &row(replica, field), replica.now()).standing().map(|decision| decision.time).collect()
}

fn found(replica: &Replica) -> Vec<Passed> {
    removable(&replica.state, &replica.state.causal, &key(), replica.state.rows.keys(), replica.now(), GRACE).unwrap()
}

fn confirms(member: &Replica, remover: &Replica, passed: &Passed) -> bool {
    let standing = dots_of(remover.state.rows.get(&passed.row).unwrap_or(&Row::new()), &passed.decision);
    attests(&member.state, &member.state.causal, &passed.row, &passed.decision, &standing, member.now(), GRACE).unwrap()
}

fn removes(replica: &mut Replica, passed: &Passed) -> Option<Delta> {
    let delta = replica.author(|state, author| removal(state, &state.causal, author, passed, GRACE)).unwrap()?;
    replica.hear(&delta);
    Some(delta)
}

#[test]
fn answers_are_those_of_redis() {
    let mut a = Replica::new(1);
    assert_eq!((a.ask(&expire(&["f", "g"], 50)), a.ask(&persist(&["f"])), end(&a, "f")), (numbers(&[-2, -2]), numbers(&[-2]), -2));
    a.at(10).write(&set("f", "v"));
    a.write(&set("g", "w"));
    assert_eq!((a.ask(&persist(&["f"])), end(&a, "f")), (numbers(&[-1]), -1));
    // A field that is named twice is as the first time left it.
    assert_eq!(a.ask(&expire_if(&["f", "x", "f"], 50, ExpireCondition::NoExpiry)), numbers(&[1, -2, 0]));
    assert_eq!(a.ask(&expire_if(&["f", "g"], 60, ExpireCondition::HasExpiry)), numbers(&[1, 0]));
    assert_eq!(a.ask(&expire_if(&["f", "g"], 60, ExpireCondition::Later)), numbers(&[0, 0]));
    assert_eq!(a.ask(&expire_if(&["f", "g"], 55, ExpireCondition::Earlier)), numbers(&[1, 1]));
    assert_eq!((end(&a, "f"), end(&a, "g")), (55, 55));
    assert_eq!((a.ask(&persist(&["f", "f"])), end(&a, "f")), (numbers(&[1, -1]), -1));
    assert_eq!((a.ask(&expire(&["g", "g"], 5)), value(&a, "g")), (numbers(&[2, -2]), None));
    assert_eq!(a.state.rows.len(), 1);
}

#[test]
fn fields_end_one_by_one_and_the_key_with_the_last() {
    let mut a = Replica::new(1);
    a.at(10).write(&set("f", "v"));
    a.write(&set("g", "w"));
    a.write(&expire(&["f"], 50));
    a.write(&expire(&["g"], 60));
    let length = |replica: &Replica| replica.query(&Query::Length.into());
    assert_eq!((a.at(49).end(), length(&a)), (-1, Ok(Answer::Integer(2))));
    assert_eq!((value(a.at(50), "f"), value(&a, "g"), length(&a)), (None, Some("w".to_owned()), Ok(Answer::Integer(1))));
    assert_eq!((a.at(60).query(&TYPE), a.end(), length(&a)), (Ok(Answer::Type(None)), -2, Ok(Answer::Integer(0))));
    assert_eq!((a.ask(&expire(&["g"], 90)), a.ask(&remove("g")), a.ask(&DELETE)), (numbers(&[-2]), Answer::Integer(0), Answer::Integer(0)));
}

#[test]
fn hset_takes_the_end_away_and_hincrby_and_keepttl_keep_it() {
    let mut a = Replica::new(1);
    a.at(10).write(&set_expiring("f", "1", SetExpiry::At(50)));
    a.write(&increment("f", 2));
    assert_eq!((value(&a, "f").as_deref(), end(&a, "f")), (Some("3"), 50));
    a.write(&set_expiring("f", "7", SetExpiry::Keep));
    assert_eq!((value(&a, "f").as_deref(), end(&a, "f"), standing(&a, "f")), (Some("7"), 50, vec![Some(50)]));
    a.write(&set("f", "8"));
    assert_eq!((value(a.at(50), "f").as_deref(), end(&a, "f"), standing(&a, "f")), (Some("8"), -1, vec![None]));
    a.write(&set_expiring("f", "9", SetExpiry::At(40)));
    assert!(value(&a, "f").is_none() && row(&a, "f").values().all(|entry| matches!(entry.payload, Payload::Floor { .. })));
}

#[test]
fn hgetex_and_hgetdel_answer_with_what_there_was() {
    let mut a = Replica::new(1);
    a.at(10).write(&set("f", "v"));
    let fields = |names: &[&str]| self::names(names);
    let told = |values: &[Option<&str>]| Answer::Values(values.iter().map(|value| value.map(bytes)).collect());
    let get_expire = |expiry| Mutation::GetExpire { fields: fields(&["f", "x", "f"]), expiry }.into();
    assert_eq!((a.ask(&get_expire(SetExpiry::At(50))), end(&a, "f")), (told(&[Some("v"), None, Some("v")]), 50));
    assert_eq!((a.ask(&get_expire(SetExpiry::Clear)), end(&a, "f")), (told(&[Some("v"), None, Some("v")]), -1));
    assert_eq!((a.ask(&get_expire(SetExpiry::At(5))), end(&a, "f")), (told(&[Some("v"), None, None]), -2));
    a.write(&set("f", "w"));
    assert_eq!(a.ask(&Mutation::GetRemove(fields(&["f", "f"])).into()), told(&[Some("w"), None]));
    assert!(a.state.rows.is_empty());
}

#[test]
fn hsetex_sets_all_fields_or_none() {
    let mut a = Replica::new(1);
    a.at(10).write(&set("f", "v"));
    let both = |condition| {
        let pairs = vec![(bytes("f"), bytes("1")), (bytes("g"), bytes("2"))];
        Mutation::SetExpiring { pairs, expiry: SetExpiry::At(50), condition }.into()
    };
    assert_eq!((a.ask(&both(SetCondition::Absent)), a.ask(&both(SetCondition::Present))), (Answer::Integer(0), Answer::Integer(0)));
    assert_eq!((value(&a, "f").as_deref(), value(&a, "g")), (Some("v"), None));
    assert_eq!((a.ask(&both(SetCondition::Always)), end(&a, "f"), end(&a, "g")), (Answer::Integer(1), 50, 50));
    assert_eq!(a.ask(&both(SetCondition::Present)), Answer::Integer(1));
}

#[test]
fn of_the_ends_of_key_and_field_the_earlier_hides_and_neither_lengthens_the_other() {
    let mut a = Replica::new(1);
    a.at(10).write(&set("f", "v"));
    a.write(&set("g", "w"));
    a.write(&expire(&["f"], 50));
    a.write(&expire_key(70));
    let (mut early, mut late) = (a.clone(), a.clone());
    assert_eq!((a.end(), end(&a, "f")), (70, 50));
    assert_eq!((value(a.clone().at(50), "f"), value(a.clone().at(50), "g").as_deref()), (None, Some("w")));
    early.write(&PERSIST);
    assert_eq!((value(early.at(50), "f"), value(early.at(80), "g").as_deref()), (None, Some("w")));
    late.write(&persist(&["f"]));
    assert_eq!((value(late.at(60), "f").as_deref(), value(late.at(70), "f")), (Some("v"), None));
}

#[test]
fn what_was_written_under_a_decision_keeps_it_where_the_decision_is_taken_away() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.at(10).write(&increment("f", 1));
    a.write(&expire(&["f"], 50));
    b.pull(&a);
    b.at(40).write(&increment("f", 2));
    for taking in [remove("f"), DELETE, set_string("s")] {
        let (mut a, mut b) = (a.clone(), b.clone());
        a.at(41).write(&taking);
        assert!(standing(&a, "f").is_empty(), "{taking:?}");
        settle(&mut [&mut a, &mut b]);
        let carries = |entry: &Entry| entry.field_decision.is_some_and(|decision| decision.time == Some(50));
        assert_eq!(row(&a, "f").values().filter(|entry| carries(entry)).count(), 1, "{taking:?}");
        let view = ValueView::of(&row(&a, "f"), &Expiry::of(&Row::new(), Timestamp::from_millis(50)));
        assert!(!view.has_runs(), "{taking:?}");
    }
}

#[test]
fn what_a_decision_kept_alive_does_not_end_by_the_next_value_of_the_field() {
    let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
    a.at(10).write(&set_expiring("f", "5", SetExpiry::At(50)));
    settle(&mut [&mut a, &mut b, &mut c]);
    // One counts under the first end; the others prolong it and write the field anew, without having heard of that.
    a.at(20).write(&increment("f", 1));
    b.at(30).write(&persist(&["f"]));
    b.write(&set("f", "10"));
    c.pull(&b);
    c.at(60).write(&set_expiring("f", "20", SetExpiry::At(90)));
    c.write(&set("f", "30"));
    settle(&mut [&mut a, &mut b, &mut c]);
    assert_eq!((value(a.at(49), "f").as_deref(), value(a.at(100), "f").as_deref(), end(&a, "f")), (Some("31"), Some("31"), -1));
    assert_eq!(found(&a), []);
    // A HDEL ends what it has observed; what it has not keeps the end under which it was written.
    c.pull(&a);
    a.at(100).write(&expire(&["f"], 150));
    b.pull(&a);
    a.at(110).write(&increment("f", 1));
    b.at(120).write(&persist(&["f"]));
    b.write(&remove("f"));
    settle(&mut [&mut a, &mut b]);
    assert_eq!((value(a.at(149), "f").as_deref(), end(&a, "f"), value(a.at(150), "f")), (Some("1"), 150, None));
}

#[test]
fn passed_decisions_are_taken_away_by_removals_only() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 1));
    a.write(&expire(&["f"], 50));
    a.at(60).write(&increment("f", 2));
    a.write(&expire(&["f"], 90));
    assert_eq!(value(&a, "f").as_deref(), Some("2"));
    let commands = [
        set("f", "7"),
        remove("f"),
        DELETE,
        set_string("s"),
        expire(&["f"], 95),
        expire(&["f"], 5),
        persist(&["f"]),
        set_expiring("f", "8", SetExpiry::At(95)),
        Mutation::GetRemove(names(&["f"])).into(),
    ];
    for command in commands {
        let mut a = a.clone();
        let delta = a.write(&command);
        assert!(standing(&a, "f").contains(&Some(50)) && !standing(&a, "f").contains(&Some(90)), "{command:?}: {:?}", standing(&a, "f"));
        let mut other = Replica::new(2);
        other.pull(&a);
        other.hear(&delta);
        assert_eq!(standing(&other, "f"), standing(&a, "f"), "{command:?}");
    }
}

#[test]
fn a_write_to_a_hidden_field_takes_nothing_and_carries_nothing() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 5));
    a.write(&expire(&["f"], 50));
    let delta = a.at(60).write(&increment("f", 2));
    assert!(delta.removes.is_empty() && delta.replaces.is_empty());
    let [(_, dot, entry)] = delta.adds.as_slice() else { panic!("one entry was expected") };
    assert_eq!((entry.field_decision, &entry.payload), (None, &Payload::Run { run: *dot, total: Number::Integer(2) }));
    assert_eq!((value(&a, "f").as_deref(), end(&a, "f"), row(&a, "f").len()), (Some("2"), -1, 3));
}

#[test]
fn a_write_to_a_field_that_is_hidden_with_its_key_leaves_the_decisions_alone() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 5));
    a.write(&expire(&["f"], 90));
    a.write(&expire_key(50));
    // By another clock the field still shows, until 90.
    let delta = a.at(60).write(&increment("f", 2));
    assert!(delta.replaces.is_empty() && delta.adds.iter().all(|(_, _, entry)| entry.field_decision.is_none()));
    assert_eq!((standing(&a, "f"), end(&a, "f"), value(&a, "f").as_deref()), (vec![Some(90)], -1, Some("2")));
}

#[test]
fn leftovers_are_cleared_by_the_next_life_unless_something_is_pending() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 1));
    a.write(&set("g", "v"));
    a.write(&expire(&["f"], 90));
    a.at(20).write(&expire_key(50));
    let [passed] = found(a.at(70)).try_into().unwrap();
    removes(&mut a, &passed).unwrap();
    // The key is gone with all its data; the decision on the field is left, since it may speak of what outlives the key.
    assert_eq!((a.end(), standing(&a, "f")), (-2, vec![Some(90)]));
    let mut behind = a.clone();
    let unseen = [Dot { actor: Actor(9), counter: 1 }].into_iter().collect();
    behind.state.causal.supersede(&Scope::Row(address(&key(), &bytes("f"))), &unseen);
    a.write(&increment("f", 2));
    assert_eq!((standing(&a, "f").len(), end(&a, "f"), value(&a, "f").as_deref()), (0, -1, Some("2")));
    let delta = behind.write(&increment("f", 2));
    assert_eq!((standing(&behind, "f").len(), end(&behind, "f")), (1, 90));
    assert!(delta.adds.iter().all(|(_, _, entry)| entry.field_decision.is_some()));
}

#[test]
fn a_persist_of_this_life_overtakes_and_one_of_the_next_does_not_reach_back() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 1));
    a.write(&expire(&["f"], 50));
    let (mut slow, mut fast) = (a.clone(), a.clone());
    (slow.actor, fast.actor) = (Actor(2), Actor(3));
    slow.at(40).write(&persist(&["f"]));
    fast.at(60).write(&increment("f", 10));
    fast.write(&expire(&["f"], 90));
    fast.write(&persist(&["f"]));
    assert_eq!((value(&fast, "f").as_deref(), end(&fast, "f")), (Some("10"), -1));
    fast.pull(&slow);
    assert_eq!(value(&fast, "f").as_deref(), Some("11"));
}

#[test]
fn what_is_hidden_goes_after_the_grace_time_with_a_quorums_consent() {
    let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
    a.at(10).write(&increment("f", 5));
    a.write(&set("g", "v"));
    a.write(&expire(&["f"], 50));
    settle(&mut [&mut a, &mut b, &mut c]);
    assert!(found(a.at(69)).is_empty());
    let [passed] = found(a.at(70)).try_into().unwrap();
    assert_eq!(passed.row, address(&key(), &bytes("f")));
    assert!(!confirms(b.at(69), &a, &passed), "by its own clock it is too early");
    assert!(confirms(b.at(70), &a, &passed));
    // One that prolonged it, and one that set the field anew, consent to nothing.
    b.at(20).write(&persist(&["f"]));
    c.at(20).write(&set("f", "w"));
    assert!(!confirms(b.at(90), &a, &passed) && !confirms(c.at(90), &a, &passed));
    removes(&mut a, &passed).unwrap();
    assert!(row(&a, "f").values().all(|entry| matches!(entry.payload, Payload::Floor { total: Number::Integer(5), .. })));
    assert_eq!((found(&a), value(&a, "g").as_deref()), (vec![], Some("v")));
    b.pull(&a);
    assert_eq!(removes(&mut b, &passed), None, "it was prolonged there");
}

#[test]
fn what_goes_with_its_key_leaves_the_decisions_on_its_field() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.at(10).write(&set("f", "v"));
    a.write(&expire(&["f"], 60));
    b.pull(&a);
    a.at(30).write(&persist(&["f"]));
    a.write(&expire_key(50));
    // Neither has come to b, which writes under the first end of the field, when the key is gone elsewhere.
    b.at(55).write(&set_expiring("f", "w", SetExpiry::Keep));
    let [passed] = found(a.at(70)).try_into().unwrap();
    removes(&mut a, &passed).unwrap();
    settle(&mut [&mut a, &mut b]);
    assert_eq!(value(a.at(90), "f").as_deref(), Some("w"), "it was persisted before it was written");
}

#[test]
fn nothing_is_removed_while_a_decision_may_be_on_its_way() {
    let (mut a, mut b) = (Replica::new(1), Replica::new(2));
    a.at(10).write(&set_expiring("f", "v", SetExpiry::At(50)));
    b.pull(&a);
    b.at(11).write(&expire(&["f"], 60));
    let [passed] = found(a.at(90)).try_into().unwrap();
    // A later write reaches a, the next decision is on its way: pending.
    let mut later = b.at(12).write(&persist(&["f"]));
    later.adds.clear();
    later.removes.clear();
    later.replaces.iter_mut().for_each(|replaced| replaced.keeps = row(&a, "f").into_keys().collect());
    a.hear(&later);
    assert_eq!((found(&a), removes(&mut a, &passed)), (vec![], None));
}

#[test]
fn decisions_alone_are_no_data() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 1));
    a.write(&expire(&["f"], 50));
    let mut decisions = row(&a, "f");
    decisions.retain(|_, entry| matches!(entry.payload, Payload::Decision(_)));
    assert!(holds_data(&row(&a, "f")) && !holds_data(&decisions));
}

#[test]
fn a_peer_that_holds_nothing_may_set_a_field_with_its_end() {
    let (mut a, mut fallback) = (Replica::new(1), Replica::new(9));
    a.at(10).write(&set("f", "old"));
    a.hear(&fallback.at(20).blind(&set_expiring("f", "new", SetExpiry::At(50))).unwrap());
    assert_eq!((value(a.at(30), "f").as_deref(), end(&a, "f")), (Some("new"), 50));
    assert_eq!(value(a.at(50), "f"), None, "what was there before ends with it");
    for command in [expire(&["f"], 90), persist(&["f"]), set_expiring("f", "v", SetExpiry::Keep)] {
        assert_eq!(fallback.blind(&command), Err(Refusal::NeedsReplica));
    }
}

#[test]
fn explain_tells_of_the_ends_of_fields() {
    let mut a = Replica::new(1);
    a.at(10).write(&increment("f", 1));
    a.write(&expire(&["f"], 50));
    a.write(&increment("f", 1));
    a.write(&set("g", "v"));
    let told = |replica: &Replica| match replica.query(&any_key::Query::Explain.into()) {
        Ok(Answer::Explained(told)) => {
            let field = told.into_iter().filter(|dot| dot.kind == Kind::Field.name() && dot.element == "f");
            field.map(|dot| (dot.content, dot.shows, dot.reason)).collect::<Vec<_>>()
        }
        other => panic!("{other:?} explains nothing"),
    };
    let before = told(&a);
    assert!(before[0].0 == "expires at 50" && before[0].1 && before[0].2 == "stands", "{before:?}");
    assert!(before[1].0.ends_with("as a field expires at 50") && before[1].1, "{before:?}");
    let after = told(a.at(60));
    assert_eq!(after[1].2, "hidden: it expired at 50");
    assert!(!after[1].1 && after[0].2.contains("passed"), "{after:?}");
}

#[test]
fn a_row_is_found_by_the_earliest_end_in_it() {
    let mut a = Replica::new(1);
    a.at(10).write(&set_expiring("f", "v", SetExpiry::At(50)));
    a.write(&increment("n", 1));
    let ends: Vec<Option<u64>> = a.state.rows.values().map(earliest_end).collect();
    assert_eq!(ends, [Some(50), None]);
    let address = RowAddress::element(&key(), Kind::Field, &bytes("f"));
    let mut carried = a.state.rows[&address].clone();
    carried.retain(|_, entry| !matches!(entry.payload, Payload::Decision(_)));
    assert_eq!(earliest_end(&carried), Some(50));
}
