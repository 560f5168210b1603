//! What a key shows as a whole, read here and written there: for RENAME, COPY and what a command computes from several keys.
//!
//! Content takes the place of whatever a key holds in one mutation at one replica, so there is one delta, and nobody keeps half of it. What a reader
//! saw of the source is named by a [`Token`](super::token::Token); its removal takes exactly that, and a write that came between stays.

use bytes::Bytes;

use super::content::Content;
use super::draft::Draft;
use super::kind::{DataType, Kind};
use super::refusal::Refusal;
use super::row::{Decision, Payload, RowAddress};
use super::rows::{self, Rows};
use super::shown::Shown;
use super::{hash, hyperloglog, list, set};
use crate::config::MAX_VALUE;

/// What a key shows; `None` where there is no key.
pub(super) fn read<R: Rows>(rows: &R, shown: &Shown, key: &Bytes) -> Result<Option<Content>, R::Error> {
    let Some(data_type) = shown.data_type else { return Ok(None) };
    Ok(Some(match data_type {
        DataType::String => Content::String(shown.string.values()),
        DataType::Set => Content::Set(set::members(rows, key, &shown.expiry)?),
        DataType::Hash => Content::Hash(hash::contents(rows, shown, key)?),
        DataType::SortedSet => Content::SortedSet(rows::scored(rows, &shown.expiry, key)?),
        DataType::List => Content::List(list::values(rows, key, &shown.expiry)?),
        DataType::HyperLogLog => Content::HyperLogLog(hyperloglog::registers(rows, key, &shown.expiry)?.to_bytes()),
    }))
}

/// Writes content into a key of which nothing is left.
///
/// # Errors
/// Where an element exceeds its limit.
pub(super) fn write(draft: &mut Draft<'_, '_>, decision: Option<Decision>, content: &Content) -> Result<(), Refusal> {
    if content.longest() > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let key = draft.key;
    let add = |draft: &mut Draft<'_, '_>, kind, element: &Bytes, payload| {
        draft.add(RowAddress::element(key, kind, element), decision, payload);
    };
    match content {
        // Of siblings of one time the last one shows.
        Content::String(values) => {
            values.iter().rev().for_each(|value| add(draft, Kind::Value, &Bytes::new(), Payload::Value(value.clone())))
        }
        Content::Set(members) => members.iter().for_each(|member| add(draft, Kind::Member, member, Payload::Present)),
        Content::Hash(fields) => fields.iter().for_each(|field| hash::write_content(draft, decision, field)),
        Content::SortedSet(members) => members.iter().for_each(|(member, score)| add(draft, Kind::Score, member, Payload::Score(*score))),
        Content::List(items) => list::write_all(draft, decision, items)?,
        Content::HyperLogLog(registers) => hyperloglog::write_all(draft, decision, registers),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::command::Mutation;
    use super::super::outcome::Answer;
    use super::super::score::Score;
    use super::super::testing::{ONE, Replica, TYPE, add, bytes, expire, increment, set, settle, text};
    use super::super::token::Token;
    use super::super::{hash as any_hash, hyperloglog as any_log, key, list as any_list, sorted_set as scores, string};
    use super::*;

    fn content(replica: &Replica) -> (Option<Content>, Option<u64>, Bytes) {
        match replica.query(&key::Query::Content { with_token: true }.into()) {
            Ok(Answer::Content { content, expires_at_ms, token }) => (content, expires_at_ms, token),
            other => panic!("{other:?} is no content"),
        }
    }

    fn replace(content: Content) -> Mutation {
        key::Mutation::Replace { content, expires_at_ms: None, only_new: false }.into()
    }

    fn remove_seen(token: &Bytes) -> Mutation {
        key::Mutation::RemoveSeen { token: token.clone() }.into()
    }

    fn push(item: &str) -> Mutation {
        any_list::Mutation::Push { side: any_list::Side::Right, items: vec![bytes(item)], only_existing: false }.into()
    }

    fn is_gone(replica: &Replica) -> bool {
        replica.query(&TYPE) == Ok(Answer::Type(None))
    }

    #[test]
    fn content_of_every_type_is_the_same_where_it_was_written() {
        let scored = scores::Mutation::Add { members: vec![(bytes("m"), Score::new(2.5))], condition: Default::default(), changed: false };
        let writes: [Vec<Mutation>; 7] = [
            vec![set("text")],
            vec![increment(41), ONE],
            vec![add(&["x", "y"])],
            vec![
                any_hash::Mutation::Set(vec![(bytes("f"), bytes("v"))]).into(),
                any_hash::Mutation::Increment { field: bytes("n"), amount: 7 }.into(),
            ],
            vec![scored.into()],
            vec![push("one"), push("two"), push("one")],
            vec![any_log::Mutation::Add(vec![bytes("e"), bytes("f")]).into()],
        ];
        for write in &writes {
            let (mut source, mut target) = (Replica::new(1), Replica::new(2));
            write.iter().for_each(|mutation| drop(source.write(mutation)));
            let (Some(held), None, _) = content(&source) else { panic!("there is no content") };
            target.write(&add(&["before"]));
            let delta = target.write(&replace(held.clone()));
            assert_eq!(content(&target).0, Some(held), "what was there before is gone");
            let mut other = Replica::new(3);
            other.hear(&delta);
            assert_eq!(content(&other).0, content(&target).0, "one delta says all of it");
        }
    }

    #[test]
    fn the_ends_of_fields_are_copied_too() {
        let expire = |field, at_ms| {
            let condition = key::ExpireCondition::Always;
            any_hash::Mutation::Expire { fields: vec![bytes(field)], at_ms, condition }.into()
        };
        let (mut source, mut target) = (Replica::new(1), Replica::new(2));
        source.write(&any_hash::Mutation::Set(vec![(bytes("f"), bytes("v")), (bytes("g"), bytes("w"))]).into());
        source.write(&expire("f", 9_000));
        let (Some(held), _, token) = content(&source) else { panic!("there is no content") };
        let ends = any_hash::Query::Ends(vec![bytes("f"), bytes("g")]).into();
        target.write(&replace(held));
        assert_eq!(target.query(&ends), Ok(Answer::Numbers(vec![9_000, -1])));
        target.at(9_000);
        assert_eq!(target.query(&any_hash::Query::Pairs.into()), Ok(Answer::Pairs(vec![(bytes("g"), bytes("w"))])));
        source.write(&remove_seen(&token));
        assert!(source.state.rows.is_empty(), "the decision went with its field");
    }

    #[test]
    fn siblings_are_copied_and_the_same_one_shows() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("one"));
        b.at(5).write(&set("two"));
        settle(&mut [&mut a, &mut b]);
        let (Some(held), ..) = content(&a) else { panic!("there is no content") };
        let mut target = Replica::new(3);
        target.write(&replace(held));
        assert_eq!((target.get(), target.siblings().1), (text("two"), vec!["two".to_owned(), "one".to_owned()]));
    }

    #[test]
    fn a_removal_takes_exactly_what_its_reader_saw() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&add(&["x", "y"]));
        b.pull(&a);
        let token = content(&a).2;
        // b knows more than the reader, and what was written there meanwhile stays: a new member, and one that was added anew.
        b.write(&add(&["y", "z"]));
        assert_eq!(b.ask(&remove_seen(&token)), Answer::Integer(1));
        assert_eq!(b.members(), ["y", "z"]);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.members(), ["y", "z"]);
        assert!(b.write(&remove_seen(&Token::default().to_bytes())).is_empty());
    }

    #[test]
    fn a_removal_where_less_is_known_than_was_read_takes_it_once_it_comes() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        let late = a.write(&add(&["x"]));
        b.write(&remove_seen(&content(&a).2));
        b.hear(&late);
        assert!(is_gone(&b));
        settle(&mut [&mut a, &mut b]);
        assert!(is_gone(&a) && a.state.rows.is_empty());
    }

    #[test]
    fn increments_that_were_not_read_count_on() {
        for replicas in 0..2 {
            let (mut a, mut b) = (Replica::new(1), Replica::new(2));
            a.write(&increment(5));
            b.pull(&a);
            let token = content(&b).2;
            let more = a.write(&increment(2));
            // At the removal the later increment is known, or not yet.
            if replicas == 0 {
                b.hear(&more);
            }
            b.write(&remove_seen(&token));
            settle(&mut [&mut a, &mut b]);
            assert_eq!((a.get(), b.get()), (text("2"), text("2")));
        }
    }

    #[test]
    fn increments_of_a_field_that_were_not_read_count_on() {
        let count = |amount| any_hash::Mutation::Increment { field: bytes("f"), amount }.into();
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&count(5));
        let token = content(&a).2;
        a.write(&count(2));
        // b has never heard of the field.
        b.write(&remove_seen(&token));
        settle(&mut [&mut a, &mut b]);
        assert_eq!(b.query(&any_hash::Query::Get(vec![bytes("f")]).into()), Ok(Answer::Values(vec![Some(bytes("2"))])));
    }

    #[test]
    fn a_removal_leaves_the_former_entry_of_a_run_to_those_who_have_no_other() {
        let count = |field, amount| any_hash::Mutation::Increment { field: bytes(field), amount }.into();
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        let read = b.write(&count("read", 1));
        a.hear(&read);
        c.hear(&read);
        let token = content(&b).2;
        c.hear(&a.write(&count("f", 5)));
        // Nobody hears of the next entry of that run, and then a is gone for good.
        a.write(&count("f", 2));
        c.hear(&a.write(&remove_seen(&token)));
        assert_eq!(c.query(&any_hash::Query::Pairs.into()), Ok(Answer::Pairs(vec![(bytes("f"), bytes("5"))])));
    }

    #[test]
    fn the_end_of_a_key_goes_with_the_last_of_it() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        b.write(&add(&["y"]));
        a.at(10).write(&add(&["x"]));
        a.write(&expire(90));
        let (_, end, token) = content(&a);
        assert_eq!(end, Some(90));
        // What b wrote before is ruled by the decision, and does not carry it.
        b.at(20).pull(&a);
        a.write(&remove_seen(&token));
        assert!(a.state.rows.is_empty());
        b.write(&remove_seen(&token));
        assert_eq!((b.members(), b.end()), (vec!["y".to_owned()], 90));
    }

    #[test]
    fn an_end_that_has_passed_meanwhile_deletes_the_target() {
        let mut a = Replica::new(1);
        a.at(50).write(&set("before"));
        let passed = key::Mutation::Replace { content: Content::Set(vec![bytes("x")]), expires_at_ms: Some(20), only_new: false };
        assert_eq!(a.ask(&passed.into()), Answer::Integer(1));
        assert!(is_gone(&a));
        let ahead = key::Mutation::Replace { content: Content::Set(vec![bytes("x")]), expires_at_ms: Some(90), only_new: true };
        assert_eq!((a.ask(&ahead.clone().into()), a.end()), (Answer::Integer(1), 90));
        assert_eq!(a.ask(&ahead.into()), Answer::Integer(0), "it is there by now");
        assert!(a.at(90).members().is_empty());
    }

    #[test]
    fn a_resolve_replaces_other_types_too_that_its_reader_saw() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        a.write(&add(&["x"]));
        b.write(&push("item"));
        c.write(&set("s"));
        settle(&mut [&mut a, &mut b, &mut c]);
        let Ok(Answer::Siblings { token, values, types }) = a.query(&string::Query::Siblings.into()) else {
            panic!("siblings were asked for")
        };
        assert_eq!((values, types), (vec![bytes("s")], vec![DataType::String, DataType::Set, DataType::List]));
        // Whoever holds no replica sees no string.
        let meanwhile = b.blind(&add(&["meanwhile"])).unwrap();
        b.hear(&meanwhile);
        c.write(&string::Mutation::Resolve { token: token.clone(), value: bytes("all") }.into());
        settle(&mut [&mut a, &mut b, &mut c]);
        assert_eq!(a.get(), text("all"));
        let Ok(Answer::Siblings { values, types, .. }) = b.query(&string::Query::Siblings.into()) else {
            panic!("siblings were asked for")
        };
        assert_eq!((values, types), (vec![bytes("all")], vec![DataType::String, DataType::Set]), "what came between is kept");
    }

    #[test]
    fn siblings_of_a_key_of_another_type_tell_that_type_and_a_string_may_take_its_place() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&add(&["x"]));
        b.pull(&a);
        let Ok(Answer::Siblings { token, values, types }) = a.query(&string::Query::Siblings.into()) else {
            panic!("siblings were asked for")
        };
        assert_eq!((values, types), (vec![], vec![DataType::Set]));
        // What its reader had not seen stays beside the string.
        b.write(&add(&["y"]));
        assert_eq!(a.ask(&string::Mutation::Resolve { token, value: bytes("v") }.into()), Answer::Ok);
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.get(), text("v"));
        b.write(&string::Mutation::GetDelete.into());
        assert_eq!(b.state.rows.len(), 0, "a DEL takes both");
        a.pull(&b);
        assert!(is_gone(&a));
    }
}
