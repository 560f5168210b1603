//! (to be written)

pub mod lease;
