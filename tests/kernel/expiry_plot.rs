//! What is played on a key that expires: the commands by number, and what each of them means to the judge of `expiry_histories.rs`.

use bytes::Bytes;
use ringtide::crdt::command::Mutation;
use ringtide::crdt::delta::{Decision, Delta, Kind, Payload, RowAddress, Scope};
use ringtide::crdt::expiry::Subject;
use ringtide::crdt::hash;
use ringtide::crdt::key::{self, ExpireCondition};
use ringtide::crdt::string::{self, SetCondition, SetExpiry};

use crate::expiry_world::KEY;
use crate::peer::{DELETE, PERSIST, add, increment};

/// Strings and sets that expire, or a hash that expires and a field of which does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plot {
    Keys,
    Fields,
}

/// What a command does with the decisions about one subject.
#[derive(Default)]
pub(crate) struct Aspect {
    /// It writes anew what the subject holds.
    pub(crate) sets: bool,
    /// It takes away the decisions that it observed and that have not passed: to write anew or delete what the subject holds, or since it found no data and
    /// cleared what an earlier life had left.
    pub(crate) takes: bool,
    /// The decision that it took.
    pub(crate) decision: Option<Decision>,
    /// The decision that its entry carries, and it did not take.
    pub(crate) inherited: Option<Decision>,
}

/// The field that expires.
fn field() -> RowAddress {
    RowAddress::element(&KEY, Kind::Field, &Bytes::from_static(b"f"))
}

/// A field that lives as long as its key.
fn other_field() -> RowAddress {
    RowAddress::element(&KEY, Kind::Field, &Bytes::from_static(b"g"))
}

fn member(name: &'static str) -> RowAddress {
    RowAddress::member(&KEY, &Bytes::from_static(name.as_bytes()))
}

impl Plot {
    /// Its name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Keys => "expiry",
            Self::Fields => "field-expiry",
        }
    }

    /// The name of a command.
    pub(crate) fn name(self, command: usize) -> &'static str {
        let keys = ["SET", "SETEX", "DEL", "INCR", "SADD 1", "SADD 2", "EXPIRE", "PERSIST", "EXPIRE far"];
        let fields = ["HSET f", "HSETEX f", "HDEL f", "HINCRBY f", "HSET g", "DEL", "HEXPIRE f", "HPERSIST f", "HEXPIRE f far"];
        match self {
            Self::Keys => keys[command],
            Self::Fields => fields.get(command).or_else(|| keys.get(command - 3)).copied().unwrap_or_default(),
        }
    }

    /// The command that an event of a kind stands for.
    pub(crate) fn command(self, kind: usize, choice: u32) -> usize {
        let is_about_key = self == Self::Fields && kind >= 6 && choice >> 4 & 1 == 1;
        if is_about_key { kind + 3 } else { kind }
    }

    /// Every row that there may be.
    pub(crate) fn rows(self) -> Vec<RowAddress> {
        match self {
            Self::Keys => vec![RowAddress::value(&KEY), member("1"), member("2"), RowAddress::expiry(&KEY)],
            Self::Fields => vec![field(), other_field(), RowAddress::expiry(&KEY)],
        }
    }

    /// The data rows that a command replaces.
    pub(crate) fn replaces(self, command: usize) -> Vec<RowAddress> {
        let all = || self.rows().into_iter().filter(|address| address.kind != Kind::Expiry).collect();
        match (self, command) {
            (Self::Keys, 0..=2) | (Self::Fields, 5) => all(),
            (Self::Keys, 4) => vec![member("1")],
            (Self::Keys, 5) => vec![member("2")],
            (Self::Fields, 0..=2) => vec![field()],
            (Self::Fields, 4) => vec![other_field()],
            _ => Vec::new(),
        }
    }

    /// What the end of a data row depends on.
    pub(crate) fn subjects(self, address: &RowAddress) -> &'static [Subject] {
        if *address == field() { &[Subject::Key, Subject::Field] } else { &[Subject::Key] }
    }

    pub(crate) fn mutation(self, command: usize, end_ms: i64) -> Mutation {
        let far_ms = end_ms + 1_000_000;
        let set = |expiry| string::Mutation::Set { value: "1".into(), expiry, condition: SetCondition::Always, get: false }.into();
        let expire = |at_ms| key::Mutation::Expire { at_ms, condition: ExpireCondition::Always }.into();
        let pairs = |address: RowAddress| vec![(address.element, "1".into())];
        let fields = || vec![field().element];
        let expire_field = |at_ms| hash::Mutation::Expire { fields: fields(), at_ms, condition: ExpireCondition::Always }.into();
        match (self, command) {
            (Self::Keys, 0) => set(SetExpiry::Clear),
            (Self::Keys, 1) => set(SetExpiry::At(end_ms)),
            (Self::Keys, 2) | (Self::Fields, 5) => DELETE,
            (Self::Keys, 3) => increment(1),
            (Self::Keys, 4) => add("1"),
            (Self::Keys, 5) => add("2"),
            (Self::Fields, 0) => hash::Mutation::Set(pairs(field())).into(),
            (Self::Fields, 1) => {
                let (pairs, condition) = (pairs(field()), SetCondition::Always);
                hash::Mutation::SetExpiring { pairs, expiry: SetExpiry::At(end_ms), condition }.into()
            }
            (Self::Fields, 2) => hash::Mutation::Remove(fields()).into(),
            (Self::Fields, 3) => hash::Mutation::Increment { field: field().element, amount: 1 }.into(),
            (Self::Fields, 4) => hash::Mutation::Set(pairs(other_field())).into(),
            (Self::Fields, 6) => expire_field(end_ms),
            (Self::Fields, 7) => hash::Mutation::Persist(fields()).into(),
            (Self::Fields, 8) => expire_field(far_ms),
            (Self::Keys, 6) | (Self::Fields, 9) => expire(end_ms),
            (Self::Keys, 7) | (Self::Fields, 10) => PERSIST,
            _ => expire(far_ms),
        }
    }

    /// What a command that was executed as this delta means for the decisions about a subject.
    pub(crate) fn aspect(self, subject: Subject, command: usize, delta: &Delta) -> Aspect {
        let home = if subject == Subject::Key { RowAddress::expiry(&KEY) } else { field() };
        let decision = delta.adds.iter().find_map(|(address, _, entry)| match entry.payload {
            Payload::Decision(decision) if *address == home => Some(decision),
            _ => None,
        });
        let carried = delta.adds.iter().find_map(|(_, _, entry)| match subject {
            Subject::Key => entry.decision,
            Subject::Field => entry.field_decision,
        });
        let replaces_decisions = delta.replaces.iter().any(|replaced| replaced.scope == Scope::Row(home.clone()));
        let (sets, takes, writes) = match (self, subject) {
            (Self::Keys, _) => (command <= 1, command <= 2, (3..=5).contains(&command)),
            (Self::Fields, Subject::Field) => (command <= 1, command <= 2 || command == 5, command == 3),
            (Self::Fields, Subject::Key) => (false, command == 5, command <= 4),
        };
        Aspect { sets, takes: takes || writes && replaces_decisions, decision, inherited: if sets { None } else { carried } }
    }
}
