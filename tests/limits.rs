//! The limits on keys and values at the door of a node: whoever embeds one meets them too, not only clients of a server.

use bytes::Bytes;
use ringtide::config::{Durability, MAX_KEY, MAX_VALUE};
use ringtide::crdt::command::Mutation;
use ringtide::crdt::set as sets;
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::node::OperationError;
use ringtide::sim::cluster::SimCluster;
use ringtide::types::Level;

fn set(value: Bytes) -> Mutation {
    string::Mutation::Set { value, expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }.into()
}

fn refused<T>(result: Result<T, OperationError>) -> bool {
    matches!(result, Err(OperationError::TooBig(_)))
}

#[tokio::test(start_paused = true)]
async fn what_is_longer_than_allowed_is_neither_written_nor_looked_for() {
    let cluster = SimCluster::start(1, 1, 7, Durability::Always).await.unwrap();
    let node = cluster.peers[0].node.clone().unwrap();
    let (long_key, long_value) = (Bytes::from(vec![b'k'; MAX_KEY + 1]), Bytes::from(vec![b'v'; MAX_VALUE + 1]));
    let (key, value) = (long_key.slice(1..), long_value.slice(1..));
    assert!(refused(node.write(Level::Local, long_key.clone(), string::Mutation::Increment(1)).await));
    assert!(refused(node.read(Level::Local, long_key, string::Query::Get).await));
    for mutation in [
        set(long_value.clone()),
        string::Mutation::Append(long_value.clone()).into(),
        sets::Mutation::Add(vec![Bytes::new(), long_value.clone()]).into(),
        sets::Mutation::Remove(vec![long_value.clone()]).into(),
        string::Mutation::Resolve { token: Bytes::new(), value: long_value }.into(),
    ] {
        assert!(refused(node.write(Level::Local, key.clone(), mutation).await));
    }
    assert!(node.write(Level::Local, key.clone(), set(value)).await.is_ok());
    assert!(node.read(Level::Local, key, string::Query::Length).await.is_ok());
}
