//! Three peers, one of which has a wrong clock: ahead, set to and fro by a year, or at 1970 when it starts. Only what the program asks of the calendar is faked, by
//! libfaketime: time that passes goes on as it is, as with a machine whose date is wrong. Where `faketime` is missing the tests say so and skip.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::process::Command;
use std::time::SystemTime;

use crate::harness::{Cluster, Peer, eventually};

/// Seconds.
const DAY: i64 = 24 * 60 * 60;
/// When the time has come that a clock had been ahead by: an hour, or a year.
const SOON: &str = "+2h";
const LATER: &str = "+730d";
/// Keys of each kind that are written in a round.
const KEYS: u32 = 5;
/// The peer whose clock is wrong; the two before it have the right time.
const WRONG: usize = 2;

/// The library that fakes clocks, in the words that the linker takes, if it is there.
fn library() -> Option<String> {
    let output = Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output();
    let found = output.ok().filter(|output| output.status.success());
    if found.is_none() {
        eprintln!("SKIPPED: no clock is faked, since faketime is missing (Debian's package of that name)");
    }
    found.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// What starts a program under a faked calendar: `setting` says which, in the words of libfaketime.
fn under(library: &str, setting: &str) -> Vec<String> {
    let words =
        ["env", &format!("LD_PRELOAD={library}"), "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1", setting];
    words.map(str::to_owned).to_vec()
}

/// Starts a peer of the cluster again, under a calendar.
fn start_again(cluster: &mut Cluster, index: usize, prefix: &[String]) {
    cluster.peers[index].kill();
    cluster.restart_through(index, &prefix.iter().map(String::as_str).collect::<Vec<_>>());
}

/// By how many seconds a peer's calendar is ahead of this process's.
fn ahead(peer: &Peer) -> i64 {
    let (seconds, _): (i64, i64) = peer.ask(&["TIME"]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    seconds - i64::try_from(now).unwrap()
}

/// A client that waits for a majority.
struct Client(redis::Connection);

impl Client {
    fn at(peer: &Peer) -> Self {
        Self::at_level(peer, "quorum")
    }

    fn at_level(peer: &Peer, level: &str) -> Self {
        let mut connection = peer.connect();
        redis::cmd("RINGTIDE").arg("LEVEL").arg(level).exec(&mut connection).unwrap();
        Self(connection)
    }

    fn ask<T: redis::FromRedisValue>(&mut self, arguments: &[&str]) -> Result<T, redis::RedisError> {
        redis::cmd(arguments[0]).arg(&arguments[1..]).query(&mut self.0)
    }

    fn get(&mut self, key: &str) -> Option<String> {
        self.ask(&["GET", key]).unwrap()
    }

    /// Waits until this client's peer has seen a value: what it writes then is later, and its delete takes that value away.
    fn wait_for(&mut self, key: &str, value: &str) {
        eventually("the peer sees it", || match self.values(key) {
            values if values.iter().any(|seen| seen == value) => Ok(()),
            values => Err(format!("{key} has {values:?}")),
        });
    }

    fn members(&mut self, key: &str) -> BTreeSet<String> {
        self.ask(&["SMEMBERS", key]).unwrap()
    }

    /// Every value that a string has: the one that shows, and its siblings.
    fn values(&mut self, key: &str) -> Vec<String> {
        let mut told: BTreeMap<String, redis::Value> = self.ask(&["RINGTIDE", "SIBLINGS", key]).unwrap();
        redis::from_redis_value(told.remove("values").unwrap()).unwrap()
    }
}

/// Waits until a peer's clients reach a quorum.
fn expect_writing(peer: &Peer) {
    eventually("its clients can write", || Client::at(peer).ask::<()>(&["SET", "key", "value"]).map_err(|error| error.to_string()));
}

/// What was acknowledged at quorum, and so must hold.
#[derive(Default)]
struct Book {
    rounds: u32,
    /// Acknowledged increments of `counter`, and those with an unknown outcome.
    counted: (i64, i64),
    /// Members of `set` that were added, and those that were removed again.
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    /// What each key must have last, be it that another value shows which nobody acknowledged.
    last: BTreeMap<String, String>,
    /// Keys that only peers with the right time wrote, and what they must show.
    shown: BTreeMap<String, Option<String>>,
    /// Keys that have an end, some days from now.
    leased: BTreeSet<String>,
}

impl Book {
    /// What clients do at all three, while the third has whatever clock it has. At those with the right time everything must succeed, and
    /// what was acknowledged at any of them must be seen there.
    fn write(&mut self, cluster: &Cluster) {
        let mut right = [Client::at(&cluster.peers[0]), Client::at(&cluster.peers[1])];
        let mut wrong = Client::at(&cluster.peers[WRONG]);
        let mut own = [0, 1].map(|index| Client::at_level(&cluster.peers[index], "local"));
        self.rounds += 1;
        for number in 0..KEYS {
            let name = |kind: &str| format!("{kind}-{}-{number}", self.rounds);
            let [one, other] = &mut right;
            // Later writes and deletes at those with the right time.
            let (rewritten, deleted, leased) = (name("rewritten"), name("deleted"), name("leased"));
            for (at, value) in [(0, "first"), (1, "second"), (0, "third")] {
                let _: () = [&mut *one, &mut *other][at].ask(&["SET", &rewritten, value]).unwrap();
                assert_eq!([&mut *other, &mut *one][at].get(&rewritten).as_deref(), Some(value));
                own[1 - at].wait_for(&rewritten, value);
            }
            let _: () = one.ask(&["SET", &deleted, "value"]).unwrap();
            own[1].wait_for(&deleted, "value");
            assert_eq!(other.ask::<i64>(&["DEL", &deleted]).unwrap(), 1);
            assert_eq!(one.get(&deleted), None);
            // Whoever takes it to be next year must not remove it for all.
            let _: () = one.ask(&["SET", &leased, "value", "EX", "200000"]).unwrap();
            assert_eq!(other.get(&leased).as_deref(), Some("value"));
            self.shown.extend([(rewritten, Some("third".to_owned())), (deleted, None)]);
            self.leased.insert(leased);

            // What the third acknowledges counts for everybody.
            let (member, gone, shared) = (name("wrong"), name("gone"), name("shared"));
            let _: () = one.ask(&["SADD", "set", &name("right"), &gone]).unwrap();
            self.added.insert(name("right"));
            if wrong.ask::<i64>(&["SADD", "set", &member]).is_ok() {
                assert!(other.members("set").contains(&member));
                self.added.insert(member);
            }
            if wrong.ask::<i64>(&["SREM", "set", &gone]).is_ok_and(|removed| removed == 1) {
                assert!(!other.members("set").contains(&gone));
                self.removed.insert(gone);
            }
            for client in [&mut *one, &mut *other, &mut wrong] {
                match client.ask::<i64>(&["INCR", "counter"]) {
                    Ok(_) => self.counted.0 += 1,
                    Err(_) => self.counted.1 += 1,
                }
            }
            let _: () = one.ask(&["SET", &shared, "before"]).unwrap();
            if wrong.ask::<()>(&["SET", &shared, "between"]).is_ok() {
                // Where it was written by whoever had not seen what was there, the two are siblings.
                assert!(other.values(&shared).contains(&"between".to_owned()), "it was acknowledged");
                own[0].wait_for(&shared, "between");
            }
            let _: () = one.ask(&["SET", &shared, "after"]).unwrap();
            assert_eq!(other.get(&shared).as_deref(), Some("after"));
            self.last.insert(shared, "after".to_owned());
        }
    }

    /// Demands all of it at a peer. `later` if the time of what had an end is over.
    fn check(&self, peer: &Peer, level: &str, later: bool) {
        let mut client = Client::at_level(peer, level);
        for (key, value) in &self.shown {
            assert_eq!(client.get(key), *value, "{key}");
        }
        for key in &self.leased {
            assert_eq!(client.get(key).is_none(), later, "{key}");
        }
        for (key, value) in &self.last {
            let values = client.values(key);
            assert!(values.contains(value), "{key} has {values:?}");
        }
        let members = client.members("set");
        let (lost, back): (Vec<_>, Vec<_>) = (self.added.difference(&members).collect(), self.removed.intersection(&members).collect());
        assert!(lost.is_empty() && back.is_empty(), "lost {lost:?}, back again {back:?}");
        let counter: i64 = client.ask(&["GET", "counter"]).unwrap();
        let (sure, unsure) = self.counted;
        assert!((sure..=sure + unsure).contains(&counter), "{counter} after {sure} and {unsure} unsure");
    }

    /// Demands that clients of every peer can write every key, and delete it with all that it had.
    fn expect_writable(&self, cluster: &Cluster) {
        let mut clients: Vec<Client> = cluster.peers.iter().map(|peer| Client::at_level(peer, "all")).collect();
        for (key, turn) in self.shown.keys().chain(&self.leased).chain(self.last.keys()).zip(0..) {
            for client in &mut clients {
                eventually("every key can be written", || client.ask::<()>(&["SET", key, "anew"]).map_err(|error| error.to_string()));
            }
            let at = turn % clients.len();
            assert_eq!(clients[at].ask::<i64>(&["DEL", key]), Ok(1));
            for client in &mut clients {
                assert_eq!(client.get(key), None, "{key} is deleted");
            }
        }
    }

    /// Once the clock is right again, its peer's clients write on; and once the time has come that it had been ahead by, every peer has the same.
    fn finish(mut self, mut cluster: Cluster, library: &str, until: &str) {
        expect_writing(&cluster.peers[WRONG]);
        self.write(&cluster);
        for peer in &cluster.peers[..WRONG] {
            self.check(peer, "quorum", false);
        }
        for index in 0..cluster.peers.len() {
            start_again(&mut cluster, index, &under(library, &format!("FAKETIME={until}")));
        }
        cluster.wait_until_whole();
        cluster.wait_until_converged();
        for peer in &cluster.peers {
            self.check(peer, "local", until == LATER);
        }
        self.expect_writable(&cluster);
    }
}

/// A peer that is started with a wrong clock, so many seconds ahead of the others, and later with the right one.
fn run_through(clock: &str, is_ahead: RangeInclusive<i64>) {
    let Some(library) = library() else { return };
    let (mut cluster, mut book) = (Cluster::start(3), Book::default());
    book.write(&cluster);
    start_again(&mut cluster, WRONG, &under(&library, &format!("FAKETIME={clock}")));
    cluster.wait_until_whole();
    assert!(is_ahead.contains(&ahead(&cluster.peers[WRONG])));
    book.write(&cluster);
    expect_writing(&cluster.peers[WRONG]);
    book.write(&cluster);
    start_again(&mut cluster, WRONG, &[]);
    cluster.wait_until_whole();
    book.finish(cluster, &library, SOON);
}

#[test]
fn a_peer_that_is_an_hour_ahead_loses_nothing_and_holds_nobody_up() {
    run_through("+1h", 3_500..=3_700);
}

#[test]
fn a_clock_that_is_set_to_and_fro_by_a_year_while_it_runs_loses_nothing_and_holds_nobody_up() {
    let Some(library) = library() else { return };
    let (mut cluster, mut book) = (Cluster::start(3), Book::default());
    let folder = tempfile::tempdir().unwrap();
    let calendar = folder.path().join("calendar");
    let set = |ahead: &str| {
        fs::write(folder.path().join("next"), ahead).unwrap();
        fs::rename(folder.path().join("next"), &calendar).unwrap();
    };
    set("+0");
    let mut prefix = under(&library, &format!("FAKETIME_TIMESTAMP_FILE={}", calendar.display()));
    prefix.push("FAKETIME_NO_CACHE=1".to_owned());
    start_again(&mut cluster, WRONG, &prefix);
    cluster.wait_until_whole();
    book.write(&cluster);
    for days in [365, 0, -365, 365, -365, 0] {
        set(&format!("{days:+}d"));
        assert!((days * DAY - 100..days * DAY + 100).contains(&ahead(&cluster.peers[WRONG])));
        book.write(&cluster);
    }
    book.finish(cluster, &library, LATER);
}

#[test]
fn a_peer_that_is_started_in_1970_loses_nothing_and_holds_nobody_up() {
    run_through("@1970-01-02 00:00:00", i64::MIN..=-50 * 365 * DAY);
}
