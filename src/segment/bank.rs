//! Text embeddings that a bundle brings along, in a safetensors file.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use ndarray::{Array1, Array2};
use serde::Deserialize;

use crate::runtime::RuntimeError;

/// The tensor that holds the embeddings.
const TENSOR: &str = "embeddings";

/// Longest header that is read; one of 100 000 prompts has a few megabytes.
const HEADER_BYTES_MAX: u64 = 64 << 20;

/// Precomputed embeddings by prompt.
#[derive(Debug, Default)]
pub(super) struct Bank {
    rows: HashMap<String, usize>,
    embeddings: Array2<f32>,
}

/// One tensor of the header.
#[derive(Deserialize)]
struct TensorEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl Bank {
    /// Reads the bank at `path`: tensor `embeddings` `[prompt, value]` in F16 or F32, and metadata
    /// `prompts`, a JSON list with one prompt per row.
    ///
    /// # Errors
    /// When the file cannot be read or is not that.
    pub fn read(path: &Path, width: usize) -> Result<Self, RuntimeError> {
        let bytes = std::fs::read(path)
            .map_err(|source| RuntimeError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes, width)
            .map_err(|reason| RuntimeError::Malformed { path: path.to_owned(), reason })
    }

    fn parse(bytes: &[u8], width: usize) -> Result<Self, String> {
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or("it is shorter than 8 bytes")?;
        let length = u64::from_le_bytes(*length);
        if length > HEADER_BYTES_MAX || length > rest.len() as u64 {
            return Err(format!("its header of {length} bytes does not fit"));
        }
        let (header, data) = rest.split_at(length as usize);
        let mut header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(header).map_err(|e| format!("its header: {e}"))?;
        let prompts = header
            .get("__metadata__")
            .and_then(|metadata| metadata["prompts"].as_str())
            .ok_or("its metadata has no prompts")?;
        let prompts: Vec<String> =
            serde_json::from_str(prompts).map_err(|e| format!("its prompts: {e}"))?;
        let entry = header.remove(TENSOR).ok_or(format!("it has no tensor {TENSOR}"))?;
        let entry: TensorEntry =
            serde_json::from_value(entry).map_err(|e| format!("tensor {TENSOR}: {e}"))?;
        let expected = [prompts.len(), width];
        if entry.shape != expected {
            return Err(format!("tensor {TENSOR} has shape {:?}, not {expected:?}", entry.shape));
        }
        let [first, last] = entry.data_offsets;
        let data = data.get(first..last).ok_or(format!("tensor {TENSOR} lies outside the file"))?;
        let values: Vec<f32> = match entry.dtype.as_str() {
            "F32" => chunks(data).map(f32::from_le_bytes).collect(),
            "F16" => chunks(data).map(|b| half::f16::from_le_bytes(b).to_f32()).collect(),
            other => return Err(format!("tensor {TENSOR} is {other}, not F16 or F32")),
        };
        let found = values.len();
        let embeddings = Array2::from_shape_vec(expected, values)
            .map_err(|_| format!("tensor {TENSOR} has {found} values, not {expected:?}"))?;
        if embeddings.iter().any(|value| !value.is_finite()) {
            return Err(format!("tensor {TENSOR} has a value that is not finite"));
        }
        let rows = prompts.into_iter().enumerate().map(|(row, prompt)| (prompt, row)).collect();
        Ok(Self { rows, embeddings })
    }

    /// The embedding of a prompt, if the bank knows it.
    pub fn get(&self, prompt: &str) -> Option<Array1<f32>> {
        self.rows.get(prompt).map(|row| self.embeddings.row(*row).to_owned())
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn reads_both_precisions() {
        let header = |dtype: &str, last: usize| {
            format!(
                r#"{{"__metadata__":{{"prompts":"[\"liver\",\"spleen\"]"}},
                "embeddings":{{"dtype":"{dtype}","shape":[2,2],"data_offsets":[0,{last}]}}}}"#
            )
        };
        let values = [1.0_f32, -2.5, 0.0, 4.0];
        let single: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let half: Vec<u8> =
            values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        for bytes in [file(&header("F32", 16), &single), file(&header("F16", 8), &half)] {
            let bank = Bank::parse(&bytes, 2).expect("a sound bank");
            assert_eq!(bank.get("spleen"), Some(Array1::from(vec![0.0, 4.0])));
            assert_eq!(bank.get("Spleen"), None);
        }
        let refused = |bytes: &[u8], width: usize| Bank::parse(bytes, width).expect_err("refused");
        assert!(refused(&file(&header("F32", 16), &single), 3).contains("not [2, 3]"));
        assert!(refused(&file(&header("F32", 17), &single), 2).contains("outside the file"));
        assert!(refused(&file(&header("I8", 16), &single), 2).contains("I8"));
        assert!(refused(&file("{}", &[]), 2).contains("no prompts"));
        assert!(refused(&u64::MAX.to_le_bytes(), 2).contains("does not fit"));
        assert!(refused(b"short", 2).contains("8 bytes"));
    }
}
