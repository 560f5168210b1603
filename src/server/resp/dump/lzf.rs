//! LZF, by which Redis makes strings of more than twenty bytes shorter: bytes as they are, and repetitions of what came before.
//!
//! ```text
//! 000lllll                    the next l + 1 bytes as they are
//! lllddddd dddddddd           l + 2 bytes again, from d + 1 bytes back; they may reach into what they become
//! 111ddddd llllllll dddddddd  l + 9 bytes again
//! ```
//!
//! Source: `lzf_d.c` of liblzf (Lehmann).

/// The bytes that so many came from; `None` where they are no such thing. The result grows as bytes arrive, never at the word of a head alone.
pub(super) fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let (mut unpacked, mut rest) = (Vec::new(), packed.iter());
    while let Some(control) = rest.next() {
        let count = usize::from(control >> 5);
        if count == 0 {
            let literals = usize::from(*control) + 1;
            let (taken, behind) = rest.as_slice().split_at_checked(literals)?;
            unpacked.extend_from_slice(taken);
            rest = behind.iter();
        } else {
            let count = if count == 7 { 7 + usize::from(*rest.next()?) } else { count } + 2;
            let distance = (usize::from(control & 0x1f) << 8 | usize::from(*rest.next()?)) + 1;
            let from = unpacked.len().checked_sub(distance)?;
            for place in from..from + count {
                unpacked.push(*unpacked.get(place)?);
            }
        }
        if unpacked.len() > length {
            return None;
        }
    }
    (unpacked.len() == length).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_may_reach_into_themselves() {
        // "ab", then 4 bytes from 2 back.
        assert_eq!(unpack(&[1, b'a', b'b', 2 << 5, 1], 6).as_deref(), Some(&b"ababab"[..]));
        // "x", then 9 + 5 bytes from 1 back.
        assert_eq!(unpack(&[0, b'x', 7 << 5, 5, 0], 15).as_deref(), Some(&[b'x'; 15][..]));
    }

    #[test]
    fn what_is_cut_short_or_points_before_the_beginning_is_refused() {
        for packed in [&[2, b'a'][..], &[0, b'a', 1 << 5], &[0, b'a', 7 << 5, 1], &[0, b'a', 1 << 5, 1], &[1 << 5, 0]] {
            assert_eq!(unpack(packed, 4), None, "{packed:?}");
        }
        assert_eq!(unpack(&[0, b'a'], 2), None, "it is shorter than was said");
        assert_eq!(unpack(&[2, b'a', b'b', b'c'], 2), None, "it is longer than was said");
    }
}
