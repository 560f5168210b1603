//! Commands of the small world on whole keys: content that takes the place of another, and the removal of exactly what somebody read.

use bytes::Bytes;
use ringtide::crdt::command::{Answer, Mutation};
use ringtide::crdt::content::{Content, Field};
use ringtide::crdt::delta::{Delta, Kind};
use ringtide::crdt::key::{self as any_key, Query};
use ringtide::crdt::sorted_set::Score;
use ringtide::crdt::token::Token;
use ringtide::types::Timestamp;

use super::commands::FAR_MS;
use super::graph::{Effects, INCREMENT_BITS, Replaces, UNIT};
use super::{BITS, COUNTER, HASH, KEYS, LIST, SCORES, SET, World, answer};

/// The first of these kinds of commands.
const FIRST: usize = 54;

/// The key that one of these kinds of commands is about: the kinds are as many as the keys, twice.
fn key(choice: u32) -> Bytes {
    KEYS[(choice as usize - FIRST) % KEYS.len()].clone()
}

/// RENAME's write to its target: one element of the key's own type, at times with an expiry.
pub(super) fn replacement(choice: u32, number: usize) -> (&'static str, Bytes, Mutation, Replaces) {
    let key = key(choice);
    let whole = (number as u64 + 1) << INCREMENT_BITS;
    let (member, field) = (Bytes::from_static(b"m1"), Bytes::from_static(b"f1"));
    let content = match () {
        () if key == COUNTER || key == BITS => Content::String(vec![whole.to_string().into()]),
        () if key == SET => Content::Set(vec![member]),
        () if key == HASH => {
            Content::Hash(vec![Field { name: field, value: (whole as f64 * UNIT).to_string().into(), expires_at_ms: None }])
        }
        () if key == SCORES => Content::SortedSet(vec![(member, Score::new(whole as f64 * UNIT))]),
        () if key == LIST => Content::List(vec![number.to_string().into()]),
        () => Content::HyperLogLog(Bytes::from_static(&[3])),
    };
    let expires_at_ms = number.is_multiple_of(2).then_some(FAR_MS as u64 + number as u64);
    let replace = any_key::Mutation::Replace { content, expires_at_ms, only_new: false };
    ("a whole key is replaced", key.clone(), replace.into(), Replaces::Key(key))
}

impl World {
    /// RENAME's removal of its source: what one replica or another reads of a key now.
    pub(super) fn removal_of_what_was_read(&self, choice: u32) -> (&'static str, Bytes, Mutation, Replaces) {
        let key = key(choice);
        let reader = &self.replicas[self.time as usize % self.replicas.len()];
        let query = Query::Content { with_token: true }.into();
        let token = match answer(&reader.now.state, &key, &query, Timestamp::from_millis(1 << 20)) {
            Answer::Content { token, .. } => token,
            _ => Bytes::new(),
        };
        ("what was read is removed", key.clone(), any_key::Mutation::RemoveSeen { token }.into(), Replaces::Key(key))
    }

    /// What such a removal undoes: the effects that the token names, and the decisions that went with the last of them.
    pub(super) fn named_by(&self, token: &Bytes, delta: &Delta) -> Effects {
        let token = Token::from_bytes(token).unwrap_or_default();
        let decisions = delta.removes.iter().filter(|(address, _)| address.kind == Kind::Expiry).map(|(_, dot)| *dot);
        token.dots.into_iter().chain(decisions).fold(0, |effects, dot| effects | self.graph.covers(dot))
    }
}
