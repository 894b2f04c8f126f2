//! What a bundle's parts take in memory, worked out before anything is loaded.
//!
//! Weights are counted exactly from the ONNX files. The cache is that of the longest prompt and
//! trace, twice, because a step's new cache is written while the old one is read. Activations are
//! estimates from shapes: the attention scores of the prompt or of a view, or the finest features of
//! a patch several times over. A part that would not fit is refused with the figures.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::manifest::{BackboneManifest, ReasonerManifest};
use super::onnx::OnnxFacts;
use super::{Bundle, Runtime, RuntimeError};

/// Longer prompts are refused: attention over the prompt is quadratic in its length.
pub const PROMPT_TOKENS_MAX: usize = 8192;

/// Tokens of an order, skills and instructions beside the image tokens of the views, for estimates.
const TEXT_TOKENS_EXPECTED: u64 = 1024;

/// Copies of the finest feature map that a decoder of the U-Net kind has at once: the upsampled one,
/// the skip beside it, both joined, and the convolution's result.
const FEATURE_COPIES: u64 = 5;

/// Most memory that models may plan for, in bytes; what is not set is asked of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Memory of the machine or its cgroup.
    pub host_bytes: Option<u64>,
}

/// What one part of a bundle takes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct MemoryPlan {
    /// Weights as they are computed with.
    pub weights_bytes: u64,
    /// Keys and values at the longest prompt and trace.
    pub cache_bytes: u64,
    /// The largest intermediate results, an estimate.
    pub activations_bytes: u64,
    /// What the image encoder hands to the decoders, for one patch or slice.
    pub features_bytes: u64,
    /// Weights that are held twice while they are loaded.
    pub loading_bytes: u64,
}

impl MemoryPlan {
    /// What must be there at once: when loading or when busy, whichever takes more.
    pub fn total_bytes(&self) -> u64 {
        let busy = self.cache_bytes + self.activations_bytes + self.features_bytes;
        self.weights_bytes + busy.max(self.loading_bytes)
    }

    /// The plan of a bundle's `reasoner` or `backbone`.
    ///
    /// # Errors
    /// When the bundle has no such part or a graph is no ONNX file.
    pub fn of(bundle: &Bundle, role: &str, on_cpu: bool) -> Result<Self, RuntimeError> {
        match role {
            "reasoner" => Self::of_reasoner(bundle, on_cpu),
            _ => Self::of_backbone(bundle, on_cpu),
        }
    }

    /// The plan of a bundle's reasoner.
    ///
    /// # Errors
    /// When the bundle has none or a graph is no ONNX file.
    pub fn of_reasoner(bundle: &Bundle, on_cpu: bool) -> Result<Self, RuntimeError> {
        let manifest = bundle.reasoner()?;
        let graphs = [&manifest.vision_encoder, &manifest.embed_tokens, &manifest.decoder];
        let mut plan = Self::default();
        for graph in graphs {
            plan.add_weights(&OnnxFacts::read(&bundle.path(graph))?, on_cpu);
        }
        plan.cache_bytes = cache_bytes(manifest);
        plan.activations_bytes = reasoner_activations_bytes(manifest);
        plan.features_bytes = view_features_bytes(manifest);
        Ok(plan)
    }

    /// The plan of a bundle's backbone.
    ///
    /// # Errors
    /// When the bundle has none or a graph is no ONNX file.
    pub fn of_backbone(bundle: &Bundle, on_cpu: bool) -> Result<Self, RuntimeError> {
        let manifest = bundle.backbone()?;
        let mut plan = Self::default();
        let (mut finest, mut given) = (0, 0);
        for file in manifest.files().into_iter().filter(|file| file.ends_with(".onnx")) {
            let facts = OnnxFacts::read(&bundle.path(file))?;
            plan.add_weights(&facts, on_cpu);
            let bytes = facts.output_elements.iter().map(|count| count.saturating_mul(4));
            finest = finest.max(bytes.clone().max().unwrap_or(0));
            if image_encoder(manifest) == Some(file) {
                given = bytes.fold(0, u64::saturating_add);
            }
        }
        plan.features_bytes = given;
        plan.activations_bytes = finest.saturating_mul(FEATURE_COPIES);
        Ok(plan)
    }

    fn add_weights(&mut self, facts: &OnnxFacts, on_cpu: bool) {
        self.weights_bytes += facts.weight_bytes(on_cpu);
        // A file's own bytes stay until its session is made; external data is mapped.
        self.loading_bytes = self.loading_bytes.max(facts.file_bytes);
    }
}

fn image_encoder(manifest: &BackboneManifest) -> Option<&str> {
    match manifest {
        BackboneManifest::Voxtell(m) => Some(&m.image_encoder),
        BackboneManifest::Sam3(m) => Some(&m.image_encoder),
        BackboneManifest::VolumeText(_) => None,
    }
}

fn cache_bytes(manifest: &ReasonerManifest) -> u64 {
    let tokens = PROMPT_TOKENS_MAX + manifest.decoding.max_new_tokens;
    let per_token = 2 * manifest.layers * manifest.key_value_heads * manifest.head_dim * 4;
    2 * (tokens as u64).saturating_mul(per_token as u64)
}

fn image_tokens(manifest: &ReasonerManifest) -> (u64, u64) {
    let patches = (manifest.view_plan.size / manifest.image.patch_size.max(1)).pow(2) as u64;
    let merged = patches / (manifest.image.merge_size.pow(2) as u64).max(1);
    let views: usize = manifest.view_plan.planes.iter().map(|run| run.count).sum();
    (patches, merged * views as u64)
}

/// Attention scores of one layer, before and after the softmax, of the prompt or of a view.
fn reasoner_activations_bytes(manifest: &ReasonerManifest) -> u64 {
    let (patches, image_tokens) = image_tokens(manifest);
    let prompt = image_tokens + TEXT_TOKENS_EXPECTED;
    // Qwen3-VL has up to twice as many heads as fit its width, and sixteen in its vision encoder.
    let heads = (2 * manifest.hidden_size / manifest.head_dim.max(1)) as u64;
    let scores = |heads: u64, length: u64| 2 * 4 * heads * length * length;
    scores(heads, prompt).max(scores(16, patches)) + prompt * manifest.hidden_size as u64 * 4 * 16
}

/// Embeddings and DeepStack features of all views, and the prompt they are put into.
fn view_features_bytes(manifest: &ReasonerManifest) -> u64 {
    let (_, image_tokens) = image_tokens(manifest);
    let levels = 1 + manifest.deepstack_levels as u64;
    (2 * image_tokens + TEXT_TOKENS_EXPECTED) * levels * manifest.hidden_size as u64 * 4
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weights {}", shown(self.weights_bytes))?;
        if self.cache_bytes > 0 {
            write!(f, ", cache {}", shown(self.cache_bytes))?;
        }
        write!(
            f,
            ", activations about {}, features {}, loading {}",
            shown(self.activations_bytes),
            shown(self.features_bytes),
            shown(self.loading_bytes)
        )
    }
}

/// Bytes in the unit that reads best.
pub fn shown(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// Memory that loaded parts have planned for; given back when the part is dropped.
#[derive(Debug)]
pub struct Reservation {
    planned: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.planned.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Runtime {
    /// Refuses a part that would not fit, before it is loaded.
    ///
    /// A configured limit is for everything that is loaded; without one, a device's own allocator
    /// finds out what is free, and the host is asked, where loaded weights no longer count as free.
    ///
    /// # Errors
    /// [`RuntimeError::TooLarge`] with the plan and what is available.
    pub fn check_fits(
        &self,
        bundle: &Bundle,
        part: &'static str,
        plan: &MemoryPlan,
    ) -> Result<(), RuntimeError> {
        let settings = self.settings();
        let left = |limit: u64| limit.saturating_sub(self.planned().load(Ordering::Relaxed));
        let (place, available) = if self.provider().has_device_memory() {
            ("device", settings.device.memory_bytes_max.map(left))
        } else {
            ("host", settings.memory.host_bytes.map(left).or_else(available_host_bytes))
        };
        match available {
            Some(available) if plan.total_bytes() > available => Err(RuntimeError::TooLarge {
                bundle: bundle.manifest().name.clone(),
                part,
                place,
                plan: Box::new(*plan),
                available_bytes: available,
            }),
            _ => Ok(()),
        }
    }

    /// As [`Runtime::check_fits`], and counts the part as loaded until the reservation is dropped.
    ///
    /// # Errors
    /// As [`Runtime::check_fits`].
    pub fn reserve(
        &self,
        bundle: &Bundle,
        part: &'static str,
    ) -> Result<Reservation, RuntimeError> {
        let plan = MemoryPlan::of(bundle, part, !self.provider().has_device_memory())?;
        self.check_fits(bundle, part, &plan)?;
        let bytes = plan.total_bytes();
        tracing::info!(
            memory.planned_bytes = bytes,
            "The {part} of {} plans for {}",
            bundle.manifest().name,
            shown(bytes)
        );
        let planned = Arc::clone(self.planned());
        planned.fetch_add(bytes, Ordering::Relaxed);
        Ok(Reservation { planned, bytes })
    }
}

/// Host memory that this process may still take: what the machine has available, or what is left of
/// its cgroup's limit. None where neither can be read.
pub fn available_host_bytes() -> Option<u64> {
    let v1 = "/sys/fs/cgroup/memory";
    let cgroup = cgroup_left("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
        .or_else(|| {
            cgroup_left(v1, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        });
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let kib = number_after(&text, "MemAvailable:")?;
        kib.checked_mul(1024)
    });
    cgroup.into_iter().chain(machine).min()
}

/// Limit less usage; file pages that the kernel can drop at once do not count as used.
fn cgroup_left(folder: &str, limit: &str, used: &str, droppable: &str) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let droppable = read("memory.stat").and_then(|text| number_after(&text, droppable));
    let used = number(used)?.saturating_sub(droppable.unwrap_or(0));
    Some(number(limit)?.saturating_sub(used))
}

/// The number that follows a word at the start of a line.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(word))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_says() {
        let text = "MemTotal:       24689612 kB\nMemAvailable:   23500000 kB\n";
        assert_eq!(number_after(text, "MemAvailable:"), Some(23_500_000));
        assert_eq!(number_after("MemTotal: 5 kB", "MemAvailable:"), None);
        assert!(available_host_bytes().is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn the_larger_of_loading_and_working_counts() {
        let plan = MemoryPlan {
            weights_bytes: 100,
            cache_bytes: 20,
            activations_bytes: 30,
            features_bytes: 5,
            loading_bytes: 90,
        };
        assert_eq!(plan.total_bytes(), 190);
        assert_eq!(MemoryPlan { loading_bytes: 10, ..plan }.total_bytes(), 155);
        assert_eq!(shown(1536 << 20), "1.5 GiB");
    }

    #[test]
    fn plans_for_the_parts_of_a_real_bundle() {
        let bundle = Bundle::open("models/seer-mini".as_ref()).expect("the embedded bundle");
        let plan = MemoryPlan::of_reasoner(&bundle, true).expect("sound graphs");
        let stored: u64 = ["decoder", "embed_tokens", "vision_encoder"]
            .iter()
            .filter_map(|g| std::fs::metadata(format!("models/seer-mini/reasoner/{g}.onnx")).ok())
            .map(|file| file.len())
            .sum();
        // Stored in half precision, computed in single precision.
        let ratio = plan.weights_bytes as f64 / stored as f64;
        assert!((1.8..2.01).contains(&ratio), "{ratio}");
        // 8192 + 160 tokens, 4 layers, one head of 64, keys and values, old and new.
        assert_eq!(plan.cache_bytes, 2 * 8352 * 2 * 4 * 64 * 4);
        let plan = MemoryPlan::of_backbone(&bundle, true).expect("sound graphs");
        assert!(plan.features_bytes > 48 * 64 * 48 * 4, "{plan}");
        assert!(plan.total_bytes() < 1 << 30, "{plan}");
    }
}
