//! `ringtide local`: a cluster to play with, that leaves nothing behind.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use crate::harness::{eventually, ringtide, send_signal, within};

/// A child that does not outlive its test.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> (Guard, BufReader<ChildStdout>) {
    let mut command = ringtide(&[]);
    command.args(["local", "--peers", "3"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (Guard(child), stdout)
}

/// Reads until all peers are up. Returns their ports and the folder of their data.
fn read_until_up(stdout: &mut BufReader<ChildStdout>) -> (Vec<u16>, PathBuf) {
    let (mut ports, mut folder) = (Vec::new(), PathBuf::new());
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        if let Some((_, path)) = line.trim().split_once("data in ") {
            folder = PathBuf::from(path);
        }
        let mut words = line.split_whitespace().skip_while(|word| *word != "-p").skip(1);
        ports.extend(words.next().map(|port| port.parse::<u16>().unwrap()));
        if line.starts_with("all up") {
            return (ports, folder);
        }
        line.clear();
    }
    panic!("the cluster did not come up");
}

fn reach(port: u16) -> Result<redis::Connection, redis::RedisError> {
    redis::Client::open(format!("redis://127.0.0.1:{port}/"))?.get_connection_with_timeout(Duration::from_secs(5))
}

fn all_gone(ports: &[u16]) {
    eventually("no peer answers any more", || {
        let alive: Vec<_> = ports.iter().filter(|port| reach(**port).is_ok()).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?} answer")) }
    });
}

#[test]
fn a_local_cluster_shares_its_keys_and_cleans_up() {
    let (local, mut stdout) = start(&[]);
    let (ports, folder) = read_until_up(&mut stdout);
    assert_eq!(ports.len(), 3);
    assert!(folder.is_dir());
    eventually("the first peer sees all three as up", || {
        let mut connection = reach(ports[0]).map_err(|error| error.to_string())?;
        let peers: Vec<redis::Value> = redis::cmd("RINGTIDE").arg("PEERS").query(&mut connection).map_err(|error| error.to_string())?;
        if peers.len() == 3 { Ok(()) } else { Err(format!("{} peers", peers.len())) }
    });
    let _: () = redis::cmd("SET").arg("key").arg("value").query(&mut reach(ports[0]).unwrap()).unwrap();
    for port in &ports {
        eventually("every peer has the value", || {
            let mut connection = reach(*port).map_err(|error| error.to_string())?;
            match redis::cmd("GET").arg("key").query::<Option<String>>(&mut connection) {
                Ok(Some(value)) if value == "value" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    stop(local);
    assert!(!folder.exists(), "the temporary folder is gone");
    all_gone(&ports);
}

/// Stops the cluster as Ctrl-C does, and waits for its end.
fn stop(mut local: Guard) {
    send_signal(local.0.id(), "INT");
    let status = within(Duration::from_secs(30), "the cluster stops", || match local.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    });
    assert!(status.success(), "{status}");
}

#[test]
fn a_local_cluster_in_a_folder_of_its_own_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--data-dir", &folder.path().display().to_string()];
    let (local, mut stdout) = start(&arguments);
    let (ports, _) = read_until_up(&mut stdout);
    let _: () = redis::cmd("SET").arg("key").arg("value").query(&mut reach(ports[0]).unwrap()).unwrap();
    stop(local);
    // All three come back on other ports, and find each other all the same.
    let (local, mut stdout) = start(&arguments);
    let (ports, _) = read_until_up(&mut stdout);
    for port in &ports {
        eventually("every peer sees all three as up, and has the value", || {
            let mut connection = reach(*port).map_err(|error| error.to_string())?;
            let status: BTreeMap<String, redis::Value> =
                redis::cmd("RINGTIDE").arg("STATUS").query(&mut connection).map_err(|error| error.to_string())?;
            let value: Option<String> = redis::cmd("GET").arg("key").query(&mut connection).map_err(|error| error.to_string())?;
            let seen = (status.get("members").cloned(), status.get("up").cloned(), value);
            let wanted = (Some(redis::Value::Int(3)), Some(redis::Value::Int(3)), Some("value".to_owned()));
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
    stop(local);
    assert!(folder.path().join("peer-1").is_dir(), "data that was asked for stays");
}

#[test]
fn no_peer_outlives_the_program_that_started_it() {
    let (mut local, mut stdout) = start(&[]);
    let (ports, folder) = read_until_up(&mut stdout);
    local.0.kill().unwrap();
    local.0.wait().unwrap();
    all_gone(&ports);
    // A program that was killed could not remove it.
    std::fs::remove_dir_all(folder).unwrap();
}
