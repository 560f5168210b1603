//! The longest frames that a hostile peer could build so that as little as possible on the wire becomes as much as possible in memory. None may
//! take more than about sixteen times its length.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use bytes::Bytes;
use ringtide::config::{MAX_FRAME, MAX_ROWS};
use ringtide::crdt::command::Mutation;
use ringtide::crdt::delta::{Causal, Delta};
use ringtide::crdt::set;
use ringtide::env::message::{Message, PullStart, RangeContent, Reply, Request, RowsThere, Sent};
use ringtide::types::{Digest, Level, Partition};

/// What a frame may cost, itself and the program around it included, in bytes.
const MOST: usize = 20 * MAX_FRAME;

/// A canonical byte string: version, number of items, the items, the rest.
fn canonical(count: usize, rest: &[u8], mut item: impl FnMut(usize) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![1];
    let mut left = count;
    while left > 0x7f {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    (0..count).for_each(|number| bytes.extend(item(number)));
    bytes.extend(rest);
    bytes
}

/// A byte string of CBOR.
fn byte_string(bytes: &[u8]) -> Vec<u8> {
    [&[0x5a], &u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A frame in which each of these pieces has become another.
fn replaced_everywhere(frame: &[u8], piece: &[u8], by: &[u8]) -> Vec<u8> {
    let (mut forged, mut rest) = (Vec::new(), frame);
    while let Some(at) = rest.windows(piece.len()).position(|window| window == piece) {
        forged.extend_from_slice(&rest[..at]);
        forged.extend_from_slice(by);
        rest = &rest[at + piece.len()..];
    }
    assert!(!forged.is_empty(), "the frame of such a message is another by now");
    [&forged, rest].concat()
}

/// The frame of a message in which the empty list behind a name is one that fills the frame with items.
fn filled(message: &Message, name: &[u8], item: &[u8]) -> Vec<u8> {
    let count = (MAX_FRAME - 1024) / item.len();
    let list = [name, &[0x9a], &u32::try_from(count).unwrap().to_be_bytes(), &item.repeat(count)].concat();
    replaced_everywhere(&message.to_frame(), &[name, &[0x80]].concat(), &list)
}

fn request(request: Request) -> Message {
    Message::Request { id: 1, request: Box::new(request) }
}

fn reply(reply: Reply) -> Message {
    Message::Reply { id: 1, reply: Box::new(reply) }
}

/// How many items of `length` bytes a part of a frame has room for, and none of our lists may be longer than.
fn share(parts: usize, length: usize) -> usize {
    ((MAX_FRAME - 64 * 1024) / parts / length).min(MAX_ROWS)
}

/// Deltas, all with these bytes.
fn deltas(parts: usize, delta: &[u8]) -> Vec<u8> {
    let sent = Sent { partition: Partition(0), delta: Delta::default(), hint_for: None };
    let frame = Message::Deltas { frame: 1, ring: 1, deltas: vec![sent; parts] }.to_frame();
    replaced_everywhere(&frame, b"\x45\x01\x00\x00\x00\x00", &byte_string(delta))
}

/// A member row with one entry, told as shortly as can be.
fn row(number: usize) -> Vec<u8> {
    let element = &u32::try_from(number).unwrap().to_be_bytes()[1..];
    let address = if number == 0 { vec![2, 1, b'k', 3] } else { vec![0x82, 3] };
    [&address, element, &[1], &[0; 8], &[1, 3], &[0; 8]].concat()
}

/// A row for which one dot is pending.
fn pending(number: usize) -> Vec<u8> {
    let key = &u32::try_from(number).unwrap().to_be_bytes()[1..];
    [&[1, 3], key, &[1], &[0; 8], &[1, 0, 0]].concat()
}

/// An address of a row, as an item of CBOR.
const ADDRESS: &[u8] = b"\x44\x01\x01\x01k";

fn replaced(parts: usize) -> Vec<u8> {
    deltas(parts, &canonical(share(parts, 4), &[0, 0, 0], |_| vec![1, 0, 0, 0]))
}

fn replaced_with_pending(parts: usize) -> Vec<u8> {
    let item = |_| vec![1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    deltas(parts, &canonical(share(parts, 15), &[0, 0, 0], item))
}

fn added(parts: usize) -> Vec<u8> {
    let add = |number: usize| {
        let address = if number == 0 { vec![2, 1, b'k', 0] } else { vec![0x82, 0] };
        let counter = [number as u8 | 0x80, (number >> 7) as u8 | 0x80, (number >> 14) as u8 | 0x80, 1];
        [&address[..], &[0; 8], &counter, &[3], &[0; 8]].concat()
    };
    let adds = canonical(share(parts, 23), &[], add);
    deltas(parts, &[&[1, 0, 0, 0], &adds[1..]].concat())
}

fn clocks(parts: usize) -> Vec<u8> {
    let clock = canonical(1 << 16, &[0, 0], |number| [&(number as u64).to_be_bytes()[..], &[1, 0, 0]].concat());
    deltas(parts, &[&[1, 0], &clock[1..]].concat())
}

/// Ranges full of rows.
fn ranges(parts: usize) -> Vec<u8> {
    let rows = canonical(share(parts, 26), &[], row);
    let none = RangeContent::Rows(RowsThere::default());
    let frame = reply(Reply::Ranges(vec![none; parts])).to_frame();
    replaced_everywhere(&frame, b"\x42\x01\x00", &byte_string(&rows))
}

fn pending_rows() -> Vec<u8> {
    let causal = Box::new(Causal::default());
    let open = PullStart::Open { state_id: 1, seal: None, causal, root: Digest(0), nodes: Vec::new() };
    let pending = canonical(share(1, 17), &[], pending);
    let frame = reply(Reply::PullStarts { ring: 1, awaits: vec![], starts: vec![(Partition(0), open)] }).to_frame();
    replaced_everywhere(&frame, b"\x43\x01\x00\x00", &byte_string(&[&[1, 0], &pending[1..]].concat()))
}

fn leaves() -> Vec<u8> {
    filled(&reply(Reply::PullLeaves(vec![(0, Vec::new())])), b"\x82\x00", &[0])
}

fn content(content: RangeContent, name: &[u8], item: &[u8]) -> Vec<u8> {
    filled(&reply(Reply::Ranges(vec![content])), name, item)
}

fn members_to_add() -> Vec<u8> {
    let mutation = Mutation::Set(set::Mutation::Add(Vec::new()));
    filled(&request(Request::Execute { level: Level::One, key: Bytes::new(), mutation }), b"\x63Add", &[0x40])
}

fn addresses() -> Vec<u8> {
    filled(&request(Request::PullRows { partition: Partition(0), state_id: 1, wanted: vec![(0, Vec::new())] }), b"\x82\x00", ADDRESS)
}

fn nodes() -> Vec<u8> {
    filled(&request(Request::PullLeaves { partition: Partition(0), state_id: 1, nodes: Vec::new() }), b"nodes", &[0])
}

/// A name, and what builds the frame.
type Case = (&'static str, fn() -> Vec<u8>);

/// How each frame is built. One at a time, so that no other counts.
const FRAMES: [Case; 18] = [
    ("members to add", members_to_add),
    ("addresses of rows", addresses),
    ("a listing", || content(RangeContent::Listing(Vec::new()), b"Listing", &[&[0x82][..], ADDRESS, &[0]].concat())),
    ("parts", || content(RangeContent::Parts(Vec::new()), b"Parts", &[0x83, 0xf6, 0, 0])),
    ("digests", leaves),
    ("channels", || filled(&reply(Reply::Channels(Vec::new())), b"Channels", &[0x40])),
    ("partitions to pull", || filled(&request(Request::PullOpen(Vec::new())), b"PullOpen", &[0x83, 0, 0, 0])),
    ("nodes", nodes),
    ("a member list", || filled(&Message::Members(Box::default()), b"Members", &[0x80])),
    ("replaced keys", || replaced(8)),
    ("replaced keys in many deltas", || replaced(400)),
    ("replaced keys with pending", || replaced_with_pending(2)),
    ("replaced keys with pending in many deltas", || replaced_with_pending(200)),
    ("entries", || added(2)),
    ("clocks", || clocks(40)),
    ("rows", || ranges(2)),
    ("rows in many ranges", || ranges(60)),
    ("pending rows", pending_rows),
];

/// The most memory that this process has had at once since it was asked the last time, in bytes; `None` where the system does not tell.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(1024 * kibibytes)
}

/// Decodes one of the frames and tells what that took; `None` where the system does not tell.
fn cost(name: &str, build: fn() -> Vec<u8>) -> Option<usize> {
    let frame = Bytes::from(build());
    assert!((MAX_FRAME / 2..=MAX_FRAME).contains(&frame.len()), "{name}: {} bytes", frame.len());
    peak()?;
    let verdict = Message::from_frame(&frame);
    let taken = peak()?;
    let verdict = verdict.map_or_else(|error| error.to_string(), |_| "it was taken".to_owned());
    println!("{name}: {} bytes cost {} MiB; {verdict}", frame.len(), taken >> 20);
    Some(taken)
}

/// Which frame a process of its own is to decode: what an earlier one left behind in the heap must not count.
const WHICH: &str = "RINGTIDE_HOSTILE_FRAME";

#[test]
fn no_frame_takes_much_more_memory_than_bytes() {
    if let Some(which) = std::env::var(WHICH).ok().and_then(|which| which.parse::<usize>().ok()) {
        let (name, build) = FRAMES[which];
        return assert!(cost(name, build).is_none_or(|taken| taken <= MOST), "{name} cost too much");
    }
    for which in 0..FRAMES.len() {
        let program = std::env::current_exe().unwrap();
        let arguments = ["--exact", "no_frame_takes_much_more_memory_than_bytes", "--nocapture"];
        let output = std::process::Command::new(program).args(arguments).env(WHICH, which.to_string()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{}", told.lines().filter(|line| line.contains(" cost ")).collect::<String>());
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    }
}
