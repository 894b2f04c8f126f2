//! Where work runs, how it is stopped and how it tells of its progress.
//!
//! Rooms are plain synchronous functions; they take a [`Cancel`] and a [`Progress`] where they
//! can run long, and check the first at least once a second of work.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};

use crate::error::{ErrorKind, Kind};

/// Most pieces of work that may wait for or run in the CPU lane.
const CPU_QUEUE_LENGTH: usize = 256;

static CPU_QUEUE: Semaphore = Semaphore::const_new(CPU_QUEUE_LENGTH);

/// Runs work that waits for files or databases outside the async threads; the caller's span goes
/// along.
///
/// # Errors
/// [`LaneError::Panicked`] when the work panicked.
pub async fn run_blocking<T, F>(work: F) -> Result<T, LaneError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let span = tracing::Span::current();
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    task.await.map_err(|_| LaneError::Panicked)
}

/// Runs work that computes (decode, resample, render) on a pool of one thread per core; the
/// caller's span goes along. Work that nobody waits for any more is skipped.
///
/// # Errors
/// [`LaneError::Full`] when too much waits already; [`LaneError::Panicked`] when the work
/// panicked.
pub async fn run_cpu<T, F>(work: F) -> Result<T, LaneError>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let permit = CPU_QUEUE.try_acquire().map_err(|_| LaneError::Full { max: CPU_QUEUE_LENGTH })?;
    let span = tracing::Span::current();
    let (reply, result) = oneshot::channel();
    rayon::spawn(move || {
        let _permit = permit;
        if reply.is_closed() {
            return;
        }
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| span.in_scope(work)));
        // The caller may have left in the meantime, or the work may have panicked; either way
        // the channel closes and that is the answer.
        if let Ok(value) = caught {
            let _ = reply.send(value);
        }
    });
    result.await.map_err(|_| LaneError::Panicked)
}

/// Why work did not run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// A fault of ours; only this piece of work is lost.
    #[error("work panicked")]
    Panicked,
    /// Too much waits already.
    #[error("{max} pieces of work wait already")]
    Full {
        /// How many may wait.
        max: usize,
    },
}

impl Kind for LaneError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Panicked => ErrorKind::Internal,
            Self::Full { .. } => ErrorKind::Overloaded,
        }
    }
}

/// The work was stopped on request or because its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// Somebody called [`Cancel::cancel`].
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error("deadline passed")]
    DeadlinePassed,
}

/// A shared flag and an optional deadline that long work looks at.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl Cancel {
    /// A handle that is never stopped unless [`Cancel::cancel`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same flag with a deadline.
    pub fn with_deadline(&self, deadline: Instant) -> Self {
        Self { flag: Arc::clone(&self.flag), deadline: Some(deadline) }
    }

    /// Asks every holder of this flag to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Says whether work should go on.
    ///
    /// # Errors
    /// [`Stopped`] once cancelled or past the deadline.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(Stopped::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Stopped::DeadlinePassed),
            _ => Ok(()),
        }
    }
}

/// A callback for progress: `(done, total)` in units of the work at hand.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Progress {
    /// Reports to `callback`.
    pub fn new(callback: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }

    /// Reports to nobody.
    pub fn silent() -> Self {
        Self::new(|_, _| {})
    }

    /// Tells that `done` of `total` units are finished.
    pub fn report(&self, done: u64, total: u64) {
        (self.0)(done, total);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_piece_of_work() {
        assert_eq!(run_cpu(|| panic!("job")).await, Err::<(), _>(LaneError::Panicked));
        assert_eq!(run_blocking(|| panic!("job")).await, Err::<(), _>(LaneError::Panicked));
        assert_eq!(run_cpu(|| 2).await, Ok(2));
        assert_eq!(run_blocking(|| 3).await, Ok(3));
    }

    #[test]
    fn work_stops_at_its_deadline_and_when_cancelled() {
        let cancel = Cancel::new();
        assert_eq!(cancel.with_deadline(Instant::now()).check(), Err(Stopped::DeadlinePassed));
        assert_eq!(cancel.check(), Ok(()));
        cancel.clone().cancel();
        assert_eq!(cancel.check(), Err(Stopped::Cancelled));
    }
}
