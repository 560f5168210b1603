//! What happened, in words.

use std::fmt::Write as _;

use ringtide::crdt::delta::{Delta, Payload, RowAddress, Scope};
use ringtide::crdt::dot::Dot;

/// A delta in one line.
pub(super) fn describe(delta: &Delta) -> String {
    let row = |address: &RowAddress| format!("{:?} {:?} {:?}", address.key, address.kind, address.element);
    let name = |dot: &Dot| format!("{}.{}", dot.actor.0, dot.counter);
    let mut text = String::new();
    for replaced in &delta.replaces {
        let _ = match &replaced.scope {
            Scope::Row(address) => write!(text, "replaces {} ", row(address)),
            Scope::Key(key) => write!(text, "replaces {key:?} "),
        };
        if !replaced.keeps.is_empty() {
            let _ = write!(text, "keeps {:?} ", replaced.keeps.iter().map(name).collect::<Vec<_>>());
        }
    }
    for (address, dot) in &delta.removes {
        let _ = write!(text, "- {} ({}) ", name(dot), row(address));
    }
    for (address, dot, entry) in &delta.adds {
        let _ = match &entry.payload {
            Payload::Floor { run, upto, .. } => write!(text, "+ {} ({}) floor of {} to {upto} ", name(dot), row(address), name(run)),
            Payload::Run { run, total } => write!(text, "+ {} ({}) run {} {total} ", name(dot), row(address), name(run)),
            _ => write!(text, "+ {} ({}) ", name(dot), row(address)),
        };
    }
    text
}
