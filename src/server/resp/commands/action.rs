//! What a command comes down to once it has been parsed: effects as data.
//!
//! A command's own function decides what to do and says it with an [`Action`]; only the connection carries it out. So the
//! parsing of every command is a function from arguments to a value, and needs no peer to be tested.

use bytes::Bytes;
use futures::future::BoxFuture;
use std::time::Duration;

pub(crate) use super::super::command_error::CommandError;
use super::super::reply::Reply;
use super::take::Take;
use crate::crdt::command::{Answer, DataType, Mutation, Query, TooLong, check_lengths};
use crate::env::message::Publication;
use crate::node::OperationError;
use crate::notifications::Event;
use crate::pubsub::Sort;

/// Turns what one key answered into the command's reply.
pub(crate) type Shape = Box<dyn FnOnce(Answer) -> Reply + Send>;
/// Turns what several keys answered, in the order they were named, into the command's reply.
pub(crate) type Gather = fn(Vec<Result<Answer, OperationError>>) -> Reply;

/// Turns what several keys answered into what the command does next.
pub(crate) type Next = Box<dyn FnOnce(Vec<Result<Answer, OperationError>>) -> Action + Send>;

/// What a command does.
pub(crate) enum Action {
    /// Everything is done already.
    Reply(Reply),
    /// Asks or changes one key.
    Key(Operation, Shape),
    /// Asks or changes several keys at the same time.
    Keys(Vec<Operation>, Gather),
    /// Asks or changes several keys, and goes on with what they answer, as often as it takes. Nothing else of this connection runs meanwhile; other
    /// connections do.
    First(Vec<Operation>, Next),
    /// Something that takes its time, and goes on with what came of it. Nothing else of this connection runs meanwhile.
    Then(BoxFuture<'static, Action>),
    /// Takes something out of the first of some keys that has something. Nothing else of this connection runs meanwhile.
    Take(Take),
    /// Something that takes its time. Nothing else of this connection runs meanwhile.
    Alone(BoxFuture<'static, Reply>),
    /// Waits until so many replicas have all writes of this connection, or the time is over; `None` is for ever.
    Wait {
        /// How many replicas.
        replicas: i64,
        /// How long at most.
        timeout: Option<Duration>,
    },
    /// Publishes a message.
    Publish(Publication),
    /// Subscribes to names.
    Subscribe(Sort, Vec<Bytes>),
    /// Ends subscriptions to names, or to all of a sort where there is none.
    Unsubscribe(Sort, Vec<Bytes>),
    /// Runs queued commands in order; the reply is the array of theirs.
    Transaction(Vec<Vec<Bytes>>),
    /// Replies and closes the connection.
    Quit(Reply),
    /// Closes the connection without a word: whoever speaks there speaks HTTP.
    HangUp,
}

impl Action {
    /// Whether it asks or changes keys.
    pub(crate) fn is_on_keys(&self) -> bool {
        matches!(self, Self::Key(..) | Self::Keys(..) | Self::First(..) | Self::Take(_) | Self::Transaction(_))
    }

    /// Asks several keys, and goes on with what they answer, or with an error.
    pub(crate) fn first(
        operations: Vec<Operation>,
        next: impl FnOnce(Vec<Result<Answer, OperationError>>) -> Result<Self, CommandError> + Send + 'static,
    ) -> Self {
        Self::First(operations, Box::new(|answers| next(answers).unwrap_or_else(|error| Self::Reply(error.into()))))
    }
}

/// One question or change to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    /// The key.
    pub(crate) key: Bytes,
    /// What to ask or change.
    pub(crate) work: Work,
    /// The event that it makes, where the change alone does not tell.
    pub(crate) event: Option<Event>,
}

/// A question or a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// Asks.
    Read(Query),
    /// Changes.
    Write(Mutation),
}

impl Operation {
    /// A question to a key.
    pub(crate) fn read(key: &Bytes, query: impl Into<Query>) -> Self {
        Self { key: key.clone(), work: Work::Read(query.into()), event: None }
    }

    /// A change of a key.
    pub(crate) fn write(key: &Bytes, mutation: impl Into<Mutation>) -> Self {
        Self { key: key.clone(), work: Work::Write(mutation.into()), event: None }
    }

    /// This operation, announced under a name of its own.
    pub(crate) fn announced(self, event: Event) -> Self {
        Self { event: Some(event), ..self }
    }

    /// This operation as a whole command, its answer replied as it is.
    pub(crate) fn plain(self) -> Action {
        self.shaped(plain)
    }

    /// This operation as a whole command.
    pub(crate) fn shaped(self, shape: impl FnOnce(Answer) -> Reply + Send + 'static) -> Action {
        Action::Key(self, Box::new(shape))
    }

    /// Checks the limits of key, value and elements.
    ///
    /// # Errors
    /// Names what is too long.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        let longest = match &self.work {
            Work::Read(query) => query.longest(),
            Work::Write(mutation) => mutation.longest(),
        };
        check_lengths(&self.key, longest).map_err(|what| match what {
            TooLong::Key => CommandError::KeyTooBig,
            TooLong::Value => CommandError::ValueTooBig,
        })
    }
}

/// An answer as Redis would reply it.
pub(crate) fn plain(answer: Answer) -> Reply {
    match answer {
        Answer::Ok => Reply::OK,
        Answer::Nil => Reply::Null,
        Answer::Integer(number) => Reply::Integer(number),
        Answer::Bytes(bytes) | Answer::Named { item: bytes, .. } => Reply::Bulk(bytes),
        Answer::Members(members) => Reply::Set(members.into_iter().map(Reply::Bulk).collect()),
        Answer::Items(items) => Reply::Array(items.into_iter().map(Reply::Bulk).collect()),
        Answer::Indexes(numbers) | Answer::Numbers(numbers) => Reply::Array(numbers.into_iter().map(Reply::Integer).collect()),
        Answer::Fields(fields) => Reply::Array(fields.into_iter().map(|field| field.map_or(Reply::Null, Reply::Integer)).collect()),
        Answer::Flags(flags) => Reply::Array(flags.into_iter().map(|flag| Reply::Integer(i64::from(flag))).collect()),
        Answer::Values(values) => Reply::Array(values.into_iter().map(|value| value.map_or(Reply::Null, Reply::Bulk)).collect()),
        Answer::Pairs(pairs) => Reply::Map(pairs.into_iter().map(|(field, value)| (Reply::Bulk(field), Reply::Bulk(value))).collect()),
        Answer::Score(score) => Reply::Double(score),
        Answer::Scores(scores) => Reply::Array(scores.into_iter().map(|score| score.map_or(Reply::Null, Reply::Double)).collect()),
        Answer::Scored(members) => {
            Reply::Pairs(members.into_iter().map(|(member, score)| (Reply::Bulk(member), Reply::Double(score))).collect())
        }
        Answer::Type(None) => Reply::simple("none"),
        Answer::Type(Some(data_type)) => Reply::simple(data_type.name()),
        Answer::Siblings { token, values, types } => {
            let mut told = vec![(Reply::bulk("token"), Reply::Bulk(token)), (Reply::bulk("values"), bulks(values))];
            // Told where the key is not a string and nothing else.
            if types.iter().any(|data_type| *data_type != DataType::String) {
                told.push((
                    Reply::bulk("types"),
                    bulks(types.into_iter().map(|data_type| Bytes::from_static(data_type.name().as_bytes()))),
                ));
            }
            Reply::Map(told)
        }
        Answer::Scanned { .. } => Reply::Error("ERR elements are scanned by SSCAN, HSCAN and ZSCAN alone".to_owned()),
        Answer::Watched { answer, .. } => plain(*answer),
        Answer::Explained(_) => Reply::Error("ERR rows are explained by RINGTIDE EXPLAIN alone".to_owned()),
        Answer::Content { .. } => Reply::Error("ERR the content of a key is for other keys alone".to_owned()),
    }
}

/// The string that GET answered, empty where there is none.
pub(super) fn value_of(answer: Result<Answer, OperationError>) -> Result<Bytes, CommandError> {
    Ok(if let Answer::Bytes(string) = answer? { string } else { Bytes::new() })
}

/// Elements as an array.
pub(crate) fn bulks(elements: impl IntoIterator<Item = Bytes>) -> Reply {
    Reply::Array(elements.into_iter().map(Reply::Bulk).collect())
}

impl From<OperationError> for Reply {
    fn from(error: OperationError) -> Self {
        Self::Error(error.to_string())
    }
}
