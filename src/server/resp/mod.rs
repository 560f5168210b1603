//! The Redis protocol.

pub mod inline;
pub mod integer;
pub mod parser;
pub mod reply;
