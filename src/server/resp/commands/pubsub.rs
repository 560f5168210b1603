//! Publish and subscribe: messages to whoever listens at any peer at this moment.

use bytes::Bytes;
use futures::FutureExt;

use super::action::{Action, CommandError, bulks};
use super::introspection::lines;
use super::spec::{Flags, Group, Parsed, Run, Spec};
use super::{Call, help};
use crate::config::MAX_KEY;
use crate::env::message::Publication;
use crate::pubsub::Sort;
use crate::server::resp::reply::Reply;

const LISTEN: Flags = Flags::PUBSUB.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE).and(Flags::SUBSCRIBED);
const PUBLISH: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::MAY_REPLICATE);
const ASK: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE);

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, since: &'static str, run: Run) -> Spec {
    Spec { name, arity, flags, group: Group::Pubsub, keys: (0, 0, 0), summary, since, run }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("publish", 3, PUBLISH, "Post a message to a channel", "2.0.0", Run::Pure(|arguments, _| publish(arguments, false))),
    row("spublish", 3, PUBLISH, "Post a message to a shard channel", "7.0.0", Run::Pure(|arguments, _| publish(arguments, true))),
    row(
        "subscribe",
        -2,
        LISTEN,
        "Listen for messages published to the given channels",
        "2.0.0",
        Run::Pure(|arguments, _| subscribe(arguments, Sort::Channel)),
    ),
    row(
        "psubscribe",
        -2,
        LISTEN,
        "Listen for messages published to channels matching the given patterns",
        "2.0.0",
        Run::Pure(|arguments, _| subscribe(arguments, Sort::Pattern)),
    ),
    row("ssubscribe", -2, LISTEN, "Listen for messages published to the given shard channels", "7.0.0", Run::Local(subscribe_to_shards)),
    row(
        "unsubscribe",
        -1,
        LISTEN,
        "Stop listening for messages posted to the given channels",
        "2.0.0",
        Run::Pure(|arguments, _| unsubscribe(arguments, Sort::Channel)),
    ),
    row(
        "punsubscribe",
        -1,
        LISTEN,
        "Stop listening for messages posted to channels matching the given patterns",
        "2.0.0",
        Run::Pure(|arguments, _| unsubscribe(arguments, Sort::Pattern)),
    ),
    row(
        "sunsubscribe",
        -1,
        LISTEN,
        "Stop listening for messages posted to the given shard channels",
        "7.0.0",
        Run::Pure(|arguments, _| unsubscribe(arguments, Sort::Shard)),
    ),
    row("pubsub", -2, Flags::NONE, "A container for Pub/Sub commands", "2.8.0", Run::Container(SUBCOMMANDS, None)),
];

const SUBCOMMANDS: &[Spec] = &[
    row("channels", -2, ASK, "List active channels", "2.8.0", Run::Local(|arguments, call| channels(arguments, call, false))),
    row(
        "numsub",
        -2,
        ASK,
        "Get the count of subscribers for channels",
        "2.8.0",
        Run::Local(|arguments, call| counts(arguments, call, false)),
    ),
    row("numpat", 2, ASK, "Get the count of unique patterns pattern subscriptions", "2.8.0", Run::Local(patterns)),
    row("shardchannels", -2, ASK, "List active shard channels", "7.0.0", Run::Local(|arguments, call| channels(arguments, call, true))),
    row(
        "shardnumsub",
        -2,
        ASK,
        "Get the count of subscribers for shard channels",
        "7.0.0",
        Run::Local(|arguments, call| counts(arguments, call, true)),
    ),
    row(
        "help",
        2,
        Flags::LOADING.and(Flags::STALE),
        "Show helpful text about the different subcommands",
        "6.2.0",
        Run::Pure(|_, _| Ok(Action::Reply(lines(help::PUBSUB)))),
    ),
];

/// A channel or pattern has the limit of a key.
fn checked(names: &[Bytes]) -> Result<Vec<Bytes>, CommandError> {
    let fits = names.iter().all(|name| name.len() <= MAX_KEY);
    fits.then(|| names.to_vec()).ok_or_else(|| CommandError::other("TOOBIG channel exceeds 64 KiB"))
}

fn publish(arguments: &[Bytes], sharded: bool) -> Parsed {
    checked(&arguments[1..2])?;
    // Copies: a message that waits must not keep the client's input buffer.
    let [channel, message] = [1, 2].map(|place| Bytes::copy_from_slice(&arguments[place]));
    Ok(Action::Publish(Publication { sharded, channel, message }))
}

fn subscribe(arguments: &[Bytes], sort: Sort) -> Parsed {
    Ok(Action::Subscribe(sort, checked(&arguments[1..])?))
}

fn subscribe_to_shards(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    if call.in_transaction {
        return Err(CommandError::other("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    subscribe(arguments, Sort::Shard)
}

fn unsubscribe(arguments: &[Bytes], sort: Sort) -> Parsed {
    Ok(Action::Unsubscribe(sort, arguments[1..].to_vec()))
}

fn channels(arguments: &[Bytes], call: &mut Call<'_>, sharded: bool) -> Parsed {
    if arguments.len() > 3 {
        return Err(CommandError::subcommand_syntax(arguments, "PUBSUB"));
    }
    let (pubsub, pattern) = (call.shared.node.pubsub().clone(), arguments.get(2).cloned());
    Ok(Action::Alone(async move { bulks(pubsub.channels(sharded, pattern).await) }.boxed()))
}

fn counts(arguments: &[Bytes], call: &mut Call<'_>, sharded: bool) -> Parsed {
    let (pubsub, channels) = (call.shared.node.pubsub().clone(), arguments[2..].to_vec());
    let counting = async move {
        let counts = pubsub.counts(sharded, channels.clone()).await;
        let pairs = channels.into_iter().zip(counts).flat_map(|(channel, count)| [Reply::Bulk(channel), Reply::count(count)]);
        Reply::Array(pairs.collect())
    };
    Ok(Action::Alone(counting.boxed()))
}

fn patterns(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let pubsub = call.shared.node.pubsub().clone();
    Ok(Action::Alone(async move { Reply::count(pubsub.patterns().await.len()) }.boxed()))
}
