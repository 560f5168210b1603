//! From a command to its delta: the one door through which clients change anything.
//!
//! A replica reads the rows that the command names, decides, and builds a delta. Nothing is changed here: the caller joins the delta
//! into its own rows and sends the same delta to the other replicas. See [`super::answer`] for the way back, from rows to an answer.

use bytes::Bytes;

use super::command::Mutation;
use super::delta::{Causal, Delta};
use super::draft::Draft;
use super::outcome::Answer;
use super::refusal::Refusal;
use super::rows::Rows;
use super::shown::Shown;
use super::{hash, hyperloglog, key, list, set, sorted_set, string};

pub use super::answer::{KeyView, answer, selection, shows};
pub use super::draft::Author;
pub use super::refusal::ExecuteError;

/// A command carried out on paper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    /// What it changes; empty where it changes nothing.
    pub delta: Delta,
    /// What the client is told.
    pub answer: Answer,
}

/// Executes a mutation on the rows of a replica. Builds the delta and does not join it.
///
/// # Errors
/// Where the key holds something that the command does not fit, or the rows could not be read.
pub fn execute<R: Rows>(
    rows: &R,
    causal: &Causal,
    author: &mut Author<'_>,
    key: &Bytes,
    mutation: &Mutation,
) -> Result<Executed, ExecuteError<R::Error>> {
    if let Mutation::Watched(mutation) = mutation {
        return execute(rows, causal, author, key, mutation);
    }
    let shown = Shown::read(rows, key, author.now).map_err(ExecuteError::Rows)?;
    let draft = Draft::new(key, causal, author);
    let (delta, answer) = match mutation {
        Mutation::Key(mutation) => key::execute(rows, &shown, draft, mutation)?,
        Mutation::String(mutation) => string::execute(rows, &shown, draft, mutation)?,
        Mutation::Set(mutation) => set::execute(rows, &shown, draft, mutation)?,
        Mutation::Hash(mutation) => hash::execute(rows, &shown, draft, mutation)?,
        Mutation::SortedSet(mutation) => sorted_set::execute(rows, &shown, draft, mutation)?,
        Mutation::List(mutation) => list::execute(rows, &shown, draft, mutation)?,
        Mutation::HyperLogLog(mutation) => hyperloglog::execute(rows, &shown, draft, mutation)?,
        Mutation::Watched(_) => return Err(Refusal::NeedsReplica.into()),
    };
    Ok(Executed { delta, answer })
}

/// Executes a mutation for replicas that cannot be reached, at a peer that holds none. It has observed nothing, so it may add and
/// never remove or replace. Its answers say what would be true were the key new: the amount for an increment, the number of distinct
/// members for an add.
///
/// # Errors
/// [`Refusal::NeedsReplica`] where the command has to know what is there.
pub fn execute_blind(author: &mut Author<'_>, key: &Bytes, mutation: &Mutation) -> Result<Executed, Refusal> {
    let causal = Causal::default();
    let mut draft = Draft::new(key, &causal, author);
    let answer = match mutation {
        Mutation::Key(_) => return Err(Refusal::NeedsReplica),
        Mutation::String(mutation) => string::execute_blind(&mut draft, mutation)?,
        Mutation::Set(mutation) => set::execute_blind(&mut draft, mutation)?,
        Mutation::Hash(mutation) => hash::execute_blind(&mut draft, mutation)?,
        Mutation::SortedSet(mutation) => sorted_set::execute_blind(&mut draft, mutation)?,
        Mutation::List(mutation) => list::execute_blind(&mut draft, mutation)?,
        Mutation::HyperLogLog(mutation) => hyperloglog::execute_blind(&mut draft, mutation),
        Mutation::Watched(mutation) => return execute_blind(author, key, mutation),
    };
    Ok(Executed { delta: draft.finish(), answer })
}
