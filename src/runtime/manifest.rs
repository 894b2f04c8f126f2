//! What `manifest.toml` may say. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::view::{Plane, ViewPlan, Window};

/// All of `manifest.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The bundle's name; equals its folder's by custom.
    pub name: String,
    /// The bundle's own version.
    pub version: String,
    /// SPDX expression for the weights.
    pub licence: String,
    /// What the bundle is for.
    pub intended_use: String,
    /// What it was trained on, or the file that says so.
    pub training_data: String,
    /// Path of `vocabulary.toml`.
    pub vocabulary: Option<String>,
    /// Every file that the parts below name, and their external data.
    pub files: Vec<FileEntry>,
    /// The vision-language model.
    pub reasoner: Option<ReasonerManifest>,
    /// The segmentation model.
    pub backbone: Option<BackboneManifest>,
}

impl Manifest {
    /// The parts that the bundle carries: `reasoner`, `backbone` or both.
    pub fn roles(&self) -> Vec<&'static str> {
        let reasoner = self.reasoner.as_ref().map(|_| "reasoner");
        let backbone = self.backbone.as_ref().map(|_| "backbone");
        reasoner.into_iter().chain(backbone).collect()
    }

    /// The family of a part, as the manifest spells it.
    pub fn family(&self, role: &str) -> Option<&'static str> {
        match role {
            "reasoner" => self.reasoner.as_ref().map(|reasoner| reasoner.family.name()),
            "backbone" => self.backbone.as_ref().map(BackboneManifest::family),
            _ => None,
        }
    }
}

/// One file of the bundle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path below the bundle's folder, with `/`.
    pub path: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Its length.
    pub size_bytes: u64,
}

/// The families of reasoners this server can host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonerFamily {
    /// Qwen3-VL 2B, 4B, 8B, and the small models of the same architecture.
    Qwen3Vl,
}

impl ReasonerFamily {
    /// As the manifest spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qwen3Vl => "qwen3-vl",
        }
    }
}

/// `[reasoner]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReasonerManifest {
    /// The architecture.
    pub family: ReasonerFamily,
    /// Graph: patches into image features and DeepStack features.
    pub vision_encoder: String,
    /// Graph: token ids into embeddings.
    pub embed_tokens: String,
    /// Graph: embeddings and past into logits and present.
    pub decoder: String,
    /// Hugging Face `tokenizer.json`.
    pub tokenizer: String,
    /// Jinja chat template.
    pub chat_template: String,
    /// `system`, `user` and `user_with_skills` texts; `letter_case = "lower"` shows orders and skills in
    /// lower case.
    pub prompt: String,
    /// Width of the text model.
    pub hidden_size: usize,
    /// Layers of the text model.
    pub layers: usize,
    /// Key-value heads of the text model.
    pub key_value_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the logits; may exceed the tokenizer's own count.
    pub vocabulary_size: usize,
    /// DeepStack feature levels; a graph with fewer is refused.
    pub deepstack_levels: usize,
    /// Edge of the learned position grid, `sqrt(num_position_embeddings)`.
    pub position_grid_side: usize,
    /// Special tokens.
    pub tokens: SpecialTokens,
    /// Image preprocessing.
    pub image: ImageSettings,
    /// Which views are rendered.
    pub view_plan: ViewPlan,
    /// How traces are decoded unless the order says otherwise.
    pub decoding: DecodingSettings,
}

/// `[reasoner.tokens]`: the special tokens that the host must know, by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialTokens {
    /// Stands for one merged patch of an image.
    pub image: String,
    /// Any of these ends the text.
    pub end_of_text: Vec<String>,
}

/// `[reasoner.image]`: the settings of Hugging Face's Qwen2-VL image processor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSettings {
    /// Edge of a patch in pixels.
    pub patch_size: usize,
    /// Frames per patch; a still image is repeated.
    pub temporal_patch_size: usize,
    /// Edge in patches of the block that becomes one token.
    pub merge_size: usize,
    /// Per channel, after scaling to 0..1.
    pub mean: [f32; 3],
    /// Per channel.
    pub std: [f32; 3],
    /// Smaller images are enlarged to this many pixels.
    pub min_pixels: usize,
    /// Larger images are reduced to this many pixels.
    pub max_pixels: usize,
    /// Whose arithmetic resizing and scaling follow.
    #[serde(default)]
    pub arithmetic: ImageArithmetic,
}

/// The two libraries behind Hugging Face's image processors. They differ by one or two of 255 grey
/// levels in about one of 200 resized pixels, and in the last bit of every scaled value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageArithmetic {
    /// `Qwen2VLImageProcessorPil`.
    #[default]
    Pillow,
    /// `Qwen2VLImageProcessor` (in transformers 4 `…Fast`), what `AutoProcessor` gives.
    Torchvision,
}

/// `[reasoner.decoding]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodingSettings {
    /// Upper bound of a trace's length.
    pub max_new_tokens: usize,
    /// 0 is greedy.
    pub temperature: f32,
    /// Nucleus of the sampler; greedy decoding ignores it.
    #[serde(default = "whole_distribution")]
    pub top_p: f32,
    /// The trace grammar constrains decoding.
    pub constrained: bool,
    /// Targets are limited to the vocabulary's names.
    #[serde(default)]
    pub closed_vocabulary: bool,
    /// A target that the trace first names with a lower probability (0 to 1) gets the finding
    /// `target_unsure`; measured per bundle, absent where it was not.
    #[serde(default)]
    pub doubt_below: Option<f64>,
    /// A target that neither the order nor a skill comes near is left out of the answer, which is
    /// refused as ambiguous when nothing else is in it; otherwise the finding `target_unnamed` notes
    /// it. For a reasoner that knows no other names than the vocabulary's, whose answer to an
    /// unknown word is a guess.
    #[serde(default)]
    pub refuse_unnamed: bool,
}

fn whole_distribution() -> f32 {
    1.0
}

/// `[backbone]`, by family.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
pub enum BackboneManifest {
    /// VoxTell, and the small models of the same interface.
    Voxtell(VoxtellManifest),
    /// SAM3 and MedSAM3: 2-D concept prompts swept through the slices of a volume.
    Sam3(Sam3Manifest),
    /// One graph from a patch and prompts to logits: SAT, Text3DSAM, BiomedParse and the like.
    VolumeText(VolumeTextManifest),
}

impl BackboneManifest {
    /// The family, as the manifest spells it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Voxtell(_) => "voxtell",
            Self::Sam3(_) => "sam3",
            Self::VolumeText(_) => "volume-text",
        }
    }

    /// Every file that the part names.
    pub fn files(&self) -> Vec<&str> {
        let (always, optional) = match self {
            Self::Voxtell(m) => (
                vec![&m.image_encoder, &m.prompt_decoder, &m.mask_decoder],
                [&m.text_encoder, &m.text_tokenizer, &m.text_bank],
            ),
            Self::Sam3(m) => (
                vec![&m.text_encoder, &m.text_tokenizer, &m.image_encoder, &m.mask_decoder],
                [&None, &None, &None],
            ),
            Self::VolumeText(m) => {
                (vec![&m.segmenter], [&m.text_encoder, &m.text_tokenizer, &m.text_bank])
            }
        };
        always.into_iter().chain(optional.into_iter().flatten()).map(String::as_str).collect()
    }
}

/// `[backbone]` of family `voxtell`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoxtellManifest {
    /// Graph: token ids into a text embedding. May be left out when there is a bank.
    pub text_encoder: Option<String>,
    /// Hugging Face `tokenizer.json` of the text encoder.
    pub text_tokenizer: Option<String>,
    /// Precomputed text embeddings, a safetensors file.
    pub text_bank: Option<String>,
    /// Graph: one patch into features.
    pub image_encoder: String,
    /// Graph: bottleneck features and text embeddings into mask embeddings.
    pub prompt_decoder: String,
    /// Graph: features and mask embeddings into logits.
    pub mask_decoder: String,
    /// Width of a text embedding.
    pub embedding_size: usize,
    /// How a prompt becomes tokens.
    pub text: TextSettings,
    /// How a volume becomes patches.
    pub preprocessing: VolumePreprocessing,
}

/// `[backbone]` of family `sam3`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sam3Manifest {
    /// Graph: token ids into text features.
    pub text_encoder: String,
    /// Hugging Face `tokenizer.json` of the text encoder.
    pub text_tokenizer: String,
    /// Graph: one slice into features.
    pub image_encoder: String,
    /// Graph: features and text features into masks with scores.
    pub mask_decoder: String,
    /// Width of a text feature.
    pub embedding_size: usize,
    /// How a prompt becomes tokens.
    pub text: TextSettings,
    /// How slices become pictures, and masks of queries a mask.
    pub slices: SliceSettings,
}

/// `[backbone.slices]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceSettings {
    /// Which slices the volume is swept through.
    pub plane: Plane,
    /// Slices are resized to this many rows and columns.
    pub image_size: usize,
    /// Per channel, after scaling to 0..1.
    pub mean: [f32; 3],
    /// Per channel.
    pub std: [f32; 3],
    /// Queries with a higher score are kept.
    pub score_threshold: f32,
    /// A pixel belongs to a kept query's mask above this probability.
    pub mask_threshold: f32,
    /// Intensity window by modality code; `default` for the rest.
    pub window: BTreeMap<String, Window>,
}

/// `[backbone]` of family `volume-text`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeTextManifest {
    /// Graph: a patch and prompts into logits.
    pub segmenter: String,
    /// Graph: token ids into a text embedding.
    pub text_encoder: Option<String>,
    /// Hugging Face `tokenizer.json`.
    pub text_tokenizer: Option<String>,
    /// Precomputed text embeddings, a safetensors file.
    pub text_bank: Option<String>,
    /// Width of a text embedding; absent when the segmenter takes tokens.
    pub embedding_size: Option<usize>,
    /// The grey patch is repeated this often.
    #[serde(default = "one_channel")]
    pub channels: usize,
    /// What is averaged where patches overlap.
    #[serde(default)]
    pub average: Average,
    /// What a graph's `modality_id` is, by modality code; `default` for the rest.
    #[serde(default)]
    pub modality_ids: BTreeMap<String, i64>,
    /// How a prompt becomes tokens.
    pub text: TextSettings,
    /// How a volume becomes patches.
    pub preprocessing: VolumePreprocessing,
}

fn one_channel() -> usize {
    1
}

/// What is averaged where patches overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Logits.
    #[default]
    Logit,
    /// Their sigmoid; the mean's logit is compared with the threshold.
    Probability,
}

/// `[backbone.text]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSettings {
    /// `{text}` stands for the prompt.
    pub template: String,
    /// Prompts are lower-cased first.
    pub lowercase: bool,
    /// Appended after tokenising.
    pub suffix_token: Option<String>,
    /// The tokenizer adds its own special tokens; `sam3` always has them.
    #[serde(default)]
    pub special_tokens: bool,
    /// Stands behind shorter prompts; the suffix token, or id 0, when absent.
    pub pad_token: Option<String>,
    /// Longer prompts are refused.
    pub max_tokens: usize,
}

/// `[backbone.preprocessing]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumePreprocessing {
    /// How patches cover the crop.
    #[serde(default)]
    pub fit: PatchFit,
    /// Array axes of the model's input.
    pub orientation: Orientation,
    /// What is cut away before normalising.
    pub crop: Crop,
    /// Spacing `[z, y, x]` to resample to; native when absent.
    pub spacing_mm: Option<[f64; 3]>,
    /// Patch `[z, y, x]` in voxels.
    pub patch_size: [usize; 3],
    /// Step between patches as a fraction of the patch.
    #[serde(default = "half_a_patch")]
    pub tile_step: f64,
    /// Sigma of the blending Gaussian as a fraction of the patch.
    #[serde(default = "an_eighth")]
    pub gaussian_sigma_scale: f64,
    /// How exactly weighted logits are added up.
    #[serde(default)]
    pub sums: SumPrecision,
    /// A voxel belongs to the mask above this averaged logit.
    pub threshold_logit: f32,
    /// Intensity normalisation by modality code; `default` for the rest.
    pub normalization: BTreeMap<String, Normalization>,
}

fn half_a_patch() -> f64 {
    0.5
}

fn an_eighth() -> f64 {
    0.125
}

/// How exactly logits and their weights are added up where patches overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SumPrecision {
    /// In single precision.
    #[default]
    Fp32,
    /// Weights, and each sum after every patch, rounded to half precision, as VoxTell's own host
    /// does. For its masks voxel for voxel; less exact towards the border of a volume.
    Fp16,
}

/// How patches cover the crop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchFit {
    /// Patches of the model's spacing, a step apart.
    #[default]
    Tile,
    /// The whole crop is interpolated onto one patch.
    Resize,
}

/// Array axes of a backbone's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Orientation {
    /// `[z, y, x]` with z to superior, y to anterior, x to right.
    #[serde(rename = "RAS")]
    Ras,
}

/// What is cut away before normalising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// Everything outside the bounding box of non-zero voxels with holes filled.
    Nonzero,
    /// Nothing.
    None,
}

/// From voxel values to the model's input. Statistics are those of the cropped, resampled volume;
/// standard deviations are the population's and at least 1e-8.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalization {
    /// Clipped, then `(x - mean) / std` with these numbers.
    Fixed {
        /// Lower bound.
        clip_low: f32,
        /// Upper bound.
        clip_high: f32,
        /// Subtracted.
        mean: f32,
        /// Divided by.
        std: f32,
    },
    /// `(x - mean) / std` of the volume's own voxels.
    Zscore,
    /// Clipped to these bounds, then as [`Normalization::Zscore`].
    ClippedZscore {
        /// Lower bound.
        clip_low: f32,
        /// Upper bound.
        clip_high: f32,
    },
    /// Clipped to the volume's own percentiles (NumPy's, linear), then as [`Normalization::Zscore`].
    PercentileZscore {
        /// Lower percentile, 0..100.
        low: f64,
        /// Upper percentile, 0..100.
        high: f64,
    },
    /// Clipped to the volume's own percentiles and scaled to 0..`scale`.
    PercentileUnit {
        /// Lower percentile, 0..100.
        low: f64,
        /// Upper percentile, 0..100.
        high: f64,
        /// What the upper percentile becomes.
        #[serde(default = "unit")]
        scale: f32,
    },
}

fn unit() -> f32 {
    1.0
}
