//! What was promised of keys that expire, told from the commands on them alone.
//!
//! Each key has one writer, which sends a command when the one before was answered or given up. Even so a replica may execute a command
//! without having seen the one before, and by a clock that is wrong; then the decision stamped later counts, whatever the order was. So
//! only what holds by every clock is demanded:
//!
//! - A command is *surely stamped before* a later one where one peer executed both, or the time between them exceeds the *doubt*: twice what a
//!   clock may be wrong, and what restarts add (a clock goes on after its lease).
//! - A value *shows* where a `SET` that lasts reached a quorum and every brief decision is surely stamped before it; or where such a brief
//!   decision was overtaken by a `PERSIST`, or by a lasting `EXPIRE`, that reached a quorum surely before the time came.
//! - A key is *gone* where all that was ever written to it was brief; or where a brief decision is surely stamped after all that was not.
//!
//! - Where a command that was given up may be executed at any later time, only what is brief throughout is sure: it will be gone.
//!
//! Everything else is left open: `KERNEL` section 7 promises nothing there.

use bytes::Bytes;

use crate::types::{Level, PeerId};

/// What a command does. Times are milliseconds since 1970; `None`: never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `SET`, with or without an end.
    Set(Bytes, Option<u64>),
    /// `EXPIRE` to a time, or `PERSIST`.
    Decide(Option<u64>),
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may have been executed by the time it was given up, or not.
    Unknown,
    /// Nothing is known, and it may be executed at any time from now on.
    Adrift,
    /// It changed nothing.
    Nothing,
    /// It was executed by this peer and reached its level.
    Done(PeerId),
}

/// One command on a key. Its times are true ones.
#[derive(Clone, Debug)]
pub struct Command {
    /// What it does.
    pub step: Step,
    /// How many replicas its client waited for.
    pub level: Level,
    /// When it was sent.
    pub sent_ms: u64,
    /// When it was answered or given up.
    pub settled_ms: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What must be true of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// One of these values is among its siblings.
    Shows(Vec<Bytes>),
    /// Nothing shows.
    Gone,
    /// Nothing was promised.
    Open,
}

/// A decision that lies further in the future lasts longer than any run.
pub const BRIEF_MS: u64 = 3_600_000;

impl Command {
    /// The end that the command gives the key, if any.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        match &self.step {
            Step::Set(_, end) | Step::Decide(end) => *end,
        }
    }

    /// Whether the command gives the key an end within a run.
    #[must_use]
    pub fn is_brief(&self) -> bool {
        self.end().is_some_and(|end| end < self.sent_ms + BRIEF_MS)
    }

    fn reached_quorum(&self) -> bool {
        matches!(self.outcome, Outcome::Done(_)) && self.level >= Level::Quorum
    }

    fn is_stamped_before(&self, later: &Self, doubt_ms: u64) -> bool {
        let at_one_peer = matches!((self.outcome, later.outcome), (Outcome::Done(one), Outcome::Done(other)) if one == other);
        at_one_peer || self.settled_ms.is_some_and(|settled| settled + doubt_ms <= later.sent_ms)
    }

    /// Whether the command was executed while an end had not come by any clock.
    fn is_executed_before(&self, end: Option<u64>, doubt_ms: u64) -> bool {
        end.is_none_or(|end| self.settled_ms.is_some_and(|settled| settled + doubt_ms <= end))
    }
}

/// What must be true of a key at a time past every brief end, by every peer.
#[must_use]
pub fn fate(commands: &[Command], doubt_ms: u64) -> Fate {
    let commands: Vec<&Command> = commands.iter().filter(|command| command.outcome != Outcome::Nothing).collect();
    let all_brief = !commands.is_empty() && commands.iter().all(|command| command.is_brief());
    if commands.iter().any(|command| command.outcome == Outcome::Adrift) {
        return if all_brief { Fate::Gone } else { Fate::Open };
    }
    if let Some(values) = (0..commands.len()).rev().find_map(|last| values_kept(&commands, last, doubt_ms)) {
        return Fate::Shows(values);
    }
    if all_brief || (0..commands.len()).any(|last| ends_all(&commands, last, doubt_ms)) { Fate::Gone } else { Fate::Open }
}

/// The values of which one shows by virtue of the command `last`: it made the key last, and nothing brief came after it.
fn values_kept(commands: &[&Command], last: usize, doubt_ms: u64) -> Option<Vec<Bytes>> {
    let (before, after) = (&commands[..last], &commands[last + 1..]);
    let keeper = commands[last];
    if keeper.is_brief() || !keeper.reached_quorum() || after.iter().any(|command| command.is_brief()) {
        return None;
    }
    let is_set = |command: &&Command| matches!(command.step, Step::Set(..));
    let first = match keeper.step {
        Step::Set(..) => last,
        Step::Decide(_) => before.iter().rposition(|command| is_set(command) && command.reached_quorum())?,
    };
    // What was written is not ruled by anything brief from before; and what is brief from then on was overtaken in time.
    let is_free =
        commands[..first].iter().filter(|command| command.is_brief()).all(|brief| brief.is_stamped_before(commands[first], doubt_ms));
    let overtaken = |brief: &&Command| brief.is_stamped_before(keeper, doubt_ms) && keeper.is_executed_before(brief.end(), doubt_ms);
    let lasts = commands[first..last].iter().filter(|command| command.is_brief()).all(overtaken);
    let value = |command: &&Command| if let Step::Set(value, _) = &command.step { Some(value.clone()) } else { None };
    (is_free && lasts).then(|| commands[first..].iter().filter_map(value).collect())
}

/// Whether the brief decision of the command `last` hides all that was written before, and all since is brief itself.
fn ends_all(commands: &[&Command], last: usize, doubt_ms: u64) -> bool {
    let (before, since) = commands.split_at(last);
    let ender = commands[last];
    // A SET whose time has passed already deletes what its replica knows, its decisions among it, and leaves none.
    let decides = |command: &&Command| command.is_brief() && command.is_executed_before(command.end(), doubt_ms);
    matches!(ender.outcome, Outcome::Done(_))
        && before.iter().all(|command| command.is_stamped_before(ender, doubt_ms))
        && since.iter().all(decides)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOUBT: u64 = 100;

    fn done(step: Step, at: u64, peer: u8) -> Command {
        let outcome = Outcome::Done(PeerId([peer; 32]));
        Command { step, level: Level::Quorum, sent_ms: at, settled_ms: Some(at), outcome }
    }

    fn set(value: &'static str, end: Option<u64>) -> Step {
        Step::Set(Bytes::from_static(value.as_bytes()), end)
    }

    fn shows(values: &[&'static str]) -> Fate {
        Fate::Shows(values.iter().map(|value| Bytes::from_static(value.as_bytes())).collect())
    }

    #[test]
    fn a_set_that_lasts_shows_once_every_brief_decision_is_older_by_every_clock() {
        let fate_at = |at, peer| fate(&[done(set("a", Some(50)), 0, 1), done(set("b", None), at, peer)], DOUBT);
        assert_eq!(fate_at(99, 2), Fate::Open);
        assert_eq!((fate_at(100, 2), fate_at(10, 1)), (shows(&["b"]), shows(&["b"])));
        let mut below = done(set("b", None), 100, 2);
        below.level = Level::Sloppy;
        assert_eq!(fate(&[done(set("a", Some(50)), 0, 1), below], DOUBT), Fate::Open);
    }

    #[test]
    fn a_persist_keeps_what_it_overtook_in_time() {
        let fate_with = |end, at| fate(&[done(set("a", Some(end)), 0, 1), done(Step::Decide(None), at, 2)], DOUBT);
        assert_eq!(fate_with(200, 100), shows(&["a"]));
        assert_eq!(fate_with(199, 100), Fate::Open);
        assert_eq!(fate_with(200, 99), Fate::Open);
        let lengthened = [done(set("a", Some(200)), 0, 1), done(Step::Decide(Some(BRIEF_MS * 2)), 100, 2)];
        assert_eq!(fate(&lengthened, DOUBT), shows(&["a"]));
    }

    #[test]
    fn a_key_of_brief_writes_is_gone_and_one_that_may_have_been_kept_is_open() {
        let mut persist = done(Step::Decide(None), 60, 2);
        let brief = [done(set("a", Some(50)), 0, 1), done(Step::Decide(Some(70)), 5, 3)];
        assert_eq!(fate(&brief, DOUBT), Fate::Gone);
        for (outcome, expected) in [(Outcome::Unknown, Fate::Open), (Outcome::Nothing, Fate::Gone)] {
            persist.outcome = outcome;
            assert_eq!(fate(&[brief[0].clone(), persist.clone(), brief[1].clone()], DOUBT), expected);
        }
        assert_eq!(fate(&[], DOUBT), Fate::Open);
    }

    #[test]
    fn with_a_command_adrift_nothing_is_sure_but_that_the_brief_will_end() {
        let adrift = |step| Command { outcome: Outcome::Adrift, settled_ms: None, ..done(step, 0, 1) };
        assert_eq!(fate(&[adrift(set("a", None)), done(set("b", None), 1_000, 2)], DOUBT), Fate::Open);
        assert_eq!(fate(&[adrift(set("a", Some(50))), done(set("b", Some(1_050)), 1_000, 2)], DOUBT), Fate::Gone);
    }

    #[test]
    fn a_late_brief_decision_ends_what_was_to_last() {
        let fate_with = |at, end| fate(&[done(set("a", None), 0, 1), done(Step::Decide(Some(end)), at, 2)], DOUBT);
        assert_eq!(fate_with(100, 200), Fate::Gone);
        assert_eq!((fate_with(99, 200), fate_with(100, 199)), (Fate::Open, Fate::Open));
        let mut unknown = done(set("b", None), 400, 3);
        unknown.outcome = Outcome::Unknown;
        let then_set = [done(set("a", None), 0, 1), done(Step::Decide(Some(200)), 100, 2), unknown];
        assert_eq!(fate(&then_set, DOUBT), Fate::Open);
    }
}
