//! Lists and HyperLogLogs of the small world: their commands, and what must come of them, told without positions and rows.
//!
//! An item is known by the operation that made its position; its value is the number of the operation that pushed it first, and behind a point that of the LSET
//! that wrote over it. What an operation saw before, between and behind which it put its item is an order that must hold wherever both items show.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringtide::crdt::command::{Answer, Mutation};
use ringtide::crdt::delta::{Delta, Kind, RowAddress, Scope};
use ringtide::crdt::hyperloglog::{self, Registers};
use ringtide::crdt::key::{self as any_key, ExpireCondition};
use ringtide::crdt::list::{self, ItemName, Side};
use ringtide::crdt::memory::MemoryState;
use ringtide::types::Timestamp;

use super::commands::FAR_MS;
use super::graph::{Effects, Replaces};
use super::{LIST, LOG, World, answer};
use crate::peer::DELETE;

/// Elements that fall into one register, with ranks 1, 2 and 3, and one that does not.
const ELEMENTS: [&str; 4] = ["e2364", "e8017", "e4038", "x"];

/// An item that a state shows.
struct Shown {
    /// The operation that made its position.
    origin: usize,
    value: Bytes,
}

impl World {
    /// The items that a state shows, in order.
    fn shown(&self, state: &MemoryState) -> Vec<Shown> {
        let range = list::Query::Range { start: 0, stop: -1 };
        let Answer::Items(values) = answer(state, &LIST, &range.into(), Timestamp::from_millis(1 << 20)) else { return Vec::new() };
        let rows = state.rows.keys().filter(|address| address.kind == Kind::Item);
        let origins = rows.map(|address| self.origins.get(&address.element).copied().unwrap_or(usize::MAX));
        origins.zip(values).map(|(origin, value)| Shown { origin, value }).collect()
    }

    /// Notes who made the positions of a delta, and how its items are named.
    pub(super) fn note_origins(&mut self, number: usize, delta: &Delta) {
        for (address, dot, _) in delta.adds.iter().filter(|(address, _, _)| address.kind == Kind::Item) {
            self.origins.entry(address.element.clone()).or_insert(number);
            self.names.push(ItemName { position: address.element.clone(), dots: vec![*dot] });
        }
    }

    /// A command on the list or the HyperLogLog, told by a number.
    pub(super) fn command_on_collection(&self, here: usize, choice: u32, number: usize) -> (&'static str, Bytes, Mutation, Replaces) {
        let items = self.shown(&self.replicas[here].now.state);
        let any = |choice: u32| items.get(choice as usize % items.len().max(1)).map_or(Bytes::new(), |item| item.value.clone());
        let at = (choice >> 6) as usize % items.len().max(1);
        let item = Bytes::from(number.to_string());
        let push = |side| list::Mutation::Push { side, items: vec![item.clone()], only_existing: false }.into();
        let pop = |side| list::Mutation::Pop { side, count: 1 }.into();
        let insert = |before| list::Mutation::Insert { pivot: any(choice >> 6), item: item.clone(), before }.into();
        let add = |element: &'static str| hyperloglog::Mutation::Add(vec![element.into()]).into();
        let expire = || any_key::Mutation::Expire { at_ms: FAR_MS + number as i64, condition: ExpireCondition::Always }.into();
        let nothing = Replaces::Nothing;
        match choice % super::commands::COMMANDS {
            36 | 38 => ("RPUSH l", LIST, push(Side::Right), nothing),
            37 => ("LPUSH l", LIST, push(Side::Left), nothing),
            39 => ("LPOP l", LIST, pop(Side::Left), nothing),
            40 => ("RPOP l", LIST, pop(Side::Right), nothing),
            41 => {
                let value = format!("{}.{number}", String::from_utf8_lossy(&any(choice >> 6))).into();
                ("LSET l", LIST, list::Mutation::Set { index: at as i64, value }.into(), nothing)
            }
            42 => ("LINSERT l BEFORE", LIST, insert(true), nothing),
            43 => ("LINSERT l AFTER", LIST, insert(false), nothing),
            44 => ("PFADD p", LOG, add(ELEMENTS[0]), nothing),
            45 => ("PFADD p", LOG, add(ELEMENTS[1]), nothing),
            46 => ("PFADD p", LOG, add(ELEMENTS[2 + number % 2]), nothing),
            47 => ("DEL p", LOG, DELETE, Replaces::Key(LOG)),
            62 => ("LMOVE l l LEFT RIGHT", LIST, list::Mutation::Rotate { from: Side::Left, to: Side::Right }.into(), nothing),
            63 => ("LMOVE l l RIGHT LEFT", LIST, list::Mutation::Rotate { from: Side::Right, to: Side::Left }.into(), nothing),
            64 => ("place in l", LIST, list::Mutation::Place { side: Side::Right, item }.into(), nothing),
            65 => match self.names.get((choice >> 6) as usize % self.names.len().max(1)) {
                Some(name) => ("take from l", LIST, list::Mutation::Take(name.clone()).into(), nothing),
                None => ("LPOP l", LIST, pop(Side::Left), nothing),
            },
            48 => ("EXPIRE l", LIST, expire(), Replaces::Row(RowAddress::expiry(&LIST))),
            _ => ("DEL l", LIST, DELETE, Replaces::Key(LIST)),
        }
    }

    /// Notes between which items an operation puts its own.
    pub(super) fn note_order(&mut self, here: usize, number: usize, mutation: &Mutation) {
        let items = self.shown(&self.replicas[here].now.state);
        let place = match mutation {
            Mutation::List(
                list::Mutation::Push { side: Side::Left, .. }
                | list::Mutation::Place { side: Side::Left, .. }
                | list::Mutation::Rotate { to: Side::Left, .. },
            ) => 0,
            Mutation::List(list::Mutation::Push { .. } | list::Mutation::Place { .. } | list::Mutation::Rotate { .. }) => items.len(),
            Mutation::List(list::Mutation::Insert { pivot, before, .. }) => {
                let Some(pivot) = items.iter().position(|item| item.value == *pivot) else { return };
                pivot + usize::from(!before)
            }
            _ => return,
        };
        let behind = items[place..].iter().map(|item| (number, item.origin));
        self.order.extend(items[..place].iter().map(|item| (item.origin, number)).chain(behind));
    }

    /// The row of the item that an operation took or wrote over.
    pub(super) fn replaced_in_list(&self, delta: &Delta) -> Replaces {
        let row = delta.replaces.iter().find_map(|replaced| match &replaced.scope {
            Scope::Row(address) if address.kind == Kind::Item => Some(address.clone()),
            _ => None,
        });
        row.map_or(Replaces::Nothing, Replaces::Row)
    }

    /// A PFADD undoes the entries of its register that it read, and nothing else that it had seen.
    pub(super) fn replaced_in_log(&self, delta: &Delta) -> (Effects, Replaces) {
        let undone = delta.removes.iter().fold(0, |set, (_, dot)| set | self.graph.covers(*dot));
        (undone, delta.removes.first().map_or(Replaces::Nothing, |(address, _)| Replaces::Row(address.clone())))
    }

    /// The list shows every item with a live entry, once, in an order that each push had asked for; the registers are the greatest that is live.
    pub(crate) fn judge_collections(&self, state: &MemoryState) -> Result<(), String> {
        let items: Vec<usize> = self.shown(state).into_iter().map(|item| item.origin).collect();
        let places: BTreeMap<usize, usize> = items.iter().enumerate().map(|(place, item)| (*item, place)).collect();
        let rows = state.rows.keys().filter(|address| address.kind == Kind::Item).count();
        if places.len() != items.len() || items.len() != rows {
            return Err(format!("ITEMS {items:?} are shown of {rows} rows"));
        }
        for (first, second) in &self.order {
            if let (Some(first_place), Some(second_place)) = (places.get(first), places.get(second))
                && first_place > second_place
            {
                return Err(format!("ORDER {second} stands before {first} in {items:?}"));
            }
        }
        let mut registers = vec![0; hyperloglog::REGISTERS];
        for (address, row) in state.rows.iter().filter(|(address, _)| address.kind == Kind::Register) {
            let index = usize::from(address.element[0]) << 8 | usize::from(address.element[1]);
            registers[index] = row.values().filter_map(hyperloglog::rank_of).max().unwrap_or(0);
        }
        match answer(state, &LOG, &hyperloglog::Query::Registers.into(), Timestamp::from_millis(1 << 20)) {
            Answer::Bytes(shown) if shown == registers => Ok(()),
            Answer::Nil if Registers::from_bytes(&registers).count() == 0 => Ok(()),
            shown => Err(format!("REGISTERS {shown:?}")),
        }
    }
}
