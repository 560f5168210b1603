//! The three seams: everything that a node does not compute goes through one of these traits.
//!
//! The real ones stand in `backend`, the simulated ones in `sim`; both pass the same contract suites.

pub mod bounds;
pub mod clock;
pub mod message;
pub mod network;
pub mod storage;
mod weights;

pub use clock::Clock;
pub use network::{Lane, Network, NetworkEvent, SendError};
pub use storage::{Batch, Snapshot, Storage, StorageError};
