//! Keeps the log readable while somebody knocks all the time: the same line once a minute, and no more than
//! a few dozen lines a minute in all, whoever makes up how many peers.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::REFUSALS_LOGGED;

const PERIOD: Duration = Duration::from_secs(60);

/// What was said in the current minute.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: Option<Instant>,
    said: BTreeSet<String>,
}

impl Quiet {
    /// Whether this is worth a line now.
    pub(super) fn may_say(&mut self, line: String, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= PERIOD) {
            self.since = Some(now);
            self.said.clear();
        }
        self.said.len() < REFUSALS_LOGGED && self.said.insert(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_a_minute_and_a_flood_is_cut() {
        let (now, mut quiet) = (Instant::now(), Quiet::default());
        assert!(quiet.may_say("a".to_owned(), now));
        assert!(!quiet.may_say("a".to_owned(), now));
        assert!(quiet.may_say("b".to_owned(), now));
        let flood = (0..1000).filter(|n| quiet.may_say(n.to_string(), now)).count();
        assert_eq!(flood, REFUSALS_LOGGED - 2);
        assert!(quiet.may_say("a".to_owned(), now + PERIOD));
    }
}
