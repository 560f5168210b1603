//! The connection itself: greeting, authentication, state.

use bytes::Bytes;

use super::Call;
use super::action::{Action, CommandError};
use super::client;
use super::options::{database, is};
use super::spec::{Flags, Group, Parsed, Run, Spec};
use crate::server::resp::integer::parse_integer;
use crate::server::resp::reply::{Protocol, Reply};
use crate::server::resp::shared::REDIS_VERSION;

const ANYTIME: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);
const STRANGER: Flags = ANYTIME.and(Flags::NOSCRIPT).and(Flags::NO_AUTH).and(Flags::ALLOW_BUSY);

const fn row(name: &'static str, arity: i64, flags: Flags, summary: &'static str, since: &'static str, run: Run) -> Spec {
    Spec { name, arity, flags, group: Group::Connection, keys: (0, 0, 0), summary, since, run }
}

pub(super) const COMMANDS: &[Spec] = &[
    row("ping", -1, Flags::FAST.and(Flags::SUBSCRIBED), "Ping the server", "1.0.0", Run::Local(ping)),
    row("echo", 2, ANYTIME, "Echo the given string", "1.0.0", Run::Pure(echo)),
    row("hello", -1, STRANGER, "Handshake", "6.0.0", Run::Local(hello)),
    row("auth", -2, STRANGER, "Authenticate to the server", "1.0.0", Run::Local(auth)),
    row("select", 2, ANYTIME, "Change the selected database; there is only 0", "1.0.0", Run::Pure(select)),
    row("quit", -1, STRANGER.and(Flags::UNQUEUED).and(Flags::SUBSCRIBED), "Close the connection", "1.0.0", Run::Pure(quit)),
    row("reset", 1, STRANGER.and(Flags::UNQUEUED).and(Flags::SUBSCRIBED), "Reset the connection", "6.2.0", Run::Local(reset)),
    row("client", -2, Flags::NONE, "A container for client connection commands", "2.4.0", Run::Container(client::SUBCOMMANDS, None)),
];

fn ping(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    match arguments {
        // In the form of what else it gets.
        [_] | [_, _] if call.session.is_restricted() => {
            let text = arguments.get(1).cloned().unwrap_or_default();
            Ok(Action::Reply(Reply::Array(vec![Reply::bulk("pong"), Reply::Bulk(text)])))
        }
        [_] => Ok(Action::Reply(Reply::simple("PONG"))),
        [_, text] => Ok(Action::Reply(Reply::Bulk(text.clone()))),
        _ => Err(CommandError::WrongArity("ping".to_owned())),
    }
}

fn echo(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Action::Reply(Reply::Bulk(arguments[1].clone())))
}

fn select(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    database(&arguments[1])?;
    Ok(Action::Reply(Reply::OK))
}

fn quit(_arguments: &[Bytes], _now_ms: i64) -> Parsed {
    Ok(Action::Quit(Reply::OK))
}

fn reset(_arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    call.session.reset(!call.shared.asks_password());
    Ok(Action::Reply(Reply::simple("RESET")))
}

fn auth(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let (user, password) = match arguments {
        [_, _] if !call.shared.asks_password() => {
            return Err(CommandError::other(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        [_, password] => (b"default".as_slice(), password),
        [_, user, password] => (user.as_ref(), password),
        _ => return Err(CommandError::Syntax),
    };
    authenticate(user, password, call)?;
    Ok(Action::Reply(Reply::OK))
}

fn authenticate(user: &[u8], password: &[u8], call: &mut Call<'_>) -> Result<(), CommandError> {
    if !call.shared.admits(user, password) {
        return Err(CommandError::other("WRONGPASS invalid username-password pair or user is disabled."));
    }
    call.session.authenticated = true;
    Ok(())
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. All options are read before any of them takes effect.
fn hello(arguments: &[Bytes], call: &mut Call<'_>) -> Parsed {
    let protocol = match arguments.get(1).map(|version| parse_integer(version)) {
        None => None,
        Some(None) => return Err(CommandError::other("ERR Protocol version is not an integer or out of range")),
        Some(Some(2)) => Some(Protocol::Resp2),
        Some(Some(3)) => Some(Protocol::Resp3),
        Some(Some(_)) => return Err(CommandError::other("NOPROTO unsupported protocol version")),
    };
    let (mut login, mut name) = (None, None);
    let mut rest = arguments.get(2..).unwrap_or_default();
    while let Some(option) = rest.first() {
        rest = match rest {
            [_, user, password, rest @ ..] if is(option, "auth") => {
                login = Some((user, password));
                rest
            }
            [_, text, rest @ ..] if is(option, "setname") => {
                name = Some(client::checked_name(text)?);
                rest
            }
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(CommandError::Other(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        };
    }
    if let Some((user, password)) = login {
        authenticate(user, password, call)?;
    }
    if !call.session.authenticated {
        return Err(CommandError::other(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can \
             be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        call.session.client.profile().name = name;
    }
    if let Some(protocol) = protocol {
        call.session.speak(protocol);
    }
    Ok(Action::Reply(greeting(call)))
}

fn greeting(call: &Call<'_>) -> Reply {
    Reply::map([
        ("server", Reply::bulk("redis")),
        ("version", Reply::bulk(REDIS_VERSION)),
        ("proto", Reply::Integer(call.session.protocol.number())),
        ("id", Reply::count(call.session.client.id)),
        ("mode", Reply::bulk("standalone")),
        ("role", Reply::bulk("master")),
        ("modules", Reply::Array(Vec::new())),
    ])
}
