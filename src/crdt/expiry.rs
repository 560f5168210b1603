//! Expiry: which entries a decision hides, and the decisions that EXPIRE, PERSIST and SET take.
//!
//! A [`Decision`] says when a key dies, or a field of a hash: its [`Subject`]. It stands in the key's expiry row, or in the row of the field beside its
//! values, and each entry that was written while its subject showed under it carries a copy. An EXPIRE speaks of data that its replica may not hold, and may meet a PERSIST that it never heard of; so
//! a decision is judged for each entry on its own:
//!
//! ```text
//! d rules e        e carries d, or is stamped before d, or carries a decision that d overtakes
//! d' overtakes d   d' is later, and about the same life: d'.since < d.time
//! d hides e        d rules e, e was written before d.time, and nothing in the row or in e overtakes d
//! ```
//!
//! An entry is hidden once a decision that hides it has passed. A worked example: SADD `x`, EXPIRE at 50, SADD `y` (which carries the decision).
//! Both are hidden from 50 on. A PERSIST at 40, with since 10, overtakes the decision (10 < 50), and both stay. SADD `z` at 60, when nothing
//! shows, begins a new life: no decision rules `z`. A PERSIST at 61 has since 61, and does not reach back to raise `x`.
//!
//! A field is for its own decisions what a key is for the key's, with HSET for SET and HDEL for DEL. The two know nothing of each other: an entry is
//! hidden where either hides it ([`Ends`]), and a PERSIST of the key lengthens the life of no field.
//!
//! Nothing here removes anything: see [`super::removal`].

use std::collections::BTreeSet;
use std::time::Duration;

use super::kind::Kind;
use super::row::{Decision, Entry, Payload, Row, RowAddress};
use crate::types::Timestamp;

/// The time of a decision as a timestamp; the end of all time for *never*.
#[must_use]
pub fn deadline(decision: &Decision) -> Timestamp {
    decision.time.map_or(Timestamp(u64::MAX), Timestamp::from_millis)
}

/// What a decision is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Subject {
    /// A key: the decision stands in its expiry row.
    #[default]
    Key,
    /// A field of a hash: the decision stands in the field's row.
    Field,
}

impl Subject {
    /// What decisions are about that stand in a row.
    #[must_use]
    pub fn of(address: &RowAddress) -> Self {
        if address.kind == Kind::Field { Self::Field } else { Self::Key }
    }

    /// The decision about it that an entry was written under.
    fn carried(self, entry: &Entry) -> Option<&Decision> {
        match self {
            Self::Key => entry.decision.as_ref(),
            Self::Field => entry.field_decision.as_ref(),
        }
    }
}

/// Whether decisions stand in a row, or entries that carry decisions of its own. Such a row is exchanged together with the clock
/// that judges it.
#[must_use]
pub fn has_decisions(address: &RowAddress, row: &Row) -> bool {
    let is_one = |entry: &Entry| entry.field_decision.is_some() || matches!(entry.payload, Payload::Decision(_));
    address.kind == Kind::Expiry || address.kind == Kind::Field && row.values().any(is_one)
}

/// The order of decisions. Decisions with equal ranks are equal, and do the same.
fn rank(decision: &Decision) -> (Timestamp, u64, Timestamp) {
    (decision.timestamp, decision.time.unwrap_or(u64::MAX), decision.since)
}

/// Whether a decision is later than another, and about the same life of the key.
#[must_use]
pub fn overtakes(later: &Decision, decision: &Decision) -> bool {
    rank(later) > rank(decision) && later.since < deadline(decision)
}

/// Whether a decision is about an entry, which carries this one.
fn rules(decision: &Decision, entry: &Entry, carried: Option<&Decision>) -> bool {
    decision.timestamp > entry.timestamp || carried.is_some_and(|carried| carried == decision || overtakes(decision, carried))
}

/// Whether a decision reached a replica so late that others may have agreed on a removal that it should have prevented. It is joined
/// all the same, but not acknowledged. `now` is the replica's own clock, which never steps back.
#[must_use]
pub fn is_late(decision_timestamp: Timestamp, now: Timestamp, grace: Duration) -> bool {
    later_by(decision_timestamp, grace) <= now
}

/// A timestamp moved into the future.
pub(super) fn later_by(timestamp: Timestamp, duration: Duration) -> Timestamp {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Timestamp(timestamp.0.saturating_add(millis.saturating_mul(1 << 16)))
}

/// The decisions in a key's expiry row, or in the row of a field, judged at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expiry {
    subject: Subject,
    standing: BTreeSet<Decision>,
    now: Timestamp,
}

impl Expiry {
    /// Reads a key's expiry row at a time. An empty row holds no decision.
    #[must_use]
    pub fn of(row: &Row, now: Timestamp) -> Self {
        Self::about(Subject::Key, row, now)
    }

    /// Reads the decisions about a subject in the row where they stand.
    #[must_use]
    pub fn about(subject: Subject, row: &Row, now: Timestamp) -> Self {
        let decision = |entry: &Entry| if let Payload::Decision(decision) = entry.payload { Some(decision) } else { None };
        Self { subject, standing: row.values().filter_map(decision).collect(), now }
    }

    /// The time that it is judged at.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The decisions that stand in the row.
    pub fn standing(&self) -> impl Iterator<Item = &Decision> {
        self.standing.iter()
    }

    /// Whether a decision stands in the row.
    #[must_use]
    pub fn holds(&self, decision: &Decision) -> bool {
        self.standing.contains(decision)
    }

    /// Whether the time of a decision has come.
    #[must_use]
    pub fn has_passed(&self, decision: &Decision) -> bool {
        deadline(decision) <= self.now
    }

    /// Whether a decision in the row overtakes this one.
    #[must_use]
    pub fn is_overtaken(&self, decision: &Decision) -> bool {
        self.standing.iter().any(|other| overtakes(other, decision))
    }

    /// Whether a decision hides an entry from its time on, passed or not.
    #[must_use]
    pub fn is_hidden_by(&self, entry: &Entry, decision: &Decision) -> bool {
        let carried = self.subject.carried(entry);
        (self.holds(decision) || carried == Some(decision))
            && rules(decision, entry, carried)
            && entry.timestamp < deadline(decision)
            && !self.is_overtaken(decision)
            && !carried.is_some_and(|carried| overtakes(carried, decision))
    }

    /// The decisions that hide an entry from their time on.
    fn hiders<'e>(&'e self, entry: &'e Entry) -> impl Iterator<Item = &'e Decision> {
        let carried = self.subject.carried(entry);
        self.standing.iter().chain(carried).filter(move |decision| self.is_hidden_by(entry, decision))
    }

    /// The passed decision that hides an entry, the last to pass where there are several.
    #[must_use]
    pub fn hider(&self, entry: &Entry) -> Option<Decision> {
        self.hiders(entry).filter(|decision| self.has_passed(decision)).max_by_key(|decision| deadline(decision)).copied()
    }

    /// Whether an entry does not show at this time.
    #[must_use]
    pub fn hides(&self, entry: &Entry) -> bool {
        self.hider(entry).is_some()
    }

    /// When an entry that shows will be hidden, in milliseconds since 1970; `None`: never, as things stand.
    #[must_use]
    pub fn end_of(&self, entry: &Entry) -> Option<u64> {
        self.hiders(entry).filter_map(|decision| decision.time).min()
    }

    /// When entries that show are all hidden, in milliseconds since 1970; `None`: never, or there are none.
    #[must_use]
    pub fn end_of_all<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Option<u64> {
        entries.into_iter().map(|entry| self.end_of(entry)).reduce(|one, other| Some(one?.max(other?))).flatten()
    }

    /// The decision that a new entry is written under: the latest, unless it has passed.
    #[must_use]
    pub fn governing(&self) -> Option<Decision> {
        self.standing.iter().max_by_key(|decision| rank(decision)).filter(|decision| !self.has_passed(decision)).copied()
    }

    /// The decision that new entries copy where these entries show: what governs, if it is about any of them.
    #[must_use]
    pub fn governing_any<'a>(&self, entries: impl IntoIterator<Item = &'a Entry>) -> Option<Decision> {
        let governing = self.governing()?;
        let is_about = |entry: &Entry| rules(&governing, entry, self.subject.carried(entry)) && entry.timestamp < deadline(&governing);
        entries.into_iter().any(is_about).then_some(governing)
    }

    /// A decision taken now, in place of those that have not passed. It continues the life that they were about.
    #[must_use]
    pub fn decide(&self, time: Option<u64>) -> Decision {
        let ends_before =
            |decision: &Decision| self.standing.iter().any(|later| self.has_passed(later) && later.timestamp > decision.timestamp);
        let continued = self.standing.iter().filter(|decision| !self.has_passed(decision) && !ends_before(decision));
        let since = continued.map(|decision| decision.since).min().map_or(self.now, |since| since.min(self.now));
        Decision { time, timestamp: self.now, since }
    }

    /// The decision that a write leaves which puts something else in the place of all that its subject holds, and takes the decisions away that have not passed:
    /// its own end, or where it has none *never*, if there is a decision to be taken away. What others wrote meanwhile under one that this
    /// life had left behind would else end with it after all. ‡
    #[must_use]
    pub fn renew(&self, time: Option<u64>) -> Option<Decision> {
        let goes_on = self.standing.iter().any(|decision| !self.has_passed(decision));
        (time.is_some() || goes_on).then(|| self.decide(time))
    }
}

/// What may end the entries of one row: the decisions on its key, and those on the field that the row is.
#[derive(Clone, Debug)]
pub struct Ends<'k> {
    key: &'k Expiry,
    field: Expiry,
}

impl<'k> Ends<'k> {
    /// Reads the decisions in a row beside those on its key. Only rows of fields hold any.
    #[must_use]
    pub fn of(row: &Row, key: &'k Expiry) -> Self {
        Self { key, field: Expiry::about(Subject::Field, row, key.now) }
    }

    /// The decisions on the field.
    #[must_use]
    pub fn field(&self) -> &Expiry {
        &self.field
    }

    /// The passed decision that hides an entry: one on its key, else one on its field.
    #[must_use]
    pub fn hider(&self, entry: &Entry) -> Option<Decision> {
        self.key.hider(entry).or_else(|| self.field.hider(entry))
    }

    /// Whether an entry does not show at this time.
    #[must_use]
    pub fn hides(&self, entry: &Entry) -> bool {
        self.hider(entry).is_some()
    }
}

/// The earliest time that any decision in a row names, in milliseconds since 1970: before it, nothing of the row can be removable.
#[must_use]
pub fn earliest_end(row: &Row) -> Option<u64> {
    let named = row.values().flat_map(|entry| {
        let standing = if let Payload::Decision(decision) = entry.payload { Some(decision) } else { None };
        [standing, entry.decision, entry.field_decision].into_iter().flatten()
    });
    named.filter_map(|decision| decision.time).min()
}

/// A time of expiry as it is stored; `None` where it has passed.
pub(super) fn future(at_ms: i64, now: Timestamp) -> Option<u64> {
    u64::try_from(at_ms).ok().filter(|at| Timestamp::from_millis(*at) > now)
}

#[cfg(test)]
mod tests {
    use super::super::condition::{ExpireCondition, SetExpiry};
    use super::super::delta::{Delta, Scope};
    use super::super::outcome::Answer;
    use super::super::row::RowAddress;
    use super::super::testing::{
        DELETE, PERSIST, Replica, TYPE, add, expire, increment, key, remove, set, set_until, set_with, settle, text,
    };
    use super::super::{key, string};
    use super::*;

    fn decisions(replica: &Replica) -> usize {
        replica.state.rows.get(&RowAddress::expiry(&key())).map_or(0, Row::len)
    }

    fn exists(replica: &Replica) -> bool {
        replica.query(&TYPE) != Ok(Answer::Type(None))
    }

    #[test]
    fn a_key_is_there_until_its_time_and_not_after() {
        let mut a = Replica::new(1);
        assert_eq!((a.end(), a.ask(&expire(50))), (-2, Answer::Integer(0)));
        a.at(10).write(&set("v"));
        assert_eq!((a.end(), a.ask(&expire(50)), a.end()), (-1, Answer::Integer(1), 50));
        assert_eq!(a.at(49).get(), text("v"));
        assert_eq!((a.at(50).get(), a.end()), (Answer::Nil, -2));
        assert!(a.write(&DELETE).is_empty() && a.write(&PERSIST).is_empty() && a.write(&expire(90)).is_empty());
    }

    #[test]
    fn conditions_are_those_of_redis() {
        let mut a = Replica::new(1);
        a.at(10).write(&set("v"));
        let mut ask = |at_ms, condition| (a.ask(&key::Mutation::Expire { at_ms, condition }.into()) == Answer::Integer(1), a.end());
        assert_eq!(ask(50, ExpireCondition::HasExpiry), (false, -1));
        assert_eq!(ask(50, ExpireCondition::Later), (false, -1));
        assert_eq!(ask(50, ExpireCondition::Earlier), (true, 50));
        assert_eq!(ask(60, ExpireCondition::NoExpiry), (false, 50));
        assert_eq!(ask(60, ExpireCondition::Earlier), (false, 50));
        assert_eq!(ask(60, ExpireCondition::Later), (true, 60));
        assert_eq!(ask(70, ExpireCondition::HasExpiry), (true, 70));
        assert_eq!(ask(60, ExpireCondition::HasExpiryAndEarlier), (true, 60));
        assert_eq!(ask(9, ExpireCondition::Always), (true, -2));
        assert!(a.state.rows.is_empty());
    }

    #[test]
    fn set_persist_and_getex_take_the_expiry_away_and_keepttl_keeps_it() {
        let mut a = Replica::new(1);
        a.at(10).write(&set_until("v", 50));
        a.write(&set_with("w", SetExpiry::Keep));
        assert_eq!((a.get(), a.end()), (text("w"), 50));
        assert_eq!((a.ask(&PERSIST), a.end(), a.ask(&PERSIST)), (Answer::Integer(1), -1, Answer::Integer(0)));
        assert_eq!((a.ask(&string::Mutation::GetExpire(SetExpiry::At(60)).into()), a.end()), (text("w"), 60));
        assert_eq!((a.ask(&string::Mutation::GetExpire(SetExpiry::Clear).into()), a.end()), (text("w"), -1));
        a.write(&set_until("x", 70));
        assert_eq!((a.ask(&set("y")), a.end(), decisions(&a)), (Answer::Ok, -1, 1));
        assert_eq!((a.at(80).get(), a.ask(&set_until("z", 80)), a.get()), (text("y"), Answer::Ok, Answer::Nil));
        assert!(a.state.rows.is_empty());
    }

    #[test]
    fn a_write_carries_the_decision_under_which_the_key_shows() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.at(10).write(&add(&["x"]));
        a.write(&expire(50));
        b.pull(&a);
        b.at(40).write(&add(&["y"]));
        // a takes the decision away by a DEL that had not seen y; y keeps its copy.
        a.at(41).write(&DELETE);
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.members(), a.end()), (vec!["y".to_owned()], 50));
        assert!(!exists(a.at(50)));
    }

    #[test]
    fn a_persist_of_this_life_overtakes_and_one_of_the_next_does_not_reach_back() {
        let mut a = Replica::new(1);
        a.at(10).write(&add(&["x"]));
        a.write(&expire(50));
        let (mut slow, mut fast) = (a.clone(), a.clone());
        (slow.actor, fast.actor) = (crate::types::Actor(2), crate::types::Actor(3));
        slow.at(40).write(&PERSIST);
        fast.at(60).write(&add(&["y"]));
        fast.write(&expire(90));
        fast.write(&PERSIST);
        assert_eq!((fast.members(), fast.end()), (vec!["y".to_owned()], -1));
        let mut later = fast.clone();
        later.pull(&slow);
        assert_eq!(later.members(), ["x", "y"]);
    }

    #[test]
    fn a_write_to_a_hidden_key_takes_nothing_and_carries_nothing() {
        let mut a = Replica::new(1);
        a.at(10).write(&increment(5));
        a.write(&expire(50));
        let delta = a.at(60).write(&increment(2));
        assert!(delta.removes.is_empty() && delta.replaces.is_empty() && delta.adds[0].2.decision.is_none());
        assert_eq!((a.get(), a.end()), (text("2"), -1));
        // A peer whose clock is behind still has the whole.
        assert_eq!(a.at(60).state.rows[&RowAddress::value(&key())].len(), 2);
    }

    #[test]
    fn commands_take_only_decisions_that_have_not_passed() {
        let mut a = Replica::new(1);
        a.at(10).write(&add(&["x"]));
        a.write(&expire(50));
        a.at(60).write(&add(&["y"]));
        a.write(&expire(90));
        for mutation in [set("v"), expire(95), PERSIST, set_until("w", 95), DELETE] {
            let mut a = a.clone();
            a.write(&mutation);
            let row = &a.state.rows[&RowAddress::expiry(&key())];
            let standing: Vec<Option<u64>> = Expiry::of(row, a.now()).standing().map(|decision| decision.time).collect();
            assert!(standing.contains(&Some(50)) && !standing.contains(&Some(90)), "{mutation:?}: {standing:?}");
        }
    }

    #[test]
    fn leftovers_are_cleared_by_the_next_life_unless_something_is_pending() {
        let mut a = Replica::new(1);
        a.at(10).write(&add(&["x"]));
        a.write(&expire(50));
        a.write(&remove(&["x"]));
        assert_eq!((decisions(&a), exists(&a)), (1, false));
        let mut behind = a.clone();
        let unseen = [super::super::dot::Dot { actor: crate::types::Actor(9), counter: 1 }].into_iter().collect();
        behind.state.causal.supersede(&Scope::Row(RowAddress::expiry(&key())), &unseen);
        a.write(&add(&["y"]));
        assert_eq!((decisions(&a), a.end()), (0, -1));
        let delta: Delta = behind.write(&add(&["y"]));
        assert_eq!((decisions(&behind), behind.end()), (1, 50));
        assert!(delta.adds[0].2.decision.is_some());
    }

    #[test]
    fn since_tells_how_far_a_decision_reaches_back() {
        let mut a = Replica::new(1);
        a.at(10).write(&set("v"));
        a.at(20).write(&expire(50));
        a.at(30).write(&expire(60));
        let decision = |a: &Replica| *Expiry::of(&a.state.rows[&RowAddress::expiry(&key())], a.now()).standing().last().unwrap();
        assert_eq!((decision(&a).since.millis(), decision(&a).timestamp.millis()), (20, 30));
        a.at(70).write(&set("w"));
        a.write(&expire(90));
        assert_eq!(decision(&a).since.millis(), 70);
    }

    #[test]
    fn a_late_decision_is_told_by_its_timestamp() {
        let grace = Duration::from_millis(20);
        let taken = Timestamp::from_millis(100);
        assert!(!is_late(taken, Timestamp::from_millis(119), grace));
        assert!(is_late(taken, Timestamp::from_millis(120), grace));
    }

    #[test]
    fn the_earliest_end_of_a_row_bounds_when_to_look_at_it() {
        let mut a = Replica::new(1);
        a.at(10).write(&set_until("v", 50));
        let ends: Vec<Option<u64>> = a.state.rows.values().map(earliest_end).collect();
        assert_eq!(ends, [Some(50), Some(50)]);
        a.write(&DELETE);
        assert_eq!(a.ask(&DELETE), Answer::Integer(0));
        a.write(&set("w"));
        assert_eq!(a.state.rows.values().map(earliest_end).collect::<Vec<_>>(), [None]);
    }
}
