//! Commands on a key of any type: its deletion and its expiry.

use super::command::{Answer, ExpireCondition};
use super::delta::{RowAddress, Rows};
use super::execute::{ExecuteError, Executed};
use super::look::Look;
use super::write::Write;
use crate::types::Timestamp;

/// DEL: everything that was observed.
pub(super) fn delete<R: Rows>(rows: &R, mut write: Write<'_, '_>) -> Result<Executed, ExecuteError<R::Error>> {
    let observed = rows.rows_of(write.key).map_err(ExecuteError::Rows)?;
    let look = Look::of(&observed, write.now());
    if !look.exists() {
        return Ok(write.done(Answer::Integer(0)));
    }
    write.replace_key(&observed, &look, false);
    Ok(write.done(Answer::Integer(1)))
}

/// EXPIREAT: where the time is past already, a deletion.
pub(super) fn expire<R: Rows>(
    rows: &R,
    mut write: Write<'_, '_>,
    at_ms: i64,
    condition: ExpireCondition,
) -> Result<Executed, ExecuteError<R::Error>> {
    let look = Look::at(rows, write.key, write.now()).map_err(ExecuteError::Rows)?;
    let at = u64::try_from(at_ms).unwrap_or(0);
    let before = look.expires_at();
    let goes = look.exists()
        && match condition {
            ExpireCondition::Always => true,
            ExpireCondition::NoExpiry => before.is_none(),
            ExpireCondition::HasExpiry => before.is_some(),
            ExpireCondition::Later => before.is_some_and(|before| at > before),
            ExpireCondition::Earlier => before.is_none_or(|before| at < before),
            ExpireCondition::HasExpiryAndEarlier => before.is_some_and(|before| at < before),
        };
    if !goes {
        return Ok(write.done(Answer::Integer(0)));
    }
    if Timestamp::from_millis(at) <= write.now() {
        return delete(rows, write);
    }
    let expiry_row = rows.row(&RowAddress::expiry(write.key)).map_err(ExecuteError::Rows)?;
    write.decide(Some(at), &look, &expiry_row);
    Ok(write.done(Answer::Integer(1)))
}

/// PERSIST.
pub(super) fn persist<R: Rows>(rows: &R, mut write: Write<'_, '_>) -> Result<Executed, ExecuteError<R::Error>> {
    let look = Look::at(rows, write.key, write.now()).map_err(ExecuteError::Rows)?;
    if look.expires_at().is_none() {
        return Ok(write.done(Answer::Integer(0)));
    }
    let expiry_row = rows.row(&RowAddress::expiry(write.key)).map_err(ExecuteError::Rows)?;
    write.decide(None, &look, &expiry_row);
    Ok(write.done(Answer::Integer(1)))
}
