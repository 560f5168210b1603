//! Why a command is refused before anything is done.

use bytes::Bytes;

use super::reply::Reply;
use crate::node::OperationError;

/// Why a command was refused before anything was done. The texts are those of Redis 7.0.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// There is no such command.
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand {
        /// Its name, shortened.
        name: String,
        /// What followed, shortened.
        arguments: String,
    },
    /// There is no such subcommand.
    #[error("ERR unknown subcommand '{subcommand}'. Try {command} HELP.")]
    UnknownSubcommand {
        /// The command.
        command: String,
        /// The subcommand's name, shortened.
        subcommand: String,
    },
    /// Too few or too many arguments for the command of this name.
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongArity(String),
    /// In version 2 of the protocol a client that subscribes could not tell other replies from messages.
    #[error("ERR Can't execute '{0}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")]
    WhileSubscribed(String),
    /// The client has to give the password first.
    #[error("NOAUTH Authentication required.")]
    NoAuthentication,
    /// Options that don't exist, don't go together or lack a value.
    #[error("ERR syntax error")]
    Syntax,
    /// Not an integer of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// Not a number with or without a fraction.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// A number of things that is negative or none.
    #[error("ERR value is out of range, must be positive")]
    NotPositive,
    /// A number of things that is too great.
    #[error("ERR value is out of range")]
    OutOfRange,
    /// A time that is not positive or that no clock will show.
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    /// The key exceeds its limit.
    #[error("TOOBIG key exceeds 64 KiB")]
    KeyTooBig,
    /// A value or element exceeds its limit.
    #[error("TOOBIG value exceeds 16 MiB")]
    ValueTooBig,
    /// A command with a value above its limit, or above 128 MiB altogether.
    #[error("TOOBIG value exceeds 16 MiB, or the whole command 128 MiB")]
    RequestTooBig,
    /// The commands queued since MULTI exceed 64 MiB.
    #[error("TOOBIG queued commands exceed 64 MiB")]
    QueueTooBig,
    /// What is to be written to a key at once exceeds its limit.
    #[error("TOOBIG what would be written to a key at once exceeds 24 MiB")]
    ContentTooBig,
    /// More keys are watched than a connection may.
    #[error("TOOBIG a connection watches 1024 keys at most")]
    TooManyWatched,
    /// A key that was asked first failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// Anything that only one command has to say.
    #[error("{0}")]
    Other(String),
}

impl CommandError {
    /// An error that only one command has to say, its prefix included.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    /// Arguments that a subcommand does not take, in any number.
    pub(crate) fn subcommand_syntax(arguments: &[Bytes], command: &str) -> Self {
        let name = arguments.get(1).map(|name| String::from_utf8_lossy(name)).unwrap_or_default();
        Self::Other(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try {command} HELP."))
    }
}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        Self::Error(error.to_string())
    }
}
