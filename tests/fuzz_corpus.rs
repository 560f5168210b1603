//! Replays the corpora of the fuzz targets in `fuzz/`, through the same entry functions, so that plain `cargo test` notices what a
//! fuzzer once found.

use std::path::Path;

#[path = "../fuzz/targets/client.rs"]
mod client;
#[path = "../fuzz/targets/deltas.rs"]
mod deltas;
#[path = "../fuzz/targets/rows.rs"]
mod rows;

/// Runs every file of a target's corpus, and each of them cut short at several places.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "{} holds {} files only", folder.display(), files.len());
    for file in files {
        let data = std::fs::read(&file).unwrap();
        println!("{}", file.display());
        run(&data);
        for parts in 1..8 {
            run(&data[..data.len() * parts / 8]);
        }
    }
}

#[test]
fn client_bytes() {
    replay("client", client::run);
}

#[test]
fn stored_rows() {
    replay("rows", rows::run);
}

#[test]
fn joined_deltas() {
    replay("deltas", deltas::run);
}
