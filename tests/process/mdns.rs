//! Discovery on a local network that this test makes itself: network namespaces joined by a bridge, with nothing else on it.
//!
//! Where such namespaces can't be made, or the tools are missing, the test says so and skips. No packet leaves them.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Peer, within};

/// Within this time peers must have found each other.
const LIMIT: Duration = Duration::from_secs(15);

/// Some namespaces on one bridge of their own; all removed in the end.
struct Lan {
    /// Names of the namespaces, the bridge's first.
    namespaces: Vec<String>,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("ip cannot be run: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())) }
}

impl Lan {
    /// The bridge stands in a namespace too, so that even the machine itself is not on this network.
    fn new(hosts: usize) -> Result<Self, String> {
        let unique = std::process::id();
        let mut lan = Self { namespaces: Vec::new() };
        let mut namespace = |name: String| ip(&format!("netns add {name}")).map(|()| lan.namespaces.push(name));
        namespace(format!("rt{unique}b"))?;
        for host in 1..=hosts {
            namespace(format!("rt{unique}h{host}"))?;
        }
        let bridge = lan.namespaces[0].clone();
        ip(&format!("-n {bridge} link add br0 type bridge mcast_snooping 0"))?;
        ip(&format!("-n {bridge} link set br0 up"))?;
        for (number, name) in lan.namespaces.iter().enumerate().skip(1) {
            ip(&format!("-n {bridge} link add port{number} type veth peer name eth0 netns {name}"))?;
            ip(&format!("-n {bridge} link set port{number} master br0 up"))?;
            ip(&format!("-n {name} address add 10.77.0.{number}/24 dev eth0"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            ip(&format!("-n {name} route add default dev eth0"))?;
        }
        Ok(lan)
    }

    /// A command's prefix that runs it on a host, counted from 1.
    fn on(&self, host: usize) -> [&str; 4] {
        ["ip", "netns", "exec", &self.namespaces[host]]
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

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
