//! The siblings of one field, and what takes their place: RINGTIDE SIBLINGS and RESOLVE with a field.
//!
//! A token names what its reader saw of the field's row. RESOLVE replaces that and nothing else, also where less of it is known than the reader saw.

use bytes::Bytes;

use super::super::draft::Draft;
use super::super::kind::DataType;
use super::super::outcome::{Answer, Outcome};
use super::super::refusal::Refusal;
use super::super::row::Payload;
use super::super::rows::Rows;
use super::super::shown::Shown;
use super::super::token::Token;
use super::super::value::ValueView;
use super::address;
use super::field::Field;

/// Every value that concurrent writes left of a field, and a token that names them. The types of the key are told where it shows another one.
pub(super) fn siblings<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, field: &Bytes) -> Result<Answer, R::Error> {
    let address = address(key, field);
    let row = rows.row(&address)?;
    let mut token = Token::default();
    token.see(&address, &row, &shown.expiry);
    let is_hash = shown.data_type.is_none_or(|data_type| data_type == DataType::Hash);
    let types = if is_hash { Vec::new() } else { shown.types(rows, key)? };
    Ok(Answer::Siblings { token: token.to_bytes(), values: ValueView::of(&row, &shown.expiry).values(), types })
}

/// Writes a value in place of exactly what the reader of a token saw. The field ends when it would have ended.
pub(super) fn resolve<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    field: &Bytes,
    token: &Bytes,
    value: &Bytes,
) -> Outcome<R::Error> {
    let token = Token::from_bytes(token).map_err(|_| Refusal::InvalidToken)?;
    let decision = shown.write_under(&mut draft);
    Field::on(rows, shown, &mut draft, field, |field, draft| {
        let terms = field.terms(draft, decision);
        let target = field.target();
        draft.replace_seen(target.address.clone(), &target.row, &token);
        target.add_base(draft, terms, Payload::Value(value.clone()));
    })?;
    Ok((draft.finish(), Answer::Ok))
}

#[cfg(test)]
mod tests {
    use super::super::super::command::Mutation as Command;
    use super::super::super::string;
    use super::super::super::testing::{Replica, bytes, expire, set as set_string, settle};
    use super::super::{Mutation, Query};
    use super::*;

    fn set(value: &str) -> Command {
        Mutation::Set(vec![(bytes("f"), bytes(value))]).into()
    }

    fn count(amount: i64) -> Command {
        Mutation::Increment { field: bytes("f"), amount }.into()
    }

    fn resolve(token: &Bytes, value: &str) -> Command {
        Mutation::Resolve { field: bytes("f"), token: token.clone(), value: bytes(value) }.into()
    }

    fn told(replica: &Replica) -> (Bytes, Vec<String>, Vec<DataType>) {
        match replica.query(&Query::Siblings(bytes("f")).into()) {
            Ok(Answer::Siblings { token, values, types }) => {
                (token, values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect(), types)
            }
            other => panic!("{other:?} tells no siblings"),
        }
    }

    #[test]
    fn a_field_is_resolved_as_a_key_is() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        a.write(&Mutation::Set(vec![(bytes("g"), bytes("other"))]).into());
        a.write(&set("one"));
        let two = b.at(5).write(&set("two"));
        a.hear(&two);
        let (token, values, types) = told(&a);
        assert_eq!((values, types), (vec!["two".to_owned(), "one".to_owned()], vec![]));
        // c writes beside them, and resolves though it has never heard of b's value.
        c.at(6).write(&set("three"));
        assert_eq!(c.at(9).ask(&resolve(&token, "both")), Answer::Ok);
        c.hear(&two);
        settle(&mut [&mut a, &mut b, &mut c]);
        assert_eq!(told(&a).1, ["both", "three"], "what was written meanwhile stays");
        assert_eq!(a.query(&Query::Get(vec![bytes("g")]).into()), Ok(Answer::Values(vec![Some(bytes("other"))])));
    }

    #[test]
    fn increments_that_the_reader_had_not_seen_count_on() {
        for heard in [true, false] {
            let (mut a, mut b) = (Replica::new(1), Replica::new(2));
            a.write(&count(5));
            b.pull(&a);
            let (token, values, _) = told(&b);
            assert_eq!(values, ["5"]);
            let more = a.write(&count(2));
            if heard {
                b.hear(&more);
            }
            b.write(&resolve(&token, "100"));
            settle(&mut [&mut a, &mut b]);
            assert_eq!(told(&a).1, ["102"]);
        }
    }

    #[test]
    fn the_former_entry_of_a_run_stays_with_those_who_have_no_other() {
        let (mut a, mut b, mut c) = (Replica::new(1), Replica::new(2), Replica::new(3));
        let read = b.write(&set("10"));
        [&mut a, &mut c].into_iter().for_each(|replica| replica.hear(&read));
        let (token, ..) = told(&b);
        c.hear(&a.write(&count(5)));
        // Nobody hears of the next entry of that run, and then a is gone for good.
        a.write(&count(2));
        c.hear(&a.write(&resolve(&token, "100")));
        assert_eq!(told(&c).1, ["105"]);
    }

    #[test]
    fn a_resolve_that_clears_leftovers_tells_of_the_floors_that_stay() {
        let nothing = Token::default().to_bytes();
        let of_key = string::Mutation::Resolve { token: nothing.clone(), value: bytes("v") }.into();
        for (resolve, shows) in [(resolve(&nothing, "10"), "12"), (of_key, "2")] {
            let (mut a, mut b) = (Replica::new(1), Replica::new(2));
            b.write(&count(5));
            a.pull(&b);
            // The field is gone, and the end of the key is left over. Of both nobody hears but by the clock of the next write.
            a.write(&expire(900));
            a.write(&Mutation::Remove(vec![bytes("f")]).into());
            let resolved = a.write(&resolve);
            b.write(&count(2));
            b.hear(&resolved);
            assert_eq!(told(&b).1, [shows]);
            a.pull(&b);
            assert_eq!(told(&a).1, [shows]);
        }
    }

    #[test]
    fn a_field_keeps_its_end_and_a_field_under_another_type_is_told_and_not_written() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.at(10).write(&set("one"));
        a.write(&Mutation::Expire { fields: vec![bytes("f")], at_ms: 50, condition: Default::default() }.into());
        a.write(&resolve(&told(&a).0, "two"));
        assert_eq!(a.query(&Query::Ends(vec![bytes("f")]).into()), Ok(Answer::Numbers(vec![50])));
        b.write(&set_string("s"));
        settle(&mut [&mut a, &mut b]);
        let (token, values, types) = told(&a);
        assert_eq!((values, types), (vec!["two".to_owned()], vec![DataType::String, DataType::Hash]));
        assert_eq!(a.attempt(&resolve(&token, "three")), Err(Refusal::WrongType));
        assert_eq!(Replica::new(9).blind(&resolve(&token, "x")), Err(Refusal::NeedsReplica));
        assert_eq!(Replica::new(9).attempt(&resolve(&bytes("nonsense"), "x")), Err(Refusal::InvalidToken));
    }
}
