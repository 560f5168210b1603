//! RINGTIDE: levels, members, placement, siblings, convergence; what Redis has no words for.

use bytes::Bytes;
use futures::FutureExt;

use super::Call;
use super::action::{Action, CommandError, Operation, plain};
use super::introspection::offered;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::crdt::command::{Answer, Explained};
use crate::crdt::{hash, key, string};
use crate::members::Standing;
use crate::node::leaving::{Forgotten, LeaveError};
use crate::node::{Node, PeerState, SetAside};
use crate::server::resp::reply::Reply;
use crate::server::resp::shared::VERSION;
use crate::types::{Digest, InvalidPeerId, Level, Partition, PeerId};

pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "ringtide",
    arity: -2,
    flags: Flags::NONE,
    group: Group::Ringtide,
    keys: (0, 0, 0),
    summary: "A container for what Redis has no words for",
    since: "0.1.0",
    run: Run::Container(SUBCOMMANDS, None),
}];

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, run: fn(&[Bytes], &mut Call<'_>) -> Parsed) -> Spec {
    Spec { name, arity, flags, group: Group::Ringtide, keys: (0, 0, 0), summary, since: "0.1.0", run: Run::Local(run) }
}

const fn keyed(spec: Spec) -> Spec {
    Spec { keys: (2, 2, 1), ..spec }
}

const READ: Flags = Flags::READONLY;

const SUBCOMMANDS: &[Spec] = &[
    row("level", -2, Flags::FAST, "Tell or set how many replicas this connection's commands wait for", level),
    row("status", 2, READ, "What this peer tells about itself", status),
    row("peers", 2, READ, "Every member that this peer knows", peers),
    row("ring", 2, READ, "The holders of each partition, in order of preference", ring),
    keyed(row("owners", 3, READ, "The holders of a key, in order of preference", owners)),
    keyed(row("siblings", -3, READ, "Every value that concurrent writes left, and a token that names them", siblings)),
    keyed(row("resolve", -5, Flags::WRITE, "Write a value in place of exactly what the token's reader saw", resolve)),
    keyed(row("explain", 3, READ, "The rows of a key: who wrote what, what shows and why", explain)),
    row("converged", -2, READ, "Whether all owners that are up have the same data", converged),
    row("digest", 2, READ, "The digest of each partition that this peer holds", digest),
    row("sync", 2, Flags::ADMIN, "Compare with every co-replica now", sync),
    row("leave", -2, Flags::ADMIN, "Hand over all partitions and go out of the ring", leave),
    row("forget", -3, Flags::ADMIN, "Take a peer that is gone for good out of the ring", forget),
    row("help", 2, Flags::NONE, "Show helpful text about the different subcommands", |_, _| {
        Ok(Action::Reply(offered("RINGTIDE", SUBCOMMANDS)))
    }),
];

fn level(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    match &arguments[2..] {
        [] => Ok(Action::Reply(Reply::text(call.session.level))),
        [name] => {
            call.session.level = level_named(name)?;
            Ok(Action::Reply(Reply::OK))
        }
        _ => Err(CommandError::WrongArity("ringtide|level".to_owned())),
    }
}

fn level_named(name: &[u8]) -> Result<Level, CommandError> {
    let known = Level::NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    known.map(|(_, level)| *level).ok_or_else(|| {
        let name: String = String::from_utf8_lossy(name).chars().take(32).collect();
        CommandError::Other(format!("ERR unknown level '{name}', expected local, one, sloppy, quorum or all"))
    })
}

fn status(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let status = call.shared.node.status();
    Ok(Action::Reply(Reply::map([
        ("peer", Reply::text(status.peer)),
        ("cluster", Reply::bulk(status.cluster)),
        ("standing", Reply::bulk(standing_name(status.standing))),
        ("version", Reply::bulk(VERSION)),
        ("members", Reply::count(status.members)),
        ("up", Reply::count(status.up)),
        ("partitions", Reply::count(status.partitions)),
        ("replicas", Reply::count(status.replicas)),
        ("keys", Reply::count(status.keys)),
        ("hints", Reply::count(status.hints)),
        ("syncing", Reply::count(status.syncing)),
        ("handing_over", Reply::count(status.handing_over)),
        ("protected", Reply::Integer(i64::from(status.protected))),
        ("disk_full", Reply::Integer(i64::from(!status.has_room))),
        ("damaged_partitions", Reply::count(status.damage.partitions)),
        ("damaged_rows", Reply::count(status.damage.rows_aside)),
        ("unjoined_rows", Reply::count(status.damage.rows_unjoined)),
        ("mended_records", Reply::count(status.damage.derived)),
        ("clock_ahead_ms", Reply::Integer(status.clock_ahead_ms)),
    ])))
}

fn standing_name(standing: Standing) -> &'static str {
    match standing {
        Standing::Joined => "joined",
        Standing::Left => "left",
        Standing::Forgotten => "forgotten",
    }
}

fn peers(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let peers = call.shared.node.peers().into_iter().map(|peer| {
        Reply::map([
            ("peer", Reply::text(peer.peer)),
            ("state", Reply::bulk(state_name(peer.state))),
            ("zone", peer.zone.map_or(Reply::Null, Reply::bulk)),
            ("capacity", Reply::count(peer.capacity)),
            ("address", peer.address.map_or(Reply::Null, Reply::bulk)),
            ("partitions", Reply::count(peer.partitions)),
            ("last_seen_ms", peer.last_seen_ms.map_or(Reply::Null, Reply::count)),
        ])
    });
    Ok(Action::Reply(Reply::Array(peers.collect())))
}

fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Up => "up",
        PeerState::Suspect => "suspect",
        PeerState::Down => "down",
        PeerState::Left => "left",
    }
}

fn ids(peers: Vec<PeerId>) -> Reply {
    Reply::Array(peers.into_iter().map(Reply::text).collect())
}

fn ring(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    Ok(Action::Reply(Reply::Array(call.shared.node.ring().into_iter().map(ids).collect())))
}

fn owners(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    Ok(Action::Reply(ids(call.shared.node.owners(&arguments[2]))))
}

/// `RINGTIDE SIBLINGS key [field]`.
fn siblings(arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    match &arguments[2..] {
        [key] => Ok(Operation::read(key, string::Query::Siblings).plain()),
        [key, field] => Ok(Operation::read(key, hash::Query::Siblings(field.clone())).plain()),
        _ => Err(CommandError::WrongArity("ringtide|siblings".to_owned())),
    }
}

/// `RINGTIDE RESOLVE key [field] token value`.
fn resolve(arguments: &[Bytes], _call: &mut Call<'_>) -> Parsed {
    match &arguments[2..] {
        [key, token, value] => Ok(Operation::write(key, string::Mutation::Resolve { token: token.clone(), value: value.clone() }).plain()),
        [key, field, token, value] => {
            let mutation = hash::Mutation::Resolve { field: field.clone(), token: token.clone(), value: value.clone() };
            Ok(Operation::write(key, mutation).plain())
        }
        _ => Err(CommandError::WrongArity("ringtide|resolve".to_owned())),
    }
}

fn explain(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let (node, key) = (call.shared.node.clone(), arguments[2].clone());
    Ok(Operation::read(&arguments[2], key::Query::Explain).shaped(move |answer| match answer {
        Answer::Explained(rows) => Reply::map([
            ("partition", Reply::count(node.partition(&key).0)),
            ("owners", ids(node.owners(&key))),
            ("rows", Reply::Array(rows.into_iter().map(|row| explained(row, &node)).collect())),
            ("set_aside", node.set_aside(&key).map_or_else(Reply::Error, |rows| Reply::Array(rows.into_iter().map(set_aside).collect()))),
        ]),
        other => plain(other),
    }))
}

fn explained(row: Explained, node: &Node) -> Reply {
    Reply::map([
        ("kind", Reply::bulk(row.kind)),
        ("element", Reply::Bulk(row.element)),
        ("dot", Reply::bulk(row.dot)),
        ("peer", node.author(row.actor).map_or(Reply::Null, Reply::text)),
        ("written_ms", Reply::count(row.written_ms)),
        ("content", Reply::bulk(row.content)),
        ("shows", Reply::Integer(i64::from(row.shows))),
        ("reason", Reply::bulk(row.reason)),
    ])
}

/// A row that is set aside at this peer.
fn set_aside(row: SetAside) -> Reply {
    Reply::map([
        ("kind", row.kind.map_or(Reply::Null, |kind| Reply::bulk(kind.name()))),
        ("element", Reply::Bulk(row.element)),
        ("reason", Reply::bulk(row.reason)),
    ])
}

/// `RINGTIDE CONVERGED [key]`.
fn converged(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let key = match &arguments[2..] {
        [] => None,
        [key] => Some(key.clone()),
        _ => return Err(CommandError::WrongArity("ringtide|converged".to_owned())),
    };
    let node = call.shared.node.clone();
    Ok(Action::Alone(async move { Reply::Integer(i64::from(node.converged(key.as_deref()).await)) }.boxed()))
}

fn digest(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let node = call.shared.node.clone();
    let pair = |(partition, digest): (Partition, Digest)| Reply::Array(vec![Reply::count(partition.0), Reply::text(digest)]);
    Ok(Action::Alone(async move { Reply::Array(node.digests().await.into_iter().map(pair).collect()) }.boxed()))
}

fn sync(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let node = call.shared.node.clone();
    Ok(Action::Alone(
        async move {
            let report = node.sync().await;
            Reply::map([
                ("partitions", Reply::count(report.partitions)),
                ("rows_sent", Reply::count(report.rows_sent)),
                ("rows_received", Reply::count(report.rows_received)),
                ("bytes_sent", Reply::count(report.bytes_sent)),
                ("bytes_received", Reply::count(report.bytes_received)),
                ("ms", Reply::count(report.duration.as_millis())),
            ])
        }
        .boxed(),
    ))
}

/// `RINGTIDE LEAVE [FORCE]`.
fn leave(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let force = match &arguments[2..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"force") => true,
        [_] => return Err(CommandError::Syntax),
        _ => return Err(CommandError::WrongArity("ringtide|leave".to_owned())),
    };
    let node = call.shared.node.clone();
    let left = async move { node.leave(force).await.map_or_else(refused, |()| Reply::OK) };
    Ok(Action::Alone(left.boxed()))
}

/// `RINGTIDE FORGET peer [REPORT]`: with `REPORT` the reply also says what the peer may have had alone.
fn forget(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let reports = match &arguments[3..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"report") => true,
        [_] => return Err(CommandError::Syntax),
        _ => return Err(CommandError::WrongArity("ringtide|forget".to_owned())),
    };
    let peer: PeerId =
        String::from_utf8_lossy(&arguments[2]).parse().map_err(|invalid: InvalidPeerId| CommandError::Other(format!("ERR {invalid}")))?;
    let node = call.shared.node.clone();
    let told = move |forgotten: Forgotten| if reports { Reply::Simple(forgotten.to_string().into()) } else { Reply::OK };
    let forgotten = async move { node.forget(peer).await.map_or_else(refused, told) };
    Ok(Action::Alone(forgotten.boxed()))
}

fn refused(error: LeaveError) -> Reply {
    Reply::Error(error.to_string())
}
