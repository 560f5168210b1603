//! One pull of one partition: from the nodes that differ down to the rows.
//!
//! Leaves go many at a time: one question, and for its answer as few steps of the writer as the length of a step allows. A leaf that is too
//! large is told in parts, and those that differ are asked for together with whatever else is open.

use super::AntiEntropy;
use crate::config::{ANSWER_BYTES, RANGES_AT_ONCE};
use crate::env::Lane;
use crate::env::message::{RangeContent, Reply, Request, RowRange};
use crate::exchange::AskError;
use crate::replica::comparing::{Incomplete, Misplaced, Told};
use crate::replica::owner::Ended;
use crate::replica::pulling::{Ended as PullEnded, PullId, Void};
use crate::types::{Partition, PeerId};

/// Why a pull was broken off. The clock here is what it was before.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The other peer did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The writer of this peer has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// One of both replicas has started anew.
    #[error(transparent)]
    Void(#[from] Void),
    /// The other peer could not serve it.
    #[error("the other peer answered: {0}")]
    Unavailable(String),
    /// The other peer answered something else than was asked.
    #[error("the other peer's answer does not fit the question")]
    Unexpected,
    /// The other peer told of rows that were not asked for.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
}

/// A pull that has begun.
#[derive(Debug)]
pub struct Session {
    /// The peer that is pulled from.
    pub peer: PeerId,
    /// The partition.
    pub partition: Partition,
    /// The other replica's state.
    pub state_id: u64,
    /// The pull's name at the writer.
    pub pull: PullId,
    /// The nodes that differ.
    pub nodes: Vec<u8>,
}

impl<T: Send + 'static> AntiEntropy<T> {
    /// Pulls one partition; answers with the rows that changed here, also where the pull did not reach its end.
    pub(super) async fn pull_partition(&self, session: Session) -> (u64, Result<PullEnded, PullError>) {
        let mut rows = 0;
        let result = self.run_session(&session, &mut rows).await;
        if result.is_err() {
            let pull = session.pull;
            let abandoned = self.writer.step(move |replica| {
                replica.abandon_pull(pull);
                Ok(())
            });
            let _ = abandoned.await;
        }
        (rows, result)
    }

    async fn ask(&self, session: &Session, request: Request) -> Result<Reply, PullError> {
        match self.exchange.ask(session.peer, Lane::Bulk, request, self.patience).await? {
            Reply::StateChanged => Err(Void.into()),
            Reply::Unavailable(why) => Err(PullError::Unavailable(why)),
            reply => Ok(reply),
        }
    }

    async fn run_session(&self, session: &Session, changed: &mut u64) -> Result<PullEnded, PullError> {
        let pull = session.pull;
        let leaves = self.pace.paced(self.differing_leaves(session)).await?.into_iter();
        let mut open: Vec<RowRange> = leaves.map(|leaf| RowRange { leaf, from: None, until: None }).collect();
        // The next to be asked for stand at the end.
        open.reverse();
        while !open.is_empty() {
            self.pace.paced(self.pull_some(session, &mut open, changed)).await?;
        }
        Ok(self.writer.step(move |replica| replica.end_pull(pull)).await??)
    }

    /// The leaves below the nodes that differ, which differ themselves.
    async fn differing_leaves(&self, session: &Session) -> Result<Vec<u16>, PullError> {
        let Session { partition, state_id, pull, .. } = *session;
        let request = Request::PullLeaves { partition, state_id, nodes: session.nodes.clone() };
        let Reply::PullLeaves(told) = self.ask(session, request).await? else { return Err(PullError::Unexpected) };
        let compare = move |replica: &mut crate::replica::Replica| {
            Ok(told.iter().map(|(node, digests)| replica.compare_leaves(pull, *node, digests)).collect::<Result<Vec<_>, Void>>())
        };
        Ok(self.writer.step(compare).await??.into_iter().flatten().collect())
    }

    /// Takes as many of the open ranges, from the end, as one answer holds; of those that differ and are too large for one, their parts stay open.
    async fn pull_some(&self, session: &Session, open: &mut Vec<RowRange>, changed: &mut u64) -> Result<(), PullError> {
        let Session { partition, state_id, .. } = *session;
        let asked = open.split_off(open.len().saturating_sub(RANGES_AT_ONCE));
        let ranges: Vec<RowRange> = asked.iter().rev().cloned().collect();
        let Reply::Ranges(contents) = self.ask(session, Request::PullRanges { partition, state_id, ranges }).await? else {
            return Err(PullError::Unexpected);
        };
        if contents.is_empty() || contents.len() > asked.len() {
            return Err(PullError::Unexpected);
        }
        let (unanswered, answered) = asked.split_at(asked.len() - contents.len());
        open.extend_from_slice(unanswered);
        let mut told = Vec::with_capacity(contents.len());
        for (range, content) in answered.iter().rev().zip(contents) {
            self.take_in(partition, range, content, &mut told)?;
        }
        let mut unequal = self.compare(session, told, changed).await?;
        unequal.reverse();
        open.append(&mut unequal);
        Ok(())
    }

    /// What a range was told as: its rows, their digests, or parts that are compared by their sums.
    fn take_in(&self, partition: Partition, range: &RowRange, content: RangeContent, told: &mut Vec<Told>) -> Result<(), PullError> {
        let place = (partition, self.topology.partitions());
        match content {
            RangeContent::Rows(rows) => told.push(Told::rows(place, range.clone(), rows)?),
            RangeContent::Listing(listing) => told.push(Told::listing(place, range.clone(), listing)?),
            RangeContent::Parts(parts) => {
                if parts.len() < 2 {
                    return Err(PullError::Unexpected);
                }
                let mut from = range.from.clone();
                for (end, count, digest) in parts {
                    let until = end.or_else(|| range.until.clone());
                    if until.is_some() && until <= from {
                        return Err(PullError::Unexpected);
                    }
                    told.push(Told::sum(RowRange { leaf: range.leaf, from, until: until.clone() }, count, digest));
                    from = until;
                }
            }
        }
        Ok(())
    }

    /// Compares what was told, step by step, and fetches the contents that turn out to be needed. Answers with the ranges of which only
    /// sums were told and that differ.
    async fn compare(&self, session: &Session, mut told: Vec<Told>, changed: &mut u64) -> Result<Vec<RowRange>, PullError> {
        let pull = session.pull;
        let (mut unequal, mut incomplete) = (Vec::new(), Vec::new());
        loop {
            while !told.is_empty() {
                let room = self.pace.step_rows();
                let mut compared = self.writer.step(move |replica| replica.compare(pull, told, room)).await??;
                *changed += compared.changed;
                unequal.append(&mut compared.unequal);
                incomplete.append(&mut compared.incomplete);
                told = compared.rest;
            }
            if incomplete.is_empty() {
                return Ok(unequal);
            }
            told = self.fetch(session, &mut incomplete).await?;
        }
    }

    /// Fetches missing contents, of as many ranges as one question and its answer hold; these are taken off the list.
    async fn fetch(&self, session: &Session, incomplete: &mut Vec<Incomplete>) -> Result<Vec<Told>, PullError> {
        let (mut wanted, mut size) = (Vec::new(), 0);
        for Incomplete { told, missing } in incomplete.iter() {
            let bytes: usize = missing.iter().map(|address| address.key.len() + address.element.len()).sum();
            size += bytes;
            if !wanted.is_empty() && size > ANSWER_BYTES {
                break;
            }
            wanted.push((told.leaf(), missing.clone()));
        }
        let asked = wanted.len();
        let request = Request::PullRows { partition: session.partition, state_id: session.state_id, wanted };
        let Reply::Rows(answers) = self.ask(session, request).await? else { return Err(PullError::Unexpected) };
        if answers.is_empty() || answers.len() > asked {
            return Err(PullError::Unexpected);
        }
        let count = answers.len();
        let mut told = Vec::with_capacity(count);
        for ((answered, rows), Incomplete { told: mut range, missing }) in answers.into_iter().zip(incomplete.drain(..count)) {
            let answered = usize::try_from(answered).unwrap_or(usize::MAX).min(missing.len());
            if answered == 0 {
                return Err(PullError::Unexpected);
            }
            range.fetched(&missing[..answered], self.topology.partitions(), rows);
            told.push(range);
        }
        Ok(told)
    }
}
