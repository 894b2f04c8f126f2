//! The frames that were looked at last, because viewers ask for them one by one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::archive::{Archive, ArchiveError, Scope, StoredFrames};

/// How many instances are kept …
const COUNT_MAX: usize = 64;
/// … and how many bytes they may take in all, roughly.
const SIZE_BYTES_MAX: u64 = 256 << 20;

/// A small cache, newest last. It is asked by content, so what it holds stays true when a file
/// is replaced.
#[derive(Default)]
pub(in crate::http) struct RecentFrames(Mutex<VecDeque<StoredFrames>>);

impl RecentFrames {
    /// The frames of an instance, from memory or from its file. Blocks.
    pub(super) fn open(
        &self,
        archive: &Archive,
        scope: &Scope,
    ) -> Result<StoredFrames, ArchiveError> {
        let record = archive.instances(scope)?.swap_remove(0);
        let same = |kept: &&StoredFrames| {
            kept.record().sha256 == record.sha256 && kept.record().path == record.path
        };
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().find(same).cloned();
        if let Some(frames) = kept {
            return Ok(frames);
        }
        let frames = archive.frames(scope)?;
        self.keep(frames.clone());
        Ok(frames)
    }

    fn keep(&self, new: StoredFrames) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(new);
        let size =
            |kept: &VecDeque<StoredFrames>| kept.iter().map(StoredFrames::kept_bytes).sum::<u64>();
        while kept.len() > COUNT_MAX || size(&kept) > SIZE_BYTES_MAX {
            kept.pop_front();
        }
    }
}
