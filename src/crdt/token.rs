//! The token of RINGTIDE SIBLINGS: names exactly what its reader saw, so that RINGTIDE RESOLVE replaces that and nothing else.
//!
//! It comes back from a client, so it is judged like anything from outside: bounded, and without power beyond the row that it speaks of.
//! That is why it lists dots and not a clock: a forged clock would declare seen whatever it likes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use super::counter::Observed;
use super::dot::{Clock, Dot};
use super::encode::{read_number, write_number};
use super::number::Number;
use crate::config::MAX_TOKEN;
use crate::types::Actor;

const VERSION: u8 = 2;
/// No dot takes fewer bytes.
const SHORTEST_DOT: usize = 9;

/// What a reader saw of a string.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// The live dots of its entries.
    pub dots: BTreeSet<Dot>,
    /// How much of each counter run was in the value.
    pub observed: BTreeMap<Dot, Observed>,
}

impl Token {
    /// The dots as a clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.dots.iter().copied().collect()
    }

    /// The bytes that a client gets.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut writer = Writer::versioned(VERSION);
        writer.count(self.dots.len());
        for dot in &self.dots {
            write_dot(&mut writer, *dot);
        }
        writer.count(self.observed.len());
        for (run, observed) in &self.observed {
            write_dot(&mut writer, *run);
            writer.number(observed.upto);
            writer.byte(u8::from(matches!(observed.total, Number::Integer(_))));
            write_number(&mut writer, &observed.total);
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
        let most = bytes.len() / SHORTEST_DOT;
        let mut reader = Reader::versioned(bytes, "a token", VERSION)?;
        let mut token = Self::default();
        for _ in 0..reader.count("a token's dots", most)? {
            token.dots.insert(read_dot(&mut reader)?);
        }
        for _ in 0..reader.count("a token's runs", most)? {
            let run = read_dot(&mut reader)?;
            let upto = reader.number("the end of a run")?;
            if upto < run.counter {
                return Err(DecodeError::Invalid("a run ends before it began"));
            }
            let is_integer = reader.byte("the total of a run")? == 1;
            token.observed.insert(run, Observed { upto, total: read_number(&mut reader, is_integer)? });
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
        Token { dots: [dot(2), dot(900)].into(), observed: [(dot(2), Observed { upto: 900, total: Number::Integer(-5) })].into() }
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
        assert!(Token::from_bytes(&Bytes::from_static(b"\x02\xff\xff\xff\xff\x0f")).is_err());
    }
}
