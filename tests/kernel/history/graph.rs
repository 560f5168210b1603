//! What a history of operations means, told without clocks, rows or joins: a graph of operations in which one has *observed*
//! another, and the values that follow from the definitions.
//!
//! * An operation that replaces a row undoes what it had observed there. Once it is known to a replica that lives on, what it undid stays undone.
//! * What no operation has undone stays, if a replica that lives on has observed it.
//! * In between (undone by an operation that died with everybody who knew it) both are right.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringtide::crdt::delta::{Payload, Row, RowAddress};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::number::Number;

/// A set of operations, by their numbers.
pub(crate) type Operations = u128;
/// A set of effects, by their numbers: an operation has one in each row that it writes to.
pub(crate) type Effects = u128;
/// The most operations of one history; each may have two effects.
pub(crate) const MOST_OPERATIONS: usize = 60;

/// Increments of a counter are powers of two below this bit, and what is SET is a multiple of it: so a value tells what it is made of.
pub(crate) const INCREMENT_BITS: u32 = 40;

/// What an operation overwrites.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Replaces {
    Nothing,
    Row(RowAddress),
    /// The row of the key's expiry besides.
    RowAndExpiry(RowAddress),
    Key(Bytes),
}

impl Replaces {
    fn includes(&self, address: &RowAddress) -> bool {
        match self {
            Self::Nothing => false,
            Self::Row(row) => row == address,
            Self::RowAndExpiry(row) => row == address || RowAddress::expiry(&row.key) == *address,
            Self::Key(key) => *key == address.key,
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) replaces: Replaces,
    /// The effects that its replica had observed.
    pub(crate) observed: Effects,
    /// The counter's row that it adds to, and the bit.
    pub(crate) increment: Option<(RowAddress, u32)>,
}

/// A dot and what stands behind it.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) address: RowAddress,
    /// The effects that its entry holds: one, or every increment of a run. None for a floor.
    pub(crate) covers: Effects,
    /// Whether it is one increment or many, judged by the sum and not dot by dot.
    pub(crate) is_run: bool,
}

/// The whole history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    pub(crate) operations: Vec<Operation>,
    /// The operation of each effect.
    effects: Vec<usize>,
    pub(crate) dots: BTreeMap<Dot, Written>,
    /// Increments by run, to tell what later entries of the run hold.
    runs: BTreeMap<Dot, Effects>,
}

impl Graph {
    /// Records what an operation wrote under one dot, and returns its effects. What it only told once more has those that it had.
    pub(crate) fn write(&mut self, operation: usize, address: &RowAddress, dot: Dot, payload: &Payload) -> Effects {
        if self.dots.contains_key(&dot) {
            return self.covers(dot);
        }
        let effect = 1 << self.effects.len();
        let (covers, is_run) = match payload {
            Payload::Floor { .. } => (0, true),
            Payload::Run { run, .. } => {
                let increments = self.runs.entry(*run).or_default();
                *increments |= effect;
                (*increments, true)
            }
            Payload::Value(_) | Payload::Score(_) | Payload::Present | Payload::Decision(_) => (effect, false),
        };
        if covers != 0 {
            self.effects.push(operation);
        }
        self.dots.insert(dot, Written { address: address.clone(), covers, is_run });
        covers
    }

    /// The effects of a dot.
    pub(crate) fn covers(&self, dot: Dot) -> Effects {
        self.dots.get(&dot).map_or(0, |written| written.covers)
    }

    /// Who undid an effect in a row: every such operation.
    fn undone_by(&self, effect: usize, address: &RowAddress) -> Operations {
        let undoes = |(number, operation): &(usize, &Operation)| {
            *number != self.effects[effect] && operation.observed >> effect & 1 == 1 && operation.replaces.includes(address)
        };
        self.operations.iter().enumerate().filter(undoes).fold(0, |set, (number, _)| set | 1 << number)
    }

    /// Compares a healed state with the meaning of the history, where the replicas that live on know these operations and
    /// have observed those effects.
    pub(crate) fn check(&self, state: &MemoryState, known: Operations, observed: Effects) -> Result<(), String> {
        let name = |number: usize| format!("{number} '{}'", self.operations[number].name);
        for (dot, written) in self.dots.iter().filter(|(_, written)| !written.is_run) {
            let effect = written.covers.trailing_zeros() as usize;
            let operation = self.effects[effect];
            let undone_by = self.undone_by(effect, &written.address);
            let live = state.rows.get(&written.address).is_some_and(|row| row.contains_key(dot));
            if live && undone_by & known != 0 {
                let by = name((undone_by & known).trailing_zeros() as usize);
                return Err(format!("BACK {dot:?} of {}, which {by} had observed", name(operation)));
            }
            let lasts = observed >> effect & 1 == 1 || known >> operation & 1 == 1;
            if !live && undone_by == 0 && lasts {
                return Err(format!("LOST {dot:?} of {}", name(operation)));
            }
        }
        Ok(())
    }

    /// Compares the increments that a counter shows with those it must and those it may show.
    pub(crate) fn check_counter(&self, address: &RowAddress, shown: u64, known: Operations, observed: Effects) -> Result<(), String> {
        let (mut must, mut may) = (0u64, 0u64);
        for (effect, number) in self.effects.iter().enumerate() {
            let Some((counter, bit)) = &self.operations[*number].increment else { continue };
            let undone_by = self.undone_by(effect, address);
            if counter != address || undone_by & known != 0 {
                continue;
            }
            may |= 1 << bit;
            if undone_by == 0 && (observed >> effect & 1 == 1 || known >> number & 1 == 1) {
                must |= 1 << bit;
            }
        }
        if shown & !may != 0 || must & !shown != 0 {
            return Err(format!("COUNTER {address:?} shows {shown:b}, must {must:b}, may {may:b}"));
        }
        Ok(())
    }
}

/// What the lowest bit of an increment of a field or score adds: fractions of a kind that every format holds exactly.
pub(crate) const UNIT: f64 = 1.0 / 1024.0;

fn in_units(total: &Number) -> i128 {
    match total {
        Number::Integer(integer) => integer * 1024,
        fraction => (fraction.to_double() / UNIT) as i128,
    }
}

/// The sum of a counter's runs by the definition of `KERNEL` section 4, computed here on its own: of each run its latest entry,
/// less what the furthest floor has reset.
///
/// In units of [`UNIT`], so that fractions count whole.
pub(crate) fn sum_of_runs(row: &Row) -> i128 {
    let mut latest: BTreeMap<Dot, (u64, i128)> = BTreeMap::new();
    let mut floors: BTreeMap<Dot, (u64, i128)> = BTreeMap::new();
    for (dot, entry) in row {
        let (side, run, end, total) = match &entry.payload {
            Payload::Run { run, total } => (&mut latest, *run, dot.counter, in_units(total)),
            Payload::Floor { run, upto, total } => (&mut floors, *run, *upto, in_units(total)),
            _ => continue,
        };
        let furthest = side.entry(run).or_insert((end, total));
        if end > furthest.0 {
            *furthest = (end, total);
        }
    }
    let counts = latest.iter().map(|(run, (end, total))| match floors.get(run) {
        None => *total,
        Some((upto, reset)) if end > upto => total - reset,
        Some(_) => 0,
    });
    counts.sum()
}
