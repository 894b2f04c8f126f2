//! The instances that were read last, because viewers ask for their frames one by one.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::{Archive, ArchiveError, Scope};
use crate::dicom::Instance;

/// How many instances are kept …
const COUNT_MAX: usize = 8;
/// … and how large their files may be in all.
const SIZE_BYTES_MAX: u64 = 256 << 20;

struct Kept {
    path: PathBuf,
    size_bytes: u64,
    instance: Arc<Instance>,
}

/// A small cache, newest last. Stored files never change, so what it holds stays true.
#[derive(Default)]
pub(in crate::http) struct RecentInstances(Mutex<VecDeque<Kept>>);

impl RecentInstances {
    /// The instance of a scope, from memory or from its file. Blocks.
    pub(super) fn load(
        &self,
        archive: &Archive,
        scope: &Scope,
    ) -> Result<Arc<Instance>, ArchiveError> {
        let record = archive.instances(scope)?.swap_remove(0);
        if let Some(instance) = self.find(&record.path) {
            return Ok(instance);
        }
        let instance = Arc::new(archive.load_instance(scope)?);
        let (path, size_bytes) = (record.path, record.size_bytes);
        self.keep(Kept { path, size_bytes, instance: Arc::clone(&instance) });
        Ok(instance)
    }

    fn find(&self, path: &PathBuf) -> Option<Arc<Instance>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|kept| kept.path == *path).map(|kept| Arc::clone(&kept.instance))
    }

    fn keep(&self, new: Kept) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(new);
        let size = |kept: &VecDeque<Kept>| kept.iter().map(|kept| kept.size_bytes).sum::<u64>();
        while kept.len() > COUNT_MAX || size(&kept) > SIZE_BYTES_MAX {
            kept.pop_front();
        }
    }
}
