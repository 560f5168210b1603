//! The real backends behind the three seams: system clock, fjall, libp2p; and the small files beside the store.

pub mod clock;
pub mod fjall;
pub mod identity;
mod lease_file;
pub mod libp2p;
mod slot_file;

pub use clock::SystemClock;
pub use fjall::{FjallOptions, FjallStorage, OpenError};
