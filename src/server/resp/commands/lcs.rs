//! LCS: the longest common subsequence of two strings, its length, or where it lies in both.
//!
//! The table tells for every pair of beginnings of both strings how long their longest common subsequence is. It is walked back from the end, byte by
//! byte, in the same way as in Redis, since there may be several subsequences of that length.

use bytes::Bytes;

use super::action::{Action, CommandError, Operation, value_of};
use super::options::{integer, is};
use super::spec::Parsed;
use crate::config::MAX_COMPARED;
use crate::crdt::command::Refusal;
use crate::crdt::string::Query;
use crate::node::OperationError;
use crate::server::resp::reply::Reply;

/// What LCS is asked for.
#[derive(Clone, Copy, Default)]
struct Options {
    length: bool,
    indexes: bool,
    match_lengths: bool,
    shortest_match: usize,
}

/// A run of bytes that both strings have: its first and last byte in each.
struct Match {
    first: (usize, usize),
    last: (usize, usize),
}

impl Match {
    fn length(&self) -> usize {
        self.last.0 - self.first.0 + 1
    }
}

pub(super) fn lcs(arguments: &[Bytes], _now_ms: i64) -> Parsed {
    let options = options(&arguments[3..]);
    let reads = arguments[1..3].iter().map(|key| Operation::read(key, Query::Get)).collect();
    Ok(Action::first(reads, move |answers| {
        let mut strings = Vec::new();
        for answer in answers {
            if matches!(answer, Err(OperationError::Refused(Refusal::WrongType))) {
                return Err(CommandError::other("ERR The specified keys must contain string values"));
            }
            strings.push(value_of(answer)?);
        }
        // Redis looks at the options only where the keys hold strings.
        let options = options?;
        let [left, right] = strings.as_slice() else { return Err(CommandError::Syntax) };
        let table = Table::new(left, right)?;
        let length = Reply::count(table.at(left.len(), right.len()));
        Ok(Action::Reply(match (options.indexes, options.length) {
            (true, _) => {
                let matches = table.matches(left, right).0;
                let matches = matches.iter().filter(|found| found.length() >= options.shortest_match);
                Reply::map([("matches", Reply::Array(matches.map(|found| told(found, options.match_lengths)).collect())), ("len", length)])
            }
            (false, true) => length,
            (false, false) => Reply::bulk(table.matches(left, right).1),
        }))
    }))
}

fn told(found: &Match, with_length: bool) -> Reply {
    let pair = |first, last| Reply::Array(vec![Reply::count(first), Reply::count(last)]);
    let ranges = [pair(found.first.0, found.last.0), pair(found.first.1, found.last.1)];
    Reply::Array(ranges.into_iter().chain(with_length.then(|| Reply::count(found.length()))).collect())
}

fn options(arguments: &[Bytes]) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        match () {
            () if is(option, "len") => options.length = true,
            () if is(option, "idx") => options.indexes = true,
            () if is(option, "withmatchlen") => options.match_lengths = true,
            () if is(option, "minmatchlen") => {
                let shortest = integer(rest.next().ok_or(CommandError::Syntax)?)?;
                options.shortest_match = usize::try_from(shortest.max(0)).unwrap_or(usize::MAX);
            }
            () => return Err(CommandError::Syntax),
        }
    }
    if options.length && options.indexes {
        return Err(CommandError::other("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

/// The length of the longest common subsequence of each pair of beginnings.
struct Table {
    columns: usize,
    cells: Vec<u32>,
}

impl Table {
    fn new(left: &[u8], right: &[u8]) -> Result<Self, CommandError> {
        let columns = right.len() + 1;
        let cells = columns.saturating_mul(left.len() + 1);
        if cells > MAX_COMPARED / size_of::<u32>() {
            return Err(CommandError::other("ERR Insufficient memory, transient memory for LCS exceeds its limit of 64 MiB"));
        }
        let mut table = Self { columns, cells: vec![0; cells] };
        for (row, own) in left.iter().enumerate() {
            for (column, other) in right.iter().enumerate() {
                let longest =
                    if own == other { table.at(row, column) + 1 } else { table.at(row, column + 1).max(table.at(row + 1, column)) };
                table.cells[(row + 1) * columns + column + 1] = longest;
            }
        }
        Ok(table)
    }

    fn at(&self, row: usize, column: usize) -> u32 {
        self.cells[row * self.columns + column]
    }

    /// The runs that a longest common subsequence consists of, the last first, and the subsequence.
    fn matches(&self, left: &[u8], right: &[u8]) -> (Vec<Match>, Vec<u8>) {
        let (mut matches, mut common): (Vec<Match>, Vec<u8>) = (Vec::new(), Vec::new());
        let (mut row, mut column) = (left.len(), right.len());
        let mut is_open = false;
        while row > 0 && column > 0 {
            if left[row - 1] == right[column - 1] {
                (row, column) = (row - 1, column - 1);
                common.push(left[row]);
                match matches.last_mut().filter(|_| is_open) {
                    Some(open) => open.first = (row, column),
                    None => matches.push(Match { first: (row, column), last: (row, column) }),
                }
                is_open = true;
            } else {
                if self.at(row - 1, column) > self.at(row, column - 1) {
                    row -= 1;
                } else {
                    column -= 1;
                }
                is_open = false;
            }
        }
        common.reverse();
        (matches, common)
    }
}
