//! Sorted sets: a row a member, which holds its score: a base that ZADD wrote last, and what ZINCRBY added to it (see [`super::additive`]).
//!
//! A member is in the set while its row shows something: so adding it, or to its score, wins over a concurrent ZREM, and concurrent increments add up.
//! The sum is exact (see [`super::number`]) and shown as the double nearest to it. A base that is infinite swallows what is added.
//!
//! Order and rank are counted off from an end ([`Rows::visit_ranked`]), which a replica does by an index of its own: of the scores as they are while
//! nothing has ended. Once something of the key may have ended, every row is read until what ended is removed.

mod range;
mod ranked;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use self::range::{MemberBound, Range, ScoreBound, Span};
use super::counter;
use super::draft::Draft;
use super::kind::{DataType, Kind};
use super::length::longest_of;
use super::number::Number;
use super::outcome::{Answer, Outcome};
use super::random::Pick;
use super::refusal::{ExecuteError, Refusal};
use super::row::{Payload, Row, RowAddress};
use super::rows::Rows;
use super::scan::Scan;
pub use super::score::{Order, Score};
pub use super::score_view::ScoreView;
use super::selection::Selection;
use super::shown::Shown;
use super::target::Target;
use crate::config::MAX_VALUE;

/// A change of a sorted set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Mutation {
    /// Sets scores. Answers how many members were new, or with `changed` how many are new or have another score.
    Add {
        /// The members with their scores, in the order in which they are set.
        members: Vec<(Bytes, Score)>,
        /// Which of them take effect.
        condition: AddCondition,
        /// Count changed scores too.
        changed: bool,
    },
    /// Adds to a score. Answers with the new one, or [`Answer::Nil`] where the condition does not hold.
    Increment {
        /// The member.
        member: Bytes,
        /// How much.
        amount: Score,
        /// Whether it takes effect.
        condition: AddCondition,
    },
    /// Removes members. Answers how many there were.
    Remove(Vec<Bytes>),
    /// Removes the members of a range. Answers how many there were.
    RemoveRange(Range),
    /// Removes the first members of an order and answers with them.
    Pop {
        /// How many at most.
        count: u64,
        /// From which end.
        order: Order,
    },
}

/// Which members ZADD touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AddCondition {
    /// By whether they are there.
    pub presence: Presence,
    /// By how the new score compares with the one they have.
    pub comparison: Comparison,
}

/// NX and XX.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Presence {
    /// Whether they are there or not.
    #[default]
    Any,
    /// NX: only new ones.
    Absent,
    /// XX: only those that are there.
    Present,
}

/// GT and LT. New members are added in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Comparison {
    /// However it compares.
    #[default]
    Any,
    /// GT: only to a greater score.
    Greater,
    /// LT: only to a lesser score.
    Less,
}

impl AddCondition {
    /// Whether a new score takes effect beside the one that shows.
    fn holds(self, shown: Option<f64>, score: f64) -> bool {
        let Some(shown) = shown else { return self.presence != Presence::Present };
        let compares = match self.comparison {
            Comparison::Any => true,
            Comparison::Greater => score > shown,
            Comparison::Less => score < shown,
        };
        self.presence != Presence::Absent && compares
    }
}

/// A question about a sorted set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// The scores of some members: [`Answer::Scores`].
    Scores(Vec<Bytes>),
    /// The members of a range with their scores: [`Answer::Scored`].
    Range(Range),
    /// How many members a range has.
    Count(Range),
    /// Members picked at random, with their scores: [`Answer::Scored`].
    Pick {
        /// How many.
        pick: Pick,
        /// What they are picked by.
        seed: u64,
    },
    /// Members with their scores from a hash on: [`Answer::Scanned`].
    Scan(Scan),
    /// The place of a member in an order, from 0; [`Answer::Nil`] where it is none.
    Rank {
        /// The member.
        member: Bytes,
        /// From which end.
        order: Order,
    },
}

impl Mutation {
    /// The length of the longest member that it carries, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Add { members, .. } => longest_of(members.iter().map(|(member, _)| member)),
            Self::Increment { member, .. } => member.len(),
            Self::Remove(members) => longest_of(members),
            Self::RemoveRange(range) => range.longest(),
            Self::Pop { .. } => 0,
        }
    }
}

impl Query {
    /// The length of the longest member that it names, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        match self {
            Self::Scores(members) => longest_of(members),
            Self::Range(range) | Self::Count(range) => range.longest(),
            Self::Rank { member, .. } => member.len(),
            Self::Pick { .. } | Self::Scan(_) => 0,
        }
    }
}

/// Which rows of a key a query needs.
pub(super) fn selection(query: &Query) -> Selection {
    match query {
        Query::Scores(members) => Selection::Elements { kind: Kind::Score, elements: members.clone() },
        Query::Scan(scan) => scan.selection(Kind::Score),
        Query::Range(_) | Query::Count(_) | Query::Rank { .. } | Query::Pick { .. } => Selection::All,
    }
}

/// Answers a query of a key that shows no other type.
pub(super) fn answer<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, query: &Query) -> Result<Answer, R::Error> {
    Ok(match query {
        Query::Scores(members) => {
            Answer::Scores(members.iter().map(|member| score_of(rows, shown, key, member)).collect::<Result<_, _>>()?)
        }
        Query::Range(range) => Answer::Scored(ranked::range(rows, shown, key, range)?),
        Query::Count(range) => Answer::count(ranked::number(rows, shown, key, range)?),
        Query::Pick { pick, seed } => {
            Answer::Scored(pick.of_rows(*seed, (rows, shown, key, Kind::Score), |address, row| scored_in(shown, address, row))?)
        }
        Query::Scan(scan) => scan.answer((rows, key, Kind::Score), |address, row| scored_in(shown, address, row), Answer::Scored)?,
        Query::Rank { member, order } => ranked::rank(rows, shown, key, member, *order)?.map_or(Answer::Nil, Answer::count),
    })
}

/// The score of a member; `None` where it is none.
fn score_of<R: Rows>(rows: &R, shown: &Shown, key: &Bytes, member: &Bytes) -> Result<Option<Score>, R::Error> {
    Ok(ScoreView::of(&rows.row(&address(key, member))?, &shown.expiry).score().map(Score::new))
}

/// The member of a row with its score, where it shows.
fn scored_in(shown: &Shown, address: &RowAddress, row: &Row) -> Option<(Bytes, Score)> {
    ScoreView::of(row, &shown.expiry).score().map(|score| (address.element.clone(), Score::new(score)))
}

/// Executes a mutation on what a key shows.
pub(super) fn execute<R: Rows>(rows: &R, shown: &Shown, draft: Draft<'_, '_>, mutation: &Mutation) -> Outcome<R::Error> {
    shown.expect(DataType::SortedSet)?;
    if mutation.longest() > MAX_VALUE {
        return Err(Refusal::TooBig.into());
    }
    let members_of = |draft: &Draft<'_, '_>, range: &Range| ranked::range(rows, shown, draft.key, range).map_err(ExecuteError::Rows);
    match mutation {
        Mutation::Add { members, condition, changed } => add(rows, shown, draft, members, *condition, *changed),
        Mutation::Increment { member, amount, condition } => increment(rows, shown, draft, member, *amount, *condition),
        Mutation::Remove(members) => {
            let (draft, removed) = remove(rows, shown, draft, members.iter().collect())?;
            Ok((draft.finish(), Answer::count(removed)))
        }
        Mutation::RemoveRange(range) => {
            let members = members_of(&draft, range)?;
            let (draft, removed) = remove(rows, shown, draft, members.iter().map(|(member, _)| member).collect())?;
            Ok((draft.finish(), Answer::count(removed)))
        }
        Mutation::Pop { count, order } => {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            let members = members_of(&draft, &Range { span: Span::Places(0, -1), order: *order, limit: Some((0, count)) })?;
            let (draft, _) = remove(rows, shown, draft, members.iter().map(|(member, _)| member).collect())?;
            Ok((draft.finish(), Answer::Scored(members)))
        }
    }
}

/// Executes a mutation having observed nothing: a score becomes a sibling, an increment a run of its own.
pub(super) fn execute_blind(draft: &mut Draft<'_, '_>, mutation: &Mutation) -> Result<Answer, Refusal> {
    if mutation.longest() > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let always = AddCondition::default();
    match mutation {
        Mutation::Add { members, condition, .. } if *condition == always => {
            let members: BTreeMap<&Bytes, Score> = members.iter().map(|(member, score)| (member, *score)).collect();
            for (member, score) in &members {
                draft.add(address(draft.key, member), None, Payload::Score(*score));
            }
            Ok(Answer::count(members.len()))
        }
        Mutation::Increment { member, amount, condition } if *condition == always => {
            match Number::from_double(amount.value()) {
                Some(number) => counter::begin_run(draft, address(draft.key, member), None, number),
                None => drop(draft.add(address(draft.key, member), None, Payload::Score(*amount))),
            }
            Ok(Answer::Score(*amount))
        }
        _ => Err(Refusal::NeedsReplica),
    }
}

/// The row of a member.
fn address(key: &Bytes, member: &Bytes) -> RowAddress {
    RowAddress::element(key, Kind::Score, member)
}

/// What ZADD knows and decides of one member.
struct Adding {
    row: Row,
    view: ScoreView,
    /// The score that shows, or was decided for by now.
    score: Option<f64>,
    is_set: bool,
}

/// ZADD. A member that is named twice is decided on twice, and written once.
fn add<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    members: &[(Bytes, Score)],
    condition: AddCondition,
    changed: bool,
) -> Outcome<R::Error> {
    let mut adding: BTreeMap<&Bytes, Adding> = BTreeMap::new();
    let (mut new, mut updated) = (0, 0);
    for (member, score) in members {
        if !adding.contains_key(member) {
            let row = rows.row(&address(draft.key, member)).map_err(ExecuteError::Rows)?;
            let view = ScoreView::of(&row, &shown.expiry);
            adding.insert(member, Adding { score: view.score(), row, view, is_set: false });
        }
        let Some(state) = adding.get_mut(member) else { continue };
        let score = score.value();
        if !condition.holds(state.score, score) {
            continue;
        }
        new += usize::from(state.score.is_none());
        updated += usize::from(state.score.is_some_and(|before| before != score));
        (state.score, state.is_set) = (Some(score), true);
    }
    adding.retain(|_, state| state.is_set);
    if adding.is_empty() {
        return Ok((draft.finish(), Answer::count(0)));
    }
    let decision = shown.write_under(&mut draft);
    for (member, Adding { row, view, score, .. }) in adding {
        let target = Target { address: address(draft.key, member), row, view: &view, expiry: &shown.expiry };
        target.set(&mut draft, decision, Payload::Score(Score::new(score.unwrap_or_default())));
    }
    Ok((draft.finish(), Answer::count(if changed { new + updated } else { new })))
}

/// ZINCRBY: adds exactly what makes the exact sum the double that Redis would come to.
fn increment<R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'_, '_>,
    member: &Bytes,
    amount: Score,
    condition: AddCondition,
) -> Outcome<R::Error> {
    let address = address(draft.key, member);
    let row = rows.row(&address).map_err(ExecuteError::Rows)?;
    let view = ScoreView::of(&row, &shown.expiry);
    let before = view.score();
    let score = before.unwrap_or(0.0) + amount.value();
    if score.is_nan() {
        return Err(Refusal::NotAScore.into());
    }
    if !condition.holds(before, score) {
        return Ok((draft.finish(), Answer::Nil));
    }
    let decision = shown.write_under(&mut draft);
    let target = Target { address, row, view: &view, expiry: &shown.expiry };
    match (Number::from_double(amount.value()), Number::from_double(score), view.exact()) {
        (Some(_), Some(score), Some(exact)) => target.add(&mut draft, decision, &score.minus(&exact))?,
        // What shows is infinite and stays so; what is added counts once the infinite base is gone.
        (Some(amount), None, _) if before.is_some_and(f64::is_infinite) => target.add(&mut draft, decision, &amount)?,
        _ => target.set(&mut draft, decision, Payload::Score(Score::new(score))),
    }
    Ok((draft.finish(), Answer::Score(Score::new(score))))
}

/// Removes members. One that does not show is not there, and is left to the removal of what its decision hides.
fn remove<'d, 'a, R: Rows>(
    rows: &R,
    shown: &Shown,
    mut draft: Draft<'d, 'a>,
    members: BTreeSet<&Bytes>,
) -> Result<(Draft<'d, 'a>, usize), ExecuteError<R::Error>> {
    let mut removed = 0;
    for member in members {
        let address = address(draft.key, member);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        let view = ScoreView::of(&row, &shown.expiry);
        if view.exists() {
            removed += 1;
            Target { address, row, view: &view, expiry: &shown.expiry }.clear(&mut draft);
        }
    }
    Ok((draft, removed))
}
