//! Logging on stderr; stdout is kept for the one line that programs read.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

/// What is logged without `--log`: everything noteworthy of our own, of libraries only what is wrong.
pub(crate) const DEFAULT_FILTER: &str = "warn,ringtide=info";

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
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Another subscriber is there only where a program embeds this function; then that one stays.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
