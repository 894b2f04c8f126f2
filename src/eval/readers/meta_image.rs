//! MetaImage files (`.mha`), as ITK writes them (itk.org/Wiki/MetaIO/Documentation).
//!
//! A header of `Key = value` lines ends with `ElementDataFile = LOCAL`; voxels follow, column
//! fastest, perhaps zlib-compressed. `TransformMatrix` holds the directions of the columns' axis,
//! then the rows', then the slices', in LPS, as ITK means it.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;
use ndarray::Array3;

use crate::eval::EvalError;
use crate::geometry::{Affine, PatientPoint, VolumeGeometry};

/// Files with more voxels than this are refused.
const VOXEL_COUNT_MAX: usize = 1 << 31;

/// Voxels `[slice, row, column]` and where they lie.
pub type MetaImage = (Array3<f32>, VolumeGeometry);

/// Reads a three-dimensional image of one channel.
///
/// # Errors
/// When a header line is missing or the voxels do not fill the image.
pub fn read(path: &Path) -> Result<MetaImage, EvalError> {
    let bytes = std::fs::read(path).map_err(EvalError::io(path))?;
    parse(&bytes).map_err(|reason| EvalError::Malformed { path: path.to_owned(), reason })
}

fn parse(bytes: &[u8]) -> Result<MetaImage, String> {
    let (header, data) = split(bytes)?;
    let text = |key: &str| header.get(key).map(String::as_str);
    let numbers = |key: &str| -> Result<Option<Vec<f64>>, String> {
        let Some(line) = text(key) else { return Ok(None) };
        let parsed: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        parsed.map(Some).map_err(|_| format!("{key} is {line:?}"))
    };
    let three = |key: &str, default: [f64; 3]| -> Result<[f64; 3], String> {
        let found = numbers(key)?.unwrap_or(default.to_vec());
        found.try_into().map_err(|found: Vec<f64>| format!("{key} has {} values", found.len()))
    };
    if text("NDims") != Some("3") {
        return Err(format!("NDims is {:?}, not 3", text("NDims").unwrap_or("missing")));
    }
    if text("ElementNumberOfChannels").is_some_and(|count| count != "1") {
        return Err("it has more than one channel".to_owned());
    }
    if text("BinaryDataByteOrderMSB") == Some("True") {
        return Err("its voxels are big-endian".to_owned());
    }
    let size = three("DimSize", [0.0; 3])?.map(|count| count.max(0.0) as usize);
    let count = size.iter().try_fold(1_usize, |all, n| all.checked_mul(*n));
    let count = count
        .filter(|count| (1..=VOXEL_COUNT_MAX).contains(count))
        .ok_or_else(|| format!("DimSize is {size:?}"))?;
    let kind = text("ElementType").unwrap_or("missing");
    let width = match kind {
        "MET_UCHAR" | "MET_CHAR" => 1,
        "MET_SHORT" | "MET_USHORT" => 2,
        "MET_INT" | "MET_UINT" | "MET_FLOAT" => 4,
        "MET_DOUBLE" => 8,
        other => return Err(format!("ElementType is {other:?}")),
    };
    let data = inflated(data, text("CompressedData") == Some("True"), count * width)?;
    let values: Vec<f32> = data.chunks_exact(width).map(|bytes| value(kind, bytes)).collect();
    let voxels = Array3::from_shape_vec([size[2], size[1], size[0]], values)
        .map_err(|error| error.to_string())?;
    let spacing = match text("ElementSpacing") {
        Some(_) => three("ElementSpacing", [1.0; 3])?,
        None => three("ElementSize", [1.0; 3])?,
    };
    let directions = numbers("TransformMatrix")?
        .unwrap_or_else(|| vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    if directions.len() != 9 {
        return Err(format!("TransformMatrix has {} values", directions.len()));
    }
    let origin = if text("Offset").is_some() { "Offset" } else { "Position" };
    let step = |axis: usize| -> [f64; 3] {
        std::array::from_fn(|i| directions[3 * axis + i] * spacing[axis])
    };
    let affine =
        Affine::from_columns([step(2), step(1), step(0)], PatientPoint(three(origin, [0.0; 3])?));
    let geometry = VolumeGeometry::new([size[2], size[1], size[0]], affine);
    Ok((voxels, geometry.map_err(|error| error.to_string())?))
}

type Header = BTreeMap<String, String>;

fn split(bytes: &[u8]) -> Result<(Header, &[u8]), String> {
    let mut header = Header::new();
    let mut rest = bytes;
    while header.len() < 200 {
        let end = rest.iter().take(4096).position(|byte| *byte == b'\n');
        let end = end.ok_or("its header has no ElementDataFile line")?;
        let line = String::from_utf8_lossy(&rest[..end]);
        rest = &rest[end + 1..];
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("its header has the line {:?}", line.trim()))?;
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        if key == "ElementDataFile" {
            if value != "LOCAL" {
                return Err(format!("its voxels are in another file, {value:?}"));
            }
            return Ok((header, rest));
        }
        header.insert(key, value);
    }
    Err("its header has more than 200 lines".to_owned())
}

fn inflated(data: &[u8], compressed: bool, size: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    if compressed {
        let read = ZlibDecoder::new(data).take(size as u64).read_to_end(&mut out);
        read.map_err(|error| format!("its voxels cannot be inflated: {error}"))?;
    } else {
        out.extend(data.iter().take(size));
    }
    if out.len() < size {
        return Err(format!("it holds {} bytes of voxels, not {size}", out.len()));
    }
    Ok(out)
}

fn value(kind: &str, bytes: &[u8]) -> f32 {
    let two = |bytes: &[u8]| [bytes[0], bytes[1]];
    let four = |bytes: &[u8]| [bytes[0], bytes[1], bytes[2], bytes[3]];
    match kind {
        "MET_UCHAR" => f32::from(bytes[0]),
        "MET_CHAR" => f32::from(bytes[0] as i8),
        "MET_SHORT" => f32::from(i16::from_le_bytes(two(bytes))),
        "MET_USHORT" => f32::from(u16::from_le_bytes(two(bytes))),
        "MET_INT" => i32::from_le_bytes(four(bytes)) as f32,
        "MET_UINT" => u32::from_le_bytes(four(bytes)) as f32,
        "MET_FLOAT" => f32::from_le_bytes(four(bytes)),
        _ => bytes.try_into().map_or(0.0, |bytes| f64::from_le_bytes(bytes) as f32),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::geometry::VoxelPoint;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [header.as_bytes(), data].concat()
    }

    #[test]
    fn reads_axes_and_types_plain_and_compressed() {
        let header = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = ZIP\n\
                      TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 10 20 30\n\
                      ElementSpacing = 0.5 2 3\nDimSize = 2 3 1\nElementType = MET_SHORT\n\
                      ElementDataFile = LOCAL\n";
        let values: Vec<u8> = (0..6_i16).flat_map(|v| (v - 1000).to_le_bytes()).collect();
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&values).expect("a vector takes bytes");
        let packed = packer.finish().expect("a vector takes bytes");
        for (word, data) in [("False", values.clone()), ("True", packed)] {
            let (voxels, grid) =
                parse(&file(&header.replace("ZIP", word), &data)).expect("a good file");
            assert_eq!(voxels.dim(), (1, 3, 2));
            assert_eq!(voxels[[0, 2, 1]], -995.0);
            let at = |point| grid.voxel_to_patient().apply(VoxelPoint(point)).0;
            assert_eq!(at([0.0, 0.0, 1.0]), [10.0, 20.5, 30.0]);
            assert_eq!(at([0.0, 1.0, 0.0]), [8.0, 20.0, 30.0]);
            assert_eq!(at([1.0, 0.0, 0.0]), [10.0, 20.0, 33.0]);
        }
        let short = parse(&file(&header.replace("ZIP", "False"), &values[..5]));
        assert_eq!(short.expect_err("too short"), "it holds 5 bytes of voxels, not 12");
        let other = parse(&file(&header.replace("LOCAL", "x.raw"), &[]));
        assert!(other.expect_err("elsewhere").contains("another file"));
    }
}
