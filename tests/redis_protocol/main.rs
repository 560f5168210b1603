//! The Redis protocol of a running peer: against a real Redis, against clients of all kinds, and against what is no client.

mod connections;
mod differential;
mod hostile;
mod ringtide;
mod wire;
