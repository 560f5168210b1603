//! Runs the target `records` under libFuzzer.
#![no_main]

#[path = "../targets/records.rs"]
mod records;

libfuzzer_sys::fuzz_target!(|data: &[u8]| records::run(data));
