//! The built program, run as users run it: child processes on loopback, real clients, real crashes.

mod cluster;
mod harness;
mod hostile;
mod load;
mod local;
mod mdns;
mod refusal;
mod startup;
