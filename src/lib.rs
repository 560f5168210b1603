//! Ringtide: a leaderless key-value store of CRDTs that speaks the Redis protocol.

pub mod anti_entropy;
pub mod backend;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod crdt;
pub mod detector;
pub mod embed;
pub mod env;
pub mod exchange;
pub mod former;
pub mod handoff;
pub mod hlc;
pub mod members;
pub mod membership;
pub mod merkle;
pub mod node;
pub mod quorum;
pub mod replica;
pub mod ring;
pub mod server;
pub mod sim;
pub mod topology;
pub mod types;
