//! The masks of one volume, remembered by prompt.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Models;
use crate::eval::{EvalError, PackedMask};
use crate::threads::{Cancel, Progress};
use crate::volume::Volume;

/// The masks of one volume, remembered by prompt, as bits.
pub(super) struct Masks<'r> {
    volume: &'r Volume,
    known: BTreeMap<String, PackedMask>,
}

impl<'r> Masks<'r> {
    pub(super) fn new(volume: &'r Volume) -> Self {
        Self { volume, known: BTreeMap::new() }
    }

    /// Segments the prompts that are not known yet, in one call of the backbone; gives the seconds
    /// that each of them took, its share of the call.
    pub(super) fn make(
        &mut self,
        prompts: &[String],
        models: &Models<'_>,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<BTreeMap<String, f64>, EvalError> {
        let mut missing: Vec<String> =
            prompts.iter().filter(|prompt| !self.known.contains_key(*prompt)).cloned().collect();
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            return Ok(BTreeMap::new());
        }
        let started = Instant::now();
        let found = models.backbone.segment(self.volume, &missing, cancel, progress)?;
        let seconds = started.elapsed().as_secs_f64() / missing.len() as f64;
        for (prompt, mask) in missing.iter().zip(&found.masks) {
            self.known.insert(prompt.clone(), PackedMask::of(&mask.voxels));
        }
        Ok(missing.into_iter().map(|prompt| (prompt, seconds)).collect())
    }

    /// The union of known masks; prompts that are not known add nothing.
    pub(super) fn union(&self, prompts: &[String]) -> Result<PackedMask, EvalError> {
        let mut union = PackedMask::empty(self.volume.geometry.shape());
        for mask in prompts.iter().filter_map(|prompt| self.known.get(prompt)) {
            union.add(mask)?;
        }
        Ok(union)
    }
}
