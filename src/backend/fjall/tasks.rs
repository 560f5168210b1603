//! Threads for tasks that make blocking calls, and the wait for their end.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::env::storage::Task;

/// The threads of one store.
#[derive(Default)]
pub(super) struct Tasks {
    /// Held only to push or take handles.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Tasks {
    /// Runs a task on a thread of its own, with timers of its own.
    pub(super) fn spawn(&self, name: &'static str, task: Task) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("the task '{name}' can't be run: {error}"),
        };
        match thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(task)) {
            Ok(thread) => {
                let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
                threads.retain(|thread| !thread.is_finished());
                threads.push(thread);
            }
            Err(error) => tracing::error!("no thread for the task '{name}': {error}"),
        }
    }

    /// Waits until every task has ended, except the one that this is called from.
    pub(super) fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let name = thread.thread().name().unwrap_or("unnamed").to_owned();
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("the task '{name}' panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[test]
    fn a_task_has_timers_and_channels_and_is_waited_for() {
        let tasks = Tasks::default();
        let (questions, mut asked) = mpsc::channel::<oneshot::Sender<u32>>(4);
        let ended = Arc::new(());
        let held = Arc::clone(&ended);
        tasks.spawn(
            "test",
            Box::pin(async move {
                while let Some(question) = asked.recv().await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    question.send(42).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                drop(held);
            }),
        );
        let caller = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let answer = caller.block_on(async {
            let (question, answer) = oneshot::channel();
            questions.send(question).await.unwrap();
            answer.await.unwrap()
        });
        assert_eq!(answer, 42);
        drop(questions);
        tasks.join();
        assert_eq!(Arc::strong_count(&ended), 1, "join returned before the task had ended");
    }
}
