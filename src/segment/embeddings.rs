//! Prompts into text embeddings, remembered by prompt.

use std::collections::HashMap;
use std::sync::Mutex;

use ndarray::{Array1, Array2};
use tokenizers::Tokenizer;

use super::SegmentError;
use crate::runtime::manifest::{BackboneManifest, TextSettings};
use crate::runtime::{Bundle, Graph, Inputs, Tensor};
use crate::threads::Cancel;

/// Most prompts in one run of the text encoder.
const BATCH_MAX: usize = 32;

/// Tokenizer, text encoder and what they made before.
pub(super) struct TextEncoder {
    tokenizer: Tokenizer,
    suffix: Option<u32>,
    settings: TextSettings,
    embedding_size: usize,
    graph: Graph,
    cache: Mutex<Cache>,
}

impl TextEncoder {
    /// Loads the tokenizer that the manifest names.
    pub fn load(
        bundle: &Bundle,
        manifest: &BackboneManifest,
        graph: Graph,
        cached_max: usize,
    ) -> Result<Self, SegmentError> {
        let file = &manifest.text_tokenizer;
        let fault = |reason: String| SegmentError::Tokenizer { file: file.clone(), reason };
        let tokenizer =
            Tokenizer::from_file(bundle.path(file)).map_err(|error| fault(error.to_string()))?;
        let settings = manifest.text.clone();
        let suffix = match &settings.suffix_token {
            Some(token) => {
                Some(tokenizer.token_to_id(token).ok_or_else(|| fault(format!("has no {token}")))?)
            }
            None => None,
        };
        let cache = Mutex::new(Cache::new(cached_max));
        let embedding_size = manifest.embedding_size;
        Ok(Self { tokenizer, suffix, settings, embedding_size, graph, cache })
    }

    /// One embedding per prompt, `[prompt, value]`.
    pub fn embed(&self, prompts: &[String], cancel: &Cancel) -> Result<Array2<f32>, SegmentError> {
        let keys: Vec<String> = prompts
            .iter()
            .map(|p| if self.settings.lowercase { p.to_lowercase() } else { p.clone() })
            .collect();
        let mut known: HashMap<&str, Array1<f32>> = HashMap::new();
        let mut missing: Vec<(usize, &str)> = Vec::new();
        {
            let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (index, key) in keys.iter().enumerate() {
                if let Some(embedding) = cache.get(key) {
                    known.insert(key, embedding);
                } else if !missing.iter().any(|(_, other)| other == key) {
                    missing.push((index, key));
                }
            }
        }
        for batch in missing.chunks(BATCH_MAX) {
            let rows = self.run(batch, cancel)?;
            let mut cache = self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for ((_, key), row) in batch.iter().zip(rows.rows()) {
                cache.put(key, row.to_owned());
                known.insert(key, row.to_owned());
            }
        }
        let mut out = Array2::zeros([keys.len(), self.embedding_size]);
        for (mut row, key) in out.rows_mut().into_iter().zip(&keys) {
            row.assign(&known[key.as_str()]);
        }
        Ok(out)
    }

    /// Encodes up to [`BATCH_MAX`] prompts, padded on the right; padding is masked.
    fn run(&self, batch: &[(usize, &str)], cancel: &Cancel) -> Result<Array2<f32>, SegmentError> {
        let rows: Vec<Vec<u32>> = batch
            .iter()
            .map(|(index, text)| self.tokens(*index, text))
            .collect::<Result<_, _>>()?;
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        let padding = i64::from(self.suffix.unwrap_or(0));
        let mut ids = Array2::from_elem([rows.len(), length], padding);
        let mut mask = Array2::zeros([rows.len(), length]);
        for (row, tokens) in rows.iter().enumerate() {
            for (column, token) in tokens.iter().enumerate() {
                ids[[row, column]] = i64::from(*token);
                mask[[row, column]] = 1;
            }
        }
        let inputs = Inputs::new()
            .with("input_ids", Tensor::I64(ids.into_dyn()))
            .with("attention_mask", Tensor::I64(mask.into_dyn()));
        let found = self.graph.run(inputs, cancel)?.take_f32("text_embedding")?;
        let (expected, shape) = (vec![rows.len(), self.embedding_size], found.shape().to_vec());
        found.into_dimensionality().ok().filter(|_| shape == expected).ok_or_else(|| {
            let graph = self.graph.name().to_owned();
            SegmentError::OutputShape { graph, output: "text_embedding", found: shape, expected }
        })
    }

    fn tokens(&self, index: usize, text: &str) -> Result<Vec<u32>, SegmentError> {
        let text = self.settings.template.replace("{text}", text);
        let encoding = self.tokenizer.encode(text, false).map_err(|error| {
            SegmentError::Tokenizer { file: "prompt".to_owned(), reason: error.to_string() }
        })?;
        let mut tokens = encoding.get_ids().to_vec();
        tokens.extend(self.suffix);
        let limit = self.settings.max_tokens;
        if tokens.len() > limit {
            let (number, token_count) = (index + 1, tokens.len());
            return Err(SegmentError::PromptTooLong { number, token_count, limit });
        }
        Ok(tokens)
    }
}

/// The embeddings used last, up to a number of them.
struct Cache {
    capacity: usize,
    clock: u64,
    entries: HashMap<String, (u64, Array1<f32>)>,
}

impl Cache {
    fn new(capacity: usize) -> Self {
        Self { capacity, clock: 0, entries: HashMap::new() }
    }

    fn get(&mut self, prompt: &str) -> Option<Array1<f32>> {
        self.clock += 1;
        let (used, embedding) = self.entries.get_mut(prompt)?;
        *used = self.clock;
        Some(embedding.clone())
    }

    fn put(&mut self, prompt: &str, embedding: Array1<f32>) {
        if self.capacity == 0 {
            return;
        }
        self.clock += 1;
        if self.entries.len() >= self.capacity && !self.entries.contains_key(prompt) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&key);
            }
        }
        self.entries.insert(prompt.to_owned(), (self.clock, embedding));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_what_was_used_longest_ago() {
        let mut cache = Cache::new(2);
        cache.put("a", Array1::from_elem(1, 1.0));
        cache.put("b", Array1::from_elem(1, 2.0));
        assert!(cache.get("a").is_some());
        cache.put("c", Array1::from_elem(1, 3.0));
        assert_eq!(cache.get("b"), None);
        assert_eq!(cache.get("a"), Some(Array1::from_elem(1, 1.0)));
        cache.put("a", Array1::from_elem(1, 4.0));
        assert_eq!(cache.entries.len(), 2);
        assert_eq!(cache.get("a"), Some(Array1::from_elem(1, 4.0)));
        let mut none = Cache::new(0);
        none.put("a", Array1::from_elem(1, 1.0));
        assert_eq!(none.get("a"), None);
    }
}
