//! Who is told of instances that became durable.

use std::sync::{Arc, PoisonError, RwLock};

use super::Archive;
use crate::dicom::Identity;

/// Is told of an instance; must return at once.
pub type Listener = Arc<dyn Fn(&Identity) + Send + Sync>;

/// All listeners of an archive.
#[derive(Default)]
pub(super) struct Listeners(RwLock<Vec<Listener>>);

impl Listeners {
    pub fn tell(&self, identity: &Identity) {
        for listener in self.0.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(identity);
        }
    }
}

impl Archive {
    /// Tells `listener` of every instance that is stored from now on, whichever way it came, after
    /// it is durable. Instances that were here already are not told.
    pub fn on_stored(&self, listener: Listener) {
        self.0.listeners.0.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }
}
