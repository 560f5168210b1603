//! Replays the corpora of the fuzz targets in `fuzz/`, through the same entry functions, so that plain `cargo test` notices what a
//! fuzzer once found.

use std::path::Path;

#[path = "../fuzz/targets/client.rs"]
mod client;
#[path = "../fuzz/targets/deltas.rs"]
mod deltas;
#[path = "../fuzz/targets/dump.rs"]
mod dump;
#[path = "../fuzz/targets/frames.rs"]
mod frames;
#[path = "../fuzz/targets/records.rs"]
mod records;
#[path = "../fuzz/targets/rows.rs"]
mod rows;

/// Runs every file of a target's corpus, and each of them cut short at several places.
fn replay(target: &str, run: fn(&[u8])) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = std::fs::read_dir(&folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    assert!(files.len() >= 20, "{} holds {} files only", folder.display(), files.len());
    for file in files {
        println!("{}", file.display());
        let data = std::fs::read(&file)?;
        run(&data);
        for parts in 1..8 {
            run(&data[..data.len() * parts / 8]);
        }
    }
    Ok(())
}

#[test]
fn client_bytes() -> std::io::Result<()> {
    replay("client", client::run)
}

#[test]
fn stored_rows() -> std::io::Result<()> {
    replay("rows", rows::run)
}

#[test]
fn joined_deltas() -> std::io::Result<()> {
    replay("deltas", deltas::run)
}

#[test]
fn payloads_of_restore() -> std::io::Result<()> {
    replay("dump", dump::run)
}

#[test]
fn frames_of_peers() -> std::io::Result<()> {
    replay("frames", frames::run)
}

#[test]
fn records_at_start() -> std::io::Result<()> {
    replay("records", records::run)
}
