//! What peers say to each other. A frame is one message in CBOR; rows, deltas and clocks in it are byte strings of
//! their own canonical form, so the bulk of a frame is copied, not parsed.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bounds::{self, list};
use crate::config::{
    EXPIRED_AT_ONCE, MAX_ARGUMENTS, MAX_FRAME, MAX_FRAME_ITEMS, MAX_PARTITIONS, MAX_PUBLICATIONS, MAX_SCANNED, RANGES_AT_ONCE, WRITER_QUEUE,
};
use crate::crdt::command::{Answer, DataType, Mutation, Query, Refusal, Selection};
use crate::crdt::delta::{Causal, Decision, Delta, Kind, Row, RowAddress};
use crate::crdt::dot::{Clock, Dot};
use crate::members::{MAX_MEMBERS, Members};
use crate::merkle::NODES;
use crate::types::{Digest, Level, Partition, PeerId};

/// The most partitions that a message can speak of.
const EVERY_PARTITION: usize = MAX_PARTITIONS as usize;

/// The most removals that a peer asks about together: a key may stand under several decisions.
pub const MAX_ATTESTED: usize = 4 * EXPIRED_AT_ONCE;

/// One frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// "I am here".
    Heartbeat {
        /// Digest of the sender's member list, so that differing lists are noticed.
        members: u64,
        /// Partitions that the sender no longer holds and still has rows of.
        #[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")]
        sealed: Vec<Partition>,
        /// Members that have been down for so long that the sender would replace them, see [`crate::absences`].
        #[serde(deserialize_with = "list::<_, _, MAX_MEMBERS>")]
        missed: Vec<PeerId>,
        /// Whether clients keep the sender busy, see [`crate::pace`].
        busy: bool,
        /// Whether anybody subscribes at the sender, see [`crate::listeners`].
        listening: u64,
        /// The sender's wall time, in milliseconds since 1970, see [`crate::skew`].
        wall_ms: u64,
    },
    /// The sender's member list, whole.
    Members(Box<Members>),
    /// Deltas to join, or to keep as hints. Answered by [`Message::Acknowledge`].
    Deltas {
        /// The sender's name for this frame.
        frame: u64,
        /// The [name](crate::ring::Ring::name) of the sender's ring.
        ring: u64,
        /// What to join, in order.
        #[serde(deserialize_with = "list::<_, _, WRITER_QUEUE>")]
        deltas: Vec<Sent>,
    },
    /// The deltas of a frame are stored, all but the refused ones.
    Acknowledge {
        /// The frame.
        frame: u64,
        /// Which of its deltas were not stored or must not be counted, by their place in the frame.
        refused: Vec<(u32, Refused)>,
    },
    /// Asks something. Answered by [`Message::Reply`].
    Request {
        /// The sender's name for this request.
        id: u64,
        /// What is asked.
        request: Box<Request>,
    },
    /// Answers a request.
    Reply {
        /// The request.
        id: u64,
        /// The answer.
        reply: Box<Reply>,
    },
}

/// One delta on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The partition it belongs to.
    pub partition: Partition,
    /// What to join.
    pub delta: Delta,
    /// Where the receiver is to keep it as a hint instead of joining it: for whom.
    pub hint_for: Option<PeerId>,
}

/// Why a delta does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refused {
    /// By its view of the ring the receiver does not hold the partition: nothing was stored.
    NotHolder,
    /// A timestamp lies too far in the future: nothing was stored.
    TooFarAhead,
    /// The delta names keys of another partition: nothing was stored.
    Misplaced,
    /// An expiry decision came so late that a removal may already have been agreed: joined, but it must not be counted.
    Late,
    /// The receiver's disk is full and nothing was stored, or its storage failed and nothing is known.
    Failed,
    /// Joined, but no majority may count it: the receiver's ring is another than the sender's, or holders before it may still take writes that
    /// it does not know.
    Uncounted,
}

/// A question to another peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Execute a command for a client of the asking peer.
    Execute {
        /// The level that its client asked for.
        level: Level,
        /// The key.
        key: Bytes,
        /// The command.
        mutation: Mutation,
    },
    /// Read rows of a key.
    Read {
        /// The key.
        key: Bytes,
        /// Which rows.
        selection: Selection,
        /// Where the page before ended.
        after: Option<Bytes>,
    },
    /// Answer a question about a key from this replica's rows alone, and tell their digest.
    Answer {
        /// The key.
        key: Bytes,
        /// The question; `None` where the digest is enough.
        query: Option<Query>,
    },
    /// How many replicas have a write that this peer executed.
    Replicated {
        /// The batch of the write.
        batch: u64,
    },
    /// Begin to pull: for each partition the root, and the hash of clock and pending, of the asking peer.
    PullOpen(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<(Partition, Digest, u64)>),
    /// The digests of the leaves below nodes that differ.
    PullLeaves {
        /// The partition.
        partition: Partition,
        /// The state that the pull began with.
        state_id: u64,
        /// The nodes.
        #[serde(deserialize_with = "list::<_, _, NODES>")]
        nodes: Vec<u8>,
    },
    /// What ranges of rows hold.
    PullRanges {
        /// The partition.
        partition: Partition,
        /// The state that the pull began with.
        state_id: u64,
        /// The ranges; where a leaf is asked for in part, it was asked for as a whole before.
        #[serde(deserialize_with = "list::<_, _, RANGES_AT_ONCE>")]
        ranges: Vec<RowRange>,
    },
    /// The content of rows.
    PullRows {
        /// The partition.
        partition: Partition,
        /// The state that the pull began with.
        state_id: u64,
        /// Which rows, leaf by leaf; within a leaf in the order in which they were listed.
        #[serde(deserialize_with = "list::<_, _, RANGES_AT_ONCE>")]
        wanted: Vec<(u16, Vec<RowAddress>)>,
    },
    /// The asking peer has durably pulled everything since the seal.
    Confirm {
        /// For each partition the seal that its pull began with.
        #[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")]
        seals: Vec<(Partition, u64)>,
    },
    /// For each: whether what an expiry decision hides may be removed for good, by the asked peer's own clock and rows.
    Attest {
        /// The [name](crate::ring::Ring::name) of the asking peer's ring: whoever sees another consents to nothing.
        ring: u64,
        /// What may be removed.
        #[serde(deserialize_with = "list::<_, _, MAX_ATTESTED>")]
        asked: Vec<Attestation>,
    },
    /// The clock of each of these partitions, once nothing in it can be lost any more.
    DurableClocks(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<Partition>),
    /// Join these deltas: hints coming home.
    Deliver(#[serde(deserialize_with = "list::<_, _, WRITER_QUEUE>")] Vec<Sent>),
    /// These partitions are sealed at the asking peer: pull them from it, unless a pull from it is under way. It offers again what is not confirmed.
    Offer(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<Partition>),
    /// Pull these partitions from the asking peer now.
    PullFromMe(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<Partition>),
    /// The keys of a partition that show, from a hash on.
    Keys {
        /// The partition.
        partition: Partition,
        /// The first hash.
        from_hash: u64,
        /// How many keys to look at, at most.
        most: u32,
    },
    /// The digest of each of these partitions.
    Digests(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<Partition>),
    /// How many keys each of these partitions has.
    KeyCounts(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<Partition>),
    /// Somebody subscribes at the asking peer from now on, see [`crate::listeners`].
    Listening(u64),
    /// Hand these messages to those who subscribe at the asked peer. Answered by how many got one.
    Publish(#[serde(deserialize_with = "list::<_, _, MAX_PUBLICATIONS>")] Vec<Publication>),
    /// What is subscribed at the asked peer.
    Subscriptions(Inquiry),
    /// Tell when a key shows the type of a kind at the asked peer, which holds it. Answered by [`Reply::Done`], after some seconds in any case.
    Await {
        /// The key.
        key: Bytes,
        /// The kind of rows that are waited for.
        kind: Kind,
    },
}

/// A message for everybody who subscribes to its channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// Whether the channel is one of those of SPUBLISH, which no pattern matches.
    pub sharded: bool,
    /// The channel.
    pub channel: Bytes,
    /// The message.
    pub message: Bytes,
}

/// A question about subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inquiry {
    /// Which channels have subscribers. Answered by [`Reply::Channels`].
    Channels {
        /// Whether those of SPUBLISH are meant.
        sharded: bool,
        /// Only those that this pattern matches.
        pattern: Option<Bytes>,
    },
    /// How many subscribers each of these channels has. Answered by [`Reply::Subscribers`].
    Subscribers {
        /// Whether those of SPUBLISH are meant.
        sharded: bool,
        /// The channels.
        #[serde(deserialize_with = "list::<_, _, MAX_ARGUMENTS>")]
        channels: Vec<Bytes>,
    },
    /// The patterns that have subscribers. Answered by [`Reply::Channels`].
    Patterns,
}

/// What a peer that wants to remove an expired key, or field, asks the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The row in which such decisions stand: the expiry row of the key, or the row of the field.
    pub row: RowAddress,
    /// The decision that has passed.
    pub decision: Decision,
    /// The dots under which it stands at the asking peer.
    pub standing: Vec<Dot>,
}

/// Rows of one leaf, by their storage keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRange {
    /// The leaf.
    pub leaf: u16,
    /// The first storage key, included; `None`: from the leaf's start.
    pub from: Option<Bytes>,
    /// The end, excluded; `None`: to the leaf's end.
    pub until: Option<Bytes>,
}

/// What a peer's answer about a partition is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// A holder that has finished its first sync: it counts.
    Counted,
    /// A holder whose first sync is under way, or a former holder that still has rows: a voice that does not count.
    Extra,
    /// It holds nothing of the partition.
    Absent,
}

/// Rows of one key, as one peer has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// What they are worth.
    pub standing: Standing,
    /// The [name](crate::ring::Ring::name) of that peer's ring.
    pub ring: u64,
    /// The rows, in order of storage.
    #[serde(with = "crate::crdt::wire::rows")]
    pub rows: BTreeMap<RowAddress, Row>,
    /// Clock of the partition, and what is pending for the key and its rows, from the same snapshot as the rows.
    pub causal: Causal,
    /// Where the page ended before the selection did: the storage key after its last row.
    pub next: Option<Bytes>,
    /// The hash of the next element, where rows in the order of hashes ended before there were no more.
    pub hashed_until: Option<u64>,
}

/// What one replica alone answers, with what tells whether another would answer the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// What it is worth.
    pub standing: Standing,
    /// The [name](crate::ring::Ring::name) of that peer's ring.
    pub ring: u64,
    /// The digest of every row of the key. Replicas of which it is equal have the same live dots there, so that merging them changes nothing.
    pub digest: Digest,
    /// Elements and contents of the rows, in bytes.
    pub bytes: u64,
    /// The answer; `None` where none was asked for, or it would be too long for a frame.
    pub answer: Option<Result<Answer, Refusal>>,
}

/// A key that shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListedKey {
    /// The key.
    pub key: Bytes,
    /// Its type.
    pub data_type: DataType,
}

/// Some keys of one partition, as one peer has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyPage {
    /// What they are worth.
    pub standing: Standing,
    /// The [name](crate::ring::Ring::name) of that peer's ring.
    pub ring: u64,
    /// The keys, in the order of their hashes.
    #[serde(deserialize_with = "list::<_, _, MAX_SCANNED>")]
    pub keys: Vec<ListedKey>,
    /// The hash of the next key; `None` where the partition ends.
    pub next: Option<u64>,
}

/// A partition whose first sync is not done, and the sets of former holders that are awaited: a majority of each.
pub type Awaits = (Partition, Vec<Vec<PeerId>>);

/// What one partition's pull begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum PullStart {
    /// Root, clock and pending are equal.
    Equal,
    /// The peer holds nothing of the partition.
    Nothing,
    /// What the peer has.
    Open {
        /// Names the peer's state.
        state_id: u64,
        /// The seal, where the peer is no holder any more.
        seal: Option<u64>,
        /// Clock and pending, read before any digest.
        causal: Box<Causal>,
        /// Digest of the root.
        root: Digest,
        /// [Short](crate::merkle::short) digests of the inner nodes, salted with the state; empty where the roots are equal.
        nodes: Vec<u64>,
    },
}

/// Rows of the peer that is pulled from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RowsThere {
    /// The rows.
    #[serde(with = "crate::crdt::wire::rows")]
    pub rows: BTreeMap<RowAddress, Row>,
    /// Clock and pending of the same snapshot, where expiry decisions are among the rows: these are judged by it.
    pub causal: Option<Box<Causal>>,
}

/// What a range of rows holds, as told by the peer that is pulled from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum RangeContent {
    /// All of its rows.
    Rows(RowsThere),
    /// Address and digest of each row, in order of storage.
    Listing(Vec<(RowAddress, Digest)>),
    /// Too many rows to list: where each part ends (excluded; `None`: where the range ends), its number of rows and digest.
    Parts(Vec<(Option<Bytes>, u64, Digest)>),
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Request::Execute`]: the answer, and the batch that the write was part of.
    Executed(Result<(Answer, u64), Failed>),
    /// To [`Request::Read`].
    Page(Box<Page>),
    /// To [`Request::Answer`].
    Answered(Box<Answered>),
    /// To [`Request::Replicated`] and [`Request::Publish`].
    Count(u64),
    /// To [`Inquiry::Channels`] and [`Inquiry::Patterns`].
    Channels(#[serde(deserialize_with = "list::<_, _, MAX_ARGUMENTS>")] Vec<Bytes>),
    /// To [`Inquiry::Subscribers`], in the order of the channels.
    Subscribers(#[serde(deserialize_with = "list::<_, _, MAX_ARGUMENTS>")] Vec<u64>),
    /// To [`Request::PullOpen`].
    PullStarts {
        /// The [name](crate::ring::Ring::name) of the answering peer's ring.
        ring: u64,
        /// Where its own first sync is not done: whom it awaits.
        #[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")]
        awaits: Vec<Awaits>,
        /// For each partition.
        #[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")]
        starts: Vec<(Partition, PullStart)>,
    },
    /// To [`Request::PullLeaves`]: for each node the short digests of its 32 leaves.
    PullLeaves(#[serde(deserialize_with = "list::<_, _, NODES>")] Vec<(u8, Vec<u64>)>),
    /// To [`Request::PullRanges`]: the first of the ranges, as many as fit one frame.
    Ranges(#[serde(deserialize_with = "list::<_, _, RANGES_AT_ONCE>")] Vec<RangeContent>),
    /// To [`Request::PullRows`], for the first of the leaves, as many as fit one frame: how many of the rows that were asked for are
    /// answered, from the first on, and those of them that are there.
    Rows(#[serde(deserialize_with = "list::<_, _, RANGES_AT_ONCE>")] Vec<(u64, RowsThere)>),
    /// To [`Request::Keys`].
    Keys(KeyPage),
    /// To [`Request::Digests`].
    Digests(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<(Partition, Digest)>),
    /// To [`Request::KeyCounts`].
    KeyCounts(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<(Partition, u64)>),
    /// To [`Request::Attest`], in the order of the questions.
    Attested(#[serde(deserialize_with = "list::<_, _, MAX_ATTESTED>")] Vec<bool>),
    /// To [`Request::DurableClocks`], of those that the peer holds and has synced.
    DurableClocks(#[serde(deserialize_with = "list::<_, _, EVERY_PARTITION>")] Vec<(Partition, Clock)>),
    /// To [`Request::Deliver`]: which deltas were not joined or must not be counted, by their place.
    Delivered(Vec<(u32, Refused)>),
    /// To [`Request::PullFromMe`]: rows that were new.
    Pulled(u64),
    /// Done.
    Done,
    /// The pull is void: the state that it began with is no more.
    StateChanged,
    /// The request could not be served.
    Unavailable(String),
}

/// Why a command was not executed for another peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failed {
    /// Refused for what the key holds. Nothing was changed.
    Refused(Refusal),
    /// The executing peer does not hold the key. Nothing was changed.
    NotHolder,
    /// Its queue is full. Nothing was changed.
    Busy,
    /// Its disk is full. Nothing was changed.
    NoRoom,
    /// Too few replicas answered: whether it takes effect is unknown.
    NoQuorum {
        /// Replicas that answered.
        reached: usize,
        /// Replicas that the level asks for.
        needed: usize,
    },
    /// Its storage failed or it stops: whether it takes effect is unknown.
    Stopped(String),
}

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a frame is no message: {0}")]
pub struct InvalidMessage(String);

impl Message {
    /// The frame of a message. It may be longer than a network takes; sending it then fails.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(256);
        // Writing to memory cannot fail, and messages hold nothing that CBOR lacks.
        let _ = ciborium::into_writer(self, &mut bytes);
        bytes.into()
    }

    /// The message in a frame.
    ///
    /// # Errors
    /// Where it holds none, or more than one, or more than a peer ever says at once.
    pub fn from_frame(frame: &Bytes) -> Result<Self, InvalidMessage> {
        if frame.len() > MAX_FRAME {
            return Err(InvalidMessage(format!("{} bytes are too many", frame.len())));
        }
        if bounds::items(frame) > MAX_FRAME_ITEMS {
            return Err(InvalidMessage("too many items".to_owned()));
        }
        let mut rest = &frame[..];
        let message = ciborium::from_reader(&mut rest).map_err(|error| InvalidMessage(error.to_string()))?;
        if rest.is_empty() { Ok(message) } else { Err(InvalidMessage("trailing bytes".to_owned())) }
    }
}
