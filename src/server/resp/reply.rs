//! What a command answers, and its bytes in both versions of the protocol.
//!
//! A reply means the same in both; version 2 only has fewer words for it: a map is an array of keys and values in turn,
//! a set an array, a text or number with a fraction a bulk string, and nothing is a string of length −1.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::double::{print_double, without_zeros};
use crate::crdt::sorted_set::Score;

/// The version of the protocol that a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Protocol {
    /// RESP2, what a connection starts with.
    #[default]
    Resp2,
    /// RESP3, asked for by `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// The version's number.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// What a command answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// A short text of one line, such as `OK`.
    Simple(Cow<'static, str>),
    /// An error: its prefix, a space and what is wrong.
    Error(String),
    /// A number.
    Integer(i64),
    /// A number with a fraction, or an infinite one.
    Double(Score),
    /// A number with a fraction, in digits of its own.
    Digits(String),
    /// A string of any bytes.
    Bulk(Bytes),
    /// A text of several lines, for people.
    Text(String),
    /// Nothing there.
    Null,
    /// No array there.
    NullArray,
    /// Several replies in order.
    Array(Vec<Reply>),
    /// Several different replies in no particular order.
    Set(Vec<Reply>),
    /// Pairs.
    Map(Vec<(Reply, Reply)>),
    /// Pairs in order: an array of arrays of two, in RESP2 one flat array.
    Pairs(Vec<(Reply, Reply)>),
    /// What a client that subscribes is told, beside the replies to its commands; in RESP2 an array.
    Push(Vec<Reply>),
    /// Several replies one after the other, to one command.
    Several(Vec<Reply>),
    /// The head of an array whose elements follow as replies of their own.
    ArrayHead(usize),
}

impl Reply {
    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn weight(&self) -> usize {
        let of_pairs = |pairs: &[(Self, Self)]| pairs.iter().map(|(key, value)| key.weight() + value.weight()).sum();
        let content = match self {
            Self::Bulk(bytes) => bytes.len(),
            Self::Text(text) | Self::Digits(text) | Self::Error(text) => text.len(),
            Self::Array(replies) | Self::Set(replies) | Self::Push(replies) | Self::Several(replies) => {
                replies.iter().map(Self::weight).sum()
            }
            Self::Map(pairs) | Self::Pairs(pairs) => of_pairs(pairs),
            Self::Simple(_) | Self::Integer(_) | Self::Double(_) | Self::Null | Self::NullArray | Self::ArrayHead(_) => 0,
        };
        content + size_of::<Self>()
    }

    /// `OK`.
    pub const OK: Self = Self::Simple(Cow::Borrowed("OK"));

    /// A short text.
    #[must_use]
    pub fn simple(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Simple(text.into())
    }

    /// A string of any bytes.
    #[must_use]
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// A string made of what is displayed.
    #[must_use]
    pub fn text(value: impl ToString) -> Self {
        Self::Bulk(value.to_string().into())
    }

    /// A number with a fraction as Redis prints long doubles: up to 17 digits behind the point.
    #[must_use]
    pub fn digits(number: f64) -> Self {
        Self::Digits(without_zeros(&format!("{number:.17}")).to_owned())
    }

    /// A count. One that no `i64` holds stands at its end.
    #[must_use]
    pub fn count(number: impl TryInto<i64>) -> Self {
        Self::Integer(number.try_into().unwrap_or(i64::MAX))
    }

    /// A map from names.
    #[must_use]
    pub fn map<const N: usize>(pairs: [(&'static str, Self); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (Self::bulk(name), value)).collect())
    }

    /// The error of a wait that CLIENT UNBLOCK … ERROR ended.
    #[must_use]
    pub fn unblocked() -> Self {
        Self::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".to_owned())
    }

    /// Whether this is an error.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.error().is_some()
    }

    /// The text of an error.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        if let Self::Error(text) = self { Some(text) } else { None }
    }

    /// Whether this is something that no client can refuse to hear.
    #[must_use]
    pub fn is_push(&self) -> bool {
        match self {
            Self::Push(_) => true,
            Self::Several(replies) => replies.iter().all(Self::is_push),
            _ => false,
        }
    }

    /// Writes the reply's bytes.
    pub fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        let modern = protocol == Protocol::Resp3;
        match self {
            Self::Simple(text) => {
                out.put_u8(b'+');
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Error(text) => {
                out.put_u8(b'-');
                // What a client sent may be quoted in it, and must not end the line.
                out.extend(text.bytes().map(|byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte }));
                out.put_slice(b"\r\n");
            }
            Self::Integer(number) => put_number(out, b':', *number),
            Self::Double(score) if modern => {
                out.put_u8(b',');
                out.put_slice(print_double(score.value()).as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Double(score) => put_bulk(out, print_double(score.value()).as_bytes()),
            Self::Digits(digits) if modern => {
                out.put_u8(b',');
                out.put_slice(digits.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Digits(digits) => put_bulk(out, digits.as_bytes()),
            Self::Bulk(bytes) => put_bulk(out, bytes),
            Self::Text(text) if modern => {
                put_length(out, b'=', text.len() + 4);
                out.put_slice(b"txt:");
                out.put_slice(text.as_bytes());
                out.put_slice(b"\r\n");
            }
            Self::Text(text) => put_bulk(out, text.as_bytes()),
            Self::Null => out.put_slice(if modern { b"_\r\n" } else { b"$-1\r\n" }),
            Self::NullArray => out.put_slice(if modern { b"_\r\n" } else { b"*-1\r\n" }),
            Self::Array(items) => {
                put_length(out, b'*', items.len());
                items.iter().for_each(|item| item.encode(protocol, out));
            }
            Self::Push(items) => {
                put_length(out, if modern { b'>' } else { b'*' }, items.len());
                items.iter().for_each(|item| item.encode(protocol, out));
            }
            Self::Several(replies) => replies.iter().for_each(|reply| reply.encode(protocol, out)),
            Self::Set(items) => {
                put_length(out, if modern { b'~' } else { b'*' }, items.len());
                items.iter().for_each(|item| item.encode(protocol, out));
            }
            Self::Map(pairs) => {
                let (sign, length) = if modern { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
                put_length(out, sign, length);
                for (key, value) in pairs {
                    key.encode(protocol, out);
                    value.encode(protocol, out);
                }
            }
            Self::Pairs(pairs) => {
                put_length(out, b'*', if modern { pairs.len() } else { pairs.len() * 2 });
                for (first, second) in pairs {
                    if modern {
                        put_length(out, b'*', 2);
                    }
                    first.encode(protocol, out);
                    second.encode(protocol, out);
                }
            }
            Self::ArrayHead(length) => put_length(out, b'*', *length),
        }
    }
}

fn put_bulk(out: &mut BytesMut, bytes: &[u8]) {
    out.reserve(bytes.len() + 16);
    put_length(out, b'$', bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn put_length(out: &mut BytesMut, sign: u8, length: usize) {
    put_number(out, sign, i64::try_from(length).unwrap_or(i64::MAX));
}

/// A sign, a number in decimal, and a line end.
fn put_number(out: &mut BytesMut, sign: u8, number: i64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(sign);
    if number < 0 {
        out.put_u8(b'-');
    }
    out.put_slice(&digits[start..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redis_protocol::resp3::types::OwnedFrame as Frame3;

    use super::*;

    fn encoded(reply: &Reply, protocol: Protocol) -> String {
        let mut out = BytesMut::new();
        reply.encode(protocol, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn both(reply: &Reply) -> (String, String) {
        (encoded(reply, Protocol::Resp2), encoded(reply, Protocol::Resp3))
    }

    #[test]
    fn each_version_has_its_own_words() {
        let same = |text: &str| (text.to_owned(), text.to_owned());
        assert_eq!(both(&Reply::OK), same("+OK\r\n"));
        assert_eq!(both(&Reply::Error("ERR a\r\nb".into())), same("-ERR a  b\r\n"));
        assert_eq!(both(&Reply::bulk("a\r\nb")), same("$4\r\na\r\nb\r\n"));
        assert_eq!(both(&Reply::Array(vec![Reply::Integer(-7), Reply::Array(vec![])])), same("*2\r\n:-7\r\n*0\r\n"));
        assert_eq!(both(&Reply::Null), ("$-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(&Reply::NullArray), ("*-1\r\n".into(), "_\r\n".into()));
        assert_eq!(both(&Reply::Set(vec![Reply::bulk("a")])), ("*1\r\n$1\r\na\r\n".into(), "~1\r\n$1\r\na\r\n".into()));
        assert_eq!(both(&Reply::map([("k", Reply::Integer(0))])), ("*2\r\n$1\r\nk\r\n:0\r\n".into(), "%1\r\n$1\r\nk\r\n:0\r\n".into()));
        assert_eq!(both(&Reply::digits(0.1)), ("$19\r\n0.10000000000000001\r\n".into(), ",0.10000000000000001\r\n".into()));
        assert_eq!(both(&Reply::Double(Score::new(2.5))), ("$3\r\n2.5\r\n".into(), ",2.5\r\n".into()));
        let pairs = Reply::Pairs(vec![(Reply::Integer(1), Reply::Integer(2)), (Reply::Integer(3), Reply::Integer(4))]);
        assert_eq!(both(&pairs), ("*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n".into(), "*2\r\n*2\r\n:1\r\n:2\r\n*2\r\n:3\r\n:4\r\n".into()));
        assert_eq!(both(&Reply::Push(vec![Reply::Null])), ("*1\r\n$-1\r\n".into(), ">1\r\n_\r\n".into()));
        assert_eq!(both(&Reply::Several(vec![Reply::OK, Reply::Integer(1)])), same("+OK\r\n:1\r\n"));
        assert_eq!(both(&Reply::Text("ab".into())), ("$2\r\nab\r\n".into(), "=6\r\ntxt:ab\r\n".into()));
    }

    #[test]
    fn the_head_and_its_elements_are_an_array() {
        let parts = [Reply::ArrayHead(2), Reply::Integer(1), Reply::Null];
        let joined: String = parts.iter().map(|part| encoded(part, Protocol::Resp2)).collect();
        assert_eq!(joined, encoded(&Reply::Array(vec![Reply::Integer(1), Reply::Null]), Protocol::Resp2));
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..9).prop_map(Reply::bulk);
        let leaf = prop_oneof![
            Just(Reply::OK),
            Just(Reply::Null),
            Just(Reply::NullArray),
            any::<i64>().prop_map(Reply::Integer),
            bytes(),
            ".{0,9}".prop_map(Reply::Error)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Reply::Array),
                proptest::collection::vec(inner, 0..4).prop_map(|values| {
                    Reply::Map(values.into_iter().enumerate().map(|(index, value)| (Reply::text(index), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn another_implementation_reads_exactly_one_frame(reply in replies()) {
            let mut out = BytesMut::new();
            reply.encode(Protocol::Resp2, &mut out);
            let (_, taken) = redis_protocol::resp2::decode::decode(&out).unwrap().unwrap();
            prop_assert_eq!(taken, out.len());
            out.clear();
            reply.encode(Protocol::Resp3, &mut out);
            let (frame, taken) = redis_protocol::resp3::decode::complete::decode(&out).unwrap().unwrap();
            prop_assert_eq!(taken, out.len());
            if let Reply::Integer(expected) = reply {
                prop_assert_eq!(frame, Frame3::Number { data: expected, attributes: None });
            }
        }
    }
}
