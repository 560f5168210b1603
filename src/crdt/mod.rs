//! The replicated state: pure data and rules, no I/O, no clock, no randomness.
//!
//! [`delta`] is the algebra; the other modules are views of rows: a command becomes a delta, rows become a value.

pub mod additive;
pub mod answer;
pub mod bits;
pub mod codec;
pub mod command;
pub mod condition;
pub mod content;
mod copying;
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
pub mod kind;
pub mod length;
pub mod list;
pub mod memory;
pub mod merge;
pub mod number;
pub mod outcome;
pub mod position;
pub mod pull;
pub mod random;
pub mod refusal;
pub mod registers;
pub mod removal;
pub mod row;
pub mod rows;
pub mod runs;
pub mod scan;
pub mod score;
pub mod score_view;
pub mod selection;
pub mod set;
pub mod shown;
pub mod sorted_set;
pub mod string;
pub mod summary;
mod target;
#[cfg(test)]
mod testing;
pub mod token;
pub mod value;
pub mod weight;
pub mod wire;
