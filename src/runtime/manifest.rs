//! What `manifest.toml` may say. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::view::ViewPlan;

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
    /// `system`, `user` and `user_with_skills` texts.
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
}

fn whole_distribution() -> f32 {
    1.0
}

/// The families of backbones this server can host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackboneFamily {
    /// VoxTell, and the small models of the same interface.
    Voxtell,
}

/// `[backbone]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneManifest {
    /// The architecture.
    pub family: BackboneFamily,
    /// Graph: token ids into a text embedding.
    pub text_encoder: String,
    /// Hugging Face `tokenizer.json` of the text encoder.
    pub text_tokenizer: String,
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
    /// Longer prompts are refused.
    pub max_tokens: usize,
}

/// `[backbone.preprocessing]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumePreprocessing {
    /// Array axes of the model's input.
    pub orientation: Orientation,
    /// What is cut away before normalising.
    pub crop: Crop,
    /// Spacing `[z, y, x]` to resample to; native when absent.
    pub spacing_mm: Option<[f64; 3]>,
    /// Patch `[z, y, x]` in voxels.
    pub patch_size: [usize; 3],
    /// Step between patches as a fraction of the patch.
    pub tile_step: f64,
    /// Sigma of the blending Gaussian as a fraction of the patch.
    pub gaussian_sigma_scale: f64,
    /// A voxel belongs to the mask above this averaged logit.
    pub threshold_logit: f32,
    /// Intensity normalisation by modality code; `default` for the rest.
    pub normalization: BTreeMap<String, Normalization>,
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

/// From voxel values to the model's input.
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
    /// `(x - mean) / max(std, 1e-8)` of the volume's own voxels, population standard deviation.
    Zscore,
}
