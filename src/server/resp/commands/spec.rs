//! What there is to know about a command: its row in the table that drives dispatch and the replies of COMMAND.

use bytes::Bytes;

use super::Call;
use super::action::{Action, CommandError};

/// What a command's function returns.
pub(crate) type Parsed = Result<Action, CommandError>;

/// A command or subcommand.
pub(crate) struct Spec {
    /// Its name in lower case.
    pub(crate) name: &'static str,
    /// How many arguments it takes, all names included; negative: at least so many.
    pub(crate) arity: i64,
    /// What it is and what it may.
    pub(crate) flags: Flags,
    /// The family it belongs to.
    pub(crate) group: Group,
    /// Where its keys are: first, last (negative: from the end) and step; zeros where it has none.
    pub(crate) keys: (i64, i64, i64),
    /// One sentence.
    pub(crate) summary: &'static str,
    /// The version of Redis that brought it, or of Ringtide where it is our own.
    pub(crate) since: &'static str,
    /// What it does.
    pub(crate) run: Run,
}

/// The categories of Redis, in its order.
pub(crate) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// How a command is carried out. Arguments begin with the command's name.
pub(crate) enum Run {
    /// Only arguments and the time in milliseconds since 1970 count.
    Pure(fn(&[Bytes], i64) -> Parsed),
    /// The connection or the peer count too.
    Local(fn(&[Bytes], &mut Call<'_>) -> Parsed),
    /// The second argument names one of these; without one, the function.
    Container(&'static [Spec], Option<fn(&[Bytes], &mut Call<'_>) -> Parsed>),
}

/// The family of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    /// The connection itself.
    Connection,
    /// The peer.
    Server,
    /// Keys of any type.
    Generic,
    /// Strings and counters.
    String,
    /// Bits of strings.
    Bitmap,
    /// Sets.
    Set,
    /// Hashes.
    Hash,
    /// Sorted sets.
    SortedSet,
    /// Lists.
    List,
    /// HyperLogLogs.
    HyperLogLog,
    /// Places in sorted sets.
    Geo,
    /// Messages to whoever listens.
    Pubsub,
    /// MULTI and EXEC.
    Transactions,
    /// What Redis doesn't have.
    Ringtide,
}

impl Group {
    /// The name in COMMAND DOCS.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Server => "server",
            Self::Generic => "generic",
            Self::String => "string",
            Self::Bitmap => "bitmap",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::SortedSet => "sorted-set",
            Self::List => "list",
            Self::HyperLogLog => "hyperloglog",
            Self::Geo => "geo",
            Self::Pubsub => "pubsub",
            Self::Transactions => "transactions",
            Self::Ringtide => "ringtide",
        }
    }

    /// The category that it implies.
    pub(crate) fn category(self) -> Option<&'static str> {
        match self {
            Self::Connection => Some("connection"),
            Self::Generic => Some("keyspace"),
            Self::String => Some("string"),
            Self::Bitmap => Some("bitmap"),
            Self::Set => Some("set"),
            Self::Hash => Some("hash"),
            Self::SortedSet => Some("sortedset"),
            Self::List => Some("list"),
            Self::HyperLogLog => Some("hyperloglog"),
            Self::Geo => Some("geo"),
            Self::Pubsub => Some("pubsub"),
            Self::Transactions => Some("transaction"),
            Self::Server | Self::Ringtide => None,
        }
    }

    /// The row of a command of this family that names one key, its first argument, and needs nothing but its arguments.
    pub(crate) const fn row(
        self,
        name: &'static str,
        arity: i64,
        flags: Flags,
        summary: &'static str,
        since: &'static str,
        parse: fn(&[Bytes], i64) -> Parsed,
    ) -> Spec {
        Spec { name, arity, flags, group: self, keys: (1, 1, 1), summary, since, run: Run::Pure(parse) }
    }
}

/// What a command is and what it may, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Flags(u16);

impl Flags {
    /// Nothing.
    pub(crate) const NONE: Self = Self(0);
    /// It changes keys.
    pub(crate) const WRITE: Self = Self(1);
    /// It asks keys.
    pub(crate) const READONLY: Self = Self(2);
    /// It may need more room.
    pub(crate) const DENYOOM: Self = Self(4);
    /// For those who run the peer.
    pub(crate) const ADMIN: Self = Self(8);
    /// Not in scripts.
    pub(crate) const NOSCRIPT: Self = Self(16);
    /// Also while a server of Redis loads its data.
    pub(crate) const LOADING: Self = Self(32);
    /// Also at a replica of Redis that lags.
    pub(crate) const STALE: Self = Self(64);
    /// Takes about the same short time always.
    pub(crate) const FAST: Self = Self(128);
    /// Also before the password was given.
    pub(crate) const NO_AUTH: Self = Self(256);
    /// Also while a script of Redis is busy.
    pub(crate) const ALLOW_BUSY: Self = Self(512);
    /// Runs at once where others are queued after MULTI. Not told to clients.
    pub(crate) const UNQUEUED: Self = Self(1024);
    /// It may wait until there is something.
    pub(crate) const BLOCKING: Self = Self(16384);
    /// Where its keys are depends on its arguments.
    pub(crate) const MOVABLEKEYS: Self = Self(32768);
    /// For subscribers and publishers.
    pub(crate) const PUBSUB: Self = Self(2048);
    /// It reaches others, though it writes nothing. Not told to clients.
    pub(crate) const MAY_REPLICATE: Self = Self(4096);
    /// Also for a client that subscribes in version 2 of the protocol. Not told to clients.
    pub(crate) const SUBSCRIBED: Self = Self(8192);

    const NAMES: [(Self, &'static str); 13] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::PUBSUB, "pubsub"),
        (Self::NOSCRIPT, "noscript"),
        (Self::BLOCKING, "blocking"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::MOVABLEKEYS, "movablekeys"),
        (Self::ALLOW_BUSY, "allow_busy"),
    ];

    /// Both sets of flags.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names in COMMAND INFO.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

impl Spec {
    /// Whether a command line of so many arguments fits.
    pub(crate) fn accepts(&self, arguments: usize) -> bool {
        i64::try_from(arguments).is_ok_and(|arguments| if self.arity < 0 { arguments >= -self.arity } else { arguments == self.arity })
    }

    /// The subcommands, none where it is no container.
    pub(crate) fn subcommands(&self) -> &'static [Self] {
        match self.run {
            Run::Container(subcommands, _) => subcommands,
            Run::Pure(_) | Run::Local(_) => &[],
        }
    }

    /// The categories that its flags and its family imply.
    pub(crate) fn categories(&self) -> Vec<&'static str> {
        let mut categories = Vec::new();
        for (flag, category) in [(Flags::WRITE, "write"), (Flags::READONLY, "read"), (Flags::ADMIN, "admin"), (Flags::ADMIN, "dangerous")] {
            if self.flags.has(flag) {
                categories.push(category);
            }
        }
        categories.push(if self.flags.has(Flags::FAST) { "fast" } else { "slow" });
        categories.extend(self.group.category());
        categories.extend(self.flags.has(Flags::BLOCKING).then_some("blocking"));
        categories.sort_by_key(|category| CATEGORIES.iter().position(|known| known == category));
        categories
    }
}
