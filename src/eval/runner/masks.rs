//! The masks of one volume, remembered by prompt.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Models;
use crate::eval::{EvalError, PackedMask};
use crate::segment::{SegmentError, Segmentation};
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
        let found = self.segment_cut(&missing, models, cancel, progress)?;
        let seconds = started.elapsed().as_secs_f64() / missing.len() as f64;
        for (prompt, mask) in missing.iter().zip(&found.masks) {
            self.known.insert(prompt.clone(), PackedMask::of(&mask.voxels));
        }
        Ok(missing.into_iter().map(|prompt| (prompt, seconds)).collect())
    }

    /// Segments with prompts that fit the text encoder: of a longer one the end is left out, word by
    /// word, as encoders of this kind cut what they are given. Only raw requests are that long.
    fn segment_cut(
        &self,
        prompts: &[String],
        models: &Models<'_>,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Segmentation, EvalError> {
        let mut fitting = prompts.to_vec();
        loop {
            match models.backbone.segment(self.volume, &fitting, cancel, progress) {
                Err(SegmentError::PromptTooLong { number, token_count, limit })
                    if fitting[number - 1].contains(' ') =>
                {
                    fitting[number - 1] = cut(&fitting[number - 1], limit, token_count);
                }
                result => return Ok(result?),
            }
        }
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

/// Keeps about `limit` of `count` parts of the words, and always leaves out one at least.
fn cut(prompt: &str, limit: usize, count: usize) -> String {
    let words: Vec<&str> = prompt.split_whitespace().collect();
    let kept = (words.len() * limit / count.max(1)).clamp(1, words.len().saturating_sub(1).max(1));
    words[..kept].join(" ")
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn cuts_always_and_keeps_the_beginning() {
        assert_eq!(cut("a b c d e f", 96, 192), "a b c");
        assert_eq!(cut("a b c d e f", 96, 97), "a b c d e");
        assert_eq!(cut("a b", 96, 9000), "a");
    }
}
