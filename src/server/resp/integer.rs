//! Integers as Redis reads them: one way to write each number, so that a number that was read writes back the same bytes.

/// Reads a 64-bit integer in decimal. No sign but a leading `-`, no leading zeros, no spaces, no `-0`.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    digits.iter().try_fold(0i64, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        let sum = sum.checked_mul(10)?;
        if negative { sum.checked_sub(digit) } else { sum.checked_add(digit) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_exactly_what_it_would_write(number: i64, text in "[ +-]{0,2}[0-9]{0,21}") {
            prop_assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
            let canonical = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
            prop_assert_eq!(parse_integer(text.as_bytes()), canonical);
        }
    }

    #[test]
    fn stands_at_the_ends_of_the_range() {
        for number in [i64::MIN, i64::MAX, 0, -1] {
            assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        }
        for text in ["9223372036854775808", "-9223372036854775809", "", "-", "-0", "00", "1a", "1\0"] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text}");
        }
    }
}
