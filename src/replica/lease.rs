//! The lease record: what a peer may use without asking the disk again, so that no dot and no timestamp ever comes twice.
//!
//! Counters and timestamps are leased in blocks. The record with the end of a block is durable, in a file of its own that does
//! not fall back when the store's journal does, *before* anything of the block is used. What a start finds decides how it goes on:
//!
//! | record | actor | counters | state id |
//! |---|---|---|---|
//! | none, or not provably ours | a fresh one | from 1 | a new one |
//! | of a clean stop | the same | exactly where they were | the same |
//! | of a run that ended otherwise | the same | after the end of the block | a new one |
//!
//! Skipped counters stay a hole in the clocks, a few bytes. To fill it could be fatal: a write of the lost tail may have left the
//! machine under one of them. A clean stop is told once: the record that a start writes no longer says so.

use bytes::Bytes;

use crate::config::DOT_LEASE;
use crate::crdt::codec::{DecodeError, Reader, Writer};
use crate::hlc::Hlc;
use crate::types::{Actor, Timestamp};

const VERSION: u8 = 1;
const CHECKSUM: usize = 16;

/// What is leased, as it is kept on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The author of this peer's dots.
    pub actor: Actor,
    /// Names what this peer's replicas have seen; new wherever something of it may have been lost.
    pub state_id: u64,
    /// The first counter that was free when the state id was made, in every partition. Counter runs that began before are never continued.
    pub born: u64,
    /// The last counter that may be used, in every partition.
    pub dots_until: u64,
    /// The last timestamp that may be used.
    pub time_until: Timestamp,
    /// The next free counter of each partition, where the last run stopped cleanly.
    pub clean: Option<Vec<u64>>,
}

/// Random numbers for a start, drawn by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// The author of dots, if a new one is needed.
    pub actor: Actor,
    /// The state id, if a new one is needed.
    pub state_id: u64,
}

/// How a start goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// The next free counter of each partition.
    pub next: Vec<u64>,
    /// The timestamp after which the clock continues.
    pub time: Timestamp,
}

impl Lease {
    /// Decides how a start goes on from the record that the run before left. The returned lease must be durable before
    /// anything of it is used.
    #[must_use]
    pub fn start(previous: Option<Self>, fresh: Fresh, partitions: u16, wall_ms: u64) -> (Self, Start) {
        let time = previous.as_ref().map_or_else(Timestamp::default, |previous| previous.time_until);
        let time_until = Hlc::start(time).lease_target(wall_ms);
        let all_from = |first| vec![first; usize::from(partitions)];
        let unborn = Self { actor: fresh.actor, state_id: fresh.state_id, born: 1, dots_until: DOT_LEASE, time_until, clean: None };
        let Some(mut lease) = previous else { return (unborn, Start { next: all_from(1), time }) };
        lease.time_until = time_until;
        if let Some(next) = lease.clean.take().filter(|next| next.len() == usize::from(partitions) && lease.holds(next)) {
            return (lease, Start { next, time });
        }
        let first = lease.dots_until.checked_add(1);
        match first.and_then(|first| Some((first, first.checked_add(DOT_LEASE)?))) {
            Some((first, dots_until)) => {
                lease = Self { state_id: fresh.state_id, born: first, dots_until, ..lease };
                (lease, Start { next: all_from(first), time })
            }
            // Every counter of this actor is used up.
            None => (unborn, Start { next: all_from(1), time }),
        }
    }

    /// Whether the next free counters are such as a stop under this lease can have left.
    fn holds(&self, next: &[u64]) -> bool {
        next.iter().all(|next| (1..=self.dots_until.saturating_add(1)).contains(next))
    }

    /// Reaches further: at least as far as `counter` and a block more, and up to `time_until`.
    pub fn renew(&mut self, counter: u64, time_until: Timestamp) {
        if counter > self.dots_until {
            self.dots_until = counter.saturating_add(DOT_LEASE);
        }
        self.time_until = self.time_until.max(time_until);
    }

    /// The record, closed by its checksum.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION);
        writer.word(self.actor.0);
        writer.word(self.state_id);
        writer.number(self.born);
        writer.number(self.dots_until);
        writer.word(self.time_until.0);
        writer.byte(u8::from(self.clean.is_some()));
        if let Some(next) = &self.clean {
            writer.count(next.len());
            for next in next {
                writer.number(*next);
            }
        }
        let checksum = checksum(writer.as_slice());
        writer.raw(&checksum);
        writer.into_bytes()
    }

    /// The lease that a record holds.
    ///
    /// # Errors
    /// Where the record is damaged or of another version.
    pub fn from_bytes(record: &[u8]) -> Result<Self, DecodeError> {
        let (content, sum) = record.split_last_chunk::<CHECKSUM>().ok_or(DecodeError::Truncated("the lease record"))?;
        if checksum(content) != *sum {
            return Err(DecodeError::Invalid("the lease record does not match its checksum"));
        }
        let content = Bytes::copy_from_slice(content);
        let mut reader = Reader::versioned(&content, "the lease record", VERSION)?;
        let actor = Actor(reader.word("actor")?);
        let state_id = reader.word("state id")?;
        let born = reader.number("first counter")?;
        let dots_until = reader.number("leased counters")?;
        let time_until = Timestamp(reader.word("leased time")?);
        let clean = match reader.byte("clean stop")? {
            0 => None,
            1 => {
                let count = reader.count("partitions", usize::from(u16::MAX))?;
                Some((0..count).map(|_| reader.number("next counter")).collect::<Result<_, _>>()?)
            }
            tag => return Err(DecodeError::Tag { what: "clean stop", tag }),
        };
        reader.finish()?;
        Ok(Self { actor, state_id, born, dots_until, time_until, clean })
    }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let mut first = [0; CHECKSUM];
    first.copy_from_slice(&blake3::hash(content).as_bytes()[..CHECKSUM]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Fresh = Fresh { actor: Actor(77), state_id: 88 };

    fn lease(clean: Option<Vec<u64>>) -> Lease {
        Lease { actor: Actor(1), state_id: 2, born: 3, dots_until: 500, time_until: Timestamp::from_millis(9_000), clean }
    }

    #[test]
    fn without_a_record_everything_is_fresh() {
        let (lease, start) = Lease::start(None, FRESH, 2, 5_000);
        assert_eq!((lease.actor, lease.state_id, lease.born, lease.clean), (Actor(77), 88, 1, None));
        assert_eq!(start, Start { next: vec![1, 1], time: Timestamp::default() });
        assert!(lease.time_until > Timestamp::from_millis(5_000));
    }

    #[test]
    fn after_a_crash_the_block_is_skipped_under_a_new_state_id() {
        let (next_lease, start) = Lease::start(Some(lease(None)), FRESH, 2, 5_000);
        assert_eq!((next_lease.actor, next_lease.state_id, next_lease.born), (Actor(1), 88, 501));
        assert_eq!(start, Start { next: vec![501, 501], time: Timestamp::from_millis(9_000) });
        assert!(next_lease.dots_until > 501 && next_lease.time_until > Timestamp::from_millis(9_000));
    }

    #[test]
    fn a_clean_stop_is_continued_exactly_and_only_once() {
        let (next_lease, start) = Lease::start(Some(lease(Some(vec![7, 501]))), FRESH, 2, 5_000);
        assert_eq!((next_lease.actor, next_lease.state_id, next_lease.born, next_lease.dots_until), (Actor(1), 2, 3, 500));
        assert_eq!(start, Start { next: vec![7, 501], time: Timestamp::from_millis(9_000) });
        assert_eq!(next_lease.clean, None);
        assert_eq!(Lease::start(Some(next_lease), FRESH, 2, 5_000).1.next, vec![501, 501]);
    }

    #[test]
    fn a_clean_stop_that_cannot_be_is_none() {
        for next in [vec![7], vec![7, 502], vec![0, 7]] {
            let (lease, start) = Lease::start(Some(lease(Some(next))), FRESH, 2, 5_000);
            assert_eq!((lease.state_id, start.next), (88, vec![501, 501]));
        }
    }

    #[test]
    fn an_actor_without_counters_left_is_retired() {
        let spent = Lease { dots_until: u64::MAX - 1, ..lease(None) };
        let (next_lease, start) = Lease::start(Some(spent), FRESH, 1, 5_000);
        assert_eq!((next_lease.actor, start.next), (Actor(77), vec![1]));
        assert_eq!(start.time, Timestamp::from_millis(9_000));
    }

    #[test]
    fn counters_and_timestamps_never_come_twice_over_any_run_of_starts() {
        let (mut durable, mut used, mut stamped) = (None, 0, Timestamp::default());
        for run in 0..20 {
            let (mut lease, start) = Lease::start(durable.take(), FRESH, 1, 1_000_000 - run * 50_000);
            let mut clock = Hlc::start(start.time);
            clock.leased(lease.time_until);
            for counter in start.next[0]..start.next[0] + 3 {
                if counter > lease.dots_until {
                    lease.renew(counter, lease.time_until);
                }
                assert!(counter > used && clock.tick(0) > stamped);
                used = counter;
            }
            stamped = clock.tick(0);
            assert!(!clock.needs_lease());
            lease.clean = (run % 3 == 0).then(|| vec![used + 1]);
            durable = Some(Lease::from_bytes(&lease.to_bytes()).unwrap());
            assert_eq!(durable.as_ref(), Some(&lease));
        }
    }

    #[test]
    fn a_lease_is_renewed_in_whole_blocks() {
        let mut lease = lease(None);
        lease.renew(500, Timestamp::from_millis(8_000));
        assert_eq!((lease.dots_until, lease.time_until), (500, Timestamp::from_millis(9_000)));
        lease.renew(501, Timestamp::from_millis(10_000));
        assert_eq!((lease.dots_until, lease.time_until), (501 + DOT_LEASE, Timestamp::from_millis(10_000)));
    }

    #[test]
    fn any_damage_to_the_record_is_noticed() {
        let record = lease(Some(vec![7, 501])).to_bytes();
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 0x10;
            assert!(Lease::from_bytes(&damaged).is_err());
            assert!(Lease::from_bytes(&record[..at]).is_err());
        }
    }
}
