//! Where work runs, how it is stopped and how it tells of its progress.
//!
//! Rooms are plain synchronous functions; they take a [`Cancel`] and a [`Progress`] where they
//! can run long, and check the first at least once a second of work.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

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
