//! What an ONNX file says of its weights and outputs, read without loading it.
//!
//! Only the few fields that a memory plan needs are looked at (onnx.proto3: ModelProto.graph,
//! GraphProto.node, initializer and output, TensorProto.dims and data_type); everything else,
//! the weights themselves first of all, is skipped by seeking.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::RuntimeError;

/// Longest field that is read rather than skipped; names and shapes are far shorter.
const FIELD_BYTES_MAX: u64 = 1 << 20;

/// Element types of TensorProto that matter here.
const FLOAT16: u64 = 10;
const BFLOAT16: u64 = 16;

/// What a graph weighs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OnnxFacts {
    initializers: Vec<Initializer>,
    /// Names that a `Cast` node reads.
    cast: BTreeSet<String>,
    /// Elements of each output whose shape is fixed; free axes count as one.
    pub output_elements: Vec<u64>,
    /// Length of the file, without external data.
    pub file_bytes: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Initializer {
    name: String,
    elements: u64,
    element_type: u64,
}

impl OnnxFacts {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read or is no ONNX file.
    pub fn read(path: &Path) -> Result<Self, RuntimeError> {
        let read_error = |source| RuntimeError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read_error)?;
        let file_bytes = file.metadata().map_err(read_error)?.len();
        let mut facts = Self { file_bytes, ..Self::default() };
        let mut reader = Fields { bytes: BufReader::new(file), at: 0 };
        let read = reader.each(file_bytes, &mut |reader, field| match (field.number, field.size) {
            (7, Some(size)) => facts.read_graph(reader, size),
            _ => Ok(()),
        });
        read.map_err(|reason| RuntimeError::Malformed { path: path.to_owned(), reason })?;
        Ok(facts)
    }

    fn read_graph(&mut self, reader: &mut Fields, size: u64) -> Result<(), String> {
        let end = reader.at + size;
        reader.each(end, &mut |reader, field| match (field.number, field.size) {
            (1, Some(size)) => self.read_node(reader, size),
            (5, Some(size)) => self.read_initializer(reader, size),
            (12, Some(size)) => self.read_output(reader, size),
            _ => Ok(()),
        })
    }

    fn read_node(&mut self, reader: &mut Fields, size: u64) -> Result<(), String> {
        let (end, mut inputs, mut is_cast) = (reader.at + size, Vec::new(), false);
        reader.each(end, &mut |reader, field| {
            match (field.number, field.size) {
                (1, Some(size)) => inputs.push(reader.text(size)?),
                (4, Some(size)) => is_cast = reader.text(size)? == "Cast",
                _ => {}
            }
            Ok(())
        })?;
        if is_cast {
            self.cast.extend(inputs);
        }
        Ok(())
    }

    fn read_initializer(&mut self, reader: &mut Fields, size: u64) -> Result<(), String> {
        let end = reader.at + size;
        let mut found = Initializer { elements: 1, ..Initializer::default() };
        reader.each(end, &mut |reader, field| {
            match (field.number, field.size) {
                (1, None) => found.elements = found.elements.saturating_mul(field.value),
                (1, Some(size)) => {
                    let end = reader.at + size;
                    while reader.at < end {
                        let dim = reader.varint()?;
                        found.elements = found.elements.saturating_mul(dim);
                    }
                }
                (2, None) => found.element_type = field.value,
                (8, Some(size)) => found.name = reader.text(size)?,
                _ => {}
            }
            Ok(())
        })?;
        self.initializers.push(found);
        Ok(())
    }

    /// ValueInfoProto.type.tensor_type.shape.dim.dim_value.
    fn read_output(&mut self, reader: &mut Fields, size: u64) -> Result<(), String> {
        let mut elements = 1_u64;
        let end = reader.at + size;
        reader.descend(end, &[2, 1, 2, 1], &mut |_, field| {
            if let (1, None) = (field.number, field.size) {
                elements = elements.saturating_mul(field.value);
            }
            Ok(())
        })?;
        self.output_elements.push(elements);
        Ok(())
    }

    /// Bytes that the weights take once loaded.
    ///
    /// Half-precision weights become single precision where a `Cast` follows them (ONNX Runtime
    /// folds it) and wherever they are computed with on the CPU, which has no half-precision
    /// kernels.
    pub fn weight_bytes(&self, on_cpu: bool) -> u64 {
        let bytes = |weights: &Initializer| {
            let is_half = matches!(weights.element_type, FLOAT16 | BFLOAT16);
            let widened = is_half && (on_cpu || self.cast.contains(&weights.name));
            let bits = if widened { 32 } else { bits_of(weights.element_type) };
            weights.elements.saturating_mul(bits).div_ceil(8)
        };
        self.initializers.iter().map(bytes).fold(0, u64::saturating_add)
    }
}

/// TensorProto.DataType.
fn bits_of(element_type: u64) -> u64 {
    match element_type {
        7 | 11 | 13 | 14 => 64,
        4 | 5 | FLOAT16 | BFLOAT16 => 16,
        2 | 3 | 9 | 17..=20 => 8,
        21..=23 => 4,
        _ => 32,
    }
}

/// One field of a protocol buffer.
struct Field {
    number: u64,
    /// The value of a field that is a number.
    value: u64,
    /// The length of a field that has one.
    size: Option<u64>,
}

/// A protocol buffer, read field by field.
struct Fields {
    bytes: BufReader<File>,
    at: u64,
}

type Visit<'a> = dyn FnMut(&mut Fields, &Field) -> Result<(), String> + 'a;

impl Fields {
    /// Visits every field up to `end`; what the visitor leaves of a field is skipped.
    fn each(&mut self, end: u64, visit: &mut Visit<'_>) -> Result<(), String> {
        while self.at < end {
            let key = self.varint()?;
            let mut field = Field { number: key >> 3, value: 0, size: None };
            let after = match key & 7 {
                0 => {
                    field.value = self.varint()?;
                    self.at
                }
                1 => self.at + 8,
                2 => {
                    let size = self.varint()?;
                    field.size = Some(size);
                    self.at.saturating_add(size)
                }
                5 => self.at + 4,
                wire => return Err(format!("wire type {wire} at byte {} is no ONNX", self.at)),
            };
            if after > end {
                return Err(format!("field {} ends after byte {end}", field.number));
            }
            visit(self, &field)?;
            self.skip_to(after)?;
        }
        Ok(())
    }

    /// Follows nested messages of these numbers and visits the fields of the innermost.
    fn descend(&mut self, end: u64, path: &[u64], visit: &mut Visit<'_>) -> Result<(), String> {
        let Some((first, rest)) = path.split_first() else { return self.each(end, visit) };
        self.each(end, &mut |reader, field| match field.size {
            Some(size) if field.number == *first => {
                let end = reader.at + size;
                reader.descend(end, rest, visit)
            }
            _ => Ok(()),
        })
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.bytes.read_exact(&mut byte).map_err(|e| e.to_string())?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(format!("number before byte {} does not end", self.at))
    }

    fn text(&mut self, size: u64) -> Result<String, String> {
        if size > FIELD_BYTES_MAX {
            return Err(format!("name of {size} bytes at byte {}", self.at));
        }
        let mut bytes = vec![0; size as usize];
        self.bytes.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        self.at += size;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip_to(&mut self, target: u64) -> Result<(), String> {
        let missing = target as i64 - self.at as i64;
        if missing != 0 {
            self.bytes.seek_relative(missing).map_err(|e| e.to_string())?;
            self.at = target;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_weights_and_outputs_of_real_graphs() {
        // 32 x 512 half-precision embeddings behind a Cast; the file is little longer.
        let path = Path::new("tests/data/qwen3-vl-parity/embed_tokens.onnx");
        let facts = OnnxFacts::read(path).expect("a sound file");
        assert_eq!((facts.weight_bytes(true), facts.weight_bytes(false)), (65_536, 65_536));
        assert_eq!(facts.output_elements, [32]);
        let path = Path::new("tests/data/tiny-voxtell/image_encoder.onnx");
        let facts = OnnxFacts::read(path).expect("a sound file");
        assert_eq!(facts.output_elements, [6 * 16 * 20 * 16, 8 * 8 * 10 * 8]);
    }

    #[test]
    fn refuses_what_is_no_onnx_file() {
        for bytes in [&b"not onnx at all"[..], b"\x3a\xff\xff\xff\x7f", b"\x3a\x02\x08"] {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), bytes).expect("writable");
            let error = OnnxFacts::read(file.path()).expect_err("refused");
            assert!(matches!(error, RuntimeError::Malformed { .. }), "{error}");
        }
    }
}
