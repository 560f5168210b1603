//! How frames lie in a stream: a length of four bytes (big endian), one byte that says what follows, the body.
//!
//! ```text
//! 00 00 00 03 | 01 | 'a' 'b'      a frame for the node: "ab"
//! 00 00 00 01 | 00                nothing but "I am still here"
//! ```
//!
//! The length counts the kind byte and the body. It is checked before anything is kept for it, and a body is collected as it
//! arrives: a peer that claims much and sends little costs little.

use bytes::{Buf, Bytes, BytesMut};

use crate::config::MAX_FRAME;

/// Bytes that stand before a body.
pub(super) const HEADER: usize = 5;
/// The whole of a message that only says that its sender is still there.
pub(super) const ALIVE: [u8; HEADER] = [0, 0, 0, 1, KIND_ALIVE];

const KIND_ALIVE: u8 = 0;
const KIND_FRAME: u8 = 1;

/// What stands before a body of this length; `None` where it exceeds [`MAX_FRAME`].
pub(super) fn header(body: usize) -> Option<[u8; HEADER]> {
    let length = u32::try_from(body).ok().filter(|_| body <= MAX_FRAME)?.checked_add(1)?;
    let [a, b, c, d] = length.to_be_bytes();
    Some([a, b, c, d, KIND_FRAME])
}

/// Why a stream of frames cannot be read on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// More than any frame may hold.
    #[error("it announced a frame of {0} bytes")]
    TooLong(u32),
    /// Not even the byte that says what it is.
    #[error("it sent a frame without content")]
    Empty,
    /// Nothing this version knows.
    #[error("it sent a frame of the unknown kind {0}")]
    Kind(u8),
}

/// Cuts what arrives into frames.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Takes the next bytes of the stream.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Gives the next whole frame, without copying it; `None` until more has arrived.
    ///
    /// # Errors
    /// Where the stream holds something else than frames; then nothing after it can be trusted.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let Some(&[a, b, c, d, kind]) = self.buffer.first_chunk::<HEADER>() else {
                return Ok(None);
            };
            let announced = u32::from_be_bytes([a, b, c, d]);
            let body = announced.checked_sub(1).ok_or(FrameError::Empty)?;
            let body = usize::try_from(body).ok().filter(|body| *body <= MAX_FRAME).ok_or(FrameError::TooLong(announced))?;
            match kind {
                KIND_FRAME if self.buffer.len() < HEADER + body => return Ok(None),
                KIND_FRAME => {
                    self.buffer.advance(HEADER);
                    return Ok(Some(self.buffer.split_to(body).freeze()));
                }
                KIND_ALIVE if body == 0 => self.buffer.advance(HEADER),
                other => return Err(FrameError::Kind(other)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for body in bodies {
            stream.extend_from_slice(&ALIVE);
            stream.extend_from_slice(&header(body.len()).unwrap());
            stream.extend_from_slice(body);
        }
        stream
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting_of_the_stream(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            piece in 1..50usize,
        ) {
            let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
            for bytes in encode(&bodies).chunks(piece) {
                splitter.extend(bytes);
                while let Some(frame) = splitter.next_frame().unwrap() {
                    frames.push(frame.to_vec());
                }
            }
            prop_assert_eq!(frames, bodies);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut splitter = Splitter::default();
            splitter.extend(&bytes);
            while let Ok(Some(_)) = splitter.next_frame() {}
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_as_soon_as_it_is_read() {
        let mut splitter = Splitter::default();
        splitter.extend(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert_eq!(splitter.next_frame(), Err(FrameError::TooLong(u32::MAX)));
        assert!(header(MAX_FRAME).is_some());
        assert!(header(MAX_FRAME + 1).is_none());
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        let mut splitter = Splitter::default();
        splitter.extend(&header(MAX_FRAME).unwrap());
        assert_eq!(splitter.next_frame(), Ok(None));
        let longer = u32::try_from(MAX_FRAME + 2).unwrap();
        let mut splitter = Splitter::default();
        splitter.extend(&longer.to_be_bytes());
        splitter.extend(&[KIND_FRAME]);
        assert_eq!(splitter.next_frame(), Err(FrameError::TooLong(longer)));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (bytes, error) in
            [([0, 0, 0, 0, 1], FrameError::Empty), ([0, 0, 0, 2, 7], FrameError::Kind(7)), ([0, 0, 0, 2, 0], FrameError::Kind(0))]
        {
            let mut splitter = Splitter::default();
            splitter.extend(&bytes);
            assert_eq!(splitter.next_frame(), Err(error));
        }
    }
}
