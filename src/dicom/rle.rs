//! RLE Lossless (PS3.5 Annex G), bounds-checked; dicom-rs's own decoder panics on broken headers
//! and knows no 32-bit pixels.

/// How the pixels of a frame are cut into byte planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planes {
    /// Rows times columns.
    pub(super) pixel_count: usize,
    /// Samples per Pixel (0028,0002).
    pub(super) samples: usize,
    /// Bytes of one sample.
    pub(super) sample_bytes: usize,
}

/// Decodes one frame to little-endian samples; those of a pixel follow each other.
///
/// Each byte plane of each sample is a segment, the most significant first (PS3.5 §G.2).
///
/// # Errors
/// A sentence with the numbers found when the header or a segment is broken.
pub(super) fn decode(frame: &[u8], planes: Planes) -> Result<Vec<u8>, String> {
    let Planes { pixel_count, sample_bytes, .. } = planes;
    let pixel_bytes = planes.samples * sample_bytes;
    let segments = segments(frame, pixel_bytes)?;
    // Two bytes give at most 128: an impossible promise costs no memory.
    if let Some(segment) = segments.iter().find(|segment| segment.len() * 64 < pixel_count) {
        let size = segment.len();
        return Err(format!("a segment of {size} bytes cannot give {pixel_count}"));
    }
    let mut pixels = vec![0_u8; pixel_count * pixel_bytes];
    let mut plane = Vec::with_capacity(pixel_count);
    for (index, segment) in segments.into_iter().enumerate() {
        plane.clear();
        unpack(segment, pixel_count, &mut plane);
        if plane.len() < pixel_count {
            let found = plane.len();
            return Err(format!("segment {} gives {found} of {pixel_count} bytes", index + 1));
        }
        let (sample, byte) = (index / sample_bytes, index % sample_bytes);
        let first = (sample + 1) * sample_bytes - 1 - byte;
        let places = pixels.iter_mut().skip(first).step_by(pixel_bytes);
        places.zip(&plane).for_each(|(place, byte)| *place = *byte);
    }
    Ok(pixels)
}

/// Splits a frame by its header: the number of segments and 15 offsets (PS3.5 §G.5).
fn segments(frame: &[u8], expected: usize) -> Result<Vec<&[u8]>, String> {
    const HEADER_BYTES: usize = 64;
    let header = frame
        .get(..HEADER_BYTES)
        .ok_or_else(|| format!("{} bytes are too few for the header", frame.len()))?;
    let words: Vec<usize> =
        header.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word) as usize).collect();
    if words[0] != expected {
        return Err(format!("{} segments where {expected} are needed", words[0]));
    }
    let offsets = &words[1..=expected];
    let ends = offsets.iter().skip(1).copied().chain([frame.len()]);
    offsets
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            let is_sane = *start >= HEADER_BYTES && *start <= end;
            let segment = if is_sane { frame.get(*start..end) } else { None };
            segment.ok_or_else(|| {
                format!("a segment from byte {start} to {end} in {} bytes", frame.len())
            })
        })
        .collect()
}

/// Unpacks PackBits until `count` bytes are there or the segment ends.
fn unpack(mut segment: &[u8], count: usize, plane: &mut Vec<u8>) {
    while let Some((&control, rest)) = segment.split_first() {
        let room = count - plane.len();
        if room == 0 {
            return;
        }
        segment = match control {
            // A literal run of the next 1 to 128 bytes.
            0..=127 => {
                let length = (usize::from(control) + 1).min(rest.len());
                plane.extend_from_slice(&rest[..length.min(room)]);
                &rest[length..]
            }
            128 => rest,
            // The next byte, 2 to 128 times.
            129..=255 => {
                let Some((&byte, rest)) = rest.split_first() else { return };
                plane.resize(plane.len() + (257 - usize::from(control)).min(room), byte);
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(segments: &[&[u8]]) -> Vec<u8> {
        let mut offset = 64_u32;
        let mut words = vec![segments.len() as u32];
        for segment in segments {
            words.push(offset);
            offset += segment.len() as u32;
        }
        words.resize(16, 0);
        let header = words.iter().flat_map(|word| word.to_le_bytes());
        header.chain(segments.concat()).collect()
    }

    #[test]
    fn interleaves_byte_planes_of_literal_and_repeated_runs() {
        let coded = frame(&[&[254, 1], &[2, 7, 8, 9, 128]]);
        let planes =
            |pixel_count, samples, sample_bytes| Planes { pixel_count, samples, sample_bytes };
        assert_eq!(decode(&coded, planes(3, 1, 2)), Ok(vec![7, 1, 8, 1, 9, 1]));
        let wide = frame(&[&[0, 4], &[0, 3], &[0, 2], &[0, 1]]);
        assert_eq!(decode(&wide, planes(1, 1, 4)), Ok(vec![1, 2, 3, 4]));
        assert_eq!(decode(&wide, planes(1, 2, 2)), Ok(vec![3, 4, 1, 2]));
        assert_eq!(decode(&wide, planes(1, 4, 1)), Ok(vec![4, 3, 2, 1]));
    }

    #[test]
    fn refuses_broken_headers_and_short_segments() {
        let check = |frame: &[u8], expected: &str| {
            let planes = Planes { pixel_count: 3, samples: 1, sample_bytes: 1 };
            assert_eq!(decode(frame, planes), Err(expected.to_owned()));
        };
        check(&[0; 10], "10 bytes are too few for the header");
        check(&[0; 64], "0 segments where 1 are needed");
        check(&frame(&[&[254, 1], &[254, 1]]), "2 segments where 1 are needed");
        check(&frame(&[&[255, 1]]), "segment 1 gives 2 of 3 bytes");
        let mut beyond = frame(&[&[254, 1]]);
        beyond[4..8].copy_from_slice(&1000_u32.to_le_bytes());
        check(&beyond, "a segment from byte 1000 to 66 in 66 bytes");
    }
}
