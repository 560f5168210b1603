//! The one owner of all the tasks of a peer: nothing that a peer starts outlives it.
//!
//! A task that nobody owns waits on for an answer, or for its turn, when the peer has stopped long ago, and keeps what it has borrowed. So every task is
//! spawned here (`tests/tidy.rs` looks for others), and [`Tasks::stop`] ends them all, those too that were spawned by a task, at the point where they wait.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that end together. Clones share them, and hold none of them alive.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    running: TaskTracker,
    ending: CancellationToken,
}

impl Tasks {
    /// Runs a task until it is done, or until all are ended: then it is dropped where it waits. Does nothing where they were ended already.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(self.ending.clone().run_until_cancelled_owned(task));
    }

    /// Ends all tasks, without waiting for it.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Ends all tasks. Returns when none is left; must not be called by one of them.
    pub async fn stop(&self) {
        self.end();
        self.running.close();
        self.running.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_stop_ends_tasks_and_what_they_spawned_and_lets_none_begin() {
        let (tasks, held) = (Tasks::default(), Arc::new(()));
        let (theirs, spawning) = (Arc::clone(&held), tasks.clone());
        tasks.spawn(async move {
            let inner = Arc::clone(&theirs);
            spawning.spawn(async move {
                let _inner = inner;
                std::future::pending().await
            });
            let _theirs = theirs;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        tasks.stop().await;
        assert_eq!(Arc::strong_count(&held), 1, "a task outlived the stop");
        let late = Arc::clone(&held);
        tasks.spawn(async move { panic!("a task began after the end, with {late:?}") });
        tasks.stop().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
