//! Where the members stand on the circle.

use crate::config::{MAX_TOKENS, TOKENS_PER_PEER};
use crate::types::PeerId;

use super::RingMember;

/// One place on the circle where a member stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Token {
    /// Where on the circle, which is all of `u64`.
    pub position: u64,
    /// Whose, as index into the list of members.
    pub member: usize,
}

/// The tokens of all members in order of position. `members` has to be in a fixed order.
pub(super) fn tokens(members: &[&RingMember]) -> Vec<Token> {
    let wanted = |member: &RingMember| TOKENS_PER_PEER as u64 * u64::from(member.capacity.max(1));
    let total = members.iter().fold(0, |sum: u64, member| sum.saturating_add(wanted(member)));
    // Halved for all alike, so that huge capacities cost neither memory nor time and small changes of the sum change nothing.
    let halvings = (0..64).find(|halvings| total >> halvings <= MAX_TOKENS as u64).unwrap_or(63);
    let mut tokens = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let count = (wanted(member) >> halvings).max(1);
        let mut hash = stream("ringtide ring tokens v1", member.peer);
        for _ in 0..count {
            tokens.push(Token { position: next(&mut hash), member: index });
        }
    }
    tokens.sort_unstable();
    tokens
}

/// A number that belongs to a peer for ever, spread evenly over `u32`. It says whose share is rounded up.
pub(super) fn rounding(peer: PeerId) -> u32 {
    (next(&mut stream("ringtide ring rounding v1", peer)) >> 32) as u32
}

fn stream(context: &str, peer: PeerId) -> blake3::OutputReader {
    blake3::Hasher::new_derive_key(context).update(&peer.0).finalize_xof()
}

fn next(stream: &mut blake3::OutputReader) -> u64 {
    let mut bytes = [0; 8];
    stream.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}
