//! What the graphs of each family must look like, derived from the manifest.
//!
//! A bundle whose graphs say otherwise is refused when it is loaded, not when an order fails. The
//! public exports of Qwen3-VL drop DeepStack, for example; their decoders lack an input here.

use super::graph::{Element, Graph, Port, shown};
use super::manifest::{
    BackboneManifest, ReasonerManifest, Sam3Manifest, VolumeTextManifest, VoxtellManifest,
};
use super::{Bundle, Runtime, RuntimeError};

/// A dimension as the manifest asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Exactly this, or free.
    Is(usize),
    /// Any length the host may feed; a graph must leave it free.
    Free(&'static str),
    /// The host feeds 1; a graph may fix it.
    One,
    /// Free, or fixed to a length that the host then keeps to.
    Many(&'static str),
}

/// An input or output as the manifest asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub element: Element,
    /// Its dimensions.
    pub dims: Vec<Dim>,
    /// A graph may lack it.
    pub optional: bool,
}

/// A graph as the manifest asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphSpec {
    /// Path below the bundle's folder.
    pub file: String,
    /// Its inputs.
    pub inputs: Vec<PortSpec>,
    /// Its outputs; others may be there.
    pub outputs: Vec<PortSpec>,
    /// Prefixes of further inputs that an earlier graph's outputs of the same name feed.
    pub wired: Vec<&'static str>,
}

fn float(name: impl Into<String>, dims: &[Dim]) -> PortSpec {
    let (name, dims) = (name.into(), dims.to_vec());
    PortSpec { name, element: Element::Float, dims, optional: false }
}

fn integer(name: &str, dims: &[Dim]) -> PortSpec {
    let (name, dims) = (name.to_owned(), dims.to_vec());
    PortSpec { name, element: Element::Integer, dims, optional: false }
}

/// The graphs of a `qwen3-vl` reasoner: vision encoder, token embedding, decoder.
pub fn reasoner(manifest: &ReasonerManifest) -> [GraphSpec; 3] {
    [vision_encoder(manifest), embed_tokens(manifest), decoder(manifest)]
}

fn vision_encoder(manifest: &ReasonerManifest) -> GraphSpec {
    let image = &manifest.image;
    let values = 3 * image.temporal_patch_size * image.patch_size * image.patch_size;
    let patches = Dim::Free("patches");
    let mut segments = integer("segment_ids", &[patches]);
    segments.optional = true;
    let (tokens, hidden) = (Dim::Free("tokens"), Dim::Is(manifest.hidden_size));
    GraphSpec {
        file: manifest.vision_encoder.clone(),
        inputs: vec![
            float("pixel_values", &[patches, Dim::Is(values)]),
            integer("position_ids", &[patches, Dim::Is(2)]),
            integer("interp_indices", &[patches, Dim::Is(4)]),
            float("interp_weights", &[patches, Dim::Is(4)]),
            segments,
        ],
        outputs: vec![
            float("image_embeds", &[tokens, hidden]),
            float("deepstack_embeds", &[Dim::Is(manifest.deepstack_levels), tokens, hidden]),
        ],
        wired: Vec::new(),
    }
}

fn embed_tokens(manifest: &ReasonerManifest) -> GraphSpec {
    let length = Dim::Free("length");
    GraphSpec {
        file: manifest.embed_tokens.clone(),
        inputs: vec![integer("input_ids", &[Dim::One, length])],
        outputs: vec![float("inputs_embeds", &[Dim::One, length, Dim::Is(manifest.hidden_size)])],
        wired: Vec::new(),
    }
}

fn decoder(manifest: &ReasonerManifest) -> GraphSpec {
    let (length, total, past) = (Dim::Free("length"), Dim::Free("total"), Dim::Free("past"));
    let hidden = Dim::Is(manifest.hidden_size);
    let (heads, width) = (Dim::Is(manifest.key_value_heads), Dim::Is(manifest.head_dim));
    let cache = |prefix: &str, along: Dim| {
        let ports: Vec<PortSpec> = cache_names(manifest.layers)
            .map(|name| float(format!("{prefix}.{name}"), &[Dim::One, heads, along, width]))
            .collect();
        ports
    };
    let mut inputs = vec![
        float("inputs_embeds", &[Dim::One, length, hidden]),
        integer("attention_mask", &[Dim::One, total]),
        integer("position_ids", &[Dim::Is(3), Dim::One, length]),
        float("deepstack_embeds", &[Dim::Is(manifest.deepstack_levels), Dim::One, length, hidden]),
    ];
    inputs.extend(cache("past_key_values", past));
    // All rows or the last one only: the host reads the last.
    let mut outputs =
        vec![float("logits", &[Dim::One, Dim::One, Dim::Is(manifest.vocabulary_size)])];
    outputs.extend(cache("present", total));
    GraphSpec { file: manifest.decoder.clone(), inputs, outputs, wired: Vec::new() }
}

/// `0.key`, `0.value`, `1.key`, …
pub fn cache_names(layers: usize) -> impl Iterator<Item = String> {
    (0..layers).flat_map(|layer| ["key", "value"].map(|kind| format!("{layer}.{kind}")))
}

/// The graphs of a backbone, in the order in which they feed each other.
///
/// Features and mask embeddings pass from graph to graph by name; their shapes are the graphs' own.
pub fn backbone(manifest: &BackboneManifest) -> Vec<GraphSpec> {
    match manifest {
        BackboneManifest::Voxtell(m) => {
            let text = m.text_encoder.as_deref().map(|file| text_encoder(file, m.embedding_size));
            text.into_iter().chain(voxtell(m)).collect()
        }
        BackboneManifest::Sam3(m) => sam3(m).into(),
        BackboneManifest::VolumeText(m) => {
            let width = m.embedding_size.unwrap_or(0);
            let text = m.text_encoder.as_deref().map(|file| text_encoder(file, width));
            text.into_iter().chain([segmenter(m)]).collect()
        }
    }
}

/// Token ids into one vector per prompt, as `voxtell` and `volume-text` have it.
pub fn text_encoder(file: &str, width: usize) -> GraphSpec {
    let prompts_and_tokens = [Dim::Many("prompts"), Dim::Many("tokens")];
    GraphSpec {
        file: file.to_owned(),
        inputs: vec![
            integer("input_ids", &prompts_and_tokens),
            integer("attention_mask", &prompts_and_tokens),
            PortSpec { optional: true, ..integer("modality_id", &[Dim::One]) },
        ],
        outputs: vec![float("text_embedding", &[Dim::Many("prompts"), Dim::Is(width)])],
        wired: Vec::new(),
    }
}

/// Image encoder, prompt decoder and mask decoder of a `voxtell` backbone.
pub fn voxtell(manifest: &VoxtellManifest) -> [GraphSpec; 3] {
    let prompts = Dim::Many("prompts");
    let width = Dim::Is(manifest.embedding_size);
    let [z, y, x] = manifest.preprocessing.patch_size.map(Dim::Is);
    [
        GraphSpec {
            file: manifest.image_encoder.clone(),
            inputs: vec![float("image", &[Dim::One, Dim::One, z, y, x])],
            outputs: Vec::new(),
            wired: Vec::new(),
        },
        GraphSpec {
            file: manifest.prompt_decoder.clone(),
            inputs: vec![float("text_embedding", &[Dim::One, prompts, width])],
            outputs: Vec::new(),
            wired: vec!["features_"],
        },
        GraphSpec {
            file: manifest.mask_decoder.clone(),
            inputs: Vec::new(),
            outputs: vec![float("logits", &[Dim::One, prompts, z, y, x])],
            wired: vec!["features_", "mask_embedding_"],
        },
    ]
}

/// Text encoder, image encoder and mask decoder of a `sam3` backbone.
pub fn sam3(manifest: &Sam3Manifest) -> [GraphSpec; 3] {
    let tokens = Dim::Is(manifest.text.max_tokens);
    let size = Dim::Is(manifest.slices.image_size);
    let mask = integer("attention_mask", &[Dim::One, tokens]);
    let features = float("text_features", &[Dim::One, tokens, Dim::Is(manifest.embedding_size)]);
    let queries = Dim::Many("queries");
    [
        GraphSpec {
            file: manifest.text_encoder.clone(),
            inputs: vec![integer("input_ids", &[Dim::One, tokens]), mask.clone()],
            outputs: vec![features.clone()],
            wired: Vec::new(),
        },
        GraphSpec {
            file: manifest.image_encoder.clone(),
            inputs: vec![float("pixel_values", &[Dim::One, Dim::Is(3), size, size])],
            outputs: Vec::new(),
            wired: Vec::new(),
        },
        GraphSpec {
            file: manifest.mask_decoder.clone(),
            inputs: vec![features, mask],
            outputs: vec![
                float("pred_masks", &[Dim::One, queries, Dim::Many("rows"), Dim::Many("columns")]),
                float("pred_logits", &[Dim::One, queries]),
                float("presence_logits", &[Dim::One, Dim::One]),
            ],
            wired: vec!["features_"],
        },
    ]
}

/// The one graph of a `volume-text` backbone; takes embeddings when the manifest gives their width,
/// tokens otherwise.
pub fn segmenter(manifest: &VolumeTextManifest) -> GraphSpec {
    let prompts = Dim::Many("prompts");
    let [z, y, x] = manifest.preprocessing.patch_size.map(Dim::Is);
    let mut inputs = vec![float("image", &[Dim::One, Dim::Is(manifest.channels), z, y, x])];
    match manifest.embedding_size {
        Some(width) => {
            inputs.push(float("text_embedding", &[Dim::One, prompts, Dim::Is(width)]));
        }
        None => {
            let tokens = Dim::Many("tokens");
            inputs.push(integer("input_ids", &[prompts, tokens]));
            inputs.push(integer("attention_mask", &[prompts, tokens]));
        }
    }
    inputs.push(PortSpec { optional: true, ..integer("modality_id", &[Dim::One]) });
    GraphSpec {
        file: manifest.segmenter.clone(),
        inputs,
        outputs: vec![float("logits", &[Dim::One, prompts, z, y, x])],
        wired: Vec::new(),
    }
}

impl Runtime {
    /// Loads a bundle's graph and holds it against its specification.
    ///
    /// # Errors
    /// As [`Runtime::load`]; also when inputs or outputs are missing or of another shape or type.
    pub fn load_checked(&self, bundle: &Bundle, spec: &GraphSpec) -> Result<Graph, RuntimeError> {
        let graph = self.load(&bundle.path(&spec.file))?;
        check(&graph, spec)?;
        Ok(graph)
    }
}

/// Holds a graph against its specification.
///
/// # Errors
/// [`RuntimeError::GraphDiffers`] with the first difference.
pub fn check(graph: &Graph, spec: &GraphSpec) -> Result<(), RuntimeError> {
    let differs = |expected: String, found: String| RuntimeError::GraphDiffers {
        path: graph.path().to_owned(),
        expected,
        found,
    };
    for (kind, wanted, ports) in
        [("input", &spec.inputs, graph.inputs()), ("output", &spec.outputs, graph.outputs())]
    {
        for port in wanted {
            let Some(found) = ports.iter().find(|p| p.name == port.name) else {
                if port.optional {
                    continue;
                }
                return Err(differs(describe(kind, port), format!("no {kind} {}", port.name)));
            };
            if !fits(port, found) {
                let found =
                    format!("{kind} {} of {:?} {}", found.name, found.element, shown(&found.dims));
                return Err(differs(describe(kind, port), found.to_lowercase()));
            }
        }
    }
    let fed = |port: &Port| {
        spec.inputs.iter().any(|p| p.name == port.name)
            || spec.wired.iter().any(|prefix| port.name.starts_with(prefix))
    };
    match graph.inputs().iter().find(|port| !fed(port)) {
        Some(stray) => Err(differs("no such input".to_owned(), format!("an input {}", stray.name))),
        None => Ok(()),
    }
}

fn fits(wanted: &PortSpec, found: &Port) -> bool {
    wanted.element == found.element
        && wanted.dims.len() == found.dims.len()
        && wanted.dims.iter().zip(&found.dims).all(|(wanted, found)| match (wanted, found) {
            (_, None) => true,
            (Dim::Is(wanted), Some(found)) => wanted == found,
            (Dim::One, Some(found)) => *found == 1,
            (Dim::Free(_), Some(_)) => false,
            (Dim::Many(_), Some(found)) => *found > 0,
        })
}

fn describe(kind: &str, port: &PortSpec) -> String {
    let dims: Vec<String> = port
        .dims
        .iter()
        .map(|dim| match dim {
            Dim::Is(count) => count.to_string(),
            Dim::One => "1".to_owned(),
            Dim::Free(name) | Dim::Many(name) => (*name).to_owned(),
        })
        .collect();
    format!("{kind} {} of {:?} ({})", port.name, port.element, dims.join(", ")).to_lowercase()
}
