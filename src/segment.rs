//! A volume and an answer into masks: the text-promptable backbone.
//!
//! Family `voxtell`: a text encoder makes one vector per prompt; an image encoder looks at each
//! patch once; a prompt decoder and a mask decoder turn both into logits for any number of
//! prompts. Graphs are wired by the names of their tensors, and features stay where ONNX Runtime
//! put them.
//!
//! What happens to a volume, in this order (the recipes of the bundles follow the same):
//! axes to RAS `[z, y, x]` → crop to the box of non-zero voxels → resample to the bundle's spacing
//! (trilinear, centred) → normalise → pad with zeros to the patch, centred → patches half a patch
//! apart, logits averaged with Gaussian weights → logits trilinear back onto the crop → logit above
//! the threshold → axes back. Outside the crop nothing is in a mask.
//!
//! ```no_run
//! use seer::runtime::{Bundle, Runtime};
//! use seer::segment::{Backbone, BackboneSettings};
//! use seer::threads::{Cancel, Progress};
//! # fn doc(bundle: &Bundle, runtime: &Runtime, volume: &seer::volume::Volume)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! let backbone = Backbone::load(bundle, runtime, BackboneSettings::default())?;
//! let prompts = ["left kidney".to_owned(), "liver".to_owned()];
//! let found = backbone.segment(volume, &prompts, &Cancel::new(), &Progress::silent())?;
//! assert_eq!(found.masks[0].geometry, volume.geometry);
//! # Ok(()) }
//! ```

mod embeddings;
mod error;
mod infer;
mod limits;
mod prepare;
mod restore;
mod taps;
mod tiles;

use std::time::{Duration, Instant};

use crate::runtime::manifest::VolumePreprocessing;
use crate::runtime::{Bundle, Runtime, contract};
use crate::threads::{Cancel, Progress};
use crate::volume::{Mask, Volume};

use embeddings::TextEncoder;
pub use error::SegmentError;
use infer::Graphs;
use limits::Plan;
use prepare::Prepared;

/// Bounds of the work, from the server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackboneSettings {
    /// Working memory of one call on the host, in bytes: copies of the volume, logits and masks.
    /// Prompts are taken in groups that fit; a volume that does not fit with one prompt is refused.
    /// The graphs' own memory is not in it.
    pub memory_bytes_max: u64,
    /// Most patches one volume may need.
    pub patch_count_max: usize,
    /// Most prompts one run of the decoders takes; bounds the logits of a patch.
    pub prompts_per_run_max: usize,
    /// Most prompts of which the text embedding is remembered.
    pub embeddings_cached_max: usize,
}

impl Default for BackboneSettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 8 << 30,
            patch_count_max: 4096,
            prompts_per_run_max: 16,
            embeddings_cached_max: 4096,
        }
    }
}

/// A loaded backbone. Calls may come from several threads; each graph serves one at a time.
pub struct Backbone {
    preprocessing: VolumePreprocessing,
    text: TextEncoder,
    graphs: Graphs,
    settings: BackboneSettings,
}

/// What [`Backbone::segment`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Segmentation {
    /// One per prompt, in order, on the volume's own grid.
    pub masks: Vec<Mask>,
    /// Mean averaged logit over the voxels of each mask; absent for an empty mask.
    pub mean_logits: Vec<Option<f64>>,
    /// Patches that cover the volume.
    pub patch_count: usize,
    /// Runs of the image encoder: the patches, once per group of prompts.
    pub image_encoder_run_count: usize,
    /// Where the time went.
    pub timings: SegmentTimings,
}

/// Wall-clock time of the parts of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentTimings {
    /// Text encoder; close to zero for remembered prompts.
    pub embed: Duration,
    /// Reorienting, cropping, resampling, normalising, padding.
    pub prepare: Duration,
    /// Graphs over all patches.
    pub infer: Duration,
    /// Logits back onto the volume's grid.
    pub restore: Duration,
}

impl Backbone {
    /// Loads the graphs of a bundle's backbone and holds them against its manifest.
    ///
    /// # Errors
    /// When the bundle has no backbone, or a file is missing, broken or not what the manifest says.
    #[tracing::instrument(skip_all, fields(bundle.name = %bundle.manifest().name))]
    pub fn load(
        bundle: &Bundle,
        runtime: &Runtime,
        settings: BackboneSettings,
    ) -> Result<Self, SegmentError> {
        let manifest = bundle.backbone()?;
        let [text, image, prompt, mask] = contract::backbone(manifest);
        let load = |spec| runtime.load_checked(bundle, spec);
        let graphs = Graphs { image: load(&image)?, prompt: load(&prompt)?, mask: load(&mask)? };
        graphs.check_wiring()?;
        let text =
            TextEncoder::load(bundle, manifest, load(&text)?, settings.embeddings_cached_max)?;
        let preprocessing = manifest.preprocessing.clone();
        tiles::check_settings(&preprocessing)?;
        Ok(Self { preprocessing, text, graphs, settings })
    }

    /// The averaged logit above which a voxel belongs to a mask.
    pub fn threshold_logit(&self) -> f32 {
        self.preprocessing.threshold_logit
    }

    /// Segments `volume` once per prompt.
    ///
    /// Progress counts patches. The result does not depend on which prompts are asked together.
    ///
    /// # Errors
    /// When stopped, when a limit of the settings is passed, or a graph fails.
    #[tracing::instrument(skip_all, fields(prompts.count = prompts.len()))]
    pub fn segment(
        &self,
        volume: &Volume,
        prompts: &[String],
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Segmentation, SegmentError> {
        let plan = Plan::new(volume, prompts.len(), &self.preprocessing, &self.settings)?;
        let mut timings = SegmentTimings::default();
        let embeddings = timed(&mut timings.embed, || self.text.embed(prompts, cancel))?;
        let prepared =
            timed(&mut timings.prepare, || Prepared::new(volume, &self.preprocessing, cancel))?;
        let (mut masks, mut mean_logits) = (Vec::new(), Vec::new());
        let tiling = tiles::Tiling::new(prepared.image.dim().into(), &self.preprocessing);
        let group_count = prompts.len().div_ceil(plan.prompts_per_group);
        let total = (tiling.len() * group_count) as u64;
        for first in (0..prompts.len()).step_by(plan.prompts_per_group) {
            let last = (first + plan.prompts_per_group).min(prompts.len());
            let group = infer::rows(&embeddings, first..last);
            let done = masks.len() / plan.prompts_per_group * tiling.len();
            let job = infer::Job {
                prepared: &prepared,
                tiling: &tiling,
                embeddings: &group,
                prompts_per_run: self.settings.prompts_per_run_max.max(1),
                cancel,
                tell: &|patch| progress.report((done + patch) as u64, total),
            };
            let logits = timed(&mut timings.infer, || self.graphs.logits(&job))?;
            let found = timed(&mut timings.restore, || {
                restore::masks(&logits, &prepared, volume, self.threshold_logit(), cancel)
            })?;
            for (mask, mean_logit) in found {
                masks.push(mask);
                mean_logits.push(mean_logit);
            }
        }
        let (patch_count, image_encoder_run_count) = (tiling.len(), tiling.len() * group_count);
        tracing::info!(
            patches.count = patch_count,
            "Segmented {} prompts in {patch_count} patches",
            prompts.len()
        );
        Ok(Segmentation { masks, mean_logits, patch_count, image_encoder_run_count, timings })
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *total += started.elapsed();
    result
}
