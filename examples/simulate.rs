//! Runs simulated clusters: `cargo run --release --example simulate -- --seeds 1000`.
//!
//! Prints each violation with the line that replays it, and at the end how much was simulated.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringtide::sim::run::run;

/// Simulates clusters of real nodes, one seed after the other.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Peers in each cluster.
    #[arg(long, default_value_t = 5)]
    peers: usize,
    /// Shows what the peers log, filtered as by RUST_LOG.
    #[arg(long)]
    log: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(filter) = &arguments.log {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    let started = tokio::time::Instant::now();
    let (mut violations, mut peer_time, mut acknowledged, mut failed) = (0, Duration::ZERO, 0, 0);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        match run(seed, arguments.peers) {
            Ok(report) => {
                peer_time += report.peer_time;
                acknowledged += report.acknowledged;
                failed += report.failed;
            }
            Err(violation) => {
                violations += 1;
                println!("seed {seed}: {violation}");
                println!("  replay: cargo run --release --example simulate -- --seed {seed} --seeds 1 --peers {}", arguments.peers);
            }
        }
    }
    let hours = peer_time.as_secs_f64() / 3600.0;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!(
        "{} seeds, {violations} violations, {acknowledged} commands acknowledged, {failed} failed, {hours:.1} peer-hours in {minutes:.1} minutes ({:.1} peer-hours a minute)",
        arguments.seeds,
        hours / minutes
    );
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
