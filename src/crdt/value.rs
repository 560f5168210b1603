//! The row of one value: a string or counter, or the field of a hash.
//!
//! Its base is a string. Where that is a number, or there is none, what was added is added to it (see [`super::additive`]); to any other text
//! nothing can be added, and it shows alone. A sum with a fraction shows as Redis prints it: rounded to 17 places.

use bytes::Bytes;

use super::additive::{Additive, Base};
use super::float::{Float, parse_long_double};
use super::number::{Number, parse_integer};
use super::row::Payload;

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
            Some(text) => match parse_integer(text) {
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
    pub(super) fn integer(&self) -> Option<i128> {
        match self.base() {
            Some(text) if !self.has_runs() => parse_integer(text).map(i128::from),
            _ => match self.number()? {
                Number::Integer(integer) => Some(integer),
                // Too near to an integer for its fraction to show.
                fraction => parse_integer(&print(&fraction)).map(i128::from),
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
pub(super) fn print(number: &Number) -> Bytes {
    number.to_decimal(PLACES).into()
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Answer;
    use super::super::refusal::Refusal;
    use super::super::row::RowAddress;
    use super::super::string::Mutation;
    use super::super::testing::{ONE, Replica, bytes, increment, key, set, settle, text};
    use super::super::{command, runs};
    use super::*;

    fn add(amount: &str) -> command::Mutation {
        Mutation::IncrementFloat(bytes(amount)).into()
    }

    fn totals(replica: &Replica) -> Vec<Number> {
        let row = &replica.state.rows[&RowAddress::value(&key())];
        runs::runs(row).into_iter().map(|run| run.total).collect()
    }

    #[test]
    fn one_writer_sees_the_numbers_of_redis() {
        let mut a = Replica::new(1);
        assert_eq!((a.ask(&add("10.5")), a.ask(&add("0.1")), a.ask(&add("-5"))), (text("10.5"), text("10.6"), text("5.6")));
        assert_eq!((a.ask(&add("3.0e3")), a.get()), (text("3005.60000000000000009"), text("3005.60000000000000009")));
        assert_eq!(a.attempt(&ONE), Err(Refusal::NotAnInteger));
        a.write(&set("0.1"));
        assert_eq!((a.ask(&add("0.2")), a.ask(&add("-0.3")), a.ask(&ONE)), (text("0.3"), text("0"), Answer::Integer(1)));
        a.write(&set("3.0"));
        assert_eq!(a.attempt(&ONE), Err(Refusal::NotAnInteger));
        assert_eq!((a.ask(&add("0")), a.ask(&ONE)), (text("3"), Answer::Integer(4)));
    }

    #[test]
    fn fractions_added_on_both_sides_add_up_exactly() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&set("1.5"));
        b.pull(&a);
        let deltas = [a.write(&add("0.25")), a.write(&add("1e18")), b.write(&add("0.125")), b.write(&add("-1e18"))];
        settle(&mut [&mut a, &mut b]);
        deltas.iter().for_each(|delta| b.hear(delta));
        assert_eq!((a.get(), b.get()), (text("1.875"), text("1.875")));
        b.write(&set("7"));
        a.write(&add("0.5"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("7.5"), text("7.5")));
    }

    #[test]
    fn a_fraction_too_small_to_show_is_not_carried_along() {
        let mut a = Replica::new(1);
        assert_eq!((a.ask(&add("1e-19")), a.get()), (text("0"), text("0")));
        assert_eq!(a.ask(&ONE), Answer::Integer(1));
        assert_eq!(totals(&a), [Number::Integer(1)], "the sum is what shows, as it would be in Redis");
        a.ask(&add("1e-19"));
        assert_eq!((a.ask(&add("1")), totals(&a)), (text("2"), vec![Number::Integer(2)]));
    }

    #[test]
    fn what_is_no_number_or_infinite_is_refused() {
        let mut a = Replica::new(1);
        for (amount, refusal) in
            [("x", Refusal::NotAFloat), ("nan", Refusal::NotAFloat), ("inf", Refusal::NotFinite), (" 1", Refusal::NotAFloat)]
        {
            assert_eq!(a.attempt(&add(amount)), Err(refusal), "{amount}");
        }
        a.write(&set("1e4932"));
        assert_eq!(a.attempt(&add("1e4932")), Err(Refusal::NotFinite));
        a.write(&set("inf"));
        assert_eq!(a.attempt(&add("1")), Err(Refusal::NotFinite));
        a.write(&set("text"));
        assert_eq!(a.attempt(&add("1")), Err(Refusal::NotAFloat));
    }

    #[test]
    fn an_increment_beside_a_fraction_counts_and_beside_a_text_does_not_show() {
        let (mut a, mut b) = (Replica::new(1), Replica::new(2));
        a.write(&increment(2));
        b.write(&set("0.5"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!((a.get(), b.get()), (text("2.5"), text("2.5")));
        b.write(&set("text"));
        a.write(&add("2"));
        settle(&mut [&mut a, &mut b]);
        assert_eq!(a.get(), text("text"));
    }
}
