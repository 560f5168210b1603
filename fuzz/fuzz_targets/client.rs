//! Runs the target `client` under libFuzzer.
#![no_main]

#[path = "../targets/client.rs"]
mod client;

libfuzzer_sys::fuzz_target!(|data: &[u8]| client::run(data));
