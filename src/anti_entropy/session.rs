//! One pull of one partition: from the nodes that differ down to the rows.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::AntiEntropy;
use crate::config::RANGES_AT_ONCE;
use crate::crdt::delta::RowAddress;
use crate::crdt::encode;
use crate::env::Lane;
use crate::env::message::{RangeContent, Reply, Request, RowRange, RowsThere};
use crate::exchange::AskError;
use crate::replica::owner::Ended;
use crate::replica::pulling::{Compared, Ended as PullEnded, PullId, Void};
use crate::types::{Digest, Partition, PeerId};

/// How often the rows of a range may change here while their contents are on the way before the pull is given up until later.
const MOST_FETCHES: usize = 8;

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
    /// Rows changed here again and again.
    #[error("the rows change too fast to be compared")]
    Restless,
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

/// A range that is still to be compared, and what the other peer said it holds, if it did.
struct Open {
    range: RowRange,
    said: Option<(u64, Digest)>,
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
        let Session { partition, state_id, pull, .. } = *session;
        let request = Request::PullLeaves { partition, state_id, nodes: session.nodes.clone() };
        let Reply::PullLeaves(told) = self.ask(session, request).await? else { return Err(PullError::Unexpected) };
        let compare = move |replica: &mut crate::replica::Replica| {
            Ok(told.iter().map(|(node, digests)| replica.compare_leaves(pull, *node, digests)).collect::<Result<Vec<_>, Void>>())
        };
        let mut leaves: Vec<u16> = self.writer.step(compare).await??.into_iter().flatten().collect();
        // Small leaves go many at a time; one that is told in parts is descended into by itself.
        leaves.reverse();
        while !leaves.is_empty() {
            let some: Vec<u16> = (0..RANGES_AT_ONCE).map_while(|_| leaves.pop()).collect();
            let whole = |leaf: &u16| RowRange { leaf: *leaf, from: None, until: None };
            let ranges: Vec<RowRange> = some.iter().map(whole).collect();
            let contents = self.contents(session, ranges.clone()).await?;
            if contents.is_empty() || contents.len() > ranges.len() {
                return Err(PullError::Unexpected);
            }
            leaves.extend(some.iter().skip(contents.len()).rev());
            for (range, content) in ranges.into_iter().zip(contents) {
                *changed += self.compare_leaf(session, range, content).await?;
            }
        }
        Ok(self.writer.step(move |replica| replica.end_pull(pull)).await??)
    }

    async fn contents(&self, session: &Session, ranges: Vec<RowRange>) -> Result<Vec<RangeContent>, PullError> {
        let request = Request::PullRanges { partition: session.partition, state_id: session.state_id, ranges };
        match self.ask(session, request).await? {
            Reply::Ranges(contents) => Ok(contents),
            _ => Err(PullError::Unexpected),
        }
    }

    /// Compares a leaf, range by range in the order of its rows.
    async fn compare_leaf(&self, session: &Session, leaf: RowRange, content: RangeContent) -> Result<u64, PullError> {
        let pull = session.pull;
        let mut changed = 0;
        let number = leaf.leaf;
        let mut open = Vec::new();
        self.compare_content(session, leaf, content, &mut open, &mut changed).await?;
        while let Some(Open { range, said }) = open.pop() {
            if let Some((count, digest)) = said {
                let same = range.clone();
                if self.writer.step(move |replica| replica.range_is_equal(pull, &same, count, digest)).await?? {
                    continue;
                }
            }
            let content = self.contents(session, vec![range.clone()]).await?.into_iter().next().ok_or(PullError::Unexpected)?;
            self.compare_content(session, range, content, &mut open, &mut changed).await?;
        }
        self.writer
            .step(move |replica| {
                replica.leaf_compared(pull, number);
                Ok(())
            })
            .await?;
        Ok(changed)
    }

    async fn compare_content(
        &self,
        session: &Session,
        range: RowRange,
        content: RangeContent,
        open: &mut Vec<Open>,
        changed: &mut u64,
    ) -> Result<(), PullError> {
        match content {
            RangeContent::Rows(rows) => {
                let listing = rows.rows.iter().map(|(address, row)| (address.clone(), encode::row_digest(address, row))).collect();
                *changed += self.compare_rows(session, range, listing, rows).await?;
            }
            RangeContent::Listing(listing) => {
                *changed += self.compare_rows(session, range, listing.into_iter().collect(), RowsThere::default()).await?;
            }
            RangeContent::Parts(parts) => {
                if parts.len() < 2 {
                    return Err(PullError::Unexpected);
                }
                let mut from: Option<Bytes> = range.from.clone();
                let mut inner = Vec::with_capacity(parts.len());
                for (end, count, digest) in parts {
                    let until = end.or_else(|| range.until.clone());
                    if until.is_some() && until <= from {
                        return Err(PullError::Unexpected);
                    }
                    inner.push(Open {
                        range: RowRange { leaf: range.leaf, from: from.clone(), until: until.clone() },
                        said: Some((count, digest)),
                    });
                    from = until;
                }
                open.extend(inner.into_iter().rev());
            }
        }
        Ok(())
    }

    /// Compares listed rows, fetching the contents that are needed.
    async fn compare_rows(
        &self,
        session: &Session,
        range: RowRange,
        listing: BTreeMap<RowAddress, Digest>,
        mut contents: RowsThere,
    ) -> Result<u64, PullError> {
        let pull = session.pull;
        for _ in 0..MOST_FETCHES {
            let (range_now, listing_now, contents_now) = (range.clone(), listing.clone(), contents.clone());
            let compared = self.writer.step(move |replica| replica.compare_rows(pull, &range_now, &listing_now, &contents_now)).await??;
            let missing = match compared {
                Compared::Done(changed) => return Ok(changed),
                Compared::Needs(missing) => missing,
            };
            let request =
                Request::PullRows { partition: session.partition, state_id: session.state_id, leaf: range.leaf, addresses: missing };
            let Reply::Rows(more) = self.ask(session, request).await? else { return Err(PullError::Unexpected) };
            contents.rows.extend(more.rows);
            contents.causal = more.causal.or(contents.causal);
        }
        Err(PullError::Restless)
    }
}
