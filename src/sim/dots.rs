//! Whether dots are unique: over a whole run, a dot of a partition names one entry at one address and nothing else, ever.
//!
//! Everything else stands on this: *seen and not live means deleted* holds only where a dot that was seen is never given to another write.
//! A dot that is minted twice loses a write far away and much later, so it is looked for directly: in every delta and every row that
//! travels, whether it arrives or not, and on every disk at the end.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::storage::SimDisk;
use crate::crdt::delta::{Delta, Entry, Row, RowAddress};
use crate::crdt::dot::Dot;
use crate::crdt::encode;
use crate::env::message::{Message, RangeContent, Reply, Request};
use crate::replica::layout;
use crate::types::{Partition, Place};

/// Every dot of a run with what was written under it.
pub struct Dots {
    partitions: u16,
    written: BTreeMap<(Partition, Dot), (RowAddress, Entry)>,
    /// The first dot that was met with two meanings, in words.
    violation: Option<String>,
    /// The last frame looked at: the same one mostly goes to several peers.
    last: Bytes,
}

impl Dots {
    /// Of a key space of so many partitions.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        Self { partitions, written: BTreeMap::new(), violation: None, last: Bytes::new() }
    }

    /// The first dot that stands for two writes, with both.
    #[must_use]
    pub fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Takes note of what a frame carries.
    pub fn see_frame(&mut self, frame: &Bytes) {
        if std::ptr::eq(frame.as_ptr(), self.last.as_ptr()) && frame.len() == self.last.len() {
            return;
        }
        self.last = frame.clone();
        match Message::from_frame(frame) {
            Ok(Message::Deltas { deltas, .. }) => deltas.iter().for_each(|sent| self.see_delta(&sent.delta)),
            Ok(Message::Request { request, .. }) => {
                if let Request::Deliver(deltas) = &*request {
                    deltas.iter().for_each(|sent| self.see_delta(&sent.delta));
                }
            }
            Ok(Message::Reply { reply, .. }) => match &*reply {
                Reply::Rows(answers) => answers.iter().for_each(|(_, there)| self.see_rows(&there.rows)),
                Reply::Page(page) => self.see_rows(&page.rows),
                Reply::Ranges(contents) => {
                    for content in contents {
                        if let RangeContent::Rows(there) = content {
                            self.see_rows(&there.rows);
                        }
                    }
                }
                _ => {}
            },
            Ok(Message::Heartbeat { .. } | Message::Members(_) | Message::Acknowledge { .. }) | Err(_) => {}
        }
    }

    /// Takes note of every row of a disk.
    pub fn see_disk(&mut self, disk: &SimDisk) {
        disk.visit(b"r", b"s", &mut |row_key, value| {
            let row = layout::parse_row(row_key, &Bytes::copy_from_slice(value)).ok();
            if let Some((address, Ok(row))) = row.map(|(address, content)| (address, encode::row_from_bytes(&content))) {
                self.see_row(&address, &row);
            }
            ControlFlow::Continue(())
        });
    }

    fn see_delta(&mut self, delta: &Delta) {
        delta.adds.iter().for_each(|(address, dot, entry)| self.see(address, *dot, entry));
    }

    fn see_rows(&mut self, rows: &BTreeMap<RowAddress, Row>) {
        rows.iter().for_each(|(address, row)| self.see_row(address, row));
    }

    fn see_row(&mut self, address: &RowAddress, row: &Row) {
        row.iter().for_each(|(dot, entry)| self.see(address, *dot, entry));
    }

    fn see(&mut self, address: &RowAddress, dot: Dot, entry: &Entry) {
        let partition = Place::of(&address.key, self.partitions).partition;
        match self.written.entry((partition, dot)) {
            Slot::Vacant(slot) => {
                slot.insert((address.clone(), entry.clone()));
            }
            Slot::Occupied(known) => {
                let (known_address, known_entry) = known.get();
                if (known_address, known_entry) != (address, entry) && self.violation.is_none() {
                    self.violation = Some(format!(
                        "{dot:?} of partition {partition} names two writes: {known_entry:?} at {known_address:?} and {entry:?} at {address:?}"
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crdt::delta::Payload;
    use crate::env::message::Sent;
    use crate::types::{Actor, Timestamp};

    fn frame(key: &'static str, counter: u64, timestamp: u64) -> Bytes {
        let address = RowAddress::value(&Bytes::from_static(key.as_bytes()));
        let entry = Entry {
            timestamp: Timestamp(timestamp),
            decision: None,
            field_decision: None,
            payload: Payload::Value(Bytes::from_static(b"v")),
        };
        let delta = Delta { adds: vec![(address, Dot { actor: Actor(1), counter }, entry)], ..Delta::default() };
        Message::Deltas { frame: 1, ring: 0, deltas: vec![Sent { partition: Partition(0), delta, hint_for: None }] }.to_frame()
    }

    #[test]
    fn one_dot_names_one_entry_at_one_address() {
        for (again, is_wrong) in [(frame("k", 1, 5), false), (frame("k", 2, 6), false), (frame("k", 1, 6), true), (frame("l", 1, 5), true)]
        {
            let mut dots = Dots::new(1);
            dots.see_frame(&frame("k", 1, 5));
            dots.see_frame(&again);
            assert_eq!(dots.violation().is_some(), is_wrong, "{:?}", dots.violation());
        }
    }

    #[test]
    fn partitions_count_for_themselves() {
        let mut dots = Dots::new(u16::MAX);
        dots.see_frame(&frame("k", 1, 5));
        dots.see_frame(&frame("l", 1, 5));
        assert_eq!((dots.violation(), dots.written.len()), (None, 2));
    }
}
