//! Changes of keys on their way to being announced.

use bytes::Bytes;

use crate::crdt::command::{Answer, Mutation};
use crate::node::Node;
use crate::notifications::{Event, Expected};

/// A change that is about to be made, at a peer that announces events.
pub(crate) struct Notice {
    node: Node,
    key: Bytes,
    expected: Option<Expected>,
}

impl Notice {
    /// A change as it has to be asked for: watched, where this peer announces anything. Else it costs nothing.
    /// An `event` takes the place of that which the change makes by itself.
    pub(crate) fn of(node: &Node, key: &Bytes, mutation: Mutation, event: Option<Event>) -> (Option<Self>, Mutation) {
        if !node.pubsub().classes().announces() {
            return (None, mutation);
        }
        let now_ms = i64::try_from(node.now_ms()).unwrap_or(i64::MAX);
        let expected = event.map(Expected::replacement).or_else(|| Expected::of(&mutation, now_ms));
        (Some(Self { node: node.clone(), key: key.clone(), expected }), Mutation::Watched(Box::new(mutation)))
    }

    /// Announces what happened, before anybody is told of it; the answer as it is without being watched.
    pub(crate) fn tell(notice: Option<Self>, answer: Answer) -> Answer {
        if let Some(Self { node, key, expected: Some(expected) }) = notice {
            node.pubsub().announce(&key, expected.happened(&answer));
        }
        if let Answer::Watched { answer, .. } = answer { *answer } else { answer }
    }
}
