//! What may be lost, exactly: what only one disk held, when that disk fell back.
//!
//! A disk falls back where it is wiped, restored from an older copy, cut from power before its sync (only where writes are acknowledged
//! before that), damaged in a row, or gone with the copy of a folder. An acknowledged write is excused **where at that moment no other disk holds an entry of it**, of a peer that runs or of one
//! that is down, as a row or as a hint; and nothing else is. What another disk holds has to come back from there, whoever was asked for it.
//!
//! | promise | excused where the disk that falls back held, and no other does |
//! |---|---|
//! | a member of a set | its row |
//! | a string | all of the last acknowledged value and those written after it |
//! | a counter | the difference in what the runs of both add up to, and not more |
//! | a key that may expire | any entry of it: a value, or a decision |
//!
//! What has expired goes only once nothing is pending for it (`KERNEL` section 7), and what stays pending since its author lost it is given up after a
//! day (section 2). So once any disk fell back the rows of expired keys may stay for a day; they are hidden all the same.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::history::History;
use super::storage::SimDisk;
use crate::crdt::delta::{Entry, Kind, Payload, Row, RowAddress};
use crate::crdt::dot::Dot;
use crate::crdt::number::Number;
use crate::crdt::runs;
use crate::replica::hints::Hint;
use crate::replica::{layout, partition};

/// Every entry that some disks hold, in rows that are whole and in hints.
#[derive(Clone, Debug, Default)]
pub struct Held {
    rows: BTreeMap<RowAddress, Row>,
}

impl Held {
    /// What these disks hold together.
    #[must_use]
    pub fn by<'d>(disks: impl IntoIterator<Item = &'d SimDisk>) -> Self {
        let mut held = Self::default();
        for disk in disks {
            disk.visit(b"r", b"s", &mut |row_key, value| {
                if let Ok((address, row, _)) = layout::read_row(row_key, &Bytes::copy_from_slice(value)) {
                    held.rows.entry(address).or_default().extend(row);
                }
                ControlFlow::Continue(())
            });
            disk.visit(b"h", b"i", &mut |_, value| {
                if let Ok(hint) = partition::from_bytes::<Hint>("a hint", value) {
                    hint.delta.adds.into_iter().for_each(|(address, dot, entry)| held.put(address, dot, entry));
                }
                ControlFlow::Continue(())
            });
        }
        held
    }

    fn put(&mut self, address: RowAddress, dot: Dot, entry: Entry) {
        self.rows.entry(address).or_default().insert(dot, entry);
    }

    fn holds_member(&self, key: &Bytes, member: &Bytes) -> bool {
        self.rows.contains_key(&RowAddress { key: key.clone(), kind: Kind::Member, element: member.clone() })
    }

    fn holds_value(&self, key: &Bytes, value: &Bytes) -> bool {
        let mut entries = self.rows.get(&RowAddress::value(key)).into_iter().flat_map(BTreeMap::values);
        entries.any(|entry| matches!(&entry.payload, Payload::Value(bytes) if bytes == value))
    }

    /// What the runs of a counter add up to.
    fn counted(&self, key: &Bytes) -> i64 {
        let runs = self.rows.get(&RowAddress::value(key)).map(runs::runs).unwrap_or_default();
        let total = |total: &Number| if let Number::Integer(total) = total { i64::try_from(*total).unwrap_or(0) } else { 0 };
        runs.iter().map(|run| total(&run.total)).sum()
    }

    fn and(&self, other: &Self) -> Self {
        let mut both = self.clone();
        other.rows.iter().for_each(|(address, row)| both.rows.entry(address.clone()).or_default().extend(row.clone()));
        both
    }
}

impl History {
    /// Excuses what a disk held `before` it fell back, and which nothing `left` holds: that disk as it is now, and all others.
    pub fn excuse(&mut self, before: &Held, left: &Held) {
        for (key, members) in &mut self.sets {
            for (member, known) in members {
                known.lost |= before.holds_member(key, member) && !left.holds_member(key, member);
            }
        }
        for (key, written) in &mut self.strings {
            let first = written.iter().rposition(|value| value.acknowledged && !value.lost).unwrap_or(0);
            let is_held = |held: &Held, from: usize| written[from..].iter().any(|value| held.holds_value(key, &value.bytes));
            if is_held(before, first) && !is_held(left, first) {
                // What came before may have been replaced wherever it was.
                written.iter_mut().for_each(|value| value.lost = true);
            }
        }
        self.fell_back = true;
        let all = before.and(left);
        for (key, counted) in &mut self.counters {
            counted.unknown += (all.counted(key) - left.counted(key)).abs();
        }
        for (address, row) in &before.rows {
            let is_lost = row.keys().any(|dot| left.rows.get(address).is_none_or(|row| !row.contains_key(dot)));
            if is_lost && self.expiring.contains_key(&address.key) {
                self.open.insert(address.key.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Counted, Membership, Value};
    use super::*;
    use crate::types::{Actor, Timestamp};

    const KEY: Bytes = Bytes::from_static(b"key");

    fn dot(counter: u64) -> Dot {
        Dot { actor: Actor(1), counter }
    }

    fn held(kind: Kind, element: &'static str, entries: impl IntoIterator<Item = (u64, Payload)>) -> Held {
        let mut held = Held::default();
        let address = RowAddress { key: KEY, kind, element: Bytes::from_static(element.as_bytes()) };
        for (counter, payload) in entries {
            let entry = Entry { timestamp: Timestamp(counter), decision: None, field_decision: None, payload };
            held.put(address.clone(), dot(counter), entry);
        }
        held
    }

    #[test]
    fn a_member_is_excused_only_where_no_other_disk_holds_it() {
        let member = |element| held(Kind::Member, element, [(1, Payload::Present)]);
        for (left, is_lost) in [(member("a"), false), (member("b"), true), (Held::default(), true)] {
            let mut history = History::default();
            let added = Membership { added: true, ..Membership::default() };
            history.sets.entry(KEY).or_default().insert("a".into(), added);
            history.excuse(&member("a"), &left);
            assert_eq!(history.sets[&KEY][&Bytes::from("a")].is_promised(), !is_lost);
        }
    }

    #[test]
    fn a_string_is_excused_where_neither_the_last_value_nor_a_later_one_is_left() {
        let value = |bytes: &'static str| held(Kind::Value, "", [(1, Payload::Value(bytes.into()))]);
        for (before, left, promised) in [
            ("b", "c", Some(vec!["b", "c"])),
            ("b", "b", Some(vec!["b", "c"])),
            ("b", "a", None),
            // The last acknowledged value was gone before: there is nothing to excuse.
            ("a", "x", Some(vec!["b", "c"])),
        ] {
            let mut history = History::default();
            let written = [("a", true), ("b", true), ("c", false)];
            let written = written.map(|(bytes, acknowledged)| Value { bytes: bytes.into(), acknowledged, lost: false });
            history.strings.insert(KEY, written.to_vec());
            history.excuse(&value(before), &value(left));
            let kept = history.values_kept(&KEY).map(|values| values.into_iter().cloned().collect::<Vec<_>>());
            assert_eq!(kept, promised.map(|values| values.into_iter().map(Bytes::from).collect()));
        }
    }

    #[test]
    fn a_counter_is_excused_by_what_its_runs_lost_and_not_by_more() {
        let run = |counter, total: i64| held(Kind::Value, "", [(counter, Payload::Run { run: dot(1), total: total.into() })]);
        for (left, unknown) in [(run(5, 12), 0), (run(7, 20), 0), (run(3, 9), 3), (Held::default(), 12)] {
            let mut history = History::default();
            history.counters.insert(KEY, Counted { acknowledged: 12, unknown: 0 });
            history.excuse(&run(5, 12), &left);
            assert_eq!(history.counters[&KEY].unknown, unknown);
        }
    }

    #[test]
    fn a_key_that_may_expire_is_open_once_any_entry_of_it_is_lost() {
        let entries = |counters: &[u64]| held(Kind::Expiry, "", counters.iter().map(|counter| (*counter, Payload::Present)));
        for (left, is_open) in [(vec![1, 2, 3], false), (vec![1], true)] {
            let mut history = History::default();
            history.expiring.insert(KEY, Vec::new());
            history.excuse(&entries(&[1, 2]), &entries(&left));
            assert!(history.fell_back);
            assert_eq!(history.open.contains(&KEY), is_open);
        }
    }
}
