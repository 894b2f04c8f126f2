//! Which fragments of encapsulated pixel data are a frame (PS3.5 §A.4).

use dicom_core::Tag;
use dicom_core::value::PixelFragmentSequence;
use dicom_object::InMemDicomObject;
use std::borrow::Cow;
use std::ops::Range;

use super::DicomError;

/// A fragment that ends a frame has its end marker in its last bytes, before padding.
const TAIL_BYTES: usize = 10;

/// How codestreams start: JPEG and JPEG-LS, JPEG 2000 bare and boxed, JPEG XL bare and boxed.
const STARTS: [&[u8]; 5] =
    [b"\xFF\xD8\xFF", b"\xFF\x4F\xFF\x51", b"\0\0\0\x0CjP  ", b"\xFF\x0A", b"\0\0\0\x0CJXL "];

/// The compressed bytes of one frame. `number` counts from 1 and is at most `frame_count`.
///
/// Tried in this order: all fragments of a single frame, the Extended Offset Table, the Basic
/// Offset Table, one fragment a frame, and the start and end
/// markers of image codestreams.
///
/// # Errors
/// [`DicomError::BadFragments`] when none of them gives the frame.
pub(super) fn frame_bytes<'a>(
    object: &InMemDicomObject,
    sequence: &'a PixelFragmentSequence<Vec<u8>>,
    number: u32,
    frame_count: u32,
) -> Result<Cow<'a, [u8]>, DicomError> {
    let fragments = sequence.fragments();
    let bad = |problem: String| DicomError::BadFragments { number, problem };
    let count = frame_count as usize;
    let index = (number as usize).saturating_sub(1);
    if fragments.is_empty() {
        return Err(bad("there are no fragments".to_owned()));
    }
    let extended = extended_offsets(object);
    let basic: Vec<u64> = sequence.offset_table().iter().copied().map(u64::from).collect();
    let range = if count == 1 {
        0..fragments.len()
    } else if extended.len() == count {
        between_offsets(fragments, &extended, index).map_err(bad)?
    } else if basic.len() == count {
        between_offsets(fragments, &basic, index).map_err(bad)?
    } else if fragments.len() == count {
        index..index + 1
    } else {
        by_markers(fragments, count, index).map_err(bad)?
    };
    match &fragments[range] {
        [one] => Ok(Cow::Borrowed(one.as_slice())),
        many => Ok(Cow::Owned(many.concat())),
    }
}

/// Reads Extended Offset Table (7FE0,0001), OV (PS3.3 §C.7.6.3.1.8).
fn extended_offsets(object: &InMemDicomObject) -> Vec<u64> {
    let element = object.get(Tag(0x7FE0, 0x0001));
    element.and_then(|element| element.to_multi_int().ok()).unwrap_or_default()
}

/// Offsets count from the first byte of the first fragment's item tag; each item has 8 bytes
/// before its data.
fn between_offsets(
    fragments: &[Vec<u8>],
    offsets: &[u64],
    index: usize,
) -> Result<Range<usize>, String> {
    let find = |offset: u64| {
        let mut start = 0_u64;
        let position = fragments.iter().position(|fragment| {
            let is_here = start == offset;
            start += fragment.len() as u64 + 8;
            is_here
        });
        position.ok_or_else(|| format!("no fragment starts at offset {offset}"))
    };
    let first = find(offsets[index])?;
    let end = match offsets.get(index + 1) {
        Some(offset) => find(*offset)?,
        None => fragments.len(),
    };
    if first < end { Ok(first..end) } else { Err("offsets do not grow".to_owned()) }
}

/// Finds frames by how image codestreams start, or by how the JPEG family ends.
fn by_markers(fragments: &[Vec<u8>], count: usize, index: usize) -> Result<Range<usize>, String> {
    let positions = |test: fn(&[u8]) -> bool| -> Vec<usize> {
        (0..fragments.len()).filter(|at| test(&fragments[*at])).collect()
    };
    let starts = positions(|fragment| STARTS.iter().any(|start| fragment.starts_with(start)));
    if starts.len() == count && starts.first() == Some(&0) {
        let end = starts.get(index + 1).copied().unwrap_or(fragments.len());
        return Ok(starts[index]..end);
    }
    let ends = positions(|fragment| {
        let tail = &fragment[fragment.len().saturating_sub(TAIL_BYTES)..];
        tail.windows(2).any(|pair| pair == [0xFF, 0xD9])
    });
    if ends.len() == count {
        let first = if index == 0 { 0 } else { ends[index - 1] + 1 };
        return Ok(first..ends[index] + 1);
    }
    let (fragments, starts, ends) = (fragments.len(), starts.len(), ends.len());
    Err(format!("{fragments} fragments with {starts} starts and {ends} ends for {count} frames"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue, VR};

    fn check(sequence: PixelFragmentSequence<Vec<u8>>, count: u32, frames: &[&[u8]]) {
        let object = InMemDicomObject::new_empty();
        for (index, expected) in frames.iter().enumerate() {
            let found = frame_bytes(&object, &sequence, index as u32 + 1, count);
            assert_eq!(&*found.expect("the frame is there"), *expected);
        }
    }

    fn fragments(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        parts.iter().map(|part| part.to_vec()).collect()
    }

    #[test]
    fn finds_frames_by_table_by_count_and_by_markers() {
        let parts = fragments(&[b"ab", b"cdef", b"gh"]);
        check(PixelFragmentSequence::new_fragments(parts.clone()), 1, &[b"abcdefgh"]);
        check(PixelFragmentSequence::new_fragments(parts.clone()), 3, &[b"ab", b"cdef", b"gh"]);
        check(PixelFragmentSequence::new(vec![0, 22], parts.clone()), 2, &[b"abcdef", b"gh"]);
        let ended = fragments(&[b"a", b"b\xff\xd9\0", b"c\xff\xd9"]);
        let expected: [&[u8]; 2] = [b"ab\xff\xd9\0", b"c\xff\xd9"];
        check(PixelFragmentSequence::new_fragments(ended), 2, &expected);
        let started = fragments(&[b"\xff\xd8\xffa", b"b", b"\xff\xd8\xffc"]);
        let expected: [&[u8]; 2] = [b"\xff\xd8\xffab", b"\xff\xd8\xffc"];
        check(PixelFragmentSequence::new_fragments(started), 2, &expected);
    }

    #[test]
    fn prefers_the_extended_offset_table() {
        let table = PrimitiveValue::U64([0, 10].into());
        let element = DataElement::new(Tag(0x7FE0, 0x0001), VR::OV, table);
        let object = InMemDicomObject::from_element_iter([element]);
        let parts = fragments(&[b"ab", b"cdef", b"gh"]);
        let sequence = PixelFragmentSequence::new(vec![0, 22], parts);
        let second = frame_bytes(&object, &sequence, 2, 2).expect("the frame is there");
        assert_eq!(&*second, b"cdefgh");
    }

    #[test]
    fn refuses_offsets_between_fragments() {
        let object = InMemDicomObject::new_empty();
        let sequence = PixelFragmentSequence::new(vec![0, 9], fragments(&[b"ab", b"cd"]));
        let error = frame_bytes(&object, &sequence, 2, 2).expect_err("9 is inside a fragment");
        assert!(error.to_string().contains("offset 9"), "{error}");
    }
}
