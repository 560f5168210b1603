//! What two sides of a partition made of one key, of every type: told, explained and resolved by any peer once the partition has healed.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::SimCluster;
use crate::config::Durability;
use crate::crdt::command::{Answer, DataType, Mutation, Query};
use crate::crdt::list::Side;
use crate::crdt::sorted_set::Score;
use crate::crdt::string::{SetCondition, SetExpiry};
use crate::crdt::{hash, hyperloglog, key, list, set, sorted_set, string};
use crate::node::Node;
use crate::types::Level;

fn string(value: &'static str) -> Mutation {
    string::Mutation::Set { value: value.into(), expiry: SetExpiry::Clear, condition: SetCondition::Always, get: false }.into()
}

fn field(value: &'static str) -> Mutation {
    hash::Mutation::Set(vec![("f".into(), value.into())]).into()
}

fn member(name: &'static str) -> Mutation {
    set::Mutation::Add(vec![name.into()]).into()
}

fn score(score: f64) -> Mutation {
    sorted_set::Mutation::Add { members: vec![("m".into(), Score::new(score))], condition: Default::default(), changed: false }.into()
}

fn item(item: &'static str) -> Mutation {
    list::Mutation::Push { side: Side::Right, items: vec![item.into()], only_existing: false }.into()
}

fn element(element: &'static str) -> Mutation {
    hyperloglog::Mutation::Add(vec![element.into()]).into()
}

/// What becomes of one key.
struct Story {
    key: &'static str,
    /// The writes of one side and of the other.
    sides: [Mutation; 2],
    /// The values and types that are told, sorted.
    values: Vec<&'static str>,
    types: Vec<DataType>,
}

fn stories() -> Vec<Story> {
    let of = |key, sides, values, types| Story { key, sides, values, types };
    let increment = |amount| string::Mutation::Increment(amount).into();
    vec![
        of("string", [string("a"), string("b")], vec!["a", "b"], vec![DataType::String]),
        of("counter", [increment(1), increment(2)], vec!["3"], vec![DataType::String]),
        of("set", [member("x"), member("y")], vec![], vec![DataType::Set]),
        of("hash", [field("a"), field("b")], vec![], vec![DataType::Hash]),
        of("sorted set", [score(1.0), score(2.0)], vec![], vec![DataType::SortedSet]),
        of("list", [item("x"), item("y")], vec![], vec![DataType::List]),
        of("registers", [element("x"), element("y")], vec![], vec![DataType::HyperLogLog]),
        of("two types", [string("s"), item("x")], vec!["s"], vec![DataType::String, DataType::List]),
        of("two other types", [field("a"), score(2.0)], vec![], vec![DataType::Hash, DataType::SortedSet]),
    ]
}

async fn siblings(node: &Node, key: &'static str, query: impl Into<Query>) -> (Bytes, Vec<Bytes>, Vec<DataType>) {
    match node.read(Level::Quorum, key.into(), query).await {
        Ok(Answer::Siblings { token, mut values, types }) => {
            values.sort();
            (token, values, types)
        }
        other => panic!("{key}: {other:?} tells no siblings"),
    }
}

/// Three peers, two of which have written each key while they could not hear each other.
async fn healed() -> SimCluster {
    let cluster = SimCluster::start(3, 3, 11, Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let [one, others @ ..] = cluster.peers.as_slice() else { panic!("there are three peers") };
    for other in others {
        cluster.network.cut(one.id, other.id);
        cluster.network.cut(other.id, one.id);
    }
    for Story { key, sides, .. } in stories() {
        for (peer, mutation) in cluster.peers.iter().zip(sides) {
            peer.node.as_ref().unwrap().write(Level::Local, key.into(), mutation).await.unwrap();
        }
    }
    cluster.network.heal();
    cluster.converge(Duration::from_secs(120)).await.unwrap();
    cluster
}

#[tokio::test(start_paused = true)]
async fn a_key_of_any_type_is_told_and_resolved() {
    let cluster = healed().await;
    let nodes: Vec<&Node> = cluster.running().collect();
    for Story { key, values, types, .. } in stories() {
        let told = siblings(nodes[2], key, string::Query::Siblings).await;
        assert_eq!((told.1, told.2), (values.into_iter().map(Bytes::from).collect(), types.clone()), "{key}");
        let Ok(Answer::Explained(rows)) = nodes[1].read(Level::Quorum, key.into(), key::Query::Explain).await else {
            panic!("{key} is not explained")
        };
        assert!(rows.iter().any(|row| row.shows) && rows.len() > 1, "{key}: {rows:?}");
        assert!(nodes[0].converged(Some(key.as_bytes())).await, "{key}");
        let resolve = string::Mutation::Resolve { token: told.0, value: "resolved".into() };
        assert_eq!(nodes[1].write(Level::Quorum, key.into(), resolve).await.unwrap().answer, Answer::Ok, "{key}");
        let told = siblings(nodes[0], key, string::Query::Siblings).await;
        assert_eq!((told.1, told.2), (vec!["resolved".into()], vec![DataType::String]), "{key}");
    }
    cluster.converge(Duration::from_secs(60)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_field_is_told_and_resolved_and_the_rest_of_its_hash_stays() {
    let cluster = healed().await;
    let nodes: Vec<&Node> = cluster.running().collect();
    nodes[0].write(Level::All, "hash".into(), hash::Mutation::Set(vec![("g".into(), "other".into())])).await.unwrap();
    let (token, values, types) = siblings(nodes[2], "hash", hash::Query::Siblings("f".into())).await;
    assert_eq!((values, types), (vec![Bytes::from("a"), Bytes::from("b")], vec![]));
    let resolve = hash::Mutation::Resolve { field: "f".into(), token, value: "both".into() };
    assert_eq!(nodes[1].write(Level::Quorum, "hash".into(), resolve).await.unwrap().answer, Answer::Ok);
    assert_eq!(siblings(nodes[0], "hash", hash::Query::Siblings("f".into())).await.1, ["both"]);
    let pairs = nodes[2].read(Level::Quorum, "hash".into(), hash::Query::Get(vec!["f".into(), "g".into()])).await;
    assert_eq!(pairs, Ok(Answer::Values(vec![Some("both".into()), Some("other".into())])));
    // Of a key that shows another type, and of one that is not there.
    let (_, values, types) = siblings(nodes[1], "string", hash::Query::Siblings("f".into())).await;
    assert_eq!((values, types), (vec![], vec![DataType::String]));
    assert_eq!(siblings(nodes[1], "none", hash::Query::Siblings("f".into())).await.1, Vec::<Bytes>::new());
}
