//! How a running round is paused, cancelled, and made to give way to orders.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::EvolveError;
use crate::threads::Cancel;

/// How often a waiting round looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Says whether orders wait or run.
pub type Busy = Arc<dyn Fn() -> bool + Send + Sync>;

/// The reins of one round; cheap to clone.
#[derive(Clone)]
pub struct Control {
    cancel: Cancel,
    paused: Arc<AtomicBool>,
    busy: Option<Busy>,
    patience: Duration,
    waited: Arc<Mutex<Duration>>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            cancel: Cancel::new(),
            paused: Arc::default(),
            busy: None,
            patience: Duration::ZERO,
            waited: Arc::default(),
        }
    }
}

impl Control {
    /// Gives way to orders while `busy` says so, for `patience` at most before each rollout: a
    /// server that is never idle still gets its round done.
    #[must_use]
    pub fn giving_way(mut self, busy: Busy, patience: Duration) -> Self {
        self.busy = Some(busy);
        self.patience = patience;
        self
    }

    /// The flag that models look at.
    pub fn cancel_flag(&self) -> &Cancel {
        &self.cancel
    }

    /// Asks the round to stop for good.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Asks the round to wait, or to go on.
    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// Whether it waits on request.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// How long it has given way to orders in all.
    pub fn waited(&self) -> Duration {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called before each piece of work: waits while paused or while orders have precedence.
    ///
    /// # Errors
    /// When cancelled.
    pub fn step(&self) -> Result<(), EvolveError> {
        let began = Instant::now();
        loop {
            self.cancel.check()?;
            let orders_first =
                self.busy.as_ref().is_some_and(|busy| busy()) && began.elapsed() < self.patience;
            if !self.is_paused() && !orders_first {
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner) += began.elapsed();
        Ok(())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control(paused: {})", self.is_paused())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn gives_way_for_as_long_as_its_patience_and_stops_when_told() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&asked);
        let busy: Busy = Arc::new(move || counting.fetch_add(1, Ordering::Relaxed) < 3);
        let control = Control::default().giving_way(busy, Duration::from_secs(60));
        control.step().expect("idle after three looks");
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        let always: Busy = Arc::new(|| true);
        let control = Control::default().giving_way(always, Duration::from_millis(50));
        let began = Instant::now();
        control.step().expect("patience ends");
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert!(control.waited() >= Duration::from_millis(50));
        control.set_paused(true);
        let other = control.clone();
        let stopping = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            other.cancel();
        });
        assert!(matches!(control.step(), Err(EvolveError::Stopped(_))));
        stopping.join().expect("joined");
    }
}
