//! The simulated backends: many peers in one process, on the paused clock, from one seed.
//!
//! The node code is the real one; only the three seams are simulated. [`run`] is a whole run, [`campaign`] many of them; a failing seed replays exactly.

pub mod campaign;
pub mod checker;
pub mod clock;
pub mod cluster;
pub mod damage;
pub mod derived;
pub mod dots;
pub mod expiry;
pub mod faults;
pub mod history;
pub mod kinds;
pub mod losses;
pub mod mixture;
pub mod network;
pub mod run;
pub mod storage;
pub mod workload;

#[cfg(test)]
mod siblings_tests;
#[cfg(test)]
mod upkeep_tests;
