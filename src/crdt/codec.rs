//! The bricks of every binary format: numbers, signed numbers, byte strings.
//!
//! There is exactly one way to write each value, and a reader accepts no other: a number ends in its shortest form
//! (`0x80 0x00` is not zero), nothing may follow the last field. So two replicas that hold equal rows hold equal bytes, and may compare
//! hashes of them. Numbers are LEB128, seven bits a byte, the lowest first: 300 is `0xac 0x02`. Signed numbers are zigzagged
//! before (0, -1, 1, -2 …), so that small ones stay short on both sides of zero.
//!
//! A reader trusts no length. It hands out slices of the bytes that it was given, so what a claim costs is never more than what was sent.

use bytes::Bytes;

/// Why bytes are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("the bytes end in the middle of {0}")]
    Truncated(&'static str),
    /// Bytes follow the last field.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
    /// A number has a longer form than it needs, or does not fit its range.
    #[error("{0} is not a number in its shortest form, or out of range")]
    Number(&'static str),
    /// Bytes of a version that is not known.
    #[error("version {found} of {what} is not known (expected {expected})")]
    Version {
        /// Of what.
        what: &'static str,
        /// The version that stands there.
        found: u8,
        /// The one that this program reads.
        expected: u8,
    },
    /// A tag that names nothing.
    #[error("{tag} is no {what}")]
    Tag {
        /// What it should name.
        what: &'static str,
        /// What stands there.
        tag: u8,
    },
    /// Longer, or more of them, than allowed.
    #[error("{what}: {found} exceed the limit of {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many stand there.
        found: u64,
        /// How many are allowed.
        limit: usize,
    },
    /// Not the one form in which this value is written, or a value that cannot be.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Appends fields to one growing vector.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer whose first byte is the version of what follows.
    #[must_use]
    pub fn versioned(version: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(version);
        Self { bytes }
    }

    /// A writer with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Eight bytes, the highest first: for numbers that are mostly large, as random or time-based ones are.
    pub fn word(&mut self, word: u64) {
        self.bytes.extend_from_slice(&word.to_be_bytes());
    }

    /// A number in its shortest form: 1 byte below 128.
    pub fn number(&mut self, number: u64) {
        self.wide(u128::from(number));
    }

    /// A count or length.
    pub fn count(&mut self, count: usize) {
        self.wide(count as u128);
    }

    /// A signed number: 1 byte from -64 to 63.
    pub fn signed(&mut self, number: i128) {
        self.wide(((number << 1) ^ (number >> 127)).cast_unsigned());
    }

    /// A byte string behind its length.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// What was written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn wide(&mut self, mut number: u128) {
        loop {
            let low = number.to_le_bytes()[0] & 0x7f;
            number >>= 7;
            if number == 0 {
                return self.bytes.push(low);
            }
            self.bytes.push(low | 0x80);
        }
    }
}

/// Takes fields off the front of some bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    source: &'a Bytes,
    position: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start of `source`.
    #[must_use]
    pub fn new(source: &'a Bytes) -> Self {
        Self { source, position: 0 }
    }

    /// Reads `source` behind its first byte, which must be this version.
    ///
    /// # Errors
    /// Where it is another, or there is none.
    pub fn versioned(source: &'a Bytes, what: &'static str, expected: u8) -> Result<Self, DecodeError> {
        let mut reader = Self::new(source);
        let found = reader.byte(what)?;
        if found == expected { Ok(reader) } else { Err(DecodeError::Version { what, found, expected }) }
    }

    /// One byte.
    ///
    /// # Errors
    /// Where there is none.
    pub fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let byte = *self.source.get(self.position).ok_or(DecodeError::Truncated(what))?;
        self.position += 1;
        Ok(byte)
    }

    /// Eight bytes, the highest first.
    ///
    /// # Errors
    /// Where there are fewer.
    pub fn word(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let rest = self.source.get(self.position..).and_then(<[u8]>::first_chunk::<8>).ok_or(DecodeError::Truncated(what))?;
        self.position += 8;
        Ok(u64::from_be_bytes(*rest))
    }

    /// A number in its shortest form.
    ///
    /// # Errors
    /// Where it is cut off, longer than need be, or over 64 bits.
    pub fn number(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        u64::try_from(self.wide(what)?).map_err(|_| DecodeError::Number(what))
    }

    /// How many of something follow.
    ///
    /// # Errors
    /// As [`Self::number`], and where it is over `limit`.
    pub fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, DecodeError> {
        let found = self.number(what)?;
        usize::try_from(found).ok().filter(|count| *count <= limit).ok_or(DecodeError::Limit { what, found, limit })
    }

    /// A signed number.
    ///
    /// # Errors
    /// Where it is cut off, longer than need be, or over 128 bits.
    pub fn signed(&mut self, what: &'static str) -> Result<i128, DecodeError> {
        let folded = self.wide(what)?;
        Ok((folded >> 1).cast_signed() ^ -((folded & 1).cast_signed()))
    }

    /// A byte string behind its length: a slice of the source, not a copy.
    ///
    /// # Errors
    /// Where it is cut off or over `limit`.
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<Bytes, DecodeError> {
        let length = self.count(what, limit)?;
        let end = self.position.checked_add(length).filter(|end| *end <= self.source.len()).ok_or(DecodeError::Truncated(what))?;
        let slice = self.source.slice(self.position..end);
        self.position = end;
        Ok(slice)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.source.len() - self.position
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Where bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        let left = self.left();
        if left == 0 { Ok(()) } else { Err(DecodeError::Trailing(left)) }
    }

    fn wide(&mut self, what: &'static str) -> Result<u128, DecodeError> {
        let mut number = 0u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u128::from(byte & 0x7f);
            // The nineteenth byte holds the last two of 128 bits.
            if shift == 126 && bits > 3 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(DecodeError::Number(what)) } else { Ok(number) };
            }
        }
        Err(DecodeError::Number(what))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(byte: u8, word: u64, number: u64, signed: i128, bytes: Vec<u8>) {
            let mut writer = Writer::versioned(3);
            writer.byte(byte);
            writer.word(word);
            writer.number(number);
            writer.signed(signed);
            writer.bytes(&bytes);
            let written = Bytes::from(writer.into_bytes());
            let mut reader = Reader::versioned(&written, "test", 3).unwrap();
            prop_assert_eq!(reader.byte("byte"), Ok(byte));
            prop_assert_eq!(reader.word("word"), Ok(word));
            prop_assert_eq!(reader.number("number"), Ok(number));
            prop_assert_eq!(reader.signed("signed"), Ok(signed));
            prop_assert_eq!(reader.bytes("bytes", 1 << 20), Ok(Bytes::from(bytes)));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn whatever_is_read_as_a_number_is_written_the_same(bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()], 0..22)) {
            let source = Bytes::from(bytes);
            let mut reader = Reader::new(&source);
            if let Ok(number) = reader.signed("number") {
                let mut writer = Writer::new();
                writer.signed(number);
                prop_assert_eq!(writer.as_slice(), &source[..reader.position]);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_take_nineteen_bytes() {
        for number in [i128::MIN, i128::MAX] {
            let mut writer = Writer::new();
            writer.signed(number);
            assert_eq!(writer.as_slice().len(), 19);
            assert_eq!(Reader::new(&Bytes::copy_from_slice(writer.as_slice())).signed("number"), Ok(number));
        }
    }

    #[test]
    fn refusals_name_what_is_wrong() {
        let number = |bytes: &'static [u8]| Reader::new(&Bytes::from_static(bytes)).number("length");
        assert_eq!(number(&[0x80]), Err(DecodeError::Truncated("length")));
        assert_eq!(number(&[0x80, 0x00]), Err(DecodeError::Number("length")));
        assert_eq!(number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), Err(DecodeError::Number("length")));
        assert_eq!(number(&[0xff; 30]), Err(DecodeError::Number("length")));
        let claim = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1]);
        assert_eq!(Reader::new(&claim).bytes("value", 9), Err(DecodeError::Limit { what: "value", found: 0xffff_ffff, limit: 9 }));
        assert_eq!(Reader::new(&claim).bytes("value", usize::MAX), Err(DecodeError::Truncated("value")));
        assert_eq!(Reader::new(&claim).finish(), Err(DecodeError::Trailing(6)));
        assert_eq!(Reader::versioned(&claim, "row", 1).unwrap_err().to_string(), "version 255 of row is not known (expected 1)");
    }
}
