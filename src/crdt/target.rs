//! Writing a row that holds a base and what was added to it (see [`super::additive`]), and what the value of a string, counter or field can be made to.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::additive::Additive;
use super::counter;
use super::dot::Dot;
use super::draft::Draft;
use super::expiry::Expiry;
use super::float::{Float, parse_long_double};
use super::number::{LONG_DOUBLE, Number};
use super::refusal::Refusal;
use super::row::{Payload, Row, RowAddress, Terms};
use super::runs;
use super::value::print;
use crate::config::MAX_VALUE;

/// A row that a write is about.
pub(super) struct Target<'v, B> {
    pub(super) address: RowAddress,
    pub(super) row: Row,
    /// What shows of it.
    pub(super) view: &'v Additive<B>,
    pub(super) expiry: &'v Expiry,
}

impl<B> Target<'_, B> {
    /// Writes a base in place of the whole row.
    pub(super) fn set(&self, draft: &mut Draft<'_, '_>, terms: impl Into<Terms>, base: Payload) {
        self.clear(draft);
        self.add_base(draft, terms.into(), base);
    }

    /// Writes a base in place of all but the decisions in the row.
    pub(super) fn set_beside_decisions(&self, draft: &mut Draft<'_, '_>, terms: Terms, base: Payload) {
        let named = self.row.iter().filter(|(_, entry)| !matches!(entry.payload, Payload::Decision(_))).map(|(dot, _)| *dot).collect();
        self.replace(draft, named);
        self.add_base(draft, terms, base);
    }

    /// Writes a base beside whatever the row holds.
    pub(super) fn add_base(&self, draft: &mut Draft<'_, '_>, terms: Terms, base: Payload) {
        let dot = (draft.author.mint)();
        draft.add_under(dot, self.address.clone(), terms, base);
    }

    /// Removes all that was observed of the row but decisions that have passed, and leaves floors for the runs that this ends.
    pub(super) fn clear(&self, draft: &mut Draft<'_, '_>) {
        draft.overwrite_row(self.address.clone(), &self.row);
        draft.add_floors(&self.address, runs::observed(&self.row, |_| true));
    }

    /// Writes a base in place of exactly the one that shows and the runs that were added to it. Other siblings stay.
    pub(super) fn set_shown(&self, draft: &mut Draft<'_, '_>, terms: impl Into<Terms>, base: Payload) {
        if self.view.exists() {
            let named = self.view.base_dot().into_iter().chain(self.view.run_dots()).collect();
            self.replace(draft, named);
        }
        self.add_base(draft, terms.into(), base);
    }

    /// Replaces these live dots of the row, with the floors that they need.
    fn replace(&self, draft: &mut Draft<'_, '_>, mut named: BTreeSet<Dot>) {
        let floors: Vec<Dot> = runs::floors_of_removed(&self.row, |dot| named.contains(dot)).collect();
        named.extend(floors);
        let observed = runs::observed(&self.row, |dot| named.contains(dot));
        let keeps = self.row.keys().filter(|dot| !named.contains(dot)).copied().collect();
        draft.replace_row(self.address.clone(), &self.row, keeps);
        draft.add_floors(&self.address, observed);
    }

    /// Adds to what shows: replaces nothing but the entry of the run that it continues.
    ///
    /// # Errors
    /// Where the run's total would not fit.
    pub(super) fn add(&self, draft: &mut Draft<'_, '_>, terms: impl Into<Terms>, amount: &Number) -> Result<(), Refusal> {
        counter::continue_run(draft, &self.address, &self.row, self.expiry, terms.into(), amount)
    }
}

impl Target<'_, Bytes> {
    /// The value that shows with a tail.
    ///
    /// # Errors
    /// Where it would exceed its limit.
    pub(super) fn appended(&self, tail: &Bytes) -> Result<Bytes, Refusal> {
        match self.view.shown() {
            head if head.as_ref().map_or(0, Bytes::len) + tail.len() > MAX_VALUE => Err(Refusal::TooBig),
            None => Ok(tail.clone()),
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
    /// `not_an_integer` where the value is none of 64 bits, and where the sum is none.
    pub(super) fn increment(
        &self,
        draft: &mut Draft<'_, '_>,
        terms: impl Into<Terms>,
        amount: i64,
        not_an_integer: Refusal,
    ) -> Result<i64, Refusal> {
        let shown = self.view.integer().and_then(|shown| i64::try_from(shown).ok()).ok_or_else(|| not_an_integer.clone())?;
        let sum = shown.checked_add(amount).ok_or(Refusal::Overflow)?;
        let exact = self.view.number().ok_or(not_an_integer)?;
        let amount = if exact == Number::from(shown) { amount.into() } else { Number::from(sum).minus(&exact) };
        self.add(draft, terms, &amount)?;
        Ok(sum)
    }

    /// Adds a number with a fraction: exactly what makes the exact sum the long double that Redis would come to, which it gives as printed.
    ///
    /// # Errors
    /// `not_a_float` where the value is no number; where the amount is none, or the sum infinite.
    pub(super) fn increment_float(
        &self,
        draft: &mut Draft<'_, '_>,
        terms: impl Into<Terms>,
        amount: &[u8],
        not_a_float: Refusal,
    ) -> Result<Bytes, Refusal> {
        let shown = match self.view.shown() {
            None => Float::Finite(Number::ZERO),
            Some(text) => parse_long_double(&text).ok_or_else(|| not_a_float.clone())?,
        };
        let sum = added(&shown, amount)?;
        let exact = self.view.number().ok_or(not_a_float)?;
        self.add(draft, terms, &sum.minus(&exact))?;
        Ok(print(&sum))
    }
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

/// The sum of a text and nothing, as a number and as it is printed.
///
/// # Errors
/// Where the text is no finite number.
pub(super) fn alone(amount: &[u8]) -> Result<(Number, Bytes), Refusal> {
    let number = added(&Float::Finite(Number::ZERO), amount)?;
    let printed = print(&number);
    Ok((number, printed))
}
