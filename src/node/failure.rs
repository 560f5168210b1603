//! Why a peer stops by itself.

use std::sync::OnceLock;

use tokio::sync::Notify;

use super::Node;

/// Why the peer has stopped by itself, once it has.
#[derive(Default)]
pub(super) struct Failure {
    pub(super) reason: OnceLock<String>,
    told: Notify,
}

impl Failure {
    pub(super) fn tell(&self, reason: &str) {
        let _ = self.reason.set(reason.to_owned());
        self.told.notify_waiters();
    }
}

impl Node {
    /// Resolves when the peer has to stop, with the reason: its storage failed, or another process has its identity.
    pub async fn failed(&self) -> String {
        loop {
            let told = self.inner.failure.told.notified();
            if let Some(reason) = self.inner.failure.reason.get() {
                return reason.clone();
            }
            told.await;
        }
    }
}
