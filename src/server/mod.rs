//! The front doors of a peer: the Redis protocol for clients, HTTP for probes and metrics.

mod breakable;
pub mod http;
pub mod process;
pub mod resp;
pub mod statistics;
