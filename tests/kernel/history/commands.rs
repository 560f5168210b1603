//! Commands of the small world: executed by the real kernel, recorded in the graph.

use bytes::Bytes;
use ringtide::crdt::command::Mutation;
use ringtide::crdt::counter::clear_floors;
use ringtide::crdt::delta::{Delta, Kind, RowAddress, Scope};
use ringtide::crdt::dot::{Clock, Dot};
use ringtide::crdt::execute::{Author, execute, execute_blind};
use ringtide::crdt::key::{self as any_key, ExpireCondition};
use ringtide::crdt::sorted_set::{self, AddCondition, Score};
use ringtide::crdt::string::{self, SetCondition, SetExpiry};
use ringtide::crdt::{hash, set};
use ringtide::types::{Actor, Timestamp};

use super::graph::{Effects, INCREMENT_BITS, MOST_OPERATIONS, Operation, Replaces, UNIT};
use super::trace::describe;
use super::{COUNTER, HASH, LIST, LOG, SCORES, SET, World, counters, field, scored, whole};
use crate::peer::{DELETE, PERSIST};

/// The kinds of commands, type by type, each with the type's name. A set is at times overwritten by a string.
pub(crate) const TYPES: [(&str, &[u32]); 6] = [
    ("strings", &[0, 1, 2, 9, 10, 11, 12, 14, 15, 16, 17, 18, 50, 56]),
    ("sets", &[3, 4, 5, 6, 7, 8, 13, 19, 51, 57]),
    ("hashes", &[20, 21, 22, 23, 24, 25, 26, 27, 52, 58]),
    ("sorted-sets", &[28, 29, 30, 31, 32, 33, 34, 35, 53, 59]),
    ("lists", &[36, 37, 38, 39, 40, 41, 42, 43, 48, 49, 54, 60, 62, 63, 64, 65]),
    ("hyperloglogs", &[44, 45, 46, 47, 55, 61]),
];
/// How many kinds of commands there are.
pub(super) const COMMANDS: u32 = 66;
/// So far ahead that no key expires.
pub(super) const FAR_MS: i64 = 1 << 42;

impl World {
    /// Executes a command at a replica and sends its delta to all the others.
    pub(super) fn operate(&mut self, here: usize, choice: u32) {
        if self.graph.operations.len() >= MOST_OPERATIONS {
            return;
        }
        let number = self.graph.operations.len();
        let (name, key, mutation, replaces) = match choice % COMMANDS {
            choice @ 0..36 => self.command(choice, number),
            choice @ 50..56 => whole::replacement(choice, number),
            choice @ 56.. => self.removal_of_what_was_read(choice),
            _ => self.command_on_collection(here, choice, number),
        };
        let replica = &mut self.replicas[here];
        let (actor, next) = (replica.actor, &mut replica.next);
        let mut mint = || {
            let dot = Dot { actor, counter: *next };
            *next += 1;
            dot
        };
        let mut author = Author { actor, now: replica.clock.tick(self.time), mint: &mut mint, runs_since: replica.runs_since };
        let state = &replica.now.state;
        let Ok(executed) = execute(state, &state.causal, &mut author, &key, &mutation) else { return };
        if executed.delta.is_empty() {
            return;
        }
        let (mut observed, mut replaces) = (replica.now.observed, replaces);
        self.note_order(here, number, &mutation);
        if key == LIST && replaces == Replaces::Nothing {
            replaces = self.replaced_in_list(&executed.delta);
        } else if key == LOG && replaces == Replaces::Nothing {
            (observed, replaces) = self.replaced_in_log(&executed.delta);
        }
        if let Mutation::Key(any_key::Mutation::RemoveSeen { token }) = &mutation {
            observed = self.named_by(token, &executed.delta);
        }
        let effects = self.record(number, format!("{name} at {here}"), &key, &mutation, replaces, observed, &executed.delta);
        let replica = &mut self.replicas[here];
        replica.now.state.join(&executed.delta);
        replica.now.known |= 1 << number;
        replica.now.observed |= effects;
        self.send(Some(here), executed.delta, Some(number));
    }

    /// Executes a command at a coordinator that holds no replica and has observed nothing.
    pub(super) fn operate_blind(&mut self, choice: u32) {
        if self.graph.operations.len() >= MOST_OPERATIONS {
            return;
        }
        let number = self.graph.operations.len();
        let (name, key, mutation, _) = match choice as usize % 16 {
            choice @ 0..12 => self.command([0, 4, 6, 8, 12, 15, 16, 19, 20, 24, 28, 32][choice], number),
            choice => self.command_on_collection(0, [36, 37, 44, 45][choice - 12], number),
        };
        let next = &mut self.fallback_next;
        let actor = Actor(99);
        let mut mint = || {
            let dot = Dot { actor, counter: *next };
            *next += 1;
            dot
        };
        let now = Timestamp::from_millis(self.time);
        let mut author = Author { actor, now, mint: &mut mint, runs_since: u64::MAX };
        let Ok(executed) = execute_blind(&mut author, &key, &mutation) else { return };
        self.record(number, format!("{name} blind"), &key, &mutation, Replaces::Nothing, 0, &executed.delta);
        self.send(None, executed.delta, Some(number));
    }

    /// The owner of floors clears those that have done their work.
    pub(super) fn clear_floors(&mut self, here: usize) {
        let replica = &self.replicas[here];
        if !replica.present || replica.sealed {
            return;
        }
        let durable: Vec<Clock> =
            self.replicas.iter().filter(|other| other.present).map(|other| other.durable.state.causal.clock.clone()).collect();
        let mut cleared = Delta::default();
        for address in counters() {
            let row = replica.now.state.rows.get(&address).cloned().unwrap_or_default();
            cleared.removes.extend(clear_floors(&address, &row, replica.actor, replica.runs_since, &durable).removes);
        }
        if !cleared.is_empty() {
            self.tell(|_| format!("{here} clears floors: {}", describe(&cleared)));
            self.replicas[here].now.state.join(&cleared);
            self.send(Some(here), cleared, None);
        }
    }

    /// A command, told by a number; what is SET or added names the operation.
    pub(super) fn command(&mut self, choice: u32, number: usize) -> (&'static str, Bytes, Mutation, Replaces) {
        let value = Bytes::from(((number as u64 + 1) << INCREMENT_BITS).to_string());
        let set = |expiry| string::Mutation::Set { value, expiry, condition: SetCondition::Always, get: false }.into();
        let expire = any_key::Mutation::Expire { at_ms: FAR_MS + number as i64, condition: ExpireCondition::Always }.into();
        let (first, second) = (Bytes::from_static(b"m1"), Bytes::from_static(b"m2"));
        let member = |member: &Bytes| Replaces::Row(RowAddress::member(&SET, member));
        let key = |key: Bytes| Replaces::Key(key);
        let expiry = |key: &Bytes| Replaces::Row(RowAddress::expiry(key));
        let (one, two) = (Bytes::from_static(b"f1"), Bytes::from_static(b"f2"));
        let whole = ((number as u64 + 1) << INCREMENT_BITS) as f64 * UNIT;
        let text = Bytes::from(whole.to_string());
        let set_field = |field: &Bytes| hash::Mutation::Set(vec![(field.clone(), text.clone())]).into();
        let set_score = |member: &Bytes| {
            let members = vec![(member.clone(), Score::new(whole))];
            sorted_set::Mutation::Add { members, condition: AddCondition::default(), changed: false }.into()
        };
        match choice {
            20 => ("HSET h f1", HASH, set_field(&one), Replaces::Row(field("f1"))),
            21 => ("HSET h f2", HASH, set_field(&two), Replaces::Row(field("f2"))),
            22 => ("HDEL h f1", HASH, hash::Mutation::Remove(vec![one]).into(), Replaces::Row(field("f1"))),
            23 => ("DEL h", HASH, DELETE, key(HASH)),
            24 | 25 => {
                let amount = self.amount().to_string().into();
                ("HINCRBYFLOAT h f1", HASH, hash::Mutation::IncrementFloat { field: one, amount }.into(), Replaces::Nothing)
            }
            26 => {
                let amount = self.amount().to_string().into();
                ("HINCRBYFLOAT h f2", HASH, hash::Mutation::IncrementFloat { field: two, amount }.into(), Replaces::Nothing)
            }
            27 => ("EXPIRE h", HASH, expire, expiry(&HASH)),
            28 => ("ZADD z m1", SCORES, set_score(&first), Replaces::Row(scored("m1"))),
            29 => ("ZADD z m2", SCORES, set_score(&second), Replaces::Row(scored("m2"))),
            30 => ("ZREM z m1", SCORES, sorted_set::Mutation::Remove(vec![first]).into(), Replaces::Row(scored("m1"))),
            31 => ("DEL z", SCORES, DELETE, key(SCORES)),
            32 | 33 => ("ZINCRBY z m1", SCORES, self.add_to_score(first), Replaces::Nothing),
            34 => ("ZINCRBY z m2", SCORES, self.add_to_score(second), Replaces::Nothing),
            35 => ("PERSIST z", SCORES, PERSIST, expiry(&SCORES)),

            0 | 1 => ("SET c", COUNTER, set(SetExpiry::Clear), key(COUNTER)),
            2 | 14 => ("DEL c", COUNTER, DELETE, key(COUNTER)),
            3 => ("DEL s", SET, DELETE, key(SET)),
            4 => ("SADD s m1", SET, set::Mutation::Add(vec![first.clone()]).into(), member(&first)),
            5 => ("SREM s m1", SET, set::Mutation::Remove(vec![first.clone()]).into(), member(&first)),
            6 => ("SADD s m2", SET, set::Mutation::Add(vec![second.clone()]).into(), member(&second)),
            7 => ("SREM s m2", SET, set::Mutation::Remove(vec![second.clone()]).into(), member(&second)),
            8 => ("SET s", SET, set(SetExpiry::Clear), key(SET)),
            9 => ("GETDEL c", COUNTER, string::Mutation::GetDelete.into(), key(COUNTER)),
            10 => ("EXPIRE c", COUNTER, expire, expiry(&COUNTER)),
            11 => ("PERSIST c", COUNTER, PERSIST, expiry(&COUNTER)),
            12 => ("SETEX c", COUNTER, set(SetExpiry::At(FAR_MS + number as i64)), key(COUNTER)),
            13 => ("EXPIRE s", SET, expire, expiry(&SET)),
            19 => ("INCR s", SET, self.increment(), Replaces::Nothing),
            _ => ("INCR c", COUNTER, self.increment(), Replaces::Nothing),
        }
    }

    pub(super) fn increment(&mut self) -> Mutation {
        self.increments += 1;
        string::Mutation::Increment(1 << ((self.increments - 1) % INCREMENT_BITS)).into()
    }

    /// The next bit, as an amount of a field or score.
    fn amount(&mut self) -> f64 {
        self.increments += 1;
        (1u64 << ((self.increments - 1) % INCREMENT_BITS)) as f64 * UNIT
    }

    fn add_to_score(&mut self, member: Bytes) -> Mutation {
        let amount = Score::new(self.amount());
        sorted_set::Mutation::Increment { member, amount, condition: AddCondition::default() }.into()
    }

    #[expect(clippy::too_many_arguments, reason = "they are the operation")]
    pub(super) fn record(
        &mut self,
        number: usize,
        name: String,
        key: &Bytes,
        mutation: &Mutation,
        replaces: Replaces,
        observed: Effects,
        delta: &Delta,
    ) -> Effects {
        let bit = |amount: f64| (amount / UNIT).log2() as u32;
        let increment = match mutation {
            Mutation::String(string::Mutation::Increment(amount)) => Some((RowAddress::value(key), amount.trailing_zeros())),
            Mutation::Hash(hash::Mutation::IncrementFloat { field, amount }) => {
                let amount = std::str::from_utf8(amount).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
                Some((RowAddress::element(key, Kind::Field, field), bit(amount)))
            }
            Mutation::SortedSet(sorted_set::Mutation::Increment { member, amount, .. }) => {
                Some((RowAddress::element(key, Kind::Score, member), bit(amount.value())))
            }
            _ => None,
        };
        // A write that finds no data may clear what an earlier life of the key left in its expiry row.
        let expiry = Scope::Row(RowAddress::expiry(key));
        let replaces = match replaces {
            Replaces::Nothing if delta.replaces.iter().any(|replaced| replaced.scope == expiry) => Replaces::Row(RowAddress::expiry(key)),
            Replaces::Row(row) if delta.replaces.iter().any(|replaced| replaced.scope == expiry) => Replaces::RowAndExpiry(row),
            replaces => replaces,
        };
        self.note_origins(number, delta);
        let effects = delta.adds.iter().fold(0, |set, (address, dot, entry)| set | self.graph.write(number, address, *dot, &entry.payload));
        self.tell(|_| format!("{number} {name}: {}", describe(delta)));
        self.graph.operations.push(Operation { name, replaces, observed, increment });
        effects
    }
}
