//! What those need who take items out of lists and sorted sets, and may wait for some.

use bytes::Bytes;

use super::{Node, OperationError, Written};
pub use crate::coordinator::moving::{Move, Moved, NotMoved};
use crate::crdt::command::Mutation;
use crate::crdt::delta::Kind;
use crate::types::Level;

impl Node {
    /// Changes a list as [`Node::write`] does, but not while an item of it is being moved by a client of this peer.
    ///
    /// # Errors
    /// As [`Node::write`].
    pub async fn write_in_turn(&self, level: Level, key: Bytes, mutation: Mutation) -> Result<Written, OperationError> {
        self.inner.coordinator.write_in_turn(level, key, mutation).await
    }

    /// Moves an item from one list to another. Whatever fails in between, it stands in at least one of them.
    ///
    /// # Errors
    /// See [`NotMoved`].
    pub async fn move_item(&self, level: Level, moving: &Move) -> Result<Moved, NotMoved> {
        self.inner.coordinator.move_item(level, moving).await
    }

    /// Resolves when a key may show the type of a kind at the replica that takes commands for it, and after some seconds in any case.
    pub async fn content(&self, level: Level, key: &Bytes, kind: Kind) {
        self.inner.coordinator.content(level, key, kind).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::config::{AWAIT_RENEWED, Durability};
    use crate::crdt::command::Answer;
    use crate::crdt::list::{self, Side};
    use crate::sim::cluster::SimCluster;
    use crate::sim::storage::Crash;

    const SOURCE: Bytes = Bytes::from_static(b"source");
    const DESTINATION: Bytes = Bytes::from_static(b"destination");

    async fn cluster(peers: usize, seed: u64) -> (SimCluster, Vec<Node>) {
        let cluster = SimCluster::start(peers, peers, seed, Durability::System).await.unwrap();
        cluster.converge(Duration::from_secs(60)).await.unwrap();
        let nodes = cluster.peers.iter().map(|peer| peer.node.clone().unwrap()).collect();
        (cluster, nodes)
    }

    fn moving(source: Bytes, destination: Bytes) -> Move {
        Move { source, from: Side::Left, destination, to: Side::Right, watched: false }
    }

    async fn push(node: &Node, key: Bytes, items: &[String]) {
        let items = items.iter().cloned().map(Bytes::from).collect();
        node.write(Level::Quorum, key, list::Mutation::Push { side: Side::Right, items, only_existing: false }).await.unwrap();
    }

    async fn items(node: &Node, key: Bytes) -> Vec<Bytes> {
        match node.read(Level::Quorum, key, list::Query::Range { start: 0, stop: -1 }).await {
            Ok(Answer::Items(items)) => items,
            other => panic!("no list: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_crashes_while_it_moves_an_item_leaves_it_in_one_of_the_lists_at_least() {
        let (mut only_source, mut both, mut only_destination) = (0, 0, 0);
        for step in 0..24 {
            let (mut cluster, nodes) = cluster(4, step).await;
            push(&nodes[1], SOURCE, &["item".to_owned()]).await;
            let mover = nodes[0].clone();
            let task = tokio::spawn(async move { mover.move_item(Level::Sloppy, &moving(SOURCE, DESTINATION)).await });
            sleep(Duration::from_millis(2 * step)).await;
            task.abort();
            let _ = task.await;
            drop(nodes);
            cluster.crash(0, Crash::Process);
            // What was on its way arrives, and the others find each other.
            sleep(Duration::from_secs(30)).await;
            let other = cluster.peers[1].node.clone().unwrap();
            match (items(&other, SOURCE).await.len(), items(&other, DESTINATION).await.len()) {
                (1, 0) => only_source += 1,
                (1, 1) => both += 1,
                (0, 1) => only_destination += 1,
                counts => panic!("after step {step} the item stands in {counts:?}"),
            }
        }
        let counts = (only_source, both, only_destination);
        assert!(only_source > 0 && both > 0 && only_destination > 0, "the crashes came at other moments: {counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_of_one_peer_move_and_pop_each_item_once() {
        let (_cluster, nodes) = cluster(3, 7).await;
        let pushed: Vec<String> = (0..60).map(|number| format!("{number:02}")).collect();
        push(&nodes[0], SOURCE, &pushed).await;
        let workers = (0..8).map(|worker| {
            let node = nodes[0].clone();
            tokio::spawn(async move {
                let mut popped = Vec::new();
                for _ in 0..10 {
                    if worker < 4 {
                        node.move_item(Level::Sloppy, &moving(SOURCE, DESTINATION)).await.unwrap();
                    } else {
                        // Also what has only just been placed: whoever takes it must be the only one to whom it was moved.
                        let from = if worker < 6 { SOURCE } else { DESTINATION };
                        let pop = list::Mutation::Pop { side: Side::Left, count: 1 }.into();
                        let Answer::Items(items) = node.write_in_turn(Level::Sloppy, from, pop).await.unwrap().answer else { continue };
                        popped.extend(items);
                    }
                }
                popped
            })
        });
        let mut all = Vec::new();
        for worker in workers.collect::<Vec<_>>() {
            all.extend(worker.await.unwrap());
        }
        assert!(all.len() > 20, "of the destination, too");
        assert_eq!(items(&nodes[1], SOURCE).await.len(), 0);
        all.extend(items(&nodes[1], DESTINATION).await);
        all.sort();
        assert_eq!(all, pushed);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_move_the_same_items_lose_none() {
        for seed in 0..4 {
            let (cluster, nodes) = cluster(4, seed).await;
            let pushed: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
            push(&nodes[0], SOURCE, &pushed).await;
            let movers = nodes[..3].iter().cloned().enumerate().map(|(index, node)| {
                tokio::spawn(async move {
                    let destination = Bytes::from(format!("destination {index}"));
                    let mut last = Ok(Moved { item: Some(Bytes::new()), receipts: Vec::new(), created: false, emptied: false });
                    while !matches!(&last, Ok(Moved { item: None, .. })) {
                        last = node.move_item(Level::Quorum, &moving(SOURCE, destination.clone())).await;
                    }
                })
            });
            for mover in movers.collect::<Vec<_>>() {
                mover.await.unwrap();
            }
            cluster.converge(Duration::from_secs(60)).await.unwrap();
            let mut moved = Vec::new();
            for index in 0..3 {
                moved.extend(items(&nodes[3], Bytes::from(format!("destination {index}"))).await);
            }
            moved.sort();
            moved.dedup();
            assert_eq!((moved, items(&nodes[3], SOURCE).await.len()), (pushed.into_iter().map(Bytes::from).collect(), 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_anywhere_is_told_of_a_push_anywhere() {
        let (cluster, nodes) = cluster(5, 3).await;
        for (index, waiting) in nodes.iter().enumerate() {
            for pushing in [&nodes[index], &nodes[(index + 1) % 5], &nodes[(index + 3) % 5]] {
                let key = Bytes::from(format!("key {index} {}", pushing.status().peer));
                let content = waiting.content(Level::Sloppy, &key, Kind::Item);
                let mut content = std::pin::pin!(content);
                assert!(timeout(Duration::from_secs(1), content.as_mut()).await.is_err(), "there is nothing yet");
                pushing.write(Level::Sloppy, key.clone(), crate::crdt::string::Mutation::Increment(1)).await.unwrap();
                assert!(timeout(Duration::from_secs(1), content.as_mut()).await.is_err(), "this is no list");
                pushing.write(Level::Sloppy, key.clone(), crate::crdt::key::Mutation::Delete).await.unwrap();
                let pushed = Instant::now();
                push(pushing, key.clone(), &["item".to_owned()]).await;
                content.await;
                assert!(pushed.elapsed() < Duration::from_secs(1), "told after {:?}", pushed.elapsed());
                // What is there already is told at once.
                timeout(Duration::from_secs(1), waiting.content(Level::Sloppy, &key, Kind::Item)).await.unwrap();
            }
        }
        drop(cluster);
    }

    #[tokio::test(start_paused = true)]
    async fn where_nothing_comes_the_wait_is_renewed_and_where_the_holder_dies_another_is_asked() {
        let (mut cluster, nodes) = cluster(5, 3).await;
        let waiting = nodes[0].clone();
        let is_elsewhere = |key: &Bytes| !waiting.owners(key).contains(&waiting.status().peer);
        let key = (0..).map(|number| Bytes::from(number.to_string())).find(is_elsewhere).unwrap();
        let begun = Instant::now();
        waiting.content(Level::Sloppy, &key, Kind::Item).await;
        assert!((AWAIT_RENEWED..2 * AWAIT_RENEWED).contains(&begun.elapsed()), "renewed after {:?}", begun.elapsed());
        let holder = waiting.owners(&key)[0];
        let index = cluster.peers.iter().position(|peer| peer.id == holder).unwrap();
        drop(nodes);
        let waiter = {
            let (waiting, key) = (waiting.clone(), key.clone());
            tokio::spawn(async move {
                let pop = list::Mutation::Pop { side: Side::Left, count: 1 };
                loop {
                    waiting.content(Level::Sloppy, &key, Kind::Item).await;
                    if let Ok(Written { answer: Answer::Items(items), .. }) = waiting.write(Level::Sloppy, key.clone(), pop.clone()).await {
                        return items;
                    }
                }
            })
        };
        sleep(Duration::from_secs(1)).await;
        cluster.crash(index, Crash::Process);
        let pusher = cluster.peers.iter().filter(|peer| peer.id != waiting.status().peer).find_map(|peer| peer.node.clone()).unwrap();
        push(&pusher, key, &["item".to_owned()]).await;
        let popped = timeout(Duration::from_secs(20), waiter).await.unwrap().unwrap();
        assert_eq!(popped, ["item"]);
    }
}
