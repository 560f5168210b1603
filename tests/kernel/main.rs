//! The proof of the kernel (`ARCHITECTURE.md`, "How this is proved"): its laws, whole histories against an independent model of their
//! meaning, the types of another crate as further oracles, and a test for each rule without which data is lost or comes back.

mod corpora;
mod expiry_histories;
mod expiry_plot;
mod expiry_rules;
mod expiry_world;
mod histories;
mod history;
mod laws;
mod oracles;
mod peer;
mod peer_corpora;
mod pull_rules;
mod rules;
