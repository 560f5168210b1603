//! SORT: the elements of a list, set or sorted set in another order, and what other keys hold for each of them.
//!
//! Four rounds, each asking keys that the one before told of:
//!
//! ```text
//! read the elements ─► BY: read a weight for each ─► sort, LIMIT ─► GET: read values for each that is left ─► reply, or STORE
//! ```

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};

use super::action::{Action, CommandError, Operation};
use super::moving::store;
use super::options::{integer, is};
use super::spec::{Flags, Group, Parsed, Spec};
use crate::config::{MAX_ARGUMENTS, MAX_KEY};
use crate::crdt::command::{Answer, Refusal};
use crate::crdt::content::Content;
use crate::crdt::float::parse_double;
use crate::crdt::{hash, key, string};
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

pub(super) const COMMANDS: &[Spec] = &[
    Group::Generic.row(
        "sort",
        -2,
        Flags::WRITE.and(Flags::DENYOOM),
        "Sort the elements in a list, set or sorted set",
        "1.0.0",
        |arguments, _| sort(arguments, true),
    ),
    Group::Generic.row(
        "sort_ro",
        -2,
        Flags::READONLY,
        "Sort the elements in a list, set or sorted set. Read-only variant of SORT.",
        "7.0.0",
        |arguments, _| sort(arguments, false),
    ),
];

/// What is asked for.
#[derive(Default)]
struct Sorting {
    /// By what to sort; a pattern without `*` means: not at all.
    by: Option<Pattern>,
    /// What to tell of each element, where it is not the element itself.
    get: Vec<Pattern>,
    limit: Option<(i64, i64)>,
    descending: bool,
    alphabetical: bool,
    target: Option<Bytes>,
}

/// A pattern of keys.
#[derive(Clone)]
enum Pattern {
    /// `#`: the element itself.
    Itself,
    /// No `*`: nothing.
    Nothing,
    /// What stands before and behind the `*`, and the field of a hash behind `->`.
    Key { before: Bytes, behind: Bytes, field: Option<Bytes> },
}

impl Pattern {
    fn of(text: &Bytes) -> Self {
        if text.as_ref() == b"#" {
            return Self::Itself;
        }
        let Some(star) = text.iter().position(|byte| *byte == b'*') else { return Self::Nothing };
        let (before, behind) = (text.slice(..star), text.slice(star + 1..));
        match behind.windows(2).position(|pair| pair == b"->").filter(|arrow| arrow + 2 < behind.len()) {
            Some(arrow) => Self::Key { before, behind: behind.slice(..arrow), field: Some(behind.slice(arrow + 2..)) },
            None => Self::Key { before, behind, field: None },
        }
    }

    /// The question that it becomes for an element; `None` where there is nothing to ask, or no key can be so long.
    fn question(&self, element: &Bytes) -> Option<Operation> {
        let Self::Key { before, behind, field } = self else { return None };
        let mut key = BytesMut::with_capacity(before.len() + element.len() + behind.len());
        [before, element, behind].into_iter().for_each(|part| key.extend_from_slice(part));
        let key = key.freeze();
        let question = match field {
            Some(field) => Operation::read(&key, hash::Query::Get(vec![field.clone()])),
            None => Operation::read(&key, string::Query::Get),
        };
        (key.len() <= MAX_KEY).then_some(question)
    }

    /// What there is for an element, where the answer to its question is the next one.
    fn value(
        &self,
        element: &Bytes,
        answers: &mut impl Iterator<Item = Result<Answer, OperationError>>,
    ) -> Result<Option<Bytes>, CommandError> {
        if self.question(element).is_none() {
            return Ok(matches!(self, Self::Itself).then(|| element.clone()));
        }
        Ok(match answers.next() {
            Some(Ok(Answer::Bytes(value))) => Some(value),
            Some(Ok(Answer::Values(values))) => values.into_iter().next().flatten(),
            // A key of another type has nothing here.
            None | Some(Ok(_) | Err(OperationError::Refused(Refusal::WrongType))) => None,
            Some(Err(error)) => return Err(error.into()),
        })
    }
}

impl Sorting {
    fn read(arguments: &[Bytes], may_store: bool) -> Result<Self, CommandError> {
        let (mut sorting, mut rest) = (Self::default(), arguments);
        while let Some((name, after)) = rest.split_first() {
            rest = match after {
                [start, count, after @ ..] if is(name, "limit") => {
                    sorting.limit = Some((integer(start)?, integer(count)?));
                    after
                }
                [target, after @ ..] if may_store && is(name, "store") => {
                    sorting.target = Some(target.clone());
                    after
                }
                [pattern, after @ ..] if is(name, "by") => {
                    sorting.by = Some(Pattern::of(pattern));
                    after
                }
                [pattern, after @ ..] if is(name, "get") => {
                    sorting.get.push(Pattern::of(pattern));
                    after
                }
                after => {
                    match () {
                        () if is(name, "asc") => sorting.descending = false,
                        () if is(name, "desc") => sorting.descending = true,
                        () if is(name, "alpha") => sorting.alphabetical = true,
                        () => return Err(CommandError::Syntax),
                    }
                    after
                }
            };
        }
        Ok(sorting)
    }

    /// Whether the order of the elements stays.
    fn keeps_order(&self) -> bool {
        matches!(self.by, Some(Pattern::Itself | Pattern::Nothing))
    }

    /// Sorts elements by what belongs to each, and leaves what the limit says.
    fn sorted(&self, elements: Vec<(Bytes, Option<Bytes>)>) -> Result<Vec<Bytes>, CommandError> {
        let sorted: Vec<Bytes> = if self.keeps_order() {
            let elements = elements.into_iter().map(|(element, _)| element);
            if self.descending { elements.rev().collect() } else { elements.collect() }
        } else if self.alphabetical {
            self.ordered(elements, |(_, one), (_, other)| one.cmp(other))
        } else {
            let weight = |(element, by): (Bytes, Option<Bytes>)| Ok((element, by.map_or(Ok(0.0), |by| weight(&by))?));
            let weighted: Vec<(Bytes, f64)> = elements.into_iter().map(weight).collect::<Result<_, CommandError>>()?;
            let compare = |one: &f64, other: &f64| one.partial_cmp(other).unwrap_or(Ordering::Equal);
            self.ordered(weighted, |(element, one), (second, other)| compare(one, other).then_with(|| element.cmp(second)))
        };
        let (start, count) = self.limit.unwrap_or((0, -1));
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Ok(sorted.into_iter().skip(usize::try_from(start.max(0)).unwrap_or(usize::MAX)).take(count).collect())
    }

    fn ordered<T>(&self, mut elements: Vec<(Bytes, T)>, compare: impl Fn(&(Bytes, T), &(Bytes, T)) -> Ordering) -> Vec<Bytes> {
        elements.sort_by(|one, other| if self.descending { compare(other, one) } else { compare(one, other) });
        elements.into_iter().map(|(element, _)| element).collect()
    }

    /// Ends with what was asked for of the elements that are left.
    fn finish(self, values: Vec<Option<Bytes>>) -> Parsed {
        match self.target {
            Some(target) => store(&target, Content::List(values.into_iter().map(Option::unwrap_or_default).collect())),
            None => Ok(Action::Reply(Reply::Array(values.into_iter().map(|value| value.map_or(Reply::Null, Reply::Bulk)).collect()))),
        }
    }
}

/// The number that a weight is.
fn weight(text: &Bytes) -> Result<f64, CommandError> {
    let number = if text.is_empty() { Some(0.0) } else { parse_double(text.trim_ascii_start()) };
    number.ok_or_else(|| CommandError::other("ERR One or more scores can't be converted into double"))
}

fn sort(arguments: &[Bytes], may_store: bool) -> Parsed {
    let sorting = Sorting::read(&arguments[2..], may_store)?;
    let read = Operation::read(&arguments[1], key::Query::Content { with_token: false });
    Ok(Action::first(vec![read], move |answers| {
        let (elements, is_set) = match answers.into_iter().next().unwrap_or(Ok(Answer::Nil))? {
            Answer::Content { content: None, .. } => (Vec::new(), false),
            Answer::Content { content: Some(Content::List(items)), .. } => (items, false),
            Answer::Content { content: Some(Content::Set(members)), .. } => (members, true),
            Answer::Content { content: Some(Content::SortedSet(members)), .. } => {
                (members.into_iter().map(|(member, _)| member).collect(), false)
            }
            _ => return Err(OperationError::Refused(Refusal::WrongType).into()),
        };
        let mut sorting = sorting;
        // A set has no order that could be kept for good.
        if is_set && sorting.keeps_order() && sorting.target.is_some() {
            (sorting.by, sorting.alphabetical) = (None, true);
        }
        ask(elements, sorting.by.clone().into_iter().collect(), move |elements, weights| {
            let own = sorting.by.is_none();
            let weighted = elements.into_iter().zip(weights.into_iter().chain(std::iter::repeat(None)));
            let weighted = weighted.map(|(element, weight)| if own { (element.clone(), Some(element)) } else { (element, weight) });
            let elements = sorting.sorted(weighted.collect())?;
            if sorting.get.is_empty() {
                return sorting.finish(elements.into_iter().map(Some).collect());
            }
            ask(elements, sorting.get.clone(), move |_, values| sorting.finish(values))
        })
    }))
}

/// Asks what patterns name for each element, and goes on with it: all of the first element, all of the second …
fn ask(
    elements: Vec<Bytes>,
    patterns: Vec<Pattern>,
    next: impl FnOnce(Vec<Bytes>, Vec<Option<Bytes>>) -> Parsed + Send + 'static,
) -> Parsed {
    let count = elements.len().saturating_mul(patterns.len());
    if count > MAX_ARGUMENTS {
        return Err(CommandError::other("TOOBIG SORT would ask for more than a million values"));
    }
    let questions: Vec<Operation> =
        elements.iter().flat_map(|element| patterns.iter().filter_map(|pattern| pattern.question(element))).collect();
    Ok(Action::first(questions, move |answers| {
        let (mut values, mut answers) = (Vec::with_capacity(count), answers.into_iter());
        for element in &elements {
            for pattern in &patterns {
                values.push(pattern.value(element, &mut answers)?);
            }
        }
        next(elements, values)
    }))
}
