//! The canonical bytes of the replicated state: what is written is read, there is one form, and nothing else is taken.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use ringtide::config::{MAX_CLOCK_ACTORS, MAX_CLOCK_RANGES, MAX_KEY, MAX_ROW_ENTRIES, MAX_ROWS, MAX_VALUE};
use ringtide::crdt::codec::{DecodeError, Writer};
use ringtide::crdt::delta::{Causal, Decision, Delta, Entry, Kind, Payload, Replacement, Row, RowAddress, Scope};
use ringtide::crdt::dot::{Clock, Dot};
use ringtide::crdt::list::position::{Growth, Position};
use ringtide::crdt::number::{MAX_MANTISSA, Number};
use ringtide::crdt::sorted_set::Score;
use ringtide::crdt::{encode, hyperloglog, wire};
use ringtide::types::{Actor, Digest, Timestamp};
use serde::{Deserialize, Serialize};

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..6).prop_map(Bytes::from)
}

fn dot() -> impl Strategy<Value = Dot> {
    (0..4u64, prop_oneof![1..9u64, Just(u64::MAX)]).prop_map(|(actor, counter)| Dot { actor: Actor(actor << 60), counter })
}

fn clock() -> impl Strategy<Value = Clock> {
    proptest::collection::vec(dot(), 0..12).prop_map(|dots| dots.into_iter().collect())
}

fn decision() -> impl Strategy<Value = Decision> {
    let times = (any::<Option<u64>>(), any::<u64>(), any::<u64>());
    times.prop_map(|(time, timestamp, since)| Decision { time, timestamp: Timestamp(timestamp), since: Timestamp(since) })
}

/// A total: an integer of 128 bits, or a fraction, or a number beyond them.
fn number() -> impl Strategy<Value = Number> {
    let doubles = any::<f64>().prop_filter_map("not finite", Number::from_double);
    let sums = (doubles, any::<i128>()).prop_map(|(double, integer)| double.plus(&Number::Integer(integer)));
    prop_oneof![any::<i128>().prop_map(Number::Integer), sums]
}

/// An entry that may stand under `dot` in the row of a string, field or score.
fn entry_of(dot: Dot) -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        bytes().prop_map(Payload::Value),
        any::<f64>().prop_map(|double| Payload::Score(Score::new(if double.is_nan() { 0.5 } else { double }))),
        (1..=dot.counter, number()).prop_map(move |(first, total)| Payload::Run { run: Dot { counter: first, ..dot }, total }),
        (1..9u64, 0..9u64, number()).prop_map(|(first, more, total)| Payload::Floor {
            run: Dot { actor: Actor(7), counter: first },
            upto: first + more,
            total
        }),
        decision().prop_map(Payload::Decision),
    ];
    let carried = || proptest::option::of(decision());
    (any::<u64>(), carried(), carried(), payload).prop_map(|(timestamp, decision, field_decision, payload)| Entry {
        timestamp: Timestamp(timestamp),
        decision,
        field_decision,
        payload,
    })
}

fn write() -> impl Strategy<Value = (Dot, Entry)> {
    dot().prop_flat_map(|dot| (Just(dot), entry_of(dot)))
}

fn row() -> impl Strategy<Value = Row> {
    proptest::collection::btree_map(dot(), Just(()), 1..5)
        .prop_flat_map(|dots| dots.into_keys().map(|dot| (Just(dot), entry_of(dot))).collect::<Vec<_>>())
        .prop_map(|entries| entries.into_iter().collect())
}

/// A position in a list, at times beside another.
fn position() -> impl Strategy<Value = Position> {
    let growth = || proptest::sample::select(vec![Growth::Up, Growth::Down]);
    let unseen =
        (growth(), any::<u32>(), dot()).prop_map(|(growth, ms, dot)| Position::unseen(growth, Timestamp::from_millis(ms.into()), dot));
    (unseen, proptest::option::of((growth(), dot())))
        .prop_map(|(first, beside)| beside.and_then(|(growth, dot)| Position::between(Some(&first), None, growth, dot)).unwrap_or(first))
}

fn address() -> impl Strategy<Value = RowAddress> {
    let elements = (bytes(), position(), 0..hyperloglog::REGISTERS as u16);
    (bytes(), proptest::sample::select(Kind::ALL.to_vec()), elements).prop_map(|(key, kind, (element, position, register))| match kind {
        Kind::Expiry => RowAddress::expiry(&key),
        Kind::Value => RowAddress::value(&key),
        Kind::Item => RowAddress::element(&key, kind, &position.to_bytes()),
        Kind::Register => RowAddress::element(&key, kind, &Bytes::copy_from_slice(&register.to_be_bytes())),
        kind => RowAddress::element(&key, kind, &element),
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![address().prop_map(Scope::Row), bytes().prop_map(Scope::Key)]
}

fn causal() -> impl Strategy<Value = Causal> {
    (clock(), proptest::collection::btree_map(scope(), dot(), 0..4)).prop_map(|(clock, pending)| {
        let pending = pending.into_iter().map(|(scope, dot)| (scope, Clock::from_iter([dot]))).collect();
        Causal { clock, pending }
    })
}

fn delta() -> impl Strategy<Value = Delta> {
    let replacement = (scope(), clock(), proptest::collection::vec(dot(), 0..3)).prop_map(|(scope, pending, keeps)| Replacement {
        scope,
        pending,
        keeps,
    });
    let adds = proptest::collection::btree_map(dot(), (address(), any::<u64>()), 0..5);
    let parts = (proptest::collection::vec(replacement, 0..3), clock(), proptest::collection::vec((address(), dot()), 0..5), adds);
    parts.prop_map(|(replaces, seen, removes, adds)| {
        let entry = |address: &RowAddress, time: u64| {
            let decision = Decision { time: None, timestamp: Timestamp(time), since: Timestamp(3) };
            let payload = match address.kind {
                Kind::Expiry => Payload::Decision(decision),
                Kind::Value | Kind::Field | Kind::Item => Payload::Value(Bytes::from_static(b"v")),
                Kind::Score => Payload::Score(Score::new(0.5)),
                Kind::Register => Payload::Value(Bytes::from_static(&[hyperloglog::MAX_RANK])),
                Kind::Member => Payload::Present,
            };
            Entry { timestamp: Timestamp(time), decision: None, field_decision: None, payload }
        };
        let adds = adds.into_iter().map(|(dot, (address, time))| (address.clone(), dot, entry(&address, time))).collect();
        Delta { replaces, seen, removes, adds }
    })
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Message {
    clock: Clock,
    causal: Causal,
    delta: Delta,
    address: RowAddress,
    row: wire::WireRow,
    #[serde(with = "wire::rows")]
    rows: BTreeMap<RowAddress, Row>,
}

proptest! {
    #[test]
    fn what_is_written_is_read(clock in clock(), causal in causal(), delta in delta(), address in address(), row in row()) {
        prop_assert_eq!(encode::clock_from_bytes(&encode::clock_to_bytes(&clock).into()), Ok(clock.clone()));
        prop_assert_eq!(encode::causal_from_bytes(&encode::causal_to_bytes(&causal).into()), Ok(causal.clone()));
        prop_assert_eq!(encode::delta_from_bytes(&encode::delta_to_bytes(&delta).into()), Ok(delta.clone()));
        prop_assert_eq!(encode::address_from_bytes(&encode::address_to_bytes(&address).into()), Ok(address.clone()));
        prop_assert_eq!(encode::row_from_bytes(&encode::row_to_bytes(&row).into()), Ok(row.clone()));

        let of_field = |entry: &Entry| entry.fits(Kind::Field);
        let row: Row = row.into_iter().filter(|(_, entry)| of_field(entry)).collect();
        let field = RowAddress::element(&address.key, Kind::Field, &address.element);
        let rows = if row.is_empty() { BTreeMap::new() } else { BTreeMap::from([(field, row.clone())]) };
        let message = Message { clock, causal, delta, address, row: wire::WireRow(row), rows };
        let mut sent = Vec::new();
        ciborium::into_writer(&message, &mut sent).unwrap();
        prop_assert_eq!(ciborium::from_reader::<Message, _>(&sent[..]).unwrap(), message);
    }

    /// One flipped byte, one byte less, one more: refused, or another value whose own form is exactly these bytes.
    #[test]
    fn there_is_one_form(row in row(), delta in delta(), causal in causal(), at: prop::sample::Index, flip in 1..=255u8, change in 0..3) {
        let damage = |mut bytes: Vec<u8>| {
            let index = at.index(bytes.len());
            match change {
                0 => bytes[index] ^= flip,
                1 => { bytes.remove(index); }
                _ => bytes.insert(index, flip),
            }
            Bytes::from(bytes)
        };
        let bytes = damage(encode::row_to_bytes(&row));
        if let Ok(row) = encode::row_from_bytes(&bytes) { prop_assert_eq!(encode::row_to_bytes(&row), bytes); }
        let bytes = damage(encode::delta_to_bytes(&delta));
        if let Ok(delta) = encode::delta_from_bytes(&bytes) { prop_assert_eq!(encode::delta_to_bytes(&delta), bytes); }
        let bytes = damage(encode::causal_to_bytes(&causal));
        if let Ok(causal) = encode::causal_from_bytes(&bytes) { prop_assert_eq!(encode::causal_to_bytes(&causal), bytes); }
    }

    #[test]
    fn equal_rows_have_equal_digests_in_whatever_order_they_were_built(writes in proptest::collection::btree_map(dot(), any::<u64>(), 1..6), address in address()) {
        let entry = |time: &u64| Entry { timestamp: Timestamp(*time), decision: None, field_decision: None, payload: Payload::Present };
        let forward: Row = writes.iter().map(|(dot, time)| (*dot, entry(time))).collect();
        let backward: Row = writes.iter().rev().map(|(dot, time)| (*dot, entry(time))).collect();
        prop_assert_eq!(encode::row_digest(&address, &forward), encode::row_digest(&address, &backward));
        prop_assert_eq!(encode::row_digest(&address, &forward), encode::stored_row_digest(&address, &encode::row_to_bytes(&backward)));
    }

    #[test]
    fn different_rows_have_different_digests(address in address(), (left, right) in (write(), write())) {
        let rows = [Row::from([left.clone()]), Row::from([right.clone()])];
        prop_assert_eq!(encode::row_digest(&address, &rows[0]) == encode::row_digest(&address, &rows[1]), left == right);
    }
}

#[test]
fn an_empty_row_contributes_nothing_and_an_address_counts() {
    let key = Bytes::from_static(b"key");
    assert_eq!(encode::row_digest(&RowAddress::value(&key), &Row::new()), Digest(0));
    let row = Row::from([(
        Dot { actor: Actor(1), counter: 1 },
        Entry { timestamp: Timestamp(1), decision: None, field_decision: None, payload: Payload::Present },
    )]);
    let digests = [b"a", b"b"].map(|member| encode::row_digest(&RowAddress::member(&key, &Bytes::from_static(member)), &row));
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn values_are_slices_of_what_was_read() {
    let dot = Dot { actor: Actor(1), counter: 1 };
    let value = Bytes::from(vec![7; 1000]);
    let row = Row::from([(dot, Entry { timestamp: Timestamp(1), decision: None, field_decision: None, payload: Payload::Value(value) })]);
    let stored = Bytes::from(encode::row_to_bytes(&row));
    let read = encode::row_from_bytes(&stored).unwrap();
    let Payload::Value(value) = &read[&dot].payload else { panic!("not a value") };
    assert!(stored.as_ptr_range().contains(&value.as_ptr()));
}

/// A clock of one actor with the given ranges, as (skipped, more) pairs.
fn raw_clock(claimed: u64, pairs: &[(u64, u64)]) -> Bytes {
    let mut writer = Writer::versioned(encode::VERSION);
    writer.number(1);
    writer.word(5);
    writer.number(claimed);
    for &(skipped, more) in pairs {
        writer.number(skipped);
        writer.number(more);
    }
    writer.into_bytes().into()
}

#[test]
fn clocks_that_cannot_be_are_refused() {
    assert!(encode::clock_from_bytes(&raw_clock(2, &[(0, 2), (0, 0)])).is_ok());
    let past = Err(DecodeError::Number("range of a clock"));
    assert_eq!(encode::clock_from_bytes(&raw_clock(1, &[(u64::MAX, 0)])), past);
    assert_eq!(encode::clock_from_bytes(&raw_clock(1, &[(7, u64::MAX)])), past);
    assert_eq!(encode::clock_from_bytes(&raw_clock(2, &[(0, u64::MAX - 1), (0, 0)])), past);
    assert!(encode::clock_from_bytes(&raw_clock(0, &[])).is_err());
    assert!(encode::clock_from_bytes(&raw_clock(1 << 20, &[(0, 0)])).is_err());
    assert!(matches!(encode::clock_from_bytes(&raw_clock(1 << 21, &[])), Err(DecodeError::Limit { .. })));
    let mut unsorted = encode::clock_to_bytes(&Clock::from_iter([1, 2].map(|actor| Dot { actor: Actor(actor), counter: 1 })));
    unsorted.swap(9, 20);
    assert_eq!(encode::clock_from_bytes(&unsorted.into()), Err(DecodeError::Invalid("the actors of a clock are not in order")));
}

#[test]
fn rows_that_cannot_be_are_refused() {
    let entry = |payload| Entry { timestamp: Timestamp(9), decision: None, field_decision: None, payload };
    let read = |row: &Row| encode::row_from_bytes(&encode::row_to_bytes(row).into());
    let dot = |actor, counter| Dot { actor: Actor(actor), counter };
    let refused = |row: Row| read(&row).unwrap_err().to_string();
    assert_eq!(refused(Row::new()), "a row is empty");
    assert_eq!(refused(Row::from([(dot(1, 0), entry(Payload::Present))])), "a dot's counter is 0");
    let run = "a run's entry was not written by the run's actor after it began";
    assert_eq!(refused(Row::from([(dot(1, 4), entry(Payload::Run { run: dot(2, 3), total: Number::Integer(1) }))])), run);
    assert_eq!(refused(Row::from([(dot(1, 4), entry(Payload::Run { run: dot(1, 5), total: Number::Integer(1) }))])), run);
    let floor = Payload::Floor { run: dot(2, 3), upto: 2, total: Number::Integer(1) };
    assert_eq!(refused(Row::from([(dot(1, 4), entry(floor))])), "a floor ends before its run began");
    let mut twice = encode::row_to_bytes(&Row::from([(dot(1, 4), entry(Payload::Present)), (dot(1, 5), entry(Payload::Present))]));
    let second = twice.len() - 10;
    twice[second] = 4;
    assert_eq!(encode::row_from_bytes(&twice.into()).unwrap_err().to_string(), "the entries of a row are not in order");
    let mut newer = encode::row_to_bytes(&Row::from([(dot(1, 4), entry(Payload::Present))]));
    newer[0] = 2;
    assert_eq!(encode::row_from_bytes(&newer.into()).unwrap_err().to_string(), "version 2 of row is not known (expected 1)");
}

#[test]
fn deltas_that_cannot_be_are_refused() {
    let key = Bytes::from_static(b"key");
    let entry = |payload| Entry { timestamp: Timestamp(9), decision: None, field_decision: None, payload };
    let dot = Dot { actor: Actor(1), counter: 1 };
    let twice = Delta { adds: vec![(RowAddress::member(&key, &key), dot, entry(Payload::Present)); 2], ..Delta::default() };
    let read = |delta: &Delta| encode::delta_from_bytes(&encode::delta_to_bytes(delta).into()).unwrap_err().to_string();
    assert_eq!(read(&twice), "a delta adds two entries under one dot");
    let misplaced = Delta { adds: vec![(RowAddress::value(&key), dot, entry(Payload::Present))], ..Delta::default() };
    assert_eq!(read(&misplaced), "an entry does not fit the kind of its row");
    let decision = Decision { time: None, timestamp: Timestamp(9), since: Timestamp(9) };
    let of_field = Entry { field_decision: Some(decision), ..entry(Payload::Present) };
    for (address, entry) in [(RowAddress::member(&key, &key), of_field), (RowAddress::value(&key), entry(Payload::Decision(decision)))] {
        let misplaced = Delta { adds: vec![(address, dot, entry)], ..Delta::default() };
        assert_eq!(read(&misplaced), "an entry does not fit the kind of its row");
    }
    let one = |kind, element: &'static [u8], value: &'static [u8]| {
        let address = RowAddress::element(&key, kind, &Bytes::from_static(element));
        Delta { adds: vec![(address, dot, entry(Payload::Value(Bytes::from_static(value))))], ..Delta::default() }
    };
    assert_eq!(read(&one(Kind::Item, b"\x80", b"v")), "a position has no steps");
    assert_eq!(read(&one(Kind::Item, &[0x81; 901], b"v")), "bytes of a position: 901 exceed the limit of 900");
    for (element, rank) in [(&b"\x40\x00"[..], &b"\x01"[..]), (b"\x01", b"\x01"), (b"\x00\x01", b"\x34"), (b"\x00\x01", b"\x01\x01")] {
        assert_eq!(read(&one(Kind::Register, element, rank)), "an entry does not fit the kind of its row");
    }
    let register = one(Kind::Register, b"\x3f\xff", b"\x33");
    assert_eq!(encode::delta_from_bytes(&encode::delta_to_bytes(&register).into()), Ok(register));
}

/// The limit that makes a delta unreadable; `None` where it is read.
fn exceeded(delta: &Delta) -> Option<&'static str> {
    match encode::delta_from_bytes(&encode::delta_to_bytes(delta).into()) {
        Ok(read) => {
            assert_eq!(read, *delta);
            None
        }
        Err(DecodeError::Limit { what, .. }) => Some(what),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_exceeds_a_limit_by_one_byte_is_refused_wherever_it_stands() {
    let (key, value) = (Bytes::from(vec![1; MAX_KEY + 1]), Bytes::from(vec![2; MAX_VALUE + 1]));
    let dot = Dot { actor: Actor(1), counter: 1 };
    let added = |address: RowAddress, payload| {
        let entry = Entry { timestamp: Timestamp(9), decision: None, field_decision: None, payload };
        Delta { adds: vec![(address, dot, entry)], ..Delta::default() }
    };
    let replaced = |scope| Delta { replaces: vec![Replacement::of(scope, Clock::new())], ..Delta::default() };
    for (longer, key, value) in [(true, key.clone(), value.clone()), (false, key.slice(1..), value.slice(1..))] {
        let expected = |what| longer.then_some(what);
        let short = Bytes::from_static(b"k");
        assert_eq!(exceeded(&added(RowAddress::member(&key, &short), Payload::Present)), expected("key"));
        assert_eq!(exceeded(&added(RowAddress::member(&short, &value), Payload::Present)), expected("element"));
        assert_eq!(exceeded(&added(RowAddress::value(&short), Payload::Value(value))), expected("value"));
        assert_eq!(exceeded(&replaced(Scope::Key(key.clone()))), expected("key"));
        assert_eq!(exceeded(&replaced(Scope::Row(RowAddress::value(&key)))), expected("key"));
    }
}

#[test]
fn counts_beyond_their_limits_are_refused_before_anything_is_read() {
    let counted = |what: &'static str, limit: usize, bytes: &[u8], found: Option<DecodeError>| {
        assert_eq!(found, Some(DecodeError::Limit { what, found: limit as u64 + 1, limit }), "{what} of {bytes:?}");
    };
    let claim = |limit: usize| {
        let mut writer = Writer::versioned(encode::VERSION);
        writer.count(limit + 1);
        Bytes::from(writer.into_bytes())
    };
    let bytes = claim(MAX_CLOCK_ACTORS);
    counted("actors of a clock", MAX_CLOCK_ACTORS, &bytes, encode::clock_from_bytes(&bytes).err());
    let bytes = claim(MAX_ROW_ENTRIES);
    counted("entries of a row", MAX_ROW_ENTRIES, &bytes, encode::row_from_bytes(&bytes).err());
    let bytes = claim(MAX_ROWS);
    counted("rows", MAX_ROWS, &bytes, wire::rows_from_bytes(&bytes).err());
    counted("replaced rows and keys", MAX_ROWS, &bytes, encode::delta_from_bytes(&bytes).err());
}

#[test]
fn the_ranges_of_a_clock_are_counted_over_all_of_its_actors() {
    let half = MAX_CLOCK_RANGES / 2 + 1;
    let clock = |actors: u64| {
        let mut writer = Writer::versioned(encode::VERSION);
        writer.number(actors);
        for actor in 0..actors {
            writer.word(actor);
            writer.count(half);
            (0..half).for_each(|_| writer.raw(&[0, 0]));
        }
        Bytes::from(writer.into_bytes())
    };
    assert!(encode::clock_from_bytes(&clock(1)).is_ok());
    assert!(matches!(encode::clock_from_bytes(&clock(2)), Err(DecodeError::Limit { what: "ranges of a clock", .. })));
}

#[test]
fn a_delta_of_many_tiny_things_is_weighed_while_it_is_read() {
    // A key of no bytes is replaced, for which one dot is pending: 15 bytes become half a kibibyte.
    let replaced = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let delta = |count: usize| {
        let mut writer = Writer::versioned(encode::VERSION);
        writer.count(count);
        (0..count).for_each(|_| writer.raw(&replaced));
        writer.raw(&[0, 0, 0]);
        encode::delta_from_bytes(&writer.into_bytes().into())
    };
    assert_eq!(delta(1000).unwrap().replaces.len(), 1000);
    assert!(matches!(delta(MAX_ROWS), Err(DecodeError::Limit { what: "what was decoded", .. })));
}

/// A counter's row whose one total is told by these bytes, as a power of two and a mantissa.
fn raw_total(power: i128, mantissa: &[u8]) -> Bytes {
    let mut writer = Writer::versioned(encode::VERSION);
    writer.number(1);
    for actor in [5, 5] {
        writer.word(actor);
        writer.number(3);
        if actor == 5 && writer.as_slice().len() < 20 {
            writer.byte(5);
            writer.word(9);
        }
    }
    writer.signed(power);
    writer.bytes(mantissa);
    writer.into_bytes().into()
}

#[test]
fn totals_that_cannot_be_are_refused() {
    assert!(encode::row_from_bytes(&raw_total(-1, &[3])).is_ok());
    assert!(encode::row_from_bytes(&raw_total(200, &[1])).is_ok());
    let one_form = Err(DecodeError::Invalid("a total is not in its one form, or beyond all numbers that can be added up"));
    // An integer of 128 bits, an even mantissa, a mantissa with a needless byte, none, zero; too small, too great.
    for (power, mantissa) in [
        (0, &[3][..]),
        (100, &[1]),
        (-1, &[2]),
        (-1, &[0, 3]),
        (-1, &[0xff, 0xfd]),
        (-1, &[]),
        (-1, &[0]),
        (-16_446, &[1]),
        (16_448, &[1]),
        (i128::from(i64::MAX), &[1]),
        (i128::from(i64::MIN), &[1]),
    ] {
        assert_eq!(encode::row_from_bytes(&raw_total(power, mantissa)), one_form, "{power} {mantissa:?}");
    }
    assert!(encode::row_from_bytes(&raw_total(i128::MAX, &[1])).is_err());
    let long = vec![1; MAX_MANTISSA + 1];
    assert!(matches!(encode::row_from_bytes(&raw_total(-16_000, &long)), Err(DecodeError::Limit { .. })));
}

#[test]
fn a_score_is_a_number_and_its_sums_lie_within_what_doubles_add_up_to() {
    let dot = Dot { actor: Actor(1), counter: 1 };
    let key = Bytes::from_static(b"key");
    let address = RowAddress::element(&key, Kind::Score, &key);
    let read = |payload| {
        let entry = Entry { timestamp: Timestamp(9), decision: None, field_decision: None, payload };
        encode::delta_from_bytes(&encode::delta_to_bytes(&Delta { adds: vec![(address.clone(), dot, entry)], ..Delta::default() }).into())
    };
    let run = |total| Payload::Run { run: dot, total };
    assert!(read(Payload::Score(Score::new(f64::INFINITY))).is_ok());
    assert_eq!(read(Payload::Score(Score::new(f64::NAN))), Err(DecodeError::Invalid("a score is not a number")));
    let least = Number::from_double(f64::from_bits(1)).unwrap();
    assert!(read(run(least)).is_ok());
    assert!(read(run(Number::new(1.into(), -1075))).is_err());
    assert!(read(run(Number::new(1.into(), 1100))).is_err());
    assert!(read(Payload::Present).is_err() && read(Payload::Value(key.clone())).is_err());
}
