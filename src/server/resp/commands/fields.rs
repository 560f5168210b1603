//! Fields of hashes that expire: the commands that Redis 7.4 and 8.0 have for them. A time in the past removes a field at once.

use bytes::Bytes;

use super::action::{CommandError, Operation, plain};
use super::options::{Unit, integer, is};
use super::spec::{Flags, Group, Parsed, Spec};
use crate::crdt::command::Answer;
use crate::crdt::hash::{Mutation, Query};
use crate::crdt::key::ExpireCondition;
use crate::crdt::string::{SetCondition, SetExpiry};
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::Reply;

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const GROW: Flags = WRITE.and(Flags::DENYOOM);

/// The latest time at which a field may expire, in milliseconds since 1970.
const LATEST_MS: i64 = 0xFFFF_FFFF_FFFF >> 2;
/// The units of HGETEX and HSETEX by name.
const UNITS: [(&str, Unit); 4] = [("ex", Unit::Seconds), ("px", Unit::Millis), ("exat", Unit::AtSeconds), ("pxat", Unit::AtMillis)];
/// What most of the commands say where the number of fields is none.
const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

pub(super) const COMMANDS: &[Spec] = &[
    Group::Hash.row("hexpire", -6, WRITE, "Set expiry for hash fields in seconds", "7.4.0", |arguments, now_ms| {
        expire(arguments, Unit::Seconds, now_ms, "hexpire")
    }),
    Group::Hash.row("hpexpire", -6, WRITE, "Set expiry for hash fields in milliseconds", "7.4.0", |arguments, now_ms| {
        expire(arguments, Unit::Millis, now_ms, "hpexpire")
    }),
    Group::Hash.row("hexpireat", -6, WRITE, "Set the expiry of hash fields as a UNIX timestamp", "7.4.0", |arguments, now_ms| {
        expire(arguments, Unit::AtSeconds, now_ms, "hexpireat")
    }),
    Group::Hash.row(
        "hpexpireat",
        -6,
        WRITE,
        "Set the expiry of hash fields as a UNIX timestamp in milliseconds",
        "7.4.0",
        |arguments, now_ms| expire(arguments, Unit::AtMillis, now_ms, "hpexpireat"),
    ),
    Group::Hash.row("httl", -5, READ, "Get the time to live of hash fields in seconds", "7.4.0", |arguments, now_ms| {
        ends(arguments, move |end| seconds(end - now_ms))
    }),
    Group::Hash.row("hpttl", -5, READ, "Get the time to live of hash fields in milliseconds", "7.4.0", |arguments, now_ms| {
        ends(arguments, move |end| (end - now_ms).max(0))
    }),
    Group::Hash.row("hexpiretime", -5, READ, "Get the expiration time of hash fields as a UNIX timestamp", "7.4.0", |arguments, _| {
        ends(arguments, seconds)
    }),
    Group::Hash.row(
        "hpexpiretime",
        -5,
        READ,
        "Get the expiration time of hash fields as a UNIX timestamp in milliseconds",
        "7.4.0",
        |arguments, _| ends(arguments, |end| end),
    ),
    Group::Hash.row("hpersist", -5, WRITE, "Remove the expiration of hash fields", "7.4.0", |arguments, _| {
        Ok(Operation::write(&arguments[1], Mutation::Persist(fields(&arguments[2..], NOT_POSITIVE)?)).plain())
    }),
    Group::Hash.row("hgetdel", -5, WRITE, "Get the values of hash fields and delete them", "8.0.0", |arguments, _| {
        Ok(Operation::write(&arguments[1], Mutation::GetRemove(fields(&arguments[2..], NOT_POSITIVE)?)).plain())
    }),
    Group::Hash.row("hgetex", -5, WRITE, "Get the values of hash fields, and set or remove their expiration", "8.0.0", hgetex),
    Group::Hash.row("hsetex", -6, GROW, "Set the values of hash fields together with their expiration", "8.0.0", hsetex),
];

/// FIELDS, their number, and the fields themselves.
fn fields(arguments: &[Bytes], not_positive: &str) -> Result<Vec<Bytes>, CommandError> {
    if !arguments.first().is_some_and(|word| is(word, "fields")) {
        return Err(CommandError::other("ERR Mandatory argument FIELDS is missing or not at the right position"));
    }
    let count = arguments.get(1).and_then(|count| parse_integer(count)).filter(|count| *count > 0);
    let count = count.ok_or_else(|| CommandError::other(not_positive))?;
    match &arguments[2..] {
        fields if usize::try_from(count) == Ok(fields.len()) => Ok(fields.to_vec()),
        _ => Err(CommandError::other("ERR The `numfields` parameter must match the number of arguments")),
    }
}

/// A time as milliseconds since 1970.
fn time(argument: &[u8], unit: Unit, now_ms: i64, command: &'static str) -> Result<i64, CommandError> {
    let time = integer(argument)?;
    if time < 0 {
        return Err(CommandError::other("ERR invalid expire time, must be >= 0"));
    }
    unit.resolve(time, now_ms).filter(|at_ms| *at_ms <= LATEST_MS).ok_or(CommandError::InvalidExpire(command))
}

/// HEXPIRE and its like.
fn expire(arguments: &[Bytes], unit: Unit, now_ms: i64, command: &'static str) -> Parsed {
    const CONDITIONS: [(&str, ExpireCondition); 4] = [
        ("nx", ExpireCondition::NoExpiry),
        ("xx", ExpireCondition::HasExpiry),
        ("gt", ExpireCondition::Later),
        ("lt", ExpireCondition::Earlier),
    ];
    let at_ms = time(&arguments[2], unit, now_ms, command)?;
    let condition = CONDITIONS.into_iter().find(|(word, _)| is(&arguments[3], word)).map(|(_, condition)| condition);
    let rest = &arguments[if condition.is_some() { 4 } else { 3 }..];
    let fields = fields(rest, "ERR Parameter `numFields` should be greater than 0")?;
    Ok(Operation::write(&arguments[1], Mutation::Expire { fields, at_ms, condition: condition.unwrap_or_default() }).plain())
}

/// Asks when fields expire; -1 and -2 (no expiry, no field) stay as they are.
fn ends(arguments: &[Bytes], show: impl Fn(i64) -> i64 + Send + 'static) -> Parsed {
    let query = Query::Ends(fields(&arguments[2..], NOT_POSITIVE)?);
    Ok(Operation::read(&arguments[1], query).shaped(move |answer| match answer {
        Answer::Numbers(ends) => Reply::Array(ends.into_iter().map(|end| Reply::Integer(if end < 0 { end } else { show(end) })).collect()),
        other => plain(other),
    }))
}

/// Milliseconds as seconds, rounded up.
fn seconds(millis: i64) -> i64 {
    (millis.max(0) + 999) / 1000
}

fn hgetex(arguments: &[Bytes], now_ms: i64) -> Parsed {
    let word = &arguments[2];
    let (expiry, rest) = match UNITS.into_iter().find(|(name, _)| is(word, name)) {
        Some((_, unit)) => (SetExpiry::At(time(&arguments[3], unit, now_ms, "hgetex")?), &arguments[4..]),
        None if is(word, "persist") => (SetExpiry::Clear, &arguments[3..]),
        None => (SetExpiry::Keep, &arguments[2..]),
    };
    let fields = fields(rest, NOT_POSITIVE)?;
    if expiry == SetExpiry::Keep {
        return Ok(Operation::read(&arguments[1], Query::Get(fields)).plain());
    }
    Ok(Operation::write(&arguments[1], Mutation::GetExpire { fields, expiry }).plain())
}

fn hsetex(arguments: &[Bytes], now_ms: i64) -> Parsed {
    let wrong_arity = || CommandError::WrongArity("hsetex".to_owned());
    let (mut expiry, mut condition) = (None, None);
    let mut rest = &arguments[2..];
    while let [word, more @ ..] = rest {
        rest = more;
        let unit = UNITS.into_iter().find(|(name, _)| is(word, name)).map(|(_, unit)| unit);
        let wanted = match () {
            () if is(word, "fxx") => Some(SetCondition::Present),
            () if is(word, "fnx") => Some(SetCondition::Absent),
            () => None,
        };
        if is(word, "fields") {
            let pairs = pairs(more).ok_or_else(wrong_arity)??;
            let mutation = Mutation::SetExpiring { pairs, expiry: expiry.unwrap_or_default(), condition: condition.unwrap_or_default() };
            return Ok(Operation::write(&arguments[1], mutation).plain());
        } else if unit.is_some() || is(word, "keepttl") {
            if expiry.is_some() {
                return Err(CommandError::other("ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"));
            }
            expiry = Some(SetExpiry::Keep);
            if let Some(unit) = unit {
                let [value, more @ ..] = rest else { return Err(CommandError::other("ERR missing expire time")) };
                expiry = Some(SetExpiry::At(time(value, unit, now_ms, "hsetex")?));
                rest = more;
            }
        } else if wanted.is_some() {
            if condition.is_some() {
                return Err(CommandError::other("ERR Only one of FXX or FNX arguments can be specified"));
            }
            condition = wanted;
        } else {
            return Err(CommandError::Other(format!("ERR unknown argument: {}", String::from_utf8_lossy(word))));
        }
    }
    Err(wrong_arity())
}

/// The fields and values of HSETEX behind their number; `None` where there are more or less of them.
fn pairs(arguments: &[Bytes]) -> Option<Result<Vec<(Bytes, Bytes)>, CommandError>> {
    let (count, pairs) = arguments.split_first().filter(|(_, pairs)| pairs.len() >= 2)?;
    let Some(count) = parse_integer(count).filter(|count| (1..=i64::from(i32::MAX)).contains(count)) else {
        return Some(Err(CommandError::other("ERR invalid number of fields")));
    };
    let fits = pairs.len().is_multiple_of(2) && usize::try_from(count) == Ok(pairs.len() / 2);
    fits.then(|| Ok(pairs.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::resp::commands::spec::Run;
    use crate::server::resp::commands::{Action, Work};

    const NOW_MS: i64 = 1_000_000;

    fn parse(line: &str) -> Result<Work, String> {
        let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        let spec = COMMANDS.iter().find(|spec| is(&arguments[0], spec.name)).unwrap();
        assert!(spec.accepts(arguments.len()), "{line}");
        let Run::Pure(parse) = spec.run else { panic!("{line} needs no connection") };
        match parse(&arguments, NOW_MS) {
            Ok(Action::Key(operation, _)) => Ok(operation.work),
            Ok(_) => panic!("{line} is about one key"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn names(text: &str) -> Vec<Bytes> {
        text.split(' ').map(|name| Bytes::from(name.to_owned())).collect()
    }

    #[test]
    fn times_and_conditions_are_those_of_redis() {
        let expire = |at_ms, condition| Ok(Work::Write(Mutation::Expire { fields: names("f g"), at_ms, condition }.into()));
        assert_eq!(parse("HEXPIRE h 10 FIELDS 2 f g"), expire(NOW_MS + 10_000, ExpireCondition::Always));
        assert_eq!(parse("hpexpire h 10 nx fields 2 f g"), expire(NOW_MS + 10, ExpireCondition::NoExpiry));
        assert_eq!(parse("HEXPIREAT h 0 GT FIELDS 2 f g"), expire(0, ExpireCondition::Later));
        assert_eq!(parse("HPEXPIREAT h 70368744177663 lt FIELDS 2 f g"), expire(LATEST_MS, ExpireCondition::Earlier));
        for (line, error) in [
            ("HEXPIRE h x FIELDS 1 f", "ERR value is not an integer or out of range"),
            ("HEXPIRE h -1 FIELDS 1 f", "ERR invalid expire time, must be >= 0"),
            ("HEXPIRE h 9223372036854775807 FIELDS 1 f", "ERR invalid expire time in 'hexpire' command"),
            ("HPEXPIREAT h 70368744177664 FIELDS 1 f", "ERR invalid expire time in 'hpexpireat' command"),
            ("HEXPIRE h 1 NX XX FIELDS 1 f", "ERR Mandatory argument FIELDS is missing or not at the right position"),
            ("HEXPIRE h 1 FIELDS 0 f", "ERR Parameter `numFields` should be greater than 0"),
            ("HEXPIRE h 1 FIELDS 2 f", "ERR The `numfields` parameter must match the number of arguments"),
            ("HTTL h FIELDS x f", "ERR Number of fields must be a positive integer"),
            ("HPERSIST h FIELDS 1 f g", "ERR The `numfields` parameter must match the number of arguments"),
        ] {
            assert_eq!(parse(line), Err(error.to_owned()), "{line}");
        }
    }

    #[test]
    fn values_are_read_and_written_together_with_their_ends() {
        let get = |expiry| Ok(Work::Write(Mutation::GetExpire { fields: names("f"), expiry }.into()));
        assert_eq!(parse("HGETEX h FIELDS 1 f"), Ok(Work::Read(Query::Get(names("f")).into())));
        assert_eq!(parse("HGETEX h PERSIST FIELDS 1 f"), get(SetExpiry::Clear));
        assert_eq!(parse("HGETEX h EX 2 FIELDS 1 f"), get(SetExpiry::At(NOW_MS + 2000)));
        assert_eq!(parse("HGETEX h EX 2 FIELDS"), Err(NOT_POSITIVE.to_owned()));
        assert_eq!(parse("HGETDEL h FIELDS 1 f"), Ok(Work::Write(Mutation::GetRemove(names("f")).into())));
        let pairs = vec![(Bytes::from("f"), Bytes::from("v"))];
        let set = |expiry, condition| Ok(Work::Write(Mutation::SetExpiring { pairs: pairs.clone(), expiry, condition }.into()));
        assert_eq!(parse("HSETEX h FIELDS 1 f v"), set(SetExpiry::Clear, SetCondition::Always));
        assert_eq!(parse("HSETEX h FNX KEEPTTL FIELDS 1 f v"), set(SetExpiry::Keep, SetCondition::Absent));
        assert_eq!(parse("HSETEX h PXAT 7 FXX FIELDS 1 f v"), set(SetExpiry::At(7), SetCondition::Present));
        for (line, error) in [
            ("HSETEX h FIELDS 2 f v", "ERR wrong number of arguments for 'hsetex' command"),
            ("HSETEX h FIELDS 0 f v", "ERR invalid number of fields"),
            ("HSETEX h EX 1 PX 1 FIELDS 1 f v", "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"),
            ("HSETEX h FXX FNX FIELDS 1 f v", "ERR Only one of FXX or FNX arguments can be specified"),
            ("HSETEX h FNX x FIELDS 1 f v", "ERR unknown argument: x"),
            ("HSETEX h FNX FNX FNX EX", "ERR Only one of FXX or FNX arguments can be specified"),
            ("HSETEX h FNX EX -1 EX", "ERR invalid expire time, must be >= 0"),
        ] {
            assert_eq!(parse(line), Err(error.to_owned()), "{line}");
        }
    }
}
