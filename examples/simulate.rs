//! Runs simulated clusters: `cargo run --release --example simulate -- --seeds 1000`.
//!
//! Prints each violation with the line that replays it, and at the end how much was simulated and which kinds of faults met.

use std::process::ExitCode;

use clap::Parser;
use ringtide::sim::campaign::{Campaign, replay};
use ringtide::sim::kinds::COUNTED;

/// Simulates clusters of real nodes, a seed each.
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
    /// Seeds that run at the same time; 0: as many as there are cores.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Tells the trace of each seed: a hash over everything that was delivered and answered, the same for the same seed.
    #[arg(long)]
    traces: bool,
    /// Shows what the peers log, filtered as by RUST_LOG.
    #[arg(long)]
    log: Option<String>,
}

fn main() -> ExitCode {
    let Arguments { seeds, seed, peers, threads, traces, log } = Arguments::parse();
    if let Some(filter) = &log {
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    let threads = if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads };
    let started = tokio::time::Instant::now();
    let campaign = Campaign::run(seed..seed.saturating_add(seeds), peers, threads, |seed, result| match result {
        Ok(report) if traces => println!("seed {seed}: {}", report.trace),
        Ok(_) => {}
        Err(violation) => println!("seed {seed}: {violation}\n  {}", replay(seed, peers)),
    });
    let hours = campaign.peer_time.as_secs_f64() / 3600.0;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!("{}", campaign.matrix);
    let reached = COUNTED.map(|kind| format!("{} {}", kind.name(), campaign.reached.get(&kind).copied().unwrap_or(0)));
    println!("reached: {}", reached.join(", "));
    println!(
        "{seeds} seeds, {} violations, {} commands acknowledged, {} failed, {hours:.1} peer-hours in {minutes:.1} minutes",
        campaign.violations.len(),
        campaign.acknowledged,
        campaign.failed,
    );
    if campaign.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
