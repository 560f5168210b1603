//! Runs the target `dump` under libFuzzer.
#![no_main]

#[path = "../targets/dump.rs"]
mod dump;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dump::run(data));
