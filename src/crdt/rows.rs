//! Where rows are read from and put: what [`join`](super::delta::join) and the commands need of the rows of one partition.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::expiry::Expiry;
use super::kind::Kind;
use super::row::{Row, RowAddress};
use super::score::{Order, Score, Scored, compare};
use super::score_view::ScoreView;
use super::summary::Summary;
use crate::types::key_hash;

/// Takes a member and its score.
pub type VisitRanked<'v> = dyn FnMut(&Bytes, Score) -> ControlFlow<()> + 'v;

/// The rows of one partition, as [`join`](super::delta::join) and the commands need them.
pub trait Rows {
    /// Why rows could not be read.
    type Error;

    /// The row at an address, empty where there is none.
    ///
    /// # Errors
    /// Where the row could not be read. An unreadable row is never an absent one.
    fn row(&self, address: &RowAddress) -> Result<Row, Self::Error>;

    /// Visits the rows of a key that are not empty, in order of address, until the visitor breaks. What only needs to
    /// know the type, or whether anything is there, must not read a million members: it breaks early.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn visit(&self, key: &Bytes, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>) -> Result<(), Self::Error> {
        self.visit_from(key, Kind::Expiry, visitor)
    }

    /// As [`Self::visit`], from the rows of a kind on.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn visit_from(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>)
    -> Result<(), Self::Error>;

    /// Visits the rows of one kind of a key that are not empty, the last first, until the visitor breaks.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn visit_back(&self, key: &Bytes, kind: Kind, visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>)
    -> Result<(), Self::Error>;

    /// What can be told of a key's elements without reading them.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn summary(&self, key: &Bytes) -> Result<Summary, Self::Error> {
        summary_of(self, key)
    }

    /// Visits the rows of one kind of a key that are not empty, in the order of their elements' [hashes](key_hash) and from a hash on, until the
    /// visitor breaks. For kinds whose order means nothing: members and fields.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn visit_hashed(
        &self,
        key: &Bytes,
        kind: Kind,
        from_hash: u64,
        visitor: &mut dyn FnMut(&RowAddress, &Row) -> ControlFlow<()>,
    ) -> Result<(), Self::Error> {
        let mut rows = BTreeMap::new();
        self.visit_from(key, kind, &mut |address, row| {
            if address.kind != kind {
                return ControlFlow::Break(());
            }
            rows.insert((key_hash(&address.element), address.element.clone()), (address.clone(), row.clone()));
            ControlFlow::Continue(())
        })?;
        let _ = rows.range((from_hash, Bytes::new())..).try_for_each(|(_, (address, row))| visitor(address, row));
        Ok(())
    }

    /// Visits the members of a sorted set with their scores, from either end and a score on, until the visitor breaks. Tells whether it could: where
    /// not, nobody was visited. Only for a key whose [`summary`](Self::summary) stands.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn visit_ranked(&self, key: &Bytes, order: Order, from: Option<Score>, visitor: &mut VisitRanked<'_>) -> Result<bool, Self::Error> {
        let members = order.of(scored(self, &Expiry::default(), key)?);
        let from = members.into_iter().skip_while(|(_, score)| from.is_some_and(|from| order.begins_before(*score, from)));
        let _ = from.into_iter().try_for_each(|(member, score)| visitor(&member, score));
        Ok(true)
    }

    /// Every row of a key that is not empty, in order of address.
    ///
    /// # Errors
    /// Where the rows could not be read.
    fn rows_of(&self, key: &Bytes) -> Result<BTreeMap<RowAddress, Row>, Self::Error> {
        let mut rows = BTreeMap::new();
        self.visit(key, &mut |address, row| {
            rows.insert(address.clone(), row.clone());
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }
}

/// Rows that can be changed.
pub trait RowsMut: Rows {
    /// Puts a row in place of what stood at the address; an empty one takes it away.
    fn put(&mut self, address: RowAddress, row: Row);
}

/// What is to be told of a key whose rows have to be read for it.
///
/// # Errors
/// Where they could not be read.
pub fn summary_of<R: Rows + ?Sized>(rows: &R, key: &Bytes) -> Result<Summary, R::Error> {
    let (mut summary, none) = (Summary::default(), Row::new());
    rows.visit_from(key, Kind::Member, &mut |address, row| {
        summary.follow(address.kind, &none, row);
        ControlFlow::Continue(())
    })?;
    Ok(summary)
}

/// The members that show, in order of (score, member).
pub(super) fn scored<R: Rows + ?Sized>(rows: &R, expiry: &Expiry, key: &Bytes) -> Result<Scored, R::Error> {
    let mut members = Vec::new();
    rows.visit_from(key, Kind::Score, &mut |address, row| {
        if address.kind != Kind::Score {
            return ControlFlow::Break(());
        }
        members.extend(ScoreView::of(row, expiry).score().map(|score| (address.element.clone(), Score::new(score))));
        ControlFlow::Continue(())
    })?;
    members.sort_by(|(one, score), (other, other_score)| compare(*score, *other_score).then_with(|| one.cmp(other)));
    Ok(members)
}
