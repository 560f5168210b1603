//! The parser beside an independent decoder, over bytes that arrive in any pieces.

use proptest::prelude::*;
use redis_protocol::resp2::types::{OwnedFrame, Resp2Frame};

use super::*;

/// Feeds the pieces one after the other and collects what comes out.
fn parse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Request>, Option<ProtocolError>) {
    let (mut parser, mut input, mut requests) = (Parser::default(), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match parser.feed(&mut input) {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => return (requests, Some(error)),
            }
        }
    }
    (requests, None)
}

fn whole(bytes: &[u8]) -> (Vec<Request>, Option<ProtocolError>) {
    parse([bytes])
}

fn command(words: &[&str]) -> Request {
    Request::Command(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect())
}

/// Bytes near the grammar: pieces of well-formed commands, and what spoils them.
fn nearly_commands() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 1..5).prop_map(|words| encode(&words)),
        1 => "[a-z'\" \\\\x0-9]{0,12}(\r\n|\n)".prop_map(String::into_bytes),
        1 => "[*$][-0-9]{0,3}\r\n".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// A command as the `redis-protocol` crate writes it.
fn encode(words: &[Vec<u8>]) -> Vec<u8> {
    let frame = OwnedFrame::Array(words.iter().map(|word| OwnedFrame::BulkString(word.clone())).collect());
    let mut bytes = vec![0; frame.encode_len(false)];
    redis_protocol::resp2::encode::encode(&mut bytes, &frame, false).unwrap();
    bytes
}

proptest! {
    #[test]
    fn reads_what_another_implementation_writes(commands in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), 0..6)) {
        let bytes: Vec<u8> = commands.iter().flat_map(|words| encode(words)).collect();
        let expected: Vec<Request> = commands.into_iter().map(|words| Request::Command(words.into_iter().map(Bytes::from).collect())).collect();
        prop_assert_eq!(whole(&bytes), (expected, None));
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_commands(bytes in nearly_commands(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let expected = whole(&bytes);
        prop_assert_eq!(&parse(cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]])), &expected);
        prop_assert_eq!(&parse(bytes.chunks(1)), &expected);
    }
}

#[test]
fn arrays_and_lines_may_alternate() {
    let (requests, error) = whole(b"PING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n\r\n*0\r\n*-1\r\n get 'a b'\n*1\r\n$4\r\nPI");
    assert_eq!(requests, [command(&["PING"]), command(&["GET", ""]), command(&["get", "a b"])]);
    assert_eq!(error, None);
}

#[test]
fn what_is_no_command_gets_the_error_of_redis() {
    let cases: [(&[u8], &str); 14] = [
        (b"*abc\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*2147483647\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1\nPING\r\n", "invalid multibulk length"),
        (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
        (b"*1\r\n\r\n", "expected '$', got ' '"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
        (b"ping \"a\r\n", "unbalanced quotes in request"),
        (&[b'a'; MAX_INLINE + 1], "too big inline request"),
        (&[b'*'; MAX_INLINE + 1], "too big mbulk count string"),
        (&[b"*1\r\n$".as_slice(), &[b'1'; MAX_INLINE]].concat(), "too big bulk count string"),
    ];
    for (bytes, message) in cases {
        let (requests, error) = whole(bytes);
        assert_eq!(requests, []);
        assert_eq!(error.map(|error| error.to_string()), Some(format!("ERR Protocol error: {message}")));
    }
}

#[test]
fn nested_arrays_end_at_the_second_one() {
    assert_eq!(whole(&b"*1\r\n".repeat(20_000)), (vec![], Some(ProtocolError::NotBulk(b'*'))));
}

#[test]
fn announcing_much_allocates_nothing() {
    let (mut parser, mut input) = (Parser::default(), BytesMut::from("*1048576\r\n$16777216\r\nabc"));
    assert_eq!(parser.feed(&mut input), Ok(None));
    assert!(parser.arguments.capacity() < 8 && input.capacity() < 64);
}

#[test]
fn a_value_above_the_limit_is_skipped_and_told() {
    let mut bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777217\r\n".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', MAX_VALUE + 1));
    bytes.extend_from_slice(b"\r\nPING\r\n");
    let (mut parser, mut input, mut requests) = (Parser::default(), BytesMut::new(), Vec::new());
    for piece in bytes.chunks(64 * 1024) {
        input.extend_from_slice(piece);
        while let Some(request) = parser.feed(&mut input).unwrap() {
            requests.push(request);
        }
        assert!(input.len() <= 2, "skipped bytes are not kept");
    }
    assert_eq!(requests, [Request::TooBig, command(&["PING"])]);
}

#[test]
fn a_command_is_limited_as_a_whole() {
    let value = [b"$16777216\r\n".as_slice(), &[b'x'; MAX_VALUE], b"\r\n"].concat();
    let (mut parser, mut input) = (Parser::default(), BytesMut::from("*10\r\n"));
    for _ in 0..9 {
        input.extend_from_slice(&value);
        assert_eq!(parser.feed(&mut input), Ok(None));
    }
    assert!(parser.arguments.is_empty(), "nothing is kept of a command that is refused");
    input.extend_from_slice(&value);
    assert_eq!(parser.feed(&mut input), Ok(Some(Request::TooBig)));
}

#[test]
fn a_client_without_password_is_kept_short() {
    for (bytes, error) in [("*11\r\n", ProtocolError::StrangerCount), ("*1\r\n$16385\r\n", ProtocolError::StrangerLength)] {
        let mut parser = Parser::default();
        parser.set_stranger(true);
        assert_eq!(parser.feed(&mut BytesMut::from(bytes)), Err(error));
    }
}

#[test]
fn a_command_that_is_discarded_is_skipped_to_its_end_and_the_next_one_is_read() {
    let mut parser = Parser::default();
    let mut input = BytesMut::from("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20\r\n0123456789");
    assert_eq!(parser.feed(&mut input), Ok(None));
    assert!(parser.kept() > 0);
    parser.discard();
    assert_eq!((parser.feed(&mut input), parser.kept(), input.is_empty()), (Ok(None), 0, true));
    input.extend_from_slice(b"0123456789\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
    assert_eq!(parser.feed(&mut input), Ok(Some(Request::Discarded)));
    assert_eq!(parser.feed(&mut input), Ok(Some(command(&["PING"]))));
    // Between two commands there is nothing to discard.
    parser.discard();
    assert_eq!(parser.feed(&mut input), Ok(Some(command(&["PING"]))));
}
