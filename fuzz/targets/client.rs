//! Bytes as any client could send them: the parser understands the same, however the network cuts them up, keeps no more
//! than was sent, and a command that it understood is understood again when it is sent as it should be.

use bytes::{Bytes, BytesMut};
use ringtide::server::resp::parser::{Parser, ProtocolError, Request};

/// The first byte tells how the rest is cut, and whether the client has given the password.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, stream)) = data.split_first() else { return };
    let stranger = choice & 1 == 1;
    let whole = understand([stream], stranger);
    let piece = usize::from(choice >> 1).max(1);
    assert_eq!(understand(stream.chunks(piece), stranger), whole, "it matters how the bytes are cut");
    for request in &whole.0 {
        let Request::Command(arguments) = request else { continue };
        assert!(!arguments.is_empty(), "a command has a name");
        assert!(arguments.iter().map(Bytes::len).sum::<usize>() <= stream.len(), "more came out than went in");
        let (again, error) = understand([as_array(arguments).as_slice()], false);
        assert_eq!((again, error), (vec![request.clone()], None), "a command changed on its way");
    }
}

/// Everything that the parser makes of some pieces, until it refuses to go on.
fn understand<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, stranger: bool) -> (Vec<Request>, Option<ProtocolError>) {
    let mut parser = Parser::default();
    parser.set_stranger(stranger);
    let mut input = BytesMut::new();
    let mut requests = Vec::new();
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

/// A command in the form that client libraries send.
fn as_array(arguments: &[Bytes]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
