//! MIGRATE: keys that go to another server of the Redis protocol.
//!
//! ```text
//! read the keys ─► AUTH, SELECT, a RESTORE for each, in one pipeline ─► remove what the other server has confirmed
//! ```
//!
//! What is removed is exactly what was read: what others wrote meanwhile stays here. Where it breaks off in the middle a key is at both, never at neither.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Call;
use super::action::{Action, CommandError, Operation};
use super::options::{integer, is};
use super::partial::partly_done;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::config::MAX_TOKEN;
use crate::crdt::command::Answer;
use crate::crdt::key::{Mutation, Query};
use crate::node::OperationError;
use crate::notifications::{Classes, Event};
use crate::server::resp::dump;
use crate::server::resp::reply::Reply;
use crate::server::resp::shared::Shared;

/// How long each step may take where the client did not say.
const TIMEOUT_MS: u64 = 1000;
/// The longest line of a reply that is read, in bytes.
const LONGEST_REPLY: u64 = 1024;

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "migrate",
    arity: -6,
    flags: Flags::WRITE.and(Flags::MOVABLEKEYS),
    group: Group::Generic,
    keys: (3, 3, 1),
    summary: "Atomically transfer a key from a Redis instance to another one.",
    since: "2.6.0",
    run: Run::Local(migrate),
}];

/// Where keys go, and how.
struct Destination {
    host: String,
    port: String,
    database: i64,
    /// The user, where one was named, and the password.
    credentials: Vec<Bytes>,
    timeout: Duration,
    copies: bool,
    replaces: bool,
}

/// A key that goes.
struct Cargo {
    key: Bytes,
    end_ms: Option<u64>,
    payload: Bytes,
    /// Names what was read of it.
    token: Bytes,
}

/// Why nothing more came of it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("IOERR error or timeout connecting to the client")]
    Connecting,
    #[error("IOERR error or timeout {0} to target instance")]
    Broken(&'static str),
    #[error("ERR Target instance replied with error: {0}")]
    Refused(String),
}

/// `MIGRATE host port key|"" database timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key…]`.
fn migrate(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let (destination, keys) = read(arguments)?;
    let shared = call.shared.clone();
    let questions = keys.iter().map(|key| Operation::read(key, Query::Content { with_token: !destination.copies })).collect();
    Ok(Action::first(questions, move |answers| {
        let mut cargo = Vec::new();
        for (key, answer) in keys.into_iter().zip(answers) {
            let Answer::Content { content: Some(content), expires_at_ms: end_ms, token } = answer? else { continue };
            if token.len() > MAX_TOKEN {
                return Err(CommandError::ContentTooBig);
            }
            cargo.push(Cargo { key, end_ms, payload: dump::serialize(&content), token });
        }
        if cargo.is_empty() {
            return Ok(Action::Reply(Reply::simple("NOKEY")));
        }
        Ok(Action::Then(deliver(destination, cargo, shared).boxed()))
    }))
}

/// What was asked for, and the keys.
fn read(arguments: &[Bytes]) -> Result<(Destination, Vec<Bytes>), CommandError> {
    let text = |argument: &Bytes| String::from_utf8_lossy(argument).into_owned();
    let (mut credentials, mut copies, mut replaces) = (Vec::new(), false, false);
    let (mut keys, mut rest) = (vec![arguments[3].clone()], &arguments[6..]);
    while let Some((option, after)) = rest.split_first() {
        rest = match after {
            after if is(option, "copy") => {
                copies = true;
                after
            }
            after if is(option, "replace") => {
                replaces = true;
                after
            }
            [password, after @ ..] if is(option, "auth") => {
                credentials = vec![password.clone()];
                after
            }
            [user, password, after @ ..] if is(option, "auth2") => {
                credentials = vec![user.clone(), password.clone()];
                after
            }
            named if is(option, "keys") => {
                if !arguments[3].is_empty() {
                    return Err(CommandError::other(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                keys = named.to_vec();
                &[]
            }
            _ => return Err(CommandError::Syntax),
        };
    }
    let timeout_ms = u64::try_from(integer(&arguments[5])?).ok().filter(|timeout_ms| *timeout_ms > 0);
    let database = integer(&arguments[4])?;
    let timeout = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS));
    let (host, port) = (text(&arguments[1]), text(&arguments[2]));
    Ok((Destination { host, port, database, credentials, timeout, copies, replaces }, keys))
}

/// Sends keys, and goes on with the removal of those that arrived.
async fn deliver(destination: Destination, cargo: Vec<Cargo>, shared: Arc<Shared>) -> Action {
    let (arrived, failure) = send(&destination, &cargo, shared.now_ms()).await;
    let reply = failure.map_or(Reply::OK, |failure| Reply::Error(failure.to_string()));
    if destination.copies {
        return Action::Reply(reply);
    }
    let gone: Vec<Cargo> = cargo.into_iter().zip(arrived).filter(|(_, arrived)| *arrived).map(|(cargo, _)| cargo).collect();
    let deleted = Event::of_replacement(Classes::GENERIC, "del");
    let removals =
        gone.iter().map(|Cargo { key, token, .. }| Operation::write(key, Mutation::RemoveSeen { token: token.clone() }).announced(deleted));
    Action::First(removals.collect(), Box::new(move |answers| Action::Reply(removed(&gone, &answers).unwrap_or(reply))))
}

/// What to say where keys arrived and could not be removed.
fn removed(gone: &[Cargo], answers: &[Result<Answer, OperationError>]) -> Option<Reply> {
    let keys: Vec<Bytes> = gone.iter().map(|cargo| cargo.key.clone()).collect();
    let failed = answers.iter().find_map(|answer| answer.as_ref().err());
    failed.map(|error| partly_done(&keys, answers).unwrap_or_else(|| error.clone().into()))
}

/// Which keys arrived, and what went wrong first.
async fn send(destination: &Destination, cargo: &[Cargo], now_ms: i64) -> (Vec<bool>, Option<Failure>) {
    let mut arrived = Vec::new();
    let result = converse(destination, cargo, now_ms, &mut arrived).await;
    arrived.resize(cargo.len(), false);
    (arrived, result.err())
}

/// Sends everything and reads every reply, noting of each key whether it arrived.
async fn converse(destination: &Destination, cargo: &[Cargo], now_ms: i64, arrived: &mut Vec<bool>) -> Result<(), Failure> {
    let connecting = timeout(destination.timeout, connect(destination)).await;
    let (reading, mut writing) = connecting.ok().flatten().ok_or(Failure::Connecting)?.into_split();
    let commands = commands(destination, cargo, now_ms);
    let preliminaries = commands.len() - cargo.len();
    let mut lines = BufReader::new(reading);
    // Both at once, so that neither server waits for the other to read.
    let writing = async {
        for command in &commands {
            // Each step has its time, as at Redis.
            if !matches!(timeout(destination.timeout, writing.write_all(command)).await, Ok(Ok(()))) {
                return Err(Failure::Broken("writing"));
            }
        }
        Ok(())
    };
    let reading = async {
        // Without password or database nothing arrives where it should.
        let (mut refused, mut is_barred) = (None, false);
        for place in 0..commands.len() {
            let line = timeout(destination.timeout, read_line(&mut lines)).await.ok().flatten().ok_or(Failure::Broken("reading"))?;
            let error = line.strip_prefix('-').map(ToOwned::to_owned);
            if place < preliminaries {
                is_barred |= error.is_some();
            } else {
                arrived.push(error.is_none() && !is_barred);
            }
            refused = refused.or(error);
        }
        refused.map_or(Ok(()), |error| Err(Failure::Refused(error)))
    };
    let (written, read) = futures::join!(writing, reading);
    written.and(read)
}

async fn connect(destination: &Destination) -> Option<TcpStream> {
    let port: u16 = destination.port.parse().ok()?;
    TcpStream::connect((destination.host.as_str(), port)).await.ok()
}

/// A line of a reply without its end; `None` where the connection ends, or the line does not.
async fn read_line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut line = Vec::new();
    lines.take(LONGEST_REPLY).read_until(b'\n', &mut line).await.ok()?;
    Some(String::from_utf8_lossy(line.strip_suffix(b"\r\n")?).into_owned())
}

/// The bytes of every command: one for the password where there is one, one for the database, and one a key.
fn commands(destination: &Destination, cargo: &[Cargo], now_ms: i64) -> Vec<Bytes> {
    let mut commands = Vec::with_capacity(cargo.len() + 2);
    if !destination.credentials.is_empty() {
        commands.push(command(&[&[Bytes::from_static(b"AUTH")], &destination.credentials[..]].concat()));
    }
    commands.push(command(&["SELECT".into(), destination.database.to_string().into()]));
    for Cargo { key, end_ms, payload, .. } in cargo {
        let left_ms = |end_ms: u64| i64::try_from(end_ms).unwrap_or(i64::MAX).saturating_sub(now_ms).max(1);
        let time = end_ms.map_or(0, left_ms).to_string();
        let mut words = vec!["RESTORE".into(), key.clone(), time.into(), payload.clone()];
        words.extend(destination.replaces.then_some(Bytes::from_static(b"REPLACE")));
        commands.push(command(&words));
    }
    commands
}

fn command(words: &[Bytes]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.put_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.put_slice(word);
        bytes.put_slice(b"\r\n");
    }
    bytes.freeze()
}
