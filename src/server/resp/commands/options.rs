//! Arguments that several commands share: integers, options by name, times.

use bytes::Bytes;

use super::super::clients::ClientType;
use super::super::integer::parse_integer;
use super::action::CommandError;
use crate::crdt::key::ExpireCondition;
use crate::crdt::string::{SetCondition, SetExpiry};

/// An argument as an integer.
///
/// # Errors
/// Where it is none.
pub(super) fn integer(argument: &[u8]) -> Result<i64, CommandError> {
    parse_integer(argument).ok_or(CommandError::NotAnInteger)
}

/// An argument as a number of things.
///
/// # Errors
/// Where it is no integer, or negative.
pub(super) fn positive(argument: &[u8]) -> Result<u64, CommandError> {
    positive_or(argument, CommandError::NotPositive)
}

/// An argument as a number of things.
///
/// # Errors
/// This one, where it is no integer, or negative.
pub(super) fn positive_or(argument: &[u8], otherwise: CommandError) -> Result<u64, CommandError> {
    parse_integer(argument).and_then(|count| u64::try_from(count).ok()).ok_or(otherwise)
}

/// Checks the number of a database. There is only 0.
///
/// # Errors
/// Where it is another, or no number.
pub(super) fn database(argument: &[u8]) -> Result<(), CommandError> {
    match parse_integer(argument).and_then(|number| i32::try_from(number).ok()) {
        Some(0) => Ok(()),
        Some(_) => Err(CommandError::other("ERR DB index is out of range")),
        None => Err(CommandError::NotAnInteger),
    }
}

/// Whether an argument is this word, in any case.
pub(super) fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// In what a time is given, and from when it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Seconds since 1970.
    AtSeconds,
    /// Milliseconds since 1970.
    AtMillis,
}

impl Unit {
    /// A time in milliseconds since 1970; `None` where that overflows.
    pub(super) fn resolve(self, time: i64, now_ms: i64) -> Option<i64> {
        let millis = match self {
            Self::Seconds | Self::AtSeconds => time.checked_mul(1000)?,
            Self::Millis | Self::AtMillis => time,
        };
        match self {
            Self::Seconds | Self::Millis => millis.checked_add(now_ms),
            Self::AtSeconds | Self::AtMillis => Some(millis),
        }
    }
}

/// The expiry that SET, SETEX, PSETEX and GETEX are given: it has to be positive and to fit.
///
/// # Errors
/// Where the time is no integer, or not a time that can be.
pub(super) fn expiry(argument: &[u8], unit: Unit, now_ms: i64, command: &'static str) -> Result<SetExpiry, CommandError> {
    let time = integer(argument)?;
    let at_ms = if time > 0 { unit.resolve(time, now_ms) } else { None };
    at_ms.map(SetExpiry::At).ok_or(CommandError::InvalidExpire(command))
}

/// The options of SET or GETEX.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct StringOptions {
    /// NX or XX.
    pub(super) condition: SetCondition,
    /// GET.
    pub(super) get: bool,
    /// EX, PX, EXAT, PXAT, KEEPTTL or PERSIST; `None` where there was none of them.
    pub(super) expiry: Option<SetExpiry>,
}

/// Reads the options of SET, or of GETEX where `command` says so. Times are checked last, as Redis does.
///
/// # Errors
/// Where an option doesn't exist, lacks its value, or goes against an earlier one.
pub(super) fn string_options(arguments: &[Bytes], now_ms: i64, command: &'static str) -> Result<StringOptions, CommandError> {
    const UNITS: [(&str, Unit); 4] = [("ex", Unit::Seconds), ("px", Unit::Millis), ("exat", Unit::AtSeconds), ("pxat", Unit::AtMillis)];
    let set = command == "set";
    let mut options = StringOptions::default();
    let mut time: Option<(Unit, &Bytes)> = None;
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let unit = UNITS.into_iter().find(|(word, _)| is(option, word)).map(|(_, unit)| unit);
        if let Some(unit) = unit {
            let agrees = options.expiry.is_none() && time.is_none_or(|(earlier, _)| earlier == unit);
            time = rest.next().filter(|_| agrees).map(|value| (unit, value));
            time.ok_or(CommandError::Syntax)?;
        } else if set && is(option, "nx") && options.condition != SetCondition::Present {
            options.condition = SetCondition::Absent;
        } else if set && is(option, "xx") && options.condition != SetCondition::Absent {
            options.condition = SetCondition::Present;
        } else if set && is(option, "get") {
            options.get = true;
        } else if set && is(option, "keepttl") && time.is_none() {
            options.expiry = Some(SetExpiry::Keep);
        } else if !set && is(option, "persist") && time.is_none() {
            options.expiry = Some(SetExpiry::Clear);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if let Some((unit, value)) = time {
        options.expiry = Some(expiry(value, unit, now_ms, command)?);
    }
    Ok(options)
}

/// Reads the options of EXPIRE and its kin.
///
/// # Errors
/// Where an option doesn't exist or goes against another.
pub(super) fn expire_condition(arguments: &[Bytes]) -> Result<ExpireCondition, CommandError> {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in arguments {
        match () {
            () if is(option, "nx") => nx = true,
            () if is(option, "xx") => xx = true,
            () if is(option, "gt") => gt = true,
            () if is(option, "lt") => lt = true,
            () => return Err(CommandError::Other(format!("ERR Unsupported option {}", String::from_utf8_lossy(option)))),
        }
    }
    match (nx, xx, gt, lt) {
        (true, true, ..) | (true, _, true, _) | (true, _, _, true) => {
            Err(CommandError::other("ERR NX and XX, GT or LT options at the same time are not compatible"))
        }
        (.., true, true) => Err(CommandError::other("ERR GT and LT options at the same time are not compatible")),
        (true, ..) => Ok(ExpireCondition::NoExpiry),
        // A key without expiry counts as one that expires last, so GT asks for an expiry anyway.
        (_, _, true, _) => Ok(ExpireCondition::Later),
        (_, true, _, true) => Ok(ExpireCondition::HasExpiryAndEarlier),
        (_, _, _, true) => Ok(ExpireCondition::Earlier),
        (_, true, ..) => Ok(ExpireCondition::HasExpiry),
        _ => Ok(ExpireCondition::Always),
    }
}

/// A type of clients by its name.
///
/// # Errors
/// Where there is no such type.
pub(super) fn client_type(name: &[u8]) -> Result<ClientType, CommandError> {
    ClientType::of(name).ok_or_else(|| CommandError::Other(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name))))
}
