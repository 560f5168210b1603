//! Keyspace notifications: which events a change of a key makes, and whom they concern.
//!
//! The names, classes and letters are those of Redis. What a command asks for is known before it is carried out ([`Expected`]); what
//! came of it is told by the replica that did. From both follows what happened, as a function.

use std::fmt;

use bytes::Bytes;

use crate::crdt::command::{Answer, Mutation};
use crate::crdt::list::Side;
use crate::crdt::sorted_set::{Order, Span};
use crate::crdt::string::SetExpiry;
use crate::crdt::{hash, hyperloglog, key, list, set, sorted_set, string};

/// Some classes of events, and in which form they are announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Classes(u16);

impl Classes {
    /// No events at all.
    pub const NONE: Self = Self(0);
    /// `K`: announced in the channel of the key.
    pub const KEYSPACE: Self = Self(1);
    /// `E`: announced in the channel of the event.
    pub const KEYEVENT: Self = Self(2);
    /// `g`: commands on keys of any type.
    pub const GENERIC: Self = Self(4);
    /// `$`
    pub const STRING: Self = Self(8);
    /// `l`
    pub const LIST: Self = Self(16);
    /// `s`
    pub const SET: Self = Self(32);
    /// `h`
    pub const HASH: Self = Self(64);
    /// `z`
    pub const SORTED_SET: Self = Self(128);
    /// `x`: keys that expired.
    pub const EXPIRED: Self = Self(256);
    /// `n`: keys that are new.
    pub const NEW: Self = Self(1 << 13);

    /// Every letter, in the order in which they are told. Of some there are no events here: evictions, streams, modules, misses.
    const LETTERS: [(char, Self); 14] = [
        ('g', Self::GENERIC),
        ('$', Self::STRING),
        ('l', Self::LIST),
        ('s', Self::SET),
        ('h', Self::HASH),
        ('z', Self::SORTED_SET),
        ('x', Self::EXPIRED),
        ('e', Self(512)),
        ('t', Self(1024)),
        ('d', Self(2048)),
        ('n', Self::NEW),
        ('K', Self::KEYSPACE),
        ('E', Self::KEYEVENT),
        ('m', Self(4096)),
    ];
    /// `A`: all classes but misses and new keys.
    const ALL: Self = Self(0xffc);

    /// The classes that letters name; `None` where one of them names none.
    #[must_use]
    pub fn parse(letters: &[u8]) -> Option<Self> {
        letters.iter().try_fold(Self::NONE, |classes, letter| {
            let named = Self::LETTERS.into_iter().find(|(known, _)| *known == char::from(*letter)).map(|(_, class)| class);
            let class = if *letter == b'A' { Some(Self::ALL) } else { named };
            class.map(|class| Self(classes.0 | class.0))
        })
    }

    /// The bits, to be kept elsewhere.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.0
    }

    /// The classes of bits that were kept.
    #[must_use]
    pub fn of_bits(bits: u16) -> Self {
        Self(bits)
    }

    fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether anything is announced at all.
    #[must_use]
    pub fn announces(self) -> bool {
        self.has(Self::KEYSPACE) || self.has(Self::KEYEVENT)
    }

    /// The channels and messages by which an event is announced.
    pub fn announcements(self, key: &Bytes, event: Event) -> impl Iterator<Item = (Bytes, Bytes)> + use<> {
        let wanted = self.has(event.class);
        let in_keyspace = (wanted && self.has(Self::KEYSPACE)).then(|| ([b"__keyspace@0__:", &key[..]].concat().into(), event.name.into()));
        let of_event = (wanted && self.has(Self::KEYEVENT)).then(|| (format!("__keyevent@0__:{}", event.name).into(), key.clone()));
        in_keyspace.into_iter().chain(of_event)
    }
}

/// The letters, as CONFIG GET tells them.
impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.has(Self::ALL);
        if all {
            f.write_str("A")?;
        }
        for (letter, class) in Self::LETTERS {
            let told = class.0 & Self::ALL.0 == 0 && class != Self::NEW || !all;
            if told && self.has(class) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Something that happened to a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    class: Classes,
    /// Its name.
    pub name: &'static str,
}

impl Event {
    /// A key expired.
    pub const EXPIRED: Self = Self { class: Classes::EXPIRED, name: "expired" };
    const DELETED: Self = Self { class: Classes::GENERIC, name: "del" };
    const EXPIRES: Self = Self { class: Classes::GENERIC, name: "expire" };
    const PERSISTS: Self = Self { class: Classes::GENERIC, name: "persist" };
    const NEW: Self = Self { class: Classes::NEW, name: "new" };
    const RENAMED: Self = Self { class: Classes::GENERIC, name: "rename_from" };

    /// What a command calls it that puts what it computed, or copied, in place of a key.
    #[must_use]
    pub const fn of_replacement(class: Classes, name: &'static str) -> Self {
        Self { class, name }
    }

    /// Something was put at an end of a list.
    #[must_use]
    pub fn pushed(side: Side) -> Self {
        Self { class: Classes::LIST, name: if side == Side::Left { "lpush" } else { "rpush" } }
    }

    /// This event of a key, which may be new by it.
    pub fn with_new(self, is_new: bool) -> impl Iterator<Item = Self> {
        is_new.then_some(Self::NEW).into_iter().chain([self])
    }

    /// This event of a key, which may be gone by it.
    pub fn with_deleted(self, is_gone: bool) -> impl Iterator<Item = Self> {
        [self].into_iter().chain(is_gone.then_some(Self::DELETED))
    }

    /// Something was taken from an end of a list.
    #[must_use]
    pub fn popped(side: Side) -> Self {
        Self { class: Classes::LIST, name: if side == Side::Left { "lpop" } else { "rpop" } }
    }
}

/// When a command that was carried out makes its event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// Always.
    Done,
    /// Where it changed anything.
    Changed,
    /// Where its answer is more than nothing.
    Answered,
    /// Where there was such a key.
    Existed,
}

/// The event that a command makes, if all goes well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    event: Event,
    when: When,
    /// Whether an expiry is set with it.
    expires: bool,
}

impl Expected {
    /// What a command is about to do; `None` where that is no event.
    #[must_use]
    pub fn of(mutation: &Mutation, now_ms: i64) -> Option<Self> {
        let (event, when) = match mutation {
            Mutation::Watched(mutation) => return Self::of(mutation, now_ms),
            Mutation::Key(mutation) => of_key(mutation, now_ms),
            Mutation::String(mutation) => return of_string(mutation, now_ms),
            Mutation::Set(mutation) => of_set(mutation),
            Mutation::Hash(mutation) => of_hash(mutation),
            Mutation::SortedSet(mutation) => of_sorted_set(mutation),
            Mutation::List(mutation) => of_list(mutation)?,
            Mutation::HyperLogLog(mutation) => of_hyperloglog(mutation),
        };
        Some(Self { event, when, expires: false })
    }

    /// That a key is replaced by what a command computed: the change itself does not tell which.
    #[must_use]
    pub fn replacement(event: Event) -> Self {
        Self { event, when: When::Changed, expires: false }
    }

    /// What happened, in order. `answer` is that of a watched mutation; of another nothing is known.
    #[must_use]
    pub fn happened(self, answer: &Answer) -> Vec<Event> {
        let Answer::Watched { answer, changed, was, is } = answer else { return Vec::new() };
        let happened = match &self.when {
            When::Done => true,
            When::Changed => *changed,
            When::Answered => answer.tells_something(),
            When::Existed => *was,
        };
        if !happened {
            return Vec::new();
        }
        // Redis deletes the target of these first, and so it is new.
        let begins_anew = ["rename_to", "copy_to", "restore"].contains(&self.event.name);
        // What had ended before it was restored only deletes.
        if !is && self.event.name == "restore" {
            return vec![Event::DELETED];
        }
        let appeared = (*is && (!was || begins_anew)).then_some(Event::NEW);
        let expires = self.expires.then_some(Event::EXPIRES);
        let vanished = (*was && !is && ![Event::DELETED, Event::RENAMED].contains(&self.event)).then_some(Event::DELETED);
        appeared.into_iter().chain([self.event]).chain(expires).chain(vanished).collect()
    }
}

fn of_key(mutation: &key::Mutation, now_ms: i64) -> (Event, When) {
    let event = match mutation {
        key::Mutation::Delete => Event::DELETED,
        key::Mutation::Expire { at_ms, .. } => expiry_at(*at_ms, now_ms),
        key::Mutation::Persist => Event::PERSISTS,
        key::Mutation::Replace { .. } => return (Event { class: Classes::GENERIC, name: "rename_to" }, When::Changed),
        key::Mutation::RemoveSeen { .. } => return (Event::RENAMED, When::Changed),
    };
    (event, When::Answered)
}

/// A time that has passed deletes.
fn expiry_at(at_ms: i64, now_ms: i64) -> Event {
    if at_ms > now_ms { Event::EXPIRES } else { Event::DELETED }
}

fn of_string(mutation: &string::Mutation, now_ms: i64) -> Option<Expected> {
    let string = |name| Event { class: Classes::STRING, name };
    let (event, when) = match mutation {
        string::Mutation::Set { expiry, .. } => {
            return Some(Expected { event: string("set"), when: When::Changed, expires: matches!(expiry, SetExpiry::At(_)) });
        }
        string::Mutation::Resolve { .. } => (string("set"), When::Changed),
        string::Mutation::Append(_) => (string("append"), When::Done),
        string::Mutation::SetRange { value, .. } if value.is_empty() => return None,
        string::Mutation::SetRange { .. } => (string("setrange"), When::Done),
        string::Mutation::Fields(_) => (string("setbit"), When::Changed),
        string::Mutation::Increment(_) => (string("incrby"), When::Done),
        string::Mutation::IncrementFloat(_) => (string("incrbyfloat"), When::Done),
        string::Mutation::GetDelete => (Event::DELETED, When::Answered),
        string::Mutation::GetExpire(SetExpiry::At(at_ms)) => (expiry_at(*at_ms, now_ms), When::Answered),
        string::Mutation::GetExpire(SetExpiry::Clear) => (Event::PERSISTS, When::Changed),
        string::Mutation::GetExpire(SetExpiry::Keep) => return None,
    };
    Some(Expected { event, when, expires: false })
}

fn of_set(mutation: &set::Mutation) -> (Event, When) {
    let name = match mutation {
        set::Mutation::Add(_) => "sadd",
        set::Mutation::Remove(_) => "srem",
        set::Mutation::Pop { .. } => "spop",
    };
    (Event { class: Classes::SET, name }, When::Answered)
}

fn of_hash(mutation: &hash::Mutation) -> (Event, When) {
    let (name, when) = match mutation {
        hash::Mutation::Set(_) | hash::Mutation::Resolve { .. } => ("hset", When::Done),
        hash::Mutation::SetNew { .. } => ("hset", When::Answered),
        hash::Mutation::Remove(_) | hash::Mutation::GetRemove(_) => ("hdel", When::Changed),
        hash::Mutation::SetExpiring { .. } => ("hset", When::Answered),
        hash::Mutation::Expire { .. } | hash::Mutation::GetExpire { expiry: SetExpiry::At(_), .. } => ("hexpire", When::Changed),
        hash::Mutation::Persist(_) | hash::Mutation::GetExpire { .. } => ("hpersist", When::Changed),
        hash::Mutation::Increment { .. } => ("hincrby", When::Done),
        hash::Mutation::IncrementFloat { .. } => ("hincrbyfloat", When::Done),
    };
    (Event { class: Classes::HASH, name }, when)
}

fn of_sorted_set(mutation: &sorted_set::Mutation) -> (Event, When) {
    let (name, when) = match mutation {
        sorted_set::Mutation::Add { .. } => ("zadd", When::Changed),
        sorted_set::Mutation::Increment { .. } => ("zincr", When::Changed),
        sorted_set::Mutation::Remove(_) => ("zrem", When::Answered),
        sorted_set::Mutation::RemoveRange(range) => match range.span {
            Span::Places(..) => ("zremrangebyrank", When::Answered),
            Span::Scores(..) => ("zremrangebyscore", When::Answered),
            Span::Members(..) => ("zremrangebylex", When::Answered),
        },
        sorted_set::Mutation::Pop { order: Order::Ascending, .. } => ("zpopmin", When::Answered),
        sorted_set::Mutation::Pop { order: Order::Descending, .. } => ("zpopmax", When::Answered),
    };
    (Event { class: Classes::SORTED_SET, name }, when)
}

fn of_list(mutation: &list::Mutation) -> Option<(Event, When)> {
    let (name, when) = match mutation {
        list::Mutation::Peek(_) | list::Mutation::Take(_) => return None,
        list::Mutation::Place { side: Side::Left, .. } | list::Mutation::Rotate { to: Side::Left, .. } => ("lpush", When::Answered),
        list::Mutation::Place { side: Side::Right, .. } | list::Mutation::Rotate { to: Side::Right, .. } => ("rpush", When::Answered),
        list::Mutation::Push { side: Side::Left, .. } => ("lpush", When::Answered),
        list::Mutation::Push { side: Side::Right, .. } => ("rpush", When::Answered),
        list::Mutation::Pop { side: Side::Left, .. } => ("lpop", When::Answered),
        list::Mutation::Pop { side: Side::Right, .. } => ("rpop", When::Answered),
        list::Mutation::Set { .. } => ("lset", When::Done),
        list::Mutation::Insert { .. } => ("linsert", When::Answered),
        list::Mutation::Remove { .. } => ("lrem", When::Answered),
        list::Mutation::Trim { .. } => ("ltrim", When::Existed),
    };
    Some((Event { class: Classes::LIST, name }, when))
}

fn of_hyperloglog(mutation: &hyperloglog::Mutation) -> (Event, When) {
    let when = match mutation {
        hyperloglog::Mutation::Add(_) => When::Answered,
        hyperloglog::Mutation::Merge(_) => When::Done,
    };
    (Event { class: Classes::STRING, name: "pfadd" }, when)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mutation: impl Into<Mutation>, answer: Answer, changed: bool, was: bool, is: bool) -> Vec<&'static str> {
        let watched = Answer::Watched { answer: Box::new(answer), changed, was, is };
        let expected = Expected::of(&mutation.into(), 1_000);
        expected.map(|expected| expected.happened(&watched)).unwrap_or_default().into_iter().map(|event| event.name).collect()
    }

    #[test]
    fn letters_are_told_as_redis_tells_them() {
        let told = |letters: &str| Classes::parse(letters.as_bytes()).map(|classes| classes.to_string());
        for (letters, expected) in [("", ""), ("KEA", "AKE"), ("gxE", "gxE"), ("AKEmn", "AKEm"), ("g$lshzxetdK", "AK"), ("Em$n", "$nEm")] {
            assert_eq!(told(letters).as_deref(), Some(expected), "{letters}");
        }
        assert_eq!(told("gq"), None);
    }

    #[test]
    fn an_event_is_announced_where_its_class_is_asked_for() {
        let channels = |letters: &str| -> Vec<Bytes> {
            let classes = Classes::parse(letters.as_bytes()).unwrap();
            classes.announcements(&"k".into(), Event::EXPIRED).map(|(channel, _)| channel).collect()
        };
        assert_eq!(channels("KEx"), ["__keyspace@0__:k", "__keyevent@0__:expired"]);
        assert_eq!(channels("Ex"), ["__keyevent@0__:expired"]);
        assert!(channels("KE$").is_empty() && channels("A").is_empty());
    }

    #[test]
    fn what_takes_the_last_away_deletes_the_key() {
        let remove = || set::Mutation::Remove(vec!["m".into()]);
        assert_eq!(told(remove(), Answer::Integer(1), true, true, true), ["srem"]);
        assert_eq!(told(remove(), Answer::Integer(1), true, true, false), ["srem", "del"]);
        assert!(told(remove(), Answer::Integer(0), false, true, true).is_empty());
        assert_eq!(told(key::Mutation::Delete, Answer::Integer(1), true, true, false), ["del"]);
    }

    #[test]
    fn a_new_key_and_an_expiry_are_told_too() {
        let set = |expiry| string::Mutation::Set { value: "v".into(), expiry, condition: string::SetCondition::Always, get: false };
        assert_eq!(told(set(SetExpiry::At(5_000)), Answer::Ok, true, false, true), ["new", "set", "expire"]);
        assert_eq!(told(set(SetExpiry::Clear), Answer::Ok, true, true, true), ["set"]);
        let expire = |at_ms| key::Mutation::Expire { at_ms, condition: key::ExpireCondition::Always };
        assert_eq!(told(expire(2_000), Answer::Integer(1), true, true, true), ["expire"]);
        assert_eq!(told(expire(500), Answer::Integer(1), true, true, false), ["del"]);
    }
}
