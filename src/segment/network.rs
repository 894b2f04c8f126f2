//! The graphs that turn a patch and prompts into logits.
//!
//! Families differ here only: `voxtell` encodes the patch once and decodes any number of prompts
//! from the features, which stay where ONNX Runtime put them; `volume-text` has one graph for both.

use std::ops::Range;

use ndarray::{Array3, ArrayD, Axis, Slice};

use super::SegmentError;
use super::words::{Words, push_modality};
use crate::runtime::{Graph, Inputs, Port, RuntimeError, Tensor};
use crate::threads::Cancel;

/// Copies of the finest features that a decoder makes for each prompt, an estimate.
const FEATURE_COPIES: u64 = 4;

/// The graphs of one backbone.
pub(super) enum Network {
    /// Image encoder, prompt decoder, mask decoder.
    Voxtell { image: Box<Graph>, prompt: Box<Graph>, mask: Box<Graph> },
    /// One graph.
    VolumeText {
        segmenter: Graph,
        /// The grey patch is repeated this often.
        channels: usize,
    },
}

/// What every patch is asked.
pub(super) struct Ask<'a> {
    pub words: &'a Words,
    /// For graphs that want to know the modality.
    pub modality_id: Option<i64>,
    pub cancel: &'a Cancel,
}

/// Tensors by name, shared rather than copied.
pub(super) type Features = Vec<(String, Tensor)>;

impl Network {
    /// Whether a graph wants to know the modality.
    pub fn asks_modality(&self) -> bool {
        match self {
            Self::Voxtell { .. } => false,
            Self::VolumeText { segmenter, .. } => segmenter.input("modality_id").is_some(),
        }
    }

    /// Checks that every input of the later graphs is an output of an earlier one, and that the
    /// number of prompts is free or one.
    ///
    /// # Errors
    /// Names graph and input, or graph and number.
    pub fn check(&self) -> Result<(), SegmentError> {
        match self {
            Self::Voxtell { image, prompt, mask } => {
                check_wiring(prompt, &["text_embedding"], &[image.as_ref()])?;
                check_wiring(mask, &[], &[image.as_ref(), prompt.as_ref()])?;
                check_prompts(prompt, prompt.input("text_embedding"), 1)?;
                check_prompts(mask, mask.output("logits"), 1)
            }
            Self::VolumeText { segmenter, .. } => {
                check_prompts(segmenter, segmenter.input("text_embedding"), 1)?;
                check_prompts(segmenter, segmenter.input("input_ids"), 0)?;
                check_prompts(segmenter, segmenter.output("logits"), 1)
            }
        }
    }

    /// How many prompts one run of the decoders may take without its working memory passing
    /// `bytes`; one when a graph takes no more. A mask decoder that takes one prompt is asked
    /// once for each, so only the masks' embeddings grow then.
    pub fn prompts_per_run(&self, bytes: u64) -> usize {
        let (is_single, per_prompt) = match self {
            Self::Voxtell { image, prompt, mask } => {
                let embeddings: u64 = prompt.outputs().iter().map(bytes_of).sum();
                let finest = image.outputs().iter().map(bytes_of).max().unwrap_or(0);
                let is_mask_single = is_fixed(mask.output("logits"), 1);
                let per_prompt = if is_mask_single { embeddings } else { finest };
                (is_fixed(prompt.input("text_embedding"), 1), per_prompt)
            }
            Self::VolumeText { segmenter, .. } => (
                is_fixed(segmenter.input("text_embedding"), 1)
                    || is_fixed(segmenter.input("input_ids"), 0)
                    || is_fixed(segmenter.output("logits"), 1),
                segmenter.input("image").map_or(0, bytes_of),
            ),
        };
        let per_prompt = per_prompt.saturating_mul(FEATURE_COPIES).max(1);
        if is_single { 1 } else { usize::try_from(bytes / per_prompt).unwrap_or(usize::MAX).max(1) }
    }

    /// What the decoders need of a patch `[z, y, x]`, kept where ONNX Runtime put it.
    ///
    /// # Errors
    /// When stopped or the graph fails.
    pub fn encode(&self, patch: Array3<f32>, cancel: &Cancel) -> Result<Features, SegmentError> {
        let patch = patch.insert_axis(Axis(0)).insert_axis(Axis(0)).into_dyn();
        match self {
            Self::Voxtell { image, .. } => {
                keep_all(image, Inputs::new().with("image", Tensor::F32(patch)), cancel)
            }
            Self::VolumeText { channels: 1, .. } => {
                Ok(vec![("image".to_owned(), Tensor::F32(patch))])
            }
            Self::VolumeText { channels, .. } => {
                let mut shape = patch.shape().to_vec();
                shape[1] = *channels;
                let repeated = patch.broadcast(shape).expect("one channel repeats").to_owned();
                Ok(vec![("image".to_owned(), Tensor::F32(repeated))])
            }
        }
    }

    /// Gives `take` the logits `[1, prompt, z, y, x]` of some prompts with the number of the first:
    /// of all at once, or one by one where the mask decoder takes one.
    ///
    /// # Errors
    /// When stopped, a graph fails, the logits have another shape, or `take` fails.
    pub fn decode(
        &self,
        features: &Features,
        ask: &Ask<'_>,
        prompts: Range<usize>,
        mut take: impl FnMut(usize, ArrayD<f32>) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        let (first, count) = (prompts.start, prompts.len());
        let words = ask.words.some(prompts);
        let cancel = ask.cancel;
        match self {
            Self::Voxtell { prompt, mask, .. } => {
                let mut inputs = wire(prompt, &[features]);
                words.into_inputs(&mut inputs);
                if count == 1 || !is_fixed(mask.output("logits"), 1) {
                    let mask_embeddings = keep_all(prompt, inputs, cancel)?;
                    let inputs = wire(mask, &[&mask_embeddings, features]);
                    return take(first, logits(mask, inputs, count, cancel)?);
                }
                let mask_embeddings = prompt.run(inputs, cancel)?.take_all("");
                for index in 0..count {
                    let one = of_prompt(prompt, &mask_embeddings, index, count)?;
                    let inputs = wire(mask, &[&one, features]);
                    take(first + index, logits(mask, inputs, 1, cancel)?)?;
                }
                Ok(())
            }
            Self::VolumeText { segmenter, .. } => {
                let mut inputs = wire(segmenter, &[features]);
                words.into_inputs(&mut inputs);
                push_modality(segmenter, ask.modality_id, &mut inputs);
                take(first, logits(segmenter, inputs, count, cancel)?)
            }
        }
    }
}

/// The row of one prompt of `count`, along axis 1, of what the prompt decoder gave to the host.
///
/// # Errors
/// When a tensor has another number of rows.
fn of_prompt(
    graph: &Graph,
    mask_embeddings: &Features,
    index: usize,
    count: usize,
) -> Result<Features, SegmentError> {
    let row = |(name, tensor): &(String, Tensor)| match tensor {
        Tensor::F32(all) if all.ndim() > 1 && all.len_of(Axis(1)) == count => {
            let row = all.slice_axis(Axis(1), Slice::from(index..index + 1));
            Ok((name.clone(), Tensor::F32(row.to_owned())))
        }
        _ => {
            let (graph, found) = (graph.name().to_owned(), tensor.shape());
            let mut expected = found.clone();
            expected.resize(found.len().max(2), 1);
            expected[1] = count;
            Err(SegmentError::OutputShape { graph, output: "mask_embedding", found, expected })
        }
    };
    mask_embeddings.iter().map(row).collect()
}

/// Whether the graph itself says how long an axis is.
fn is_fixed(port: Option<&Port>, axis: usize) -> bool {
    port.is_some_and(|port| port.dims.get(axis).is_some_and(Option::is_some))
}

/// Runs the last graph; its logits were held against the manifest but for the number of prompts.
fn logits(
    graph: &Graph,
    inputs: Inputs,
    count: usize,
    cancel: &Cancel,
) -> Result<ArrayD<f32>, SegmentError> {
    let logits = graph.run(inputs, cancel)?.take_f32("logits")?;
    let mut expected = logits.shape().to_vec();
    if let Some(prompts) = expected.get_mut(1) {
        *prompts = count;
    }
    if logits.shape() != expected {
        let (graph, found) = (graph.name().to_owned(), logits.shape().to_vec());
        return Err(SegmentError::OutputShape { graph, output: "logits", found, expected });
    }
    Ok(logits)
}

/// Runs a graph and keeps all it gives where ONNX Runtime put it.
pub(super) fn keep_all(
    graph: &Graph,
    inputs: Inputs,
    cancel: &Cancel,
) -> Result<Features, SegmentError> {
    let names: Vec<&str> = graph.outputs().iter().map(|port| port.name.as_str()).collect();
    Ok(graph.run_keeping(inputs, &names, cancel)?.take_all(""))
}

/// The inputs of `graph` that tensors of graphs before it feed; the first of a name wins.
pub(super) fn wire(graph: &Graph, given: &[&Features]) -> Inputs {
    let mut inputs = Inputs::new();
    for port in graph.inputs() {
        let mut all = given.iter().copied().flatten();
        if let Some((name, tensor)) = all.find(|(name, _)| *name == port.name) {
            inputs.push(name.clone(), tensor.clone());
        }
    }
    inputs
}

/// Every input of `graph` that the host does not feed itself must come from a graph before it.
pub(super) fn check_wiring(
    graph: &Graph,
    fed: &[&str],
    before: &[&Graph],
) -> Result<(), SegmentError> {
    let given = |name: &str| before.iter().any(|graph| graph.output(name).is_some());
    match graph.inputs().iter().find(|p| !fed.contains(&p.name.as_str()) && !given(&p.name)) {
        Some(port) => {
            Err(SegmentError::Unwired { graph: graph.name().to_owned(), input: port.name.clone() })
        }
        None => Ok(()),
    }
}

fn check_prompts(graph: &Graph, port: Option<&Port>, axis: usize) -> Result<(), SegmentError> {
    let found = port.and_then(|port| Some((port, port.dims.get(axis).copied().flatten()?)));
    match found {
        Some((port, count)) if count != 1 => Err(RuntimeError::GraphDiffers {
            path: graph.path().to_owned(),
            expected: format!("any number of prompts, or one, along axis {axis} of {}", port.name),
            found: format!("{count} prompts"),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Bytes of a tensor in single precision; free axes count as one.
fn bytes_of(port: &Port) -> u64 {
    port.dims.iter().fold(4, |bytes, dim| bytes.saturating_mul(dim.unwrap_or(1) as u64))
}
