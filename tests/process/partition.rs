//! Five peers, each in a network namespace of its own, on one bridge that is cut in two and mended.
//!
//! Where such namespaces can't be made, or the tools are missing, the test says so and skips.

use std::process::Command;

use crate::harness::{Peer, eventually};
use crate::lan::Lan;

const HOSTS: usize = 5;

/// Asks a peer on a host with `redis-cli`, since this process is not on that network.
fn ask(lan: &Lan, host: usize, peer: &Peer, arguments: &[&str]) -> Result<String, String> {
    let (address, port) = peer.ready().resp.rsplit_once(':').ok_or("no port")?;
    let output = Command::new("ip")
        .args(&lan.on(host)[1..])
        .args(["redis-cli", "-h", address, "-p", port, "-e"])
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr))) }
}

/// How many members a peer can reach, itself included.
fn number_up(lan: &Lan, host: usize, peer: &Peer) -> Result<usize, String> {
    let status = ask(lan, host, peer, &["RINGTIDE", "STATUS"])?;
    let number = status.lines().skip_while(|line| *line != "up").nth(1).ok_or("STATUS tells no number")?;
    number.parse().map_err(|_| format!("{number} is no number"))
}

#[test]
fn a_network_that_is_cut_in_two_takes_writes_on_both_sides_and_merges_them_when_it_is_mended() {
    let lan = match Lan::new(HOSTS) {
        Ok(lan) if Command::new("redis-cli").arg("--version").output().is_ok() => lan,
        Ok(_) => return println!("skipped: there is no redis-cli"),
        Err(reason) => return println!("skipped: network namespaces can't be made here: {reason}"),
    };
    let folder = tempfile::tempdir().unwrap();
    let start = |host: usize| {
        let mut peer = Peer::new(&folder.path().join(host.to_string()))
            .with_environment("RINGTIDE_SECRET", "a secret of five peers")
            .with(&["--no-mdns", "--listen", &format!("/ip4/10.77.0.{host}/tcp/4001"), "--bootstrap", "/ip4/10.77.0.1/tcp/4001"])
            .through(&lan.on(host));
        peer.start();
        peer
    };
    let peers: Vec<Peer> = (1..=HOSTS).map(start).collect();
    let expect_up = |hosts: std::ops::RangeInclusive<usize>, up: usize| {
        for host in hosts {
            eventually("everybody sees who is up", || match number_up(&lan, host, &peers[host - 1])? {
                seen if seen == up => Ok(()),
                seen => Err(format!("host {host} sees {seen} up")),
            });
        }
    };
    let on = |host: usize, arguments: &[&str]| ask(&lan, host, &peers[host - 1], arguments).unwrap();
    expect_up(1..=5, 5);
    on(1, &["SADD", "set", "kept", "removed"]);
    on(1, &["SET", "deleted", "v"]);
    on(2, &["INCRBY", "counter", "1000"]);
    eventually("all have it", || ask(&lan, 4, &peers[3], &["RINGTIDE", "SYNC"]));

    lan.place(4, 1);
    lan.place(5, 1);
    expect_up(1..=3, 3);
    expect_up(4..=5, 2);
    for round in 0..10 {
        for host in 1..=HOSTS {
            on(host, &["INCR", "counter"]);
            on(host, &["SADD", "set", &format!("{host}-{round}")]);
            on(host, &["SET", &format!("key-{host}-{round}"), "v"]);
        }
    }
    on(1, &["SREM", "set", "removed"]);
    on(2, &["DEL", "deleted"]);

    lan.place(4, 0);
    lan.place(5, 0);
    expect_up(1..=5, 5);
    eventually("all converge", || {
        for host in 1..=HOSTS {
            if ask(&lan, host, &peers[host - 1], &["RINGTIDE", "CONVERGED"])? != "1" {
                ask(&lan, host, &peers[host - 1], &["RINGTIDE", "SYNC"])?;
                return Err(format!("not at {host}"));
            }
        }
        Ok(())
    });
    for host in 1..=HOSTS {
        assert_eq!(on(host, &["GET", "counter"]), "1050");
        assert_eq!(on(host, &["SCARD", "set"]), "51");
        assert_eq!(on(host, &["SISMEMBER", "set", "removed"]), "0");
        assert_eq!(on(host, &["EXISTS", "deleted"]), "0");
        for writer in 1..=HOSTS {
            assert_eq!(on(host, &["GET", &format!("key-{writer}-9")]), "v");
        }
    }
}
