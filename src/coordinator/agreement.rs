//! Questions about a whole key where the replicas agree: as many as the level asks for tell the digest of the key's rows, and if these are equal, what
//! one of them answers is what merging them would give (`replica::answering`).
//!
//! While a key is written to, replicas differ for the milliseconds in which deltas cross. A small key is read and merged then; for a great one it is worth
//! asking again before all of it is read.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Coordinator;
use super::operation::OperationError;
use super::read::Asked;
use crate::config::READ_PAGE;
use crate::crdt::command::{Answer, Query, Refusal};
use crate::env::Lane;
use crate::env::message::{Answered, Reply, Request, Standing};
use crate::replica::answering::NotAnswered;
use crate::types::{Level, PeerId, Place};

/// How long to wait before replicas of a great key are asked again, each time.
const PAUSES: [Duration; 3] = [Duration::from_millis(3), Duration::from_millis(10), Duration::from_millis(30)];

/// A question that each replica answers for itself.
struct Alone<'q> {
    query: &'q Query,
    /// Whether this peer has rows of the key: then others are asked for their digests only.
    answers_here: bool,
}

impl Asked for Alone<'_> {
    type Told = Answered;

    fn here(&self, coordinator: &Coordinator, key: &Bytes) -> Result<Answered, OperationError> {
        coordinator.answer_own(key, Some(self.query))
    }

    fn there<'r>(&'r self, coordinator: &'r Coordinator, peer: PeerId, key: &'r Bytes) -> BoxFuture<'r, Option<Answered>> {
        let query = (!self.answers_here).then(|| self.query.clone());
        let request = Request::Answer { key: key.clone(), query };
        let asking = coordinator.exchange.ask(peer, Lane::Operations, request, coordinator.patience);
        async move { if let Ok(Reply::Answered(answered)) = asking.await { Some(*answered) } else { None } }.boxed()
    }

    fn standing(answered: &Answered) -> (Standing, u64) {
        (answered.standing, answered.ring)
    }
}

impl Coordinator {
    /// What the replicas that the level asks for agree on; `None` where they don't, or the answer is too long for one of them to send.
    pub(super) async fn agreed(
        &self,
        level: Level,
        place: Place,
        key: &Bytes,
        query: &Query,
    ) -> Result<Option<Result<Answer, Refusal>>, OperationError> {
        let mut pauses = PAUSES.iter();
        loop {
            let answers_here = self.view.load().partition(place.partition).standing != Standing::Absent;
            let heard = self.gather(level, place, key, &Alone { query, answers_here }).await?;
            let told: Vec<Answered> = heard.into_iter().map(|heard| heard.told).collect();
            if told.windows(2).all(|pair| matches!(pair, [one, other] if one.digest == other.digest)) {
                return Ok(told.into_iter().find_map(|answered| answered.answer));
            }
            let is_great = told.iter().any(|answered| answered.bytes > READ_PAGE as u64);
            match pauses.next().filter(|_| is_great) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Ok(None),
            }
        }
    }

    /// What this peer's rows of a key answer, with their digest.
    fn answer_own(&self, key: &Bytes, query: Option<&Query>) -> Result<Answered, OperationError> {
        let view = self.view.load();
        view.answer(key, query, view.now(self.clock.wall_ms())).map_err(|error| match error {
            NotAnswered::TooLarge => OperationError::TooBig(error.to_string()),
            NotAnswered::Failed(error) => self.unreadable(key, error),
        })
    }

    /// Answers another peer's question from the rows here.
    #[must_use]
    pub fn answer_alone(&self, key: &Bytes, query: Option<&Query>) -> Reply {
        match self.answer_own(key, query) {
            Ok(answered) => Reply::Answered(Box::new(answered.to_send())),
            Err(error) => {
                tracing::error!(%error, "a question of another peer was not answered");
                Reply::Unavailable(error.to_string())
            }
        }
    }
}
