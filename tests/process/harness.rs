//! Real peers for tests: child processes of the built binary on loopback, driven as a user would.
//!
//! ```text
//! let mut cluster = Cluster::start(3);       // three processes, data in a temporary folder
//! cluster.peers[1].kill();                   // SIGKILL: nothing is flushed, nobody is told
//! cluster.restart(1);                        // the same folder, again ready
//! ```
//!
//! Whatever a test does, its children end with it and its folder is removed. Nothing is waited for by sleeping a fixed time:
//! [`eventually`] polls up to a deadline that suits a slow, busy machine.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{Connection, FromRedisValue, ToRedisArgs};
use tempfile::TempDir;

/// How long anything may take that takes a second on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Polls until the condition holds.
///
/// # Panics
/// Where it does not within [`PATIENCE`]; the last thing that the condition said is part of the message.
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, condition)
}

/// As [`eventually`], with a limit of its own.
///
/// # Panics
/// Where the condition does not hold in time.
pub(crate) fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        let reason = match condition() {
            Ok(value) => return value,
            Err(reason) => reason,
        };
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}: {reason}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One peer: its folder, its arguments, and its process while it runs.
pub(crate) struct Peer {
    arguments: Vec<String>,
    prefix: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
}

/// A running process and what it said when it was ready.
struct Process {
    child: Child,
    ready: Ready,
    log: Arc<Mutex<String>>,
}

/// The parts of the ready line.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) peer: String,
    pub(crate) resp: String,
    pub(crate) http: String,
    pub(crate) addresses: Vec<String>,
}

impl Ready {
    fn parse(line: &str) -> Self {
        let words = line.strip_prefix("ready ").unwrap_or_else(|| panic!("not the ready line: {line:?}"));
        let field = |name: &str| {
            let value = words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("the ready line has no {name}: {line:?}")).to_owned()
        };
        let addresses = field("p2p").split(',').map(str::to_owned).collect();
        Self { peer: field("peer"), resp: field("resp"), http: field("http"), addresses }
    }
}

/// A command line of the binary without the settings of whoever runs the tests.
pub(crate) fn ringtide(prefix: &[String]) -> Command {
    let binary = env!("CARGO_BIN_EXE_ringtide");
    let mut command = match prefix.split_first() {
        None => Command::new(binary),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(binary);
            command
        }
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"RINGTIDE_")) {
        command.env_remove(name);
    }
    command
}

impl Peer {
    /// A peer with its data in `folder`, not started yet. Servers take any free port.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { arguments: vec!["--data-dir".into(), folder.display().to_string()], prefix: vec![], environment: vec![], process: None }
            .with(&["--resp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", "warn,ringtide=debug"])
    }

    /// Adds arguments.
    pub(crate) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Adds a variable of the environment.
    pub(crate) fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the binary through another command, such as `ip netns exec NAME`.
    pub(crate) fn through(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    fn spawn(&self) -> Child {
        let mut command = ringtide(&self.prefix);
        command.args(&self.arguments).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// Starts the process and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not get ready; its log is part of the message.
    pub(crate) fn start(&mut self) -> &mut Self {
        if let Err(reason) = self.launch() {
            panic!("the peer did not get ready ({reason})");
        }
        self
    }

    /// Starts the process. Whether it got ready: where it is disturbed on purpose it may end before.
    pub(crate) fn try_start(&mut self) -> bool {
        self.launch().is_ok()
    }

    fn launch(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "this peer runs already");
        let mut child = self.spawn();
        let log = collect(child.stderr.take().expect("stderr is a pipe"));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        match receiver.recv_timeout(PATIENCE) {
            Ok(line) => self.process = Some(Process { child, ready: Ready::parse(&line), log }),
            Err(error) => {
                let _ = child.kill();
                let status = child.wait();
                return Err(format!("{error}, {status:?}): {}", text_of(&log)));
            }
        }
        Ok(())
    }

    /// Waits until the process has ended by itself. Returns how, and its log.
    ///
    /// # Panics
    /// Where it has not ended in time.
    pub(crate) fn wait_until_ended(&mut self) -> (ExitStatus, String) {
        let mut process = self.process.take().expect("this peer runs");
        let status = eventually("the process ends", || process.child.try_wait().ok().flatten().ok_or_else(|| text_of(&process.log)));
        // The reader of stderr ends with the pipe; what it has by then is all.
        thread::sleep(Duration::from_millis(20));
        (status, text_of(&process.log))
    }

    /// Runs the process to its end, for a peer that must not start. Returns how it ended, its stdout and its stderr.
    ///
    /// # Panics
    /// Where it has not ended in time.
    pub(crate) fn run_to_end(&self) -> (ExitStatus, String, String) {
        run_to_end(self.spawn())
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("this peer runs")
    }

    /// What the peer said when it was ready.
    pub(crate) fn ready(&self) -> &Ready {
        &self.process().ready
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process().child.id()
    }

    /// All that it has logged since its start.
    pub(crate) fn log(&self) -> String {
        text_of(&self.process().log)
    }

    /// Whether its process runs.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// A new connection of a client.
    ///
    /// # Panics
    /// Where the peer takes none.
    pub(crate) fn connect(&self) -> Connection {
        self.try_connect().expect("the peer takes a connection")
    }

    /// A new connection of a client, if the peer takes one.
    pub(crate) fn try_connect(&self) -> Result<Connection, redis::RedisError> {
        let client = redis::Client::open(format!("redis://{}/?protocol=resp3", self.ready().resp))?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(10))?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        connection.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(connection)
    }

    /// Runs one command on a connection of its own.
    ///
    /// # Panics
    /// Where the peer answers with an error.
    pub(crate) fn ask<T: FromRedisValue>(&self, arguments: &[impl ToRedisArgs]) -> T {
        self.try_ask(arguments).expect("the peer answers")
    }

    /// As [`Peer::ask`], with the error instead of a panic.
    pub(crate) fn try_ask<T: FromRedisValue>(&self, arguments: &[impl ToRedisArgs]) -> Result<T, String> {
        let mut connection = self.try_connect().map_err(|error| error.to_string())?;
        let mut command = redis::Cmd::new();
        for argument in arguments {
            command.arg(argument);
        }
        command.query(&mut connection).map_err(|error| error.to_string())
    }

    /// Ends the process as a power cut would: SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Asks the process to stop, as an operator would: SIGTERM. Returns how it ended, how long that took, and its log.
    ///
    /// # Panics
    /// Where it has not ended within 20 s.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration, String) {
        let mut process = self.process.take().expect("this peer runs");
        let begin = Instant::now();
        send_signal(process.child.id(), "TERM");
        while begin.elapsed() < Duration::from_secs(20) {
            if let Some(status) = process.child.try_wait().expect("the child can be waited for") {
                return (status, begin.elapsed(), text_of(&process.log));
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = process.child.kill();
        let _ = process.child.wait();
        panic!("the peer did not stop within 20 s: {}", text_of(&process.log));
    }

    /// Waits until the process ends by itself. Returns how it ended, and its log.
    ///
    /// # Panics
    /// Where it goes on.
    pub(crate) fn wait_for_end(&mut self) -> (ExitStatus, String) {
        let process = self.process.as_mut().expect("this peer runs");
        let child = &mut process.child;
        let status = eventually("the process ends by itself", || match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => Ok(status),
            None => Err("it runs".to_owned()),
        });
        // The reader of stderr ends with the pipe; what it has by then is all.
        thread::sleep(Duration::from_millis(20));
        let log = text_of(&process.log);
        self.process = None;
        (status, log)
    }

    /// The memory that the process holds, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it holds memory");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(process) = &self.process
        {
            let log = text_of(&process.log);
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("-- end of the log of {}:", process.ready.peer);
            tail.iter().rev().for_each(|line| eprintln!("   {line}"));
        }
        self.kill();
    }
}

/// Sends a signal to one process that this test started.
pub(crate) fn send_signal(pid: u32, signal: &str) {
    let status = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().expect("kill can be run");
    assert!(status.success(), "signal {signal} could not be sent to {pid}");
}

/// Waits for a child that ends by itself. Returns how it ended, its stdout and its stderr.
///
/// # Panics
/// Where it has not ended in time.
pub(crate) fn run_to_end(mut child: Child) -> (ExitStatus, String, String) {
    let log = collect(child.stderr.take().expect("stderr is a pipe"));
    let mut stdout = child.stdout.take().expect("stdout is a pipe");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        text
    });
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the program did not end by itself: {}", text_of(&log));
        }
        thread::sleep(Duration::from_millis(10));
    };
    let stdout = reader.join().expect("the reader ends");
    // The reader of stderr ends with the pipe; what it has by then is all.
    thread::sleep(Duration::from_millis(20));
    (status, stdout, text_of(&log))
}

fn collect(stderr: ChildStderr) -> Arc<Mutex<String>> {
    let log = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&log);
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    });
    log
}

fn text_of(log: &Arc<Mutex<String>>) -> String {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Several peers of one cluster on loopback, bootstrapped from the first.
pub(crate) struct Cluster {
    pub(crate) peers: Vec<Peer>,
    folder: TempDir,
}

impl Cluster {
    /// Starts `count` peers and waits until each sees all as up and has finished its first syncs.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    /// As [`Cluster::start`], with arguments of its own for every peer.
    pub(crate) fn start_with(count: usize, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut cluster = Self { peers: Vec::new(), folder };
        for _ in 0..count {
            cluster.add(arguments);
        }
        cluster.wait_until_whole();
        cluster
    }

    /// Where the data of a peer lies.
    pub(crate) fn data_dir(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("peer-{index}"))
    }

    /// Starts one peer more.
    pub(crate) fn add(&mut self, arguments: &[&str]) {
        let mut peer = Peer::new(&self.data_dir(self.peers.len())).with(arguments);
        if let Some(first) = self.peers.first() {
            let address = first.ready().addresses[0].clone();
            peer = peer.with(&["--bootstrap", &address]);
        }
        peer.start();
        self.peers.push(peer);
    }

    /// Starts a peer again that was killed or stopped, told the address of one that runs.
    pub(crate) fn restart(&mut self, index: usize) {
        let running = self.peers.iter().find(|peer| peer.is_running()).map(|peer| peer.ready().addresses[0].clone());
        let peer = &mut self.peers[index];
        if let Some(at) = peer.arguments.iter().position(|argument| argument == "--bootstrap") {
            peer.arguments.drain(at..at + 2);
        }
        if let Some(address) = running {
            peer.arguments.extend(["--bootstrap".to_owned(), address]);
        }
        peer.start();
    }

    /// Starts a peer again that was killed, through another command.
    pub(crate) fn restart_through(&mut self, index: usize, prefix: &[&str]) {
        self.peers[index].prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self.restart(index);
    }

    /// Waits until every running peer sees every other as up, and none has a first sync left.
    pub(crate) fn wait_until_whole(&self) {
        let running: Vec<&Peer> = self.peers.iter().filter(|peer| peer.is_running()).collect();
        for peer in &running {
            eventually("every peer sees all as up", || {
                let status: std::collections::BTreeMap<String, redis::Value> = peer.try_ask(&["RINGTIDE", "STATUS"])?;
                let number = |name: &str| match status.get(name) {
                    Some(redis::Value::Int(number)) => Ok(*number),
                    other => Err(format!("{name} is {other:?}")),
                };
                let wanted = i64::try_from(running.len()).map_err(|error| error.to_string())?;
                let seen = (number("members")?, number("up")?, number("syncing")?);
                if seen == (wanted, wanted, 0) { Ok(()) } else { Err(format!("members, up, syncing are {seen:?}")) }
            });
        }
    }

    /// Waits until all peers that run report the same digest for every partition that they share.
    pub(crate) fn wait_until_converged(&self) {
        let running: Vec<&Peer> = self.peers.iter().filter(|peer| peer.is_running()).collect();
        eventually("all owners report equal digests", || {
            for peer in &running {
                let equal: i64 = peer.try_ask(&["RINGTIDE", "CONVERGED"])?;
                if equal != 1 {
                    // What anti-entropy would do within a minute, now.
                    let _: redis::Value = peer.try_ask(&["RINGTIDE", "SYNC"])?;
                    return Err("CONVERGED says 0".to_owned());
                }
            }
            let digests = |peer: &&Peer| peer.try_ask::<Vec<(i64, String)>>(&["RINGTIDE", "DIGEST"]);
            let all = running.iter().map(digests).collect::<Result<Vec<_>, _>>()?;
            // With no more peers than copies, every peer holds every partition.
            if running.len() <= 3 && all.iter().any(|one| one != &all[0]) {
                return Err("DIGEST differs between peers".to_owned());
            }
            Ok(())
        });
    }
}
