//! Splits a line that a person typed into arguments, by the rules of Redis (`sdssplitargs`).
//!
//! Arguments are separated by white space. `"…"` knows the escapes `\n \r \t \b \a \xHH`, any other byte after a backslash
//! stands for itself; `'…'` knows only `\'`. A closing quote has to end the argument. A NUL ends the line.

use bytes::Bytes;

/// The arguments of a line; `None` where the quotes don't match.
#[must_use]
pub fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut arguments = Vec::new();
    let mut rest = line;
    loop {
        let blank = rest.iter().take_while(|byte| is_space(**byte)).count();
        rest = &rest[blank..];
        if rest.is_empty() {
            return Some(arguments);
        }
        let (argument, length) = first_argument(rest)?;
        arguments.push(Bytes::from(argument));
        rest = &rest[length..];
    }
}

/// The argument that the text begins with, and how many bytes it takes.
fn first_argument(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut argument = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => break,
            quote @ (b'"' | b'\'') => {
                at += 1 + unquote(&text[at + 1..], quote, &mut argument)?;
                // A closing quote has to end the argument.
                return text.get(at).is_none_or(|next| is_space(*next)).then_some((argument, at));
            }
            byte => argument.push(byte),
        }
        at += 1;
    }
    Some((argument, at))
}

/// Reads up to the closing quote, and tells how many bytes that took with it.
fn unquote(text: &[u8], quote: u8, argument: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let (byte, length) = match (quote, &text[at..]) {
            (_, [next, ..]) if *next == quote => return Some(at + 1),
            (b'"', [b'\\', b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) * 16 + hex_digit(*low), 4)
            }
            (b'"', [b'\\', escaped, ..]) => (unescape(*escaped), 2),
            (_, [b'\\', b'\'', ..]) => (b'\'', 2),
            (_, [byte, ..]) => (*byte, 1),
            (_, []) => return None,
        };
        argument.push(byte);
        at += length;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => letter.to_ascii_lowercase() - b'a' + 10,
    }
}

/// What `isspace` of C calls white space.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        split(line.as_bytes()).map(|words| words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    fn some(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn splits_and_unquotes_as_redis_does() {
        assert_eq!(words("  set  k\tv "), some(&["set", "k", "v"]));
        assert_eq!(words(r#"ping "a b\x41\n\q\"" 'it\'s \n'"#), some(&["ping", "a bA\nq\"", "it's \\n"]));
        assert_eq!(words(r#"set k "" ''"#), some(&["set", "k", "", ""]));
        assert_eq!(words(r#"a"b c""#), some(&["ab c"]));
        assert_eq!(words(r#""\xzz""#), some(&["xzz"]));
        assert_eq!(words("ping\0 more"), some(&["ping"]));
        assert_eq!(words(""), some(&[]));
    }

    #[test]
    fn refuses_quotes_that_do_not_match() {
        for line in [r#"ping "a"#, r#"ping "a"b"#, "ping 'a", r"ping 'a\'", r#"ping "a\"#, r#"ping 'a'"b""#] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
