//! Plays random histories of one type or of all against the oracle of `tests/kernel`: `cargo run --release --example histories -- --count 100000`.
//!
//! Prints each failure with the line that replays it, and at the end how many were played.

use std::process::ExitCode;

use clap::Parser;

#[path = "../tests/kernel/expiry_histories.rs"]
mod expiry_histories;
#[path = "../tests/kernel/expiry_world.rs"]
mod expiry_world;
#[path = "../tests/kernel/histories.rs"]
mod histories;
#[expect(dead_code, reason = "what only other tests of the kernel use")]
#[path = "../tests/kernel/history/mod.rs"]
mod history;
#[expect(dead_code, reason = "what only other tests of the kernel use")]
#[path = "../tests/kernel/peer.rs"]
mod peer;

use history::commands::TYPES;

/// Plays random histories of replicas, one seed after the other.
#[derive(Parser)]
struct Arguments {
    /// Of one type alone: strings, sets, hashes, sorted-sets, lists, hyperloglogs or expiry.
    #[arg(long)]
    of: Option<String>,
    /// How many histories of each.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_wanted = |name: &str| arguments.of.as_ref().is_none_or(|of| of == name);
    let seeds = arguments.seed..arguments.seed.saturating_add(arguments.count);
    let (mut played, mut failed) = (0, 0);
    let mut tell = |name: &str, outcome: Result<(), String>| {
        played += 1;
        match outcome {
            Ok(()) => println!("{name}: {} histories, nothing lost, nothing back", arguments.count),
            Err(failure) => {
                failed += 1;
                println!("{name}: {failure}");
            }
        }
    };
    for (data_type, (name, _)) in TYPES.iter().enumerate().filter(|(_, (name, _))| is_wanted(name)) {
        tell(name, histories::prove(data_type, seeds.clone()));
    }
    if is_wanted("expiry") {
        tell("expiry", expiry_histories::prove(seeds));
    }
    if played == 0 {
        eprintln!("--of: there are histories of {}, expiry", TYPES.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
