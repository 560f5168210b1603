//! Two sides of the exchange, said and heard without a network.

use proptest::prelude::*;

use super::*;
use crate::config::{MAX_ADMISSION_MESSAGE, PEER_ADDRESSES};

const RIVAL: Process = Process { started_ms: 1, number: 2 };

fn terms(cluster: &str, secret: Option<&str>, partitions: u16) -> Terms {
    Terms::new(cluster, secret.map(Secret::new).as_ref(), partitions, false)
}

fn peer() -> PeerId {
    PeerId::random()
}

/// What was said, in order, and how each side ended.
struct Outcome {
    said: Vec<(Role, Message)>,
    dialler: Result<Option<Details>, Rejection>,
    listener: Result<Option<Details>, Rejection>,
}

/// Runs an exchange as the async shell does: the dialler first in each round, a refusal in place of the next message.
fn run(dialler: &mut Admission<'_>, listener: &mut Admission<'_>) -> Outcome {
    let mut outcome = Outcome { said: Vec::new(), dialler: Ok(None), listener: Ok(None) };
    for round in ROUNDS {
        let message = dialler.say(round, &["/ip4/127.0.0.1/tcp/1".to_owned()], None);
        outcome.said.push((Role::Dialler, message.clone()));
        outcome.listener = listener.hear(round, message);
        let answer = match &outcome.listener {
            Ok(_) => listener.say(round, &["/ip4/127.0.0.1/tcp/2".to_owned()], Some(RIVAL)),
            Err(Rejection::Refused(refusal)) => Message::Refusal(refusal.clone()),
            Err(_) => return outcome,
        };
        outcome.said.push((Role::Listener, answer.clone()));
        outcome.dialler = dialler.hear(round, answer);
        if let Err(Rejection::Refused(refusal)) = &outcome.dialler {
            outcome.listener = listener.hear(round, Message::Refusal(refusal.clone()));
        }
        if outcome.dialler.is_err() || outcome.listener.is_err() {
            return outcome;
        }
    }
    outcome
}

fn meet(dialler: &Terms, listener: &Terms) -> Outcome {
    let (a, b) = (peer(), peer());
    run(
        &mut Admission::new(dialler, Role::Dialler, a, b, true, [1; 32]),
        &mut Admission::new(listener, Role::Listener, b, a, true, [2; 32]),
    )
}

fn refused_with(outcome: &Outcome) -> Refusal {
    match (&outcome.listener, &outcome.dialler) {
        (Err(Rejection::Refused(here)), Err(Rejection::RefusedByRemote(there))) if here == there => here.clone(),
        other => panic!("not refused by the listener with one reason on both sides: {other:?}"),
    }
}

#[test]
fn peers_of_one_cluster_let_each_other_in_and_learn_the_addresses() {
    for secret in [None, Some("a long and random secret")] {
        let terms = terms("c", secret, 256);
        let outcome = meet(&terms, &terms);
        let (listener, dialler) = (outcome.listener.unwrap().unwrap(), outcome.dialler.unwrap().unwrap());
        assert_eq!((listener.addresses, listener.rival), (vec!["/ip4/127.0.0.1/tcp/1".to_owned()], None));
        assert_eq!((dialler.addresses, dialler.rival), (vec!["/ip4/127.0.0.1/tcp/2".to_owned()], Some(RIVAL)));
    }
}

#[test]
fn each_difference_is_refused_with_its_reason() {
    let ours = terms("c", Some("s"), 256);
    let cases = [
        (ours.clone().with_version(9), Refusal::Version { refusing: 1, refused: 9 }),
        (terms("d", Some("s"), 256), Refusal::Cluster("d".to_owned())),
        (terms("c", None, 256), Refusal::SecretMissing),
        (terms("c", Some("t"), 256), Refusal::SecretDiffers),
        (terms("c", Some("s"), 128), Refusal::Partitions { refusing: 256, refused: 128 }),
    ];
    for (theirs, refusal) in cases {
        assert_eq!(refused_with(&meet(&theirs, &ours)), refusal);
    }
    assert_eq!(refused_with(&meet(&ours, &terms("c", None, 256))), Refusal::SecretUnexpected);
}

#[test]
fn a_refused_peer_learns_neither_names_nor_addresses() {
    for theirs in [terms("d", Some("s"), 256), terms("c", None, 256), terms("c", Some("t"), 256)] {
        let outcome = meet(&theirs, &terms("c", Some("s"), 256));
        let details = |(role, message): &(Role, Message)| *role == Role::Listener && matches!(message, Message::Details(_));
        assert!(!outcome.said.iter().any(details));
        assert!(!refused_with(&outcome).to_string().contains("\"c\""));
    }
}

#[test]
fn a_dialler_with_the_wrong_secret_gets_no_proof_from_the_listener() {
    let outcome = meet(&terms("c", Some("t"), 256), &terms("c", Some("s"), 256));
    let proof = |(role, message): &(Role, Message)| *role == Role::Listener && matches!(message, Message::Proof(_));
    assert!(!outcome.said.iter().any(proof));
}

#[test]
fn the_same_identity_twice_is_refused_and_each_side_knows_the_other_process() {
    let (here, there) = (Process { started_ms: 7, number: 1 }, Process { started_ms: 7, number: 2 });
    let (same, terms) = (peer(), terms("c", Some("s"), 256));
    let (ours, theirs) = (terms.clone().with_process(here), terms.with_process(there));
    let mut dialler = Admission::new(&ours, Role::Dialler, same, same, true, [1; 32]);
    let mut listener = Admission::new(&theirs, Role::Listener, same, same, true, [2; 32]);
    let outcome = run(&mut dialler, &mut listener);
    assert_eq!(refused_with(&outcome), Refusal::SameIdentity);
    assert_eq!((dialler.remote_process(), listener.remote_process()), (there, here));
}

#[test]
fn protected_mode_takes_peers_of_the_same_machine_only() {
    let (open, protected) = (terms("c", None, 256), Terms::new("c", None, 256, true));
    let (a, b) = (peer(), peer());
    let outcome = run(
        &mut Admission::new(&open, Role::Dialler, a, b, false, [1; 32]),
        &mut Admission::new(&protected, Role::Listener, b, a, false, [2; 32]),
    );
    assert_eq!(refused_with(&outcome), Refusal::Protected);
    assert!(meet(&open, &protected).listener.is_ok());
}

/// Plays the dialler's recorded messages to a listener with this identity and nonce.
fn replay(terms: &Terms, said: &[(Role, Message)], local: PeerId, remote: PeerId, nonce: [u8; 32]) -> Result<Option<Details>, Rejection> {
    let mut listener = Admission::new(terms, Role::Listener, local, remote, true, nonce);
    let mut dialler = said.iter().filter(|(role, _)| *role == Role::Dialler).map(|(_, message)| message.clone());
    let mut last = Ok(None);
    for round in ROUNDS {
        last = Ok(listener.hear(round, dialler.next().unwrap())?);
    }
    last
}

#[test]
fn a_recorded_exchange_convinces_nobody_again() {
    let terms = terms("c", Some("s"), 256);
    let (a, b) = (peer(), peer());
    let outcome = run(
        &mut Admission::new(&terms, Role::Dialler, a, b, true, [1; 32]),
        &mut Admission::new(&terms, Role::Listener, b, a, true, [2; 32]),
    );
    let refused = |result| matches!(result, Err(Rejection::Refused(Refusal::SecretDiffers)));
    assert!(replay(&terms, &outcome.said, b, a, [2; 32]).is_ok(), "the very same exchange would pass");
    assert!(refused(replay(&terms, &outcome.said, b, a, [3; 32])), "another nonce");
    assert!(refused(replay(&terms, &outcome.said, b, peer(), [2; 32])), "another sender");
    assert!(refused(replay(&terms, &outcome.said, peer(), a, [2; 32])), "another receiver");
}

#[test]
fn a_proof_does_not_convince_the_peer_that_made_it() {
    let terms = terms("c", Some("s"), 256);
    let (a, b) = (peer(), peer());
    let mut dialler = Admission::new(&terms, Role::Dialler, a, b, true, [1; 32]);
    let hello = Message::Hello { version: WIRE_VERSION, cluster: "c".to_owned(), secret: true, nonce: [1; 32], process: RIVAL };
    assert!(dialler.hear(Round::Hello, hello).is_ok());
    let reflected = dialler.say(Round::Proof, &[], None);
    assert!(matches!(dialler.hear(Round::Proof, reflected), Err(Rejection::Refused(Refusal::SecretDiffers))));
}

#[test]
fn the_secret_of_another_cluster_is_another_secret() {
    let with_name = |name: &str| Terms { cluster: "c".to_owned(), ..terms(name, Some("s"), 256) };
    assert_eq!(refused_with(&meet(&with_name("d"), &with_name("c"))), Refusal::SecretDiffers);
}

#[test]
fn messages_out_of_turn_and_missing_proofs_are_not_let_in() {
    let terms = terms("c", Some("s"), 256);
    let mut listener = Admission::new(&terms, Role::Listener, peer(), peer(), true, [2; 32]);
    let details = Message::Details(Details { partitions: 256, addresses: Vec::new(), rival: None });
    assert!(matches!(listener.hear(Round::Hello, details), Err(Rejection::Malformed)));
    assert!(matches!(listener.hear(Round::Proof, Message::Proof(None)), Err(Rejection::Refused(Refusal::SecretDiffers))));
}

#[test]
fn a_secret_is_never_printed() {
    assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
}

#[test]
fn messages_survive_their_bytes() {
    let messages = [
        Message::Hello { version: 1, cluster: "c".to_owned(), secret: true, nonce: [7; 32], process: RIVAL },
        Message::Proof(None),
        Message::Proof(Some([9; 32])),
        Message::Details(Details {
            partitions: 256,
            addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned(); PEER_ADDRESSES],
            rival: Some(RIVAL),
        }),
        Message::Refusal(Refusal::Partitions { refusing: 1, refused: 2 }),
    ];
    for message in messages {
        let mut bytes = message.to_bytes();
        assert!(bytes.len() <= MAX_ADMISSION_MESSAGE);
        assert_eq!(Message::from_bytes(&bytes), Some(message));
        bytes.push(0);
        assert_eq!(Message::from_bytes(&bytes), None);
    }
}

#[test]
fn the_first_message_of_this_version_keeps_its_bytes() {
    let hello = |process| Message::Hello { version: 1, cluster: "c".to_owned(), secret: false, nonce: [0; 32], process };
    let mut expected = b"\xa1\x65Hello\xa5\x67version\x01\x67cluster\x61c\x66secret\xf4\x65nonce\x98\x20".to_vec();
    expected.extend([0; 32]);
    expected.extend(b"\x67process\xa2\x6astarted_ms\x01\x66number\x02");
    assert_eq!(hello(RIVAL).to_bytes(), expected);
    // One that names no process is understood, so that it can be told what else is wrong.
    let mut nameless = expected[..expected.len() - 29].to_vec();
    nameless[7] = 0xa4;
    assert_eq!(Message::from_bytes(&nameless), Some(hello(Process::default())));
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::from_bytes(&bytes);
    }
}
