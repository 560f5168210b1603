//! Takes something out of the first of some keys that has something, and waits where none has.
//!
//! A client that may wait stands in the [line](super::lines) of each of its keys from the start, and looks only at those that it leads: at the key, and then until
//! somebody tells that the key shows something, or the line moves, or the time is over. What looks like something may be gone to another peer's client by the time
//! it is asked for; then the wait goes on.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::select_all;
use tokio::time::{Instant, sleep, sleep_until};

use super::announcing::Notice;
use super::commands::{Patience, Take, Taking};
use super::lines::{Lines, Queued, Unblocked};
use super::reply::Reply;
use crate::crdt::command::{Answer, DataType, Mutation, Refusal};
use crate::crdt::key::Query;
use crate::node::taking::{Move, NotMoved};
use crate::node::{Node, OperationError, Receipt};
use crate::notifications::Event;
use crate::types::Level;

/// How long a client pauses that was told of something and found nothing: somebody else was quicker, and will be again if both come back at once.
const PAUSE: Duration = Duration::from_millis(1);

/// Who takes, and how.
pub(crate) struct Taker {
    /// The client's number.
    pub(crate) client: u64,
    /// How many replicas its commands wait for.
    pub(crate) level: Level,
    /// The peer.
    pub(crate) node: Node,
    /// Who waits.
    pub(crate) lines: Lines,
}

/// What was taken out of one key.
type Taken = Option<(Answer, Vec<Receipt>)>;

impl Taker {
    /// Takes; the reply, and what was written.
    pub(crate) async fn take(&self, take: Take) -> (Reply, Vec<Receipt>) {
        let taken = if take.patience == Patience::None { self.try_each(&take).await } else { self.wait(&take).await };
        match taken {
            Ok(Some((key, answer, receipts))) => ((take.shape)(key, answer), receipts),
            Ok(None) if take.patience == Patience::None => (take.nothing, Vec::new()),
            Ok(None) => (Reply::NullArray, Vec::new()),
            Err(reply) => (reply, Vec::new()),
        }
    }

    /// Looks at each key once.
    async fn try_each(&self, take: &Take) -> Result<Option<(Bytes, Answer, Vec<Receipt>)>, Reply> {
        for key in &take.keys {
            if let Some((answer, receipts)) = self.try_key(take, key).await? {
                return Ok(Some((key.clone(), answer, receipts)));
            }
        }
        Ok(None)
    }

    /// Looks at the keys that this client leads, time and again.
    async fn wait(&self, take: &Take) -> Result<Option<(Bytes, Answer, Vec<Receipt>)>, Reply> {
        let begun = Instant::now();
        let deadline = match take.patience {
            // A time beyond what the clock can show is for ever.
            Patience::Brief(time) => begun.checked_add(time),
            Patience::None | Patience::Endless => None,
        };
        let queued = self.lines.join(self.client, take.kind(), &take.keys).ok_or_else(|| Reply::from(OperationError::Busy))?;
        let mut is_first_look = true;
        loop {
            for key in &take.keys {
                let looked = match (queued.leads(key), is_first_look) {
                    (true, _) => self.try_key(take, key).await,
                    // Others wait for it, so there is nothing; only a wrong type is told.
                    (false, true) => self.expect_type(take, key).await.map(|()| None),
                    (false, false) => Ok(None),
                };
                match looked {
                    Ok(None) => {}
                    Ok(Some((answer, receipts))) => return Ok(Some((key.clone(), answer, receipts))),
                    Err(NotTaken { is_wrong_type: true, .. }) if !is_first_look => {}
                    Err(not_taken) => return Err(not_taken.into()),
                }
            }
            match queued.unblocked() {
                Some(Unblocked::TimedOut) => return Ok(None),
                Some(Unblocked::Refused) => return Err(Reply::unblocked()),
                None if deadline.is_some_and(|deadline| deadline <= Instant::now()) => return Ok(None),
                None => {}
            }
            if !is_first_look {
                sleep(PAUSE).await;
            }
            is_first_look = false;
            self.until_something_happens(take, &queued, deadline).await;
        }
    }

    /// Resolves when a key that this client leads may have something, when it leads another, when its wait is ended or its time is over.
    async fn until_something_happens(&self, take: &Take, queued: &Queued, deadline: Option<Instant>) {
        let leading: Vec<_> = take.keys.iter().filter(|key| queued.leads(key)).collect();
        let content = leading.iter().map(|key| self.node.content(self.level, key, take.kind()).boxed());
        let content = async {
            if leading.is_empty() {
                return std::future::pending().await;
            }
            select_all(content).await;
        };
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = queued.called() => {}
            () = over => {}
            () = content => {}
        }
    }

    /// Takes something out of a key, if there is something.
    async fn try_key(&self, take: &Take, key: &Bytes) -> Result<Taken, NotTaken> {
        match &take.work {
            Taking::Pop(mutation) => {
                let in_turn = matches!(mutation, Mutation::List(_));
                let (notice, mutation) = Notice::of(&self.node, key, mutation.clone(), None);
                let written = if in_turn {
                    self.node.write_in_turn(self.level, key.clone(), mutation).await?
                } else {
                    self.node.write(self.level, key.clone(), mutation).await?
                };
                let answer = Notice::tell(notice, written.answer);
                let is_nothing = match &answer {
                    Answer::Items(items) => items.is_empty(),
                    Answer::Scored(members) => members.is_empty(),
                    _ => true,
                };
                Ok((!is_nothing).then_some((answer, vec![written.receipt])))
            }
            Taking::Move { from, destination, to } => {
                let watched = self.node.pubsub().classes().announces();
                let moving = Move { source: key.clone(), from: *from, destination: destination.clone(), to: *to, watched };
                let moved = self.node.move_item(self.level, &moving).await?;
                if moved.item.is_some() {
                    self.node.pubsub().announce(destination, Event::pushed(*to).with_new(moved.created));
                    self.node.pubsub().announce(key, Event::popped(*from).with_deleted(moved.emptied));
                }
                Ok(moved.item.map(|item| (Answer::Bytes(item), moved.receipts)))
            }
        }
    }

    /// Refuses a key that shows another type.
    async fn expect_type(&self, take: &Take, key: &Bytes) -> Result<(), NotTaken> {
        match self.node.read(self.level, key.clone(), Query::Type).await? {
            Answer::Type(shown @ Some(_)) if shown != DataType::of(take.kind()) => Err(OperationError::from(Refusal::WrongType).into()),
            _ => Ok(()),
        }
    }
}

/// Why nothing was taken.
struct NotTaken {
    error: OperationError,
    /// Whether the key shows another type, which one who waits already doesn't mind.
    is_wrong_type: bool,
}

impl From<OperationError> for NotTaken {
    fn from(error: OperationError) -> Self {
        Self { is_wrong_type: error == OperationError::Refused(Refusal::WrongType), error }
    }
}

impl From<NotMoved> for NotTaken {
    fn from(not_moved: NotMoved) -> Self {
        match not_moved {
            NotMoved::Source(error) => error.into(),
            NotMoved::Destination(error) => Self { error, is_wrong_type: false },
        }
    }
}

impl From<NotTaken> for Reply {
    fn from(not_taken: NotTaken) -> Self {
        not_taken.error.into()
    }
}
