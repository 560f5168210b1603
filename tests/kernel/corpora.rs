//! Writes the seeds of the fuzz targets `rows` and `deltas` anew, from what random histories hold. To be run by hand when a format gets a
//! new version: `cargo test --test kernel write_the_corpora -- --ignored`.

use std::path::Path;

use ringtide::crdt::encode::{address_to_bytes, causal_to_bytes, clock_to_bytes, delta_to_bytes, row_to_bytes};
use ringtide::crdt::memory::MemoryState;
use ringtide::crdt::wire::rows_to_bytes;

use crate::history::random::Random;
use crate::history::random_deltas;

/// Seeds per kind.
const SEEDS: usize = 6;
/// The longest seed, in bytes: short ones are mutated faster.
const LONGEST: usize = 600;

pub(crate) fn write(target: &str, name: &str, data: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), data)
}

#[test]
#[ignore = "writes files"]
fn write_the_corpora() -> std::io::Result<()> {
    for seed in 0..SEEDS {
        let random = &mut Random::new(seed as u64);
        let mut state = MemoryState::default();
        for delta in random_deltas(random) {
            state.join(&delta);
        }
        let tagged = |tag: u8, bytes: Vec<u8>| [vec![tag], bytes].concat();
        if let Some((address, row)) = state.rows.iter().max_by_key(|(_, row)| row.len()) {
            write("rows", &format!("row-{seed}"), &tagged(0, row_to_bytes(row)))?;
            write("rows", &format!("address-{seed}"), &tagged(4, address_to_bytes(address)))?;
        }
        write("rows", &format!("rows-{seed}"), &tagged(1, rows_to_bytes(&state.rows)))?;
        write("rows", &format!("clock-{seed}"), &tagged(2, clock_to_bytes(&state.causal.clock)))?;
        write("rows", &format!("causal-{seed}"), &tagged(3, causal_to_bytes(&state.causal)))?;
    }
    let mut written = 0;
    for seed in 0.. {
        let random = &mut Random::new(seed);
        let mut data = Vec::new();
        for delta in random_deltas(random).iter().take(4) {
            let bytes = delta_to_bytes(delta);
            data.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
            data.extend_from_slice(&bytes);
        }
        if (100..LONGEST).contains(&data.len()) {
            write("deltas", &format!("history-{seed}"), &data)?;
            written += 1;
        }
        if written == 4 * SEEDS {
            break;
        }
    }
    Ok(())
}
