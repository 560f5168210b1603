//! Journals built by hand in fjall's layout. That fjall's own look the same is shown by every test that reopens a store.

use super::*;

const CLEAN_TAIL: [u8; 5000] = [0; 5000];

fn batch_bytes(number: u64, sequence: u64) -> Vec<u8> {
    let items: [(&[u8], &[u8]); 2] = [(&keys::COMMIT_NUMBER, &number.to_be_bytes()), (b"key", &[7; 40])];
    let mut bytes = vec![START];
    bytes.extend_from_slice(&2u32.to_le_bytes());
    bytes.extend_from_slice(&sequence.to_le_bytes());
    let start = bytes.len();
    for (key, value) in items {
        bytes.extend_from_slice(&[ITEM, PUT, UNCOMPRESSED]);
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&u16::try_from(key.len()).unwrap().to_le_bytes());
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        bytes.extend_from_slice(&[length, length].concat());
        bytes.extend_from_slice(&[key, value].concat());
    }
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[start..]);
    bytes.push(END);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(TRAILER);
    bytes
}

fn batches(numbers: std::ops::RangeInclusive<u64>) -> Vec<u8> {
    numbers.flat_map(|number| batch_bytes(number, number * 2)).collect()
}

fn checked(journals: &[(u64, Vec<u8>)]) -> (Result<Log, String>, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &u64| folder.path().join(format!("{name}.jnl"));
    std::fs::write(folder.path().join("version"), "not a journal").unwrap();
    for (name, bytes) in journals {
        std::fs::write(path(name), bytes).unwrap();
    }
    let log = check(folder.path()).map_err(|error| match error {
        Unreadable::Damaged(cause) => cause,
        Unreadable::Io(path, error) => panic!("{}: {error}", path.display()),
    });
    (log, journals.iter().map(|(name, _)| std::fs::metadata(path(name)).unwrap().len()).collect())
}

fn span(log: Log) -> Option<(u64, u64)> {
    Some((log.first?.number, log.last?.number))
}

#[test]
fn whole_journals_are_read_in_order_and_left_alone() {
    assert_eq!(checked(&[]).0, Err("its journal is missing".to_owned()));
    assert_eq!(checked(&[(0, vec![])]).0, Ok(Log::default()));
    assert_eq!(checked(&[(0, CLEAN_TAIL.to_vec())]).0, Ok(Log::default()));
    let journals =
        [(10, [&batches(8..=12)[..], &CLEAN_TAIL].concat()), (9, batches(5..=7)), (2, batches(3..=4)), (11, CLEAN_TAIL.to_vec())];
    let (log, lengths) = checked(&journals);
    assert_eq!(span(log.unwrap()), Some((3, 12)));
    assert_eq!(lengths, journals.map(|(_, bytes)| bytes.len() as u64));
}

#[test]
fn the_newest_is_cut_after_its_last_whole_batch_wherever_it_breaks() {
    let (two, third) = (batches(1..=2), batches(3..=3));
    for length in 1..third.len() {
        for tail in [&[][..], &CLEAN_TAIL] {
            let (log, lengths) = checked(&[(0, [&two[..], &third[..length], tail].concat())]);
            assert_eq!(span(log.unwrap()), Some((1, 2)), "after {length} bytes");
            assert_eq!(lengths, [two.len() as u64]);
        }
    }
}

#[test]
fn damage_in_an_older_journal_is_refused_and_nothing_cut() {
    let older = batches(1..=6);
    let mut silent = 0;
    for bit in 0..8 * older.len() {
        let mut damaged = older.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let (log, lengths) = checked(&[(0, damaged), (1, batches(7..=9))]);
        silent += usize::from(log.is_ok());
        assert_eq!(lengths, [older.len() as u64, batches(7..=9).len() as u64]);
    }
    // Sequence numbers are under no checksum: between two that are two apart, a flip of the lowest bit goes unseen, and of
    // the first one many more. Neither changes what is read back.
    assert!(silent <= 6 + 8 * 8, "{silent} flips were not seen");
    let (log, _) = checked(&[(0, older[..older.len() - 1].to_vec()), (1, batches(7..=9))]);
    assert!(log.unwrap_err().contains("0.jnl can't be read at byte"));
}

#[test]
fn a_gap_a_repetition_or_a_step_back_is_refused_and_nothing_cut() {
    for newest in [batches(6..=9), batches(4..=9), batch_bytes(5, 8), batch_bytes(5, 7)] {
        let journals = [(0, batches(1..=4)), (1, newest)];
        let (log, lengths) = checked(&journals);
        assert!(log.unwrap_err().contains("follows on 4 at byte 0"));
        assert_eq!(lengths, journals.map(|(_, bytes)| bytes.len() as u64));
    }
    let (log, _) = checked(&[(0, [batches(1..=4), batches(6..=7)].concat())]);
    assert!(log.unwrap_err().contains("commit 6 follows on 4"));
}
