//! The built program, run as users run it: child processes on loopback, real clients, real crashes.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by a panic")]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

mod aside;
mod blocking;
mod clocks;
mod cluster;
mod coming_and_going;
mod disks;
mod forgotten;
mod harness;
mod hostile;
mod identity;
mod keyspace;
mod kills;
mod lan;
mod load;
mod local;
mod mdns;
mod overload;
mod partition;
mod pubsub;
mod refusal;
mod startup;
