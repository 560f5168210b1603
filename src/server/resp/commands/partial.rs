//! Commands that change several keys, and did so for some of them only: the error says which.

use bytes::Bytes;

use super::quote;
use crate::crdt::command::Answer;
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

/// The most of all keys of one kind that an error names, in bytes.
const NAMED: usize = 512;
/// The most of one key that it names, in bytes.
const NAMED_OF_ONE: usize = 64;

/// The error of a command that was done at some of the keys it writes to, and failed at others; `None` where it was done at all or at none.
pub(crate) fn partly_done(written: &[Bytes], results: &[Result<Answer, OperationError>]) -> Option<Reply> {
    let of = |done: bool| written.iter().zip(results).filter(move |(_, result)| result.is_ok() == done).map(|(key, _)| key);
    let error = results.iter().find_map(|result| result.as_ref().err())?;
    of(true).next()?;
    Some(half_done(error, of(true), of(false)))
}

/// An error that keeps its prefix, and names the keys that were changed, and those of which that is not known.
pub(super) fn half_done<'k>(
    error: &OperationError,
    done: impl IntoIterator<Item = &'k Bytes>,
    failed: impl IntoIterator<Item = &'k Bytes>,
) -> Reply {
    Reply::Error(format!("{error}; done: {}; failed: {}", named(done), named(failed)))
}

/// Some keys by name, and how many more there are.
fn named<'k>(keys: impl IntoIterator<Item = &'k Bytes>) -> String {
    let (mut text, mut more) = (String::new(), 0);
    for key in keys {
        if text.len() >= NAMED {
            more += 1;
            continue;
        }
        text.push_str(if text.is_empty() { "'" } else { " '" });
        text.push_str(&quote(key, NAMED_OF_ONE));
        text.push('\'');
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Result<Answer, OperationError> = Err(OperationError::NoQuorum { reached: 1, needed: 2 });

    fn keys(count: usize) -> Vec<Bytes> {
        (0..count).map(|number| Bytes::from(format!("k{number}"))).collect()
    }

    #[test]
    fn the_error_keeps_its_prefix_and_names_what_was_done_and_what_not() {
        let told = partly_done(&keys(3), &[Ok(Answer::Ok), LOST, Ok(Answer::Ok)]);
        let text = "NOQUORUM 1 of 2 replicas answered; done: 'k0' 'k2'; failed: 'k1'";
        assert_eq!(told, Some(Reply::Error(text.to_owned())));
    }

    #[test]
    fn what_was_done_at_all_or_at_none_is_no_half() {
        assert_eq!(partly_done(&keys(2), &[Ok(Answer::Ok), Ok(Answer::Ok)]), None);
        assert_eq!(partly_done(&keys(2), &[LOST, LOST]), None);
        assert_eq!(partly_done(&[], &[Ok(Answer::Nil), LOST]), None, "nothing was written");
    }

    #[test]
    fn however_many_keys_there_are_the_error_is_short() {
        let long: Vec<Bytes> = (0..10_000).map(|number| Bytes::from(format!("{number}{}", "x".repeat(1000)))).collect();
        let results: Vec<_> = (0..10_000).map(|number| if number % 2 == 0 { Ok(Answer::Ok) } else { LOST }).collect();
        let Some(Reply::Error(text)) = partly_done(&long, &results) else { panic!("it is half done") };
        assert!(text.len() < 1400 && text.ends_with(" more"), "{text}");
    }
}
