//! Plays random histories of a type against the meaning of its commands, as the tests of the kernel do, and any number of them.
//!
//! `cargo run --release --example histories [type] [number] [first seed]` (all types, 10,000 histories from seed 1 by default). The types are string, counter, set,
//! hash, sorted-set, list, hyperloglog, bitmap, all (side by side), expiry and field-expiry. A history that fails is shrunk and told, with the line that replays it.

#[path = "../tests/kernel/expiry_histories.rs"]
mod expiry_histories;
#[path = "../tests/kernel/expiry_plot.rs"]
mod expiry_plot;
#[path = "../tests/kernel/expiry_world.rs"]
mod expiry_world;
#[path = "../tests/kernel/histories.rs"]
mod histories;
#[path = "../tests/kernel/history/mod.rs"]
#[expect(dead_code, reason = "the laws are tests only")]
mod history;
#[path = "../tests/kernel/peer.rs"]
#[expect(dead_code, reason = "the rules are tests only")]
mod peer;

use std::process::ExitCode;

use tokio::time::Instant;

use expiry_plot::Plot;
use histories::replay;
use history::types::Type;

const TYPES: [Type; 9] =
    [Type::String, Type::Counter, Type::Set, Type::Hash, Type::SortedSet, Type::List, Type::HyperLogLog, Type::Bitmap, Type::All];

/// A name, and what plays the history of a seed.
type Player = (&'static str, Box<dyn Fn(u64) -> Result<(), String>>);

fn players() -> Vec<Player> {
    let of_type = |of: Type| -> Player { (of.name(), Box::new(move |seed| histories::play(of, seed))) };
    let of_plot = |plot: Plot| -> Player { (plot.title(), Box::new(move |seed| expiry_histories::play(plot, seed))) };
    TYPES.into_iter().map(of_type).chain([Plot::Keys, Plot::Fields].map(of_plot)).collect()
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let chosen = arguments.next();
    let mut number = |otherwise| arguments.next().map_or(Some(otherwise), |text| text.parse::<u64>().ok());
    let (Some(count), Some(first)) = (number(10_000), number(1)) else {
        eprintln!("the number of histories and the first seed are whole numbers");
        return ExitCode::from(2);
    };
    let players: Vec<Player> = players().into_iter().filter(|(name, _)| chosen.as_ref().is_none_or(|chosen| chosen == name)).collect();
    if players.is_empty() {
        eprintln!("there is no such type");
        return ExitCode::from(2);
    }
    for (name, play) in players {
        let started = Instant::now();
        for seed in first..first.saturating_add(count) {
            if let Err(text) = play(seed) {
                eprintln!("{name}, seed {seed}: {text}\n{}", replay(name, seed));
                return ExitCode::FAILURE;
            }
        }
        println!("{name}: {count} histories from seed {first} in {:.1} s", started.elapsed().as_secs_f64());
    }
    ExitCode::SUCCESS
}
