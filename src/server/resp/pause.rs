//! CLIENT PAUSE: commands of all clients, or those that change something, wait.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// A pause, or none.
#[derive(Default)]
pub(crate) struct Pause {
    /// Whether there may be one: asked for every command.
    is_on: AtomicBool,
    /// Short: two values are read or written.
    state: Mutex<Option<State>>,
    changed: Notify,
}

#[derive(Clone, Copy)]
struct State {
    until: Instant,
    /// Whether commands that only read wait too.
    all: bool,
}

impl Pause {
    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a pause; where there is one, the later end and the wider scope hold.
    pub(crate) fn begin(&self, until: Instant, all: bool) {
        let mut state = self.state();
        let running = state.filter(|state| state.until > Instant::now());
        *state = Some(running.map_or(State { until, all }, |state| State { until: state.until.max(until), all: state.all || all }));
        self.is_on.store(true, Ordering::Release);
    }

    /// Ends the pause.
    pub(crate) fn end(&self) {
        *self.state() = None;
        self.is_on.store(false, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Whether a command has to wait.
    pub(crate) fn holds(&self, changes: impl FnOnce() -> bool) -> bool {
        if !self.is_on.load(Ordering::Acquire) {
            return false;
        }
        let running = self.state().filter(|state| state.until > Instant::now());
        if running.is_none() {
            self.is_on.store(false, Ordering::Release);
        }
        running.is_some_and(|state| state.all || changes())
    }

    /// Resolves when the pause may be over.
    pub(crate) async fn over(&self) {
        let mut changed = pin!(self.changed.notified());
        // From here on no end is missed.
        changed.as_mut().enable();
        let Some(State { until, .. }) = *self.state() else { return };
        tokio::select! {
            biased;
            () = changed => {}
            () = sleep_until(until) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_by_itself_or_when_it_is_told_to() {
        let pause = Pause::default();
        assert!(!pause.holds(|| true));
        pause.begin(Instant::now() + Duration::from_secs(5), false);
        assert!(pause.holds(|| true) && !pause.holds(|| false));
        pause.begin(Instant::now() + Duration::from_secs(1), true);
        assert!(pause.holds(|| false), "the wider scope holds");
        let begin = Instant::now();
        pause.over().await;
        assert_eq!(begin.elapsed(), Duration::from_secs(5), "and the later end");
        assert!(!pause.holds(|| true));
        pause.begin(Instant::now() + Duration::from_secs(5), true);
        let (_, ()) = tokio::join!(pause.over(), async { pause.end() });
        assert!(!pause.holds(|| true) && begin.elapsed() == Duration::from_secs(5));
    }
}
