//! Writes the seeds of the fuzz targets `frames` and `records` anew: what peers say to each other and keep on their disks, about what random
//! histories hold. To be run by hand when a format gets a new version: `cargo test --test kernel write_the_peer_corpora -- --ignored`.

#![expect(clippy::unwrap_used, reason = "a generator that cannot go on says so by a panic")]

use std::rc::Rc;

use bytes::Bytes;
use ringtide::backend::libp2p::admission::{Admission, Message as Admitting, ROUNDS, Refusal, Role, Secret, Terms};
use ringtide::crdt::bits::{Change, Field, FieldChange, Overflow};
use ringtide::crdt::command::{Answer, DataType, Selection};
use ringtide::crdt::delta::{Decision, Delta, Kind, RowAddress};
use ringtide::crdt::dot::Dot;
use ringtide::crdt::encode::{row_digest, row_to_bytes};
use ringtide::crdt::hyperloglog;
use ringtide::crdt::key::{self, ExpireCondition};
use ringtide::crdt::list::{self, ItemName, Side};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::set::Query;
use ringtide::crdt::string;
use ringtide::env::message::{
    Answered, Attestation, Failed, Inquiry, KeyPage, ListedKey, Message, Page, Publication, PullStart, RangeContent, Refused, Reply,
    Request, RowRange, RowsThere, Sent, Standing as Worth,
};
use ringtide::members::{Member, Members, Standing};
use ringtide::merkle::Tree;
use ringtide::replica::hints::Hint;
use ringtide::replica::journal;
use ringtide::replica::layout;
use ringtide::replica::partition::{FirstSync, PartitionChange, PartitionState, to_bytes};
use ringtide::types::{Actor, Digest, Level, Partition, PeerId, Place, Timestamp};

use crate::corpora::write;
use crate::history::random::Random;
use crate::history::random_deltas;
use crate::peer::{KEY, add, increment, set};

const PARTITION: Partition = Partition(3);

fn deltas() -> Vec<Rc<Delta>> {
    random_deltas(&mut Random::new(7)).into_iter().take(6).collect()
}

fn state() -> MemoryState {
    let mut state = MemoryState::default();
    deltas().iter().for_each(|delta| state.join(delta));
    state
}

fn members() -> Members {
    let member = |peer: u8| Member {
        peer: PeerId([peer; 32]),
        zone: (peer > 1).then(|| "cellar".to_owned()),
        capacity: 1,
        addresses: vec!["/ip4/192.168.1.7/tcp/4001".to_owned()],
        actors: vec![7, u64::from(peer)],
        tenure: 1,
        absences: 2,
        born_ms: 1_700_000_000_000,
        settled: true,
        standing: [Standing::Joined, Standing::Left, Standing::Forgotten][usize::from(peer) % 3],
    };
    Members::try_from((1..4).map(|peer| (u64::from(peer), member(peer))).collect::<Vec<_>>()).unwrap()
}

fn decision() -> Decision {
    Decision { time: Some(1 << 41), timestamp: Timestamp(5 << 16), since: Timestamp(1) }
}

fn item_name() -> ItemName {
    ItemName { position: KEY, dots: vec![Dot { actor: Actor(1), counter: 9 }] }
}

fn requests() -> Vec<Request> {
    let address = RowAddress::member(&KEY, &Bytes::from_static(b"m"));
    let range = |from: Option<Bytes>| RowRange { leaf: 9, from, until: Some(Bytes::from_static(b"r")) };
    let sent = |delta: &Rc<Delta>| Sent { partition: PARTITION, delta: (**delta).clone(), hint_for: None };
    let field = Field { signed: true, bits: 7, offset: 9 };
    let change = FieldChange { field, change: Change::Add(-1), overflow: Overflow::Fail };
    let execute = |mutation| Request::Execute { level: Level::Quorum, key: KEY, mutation };
    vec![
        execute(set("value")),
        execute(add("m")),
        execute(increment(-3)),
        execute(list::Mutation::Push { side: Side::Left, items: vec![KEY, KEY], only_existing: false }.into()),
        execute(hyperloglog::Mutation::Add(vec![KEY]).into()),
        execute(string::Mutation::Fields(vec![change]).into()),
        execute(key::Mutation::Expire { at_ms: 1 << 41, condition: ExpireCondition::Later }.into()),
        execute(string::Mutation::Resolve { token: Bytes::from_static(&[2, 0, 0]), value: KEY }.into()),
        Request::Read { key: KEY, selection: Selection::Elements { kind: Kind::Member, elements: vec![KEY] }, after: Some(KEY) },
        Request::Read { key: KEY, selection: Selection::Hashed { kind: Kind::Score, from_hash: 1 << 60, most: 128 }, after: None },
        Request::Answer { key: KEY, query: Some(Query::Cardinality.into()) },
        Request::Replicated { batch: 1 << 40 },
        Request::PullOpen(vec![(PARTITION, Digest(1 << 100), 5), (Partition(4), Digest(0), 6)]),
        Request::PullLeaves { partition: PARTITION, state_id: u64::MAX, nodes: vec![0, 31] },
        Request::PullRanges { partition: PARTITION, state_id: 1, ranges: vec![range(None), range(Some(KEY))] },
        Request::PullRows { partition: PARTITION, state_id: 1, wanted: vec![(9, vec![address.clone(), RowAddress::value(&KEY)])] },
        Request::Confirm { seals: vec![(PARTITION, 7)] },
        Request::Deliver(deltas().iter().take(2).map(sent).collect()),
        Request::Offer(vec![PARTITION]),
        Request::PullFromMe(vec![PARTITION]),
        Request::Digests(vec![PARTITION, Partition(0)]),
        Request::KeyCounts(vec![PARTITION]),
        Request::Keys { partition: PARTITION, from_hash: 1 << 60, most: 10 },
        Request::DurableClocks(vec![PARTITION]),
        Request::Listening(1 << 41),
        Request::Publish(vec![Publication { sharded: true, channel: KEY, message: KEY }]),
        Request::Subscriptions(Inquiry::Channels { sharded: false, pattern: Some(KEY) }),
        Request::Subscriptions(Inquiry::Subscribers { sharded: true, channels: vec![KEY] }),
        Request::Subscriptions(Inquiry::Patterns),
        execute(list::Mutation::Place { side: Side::Right, item: KEY }.into()),
        execute(list::Mutation::Take(item_name()).into()),
        Request::Await { key: KEY, kind: Kind::Item },
        Request::Attest {
            ring: 8,
            asked: vec![Attestation {
                row: RowAddress::expiry(&KEY),
                decision: decision(),
                standing: vec![Dot { actor: Actor(1), counter: 9 }],
            }],
        },
    ]
}

fn replies() -> Vec<Reply> {
    let state = state();
    let there = || RowsThere { rows: state.rows.clone(), causal: Some(Box::new(state.causal.clone())) };
    let listing = state.rows.iter().map(|(address, row)| (address.clone(), row_digest(address, row))).collect();
    let open =
        PullStart::Open { state_id: 9, seal: Some(8), causal: Box::new(state.causal.clone()), root: Digest(u128::MAX), nodes: vec![3; 32] };
    vec![
        Reply::Executed(Ok((Answer::Integer(3), 4))),
        Reply::Executed(Ok((Answer::Items(vec![KEY]), 5))),
        Reply::Executed(Ok((Answer::Named { item: KEY, name: item_name() }, 7))),
        Reply::Executed(Ok((Answer::Fields(vec![Some(-1), None]), 6))),
        Reply::Executed(Err(Failed::NoQuorum { reached: 1, needed: 2 })),
        Reply::Page(Box::new(Page {
            standing: Worth::Extra,
            ring: 1 << 40,
            rows: state.rows.clone(),
            causal: state.causal.clone(),
            next: Some(KEY),
            hashed_until: Some(9),
        })),
        Reply::Answered(Box::new(Answered {
            standing: Worth::Counted,
            ring: 8,
            digest: Digest(3),
            bytes: 4,
            answer: Some(Ok(Answer::Scanned { next: 5, elements: Box::new(Answer::Members(vec![KEY])) })),
        })),
        Reply::Count(3),
        Reply::PullStarts {
            ring: 8,
            awaits: vec![(PARTITION, vec![vec![PeerId([9; 32])]])],
            starts: vec![(PARTITION, open), (Partition(4), PullStart::Equal), (Partition(5), PullStart::Nothing)],
        },
        Reply::PullLeaves(vec![(31, vec![1 << 60; 32])]),
        Reply::Ranges(vec![
            RangeContent::Rows(there()),
            RangeContent::Listing(listing),
            RangeContent::Parts(vec![(Some(KEY), 300, Digest(4)), (None, 1, Digest(5))]),
        ]),
        Reply::Rows(vec![(3, there())]),
        Reply::Digests(vec![(PARTITION, Digest(7))]),
        Reply::KeyCounts(vec![(PARTITION, 7)]),
        Reply::Channels(vec![KEY]),
        Reply::Subscribers(vec![3]),
        Reply::Keys(KeyPage {
            standing: Worth::Counted,
            ring: 8,
            keys: vec![ListedKey { key: KEY, data_type: DataType::Set }],
            next: Some(7),
        }),
        Reply::Attested(vec![true, false]),
        Reply::DurableClocks(vec![(PARTITION, state.causal.clock.clone())]),
        Reply::Delivered(vec![(0, Refused::Late), (1, Refused::NotHolder)]),
        Reply::Unavailable("too many requests are being served".to_owned()),
        Reply::StateChanged,
    ]
}

fn messages() -> Vec<(String, Message)> {
    let sent = |delta: &Rc<Delta>| Sent { partition: PARTITION, delta: (**delta).clone(), hint_for: Some(PeerId([9; 32])) };
    let mut messages = vec![
        (
            "heartbeat".to_owned(),
            Message::Heartbeat {
                members: u64::MAX,
                sealed: vec![PARTITION],
                missed: vec![PeerId([9; 32])],
                busy: true,
                listening: 9,
                wall_ms: u64::MAX,
            },
        ),
        ("members".to_owned(), Message::Members(Box::new(members()))),
        ("deltas".to_owned(), Message::Deltas { frame: 5, ring: 1 << 40, deltas: deltas().iter().take(3).map(sent).collect() }),
        ("acknowledge".to_owned(), Message::Acknowledge { frame: 5, refused: vec![(1, Refused::Misplaced)] }),
    ];
    for (id, request) in (1..).zip(requests()) {
        messages.push((format!("request-{id}"), Message::Request { id, request: Box::new(request) }));
    }
    for (id, reply) in (1..).zip(replies()) {
        messages.push((format!("reply-{id}"), Message::Reply { id, reply: Box::new(reply) }));
    }
    messages
}

/// A frame as it lies in a stream.
fn in_stream(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len() + 1).unwrap();
    [&length.to_be_bytes(), &[1][..], frame].concat()
}

fn write_admission() -> std::io::Result<()> {
    let terms = Terms::new("cluster", Some(&Secret::new("a long and random secret")), 256, false);
    let [here, there] = [1u8, 2].map(|seed| {
        let key = libp2p::identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        key.public().to_peer_id()
    });
    let dialler = Admission::new(&terms, Role::Dialler, here, there, true, [7; 32]);
    let mut said: Vec<Admitting> = ROUNDS.iter().map(|round| dialler.say(*round, &["/ip4/127.0.0.1/tcp/1".to_owned()], None)).collect();
    said.push(Admitting::Refusal(Refusal::Cluster("other".to_owned())));
    said.push(Admitting::Refusal(Refusal::Version { refusing: 1, refused: 2 }));
    for (number, message) in said.iter().enumerate() {
        write("frames", &format!("admission-{number}"), &[vec![3], message.to_bytes()].concat())?;
    }
    Ok(())
}

fn write_rows() -> std::io::Result<()> {
    let mut rows = Vec::new();
    for seed in 0..4 {
        let mut state = MemoryState::default();
        random_deltas(&mut Random::new(seed)).iter().for_each(|delta| state.join(delta));
        rows.extend(state.rows.into_iter().take(2));
    }
    for (number, (address, row)) in rows.iter().enumerate() {
        let long = RowAddress { key: vec![b'k'; layout::LONGEST_INLINE + 1].into(), ..address.clone() };
        for (name, address) in [("row", address), ("long", &long)] {
            let key = layout::row_key(Place::of(&address.key, 16), address);
            let length = u16::try_from(key.len()).unwrap().to_be_bytes();
            write(
                "records",
                &format!("{name}-{number}"),
                &[&[4][..], &length, &key, &layout::row_value(&key, address, &row_to_bytes(row))].concat(),
            )?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "writes files"]
fn write_the_peer_corpora() -> std::io::Result<()> {
    let mut stream = vec![2 + 4 * 5];
    for (name, message) in messages() {
        let frame = message.to_frame();
        write("frames", &name, &[&[0][..], &frame].concat())?;
        if frame.len() < 100 {
            stream.extend([0, 0, 0, 1, 0]);
            stream.extend(in_stream(&frame));
        }
    }
    write("frames", "stream", &stream)?;
    write_admission()?;

    let state = state();
    let first_sync =
        Some(FirstSync { former: [[PeerId([1; 32])].into()].into(), pulled: [PeerId([2; 32])].into(), ..FirstSync::default() });
    let change = |emptied, first_sync| PartitionChange {
        partition: PARTITION,
        causal: state.causal.clone(),
        keys: 2,
        first_sync,
        leaves: [(0, Digest(5)), (1023, Digest(0)), (7, Digest(u128::MAX))].into(),
        emptied,
    };
    let tagged = |tag: u8, bytes: Vec<u8>| [vec![tag], bytes].concat();
    let records = [vec![], vec![change(false, None)], vec![change(true, first_sync.clone()), change(false, None)]];
    let before: Vec<PartitionState> = (0..16).map(|_| PartitionState::empty(1, 1)).collect();
    for (number, changes) in records.into_iter().enumerate() {
        write("records", &format!("journal-{number}"), &tagged(0, journal::to_bytes(&changes, &before)))?;
    }
    let mut partition = PartitionState::empty(1, 1);
    for number in 0..3 {
        write("records", &format!("checkpoint-{number}"), &tagged(1, to_bytes(&partition.checkpoint())))?;
        partition.apply(change(false, first_sync.clone()));
        partition.tree.change(number, Digest(0), Digest(1));
    }
    assert_ne!(partition.tree, Tree::new());
    for (number, delta) in deltas().iter().enumerate() {
        write("records", &format!("hint-{number}"), &tagged(2, to_bytes(&Hint { partition: PARTITION, delta: (**delta).clone() })))?;
    }
    write("records", "members-0", &tagged(3, to_bytes(&Members::default())))?;
    write("records", "members-1", &tagged(3, to_bytes(&members())))?;
    write("records", "hint-key", &tagged(5, layout::hint_key(PeerId([1; 32]), 7)))?;
    write_rows()
}
