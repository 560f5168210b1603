//! Sets: a row per member. An add wins over a concurrent remove, which takes away only what it had seen.

use bytes::Bytes;

use super::command::{Answer, DataType, Refusal};
use super::delta::{Payload, RowAddress, Rows};
use super::execute::{ExecuteError, Executed};
use super::look::{Look, row_shows};
use super::write::Write;

fn look<R: Rows>(rows: &R, write: &Write<'_, '_>) -> Result<Look, ExecuteError<R::Error>> {
    let look = Look::at(rows, write.key, write.now()).map_err(ExecuteError::Rows)?;
    match look.shown {
        None | Some(DataType::Set) => Ok(look),
        Some(DataType::String) => Err(Refusal::WrongType.into()),
    }
}

/// SADD.
pub(super) fn add<R: Rows>(rows: &R, mut write: Write<'_, '_>, members: &[Bytes]) -> Result<Executed, ExecuteError<R::Error>> {
    let look = look(rows, &write)?;
    let expiry_row = rows.row(&RowAddress::expiry(write.key)).map_err(ExecuteError::Rows)?;
    let carried = write.carry(&look, &expiry_row);
    let mut added = 0;
    let mut members: Vec<&Bytes> = members.iter().collect();
    members.sort_unstable();
    members.dedup();
    for member in members {
        let address = RowAddress::member(write.key, member);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        added += i64::from(!row_shows(&row, &look.decisions, look.now));
        // A member that is there is written anew all the same: only so does this add win over a concurrent remove.
        write.replace_row(&address, &row, Vec::new());
        write.add(address, Payload::Present, carried);
    }
    Ok(write.done(Answer::Integer(added)))
}

/// SREM.
pub(super) fn remove<R: Rows>(rows: &R, mut write: Write<'_, '_>, members: &[Bytes]) -> Result<Executed, ExecuteError<R::Error>> {
    let look = look(rows, &write)?;
    let mut removed = 0;
    let mut members: Vec<&Bytes> = members.iter().collect();
    members.sort_unstable();
    members.dedup();
    for member in members {
        let address = RowAddress::member(write.key, member);
        let row = rows.row(&address).map_err(ExecuteError::Rows)?;
        if row_shows(&row, &look.decisions, look.now) {
            write.replace_row(&address, &row, Vec::new());
            removed += 1;
        }
    }
    Ok(write.done(Answer::Integer(removed)))
}
