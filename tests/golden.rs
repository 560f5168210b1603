//! Old bytes, kept: what peers of version 1 have on their disks and send must be read for ever, and equal rows must go on having
//! the digests that they had. A test that fails here says that a format changed: then it needs a new version, and the old one stays readable.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use ringtide::crdt::delta::{Causal, Decision, Delta, Entry, Kind, Payload, Replacement, Row, RowAddress, Scope};
use ringtide::crdt::dot::{Clock, Dot};
use ringtide::crdt::list::position::{Growth, Position};
use ringtide::crdt::number::Number;
use ringtide::crdt::sorted_set::Score;
use ringtide::crdt::{encode, wire};
use ringtide::replica::lease::Lease;
use ringtide::types::{Actor, Timestamp};

const KEY: Bytes = Bytes::from_static(b"key");

fn dot(actor: u64, counter: u64) -> Dot {
    Dot { actor: Actor(actor), counter }
}

fn decision() -> Decision {
    Decision {
        time: Some(1_700_000_000_123),
        timestamp: Timestamp::from_millis(1_699_999_999_000),
        since: Timestamp::from_millis(1_600_000_000_000),
    }
}

fn entry(payload: Payload) -> Entry {
    Entry { timestamp: Timestamp(Timestamp::from_millis(1_700_000_000_000).0 + 5), decision: None, field_decision: None, payload }
}

fn string() -> Row {
    let expiring = Entry { decision: Some(decision()), ..entry(Payload::Value(Bytes::from_static(b"\x00value\xff"))) };
    Row::from([(dot(1, 300), entry(Payload::Value(Bytes::new()))), (dot(u64::MAX, 1), expiring)])
}

fn counter() -> Row {
    let run = dot(1, 7);
    Row::from([
        (dot(1, 9), entry(Payload::Run { run, total: Number::Integer(-300) })),
        (dot(2, 4), entry(Payload::Floor { run, upto: 8, total: Number::Integer(i128::from(i64::MAX) * 4) })),
        (dot(3, 1), entry(Payload::Value(Bytes::from_static(b"10")))),
    ])
}

fn fraction() -> Row {
    let (run, fraction) = (dot(1, 7), |double| Number::from_double(double).unwrap_or(Number::ZERO));
    Row::from([
        (dot(1, 9), entry(Payload::Run { run, total: fraction(-0.1) })),
        (dot(2, 4), entry(Payload::Floor { run, upto: 8, total: fraction(1e300) })),
        (dot(3, 1), entry(Payload::Score(Score::new(-2.5)))),
    ])
}

fn field() -> BTreeMap<RowAddress, Row> {
    let run = dot(1, 7);
    let under =
        |payload| Entry { decision: Some(decision()), field_decision: Some(Decision { time: None, ..decision() }), ..entry(payload) };
    let row = Row::from([
        (dot(1, 9), under(Payload::Run { run, total: Number::Integer(3) })),
        (dot(2, 4), Entry { decision: None, ..under(Payload::Value(Bytes::from_static(b"10"))) }),
        (dot(3, 1), entry(Payload::Decision(decision()))),
    ]);
    BTreeMap::from([(RowAddress::element(&KEY, Kind::Field, &Bytes::from_static(b"f")), row)])
}

fn set() -> BTreeMap<RowAddress, Row> {
    let present = Row::from([(dot(4, 2), entry(Payload::Present))]);
    let expires = Row::from([(dot(4, 3), entry(Payload::Decision(Decision { time: None, ..decision() })))]);
    BTreeMap::from([
        (RowAddress::expiry(&KEY), expires),
        (RowAddress::member(&KEY, &Bytes::from_static(b"a")), present.clone()),
        (RowAddress::member(&Bytes::from_static(b"other"), &Bytes::new()), present),
    ])
}

fn clock() -> Clock {
    let mut clock = Clock::new();
    clock.insert_range(Actor(0x0102_0304_0506_0708), 1, 1_000_000);
    clock.insert_range(Actor(0x0102_0304_0506_0708), 1_048_577, 1_048_600);
    clock.insert_range(Actor(9), 3, 3);
    clock
}

fn causal() -> Causal {
    let pending = BTreeMap::from([
        (Scope::Row(RowAddress::value(&KEY)), Clock::from_iter([dot(5, 6)])),
        (Scope::Key(KEY), Clock::from_iter([dot(5, 7), dot(6, 7)])),
    ]);
    Causal { clock: clock(), pending }
}

fn delta() -> Delta {
    Delta {
        replaces: vec![
            Replacement { scope: Scope::Key(KEY), pending: Clock::from_iter([dot(5, 6)]), keeps: vec![dot(9, 3)] },
            Replacement::of(Scope::Row(RowAddress::member(&KEY, &Bytes::from_static(b"a"))), Clock::new()),
        ],
        seen: clock(),
        removes: vec![(RowAddress::value(&KEY), dot(1, 9)), (RowAddress::member(&KEY, &Bytes::from_static(b"a")), dot(4, 2))],
        adds: string().into_iter().map(|(dot, entry)| (RowAddress::value(&KEY), dot, entry)).collect(),
    }
}

/// The first items of a list, one that another author put between them, and one that was pushed without seeing any.
fn positions() -> Option<[Position; 4]> {
    let first = Position::between(None, None, Growth::Up, dot(1, 300))?;
    let second = Position::between(Some(&first), None, Growth::Up, dot(1, 301))?;
    let between = Position::between(Some(&first), Some(&second), Growth::Down, dot(u64::MAX, 7))?;
    Some([first, second, between, Position::unseen(Growth::Down, Timestamp::from_millis(1_700_000_000_000), dot(9, 1))])
}

fn lease() -> Lease {
    let time_until = Timestamp::from_millis(1_700_000_010_000);
    Lease { actor: Actor(7), state_id: 8, born: 1, dots_until: 1_048_576, time_until, clean: Some(vec![1, 300]) }
}

/// Compares with the bytes that are kept in `tests/golden/NAME.hex`.
fn assert_kept(name: &str, bytes: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(kept.split_whitespace().collect::<String>(), hex, "the bytes of {} changed", path.display());
}

#[test]
fn the_bytes_of_version_1_are_what_they_were() {
    assert_kept("row-string.v1", &encode::row_to_bytes(&string()));
    assert_kept("row-counter.v1", &encode::row_to_bytes(&counter()));
    assert_kept("row-fraction.v1", &encode::row_to_bytes(&fraction()));
    assert_kept("rows-set.v1", &wire::rows_to_bytes(&set()));
    assert_kept("rows-field.v1", &wire::rows_to_bytes(&field()));
    assert_kept("clock.v1", &encode::clock_to_bytes(&clock()));
    assert_kept("causal.v1", &encode::causal_to_bytes(&causal()));
    assert_kept("delta.v1", &encode::delta_to_bytes(&delta()));
    assert_kept("address.v1", &encode::address_to_bytes(&RowAddress::member(&KEY, &Bytes::from_static(b"a"))));
    assert_kept("positions.v1", &positions().unwrap().map(|position| position.to_bytes()).concat());
    assert_kept("lease.v1", &lease().to_bytes());
}

#[test]
fn the_digests_of_version_1_are_what_they_were() {
    assert_kept("digest-string.v1", &encode::row_digest(&RowAddress::value(&KEY), &string()).0.to_be_bytes());
    assert_kept("digest-fraction.v1", &encode::row_digest(&RowAddress::element(&KEY, Kind::Score, &KEY), &fraction()).0.to_be_bytes());
    assert_kept("address-field.v1", &encode::address_to_bytes(&RowAddress::element(&KEY, Kind::Field, &KEY)));
    assert_kept("digest-counter.v1", &encode::row_digest(&RowAddress::value(&KEY), &counter()).0.to_be_bytes());
}

#[test]
fn what_is_kept_is_read() {
    assert_eq!(encode::row_from_bytes(&encode::row_to_bytes(&string()).into()), Ok(string()));
    assert_eq!(encode::row_from_bytes(&encode::row_to_bytes(&counter()).into()), Ok(counter()));
    assert_eq!(encode::row_from_bytes(&encode::row_to_bytes(&fraction()).into()), Ok(fraction()));
    assert_eq!(wire::rows_from_bytes(&wire::rows_to_bytes(&set()).into()), Ok(set()));
    assert_eq!(wire::rows_from_bytes(&wire::rows_to_bytes(&field()).into()), Ok(field()));
    assert_eq!(encode::causal_from_bytes(&encode::causal_to_bytes(&causal()).into()), Ok(causal()));
    assert_eq!(encode::delta_from_bytes(&encode::delta_to_bytes(&delta()).into()), Ok(delta()));
    assert_eq!(Lease::from_bytes(&lease().to_bytes()), Ok(lease()));
}
