//! That a stop ends everything, whatever a peer or its callers were waiting for.

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Durability, HANDOFF_INTERVAL};
use crate::crdt::delta::Kind;
use crate::crdt::string;
use crate::exchange::AskError;
use crate::sim::cluster::SimCluster;
use crate::sim::network::Clog;

/// How long a peer of these tests waits for an answer: longer than they last.
const PATIENCE: Duration = Duration::from_secs(300);

/// Tasks that run here.
fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Asks a peer something that it will not have answered when it stops.
fn ask(from: &Node, to: PeerId, request: Request) -> JoinHandle<Result<Reply, AskError>> {
    tokio::spawn(from.inner.coordinator.exchange.ask(to, Lane::Operations, request, PATIENCE))
}

#[tokio::test(start_paused = true)]
async fn the_owner_of_a_peers_tasks_ends_every_one_whatever_it_waits_for() {
    let config =
        NodeConfig { request_timeout: PATIENCE, anti_entropy_interval: Duration::from_secs(1), ..SimCluster::config(Durability::System) };
    let cluster = SimCluster::start_with(vec![config; 4], 4, 7).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let [asking, node] = [0, 1].map(|index| cluster.peers[index].node.clone().unwrap());
    let [local, beside] = [1, 2].map(|index| cluster.peers[index].id);
    let first_at = |peer| (0..).map(|number| Bytes::from(number.to_string())).find(|key| node.owners(key)[0] == peer).unwrap();
    let (key, awaited) = (first_at(local), first_at(beside));
    // It hears the others, and they don't hear it.
    for other in [0, 2, 3].map(|index| cluster.peers[index].id) {
        cluster.network.clog(local, other, Clog::Stuck);
    }
    let mutation = string::Mutation::Increment(1).into();
    let every_partition = node.inner.coordinator.topology.every_partition().collect();
    let executing = ask(&asking, local, Request::Execute { level: Level::All, key, mutation });
    let pulling = ask(&asking, local, Request::PullFromMe(every_partition));
    sleep(Duration::from_millis(100)).await;
    // It leaves, and nobody takes over what it held.
    let leaver = node.clone();
    let leaving = tokio::spawn(async move { leaver.leave(true).await });
    sleep(HANDOFF_INTERVAL + Duration::from_secs(1)).await;
    leaving.abort();
    let awaiting = ask(&asking, beside, Request::Await { key: awaited, kind: Kind::Item });
    sleep(Duration::from_millis(100)).await;
    [executing, pulling, awaiting].iter().for_each(JoinHandle::abort);

    // Not `Node::stop`, which lets waits come to their end as well.
    for node in cluster.peers.iter().filter_map(|peer| peer.node.as_ref()) {
        node.inner.coordinator.writer.stop().await.unwrap();
        node.inner.tasks.stop().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(alive(), 1, "beside the simulated network something outlived the peers");
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_no_caller_waiting() {
    let config = NodeConfig { request_timeout: PATIENCE, ..SimCluster::config(Durability::System) };
    let cluster = SimCluster::start_with(vec![config; 4], 4, 7).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let (node, local) = (cluster.peers[1].node.clone().unwrap(), cluster.peers[1].id);
    for other in [0, 2, 3].map(|index| cluster.peers[index].id) {
        cluster.network.clog(local, other, Clog::Stuck);
    }
    let keys = || (0..).map(|number| Bytes::from(number.to_string()));
    let here = keys().find(|key| node.owners(key).contains(&local)).unwrap();
    let elsewhere = keys().find(|key| !node.owners(key).contains(&local)).unwrap();
    let writes = [here, elsewhere].map(|key| tokio::spawn(node.write(Level::All, key, string::Mutation::Increment(1))));
    sleep(Duration::from_millis(100)).await;
    node.stop().await;
    for write in writes {
        let outcome = timeout(Duration::from_secs(1), write).await.expect("nobody tells a caller of the end").unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_offer_does_not_wait_behind_a_pull_that_is_under_way() {
    let cluster = SimCluster::start(3, 3, 7, Durability::System).await.unwrap();
    cluster.converge(Duration::from_secs(60)).await.unwrap();
    let [offering, node] = [0, 1].map(|index| cluster.peers[index].node.clone().unwrap());
    let (local, every_partition) = (cluster.peers[1].id, node.inner.coordinator.topology.every_partition().collect::<Vec<_>>());
    cluster.network.clog(local, cluster.peers[0].id, Clog::Stuck);
    let pulling = ask(&offering, local, Request::PullFromMe(every_partition.clone()));
    sleep(Duration::from_millis(100)).await;
    let before = alive();
    let offers = [(); 5].map(|()| ask(&offering, local, Request::Offer(every_partition.clone())));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(alive(), before + offers.len(), "beside those who ask, somebody waits to pull the same again");
    offers.iter().chain([&pulling]).for_each(JoinHandle::abort);
}
