//! Numbers and strings of a payload, each as Redis writes it.
//!
//! ```text
//! 00nnnnnn                 a length of 6 bits            11000000 + 1 byte           a string that is an integer
//! 01nnnnnn nnnnnnnn        of 14 bits                    11000001 + 2, 11000010 + 4  likewise
//! 10000000 + 4 bytes       of 32 bits                    11000011 + two lengths      a string behind LZF
//! 10000001 + 8 bytes       of 64 bits
//! ```
//!
//! Lengths begin with the greatest byte, integers with the least.

use bytes::{Buf, Bytes};

use super::budget::Budget;
use super::{DumpError, lzf};

/// Bytes that are still to be read.
pub(super) struct Reader(Bytes);

/// A length, or in what special form a string follows.
enum Length {
    Of(u64),
    Special(u8),
}

impl Reader {
    /// Reads these bytes from their beginning.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next bytes, so many.
    ///
    /// # Errors
    /// Where there are fewer, as with all that follow.
    pub(super) fn take(&mut self, length: usize) -> Result<Bytes, DumpError> {
        if length > self.0.len() {
            return Err(DumpError::Malformed);
        }
        Ok(self.0.split_to(length))
    }

    /// The next bytes, a number of them that the caller knows.
    pub(super) fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], DumpError> {
        let array = *self.0.first_chunk::<LENGTH>().ok_or(DumpError::Malformed)?;
        self.0.advance(LENGTH);
        Ok(array)
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, DumpError> {
        self.array().map(|[byte]| byte)
    }

    /// A length or a count.
    pub(super) fn length(&mut self) -> Result<u64, DumpError> {
        match self.any_length()? {
            Length::Of(length) => Ok(length),
            Length::Special(_) => Err(DumpError::Malformed),
        }
    }

    fn any_length(&mut self) -> Result<Length, DumpError> {
        let first = self.byte()?;
        let six = first & 0x3f;
        Ok(match first >> 6 {
            0 => Length::Of(u64::from(six)),
            1 => Length::Of(u64::from(u16::from_be_bytes([six, self.byte()?]))),
            2 => match six {
                0 => Length::Of(u64::from(u32::from_be_bytes(self.array()?))),
                1 => Length::Of(u64::from_be_bytes(self.array()?)),
                _ => return Err(DumpError::Malformed),
            },
            _ => Length::Special(six),
        })
    }

    /// A string.
    pub(super) fn string(&mut self, budget: &mut Budget) -> Result<Bytes, DumpError> {
        Ok(match self.any_length()? {
            Length::Of(length) => self.take(usize::try_from(length).map_err(|_| DumpError::Malformed)?)?,
            Length::Special(0) => text(i64::from(i8::from_le_bytes(self.array()?))),
            Length::Special(1) => text(i64::from(i16::from_le_bytes(self.array()?))),
            Length::Special(2) => text(i64::from(i32::from_le_bytes(self.array()?))),
            Length::Special(3) => {
                let (packed, length) = (self.length()?, self.length()?);
                let packed = self.take(usize::try_from(packed).map_err(|_| DumpError::Malformed)?)?;
                lzf::unpack(&packed, budget.unpack(length)?).ok_or(DumpError::Malformed)?.into()
            }
            Length::Special(_) => return Err(DumpError::Malformed),
        })
    }
}

/// An integer as the string that it stands for.
pub(super) fn text(number: i64) -> Bytes {
    number.to_string().into()
}
