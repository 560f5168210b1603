//! The token of RINGTIDE SIBLINGS: names exactly what its reader saw of a key, so that RINGTIDE RESOLVE replaces that and nothing else. RENAME removes
//! its source by one.
//!
//! It comes back from a client, so it is judged like anything from outside: bounded, and without power beyond the key that it speaks of.
//! That is why it lists dots and not a clock: a forged clock would declare seen whatever it likes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use super::dot::{Clock, Dot};
use super::encode::{read_number, write_number};
use super::expiry::Expiry;
use super::kind::Kind;
use super::number::Number;
use super::row::{Row, RowAddress};
use super::runs;
use super::runs::Observed;
use super::score_view::ScoreView;
use super::value::ValueView;
use crate::config::{MAX_KEY, MAX_TOKEN, MAX_VALUE};
use crate::types::Actor;

const VERSION: u8 = 3;

/// What a reader saw of a key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// The live dots of its entries.
    pub dots: BTreeSet<Dot>,
    /// How much of each counter run was in the value, row by row.
    pub observed: BTreeMap<(Kind, Bytes), BTreeMap<Dot, Observed>>,
}

/// Notes how much of a run was observed, where no more is noted already.
pub(super) fn raise(runs: &mut BTreeMap<Dot, Observed>, run: Dot, observed: Observed) {
    match runs.get(&run) {
        Some(known) if *known >= observed => {}
        _ => drop(runs.insert(run, observed)),
    }
}

impl Token {
    /// Names what shows of a row, or would if no other type did.
    pub(super) fn see(&mut self, address: &RowAddress, row: &Row, expiry: &Expiry) {
        let (dots, observed) = match address.kind {
            Kind::Expiry => return,
            Kind::Value | Kind::Field => ValueView::of(row, expiry).seen(row),
            Kind::Score => ScoreView::of(row, expiry).seen(row),
            Kind::Member | Kind::Item | Kind::Register => {
                let shows = row.iter().filter(|(_, entry)| !expiry.hides(entry));
                (shows.map(|(dot, _)| *dot).collect(), BTreeMap::new())
            }
        };
        self.dots.extend(dots);
        if !observed.is_empty() {
            self.observed.insert((address.kind, address.element.clone()), observed);
        }
    }

    /// What of a row is named: its dots, with the floors of their runs, and how much of each run goes with them.
    pub(super) fn named_in(&self, row: &Row) -> (BTreeSet<Dot>, BTreeMap<Dot, Observed>) {
        let mut named: BTreeSet<Dot> = row.keys().filter(|dot| self.dots.contains(dot)).copied().collect();
        let renewed: Vec<Dot> = runs::floors_of_removed(row, |dot| named.contains(dot)).collect();
        named.extend(renewed);
        let observed = runs::observed(row, |dot| named.contains(dot));
        (named, observed)
    }

    /// The dots as a clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.dots.iter().copied().collect()
    }

    /// The bytes that a client gets. Each dot is told by how far it lies behind the one before.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut writer = Writer::versioned(VERSION);
        let mut authors: BTreeMap<Actor, Vec<u64>> = BTreeMap::new();
        for dot in &self.dots {
            authors.entry(dot.actor).or_default().push(dot.counter);
        }
        writer.count(authors.len());
        for (actor, counters) in authors {
            writer.word(actor.0);
            writer.count(counters.len());
            let mut before = 0;
            for counter in counters {
                writer.number(counter - before);
                before = counter;
            }
        }
        writer.count(self.observed.len());
        for ((kind, element), runs) in &self.observed {
            writer.byte(*kind as u8);
            writer.bytes(element);
            writer.count(runs.len());
            for (run, observed) in runs {
                write_dot(&mut writer, *run);
                writer.number(observed.upto);
                writer.byte(u8::from(matches!(observed.total, Number::Integer(_))));
                write_number(&mut writer, &observed.total);
            }
        }
        writer.into_bytes().into()
    }

    /// Reads what a client brought.
    ///
    /// # Errors
    /// Where it is no token.
    pub fn from_bytes(bytes: &Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_TOKEN {
            return Err(DecodeError::Limit { what: "a token's bytes", found: bytes.len() as u64, limit: MAX_TOKEN });
        }
        // Whatever is counted takes a byte at least.
        let most = bytes.len();
        let mut reader = Reader::versioned(bytes, "a token", VERSION)?;
        let mut token = Self::default();
        for _ in 0..reader.count("a token's authors", most)? {
            let (actor, mut counter) = (Actor(reader.word("a dot's actor")?), 0u64);
            for _ in 0..reader.count("a token's dots", most)? {
                let step = reader.number("a dot's counter")?;
                counter = counter.checked_add(step).filter(|_| step > 0).ok_or(DecodeError::Number("a dot's counter"))?;
                token.dots.insert(Dot { actor, counter });
            }
        }
        for _ in 0..reader.count("a token's rows", most)? {
            let tag = reader.byte("a row's kind")?;
            let kind = Kind::of(tag).filter(|kind| kind.counts()).ok_or(DecodeError::Tag { what: "kind of a row that counts", tag })?;
            let element = reader.bytes("a row's element", if kind.has_elements() { MAX_VALUE.max(MAX_KEY) } else { 0 })?;
            let runs = token.observed.entry((kind, element)).or_default();
            for _ in 0..reader.count("a row's runs", most)? {
                let run = read_dot(&mut reader)?;
                let upto = reader.number("the end of a run")?;
                if upto < run.counter {
                    return Err(DecodeError::Invalid("a run ends before it began"));
                }
                let is_integer = reader.byte("the total of a run")? == 1;
                let total = read_number(&mut reader, is_integer)?;
                if !total.fits(kind) {
                    return Err(DecodeError::Invalid("a total does not fit its row"));
                }
                runs.insert(run, Observed { upto, total });
            }
        }
        reader.finish()?;
        Ok(token)
    }
}

fn write_dot(writer: &mut Writer, dot: Dot) {
    writer.word(dot.actor.0);
    writer.number(dot.counter);
}

fn read_dot(reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
    let actor = Actor(reader.word("a dot's actor")?);
    let counter = reader.number("a dot's counter")?;
    if counter == 0 { Err(DecodeError::Invalid("a dot's counter is 0")) } else { Ok(Dot { actor, counter }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let dot = |counter| Dot { actor: Actor(7), counter };
        Token {
            dots: [dot(2), dot(900)].into(),
            observed: [((Kind::Field, "f".into()), [(dot(2), Observed { upto: 900, total: Number::Integer(-5) })].into())].into(),
        }
    }

    #[test]
    fn a_token_survives_its_bytes() {
        assert_eq!(Token::from_bytes(&token().to_bytes()), Ok(token()));
        assert_eq!(Token::from_bytes(&Token::default().to_bytes()), Ok(Token::default()));
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let bytes = token().to_bytes();
        for length in 0..bytes.len() {
            assert!(Token::from_bytes(&bytes.slice(..length)).is_err(), "cut at {length}");
        }
        assert!(Token::from_bytes(&[bytes.as_ref(), b"x"].concat().into()).is_err());
        assert!(Token::from_bytes(&Bytes::from_static(b"\x01\x00\x00")).is_err());
        assert!(Token::from_bytes(&Bytes::from_static(b"\x03\xff\xff\xff\xff\x0f")).is_err());
    }
}
