//! Patterns as in KEYS and CONFIG GET: `*`, `?`, `[a-c]`, `[^a]` and `\` before what stands for itself.
//!
//! A star that fails is tried again only from the last one, never from those before, so that no pattern takes longer than
//! the product of both lengths.

/// Whether the text matches the pattern.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte)
}

/// Whether the text matches the pattern, in any case.
#[must_use]
pub fn matches_in_any_case(pattern: &[u8], text: &[u8]) -> bool {
    matches_folded(pattern, text, |byte| byte.to_ascii_lowercase())
}

/// Whether the text matches the pattern, with bytes equal that `fold` makes equal.
fn matches_folded(pattern: &[u8], text: &[u8], fold: fn(u8) -> u8) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        if let Some(b'*') = pattern.get(at_pattern) {
            at_pattern += 1;
            last_star = Some((at_pattern, at_text));
            continue;
        }
        match (text.get(at_text), at_pattern < pattern.len()) {
            (None, more) => return !more,
            (Some(byte), true) => {
                if let Some(length) = one(&pattern[at_pattern..], *byte, fold) {
                    at_pattern += length;
                    at_text += 1;
                    continue;
                }
            }
            (Some(_), false) => {}
        }
        // Let the last star take one byte more.
        let Some((after_star, from)) = last_star else { return false };
        (at_pattern, at_text) = (after_star, from + 1);
        last_star = Some((after_star, at_text));
    }
}

/// Whether the element that the pattern begins with matches this byte, and if so, how long the element is.
fn one(pattern: &[u8], byte: u8, fold: fn(u8) -> u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', class @ ..] => {
            let (negated, class) = match class {
                [b'^', class @ ..] => (true, class),
                class => (false, class),
            };
            let (found, length) = in_class(class, fold(byte), fold);
            (found != negated).then_some(1 + usize::from(negated) + length)
        }
        [b'\\', escaped, ..] => (fold(*escaped) == fold(byte)).then_some(2),
        [literal, ..] => (fold(*literal) == fold(byte)).then_some(1),
        [] => None,
    }
}

/// Whether a class such as `a-cx]` holds the byte, and how long it is, its end included. One without an end runs to the end.
fn in_class(class: &[u8], byte: u8, fold: fn(u8) -> u8) -> (bool, usize) {
    let (mut found, mut at) = (false, 0);
    loop {
        match &class[at..] {
            [] => return (found, at),
            [b']', ..] => return (found, at + 1),
            [b'\\', escaped, ..] => {
                found |= fold(*escaped) == byte;
                at += 2;
            }
            [from, b'-', to, ..] if *to != b']' => {
                let (from, to) = (fold(*from), fold(*to));
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= fold(*literal) == byte;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_redis_does() {
        for (pattern, text) in [
            ("*", ""),
            ("max*", "maxmemory"),
            ("*mem*y", "maxmemory"),
            ("SAVE", "save"),
            ("s?ve", "save"),
            ("[q-t]ave", "save"),
            ("[^x]ave", "save"),
        ] {
            assert!(matches_in_any_case(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        assert!(matches(b"[q-t]a?*", b"save") && !matches(b"SAVE", b"save") && !matches(b"[Q-T]ave", b"save"));
        for (pattern, text) in
            [("", "a"), ("max", "maxmemory"), ("*x", "maxmemory"), ("s?ve", "sve"), ("[a-c]ave", "save"), (r"\*", "save")]
        {
            assert!(!matches_in_any_case(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn a_spiteful_pattern_takes_no_longer_than_another() {
        let pattern = b"a*".repeat(50_000);
        let text = vec![b'a'; 2_000];
        assert!(!matches(&[pattern.as_slice(), b"b"].concat(), &text));
    }
}
