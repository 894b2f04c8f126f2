//! Which fragments of encapsulated pixel data are a frame (PS3.5 §A.4).

use dicom_core::Tag;
use dicom_core::value::PixelFragmentSequence;
use dicom_object::InMemDicomObject;
use std::borrow::Cow;

/// A fragment that ends a frame has its end marker in its last bytes, before padding.
const TAIL_BYTES: usize = 10;

/// How codestreams start: JPEG and JPEG-LS, JPEG 2000 bare and boxed, JPEG XL bare and boxed.
const STARTS: [&[u8]; 5] =
    [b"\xFF\xD8\xFF", b"\xFF\x4F\xFF\x51", b"\0\0\0\x0CjP  ", b"\xFF\x0A", b"\0\0\0\x0CJXL "];

/// Which fragments belong to which frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FrameIndex {
    /// For each frame its first fragment, and at the end the number of fragments.
    bounds: Vec<usize>,
}

impl FrameIndex {
    /// Finds the frames, once for all of them.
    ///
    /// Tried in this order: all fragments are the single frame, the Extended Offset Table, the
    /// Basic Offset Table, one fragment a frame, and the start and end markers of image
    /// codestreams. A table that points between fragments, as it does after 4 GiB, is passed over.
    ///
    /// # Errors
    /// A sentence with the numbers found when none of them gives `frame_count` frames.
    pub(super) fn new(
        object: &InMemDicomObject,
        sequence: &PixelFragmentSequence<Vec<u8>>,
        frame_count: u32,
    ) -> Result<Self, String> {
        let fragments = sequence.fragments();
        let count = frame_count as usize;
        if fragments.is_empty() {
            return Err("there are no fragments".to_owned());
        }
        let basic = || sequence.offset_table().iter().copied().map(u64::from);
        let mut firsts = if count == 1 {
            vec![0]
        } else if let Some(firsts) = by_offsets(fragments, extended_offsets(object), count) {
            firsts
        } else if let Some(firsts) = by_offsets(fragments, basic().collect(), count) {
            firsts
        } else if fragments.len() == count {
            (0..count).collect()
        } else {
            by_markers(fragments, count)?
        };
        firsts.push(fragments.len());
        Ok(Self { bounds: firsts })
    }

    /// For each frame its first fragment, and at the end the number of fragments.
    pub(super) fn bounds(&self) -> &[usize] {
        &self.bounds
    }

    /// The compressed bytes of one frame; `number` counts from 1.
    pub(super) fn frame_bytes<'a>(
        &self,
        sequence: &'a PixelFragmentSequence<Vec<u8>>,
        number: u32,
    ) -> Option<Cow<'a, [u8]>> {
        let index = (number as usize).checked_sub(1)?;
        let range = *self.bounds.get(index)?..*self.bounds.get(index + 1)?;
        match sequence.fragments().get(range)? {
            [one] => Some(Cow::Borrowed(one.as_slice())),
            many => Some(Cow::Owned(many.concat())),
        }
    }
}

/// Reads Extended Offset Table (7FE0,0001), OV (PS3.3 §C.7.6.3.1.8).
fn extended_offsets(object: &InMemDicomObject) -> Vec<u64> {
    let element = object.get(Tag(0x7FE0, 0x0001));
    element.and_then(|element| element.to_multi_int().ok()).unwrap_or_default()
}

/// Finds first fragments by offsets from the first byte of the first fragment's item tag; each
/// item has 8 bytes before its data.
fn by_offsets(fragments: &[Vec<u8>], offsets: Vec<u64>, count: usize) -> Option<Vec<usize>> {
    if offsets.len() != count {
        return None;
    }
    let mut start = 0;
    let mut at = 0;
    let mut firsts = Vec::with_capacity(count);
    for offset in offsets {
        // Offsets grow: the search goes on where the last one ended.
        while start < offset {
            start += fragments.get(at)?.len() as u64 + 8;
            at += 1;
        }
        let is_new = firsts.last() != Some(&at);
        if start != offset || at >= fragments.len() || !is_new {
            return None;
        }
        firsts.push(at);
    }
    (firsts.first() == Some(&0)).then_some(firsts)
}

/// Finds first fragments by how image codestreams start, or by how the JPEG family ends.
fn by_markers(fragments: &[Vec<u8>], count: usize) -> Result<Vec<usize>, String> {
    let positions = |test: fn(&[u8]) -> bool| -> Vec<usize> {
        (0..fragments.len()).filter(|at| test(&fragments[*at])).collect()
    };
    let starts = positions(|fragment| STARTS.iter().any(|start| fragment.starts_with(start)));
    if starts.len() == count && starts.first() == Some(&0) {
        return Ok(starts);
    }
    let ends = positions(|fragment| {
        let tail = &fragment[fragment.len().saturating_sub(TAIL_BYTES)..];
        tail.windows(2).any(|pair| pair == [0xFF, 0xD9])
    });
    if ends.len() == count {
        let after_ends = ends[..count - 1].iter().map(|end| end + 1);
        return Ok(std::iter::once(0).chain(after_ends).collect());
    }
    let (fragments, starts, ends) = (fragments.len(), starts.len(), ends.len());
    Err(format!("{fragments} fragments with {starts} starts and {ends} ends for {count} frames"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue, VR};

    fn check(sequence: PixelFragmentSequence<Vec<u8>>, count: u32, frames: &[&[u8]]) {
        let index = FrameIndex::new(&InMemDicomObject::new_empty(), &sequence, count);
        let index = index.expect("the frames can be found");
        for (number, expected) in (1..).zip(frames) {
            let found = index.frame_bytes(&sequence, number);
            assert_eq!(&*found.expect("the frame is there"), *expected);
        }
        assert_eq!(index.frame_bytes(&sequence, 0), None);
        assert_eq!(index.frame_bytes(&sequence, count + 1), None);
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
        let index = FrameIndex::new(&object, &sequence, 2).expect("the frames can be found");
        assert_eq!(index.bounds, [0, 1, 3]);
    }

    #[test]
    fn passes_over_tables_that_point_between_fragments() {
        let parts = [&b"ab"[..], b"cd"];
        for table in [vec![0, 9], vec![0, 0], vec![0, 1000], vec![10, 0], vec![2, 10]] {
            let sequence = PixelFragmentSequence::new(table, fragments(&parts));
            check(sequence, 2, &parts);
        }
        let sequence = PixelFragmentSequence::new(vec![0, 9], fragments(&[b"ab", b"cd", b"ef"]));
        let index = FrameIndex::new(&InMemDicomObject::new_empty(), &sequence, 2);
        assert_eq!(index, Err("3 fragments with 0 starts and 0 ends for 2 frames".to_owned()));
    }
}
