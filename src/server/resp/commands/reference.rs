//! What Redis tells of its commands beside what the table has, for COMMAND INFO, COMMAND DOCS and COMMAND GETKEYS. It is kept as text, a paragraph a command,
//! whose head says how to read it: `reference.txt`.
//!
//! ```text
//! lmpop
//!   cost O(N+M) where …
//!   keys RW access delete; index 1; keynum 0 1 1
//!   asks numkeys:integer key:key@0* where:oneof(left=LEFT right=RIGHT) count:integer=COUNT?
//! ```
//!
//! Commands of our own, and those of later versions of Redis, have none.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use bytes::Bytes;

use super::options::is;
use crate::server::resp::integer::parse_integer;

/// What there is to know of a command.
#[derive(Default)]
pub(super) struct Reference {
    /// Its categories without their `@`; none where its flags and its family imply them.
    pub(super) categories: Vec<&'static str>,
    /// How long it takes.
    pub(super) cost: Option<&'static str>,
    /// Since when it is deprecated, and what to use instead.
    pub(super) gone: Option<(&'static str, &'static str)>,
    /// Something for those who route commands.
    pub(super) hints: Vec<&'static str>,
    /// Where its keys are.
    pub(super) keys: Vec<KeyRow>,
    /// Its arguments, to be read by [`arguments`].
    pub(super) arguments: Option<&'static str>,
}

/// Where some keys of a command are.
pub(super) struct KeyRow {
    /// What happens to them.
    pub(super) flags: Vec<&'static str>,
    /// Where they begin.
    pub(super) begin: Begin,
    /// How to go on.
    pub(super) find: Find,
    /// What is to be known besides.
    pub(super) notes: Option<&'static str>,
}

/// Where keys begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Begin {
    /// At this place of the line.
    Index(i64),
    /// Behind this word, which stands at this place or behind it; a negative place counts from the end, and the word stands before.
    Keyword(&'static str, i64),
    /// It depends on what the arguments say.
    Unknown,
}

/// How to go on from the first key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Find {
    /// The last one, counted from the first, or negative from the end; from one to the next; and of the rest only one in so many.
    Range(i64, i64, i64),
    /// Where their number stands, counted from the beginning; the first key, likewise; and from one to the next.
    Counted(i64, i64, i64),
    /// It depends on what the arguments say.
    Unknown,
}

static REFERENCES: LazyLock<BTreeMap<&'static str, Reference>> = LazyLock::new(|| read(include_str!("reference.txt")));

/// What there is to know of a command such as `get` or `client|id`.
pub(super) fn of(name: &str) -> Option<&'static Reference> {
    REFERENCES.get(name)
}

fn read(text: &'static str) -> BTreeMap<&'static str, Reference> {
    let mut references = BTreeMap::new();
    let mut name = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some((sort, rest)) = line.strip_prefix("  ").and_then(|line| line.split_once(' ')) else {
            name = line;
            references.insert(name, Reference::default());
            continue;
        };
        let reference = references.entry(name).or_default();
        match sort {
            "acls" => reference.categories = rest.split(' ').collect(),
            "cost" => reference.cost = Some(rest),
            "gone" => reference.gone = rest.split_once(' '),
            "hint" => reference.hints.push(rest),
            "keys" => reference.keys.extend(key_row(rest)),
            _ => reference.arguments = Some(rest),
        }
    }
    references
}

fn key_row(text: &'static str) -> Option<KeyRow> {
    let mut parts = text.splitn(4, "; ");
    let flags = parts.next()?.split(' ').collect();
    let number = |text: &str| parse_integer(text.as_bytes());
    let begin = match parts.next()?.split(' ').collect::<Vec<_>>()[..] {
        ["index", place] => Begin::Index(number(place)?),
        ["keyword", word, place] => Begin::Keyword(word, number(place)?),
        _ => Begin::Unknown,
    };
    let find = match parts.next()?.split(' ').collect::<Vec<_>>()[..] {
        ["range", last, step, limit] => Find::Range(number(last)?, number(step)?, number(limit)?),
        ["keynum", place, first, step] => Find::Counted(number(place)?, number(first)?, number(step)?),
        _ => Find::Unknown,
    };
    Some(KeyRow { flags, begin, find, notes: parts.next() })
}

/// Keys of a command line, and what happens to each; `None` where the line makes no sense.
pub(super) type Keys = Option<Vec<(Bytes, Vec<&'static str>)>>;

impl Reference {
    /// Whether it names keys at all.
    pub(super) fn has_keys(&self) -> bool {
        self.keys.iter().any(KeyRow::is_of_keys)
    }

    /// The keys of a line, of this command.
    pub(super) fn keys_of(&self, line: &[Bytes]) -> Keys {
        let mut keys = Vec::new();
        for row in self.keys.iter().filter(|row| row.is_of_keys()) {
            if row.begin == Begin::Unknown {
                keys.extend(row.stored(line));
                continue;
            }
            let is_word = matches!(row.begin, Begin::Keyword(..));
            let Some(first) = row.begin.place(line) else { continue };
            // Keys behind a word take the place of one that was only named to be there.
            keys.retain(|(key, _): &(Bytes, _)| !is_word || !key.is_empty());
            keys.extend(row.find.places(line, first)?.map(|place| (line[place].clone(), row.flags_of(line))));
        }
        Some(keys)
    }
}

impl Begin {
    fn place(self, line: &[Bytes]) -> Option<usize> {
        match self {
            Self::Index(place) => usize::try_from(place).ok(),
            Self::Keyword(word, from) if from >= 0 => {
                let from = usize::try_from(from).ok()?;
                (from..line.len()).find(|place| is(&line[*place], word)).map(|place| place + 1)
            }
            Self::Keyword(word, from) => {
                let from = line.len().checked_sub(usize::try_from(from.unsigned_abs()).ok()?)?;
                (1..=from).rev().find(|place| is(&line[*place], word)).map(|place| place + 1)
            }
            Self::Unknown => None,
        }
    }
}

impl Find {
    /// The places of the keys; `None` where there are none, or not all of them are there.
    fn places(self, line: &[Bytes], first: usize) -> Option<std::iter::StepBy<RangeInclusive<usize>>> {
        let (first, end) = (i64::try_from(first).ok()?, i64::try_from(line.len()).ok()?);
        let (first, last, step) = match self {
            Self::Range(last, step, _) if last >= 0 => (first, first + last, step),
            Self::Range(last, step, 0) => (first, end + last, step),
            Self::Range(last, step, limit) => (first, first + (end - first) / limit + last, step),
            Self::Counted(place, behind, step) => {
                let count = line.get(usize::try_from(first + place).ok()?).and_then(|count| parse_integer(count))?;
                (first + behind, (first + behind).checked_add(count)? - 1, step)
            }
            Self::Unknown => return None,
        };
        if last < first || last >= end {
            return None;
        }
        Some((usize::try_from(first).ok()?..=usize::try_from(last).ok()?).step_by(usize::try_from(step).ok()?))
    }
}

impl KeyRow {
    /// Whether it is about keys, and not about channels that are placed like keys.
    fn is_of_keys(&self) -> bool {
        !self.flags.contains(&"not_key")
    }

    /// The key behind the last STORE, which only SORT may have anywhere.
    fn stored(&self, line: &[Bytes]) -> Option<(Bytes, Vec<&'static str>)> {
        let place = (2..line.len()).rev().find(|place| is(&line[*place], "store"))?;
        let key = line.get(place + 1).filter(|_| self.flags.contains(&"OW"))?;
        Some((key.clone(), self.flags.clone()))
    }

    /// What happens to the keys where that depends on the arguments, too.
    fn flags_of(&self, line: &[Bytes]) -> Vec<&'static str> {
        let has = |word| line.iter().skip(2).any(|argument| is(argument, word));
        let is_variable = self.flags.contains(&"variable_flags");
        match () {
            () if is_variable && is(&line[0], "set") && !has("get") => vec!["OW", "update"],
            () if is_variable && is(&line[0], "bitfield") && !has("set") && !has("incrby") => vec!["RO", "access"],
            () => self.flags.iter().filter(|flag| !["variable_flags", "incomplete"].contains(flag)).copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(line: &str) -> Option<Vec<String>> {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        let keys = of(&line.split(' ').next().unwrap_or_default().to_lowercase()).unwrap().keys_of(&words)?;
        Some(keys.into_iter().map(|(key, flags)| format!("{} {}", String::from_utf8_lossy(&key), flags.join(" "))).collect())
    }

    #[test]
    fn whatever_is_told_is_told_of_a_command() {
        let names: Vec<String> = super::super::full_names().collect();
        for name in REFERENCES.keys() {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        let lines = include_str!("reference.txt").lines().filter(|line| line.starts_with("  keys ")).count();
        assert_eq!(REFERENCES.values().map(|reference| reference.keys.len()).sum::<usize>(), lines);
    }

    #[test]
    fn keys_are_counted_searched_for_and_told_by_what_happens_to_them() {
        for (line, expected) in [
            ("LMPOP 2 a b LEFT", Some(&["a RW access delete", "b RW access delete"][..])),
            ("LMPOP 3 a b", None),
            ("LMPOP x a b", None),
            ("LMPOP 0 a LEFT", None),
            ("ZUNIONSTORE t 1 a WEIGHTS 2", Some(&["t OW update", "a RO access"])),
            ("MSET a 1 b 2", Some(&["a OW update", "b OW update"])),
            ("BLPOP a b 0", Some(&["a RW access delete", "b RW access delete"])),
            ("MIGRATE h 1 a 0 9", Some(&["a RW access delete"])),
            ("MIGRATE h 1  0 9 COPY KEYS a b", Some(&["a RW access delete", "b RW access delete"])),
            ("GEORADIUS a 1 1 1 m", Some(&["a RO access"])),
            ("GEORADIUS a 1 1 1 m STORE t", Some(&["a RO access", "t OW update"])),
            ("SORT a BY b LIMIT 0 1 STORE t", Some(&["a RO access", "t OW update"])),
            ("SORT a STORE", Some(&["a RO access"])),
            ("SPUBLISH a message", Some(&[])),
            ("SET a 1", Some(&["a OW update"])),
            ("SET a 1 GET", Some(&["a RW access update"])),
            ("BITFIELD a GET u8 0", Some(&["a RO access"])),
            ("BITFIELD a SET u8 0 1", Some(&["a RW access update"])),
        ] {
            assert_eq!(
                keys(line).as_deref(),
                expected.map(|keys| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()).as_deref(),
                "{line}"
            );
        }
    }
}
