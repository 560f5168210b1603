//! Strings as rows of bits: bit 0 is the highest of the first byte. What lies behind the end counts as zeros.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use crate::config::MAX_VALUE;

/// A number of so many bits within a string.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Field {
    /// Whether it is signed, in two's complement.
    pub signed: bool,
    /// How many bits: 1 to 64 where it is signed, else 1 to 63.
    pub bits: u8,
    /// Its first bit.
    pub offset: u64,
}

/// What becomes of a number that does not fit its field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Overflow {
    /// Its lowest bits stay.
    #[default]
    Wrap,
    /// It stops at the end of the range.
    Saturate,
    /// Nothing is changed.
    Fail,
}

/// What to do with a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Change {
    /// Read it.
    Get,
    /// Write it. Answers with what it was.
    Set(i64),
    /// Add to it. Answers with the sum.
    Add(i64),
}

/// One step of BITFIELD.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FieldChange {
    /// Where.
    pub field: Field,
    /// What.
    pub change: Change,
    /// What becomes of a number that does not fit.
    pub overflow: Overflow,
}

/// How several strings are made into one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combination {
    /// The bits that are set in all.
    And,
    /// The bits that are set in any.
    Or,
    /// The bits that are set in an odd number of them.
    Xor,
    /// The bits that are not set in the one.
    Not,
}

impl Field {
    /// The range of its numbers.
    fn range(self) -> (i128, i128) {
        if self.signed { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) }
    }

    /// The number that its lowest bits are.
    fn wrapped(self, number: i128) -> i128 {
        let low = number & ((1 << self.bits) - 1);
        if self.signed && low >> (self.bits - 1) == 1 { low - (1 << self.bits) } else { low }
    }

    fn read(self, bytes: &[u8]) -> i128 {
        self.wrapped((0..u64::from(self.bits)).fold(0, |number, bit| number << 1 | i128::from(get(bytes, self.offset.saturating_add(bit)))))
    }

    /// Writes a number into bytes that are long enough.
    fn write(self, bytes: &mut [u8], number: i128) {
        for bit in 0..self.bits {
            let offset = self.offset + u64::from(bit);
            let mask = 0x80 >> (offset % 8);
            if let Some(byte) = usize::try_from(offset / 8).ok().and_then(|index| bytes.get_mut(index)) {
                *byte = if number >> (self.bits - 1 - bit) & 1 == 1 { *byte | mask } else { *byte & !mask };
            }
        }
    }

    /// How long a string must be to hold it, in bytes.
    fn end(self) -> u64 {
        self.offset.saturating_add(u64::from(self.bits)).div_ceil(8)
    }
}

/// One bit.
#[must_use]
pub fn get(bytes: &[u8], offset: u64) -> bool {
    usize::try_from(offset / 8).ok().and_then(|index| bytes.get(index)).is_some_and(|byte| byte >> (7 - offset % 8) & 1 == 1)
}

/// A string with a part of it written over, padded with zeros up to there.
///
/// # Errors
/// Where it would exceed the limit of a value.
pub fn overwritten(bytes: &[u8], offset: u64, part: &[u8]) -> Result<Vec<u8>, Refusal> {
    let start = usize::try_from(offset).map_err(|_| Refusal::TooBig)?;
    let end = start.checked_add(part.len()).filter(|end| *end <= MAX_VALUE).ok_or(Refusal::TooBig)?;
    let mut changed = bytes.to_vec();
    changed.resize(end.max(bytes.len()), 0);
    changed[start..end].copy_from_slice(part);
    Ok(changed)
}

/// A string after changes of its fields, one after the other, and the answer to each; `None` where it failed. It is made as long as what is written
/// needs, even where that fails.
///
/// # Errors
/// Where it would exceed the limit of a value.
pub fn changed(bytes: &[u8], changes: &[FieldChange]) -> Result<(Vec<Option<i64>>, Vec<u8>), Refusal> {
    let ends = changes.iter().filter(|change| change.change != Change::Get).map(|change| change.field.end());
    let length = usize::try_from(ends.max().unwrap_or(0)).map_err(|_| Refusal::TooBig)?.max(bytes.len());
    if length > MAX_VALUE {
        return Err(Refusal::TooBig);
    }
    let mut changed = bytes.to_vec();
    changed.resize(length, 0);
    let answers = changes.iter().map(|change| change.carry_out(&mut changed)).collect();
    Ok((answers, changed))
}

impl FieldChange {
    fn carry_out(&self, bytes: &mut [u8]) -> Option<i64> {
        let Self { field, change, overflow } = self;
        let old = field.read(bytes);
        let wanted = match change {
            Change::Get => return i64::try_from(old).ok(),
            // Redis takes a negative number for a large one where the field has no sign.
            Change::Set(number) if !field.signed => i128::from(number.cast_unsigned()),
            Change::Set(number) => i128::from(*number),
            Change::Add(number) => old + i128::from(*number),
        };
        let (least, greatest) = field.range();
        let new = match overflow {
            Overflow::Fail if wanted < least || wanted > greatest => return None,
            Overflow::Saturate => wanted.clamp(least, greatest),
            Overflow::Fail | Overflow::Wrap => field.wrapped(wanted),
        };
        field.write(bytes, new);
        i64::try_from(if matches!(change, Change::Set(_)) { old } else { new }).ok()
    }
}

/// How many bits are set from one to another, both included.
#[must_use]
pub fn count(bytes: &[u8], first: u64, last: u64) -> u64 {
    let whole = |from: u64, to: u64| {
        let range = usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX);
        bytes.get(range).unwrap_or_default().iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
    };
    let single = |from: u64, to: u64| (from..to).filter(|bit| get(bytes, *bit)).count() as u64;
    let end = last.saturating_add(1).min(8 * bytes.len() as u64);
    let (from, to) = (first.div_ceil(8), end / 8);
    if from > to { single(first, end) } else { single(first, 8 * from) + whole(from, to) + single(8 * to, end) }
}

/// The first bit that is set, or is not, from one to another, both included.
#[must_use]
pub fn find(bytes: &[u8], bit: bool, first: u64, last: u64) -> Option<u64> {
    let end = last.saturating_add(1).min(8 * bytes.len() as u64);
    let empty = if bit { 0x00 } else { 0xff };
    let mut offset = first;
    while offset < end {
        let byte = usize::try_from(offset / 8).ok().and_then(|index| bytes.get(index));
        if offset.is_multiple_of(8) && byte == Some(&empty) {
            offset += 8;
        } else if get(bytes, offset) == bit {
            return Some(offset);
        } else {
            offset += 1;
        }
    }
    None
}

/// Makes several strings into one as long as the longest.
#[must_use]
pub fn combine(combination: Combination, strings: &[Bytes]) -> Bytes {
    let length = strings.iter().map(Bytes::len).max().unwrap_or(0);
    let mut strings = strings.iter();
    let mut result = strings.next().map(|first| first.to_vec()).unwrap_or_default();
    result.resize(length, 0);
    for string in strings {
        let padded = string.iter().copied().chain(std::iter::repeat(0));
        for (byte, other) in result.iter_mut().zip(padded) {
            match combination {
                Combination::And => *byte &= other,
                Combination::Or => *byte |= other,
                Combination::Xor | Combination::Not => *byte ^= other,
            }
        }
    }
    if combination == Combination::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    result.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::outcome::Answer;
    use super::super::string;
    use super::super::testing::{Replica, bytes as text_bytes, set, settle};
    use super::*;

    proptest! {
        #[test]
        fn counting_and_finding_are_what_looking_at_each_bit_gives(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(0xff), any::<u8>()], 0..9), first in 0..80u64, last in 0..80u64, bit: bool,
        ) {
            let bits: Vec<u64> = (first..=last).filter(|offset| *offset < 8 * bytes.len() as u64).collect();
            prop_assert_eq!(count(&bytes, first, last), bits.iter().filter(|offset| get(&bytes, **offset)).count() as u64);
            prop_assert_eq!(find(&bytes, bit, first, last), bits.iter().find(|offset| get(&bytes, **offset) == bit).copied());
        }

        #[test]
        fn a_field_holds_what_was_written_and_touches_nothing_else(bits in 1..=64u8, signed: bool, offset in 0..40u64, number: i64, fill: u8) {
            let field = Field { signed, bits: if signed { bits } else { bits.min(63) }, offset };
            let before = vec![fill; 14];
            let mut bytes = before.clone();
            let written = field.wrapped(number.into());
            field.write(&mut bytes, written);
            prop_assert_eq!(field.read(&bytes), written);
            let (least, greatest) = field.range();
            prop_assert!(least <= written && written <= greatest);
            for outside in (0..112).filter(|bit| *bit < offset || *bit >= offset + u64::from(field.bits)) {
                prop_assert_eq!(get(&bytes, outside), get(&before, outside));
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit_wrap_stop_or_fail() {
        let field = Field { signed: true, bits: 8, offset: 4 };
        let run = |overflow, change| {
            let (answers, bytes) = changed(&[0x07, 0xf0], &[FieldChange { field, change, overflow }]).unwrap();
            (answers, field.read(&bytes))
        };
        assert_eq!(run(Overflow::Wrap, Change::Add(2)), (vec![Some(-127)], -127));
        assert_eq!(run(Overflow::Saturate, Change::Add(2)), (vec![Some(127)], 127));
        assert_eq!(run(Overflow::Fail, Change::Add(2)), (vec![None], 127));
        assert_eq!(run(Overflow::Saturate, Change::Set(-1000)), (vec![Some(127)], -128));
    }

    #[test]
    fn nothing_grows_beyond_the_limit_and_reading_makes_nothing_longer() {
        let field = Field { signed: false, bits: 1, offset: 8 * MAX_VALUE as u64 - 1 };
        let set = |field| [FieldChange { field, change: Change::Set(0), overflow: Overflow::Wrap }];
        assert_eq!(changed(b"", &set(field)).map(|(_, bytes)| bytes.len()), Ok(MAX_VALUE));
        let beyond = Field { offset: field.offset + 1, ..field };
        assert_eq!(changed(b"", &set(beyond)), Err(Refusal::TooBig));
        assert_eq!(changed(b"abc", &[FieldChange { change: Change::Get, ..set(beyond)[0] }]), Ok((vec![Some(0)], b"abc".to_vec())));
        assert_eq!(overwritten(b"abc", 4, b"de").as_deref(), Ok(&b"abc\0de"[..]));
        assert_eq!(overwritten(b"abc", 1, b"x").as_deref(), Ok(&b"axc"[..]));
        assert_eq!(overwritten(b"", MAX_VALUE as u64, b"x"), Err(Refusal::TooBig));
    }

    #[test]
    fn rewriting_a_part_or_bits_leaves_what_the_other_side_wrote() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("one"));
        b.at(5).write(&set("two"));
        settle(&mut [&mut a, &mut b]);
        let part = |offset, text: &str| string::Mutation::SetRange { offset, value: text_bytes(text) }.into();
        let bit =
            |offset| FieldChange { field: Field { signed: false, bits: 1, offset }, change: Change::Set(1), overflow: Overflow::Wrap };
        assert_eq!((a.ask(&part(1, "W")), a.siblings().1), (Answer::Integer(3), vec!["tWo".to_owned(), "one".to_owned()]));
        let set_bit = string::Mutation::Fields(vec![bit(4 * 8 - 1)]).into();
        assert_eq!((b.ask(&set_bit), b.siblings().1), (Answer::Fields(vec![Some(0)]), vec!["two\u{1}".to_owned(), "one".to_owned()]));
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.siblings().1.len(), 3);
        assert!(a.write(&part(9, "")).is_empty());
    }

    #[test]
    fn strings_of_different_lengths_are_padded_with_zeros() {
        let strings = [Bytes::from_static(b"\xf0\x0f"), Bytes::from_static(b"\xff")];
        assert_eq!(&combine(Combination::And, &strings)[..], b"\xf0\x00");
        assert_eq!(&combine(Combination::Or, &strings)[..], b"\xff\x0f");
        assert_eq!(&combine(Combination::Xor, &strings)[..], b"\x0f\x0f");
        assert_eq!(&combine(Combination::Not, &strings[..1])[..], b"\x0f\xf0");
        assert!(combine(Combination::And, &[]).is_empty());
    }
}
