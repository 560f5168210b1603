//! Numbers with a fraction as Redis reads them: what C's `strtod` and `strtold` take, and nothing before or behind it.
//!
//! Redis reads strings and the fields of hashes as long doubles of x87, scores as doubles. Both are rounded here from the digits themselves, so it
//! is the same on every machine.

use num_bigint::BigUint;

use super::number::{DOUBLE, Format, LONG_DOUBLE, Number, round};

/// Longest text that is read, in bytes: as in Redis, which reads longer ones only as doubles.
const MAX_FLOAT: usize = 5 * 1024 - 1;
/// Beyond these powers of ten (or of two) every number of any format is infinite or zero.
const BEYOND: i64 = 20_000;

/// A number that may be infinite.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Float {
    /// A number.
    Finite(Number),
    /// Less or greater than every number.
    Infinite {
        /// Whether it is less.
        negative: bool,
    },
}

/// Reads a long double. `None` where it is none, is no number, or lies beyond or too near to zero.
#[must_use]
pub fn parse_long_double(text: &[u8]) -> Option<Float> {
    parse(text, LONG_DOUBLE).map(|(float, _)| float)
}

/// Reads a double. `None` where it is none, is no number, or lies beyond or too near to zero.
#[must_use]
pub fn parse_double(text: &[u8]) -> Option<f64> {
    let (float, negative) = parse(text, DOUBLE)?;
    Some(match float {
        Float::Finite(Number::ZERO) if negative => -0.0,
        Float::Finite(number) => number.to_double(),
        Float::Infinite { negative: true } => f64::NEG_INFINITY,
        Float::Infinite { negative: false } => f64::INFINITY,
    })
}

/// The number, and whether a minus sign stands before it.
fn parse(text: &[u8], format: Format) -> Option<(Float, bool)> {
    if text.len() > MAX_FLOAT {
        return None;
    }
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    if rest.eq_ignore_ascii_case(b"inf") || rest.eq_ignore_ascii_case(b"infinity") {
        return Some((Float::Infinite { negative }, negative));
    }
    let number = match rest {
        [b'0', b'x' | b'X', digits @ ..] => Scientific::parse(digits, 16, b'p')?.hexadecimal(negative, format),
        digits => Scientific::parse(digits, 10, b'e')?.decimal(negative, format),
    };
    Some((Float::Finite(number?), negative))
}

/// Digits with a point among them and a power behind: `12.5e3` is 125 with one place behind the point and a power of 3.
struct Scientific {
    digits: BigUint,
    places: i64,
    power: i64,
}

impl Scientific {
    fn parse(text: &[u8], radix: u8, mark: u8) -> Option<Self> {
        let split = text.iter().position(|byte| byte.to_ascii_lowercase() == mark);
        let (mantissa, power) = match split {
            Some(at) => (text.get(..at)?, parse_power(text.get(at + 1..)?)?),
            None => (text, 0),
        };
        let point = mantissa.iter().position(|byte| *byte == b'.');
        let (whole, fraction) = match point {
            Some(at) => (mantissa.get(..at)?, mantissa.get(at + 1..)?),
            None => (mantissa, &[][..]),
        };
        let digits = [whole, fraction].concat();
        let is_digit = |byte: &u8| if radix == 16 { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
        if digits.is_empty() || !digits.iter().all(is_digit) {
            return None;
        }
        let places = i64::try_from(fraction.len()).ok()?;
        Some(Self { digits: BigUint::parse_bytes(&digits, u32::from(radix))?, places, power })
    }

    /// `None` where it is too great, or not zero and too small.
    fn decimal(self, negative: bool, format: Format) -> Option<Number> {
        if self.digits == BigUint::ZERO {
            return Some(Number::ZERO);
        }
        let power = self.within_reach(self.places)?;
        let ten_to = |power: u64| u32::try_from(power).ok().map(|power| BigUint::from(10u8).pow(power));
        let scale = ten_to(power.unsigned_abs())?;
        let rounded = match power {
            0.. => round(negative, self.digits * scale, &BigUint::from(1u8), 0, format),
            _ => round(negative, self.digits, &scale, 0, format),
        };
        rounded.filter(|number| *number != Number::ZERO)
    }

    /// The power of the last digit, where so many places stand before it; `None` where the number is infinite or zero in any format.
    fn within_reach(&self, places: i64) -> Option<i64> {
        let power = self.power.saturating_sub(places);
        let digits = i64::try_from(self.digits.bits()).unwrap_or(i64::MAX);
        (power.saturating_add(digits) >= -BEYOND && power <= BEYOND).then_some(power)
    }

    /// `None` where it is too great, or not zero and too small.
    fn hexadecimal(self, negative: bool, format: Format) -> Option<Number> {
        if self.digits == BigUint::ZERO {
            return Some(Number::ZERO);
        }
        let power = self.within_reach(self.places.saturating_mul(4))?;
        round(negative, self.digits, &BigUint::from(1u8), power, format).filter(|number| *number != Number::ZERO)
    }
}

/// A power with its sign.
fn parse_power(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let power = digits.iter().fold(0i64, |power, digit| power.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -power } else { power })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn long(text: &str) -> Option<String> {
        match parse_long_double(text.as_bytes())? {
            Float::Finite(number) => Some(number.to_decimal(17)),
            Float::Infinite { negative } => Some(if negative { "-inf" } else { "inf" }.to_owned()),
        }
    }

    proptest! {
        #[test]
        fn doubles_are_read_as_the_standard_library_reads_them(text in "[+-]?[0-9]{0,30}[.]?[0-9]{0,30}(e[+-]?[0-9]{1,3})?") {
            let expected = text.parse::<f64>().ok();
            let has_digit = text.split('e').next().unwrap_or_default().bytes().any(|byte| (b'1'..=b'9').contains(&byte));
            // Too great and too small are refused, as `strtod` says out of range.
            let expected = expected.filter(|double| double.is_finite() && (*double != 0.0 || !has_digit));
            prop_assert_eq!(parse_double(text.as_bytes()).map(f64::to_bits), expected.map(f64::to_bits));
        }

        #[test]
        fn no_text_does_harm(text: Vec<u8>) {
            let _ = (parse_double(&text), parse_long_double(&text));
        }
    }

    #[test]
    fn texts_are_read_as_c_reads_them() {
        for (text, value) in [
            ("3.0e3", "3000"),
            ("5.", "5"),
            (".5", "0.5"),
            ("+1", "1"),
            ("0x10", "16"),
            ("-0X.8P1", "-1"),
            ("iNf", "inf"),
            ("-infinity", "-inf"),
            ("0.1", "0.1"),
            ("18446744073709551617", "18446744073709551616"),
            ("1e-4940", "0"),
            ("0e99999999999999999999", "0"),
        ] {
            assert_eq!(long(text).as_deref(), Some(value), "{text}");
        }
        for text in [
            "",
            ".",
            "e5",
            "1e",
            "1e+",
            "0x",
            "0xp1",
            " 1",
            "1 ",
            "nan",
            "1e5000",
            "1e-5000",
            "1e99999999999999999999",
            "1_0",
            "--1",
            "0x1e1p99999",
        ] {
            assert_eq!(long(text), None, "{text}");
        }
        assert_eq!(parse_double(b"-0"), Some(-0.0));
        assert!(parse_double(b"-0").is_some_and(f64::is_sign_negative));
        assert_eq!((parse_double(b"1e308"), parse_double(b"1e309")), (Some(1e308), None));
        assert_eq!(parse_long_double(&[b'1'; 5120]), None);
    }
}
