//! The Redis protocol of a running peer: against a real Redis, against clients of all kinds, and against what is no client.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod blocking;
mod connections;
mod differential;
mod dumps;
mod families;
mod fields;
mod hostile;
mod keyspace;
mod notifications;
mod places;
mod pubsub;
mod reference;
mod ringtide;
mod scans;
mod server;
mod wire;
