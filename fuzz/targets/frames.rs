//! Bytes as a peer could send them: a stream is cut into the same frames however it arrives, and what is understood is understood
//! the same once it has been written again.

use bytes::Bytes;
use ringtide::backend::libp2p::admission;
use ringtide::backend::libp2p::frame::{FrameError, Splitter};
use ringtide::env::bounds;
use ringtide::env::message::Message;

/// The first byte tells what the rest is: one frame, a stream of frames, or a message of admission. In a stream it tells as well how
/// it is cut up.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 4 {
        0 | 1 => understand(&Bytes::copy_from_slice(rest)),
        2 => {
            let whole = split([rest]);
            let piece = usize::from(choice >> 2).max(1);
            assert_eq!(split(rest.chunks(piece)), whole, "it matters how the bytes are cut");
            whole.0.iter().for_each(understand);
        }
        _ => admit(rest),
    }
}

/// Every frame of a stream that arrives in pieces, until it is refused.
fn split<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Bytes>, Option<FrameError>) {
    let (mut splitter, mut frames) = (Splitter::default(), Vec::new());
    for piece in pieces {
        splitter.extend(piece);
        loop {
            match splitter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn understand(frame: &Bytes) {
    assert!(bounds::items(frame) <= frame.len(), "an item takes a byte at least");
    match Message::from_frame(frame) {
        Ok(message) => {
            let again = message.to_frame();
            match Message::from_frame(&again) {
                Ok(message) => assert_eq!(message.to_frame(), again, "a message changed on its way"),
                Err(error) => panic!("{message:?} is refused once it is written: {error}"),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn admit(bytes: &[u8]) {
    if let Some(message) = admission::Message::from_bytes(bytes) {
        assert_eq!(admission::Message::from_bytes(&message.to_bytes()), Some(message), "a message changed on its way");
    }
}
