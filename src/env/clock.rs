//! The seam to wall time. Timers and deadlines use `tokio::time`, which the simulator pauses.

/// Tells wall time. It may jump in any direction; the hybrid logical clock is what copes with that.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 by this machine's clock.
    fn wall_ms(&self) -> u64;
}
