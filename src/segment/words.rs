//! Prompts into what the graphs read: embeddings, or tokens.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ndarray::{Array1, Array2, ArrayD, Axis, Slice};

use super::SegmentError;
use super::bank::Bank;
use super::cache::Cache;
use super::tokens::{PromptTokenizer, TokenRows};
use crate::runtime::{Graph, Inputs, Tensor};
use crate::threads::Cancel;

/// Most prompts in one run of a text encoder that takes any number.
pub(super) const BATCH_MAX: usize = 32;

/// What stands for the prompts of a call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Words {
    /// `[prompt, value]`.
    Embeddings(Array2<f32>),
    /// For graphs that read text themselves.
    Tokens(TokenRows),
}

impl Words {
    /// How many prompts there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Embeddings(rows) => rows.nrows(),
            Self::Tokens(rows) => rows.ids.nrows(),
        }
    }

    /// Some of the prompts.
    pub fn some(&self, range: Range<usize>) -> Self {
        fn rows<T: Clone>(all: &Array2<T>, range: Range<usize>) -> Array2<T> {
            all.slice_axis(Axis(0), Slice::from(range)).to_owned()
        }
        match self {
            Self::Embeddings(all) => Self::Embeddings(rows(all, range)),
            Self::Tokens(all) => Self::Tokens(TokenRows {
                ids: rows(&all.ids, range.clone()),
                mask: rows(&all.mask, range),
            }),
        }
    }

    /// As inputs of a graph: `text_embedding` `[1, prompt, value]`, or `input_ids` and
    /// `attention_mask` `[prompt, token]`.
    pub fn into_inputs(self, inputs: &mut Inputs) {
        match self {
            Self::Embeddings(rows) => {
                let rows = rows.insert_axis(Axis(0)).into_dyn();
                inputs.push("text_embedding", Tensor::F32(rows));
            }
            Self::Tokens(rows) => {
                inputs.push("input_ids", Tensor::I64(rows.ids.into_dyn()));
                inputs.push("attention_mask", Tensor::I64(rows.mask.into_dyn()));
            }
        }
    }
}

/// Bank, memory, tokenizer and text encoder, asked in this order.
pub(super) struct TextEncoder {
    pub bank: Bank,
    pub cache: Mutex<Cache>,
    /// Absent when the bank is all there is.
    pub live: Option<(PromptTokenizer, Graph)>,
    pub lowercase: bool,
    /// Values of one prompt's embedding.
    pub width: usize,
    /// Most prompts that one run of the graph takes.
    pub batch_max: usize,
    /// The graph's output.
    pub output: &'static str,
}

impl TextEncoder {
    /// One embedding per prompt, `[prompt, value]`. `modality_id` goes to graphs that ask for it.
    ///
    /// # Errors
    /// When stopped, a prompt is too long, or neither bank nor text encoder knows it.
    pub fn embed(
        &self,
        prompts: &[String],
        modality_id: Option<i64>,
        cancel: &Cancel,
    ) -> Result<Array2<f32>, SegmentError> {
        let asks = |(_, graph): &(PromptTokenizer, Graph)| graph.input("modality_id").is_some();
        let modality_id = modality_id.filter(|_| self.live.as_ref().is_some_and(asks));
        let keys: Vec<String> = prompts.iter().map(|prompt| self.as_asked(prompt)).collect();
        let mut known: HashMap<&str, Array1<f32>> = HashMap::new();
        let mut missing: Vec<(usize, &str)> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            if known.contains_key(key.as_str()) || missing.iter().any(|(_, other)| other == key) {
                continue;
            }
            match self.bank.get(key).or_else(|| self.remembered(key, modality_id)) {
                Some(embedding) => {
                    known.insert(key, embedding);
                }
                None => missing.push((index, key)),
            }
        }
        for batch in missing.chunks(self.batch_max.max(1)) {
            let rows = self.run(batch, modality_id, cancel)?;
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            for ((_, key), row) in batch.iter().zip(rows.rows()) {
                cache.put(&remembered_as(key, modality_id), row.to_owned());
                known.insert(key, row.to_owned());
            }
        }
        let mut out = Array2::zeros([keys.len(), self.width]);
        for (mut row, key) in out.rows_mut().into_iter().zip(&keys) {
            row.assign(&known[key.as_str()]);
        }
        Ok(out)
    }

    /// The prompts as tokens.
    ///
    /// # Errors
    /// When a prompt is too long, or there is no tokenizer.
    pub fn tokens(&self, prompts: &[String]) -> Result<TokenRows, SegmentError> {
        let Some((tokenizer, _)) = &self.live else {
            return Err(SegmentError::UnknownPrompt { number: 1 });
        };
        let prompts: Vec<String> = prompts.iter().map(|prompt| self.as_asked(prompt)).collect();
        let prompts: Vec<_> = prompts.iter().map(String::as_str).enumerate().collect();
        tokenizer.rows(&prompts)
    }

    fn as_asked(&self, prompt: &str) -> String {
        if self.lowercase { prompt.to_lowercase() } else { prompt.to_owned() }
    }

    fn remembered(&self, key: &str, modality_id: Option<i64>) -> Option<Array1<f32>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&remembered_as(key, modality_id))
    }

    fn run(
        &self,
        batch: &[(usize, &str)],
        modality_id: Option<i64>,
        cancel: &Cancel,
    ) -> Result<Array2<f32>, SegmentError> {
        let Some((tokenizer, graph)) = &self.live else {
            let number = batch.first().map_or(0, |(index, _)| index + 1);
            return Err(SegmentError::UnknownPrompt { number });
        };
        let mut inputs = Inputs::new();
        Words::Tokens(tokenizer.rows(batch)?).into_inputs(&mut inputs);
        push_modality(graph, modality_id, &mut inputs);
        let found = graph.run(inputs, cancel)?.take_f32(self.output)?;
        let (expected, shape) = (vec![batch.len(), self.width], found.shape().to_vec());
        let fits = shape[0] == batch.len() && found.len() == batch.len() * self.width;
        let rows =
            if fits { found.into_shape_with_order((batch.len(), self.width)).ok() } else { None };
        rows.ok_or_else(|| {
            let graph = graph.name().to_owned();
            SegmentError::OutputShape { graph, output: self.output, found: shape, expected }
        })
    }
}

/// Embeddings of encoders that know the modality differ by it.
fn remembered_as(key: &str, modality_id: Option<i64>) -> String {
    modality_id.map_or_else(|| key.to_owned(), |id| format!("{id}\u{0}{key}"))
}

/// Adds `modality_id` `[1]` where a graph asks for it.
pub(super) fn push_modality(graph: &Graph, modality_id: Option<i64>, inputs: &mut Inputs) {
    if let (Some(id), Some(_)) = (modality_id, graph.input("modality_id")) {
        inputs.push("modality_id", Tensor::I64(ArrayD::from_elem(vec![1], id)));
    }
}
