//! How peers find each other: Kademlia among admitted peers, mDNS on the local network.
//!
//! Kademlia stores nothing here. It is only asked "who is near this id?", again and again for other ids, and connects to whom it
//! is told about; so a peer that knows one member comes to know all.

use std::io;
use std::num::NonZeroUsize;

use libp2p::core::transport::ListenerId;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, Mode, StoreInserts};
use libp2p::swarm::behaviour::{FromSwarm, NetworkBehaviour, NewListenAddr};
use libp2p::swarm::{InvalidProtocol, StreamProtocol};
use libp2p::{Multiaddr, PeerId, mdns};

use crate::config::{KADEMLIA_INTERVAL, KADEMLIA_PACKET, MDNS_INTERVAL, MDNS_TTL};

/// Kademlia for the peers of one cluster.
pub(super) fn kademlia(local: PeerId, cluster: &str) -> Result<kad::Behaviour<MemoryStore>, InvalidProtocol> {
    let mut config = kad::Config::new(StreamProtocol::try_from_owned(format!("/ringtide/{cluster}/kad/1"))?);
    config
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_record_ttl(None)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_max_packet_size(KADEMLIA_PACKET)
        .set_parallelism(NonZeroUsize::MIN.saturating_add(2))
        .set_periodic_bootstrap_interval(Some(KADEMLIA_INTERVAL));
    let nothing = MemoryStoreConfig { max_records: 0, max_value_bytes: 0, max_providers_per_key: 0, max_provided_keys: 0 };
    let mut kademlia = kad::Behaviour::with_config(local, MemoryStore::with_config(local, nothing), config);
    // By itself it would wait for an address confirmed from outside, which a local network never gives.
    kademlia.set_mode(Some(Mode::Server));
    Ok(kademlia)
}

/// mDNS that announces these addresses.
///
/// It is made only when they are known: made earlier, it would ask before it can answer, learn of the others, and stay unknown
/// to them until the next query.
pub(super) fn local_network(local: PeerId, listening: &[(ListenerId, Multiaddr)]) -> io::Result<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: MDNS_TTL, query_interval: MDNS_INTERVAL, enable_ipv6: false };
    let mut behaviour = mdns::tokio::Behaviour::new(config, local)?;
    for (listener_id, addr) in listening {
        behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id: *listener_id, addr }));
    }
    Ok(behaviour)
}
