//! Runs the target `deltas` under libFuzzer.
#![no_main]

#[path = "../targets/deltas.rs"]
mod deltas;

libfuzzer_sys::fuzz_target!(|data: &[u8]| deltas::run(data));
