//! What can be typed: commands and flags, as text. What the text means is decided in `settings`.
//!
//! Every flag keeps its value as the user wrote it, so that the same reading serves the command line, the environment and the
//! configuration file, and so that a wrong value is reported in one way wherever it came from.

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand};

/// A leaderless key-value store that speaks the Redis protocol.
///
/// Without a command it runs a peer (as `ringtide up` does) until SIGINT or SIGTERM. Every flag can also come from the environment
/// (RINGTIDE_ and the flag's name in capitals, - as _, lists separated by commas) or from a TOML file (--config; keys are the flags'
/// names). A flag beats the environment, the environment beats the file.
#[derive(Parser, Debug)]
#[command(name = "ringtide", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true, max_term_width = 120)]
pub(crate) struct CommandLine {
    /// What to do; none is the same as `up`.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The flags of `up`.
    #[command(flatten)]
    pub(crate) up: UpFlags,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Runs a peer until SIGINT or SIGTERM, then stops cleanly
    Up(Box<UpFlags>),
    /// Runs a whole cluster on this machine to play with, until Ctrl-C
    Local(LocalFlags),
    /// Prints a new random cluster secret
    Secret,
    /// Tells how a running peer is doing
    Status(AskFlags),
    /// Lists the members that a running peer knows
    Peers(AskFlags),
    /// Lists the holders of every partition, in order of preference
    Ring(AskFlags),
    /// Lists the peers that hold a key, in order of preference
    Owners(AskKeyFlags),
    /// Tells why a key reads as it does: its rows, who wrote them and which one shows
    Explain(AskKeyFlags),
    /// Lists all concurrent values of a string key
    Siblings(AskKeyFlags),
    /// Runs anti-entropy with every reachable co-replica now
    Sync(AskFlags),
    /// Hands the peer's partitions over and takes it out of the ring
    Leave(LeaveFlags),
    /// Takes a peer that is gone for good out of the ring
    Forget(ForgetFlags),
}

/// Flags of `up`.
#[derive(Args, Debug, Default)]
pub(crate) struct UpFlags {
    /// Folder for identity and data; one process at a time [default: the platform's data folder + `ringtide`]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// Name of the cluster; peers with another name never mix [default: ringtide]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// File with the secret that all peers share, at least 16 characters; RINGTIDE_SECRET can hold the secret itself.
    /// Without one the peer is in protected mode: it accepts peers of this machine only [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<String>,
    /// Where other peers reach this one; repeatable [default: /ip4/0.0.0.0/tcp/0, in protected mode /ip4/127.0.0.1/tcp/0]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) listen: Vec<String>,
    /// A peer to dial first, /p2p/ID at the end is optional; repeatable [default: none]
    #[arg(long, value_name = "MULTIADDR")]
    pub(crate) bootstrap: Vec<String>,
    /// Switches discovery on the local network off [default: on where there is a secret, else always off]
    #[arg(long)]
    pub(crate) no_mdns: bool,
    /// Address of the Redis protocol; port 0 picks a free one [default: 127.0.0.1:7379]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) resp: Option<String>,
    /// Address of health check and metrics; port 0 picks a free one, `off` switches it off [default: 127.0.0.1:7380]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) http: Option<String>,
    /// Copies of each partition; with fewer members, as many as there are [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<String>,
    /// Partitions of the key space, fixed for the life of a cluster [default: 256]
    #[arg(long, value_name = "Q")]
    pub(crate) partitions: Option<String>,
    /// Zone of this peer; copies go to different zones where there are enough [default: none]
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Option<String>,
    /// Share of the ring relative to other peers [default: 1]
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) capacity: Option<String>,
    /// How long a peer may be down before others take its place, e.g. 90s, 10min or 2h; `never` or 0: nobody does [default: 10min]
    #[arg(long, value_name = "TIME")]
    pub(crate) rebuild_after: Option<String>,
    /// In which time everything stored is read once, to find damage at rest, e.g. 12h or 7d; `never` or 0: not at all [default: 24h]
    #[arg(long, value_name = "TIME")]
    pub(crate) scrub_period: Option<String>,
    /// When a write counts as stored: `always` (synced before the reply), synced every so many milliseconds, or `os` [default: 50]
    #[arg(long, value_name = "always|MILLIS|os")]
    pub(crate) durability: Option<String>,
    /// Budget for caches and write buffers together, e.g. 512MiB [default: a quarter of the memory]
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// A TOML file with settings [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// What is logged on stderr, as in RUST_LOG [default: info, of libraries only warnings]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Form of the log: `text` or `json` [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// Stops when the standard input ends: how `local` keeps its peers from outliving it
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

/// Flags of `local`.
#[derive(Args, Debug, Default)]
pub(crate) struct LocalFlags {
    /// How many peers [default: 3]
    #[arg(long, value_name = "N")]
    pub(crate) peers: Option<String>,
    /// Folder for the data of all peers, kept afterwards [default: a temporary folder, removed afterwards]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// What the peers log on stderr, as in RUST_LOG [default: warnings]
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

/// Flags of every command that asks a running peer.
#[derive(Args, Debug, Default)]
pub(crate) struct AskFlags {
    /// Where the peer serves the Redis protocol [default: 127.0.0.1:7379]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) resp: Option<String>,
    /// Prints JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// A TOML file with settings, of which `resp` is used here [default: none]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,
}

/// Flags of a command about one key.
#[derive(Args, Debug)]
pub(crate) struct AskKeyFlags {
    /// The key.
    #[arg(value_name = "KEY")]
    pub(crate) key: OsString,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) ask: AskFlags,
}

/// Flags of `leave`.
#[derive(Args, Debug)]
pub(crate) struct LeaveFlags {
    /// Goes on even where fewer peers than copies would remain
    #[arg(long)]
    pub(crate) force: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) ask: AskFlags,
}

/// Flags of `forget`.
#[derive(Args, Debug)]
pub(crate) struct ForgetFlags {
    /// The id of the peer that is gone for good.
    #[arg(value_name = "PEER")]
    pub(crate) peer: String,
    /// Whom to ask.
    #[command(flatten)]
    pub(crate) ask: AskFlags,
}
