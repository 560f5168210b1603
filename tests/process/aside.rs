//! A row that lies damaged in the store of a peer: set aside, counted, and shown to whoever asks for its key.

use std::collections::BTreeMap;

use bytes::Bytes;
use ringtide::backend::{FjallOptions, FjallStorage};
use ringtide::crdt::delta::RowAddress;
use ringtide::env::{Batch, Storage};
use ringtide::replica::layout;
use ringtide::types::Place;

use crate::harness::{Peer, eventually};

fn set_aside(peer: &Peer, key: &str) -> String {
    let explained: BTreeMap<String, redis::Value> = peer.ask(&["RINGTIDE", "EXPLAIN", key]);
    format!("{:?}", explained["set_aside"])
}

#[test]
fn a_row_that_can_not_be_read_is_set_aside_and_shown_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut peer = Peer::new(folder.path());
    peer.start();
    for key in ["struck", "whole"] {
        let _: () = peer.ask(&["SET", key, "before"]);
    }
    peer.stop();
    let storage = FjallStorage::open(folder.path(), FjallOptions::default()).unwrap();
    let key = Bytes::from_static(b"struck");
    let row_key = layout::row_key(Place::of(&key, 256), &RowAddress::value(&key));
    let mut value = storage.snapshot().get(&row_key).unwrap().unwrap().to_vec();
    value[3] ^= 1;
    let mut batch = Batch::default();
    batch.put(row_key, value);
    storage.commit(batch).unwrap();
    drop(storage);

    peer.start();
    assert_eq!(set_aside(&peer, "whole"), "array([])");
    let refused = peer.try_ask::<String>(&["GET", "struck"]).unwrap_err();
    assert!(refused.contains("damaged"), "{refused}");
    eventually("it can be written again", || peer.try_ask::<()>(&["SET", "struck", "after"]));
    assert_eq!(peer.ask::<String>(&["GET", "struck"]), "after");
    let shown = set_aside(&peer, "struck");
    assert!(shown.contains("value") && shown.contains("it could not be read"), "{shown}");
    let status: BTreeMap<String, redis::Value> = peer.ask(&["RINGTIDE", "STATUS"]);
    assert_eq!((&status["damaged_rows"], &status["unjoined_rows"]), (&redis::Value::Int(1), &redis::Value::Int(0)));
    assert_eq!(peer.ask::<String>(&["GET", "whole"]), "before");
}
