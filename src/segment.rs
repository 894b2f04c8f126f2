//! A volume and an answer into masks: the text-promptable backbone.
//!
//! Three families behind one face. `voxtell`: a text encoder makes one vector per prompt; an image
//! encoder looks at each patch once; a prompt decoder and a mask decoder turn both into logits for
//! any number of prompts. `volume-text`: one graph from a patch and prompts to logits. `sam3`: 2-D
//! concept prompts swept through the slices. Graphs are wired by the names of their tensors, and
//! features stay where ONNX Runtime put them.
//!
//! What happens to a volume in the first two, in this order (the recipes of the bundles follow the
//! same): axes to RAS `[z, y, x]` → crop to the box of non-zero voxels → resample to the bundle's
//! spacing (trilinear, centred) → normalise → pad with zeros to the patch, centred → patches half a
//! patch apart, logits averaged with Gaussian weights → logits trilinear back onto the crop → logit
//! above the threshold → axes back. Outside the crop nothing is in a mask.
//!
//! All of that streams from bottom to top: of the image and the logits, only a band as deep as a
//! patch exists at a time, so that working memory does not grow with the height of the volume.
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

mod band;
mod bank;
mod cache;
mod error;
mod infer;
mod intensity;
mod limits;
mod load;
mod network;
mod prepare;
mod restore;
mod sam3;
mod taps;
mod tiles;
mod tokens;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::runtime::manifest::{Average, VolumePreprocessing};
use crate::runtime::{Bundle, Reservation, Runtime};
use crate::threads::{Cancel, Progress};
use crate::volume::{Mask, Volume};

pub use error::SegmentError;
use limits::Plan;
use network::{Ask, Network};
use prepare::Prepared;
use restore::Restorer;
use sam3::Sam3;
use tokens::PromptTokenizer;
use words::{TextEncoder, Words};

/// Prompts are decoded together while that takes no more working memory than this, an estimate:
/// small networks gain by it, large ones only grow.
const RUN_BYTES_MAX: u64 = 256 << 20;

/// Bounds of the work, from the server's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackboneSettings {
    /// Working memory of one call on the host, in bytes: a band of the image and of every prompt's
    /// logits, patches in flight, and the masks. Prompts are taken in groups that fit; a volume
    /// that does not fit with one prompt is refused. The volume itself and the graphs' own memory
    /// are not in it.
    pub memory_bytes_max: u64,
    /// Most patches one volume may need.
    pub patch_count_max: usize,
    /// Most prompts one run of the decoders takes; bounds the logits of a patch.
    pub prompts_per_run_max: usize,
    /// Most prompts of which the text embedding is remembered.
    pub embeddings_cached_max: usize,
    /// Folder in which text embeddings are kept across restarts; nowhere when absent.
    pub embeddings_folder: Option<PathBuf>,
}

impl Default for BackboneSettings {
    fn default() -> Self {
        Self {
            memory_bytes_max: 8 << 30,
            patch_count_max: 4096,
            prompts_per_run_max: 16,
            embeddings_cached_max: 4096,
            embeddings_folder: None,
        }
    }
}

/// A loaded backbone. Calls may come from several threads; each graph serves one at a time.
pub struct Backbone {
    model: Model,
    settings: BackboneSettings,
    _reservation: Reservation,
}

/// What the families have to themselves.
enum Model {
    /// `voxtell` and `volume-text`.
    Patches(Box<Patches>),
    /// `sam3`.
    Slices { sam3: Box<Sam3>, text: Box<TextEncoder> },
}

/// Patches of a volume through a network.
struct Patches {
    network: Network,
    reader: Reader,
    preprocessing: VolumePreprocessing,
    average: Average,
    /// What graphs are told of the modality, by its code.
    modality_ids: BTreeMap<String, i64>,
}

/// How prompts are read.
enum Reader {
    /// As embeddings.
    Encoder(Box<TextEncoder>),
    /// By the network itself, from tokens; the flag says whether they are lower-cased first.
    Tokenizer(Box<PromptTokenizer>, bool),
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
    /// Finding the crop and the intensities' scale.
    pub prepare: Duration,
    /// Graphs over all patches; patches are cut out and logits become masks meanwhile.
    pub infer: Duration,
}

impl Backbone {
    /// Loads the graphs of a bundle's backbone and holds them against its manifest.
    ///
    /// # Errors
    /// When the bundle has no backbone, it would not fit into memory, or a file is missing, broken
    /// or not what the manifest says.
    #[tracing::instrument(skip_all, fields(bundle.name = %bundle.manifest().name))]
    pub fn load(
        bundle: &Bundle,
        runtime: &Runtime,
        settings: BackboneSettings,
    ) -> Result<Self, SegmentError> {
        let reservation = runtime.reserve(bundle, "backbone")?;
        let model = load::model(bundle, runtime, &settings)?;
        Ok(Self { model, settings, _reservation: reservation })
    }

    /// The averaged logit above which a voxel belongs to a mask.
    pub fn threshold_logit(&self) -> f32 {
        match &self.model {
            Model::Patches(patches) => patches.preprocessing.threshold_logit,
            Model::Slices { sam3, .. } => sam3.threshold_logit(),
        }
    }

    /// Segments `volume` once per prompt.
    ///
    /// Progress counts patches, or slices. The result does not depend on which prompts are asked
    /// together.
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
        let found = match &self.model {
            Model::Patches(patches) => {
                patches.segment(volume, prompts, &self.settings, cancel, progress)
            }
            Model::Slices { sam3, text } => {
                let slices = sam3.slice_count(volume);
                limits::check_slices(volume, prompts.len(), slices, &self.settings)?;
                sam3.segment(volume, text, prompts, cancel, progress)
            }
        }?;
        tracing::info!(
            patches.count = found.patch_count,
            "Segmented {} prompts in {} patches",
            prompts.len(),
            found.patch_count
        );
        Ok(found)
    }
}

impl Patches {
    fn segment(
        &self,
        volume: &Volume,
        prompts: &[String],
        settings: &BackboneSettings,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Segmentation, SegmentError> {
        let plan = Plan::new(volume, prompts.len(), &self.preprocessing, settings)?;
        let mut timings = SegmentTimings::default();
        let modality_id = self.modality_id(volume);
        let words = timed(&mut timings.embed, || self.reader.read(prompts, modality_id, cancel))?;
        let prepared =
            timed(&mut timings.prepare, || Prepared::new(volume, &self.preprocessing, cancel))?;
        let tiling = tiles::Tiling::new(prepared.shape, &self.preprocessing);
        let groups: Vec<_> = infer::runs(prompts.len(), plan.prompts_per_group).collect();
        let total = (tiling.len() * groups.len()) as u64;
        let fitting = self.network.prompts_per_run(settings.memory_bytes_max.min(RUN_BYTES_MAX));
        let (mut masks, mut mean_logits) = (Vec::new(), Vec::new());
        for (index, group) in groups.iter().enumerate() {
            let done = index * tiling.len();
            let words = words.some(group.clone());
            let job = infer::Job {
                network: &self.network,
                prepared: &prepared,
                tiling: &tiling,
                ask: Ask { words: &words, modality_id, cancel },
                average: self.average,
                prompts_per_run: settings.prompts_per_run_max.clamp(1, fitting),
                tell: &|patch| progress.report((done + patch) as u64, total),
            };
            let threshold = self.preprocessing.threshold_logit;
            let restorer = Restorer::new(volume, &prepared, threshold, group.len());
            let found = timed(&mut timings.infer, || job.run(restorer))?;
            for (mask, mean_logit) in found {
                masks.push(mask);
                mean_logits.push(mean_logit);
            }
        }
        Ok(Segmentation {
            masks,
            mean_logits,
            patch_count: tiling.len(),
            image_encoder_run_count: tiling.len() * groups.len(),
            timings,
        })
    }

    fn modality_id(&self, volume: &Volume) -> Option<i64> {
        let ids = &self.modality_ids;
        ids.get(volume.modality.code()).or_else(|| ids.get("default")).copied()
    }
}

impl Reader {
    fn read(
        &self,
        prompts: &[String],
        modality_id: Option<i64>,
        cancel: &Cancel,
    ) -> Result<Words, SegmentError> {
        match self {
            Self::Encoder(encoder) => {
                Ok(Words::Embeddings(encoder.embed(prompts, modality_id, cancel)?))
            }
            Self::Tokenizer(tokenizer, lowercase) => {
                let texts: Vec<String> = prompts
                    .iter()
                    .map(|text| if *lowercase { text.to_lowercase() } else { text.clone() })
                    .collect();
                let texts: Vec<_> = texts.iter().map(String::as_str).enumerate().collect();
                Ok(Words::Tokens(tokenizer.rows(&texts)?))
            }
        }
    }
}

fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *total += started.elapsed();
    result
}
