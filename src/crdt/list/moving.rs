//! Moving items: within a list as one write, and to another list in steps that each name exactly one item.
//!
//! ```text
//! source       Peek    x, named by its position and dots
//! destination  Place   x, and the name that it has there
//! source       Take    what was named: 1 where it stood as it was named, 0 where another took it or wrote over it
//! destination  Take    only then: what was placed is taken back
//! ```
//!
//! Whoever stops in the middle leaves the item at the source or at both, never in neither. An item whose row has other dots than its name is another item:
//! an LSET that came between is never taken away unseen.

use bytes::Bytes;

use super::super::delta::Delta;
use super::super::dot::Dot;
use super::super::draft::Draft;
use super::super::outcome::{Answer, Outcome};
use super::super::position::Position;
use super::super::refusal::{ExecuteError, Refusal};
use super::super::row::RowAddress;
use super::super::rows::Rows;
use super::super::shown::Shown;
use super::read::item;
use super::write::{Item, beyond, items, put_one, put_unseen};
use super::{ITEM, ItemName, Side};

/// The item at an end.
fn outermost<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, side: Side) -> Result<Option<Item>, ExecuteError<R::Error>> {
    Ok(items(rows, shown, key, side, |taken| taken == 0)?.pop())
}

/// Tells an item with its name.
fn named(item: &Bytes, (position, dot): (Position, Dot)) -> Answer {
    Answer::Named { item: item.clone(), name: ItemName { position: position.to_bytes(), dots: vec![dot] } }
}

/// The item at an end, and its name.
pub(super) fn peek<R: Rows>(rows: &R, shown: &Shown, draft: &Draft<'_, '_>, side: Side) -> Outcome<R::Error> {
    let outermost = outermost(rows, shown, draft.key, side)?;
    let answer = outermost.map_or(Answer::Nil, |Item { address, row, value }| {
        let name = ItemName { position: address.element, dots: row.into_keys().collect() };
        Answer::Named { item: value, name }
    });
    Ok((Delta::default(), answer))
}

/// Puts an item at an end.
pub(super) fn place<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, side: Side, item: &Bytes) -> Outcome<R::Error> {
    let neighbours = beyond(rows, draft.key, side).map_err(ExecuteError::Rows)?;
    let decision = shown.write_under(&mut draft);
    let placed = put_one(&mut draft, &neighbours, side.growth(), decision, item)?;
    Ok((draft.finish(), named(item, placed)))
}

/// Puts an item at an end of a list that was not seen.
pub(super) fn place_unseen(draft: &mut Draft<'_, '_>, side: Side, item: &Bytes) -> Result<Answer, Refusal> {
    Ok(named(item, put_unseen(draft, side, item)?))
}

/// Removes an item that stands here as it was named.
pub(super) fn take<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, name: &ItemName) -> Outcome<R::Error> {
    // Peers send names, and a row of a list is only looked for where one can stand.
    if Position::from_bytes(&name.position).is_err() {
        return Ok((Delta::default(), Answer::flag(false)));
    }
    let address = RowAddress::element(draft.key, ITEM, &name.position);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    let stands = item(&row, &shown.expiry).is_some() && row.keys().eq(&name.dots);
    if stands {
        draft.replace_row(address, &row, Vec::new());
    }
    Ok((draft.finish(), Answer::flag(stands)))
}

/// LMOVE within one list. Where both ends are the same there is nothing to write.
pub(super) fn rotate<R: Rows>(rows: &R, shown: &Shown, mut draft: Draft<'_, '_>, from: Side, to: Side) -> Outcome<R::Error> {
    let Some(Item { address, row, value }) = outermost(rows, shown, draft.key, from)? else {
        return Ok((Delta::default(), Answer::Nil));
    };
    if from != to {
        let neighbours = beyond(rows, draft.key, to).map_err(ExecuteError::Rows)?;
        let decision = shown.write_under(&mut draft);
        put_one(&mut draft, &neighbours, to.growth(), decision, &value)?;
        draft.replace_row(address, &row, Vec::new());
    }
    Ok((draft.finish(), Answer::Bytes(value)))
}

#[cfg(test)]
mod tests {
    use super::super::super::command;
    use super::super::super::testing::{Replica, bytes, expire, settle};
    use super::super::{Mutation, Query};
    use super::*;

    fn rpush(items: &[&str]) -> command::Mutation {
        Mutation::Push { side: Side::Right, items: items.iter().map(|item| bytes(item)).collect(), only_existing: false }.into()
    }

    fn rotate(from: Side, to: Side) -> command::Mutation {
        Mutation::Rotate { from, to }.into()
    }

    fn shown(replica: &Replica) -> String {
        let Ok(Answer::Items(items)) = replica.query(&Query::Range { start: 0, stop: -1 }.into()) else { panic!("no list") };
        items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn name(answer: Answer) -> (Bytes, ItemName) {
        let Answer::Named { item, name } = answer else { panic!("no name: {answer:?}") };
        (item, name)
    }

    #[test]
    fn exactly_the_named_item_is_taken_and_only_once() {
        let mut a = Replica::new(1);
        assert_eq!(a.ask(&Mutation::Peek(Side::Left).into()), Answer::Nil);
        a.write(&rpush(&["x", "x", "y"]));
        let (item, last) = name(a.ask(&Mutation::Peek(Side::Right).into()));
        assert_eq!((item, shown(&a)), (bytes("y"), "x x y".to_owned()), "to name changes nothing");
        let (_, placed) = name(a.ask(&Mutation::Place { side: Side::Right, item: bytes("x") }.into()));
        assert_eq!(shown(&a), "x x y x");
        for (taken, left) in [(&last, "x x x"), (&placed, "x x")] {
            assert_eq!((a.ask(&Mutation::Take(taken.clone()).into()), shown(&a).as_str()), (Answer::Integer(1), left));
            assert_eq!((a.ask(&Mutation::Take(taken.clone()).into()), shown(&a).as_str()), (Answer::Integer(0), left));
        }
        let nonsense = ItemName { position: bytes("k"), dots: Vec::new() };
        assert_eq!(a.ask(&Mutation::Take(nonsense).into()), Answer::Integer(0));
    }

    #[test]
    fn an_item_that_was_written_over_is_another_one() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&rpush(&["x"]));
        b.pull(&a);
        let (_, seen) = name(a.ask(&Mutation::Peek(Side::Left).into()));
        b.write(&Mutation::Set { index: 0, value: bytes("new") }.into());
        a.pull(&b);
        assert_eq!((a.ask(&Mutation::Take(seen.clone()).into()), shown(&a)), (Answer::Integer(0), "new".to_owned()));
        // What was named in vain has no dots here, and neither had the name that somebody made up.
        a.write(&Mutation::Pop { side: Side::Left, count: 1 }.into());
        assert_eq!(a.ask(&Mutation::Take(ItemName { dots: Vec::new(), ..seen }).into()), Answer::Integer(0));
    }

    #[test]
    fn what_was_placed_unseen_can_be_taken_where_it_arrived() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&rpush(&["x"]));
        let executed = b.author(|_, author| {
            super::super::super::execute::execute_blind(
                author,
                &bytes("k"),
                &Mutation::Place { side: Side::Right, item: bytes("y") }.into(),
            )
        });
        let executed = executed.unwrap();
        let (_, placed) = name(executed.answer);
        assert_eq!(a.ask(&Mutation::Take(placed.clone()).into()), Answer::Integer(0), "it is not here yet");
        a.hear(&executed.delta);
        assert_eq!(shown(&a), "x y");
        assert_eq!((a.ask(&Mutation::Take(placed).into()), shown(&a)), (Answer::Integer(1), "x".to_owned()));
    }

    #[test]
    fn a_list_is_turned_by_one_write_and_keeps_its_end() {
        let mut a = Replica::new(1);
        assert_eq!(a.ask(&rotate(Side::Left, Side::Right)), Answer::Nil);
        a.write(&rpush(&["1", "2", "3"]));
        a.at(10).write(&expire(50));
        for (from, to, item, then) in [
            (Side::Left, Side::Right, "1", "2 3 1"),
            (Side::Right, Side::Left, "1", "1 2 3"),
            (Side::Left, Side::Left, "1", "1 2 3"),
            (Side::Right, Side::Right, "3", "1 2 3"),
        ] {
            assert_eq!((a.ask(&rotate(from, to)), shown(&a).as_str(), a.end()), (Answer::Bytes(bytes(item)), then, 50));
        }
        a.write(&Mutation::Pop { side: Side::Left, count: 2 }.into());
        assert_eq!((a.ask(&rotate(Side::Left, Side::Right)), shown(&a), a.end()), (Answer::Bytes(bytes("3")), "3".to_owned(), 50));
        a.at(50);
        assert_eq!(a.ask(&rotate(Side::Left, Side::Right)), Answer::Nil);
    }

    #[test]
    fn both_sides_may_turn_a_list_and_nothing_is_lost() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&rpush(&["1", "2", "3"]));
        b.pull(&a);
        a.write(&rotate(Side::Left, Side::Right));
        b.write(&rotate(Side::Left, Side::Right));
        settle(&mut [&mut a, &mut b]);
        assert_eq!(shown(&a), "2 3 1 1", "the item that both turned is there twice");
    }
}
