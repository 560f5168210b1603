//! The table as a whole, and what arguments come down to. Replies of a running peer are compared with Redis in `tests/`.

use std::collections::BTreeSet;

use super::*;
use crate::config::{MAX_KEY, MAX_VALUE};
use crate::crdt::command::Answer;
use crate::crdt::key::{self, ExpireCondition};
use crate::crdt::string::{self, SetCondition, SetExpiry};

const NOW_MS: i64 = 1_000_000;

fn arguments(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

/// Parses a command that needs nothing but its arguments.
fn parse(arguments: &[Bytes]) -> Parsed {
    match find(&arguments[0]).unwrap().run {
        Run::Pure(parse) => parse(arguments, NOW_MS),
        Run::Local(_) | Run::Container(..) => panic!("{:?} needs a peer", arguments[0]),
    }
}

fn work(line: &str) -> Work {
    match parse(&arguments(line)) {
        Ok(Action::Key(operation, _)) => operation.work,
        Ok(_) => panic!("{line} is no operation on one key"),
        Err(error) => panic!("{line}: {error}"),
    }
}

fn error(line: &str) -> String {
    parse(&arguments(line)).err().map(|error| error.to_string()).unwrap_or_default()
}

/// What a command on one key replies to an answer.
fn reply(line: &str, answer: Answer) -> Reply {
    match parse(&arguments(line)) {
        Ok(Action::Key(_, shape)) => shape(answer),
        _ => panic!("{line} is no operation on one key"),
    }
}

fn set(expiry: SetExpiry, condition: SetCondition, get: bool) -> Work {
    Work::Write(string::Mutation::Set { value: "v".into(), expiry, condition, get }.into())
}

#[test]
fn every_command_that_is_promised_is_there_and_no_other() {
    let promised = "ping echo hello auth select quit reset client command info config dbsize get set getdel getset getex setnx setex psetex \
                    mget mset append strlen del unlink exists type incr decr incrby decrby incrbyfloat hset hsetnx hmset hget hmget hexists hstrlen hdel hlen \
                    hgetall hkeys hvals hincrby hincrbyfloat hrandfield zadd zincrby zrem zscore zmscore zcard zcount zlexcount zrank zrevrank \
                    zrange zrevrange zrangebyscore zrevrangebyscore zrangebylex zrevrangebylex zremrangebyrank zremrangebyscore \
                    zremrangebylex zpopmin zpopmax zrandmember spop srandmember sadd srem smembers sismember smismember scard sscan hscan zscan \
                    getrange substr setrange msetnx lcs setbit getbit bitcount bitpos bitop bitfield bitfield_ro \
                    lpush rpush lpushx rpushx lpop rpop llen lrange lindex lset linsert lrem ltrim lpos \
                     lmove rpoplpush lmpop zmpop blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop watch unwatch pfadd pfcount pfmerge \
                    expire pexpire expireat pexpireat ttl pttl expiretime persist scan keys randomkey flushall flushdb wait multi exec discard ringtide \
                    hexpire hpexpire hexpireat hpexpireat httl hpttl hexpiretime hpexpiretime hpersist hgetdel hgetex hsetex \
                    publish spublish subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe pubsub \
                    slowlog latency memory acl time role lastsave save bgsave bgrewriteaof lolwut debug \
                    sinter sunion sdiff sinterstore sunionstore sdiffstore sintercard smove zunion zinter zdiff zintercard zunionstore \
                    zinterstore zdiffstore zrangestore rename renamenx copy move swapdb object touch pexpiretime sort sort_ro \
                    geoadd geopos geohash geodist geosearch geosearchstore georadius georadius_ro georadiusbymember georadiusbymember_ro \
                    dump restore migrate";
    let promised: BTreeSet<&str> = promised.split(' ').filter(|name| !name.is_empty()).collect();
    assert_eq!(all().map(|spec| spec.name).collect::<BTreeSet<_>>(), promised);
    assert_eq!(all().count(), promised.len(), "no name is there twice");
    for spec in all() {
        assert_eq!(find(spec.name.to_uppercase().as_bytes()).map(|found| found.name), Some(spec.name));
    }
    assert!(find(b"").is_none() && find(&[b'g'; 1000]).is_none());
}

#[test]
fn every_command_takes_its_first_key() {
    for spec in all().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands())) {
        assert!(spec.keys.0 < spec.arity.abs(), "{} names a key that it need not have", spec.name);
        assert_eq!(spec.keys.2 > 0, spec.keys.0 > 0, "{}", spec.name);
        assert!(!spec.summary.is_empty() && !spec.accepts(0), "{}", spec.name);
    }
    let get = find(b"get").unwrap();
    assert!(get.accepts(2) && !get.accepts(1) && !get.accepts(3));
    let set = find(b"set").unwrap();
    assert!(set.accepts(3) && set.accepts(9) && !set.accepts(2));
}

#[test]
fn only_the_greeting_is_open_to_strangers() {
    let open: BTreeSet<&str> = all().filter(|spec| spec.flags.has(Flags::NO_AUTH)).map(|spec| spec.name).collect();
    assert_eq!(open, BTreeSet::from(["auth", "hello", "quit", "reset"]));
    assert!(all().flat_map(Spec::subcommands).all(|spec| !spec.flags.has(Flags::NO_AUTH)));
}

#[test]
fn set_knows_all_its_options() {
    let (always, clear) = (SetCondition::Always, SetExpiry::Clear);
    assert_eq!(work("SET k v"), set(clear, always, false));
    assert_eq!(work("set k v nx get"), set(clear, SetCondition::Absent, true));
    assert_eq!(work("SET k v XX KEEPTTL"), set(SetExpiry::Keep, SetCondition::Present, false));
    assert_eq!(work("SET k v EX 10"), set(SetExpiry::At(NOW_MS + 10_000), always, false));
    assert_eq!(work("SET k v PX 10 NX"), set(SetExpiry::At(NOW_MS + 10), SetCondition::Absent, false));
    assert_eq!(work("SET k v EXAT 10"), set(SetExpiry::At(10_000), always, false));
    assert_eq!(work("SET k v PXAT 9223372036854775807"), set(SetExpiry::At(i64::MAX), always, false));
    assert_eq!(work("SETEX k 10 v"), work("SET k v EX 10"));
    assert_eq!(work("PSETEX k 10 v"), work("SET k v PX 10"));
    assert_eq!(work("GETSET k v"), work("SET k v GET"));
    assert_eq!(work("SETNX k v"), work("SET k v NX"));
}

#[test]
fn wrong_options_get_the_errors_of_redis() {
    for line in [
        "SET k v EX",
        "SET k v EX 1 PX 1",
        "SET k v EX 1 KEEPTTL",
        "SET k v KEEPTTL EX 1",
        "SET k v NX XX",
        "SET k v FOO",
        "SET k v PERSIST",
        "SET k v EX abc PX 1",
        "GETEX k KEEPTTL",
        "GETEX k PERSIST EX 3",
        "GETEX k EX 3 PERSIST",
        "GETEX k NX",
        "GETEX k EX",
    ] {
        assert_eq!(error(line), "ERR syntax error", "{line}");
    }
    for line in ["SET k v EX 0", "SET k v EX -1", "SET k v EX 9223372036854775807", "SET k v PX 9223372036854775807", "SET k v EXAT 0"] {
        assert_eq!(error(line), "ERR invalid expire time in 'set' command", "{line}");
    }
    assert_eq!(error("SETEX k 0 v"), "ERR invalid expire time in 'setex' command");
    assert_eq!(error("PSETEX k -1 v"), "ERR invalid expire time in 'psetex' command");
    for line in ["SET k v EX abc", "SET k v EX 99999999999999999999", "INCRBY k 1.5", "INCRBY k +1", "EXPIRE k abc"] {
        assert_eq!(error(line), "ERR value is not an integer or out of range", "{line}");
    }
    assert_eq!(error("DECRBY k -9223372036854775808"), "ERR decrement would overflow");
    assert_eq!(error("MSET a b c"), "ERR wrong number of arguments for 'mset' command");
    assert_eq!(error("SELECT 1"), "ERR DB index is out of range");
    assert_eq!(error("SELECT 99999999999"), "ERR value is not an integer or out of range");
}

#[test]
fn getex_without_options_only_reads() {
    assert_eq!(work("GETEX k"), Work::Read(string::Query::Get.into()));
    assert_eq!(work("GETEX k PERSIST"), Work::Write(string::Mutation::GetExpire(SetExpiry::Clear).into()));
    assert_eq!(work("GETEX k EX 0"), Work::Read(string::Query::Get.into()));
    assert_eq!(reply("GETEX k EX 0", Answer::Nil), Reply::Null);
    let invalid = Reply::Error("ERR invalid expire time in 'getex' command".to_owned());
    assert_eq!(reply("GETEX k EX 0", Answer::Bytes("v".into())), invalid);
    assert_eq!(work("GETEX k PX 5"), Work::Write(string::Mutation::GetExpire(SetExpiry::At(NOW_MS + 5)).into()));
}

#[test]
fn expire_knows_its_conditions_and_ends_of_time() {
    let at = |at_ms, condition| Work::Write(key::Mutation::Expire { at_ms, condition }.into());
    assert_eq!(work("EXPIRE k 10"), at(NOW_MS + 10_000, ExpireCondition::Always));
    assert_eq!(work("EXPIRE k -10"), at(NOW_MS - 10_000, ExpireCondition::Always));
    assert_eq!(work("PEXPIRE k 10 nx NX"), at(NOW_MS + 10, ExpireCondition::NoExpiry));
    assert_eq!(work("EXPIREAT k 9223372036854775 XX"), at(9_223_372_036_854_775_000, ExpireCondition::HasExpiry));
    assert_eq!(work("PEXPIREAT k 9223372036854775807 GT"), at(i64::MAX, ExpireCondition::Later));
    assert_eq!(work("EXPIRE k 10 XX GT"), at(NOW_MS + 10_000, ExpireCondition::Later));
    assert_eq!(work("EXPIRE k 10 LT"), at(NOW_MS + 10_000, ExpireCondition::Earlier));
    assert_eq!(work("EXPIRE k 10 LT XX"), at(NOW_MS + 10_000, ExpireCondition::HasExpiryAndEarlier));
    assert_eq!(error("EXPIRE k 10 NX XX"), "ERR NX and XX, GT or LT options at the same time are not compatible");
    assert_eq!(error("EXPIRE k 10 GT LT"), "ERR GT and LT options at the same time are not compatible");
    assert_eq!(error("EXPIRE k 10 Foo"), "ERR Unsupported option Foo");
    for line in
        ["EXPIRE k 9223372036854775807", "EXPIRE k -9223372036854775808", "PEXPIRE k 9223372036854775807", "EXPIREAT k 9223372036854776"]
    {
        let command = line.split(' ').next().unwrap().to_lowercase();
        assert_eq!(error(line), format!("ERR invalid expire time in '{command}' command"), "{line}");
    }
}

#[test]
fn times_to_live_are_rounded_as_redis_rounds() {
    let left = |line: &str, at_ms: i64| reply(line, Answer::Integer(at_ms));
    assert_eq!(left("TTL k", NOW_MS + 1_499), Reply::Integer(1));
    assert_eq!(left("TTL k", NOW_MS + 1_500), Reply::Integer(2));
    assert_eq!(left("TTL k", NOW_MS - 1), Reply::Integer(0));
    assert_eq!(left("PTTL k", NOW_MS + 1_499), Reply::Integer(1_499));
    assert_eq!(left("EXPIRETIME k", 1_500), Reply::Integer(2));
    assert_eq!(left("EXPIRETIME k", i64::MAX), Reply::Integer(9_223_372_036_854_776));
    for line in ["TTL k", "PTTL k", "EXPIRETIME k"] {
        assert_eq!(left(line, -1), Reply::Integer(-1));
        assert_eq!(left(line, -2), Reply::Integer(-2));
    }
}

#[test]
fn commands_on_several_keys_gather_their_answers() {
    use crate::crdt::command::{DataType, Refusal};
    use crate::node::OperationError;
    let gather = |line: &str, answers: Vec<Result<Answer, OperationError>>| match parse(&arguments(line)) {
        Ok(Action::Keys(operations, gather)) => {
            assert_eq!(operations.len(), answers.len());
            gather(answers)
        }
        _ => panic!("{line} is no command on several keys"),
    };
    let wrong_type = || Err(OperationError::Refused(Refusal::WrongType));
    let values = Reply::Array(vec![Reply::bulk("v"), Reply::Null, Reply::Null]);
    assert_eq!(gather("MGET a b a", vec![Ok(Answer::Bytes("v".into())), Ok(Answer::Nil), wrong_type()]), values);
    assert!(gather("MGET a b", vec![Ok(Answer::Nil), Err(OperationError::Busy)]).is_error());
    assert_eq!(gather("DEL a b a", vec![Ok(Answer::Integer(1)), Ok(Answer::Integer(0)), Ok(Answer::Integer(1))]), Reply::Integer(2));
    assert_eq!(gather("EXISTS a b", vec![Ok(Answer::Type(Some(DataType::Set))), Ok(Answer::Type(None))]), Reply::Integer(1));
    assert_eq!(gather("MSET a 1 b 2", vec![Ok(Answer::Ok), Ok(Answer::Ok)]), Reply::OK);
    assert!(gather("MSET a 1 b 2", vec![Ok(Answer::Ok), Err(OperationError::Busy)]).is_error());
}

#[test]
fn a_key_or_value_above_its_limit_reaches_no_peer() {
    let limited = |words: Vec<Bytes>| parse(&words).and_then(within_limits).err();
    let (key, value) = (Bytes::from(vec![b'k'; MAX_KEY + 1]), Bytes::from(vec![b'v'; MAX_VALUE + 1]));
    let (longest_key, longest_value) = (key.slice(1..), value.slice(1..));
    for (line, expected) in [
        (["get".into(), key.clone()].to_vec(), Some(CommandError::KeyTooBig)),
        (["del".into(), "k".into(), key].to_vec(), Some(CommandError::KeyTooBig)),
        (["set".into(), "k".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["append".into(), "k".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["sadd".into(), "k".into(), "m".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["srem".into(), "k".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["sismember".into(), "k".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["rpush".into(), "k".into(), "i".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["lpos".into(), "k".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["setrange".into(), "k".into(), "0".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["pfadd".into(), "k".into(), value.clone()].to_vec(), Some(CommandError::ValueTooBig)),
        (["mset".into(), "k".into(), "v".into(), "l".into(), value].to_vec(), Some(CommandError::ValueTooBig)),
        (["set".into(), longest_key, longest_value].to_vec(), None),
        (["set".into(), "".into(), "".into()].to_vec(), None),
    ] {
        assert_eq!(limited(line), expected);
    }
}

#[test]
fn an_unknown_command_is_quoted_as_redis_quotes_it() {
    assert_eq!(unknown(&arguments("FOO")).to_string(), "ERR unknown command 'FOO', with args beginning with: ");
    assert_eq!(unknown(&arguments("FOO bar baz")).to_string(), "ERR unknown command 'FOO', with args beginning with: 'bar' 'baz' ");
    let long = "a".repeat(500);
    let quoted = unknown(&arguments(&format!("{long} {long} more"))).to_string();
    assert_eq!(quoted, format!("ERR unknown command '{0}', with args beginning with: '{0}' ", &long[..128]));
    let client = find(b"client").unwrap();
    assert_eq!(unknown_subcommand(client, b"FOO").to_string(), "ERR unknown subcommand 'FOO'. Try CLIENT HELP.");
}

#[test]
fn replies_take_the_form_that_redis_gives_them() {
    assert_eq!(reply("SETNX k v", Answer::Ok), Reply::Integer(1));
    assert_eq!(reply("SETNX k v", Answer::Nil), Reply::Integer(0));
    assert_eq!(reply("TYPE k", Answer::Type(None)), Reply::simple("none"));
    assert_eq!(reply("SISMEMBER k m", Answer::Flags(vec![true])), Reply::Integer(1));
    assert_eq!(reply("SMISMEMBER k m n", Answer::Flags(vec![true, false])), Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]));
    assert_eq!(reply("SMEMBERS k", Answer::Members(vec!["m".into()])), Reply::Set(vec![Reply::bulk("m")]));
    assert_eq!(reply("SET k v NX", Answer::Nil), Reply::Null);
    let items = || Answer::Items(vec!["i".into()]);
    assert_eq!((reply("LPOP k", items()), reply("LPOP k", Answer::Nil)), (Reply::bulk("i"), Reply::Null));
    assert_eq!((reply("LPOP k 2", items()), reply("LPOP k 2", Answer::Nil)), (Reply::Array(vec![Reply::bulk("i")]), Reply::NullArray));
    assert_eq!(reply("LPOS k i", Answer::Indexes(vec![])), Reply::Null);
    assert_eq!(reply("LPOS k i COUNT 0", Answer::Indexes(vec![3])), Reply::Array(vec![Reply::Integer(3)]));
    assert_eq!(reply("SETBIT k 7 1", Answer::Fields(vec![Some(1)])), Reply::Integer(1));
    assert_eq!(reply("BITFIELD k SET u8 0 1", Answer::Fields(vec![None])), Reply::Array(vec![Reply::Null]));
}

/// The operations that a command asks first, and what it does with their answers.
fn asked(action: Parsed) -> (Vec<Operation>, Next) {
    match action {
        Ok(Action::First(operations, next)) => (operations, next),
        Ok(Action::Reply(reply)) => panic!("it is answered at once: {reply:?}"),
        _ => panic!("it asks nothing first"),
    }
}

fn replied(action: Action) -> Reply {
    match action {
        Action::Reply(reply) => reply,
        _ => panic!("it is not answered yet"),
    }
}

const LOST: crate::node::OperationError = crate::node::OperationError::NoQuorum { reached: 0, needed: 2 };

#[test]
fn a_rename_writes_the_target_before_it_removes_what_it_read_and_says_where_it_stopped() {
    use crate::crdt::content::Content;
    let held = || Answer::Content { content: Some(Content::Set(vec!["m".into()])), expires_at_ms: Some(90), token: "token".into() };
    let run = |target: Result<Answer, _>, source: Result<Answer, _>| {
        let (reads, next) = asked(parse(&arguments("RENAME a b")));
        assert_eq!(reads, [Operation::read(&"a".into(), key::Query::Content { with_token: true })]);
        let (writes, next) = asked(Ok(next(vec![Ok(held())])));
        let content = Content::Set(vec!["m".into()]);
        assert_eq!(writes, [Operation::write(&"b".into(), key::Mutation::Replace { content, expires_at_ms: Some(90), only_new: false })]);
        match next(vec![target]) {
            Action::First(removes, next) => {
                assert_eq!(removes, [Operation::write(&"a".into(), key::Mutation::RemoveSeen { token: "token".into() })]);
                replied(next(vec![source]))
            }
            action => replied(action),
        }
    };
    let done = || Ok(Answer::Integer(1));
    assert_eq!(run(done(), done()), Reply::OK);
    assert_eq!(run(Err(LOST), done()), Reply::Error("NOQUORUM 0 of 2 replicas answered".to_owned()), "nothing was removed");
    assert_eq!(run(done(), Err(LOST)), Reply::Error("NOQUORUM 0 of 2 replicas answered; done: 'b'; failed: 'a'".to_owned()));
}

#[test]
fn a_member_is_added_where_it_goes_before_it_is_removed_where_it_was() {
    use crate::crdt::command::DataType;
    use crate::crdt::set;
    let set = || Ok(Answer::Type(Some(DataType::Set)));
    let run = |added: Result<Answer, _>, removed: Result<Answer, _>| {
        let (reads, next) = asked(parse(&arguments("SMOVE a b m")));
        assert_eq!(reads.len(), 3);
        let (writes, next) = asked(Ok(next(vec![set(), Ok(Answer::Type(None)), Ok(Answer::Flags(vec![true]))])));
        assert_eq!(writes, [Operation::write(&"b".into(), set::Mutation::Add(vec!["m".into()]))]);
        match next(vec![added]) {
            Action::First(removes, next) => {
                assert_eq!(removes, [Operation::write(&"a".into(), set::Mutation::Remove(vec!["m".into()]))]);
                replied(next(vec![removed]))
            }
            action => replied(action),
        }
    };
    let done = || Ok(Answer::Integer(1));
    assert_eq!(run(done(), done()), Reply::Integer(1));
    assert_eq!(run(Err(LOST), done()), Reply::Error("NOQUORUM 0 of 2 replicas answered".to_owned()), "it was not removed");
    assert_eq!(run(done(), Err(LOST)), Reply::Error("NOQUORUM 0 of 2 replicas answered; done: 'b'; failed: 'a'".to_owned()));
}

#[test]
fn what_is_too_much_to_be_written_at_once_is_refused_before_anything_is_written() {
    use crate::config::MAX_CONTENT;
    use crate::crdt::content::Content;
    let items = |count: usize| Content::List(vec![Bytes::from(vec![b'x'; 1000]); count]);
    let held = |content| Ok(Answer::Content { content: Some(content), expires_at_ms: None, token: Bytes::new() });
    for line in ["RENAME a b", "COPY a b", "SORT a BY nosort STORE b"] {
        let outcome = |count| {
            let (_, next) = asked(parse(&arguments(line)));
            match next(vec![held(items(count))]) {
                // SORT asks for what belongs to its elements, of which there is nothing here.
                Action::First(operations, next) if operations.is_empty() => next(Vec::new()),
                action => action,
            }
        };
        assert!(!matches!(outcome(MAX_CONTENT / 1200), Action::Reply(_)), "{line}");
        assert_eq!(replied(outcome(MAX_CONTENT / 1000)), Reply::Error(CommandError::ContentTooBig.to_string()), "{line}");
    }
}
