//! What SRANDMEMBER, HRANDFIELD and ZRANDMEMBER have in common: how many are picked, and how.

use bytes::Bytes;

use super::action::{CommandError, bulks};
use super::options::integer;
use crate::crdt::random::Pick;
use crate::server::resp::reply::Reply;

/// Most picks of one command that may repeat themselves: a client could ask for more than any memory holds.
const MOST_REPEATED: usize = 1024 * 1024;

/// The count of such a command: a negative one lets picks repeat themselves.
///
/// # Errors
/// Where it is no integer, or beyond what may be asked for.
pub(super) fn random_count(argument: &[u8]) -> Result<Pick, CommandError> {
    let count = integer(argument)?;
    if count == i64::MIN {
        let most = i64::MAX;
        return Err(CommandError::Other(format!("ERR value is out of range, value must between {} and {most}", -most)));
    }
    let magnitude = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    match () {
        () if count >= 0 => Ok(Pick::Distinct(magnitude)),
        () if magnitude <= MOST_REPEATED => Ok(Pick::Repeated(magnitude)),
        () => Err(CommandError::OutOfRange),
    }
}

/// Checks a count of pairs, which Redis counts twice.
///
/// # Errors
/// Where twice as many are beyond what may be asked for.
pub(super) fn check_pairs(pick: Pick, paired: bool) -> Result<(), CommandError> {
    let most = usize::try_from(i64::MAX / 2).unwrap_or(usize::MAX);
    match pick {
        Pick::Distinct(count) | Pick::Repeated(count) if paired && count > most => Err(CommandError::OutOfRange),
        _ => Ok(()),
    }
}

/// Elements that were picked, as a reply.
pub(super) fn picked(pick: Pick, elements: Vec<Bytes>) -> Reply {
    if pick == Pick::One { elements.into_iter().next().map_or(Reply::Null, Reply::Bulk) } else { bulks(elements) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_say_how_many_are_picked_and_whether_they_repeat() {
        assert_eq!(random_count(b"5"), Ok(Pick::Distinct(5)));
        assert_eq!(random_count(b"-5"), Ok(Pick::Repeated(5)));
        assert_eq!(random_count(b"-9999999999"), Err(CommandError::OutOfRange), "no memory holds so many");
        assert_eq!(random_count(b"9999999999"), Ok(Pick::Distinct(9_999_999_999)), "there are never so many");
        assert_eq!(random_count(b"x"), Err(CommandError::NotAnInteger));
        assert_eq!(check_pairs(Pick::Distinct(usize::MAX), false), Ok(()));
        assert_eq!(check_pairs(Pick::Distinct(usize::MAX), true), Err(CommandError::OutOfRange));
    }

    #[test]
    fn what_is_picked_of_nothing_is_nothing() {
        assert_eq!(picked(Pick::One, Vec::new()), Reply::Null);
        assert_eq!(picked(Pick::Repeated(3), Vec::new()), Reply::Array(Vec::new()));
        assert_eq!(picked(Pick::One, vec!["a".into()]), Reply::bulk("a"));
        assert_eq!(picked(Pick::Repeated(2), vec!["a".into(), "a".into()]), bulks(["a".into(), "a".into()]));
    }
}
