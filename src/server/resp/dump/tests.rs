//! Payloads of every encoding, and what is none.

use super::*;

use crate::crdt::content::Field;
use crate::crdt::hyperloglog::Registers;
use crate::crdt::sorted_set::Score;

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn field(name: &'static str, expires_at_ms: Option<u64>) -> Field {
    Field { name: bytes(name), value: bytes("v"), expires_at_ms }
}

/// An object with version and checksum behind it.
fn sealed(object: &[u8], version: u16) -> Bytes {
    let mut payload = object.to_vec();
    payload.put_u16_le(version);
    payload.put_u64_le(CHECKSUM.checksum(&payload));
    payload.into()
}

fn read(object: &[u8]) -> Result<Content, DumpError> {
    deserialize(&sealed(object, VERSION))
}

fn list(items: &[&'static str]) -> Result<Content, DumpError> {
    Ok(Content::List(items.iter().map(|item| bytes(item)).collect()))
}

#[test]
fn a_payload_of_redis_is_made_byte_by_byte() {
    // DUMP of redis-server 7.0.15 after SET k 10 and SET k v.
    assert_eq!(serialize(&Content::String(vec![bytes("10")]))[..], *b"\x00\xc0\x0a\x0a\x00\x6e\x9f\x57\x45\x0e\xae\x63\xbb");
    assert_eq!(serialize(&Content::String(vec![bytes("v")]))[..], *b"\x00\x01v\x0a\x00\x91\x08\xce\xb2\x19\x38\x8a\xce");
}

#[test]
fn what_was_written_is_read() {
    let mut registers = vec![0; 16_384];
    (registers[0], registers[1], registers[16_383]) = (51, 3, 7);
    let integers = ["0", "-1", "127", "-128", "128", "32767", "-32769", "2147483647", "-2147483648", "2147483648", "007", "-0", ""];
    for content in [
        Content::List(integers.iter().map(|text| bytes(text)).collect()),
        Content::String(vec![vec![b'x'; 70_000].into()]),
        Content::Set((0..20_000).map(|number| Bytes::from(number.to_string())).collect()),
        Content::Hash(vec![field("f", None), field("g", None)]),
        Content::Hash(vec![field("f", Some(4_102_444_800_000)), field("g", None), field("h", Some(4_102_444_800_001))]),
        Content::SortedSet(vec![(bytes("m"), Score::new(f64::NEG_INFINITY)), (bytes("n"), Score::new(0.1))]),
        Content::HyperLogLog(registers.into()),
    ] {
        assert_eq!(deserialize(&serialize(&content)), Ok(content));
    }
}

#[test]
fn only_ends_of_fields_ask_for_a_later_version() {
    let version = |content| serialize(&content).iter().rev().nth(9).copied();
    assert_eq!(version(Content::Hash(vec![field("f", None)])), Some(10));
    assert_eq!(version(Content::Hash(vec![field("f", Some(7))])), Some(12));
}

#[test]
fn of_siblings_the_one_that_shows_is_told() {
    let payload = serialize(&Content::String(vec![bytes("shows"), bytes("hidden")]));
    assert_eq!(deserialize(&payload), Ok(Content::String(vec![bytes("shows")])));
}

#[test]
fn a_payload_that_was_changed_or_is_too_new_is_foreign() {
    let payload = serialize(&Content::List(vec![bytes("item")]));
    for place in 0..payload.len() {
        let mut changed = payload.to_vec();
        changed[place] ^= 1;
        assert_eq!(deserialize(&changed.into()), Err(DumpError::Foreign), "{place}");
        assert_eq!(deserialize(&payload.slice(..place)), Err(DumpError::Foreign), "{place}");
    }
    assert_eq!(deserialize(&sealed(b"\x00\x01v", 12)), Ok(Content::String(vec![bytes("v")])));
    assert_eq!(deserialize(&sealed(b"\x00\x01v", 13)), Err(DumpError::Foreign));
}

#[test]
fn every_head_of_a_listpack_is_understood() {
    let packed =
        b"\x33\0\0\0\x09\0\x7f\x01\x81v\x02\xdf\xff\x02\xe0\x01w\x03\xf0\x01\0\0\0x\x06\xf1\xff\x7f\x03\xf2\0\0\x80\x04\xf3\0\0\0\x80\x05\
        \xf4\0\0\0\0\0\0\0\x80\x09\xff";
    let object = [&[types::LIST_LISTPACKS, 1, 2, packed.len() as u8][..], packed].concat();
    assert_eq!(read(&object), list(&["127", "v", "-1", "w", "x", "32767", "-8388608", "-2147483648", "-9223372036854775808"]));
    for place in 4..object.len() {
        assert!(read(&object[..place]).is_err(), "cut at {place}");
    }
    let mut miscounted = object.clone();
    miscounted[8] = 8;
    assert_eq!(read(&miscounted), Err(DumpError::Malformed));
    (miscounted[8], miscounted[9]) = (255, 255);
    assert!(read(&miscounted).is_ok(), "so many have to be counted");
}

#[test]
fn every_head_of_a_ziplist_is_understood() {
    let packed =
        b"\x3b\0\0\0\0\0\0\0\x09\0\0\x01v\x03\x40\x01w\x04\x80\0\0\0\x01x\x07\xc0\xff\x7f\x04\xd0\0\0\0\x80\x06\xe0\0\0\0\0\0\0\0\x80\
        \xfe\x0a\0\0\0\xf0\0\0\x80\x09\xfe\xff\x03\xfd\xff";
    let object = [&[types::LIST_ZIPLIST, packed.len() as u8][..], packed].concat();
    assert_eq!(read(&object), list(&["v", "w", "x", "32767", "-2147483648", "-9223372036854775808", "-8388608", "-1", "12"]));
    for place in 2..object.len() {
        assert!(read(&object[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn what_makes_no_sense_is_malformed() {
    for object in [
        &b""[..],
        b"\x00",
        b"\x00\x05v",
        b"\x00\xc4",
        b"\x00\x82",
        b"\x01\x00",
        b"\x02\xc0\x01",
        b"\x02\x02\x01x\x01x",
        b"\x04\x01\x01f",
        b"\x04\x02\x01f\x01v\x01f\x01w",
        b"\x05\x01\x01m\0\0\0\0\0\0\xf8\x7f",
        b"\x05\x02\x01m\0\0\0\0\0\0\0\0\x01m\0\0\0\0\0\0\0\0",
        b"\x06\x01",
        b"\x0b\x0a\x03\0\0\0\x01\0\0\0\0\0",
        b"\x0b\x0c\x02\0\0\0\x01\0\0\0\0\0\0\0",
        b"\x12\x01\x03\x01x",
        b"\x18\0\0\0\0\0\0\0\0\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01f\x01v",
        b"\x1a\x01",
    ] {
        assert_eq!(read(object), Err(DumpError::Malformed), "{object:?}");
    }
}

#[test]
fn a_small_payload_does_not_become_a_great_one() {
    // Three bytes say that the byte before comes 264 times again.
    let bomb = |times: u32| {
        let mut packed = vec![0, b'x'];
        (0..times).for_each(|_| packed.extend_from_slice(&[0xe0, 0xff, 0]));
        let mut string = vec![0xc3, 0x80];
        string.put_u32(packed.len() as u32);
        string.put_u8(0x80);
        string.put_u32(times * 264 + 1);
        [string, packed].concat()
    };
    let unpacked = read(&[&[types::STRING][..], &bomb(1000)].concat()).map(|content| content.longest());
    assert_eq!(unpacked, Ok(264_001));
    assert_eq!(read(&[&[types::STRING][..], &bomb(100_000)].concat()), Err(DumpError::TooBig));
    // Also where it is not yet an element.
    assert_eq!(read(&[&[types::SET_LISTPACK][..], &bomb(100_000)].concat()), Err(DumpError::TooBig));
    let several = [&[types::LIST, 3][..], &bomb(32_000), &bomb(32_000), &bomb(32_000)].concat();
    assert_eq!(read(&several), Err(DumpError::TooBig));
    // Many small elements: each costs more than its bytes.
    let many = [&[types::LIST, 0x80, 0, 8, 0, 0][..], &[0; 0x8_0000]].concat();
    assert_eq!(read(&many), Err(DumpError::TooBig));
}

#[test]
fn a_string_that_redis_takes_for_a_hyperloglog_is_one() {
    let sparse = |body: &[u8]| [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80", body].concat();
    // 5 zeros, 2 registers of 3, and zeros up to the end.
    let whole = Registers::of_string(&sparse(&[4, 0x80 | 2 << 2 | 1, 0x7f, 0xf8])).unwrap().to_bytes();
    assert_eq!((&whole[..8], whole.len()), (&[0, 0, 0, 0, 0, 3, 3, 0][..], 16_384));
    for body in [&[4, 0x7f][..], &[4], &[0x7f, 0xff, 0], &[]] {
        assert_eq!(Registers::of_string(&sparse(body)), None, "{body:?}");
    }
    let dense = Registers::from_bytes(&whole).to_dense();
    assert_eq!(Registers::of_string(&dense).map(|registers| registers.to_bytes()), Some(whole));
    assert_eq!(Registers::of_string(&dense[..dense.len() - 1]), None);
    assert_eq!(read(&[&[types::STRING, 22][..], &sparse(&[4, 0x7f])[..], b"abcd"].concat()).map(|content| content.len()), Ok(1));
}
