//! Logging on stderr; stdout is kept for the one line that programs read.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// What is logged without `--log`: everything noteworthy of our own, of libraries only what is wrong. Kademlia calls it a warning
/// that the first peer of a cluster knows no other yet.
pub(crate) const DEFAULT_FILTER: &str = "warn,ringtide=info,libp2p_kad=error";

/// What the peers of `ringtide local` log without `--log`: that each is in protected mode goes without saying.
pub(crate) const LOCAL_FILTER: &str = "warn,ringtide::cli=error,libp2p_kad=error";

/// Form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line, for programs.
    Json,
}

/// Checks a filter of the form of `RUST_LOG`.
pub(crate) fn check_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| format!("'{text}' is not a log filter: {error}"))
}

/// Switches logging on for this process. A filter that does not parse logs errors only; [`check_filter`] has seen it before.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let filter = EnvFilter::try_new(filter).unwrap_or_default();
    let colours = std::io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Another subscriber is there only where a program embeds this function; then that one stays.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
