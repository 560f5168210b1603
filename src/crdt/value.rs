//! The row of one value: a string or counter, or the field of a hash.
//!
//! Its base is a string. Where that is a number, or there is none, what was added is added to it (see [`super::additive`]); to any other text
//! nothing can be added, and it shows alone. A sum with a fraction shows as Redis prints it: rounded to 17 places.

use bytes::{Bytes, BytesMut};

use super::additive::{Additive, Base, Target};
use super::command::Refusal;
use super::counter;
use super::delta::{Decision, Payload};
use super::draft::Draft;
use super::float::{Float, parse_long_double};
use super::number::{LONG_DOUBLE, Number};
use crate::config::MAX_VALUE;

/// Places behind the point that Redis prints of a sum.
const PLACES: u32 = 17;

/// What is to be seen in a value row at one time.
pub type ValueView = Additive<Bytes>;

impl Base for Bytes {
    fn of(payload: &Payload) -> Option<Self> {
        if let Payload::Value(value) = payload { Some(value.clone()) } else { None }
    }
}

impl Additive<Bytes> {
    /// The value; `None` where there is none.
    #[must_use]
    pub fn shown(&self) -> Option<Bytes> {
        match self.base() {
            base if !self.has_runs() => base.cloned(),
            base => self.number().map(|number| print(&number)).or_else(|| base.cloned()),
        }
    }

    /// The exact number, 0 where there is no value; `None` where it is none.
    #[must_use]
    pub fn number(&self) -> Option<Number> {
        let base = match self.base() {
            None => Number::ZERO,
            Some(text) => match counter::parse(text) {
                Some(integer) => integer.into(),
                None => match parse_long_double(text) {
                    Some(Float::Finite(number)) => number,
                    Some(Float::Infinite { .. }) | None => return None,
                },
            },
        };
        Some(self.sum(base))
    }

    /// The value as an integer, 0 where there is none; `None` where it shows as anything else.
    fn integer(&self) -> Option<i128> {
        match self.base() {
            Some(text) if !self.has_runs() => counter::parse(text).map(i128::from),
            _ => match self.number()? {
                Number::Integer(integer) => Some(integer),
                // Too near to an integer for its fraction to show.
                fraction => counter::parse(&print(&fraction)).map(i128::from),
            },
        }
    }

    /// Every value that concurrent writes left, the one that shows first.
    #[must_use]
    pub fn values(&self) -> Vec<Bytes> {
        self.shown().into_iter().chain(self.siblings.iter().skip(1).map(|(_, _, bytes)| bytes.clone())).collect()
    }
}

/// A number as Redis prints the sum of long doubles.
fn print(number: &Number) -> Bytes {
    number.to_decimal(PLACES).into()
}

/// What Redis comes to when it adds a text to a number, and prints.
///
/// # Errors
/// Where the text is no number, or the sum is infinite or no number.
pub(super) fn added(shown: &Float, amount: &[u8]) -> Result<Number, Refusal> {
    match (shown, parse_long_double(amount).ok_or(Refusal::NotAFloat)?) {
        (Float::Finite(shown), Float::Finite(amount)) => shown.plus(&amount).rounded(LONG_DOUBLE).ok_or(Refusal::NotFinite),
        _ => Err(Refusal::NotFinite),
    }
}

impl Target<'_, Bytes> {
    /// The value that shows with a tail.
    ///
    /// # Errors
    /// Where it would exceed its limit.
    pub(super) fn appended(&self, tail: &Bytes) -> Result<Bytes, Refusal> {
        match self.view.shown() {
            None => Ok(tail.clone()),
            Some(head) if head.len() + tail.len() > MAX_VALUE => Err(Refusal::TooBig),
            Some(head) => {
                let mut value = BytesMut::with_capacity(head.len() + tail.len());
                value.extend_from_slice(&head);
                value.extend_from_slice(tail);
                Ok(value.freeze())
            }
        }
    }

    /// Adds an integer, and gives the sum.
    ///
    /// # Errors
    /// `not_an_integer` where the value is none, and where the sum does not fit 64 bits.
    pub(super) fn increment(
        &self,
        draft: &mut Draft<'_, '_>,
        decision: Option<Decision>,
        amount: i64,
        not_an_integer: Refusal,
    ) -> Result<i64, Refusal> {
        let shown = self.view.integer().ok_or_else(|| not_an_integer.clone())?;
        let sum = i64::try_from(shown.saturating_add(i128::from(amount))).map_err(|_| Refusal::Overflow)?;
        let exact = self.view.number().ok_or(not_an_integer)?;
        let amount = if exact == Number::Integer(shown) { amount.into() } else { Number::from(sum).minus(&exact) };
        self.add(draft, decision, &amount)?;
        Ok(sum)
    }

    /// Adds a number with a fraction: exactly what makes the exact sum the long double that Redis would come to, which it gives as printed.
    ///
    /// # Errors
    /// `not_a_float` where the value is no number; where the amount is none, or the sum infinite.
    pub(super) fn increment_float(
        &self,
        draft: &mut Draft<'_, '_>,
        decision: Option<Decision>,
        amount: &[u8],
        not_a_float: Refusal,
    ) -> Result<Bytes, Refusal> {
        let shown = match self.view.shown() {
            None => Float::Finite(Number::ZERO),
            Some(text) => parse_long_double(&text).ok_or_else(|| not_a_float.clone())?,
        };
        let sum = added(&shown, amount)?;
        let exact = self.view.number().ok_or(not_a_float)?;
        self.add(draft, decision, &sum.minus(&exact))?;
        Ok(print(&sum))
    }
}

/// The sum of a text and nothing, as a number and as it is printed.
///
/// # Errors
/// Where the text is no finite number.
pub(super) fn alone(amount: &[u8]) -> Result<(Number, Bytes), Refusal> {
    let number = added(&Float::Finite(Number::ZERO), amount)?;
    let printed = print(&number);
    Ok((number, printed))
}
