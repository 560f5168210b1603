//! The replicated state: pure data and rules, no I/O, no clock, no randomness.
//!
//! [`delta`] is the algebra; the other modules are views of rows: a command becomes a delta, rows become a value.

pub mod additive;
pub mod answer;
pub mod bits;
pub mod codec;
pub mod command;
pub mod content;
pub mod counter;
pub mod delta;
pub mod dot;
mod draft;
pub mod encode;
pub mod execute;
pub mod expiry;
mod explain;
pub mod float;
pub mod hash;
pub mod hyperloglog;
pub mod key;
pub mod list;
pub mod memory;
pub mod merge;
pub mod number;
pub mod pull;
pub mod random;
pub mod removal;
pub mod rows;
pub mod scan;
pub mod set;
pub mod shown;
pub mod sorted_set;
pub mod string;
pub mod summary;
#[cfg(test)]
mod testing;
pub mod token;
pub mod value;
pub mod weight;
pub mod wire;
