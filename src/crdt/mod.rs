//! The replicated state: pure data and rules, no I/O, no clock, no randomness.
//!
//! [`delta`] is the algebra; the other modules are views of rows: a command becomes a delta, rows become a value.

pub mod answer;
pub mod codec;
pub mod command;
pub mod counter;
pub mod delta;
pub mod dot;
pub mod encode;
pub mod execute;
pub mod expiry;
pub mod key;
pub mod look;
pub mod memory;
pub mod merge;
pub mod pull;
pub mod set;
pub mod string;
pub mod wire;
mod write;
