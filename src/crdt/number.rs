//! Exact numbers: sums that do not depend on the order in which they are added up.
//!
//! Binary floating point does not add up the same way in every order: `0.1 + 0.2 + 0.3` depends on where one begins. But every such number is a
//! *dyadic rational*, a whole number times a power of two, and those add up exactly: `0.75 + 0.5` is `3 · 2^-2 + 1 · 2^-1 = 5 · 2^-2`. So a
//! total is kept as that, and rounded only where it is shown.
//!
//! Nearly all totals are integers that 128 bits hold; these stay machine words. Each value has one form, so equal numbers have equal bytes.

use std::cmp::Ordering;
use std::fmt;

use num_bigint::{BigInt, BigUint, Sign};

use super::kind::Kind;

/// Bits beyond those of the greatest number of a format: room for the sum of a great many of them.
const CARRIES: i64 = 64;
/// Longest mantissa of a sum of long doubles, its sign included, in bytes. One of doubles takes 271 at most.
pub const MAX_MANTISSA: usize = 4112;

/// An exact number.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Number {
    /// An integer of 128 bits.
    Integer(i128),
    /// Any other.
    Dyadic(Box<Dyadic>),
}

/// A whole number times a power of two that is no integer of 128 bits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Dyadic {
    /// Odd.
    mantissa: BigInt,
    exponent: i64,
}

/// A format of binary floating point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Bits of the mantissa.
    precision: i64,
    /// The power of two of the last bit of the least number.
    least: i64,
    /// Finite numbers lie below two to this power.
    most: i64,
}

/// The 80 bits of x87, in which Redis adds up strings and the fields of hashes.
pub const LONG_DOUBLE: Format = Format { precision: 64, least: -16_445, most: 16_384 };
/// The 64 bits of IEEE 754, in which Redis adds up scores.
pub const DOUBLE: Format = Format { precision: 53, least: -1074, most: 1024 };

impl Number {
    /// Zero.
    pub const ZERO: Self = Self::Integer(0);

    /// A whole number times a power of two, in its one form.
    #[must_use]
    pub fn new(mantissa: BigInt, exponent: i64) -> Self {
        let Some(zeros) = mantissa.trailing_zeros() else { return Self::ZERO };
        let (mantissa, exponent) = (mantissa >> zeros, exponent.saturating_add(signed(zeros)));
        if exponent >= 0
            && signed(mantissa.bits()).saturating_add(exponent) <= 128
            && let Ok(integer) = i128::try_from(&mantissa << exponent.unsigned_abs())
        {
            return Self::Integer(integer);
        }
        Self::Dyadic(Box::new(Dyadic { mantissa, exponent }))
    }

    /// The value of a double; `None` where it is infinite or no number.
    #[must_use]
    pub fn from_double(double: f64) -> Option<Self> {
        if !double.is_finite() {
            return None;
        }
        let bits = double.to_bits();
        let (fraction, power) = (bits & ((1 << 52) - 1), signed(bits >> 52 & 0x7ff));
        let (mantissa, exponent) = if power == 0 { (fraction, -1074) } else { (fraction | 1 << 52, power - 1075) };
        let sign = if double.is_sign_negative() { Sign::Minus } else { Sign::Plus };
        Some(Self::new(BigInt::from_biguint(sign, mantissa.into()), exponent))
    }

    /// The double nearest to it; infinite where it lies beyond them all.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "the conversion rounds to nearest, as is meant; a rounded mantissa has 53 bits at most")]
    pub fn to_double(&self) -> f64 {
        let magnitude = match self {
            Self::Integer(integer) => return *integer as f64,
            Self::Dyadic(_) => match self.rounded(DOUBLE) {
                None => f64::INFINITY,
                Some(Self::Integer(integer)) => return integer as f64,
                // Odd, and so not longer than the mantissa of a double.
                Some(Self::Dyadic(rounded)) => {
                    rounded.mantissa.iter_u64_digits().next().unwrap_or(0) as f64 * power_of_two(rounded.exponent)
                }
            },
        };
        if self.is_negative() { -magnitude } else { magnitude }
    }

    /// The number of a format nearest to it, of two equally near the one whose last bit is 0; `None` where it lies beyond them all.
    #[must_use]
    pub fn rounded(&self, format: Format) -> Option<Self> {
        let (mantissa, exponent) = self.parts();
        round(self.is_negative(), mantissa.into_parts().1, &BigUint::from(1u8), exponent, format)
    }

    /// Their sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        if let (Self::Integer(one), Self::Integer(other)) = (self, other)
            && let Some(sum) = one.checked_add(*other)
        {
            return Self::Integer(sum);
        }
        let ((one, power), (other, other_power)) = (self.parts(), other.parts());
        let least = power.min(other_power);
        let sum = (one << (power - least).unsigned_abs()) + (other << (other_power - least).unsigned_abs());
        Self::new(sum, least)
    }

    /// Their difference.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.negated())
    }

    /// The number of the other sign.
    #[must_use]
    pub fn negated(&self) -> Self {
        match self {
            Self::Integer(integer) if *integer != i128::MIN => Self::Integer(-integer),
            _ => {
                let (mantissa, exponent) = self.parts();
                Self::new(-mantissa, exponent)
            }
        }
    }

    /// Whether it is less than zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        match self {
            Self::Integer(integer) => *integer < 0,
            Self::Dyadic(dyadic) => dyadic.mantissa.sign() == Sign::Minus,
        }
    }

    /// Whether rows of a kind hold such totals: within what sums of the numbers that can be added there come to.
    #[must_use]
    pub fn fits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Value | Kind::Field => self.lies_within(LONG_DOUBLE),
            Kind::Score => self.lies_within(DOUBLE),
            Kind::Expiry | Kind::Member | Kind::Item | Kind::Register => false,
        }
    }

    fn lies_within(&self, format: Format) -> bool {
        match self {
            Self::Integer(_) => true,
            Self::Dyadic(dyadic) => {
                dyadic.exponent >= format.least && signed(dyadic.mantissa.bits()).saturating_add(dyadic.exponent) <= format.most + CARRIES
            }
        }
    }

    /// About how many bytes it takes beyond those of a small integer.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Integer(_) => 0,
            Self::Dyadic(dyadic) => usize::try_from(dyadic.mantissa.bits() / 8).unwrap_or(usize::MAX),
        }
    }

    /// A number from its parts, where they are its one form and within what any row may hold.
    pub(super) fn from_parts(mantissa: BigInt, exponent: i64) -> Option<Self> {
        let number = Self::new(mantissa.clone(), exponent);
        let is_canonical = matches!(&number, Self::Dyadic(dyadic) if dyadic.mantissa == mantissa && dyadic.exponent == exponent);
        (is_canonical && number.lies_within(LONG_DOUBLE)).then_some(number)
    }

    /// In decimal with at most so many places behind the point, rounded to nearest, without needless zeros: as C's `%.17Lf` where it is 17.
    #[must_use]
    pub fn to_decimal(&self, places: u32) -> String {
        let dyadic = match self {
            Self::Integer(integer) => return integer.to_string(),
            Self::Dyadic(dyadic) => dyadic,
        };
        let magnitude = dyadic.mantissa.magnitude();
        let negative = |digits: &str| format!("{}{digits}", if self.is_negative() { "-" } else { "" });
        if dyadic.exponent >= 0 {
            return negative(&(magnitude << dyadic.exponent.unsigned_abs()).to_string());
        }
        let scaled = magnitude * BigUint::from(10u8).pow(places);
        let digits = drop_bits(scaled, dyadic.exponent.unsigned_abs(), false).to_string();
        let width = usize::try_from(places).unwrap_or(usize::MAX);
        let digits = format!("{digits:0>least$}", least = width + 1);
        let (whole, fraction) = digits.split_at(digits.len() - width);
        let fraction = fraction.trim_end_matches('0');
        match (whole, fraction) {
            ("0", "") => "0".to_owned(),
            (whole, "") => negative(whole),
            (whole, fraction) => negative(&format!("{whole}.{fraction}")),
        }
    }

    /// The mantissa and the power of two.
    pub(super) fn parts(&self) -> (BigInt, i64) {
        match self {
            Self::Integer(integer) => (BigInt::from(*integer), 0),
            Self::Dyadic(dyadic) => (dyadic.mantissa.clone(), dyadic.exponent),
        }
    }
}

impl From<i64> for Number {
    fn from(integer: i64) -> Self {
        Self::Integer(i128::from(integer))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => one.cmp(other),
            _ => match self.minus(other) {
                Self::Integer(0) => Ordering::Equal,
                difference if difference.is_negative() => Ordering::Less,
                _ => Ordering::Greater,
            },
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.to_decimal(17);
        formatter.pad_integral(!self.is_negative(), "", digits.trim_start_matches('-'))
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(integer) => write!(formatter, "{integer}"),
            Self::Dyadic(dyadic) => write!(formatter, "{}·2^{}", dyadic.mantissa, dyadic.exponent),
        }
    }
}

/// Rounds a fraction times a power of two to a format: to nearest, of two equally near the one whose last bit is 0. `None` where it lies beyond
/// all numbers of the format.
pub(super) fn round(negative: bool, numerator: BigUint, denominator: &BigUint, exponent: i64, format: Format) -> Option<Number> {
    if numerator == BigUint::ZERO {
        return Some(Number::ZERO);
    }
    // Two bits more than are kept, and whether anything follows them, tell where to round.
    let lift = (format.precision + 2 + signed(denominator.bits()) - signed(numerator.bits())).max(0);
    let lifted = numerator << lift.unsigned_abs();
    let quotient = &lifted / denominator;
    let is_more = &quotient * denominator != lifted;
    let exponent = exponent - lift;
    let dropped = (signed(quotient.bits()) - format.precision).max(format.least - exponent);
    let kept = drop_bits(quotient, dropped.unsigned_abs(), is_more);
    let exponent = exponent + dropped;
    if signed(kept.bits()) + exponent > format.most {
        return None;
    }
    Some(Number::new(BigInt::from_biguint(if negative { Sign::Minus } else { Sign::Plus }, kept), exponent))
}

/// Drops the last bits of a number and rounds it. `is_more` says that something not zero follows them.
fn drop_bits(number: BigUint, bits: u64, is_more: bool) -> BigUint {
    if bits == 0 {
        return number;
    }
    let kept = &number >> bits;
    let rest = number - (&kept << bits);
    let up = match rest.cmp(&(BigUint::from(1u8) << (bits - 1))) {
        Ordering::Greater => true,
        Ordering::Equal => is_more || kept.bit(0),
        Ordering::Less => false,
    };
    if up { kept + 1u8 } else { kept }
}

/// Two to a power that a double can hold.
fn power_of_two(exponent: i64) -> f64 {
    let biased = exponent.clamp(-1074, 1023) + 1074;
    f64::from_bits(if biased < 52 { 1 << biased } else { (biased - 51).unsigned_abs() << 52 })
}

fn signed(bits: u64) -> i64 {
    i64::try_from(bits).unwrap_or(i64::MAX)
}

/// The number that a string is, by the rules of Redis: decimal, of 64 bits, without plus sign, blanks or needless zeros.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The dumbest rational that can be: numerator and denominator, never reduced.
    fn naive(number: &Number) -> (BigInt, BigInt) {
        let (mantissa, exponent) = number.parts();
        let power = BigInt::from(1) << exponent.unsigned_abs();
        if exponent < 0 { (mantissa, power) } else { (mantissa * power, BigInt::from(1)) }
    }

    fn same(number: &Number, (numerator, denominator): (BigInt, BigInt)) -> bool {
        let (ours, over) = naive(number);
        ours * denominator == numerator * over
    }

    fn numbers() -> impl Strategy<Value = Number> {
        let mantissa = prop_oneof![any::<i8>().prop_map(i128::from), any::<i64>().prop_map(i128::from), any::<i128>()];
        (mantissa, prop_oneof![Just(0), -3..3i64, -1200..1100i64]).prop_map(|(mantissa, exponent)| Number::new(mantissa.into(), exponent))
    }

    fn doubles() -> impl Strategy<Value = f64> {
        let any_bits = any::<u64>().prop_map(f64::from_bits);
        prop_oneof![any_bits, (-1e6..1e6), any::<i32>().prop_map(|cents| f64::from(cents) / 100.0)]
            .prop_filter("a number", |double| double.is_finite())
    }

    proptest! {
        #[test]
        fn sums_are_those_of_naive_rationals(one in numbers(), other in numbers(), third in numbers()) {
            let ((a, b), (c, d)) = (naive(&one), naive(&other));
            prop_assert!(same(&one.plus(&other), (&a * &d + &c * &b, &b * &d)));
            prop_assert!(same(&one.minus(&other), (&a * &d - &c * &b, &b * &d)));
            prop_assert_eq!(one.cmp(&other), (&a * &d).cmp(&(&c * &b)));
            prop_assert_eq!(one.plus(&other).plus(&third), third.plus(&one).plus(&other));
            prop_assert_eq!(one.plus(&other).minus(&other), one);
        }

        #[test]
        fn each_value_has_one_form(number in numbers(), shift in 0..40u64) {
            let (mantissa, exponent) = number.parts();
            prop_assert_eq!(Number::new(mantissa.clone() << shift, exponent - signed(shift)), number.clone());
            let is_fraction_or_wide = matches!(&number, Number::Dyadic(_));
            prop_assert_eq!(Number::from_parts(mantissa.clone(), exponent).is_some(), is_fraction_or_wide);
            prop_assert_eq!(Number::from_parts(mantissa << 1, exponent - 1), None);
        }

        #[test]
        fn doubles_add_up_as_the_machine_adds_them(one in doubles(), other in doubles()) {
            let exact = |double| Number::from_double(double).unwrap();
            prop_assert_eq!(exact(one).to_double(), one);
            prop_assert_eq!(exact(one).plus(&exact(other)).to_double(), one + other);
        }

        #[test]
        fn decimals_are_those_of_the_standard_library(double in doubles()) {
            let printed = format!("{double:.17}");
            let printed = printed.trim_end_matches('0').trim_end_matches('.');
            let expected = if printed == "-0" { "0" } else { printed };
            prop_assert_eq!(Number::from_double(double).unwrap().to_decimal(17), expected);
        }

        #[test]
        fn rounding_goes_to_the_nearest_and_then_to_the_even(number in numbers()) {
            let rounded = number.rounded(LONG_DOUBLE).unwrap();
            let (mantissa, exponent) = rounded.parts();
            prop_assert!(mantissa.bits() <= 64 || matches!(rounded, Number::Integer(_)));
            // The neighbours differ by a unit in the last place of 64 bits.
            let last_place = exponent + signed(mantissa.bits()) - 64;
            let unit = Number::new(1.into(), last_place);
            let error = number.minus(&rounded);
            let twice = error.plus(&error);
            let distance = if twice.is_negative() { twice.negated() } else { twice };
            prop_assert!(distance <= unit, "{:?} is far from {:?}", rounded, number);
            if distance == unit {
                let zeros = mantissa.trailing_zeros().map_or(0, signed);
                prop_assert!(zeros + exponent > last_place, "a tie goes to the even one");
            }
        }
    }

    #[test]
    fn a_sum_beyond_machine_words_is_exact_and_comes_back() {
        let most = Number::Integer(i128::MAX);
        let beyond = most.plus(&Number::Integer(1));
        assert!(matches!(beyond, Number::Dyadic(_)));
        assert_eq!(beyond.minus(&Number::Integer(1)), most);
        assert_eq!(Number::Integer(i128::MIN).negated(), beyond);
        assert_eq!(beyond.negated(), Number::Integer(i128::MIN));
        assert_eq!(beyond.to_decimal(17), "170141183460469231731687303715884105728");
    }

    #[test]
    fn what_lies_beyond_a_format_is_infinite() {
        let most = Number::from_double(f64::MAX).unwrap();
        assert_eq!(most.plus(&most).to_double(), f64::INFINITY);
        assert_eq!(most.plus(&most).negated().to_double(), f64::NEG_INFINITY);
        assert!(most.plus(&most).rounded(LONG_DOUBLE).is_some());
        assert!(most.fits(Kind::Score) && most.plus(&most).fits(Kind::Score));
        let wide = Number::new(1.into(), 1024 + CARRIES);
        assert!(!wide.fits(Kind::Score) && wide.fits(Kind::Field) && !wide.fits(Kind::Member));
        assert_eq!(Number::from_parts(1.into(), i64::MAX), None);
        assert_eq!(Number::from_parts(1.into(), i64::MIN), None);
        assert_eq!(Number::from_double(f64::INFINITY), None);
    }

    #[test]
    fn integers_are_those_of_redis() {
        for (text, number) in [("0", 0), ("-7", -7), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)] {
            assert_eq!(parse_integer(text.as_bytes()), Some(number));
        }
        for text in ["", "+1", "01", "-0", " 1", "1 ", "1.0", "9223372036854775808", "x", "-"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }
}
