//! A network that a test makes itself: network namespaces joined by a bridge, or two, with nothing else on it. No packet leaves them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Networks made by this process: no two have one name.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Some namespaces on bridges of their own, all on the first in the beginning; all removed in the end.
pub(crate) struct Lan {
    /// Names of the namespaces, that of the bridges first.
    namespaces: Vec<String>,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| format!("ip cannot be run: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())) }
}

impl Lan {
    /// The bridges stand in a namespace too, so that even the machine itself is not on this network.
    pub(crate) fn new(hosts: usize) -> Result<Self, String> {
        let unique = format!("{}n{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let mut lan = Self { namespaces: Vec::new() };
        let mut namespace = |name: String| ip(&format!("netns add {name}")).map(|()| lan.namespaces.push(name));
        namespace(format!("rt{unique}b"))?;
        for host in 1..=hosts {
            namespace(format!("rt{unique}h{host}"))?;
        }
        let bridge = lan.namespaces[0].clone();
        for name in ["br0", "br1"] {
            ip(&format!("-n {bridge} link add {name} type bridge mcast_snooping 0"))?;
            ip(&format!("-n {bridge} link set {name} up"))?;
        }
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

    /// Puts a host, counted from 1, on the first or the second bridge: it reaches only who is on the same, and nobody is told.
    pub(crate) fn place(&self, host: usize, bridge: usize) {
        ip(&format!("-n {} link set port{host} master br{bridge}", self.namespaces[0])).expect("the bridge is there");
    }

    /// A command's prefix that runs it on a host, counted from 1.
    pub(crate) fn on(&self, host: usize) -> [&str; 4] {
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
