//! Discovery on a local network that this test makes itself: network namespaces joined by a bridge, with nothing else on it.
//!
//! Where such namespaces can't be made, or the tools are missing, the test says so and skips. No packet leaves them.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Peer, within};
use crate::lan::Lan;

/// Within this time peers must have found each other.
const LIMIT: Duration = Duration::from_secs(15);

/// Asks a peer on a host with the program itself, since this process is not on that network.
fn peers_seen(lan: &Lan, host: usize, peer: &Peer) -> Result<usize, String> {
    let output = Command::new("ip")
        .args(&lan.on(host)[1..])
        .args([env!("CARGO_BIN_EXE_ringtide"), "peers", "--json", "--resp", &peer.ready().resp])
        .output()
        .map_err(|error| error.to_string())?;
    let peers: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let up = |peer: &&serde_json::Value| peer["state"] == "up";
    Ok(peers.as_array().map_or(0, |peers| peers.iter().filter(up).count()))
}

fn start(lan: &Lan, folder: &TempDir, host: usize, secret: &str) -> Peer {
    let mut peer = Peer::new(&folder.path().join(host.to_string())).with_environment("RINGTIDE_SECRET", secret).through(&lan.on(host));
    peer.start();
    peer
}

#[test]
fn mdns_alone_forms_a_cluster_and_a_stranger_stays_out() {
    let lan = match Lan::new(4) {
        Ok(lan) => lan,
        Err(reason) => {
            println!("skipped: network namespaces can't be made here: {reason}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let secret = "a secret shared by three of four";
    let stranger = start(&lan, &folder, 4, "the secret of somebody else");
    let members: Vec<Peer> = (1..=3).map(|host| start(&lan, &folder, host, secret)).collect();
    for (host, member) in (1..).zip(&members) {
        within(LIMIT, "mDNS alone forms the cluster", || match peers_seen(&lan, host, member)? {
            3 => Ok(()),
            seen => Err(format!("peer {host} sees {seen} peers up")),
        });
    }
    // The stranger found them as well, was refused, and says why.
    within(LIMIT, "the stranger is told why it stays out", || {
        let told = stranger.log().lines().any(|line| line.contains("refused") && line.contains("secret"));
        if told { Ok(()) } else { Err(stranger.log()) }
    });
    assert_eq!(peers_seen(&lan, 4, &stranger), Ok(1));
    for (host, member) in (1..).zip(&members) {
        assert_eq!(peers_seen(&lan, host, member), Ok(3));
    }
}
