//! A start among others: who belongs may have changed while this peer was away.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Node;

/// How often it is looked whether somebody has told.
const LOOK: Duration = Duration::from_millis(5);

impl Node {
    /// Waits until another member has told who belongs, where there are others to be found: those that this peer knows, or whoever it
    /// `looks_for`. A peer that was forgotten while it was away learns so before it serves anybody.
    ///
    /// Whoever finds nobody in time goes on alone. Whether it found somebody.
    pub async fn arrive(&self, looks_for: bool, within: Duration) -> bool {
        let cluster = self.inner.coordinator.topology.cluster();
        if !looks_for && cluster.members.joined().count() < 2 {
            return false;
        }
        let told = async {
            while !self.inner.liveness.load().values().any(|liveness| liveness.told) {
                sleep(LOOK).await;
            }
        };
        timeout(within, told).await.is_ok()
    }
}
