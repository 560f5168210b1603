//! The simulated backends: many peers in one process, on the paused clock, from one seed.

pub mod clock;
pub mod cluster;
pub mod network;
pub mod storage;
