//! Segmentations, ours and those of other writers, back onto a series.

use std::borrow::Cow;
use std::collections::BTreeMap;

use dicom_dictionary_std::{tags, uids};
use ndarray::Array3;

use super::elements::Object;
use super::pack::{BitFrames, FrameLayout};
use super::placement::{Placement, Placer};
use super::{SegError, SegSegment};
use crate::dicom::{Attributes, Instance};
use crate::error::Finding;
use crate::runtime::vocabulary::Code;
use crate::series::Series;

/// Transfer syntaxes whose pixel data are plain bits once the data set is read; the last is the
/// retired Explicit VR Big Endian.
const PLAIN: [&str; 4] = [
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    "1.2.840.10008.1.2.2",
];

/// What a segment says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentDescription {
    /// Segment Number (0062,0004).
    pub number: u16,
    /// Segment Label (0062,0005); empty when absent.
    pub label: String,
    /// Segmented Property Category, when coded.
    pub category: Option<Code>,
    /// Segmented Property Type, when coded.
    pub property_type: Option<Code>,
    /// Segmented Property Type Modifiers.
    pub modifiers: Vec<Code>,
    /// Tracking UID (0062,0021).
    pub tracking_uid: Option<String>,
    /// Recommended Display CIELab Value (0062,000D).
    pub cielab: Option<[u16; 3]>,
}

/// How the pixels say which segment they belong to.
enum Pixels<'a> {
    /// One bit a pixel, one segment a frame.
    Binary(Cow<'a, [u8]>),
    /// The pixel's value is the segment's number.
    LabelMap,
}

/// One frame, and where it lies.
struct PlacedFrame {
    /// Its index in the Segmentation, from 0.
    seg_index: usize,
    /// The series' frame, from 0; none when it lies on none.
    series_index: Option<usize>,
    /// Its segment; none in a label map.
    segment_number: Option<u16>,
}

/// A Segmentation laid onto a series; masks are made one at a time.
pub struct SegReader<'a> {
    seg: &'a Instance,
    shape: [usize; 3],
    segments: BTreeMap<u16, SegmentDescription>,
    frames: Vec<PlacedFrame>,
    pixels: Pixels<'a>,
}

/// Reads every segment of a BINARY or LABELMAP Segmentation onto the frames of `series`.
///
/// Frames are matched by position, and by the source instance they name where positions repeat;
/// frames that are left out are empty.
///
/// # Errors
/// [`SegError`] when the instance is something else, lies on another grid, or holds a voxel off
/// the frames of the series.
pub fn read(seg: &Instance, series: &Series) -> Result<(Vec<SegSegment>, Vec<Finding>), SegError> {
    let (reader, findings) = SegReader::open(seg, series)?;
    let segments = reader.segments().map(|description| {
        let mask = reader.mask(description.number)?;
        Ok(SegSegment { description: description.clone(), mask })
    });
    Ok((segments.collect::<Result<_, SegError>>()?, findings))
}

impl<'a> SegReader<'a> {
    /// Reads what the Segmentation says and places its frames; no mask yet.
    ///
    /// # Errors
    /// As [`read`], apart from voxels off the series.
    pub fn open(seg: &'a Instance, series: &Series) -> Result<(Self, Vec<Finding>), SegError> {
        let class = &seg.identity().sop_class_uid;
        if ![uids::SEGMENTATION_STORAGE, uids::LABEL_MAP_SEGMENTATION_STORAGE]
            .contains(&class.as_str())
        {
            return Err(SegError::NotASegmentation { sop_class_uid: class.clone() });
        }
        let mut findings = Vec::new();
        let pixels = pixels(seg)?;
        let is_label_map = matches!(pixels, Pixels::LabelMap);
        let frames = placed_frames(seg, series, is_label_map, &mut findings)?;
        let segments = seg.items(tags::SEGMENT_SEQUENCE).iter().filter_map(describe);
        // In a label map, number 0 is what belongs to no segment.
        let segments = segments.filter(|s| !is_label_map || s.number > 0);
        let segments: BTreeMap<u16, _> = segments.map(|s| (s.number, s)).collect();
        if segments.is_empty() {
            return Err(SegError::Missing { name: "Segment Sequence" });
        }
        let shape = [series.frames.len(), series.rows, series.columns];
        let reader = Self { seg, shape, segments, frames, pixels };
        findings.extend(reader.layout_finding()?);
        Ok((reader, findings))
    }

    /// The segments, by number.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentDescription> {
        self.segments.values()
    }

    /// The mask of one segment, `[frame, row, column]` on the frames of the series.
    ///
    /// # Errors
    /// [`SegError::NoSuchSegment`]; [`SegError::FrameOffSeries`] when a voxel lies on no frame of
    /// the series; [`SegError::Decode`].
    pub fn mask(&self, number: u16) -> Result<Array3<bool>, SegError> {
        if !self.segments.contains_key(&number) {
            return Err(SegError::NoSuchSegment { number });
        }
        let frame_size = self.shape[1] * self.shape[2];
        let mut values = vec![false; self.shape[0] * frame_size];
        let mut off_series = vec![false; frame_size];
        for frame in &self.frames {
            if frame.segment_number.is_some_and(|of| of != number) {
                continue;
            }
            match frame.series_index {
                Some(index) => {
                    let start = index * frame_size;
                    self.add_frame(frame, number, &mut values[start..start + frame_size])?;
                }
                None => {
                    self.add_frame(frame, number, &mut off_series)?;
                    if off_series.contains(&true) {
                        return Err(SegError::FrameOffSeries { frame: frame.seg_index + 1 });
                    }
                }
            }
        }
        Ok(Array3::from_shape_vec(self.shape, values).expect("values were made for this shape"))
    }

    fn add_frame(
        &self,
        frame: &PlacedFrame,
        number: u16,
        mask: &mut [bool],
    ) -> Result<(), SegError> {
        match &self.pixels {
            Pixels::Binary(bytes) => self.bits(bytes)?.add_to(frame.seg_index, mask),
            Pixels::LabelMap => {
                let frame_number = frame.seg_index as u32 + 1;
                let decoded = self.seg.decode_frame(frame_number);
                let decoded =
                    decoded.map_err(|source| SegError::Decode { frame: frame_number, source })?;
                for (inside, value) in mask.iter_mut().zip(decoded.values) {
                    *inside |= value == i32::from(number);
                }
            }
        }
        Ok(())
    }

    fn bits<'b>(&self, bytes: &'b [u8]) -> Result<BitFrames<'b>, SegError> {
        BitFrames::new(bytes, self.shape[1] * self.shape[2], self.frames.len())
    }

    fn layout_finding(&self) -> Result<Option<Finding>, SegError> {
        let Pixels::Binary(bytes) = &self.pixels else { return Ok(None) };
        let is_aligned = self.bits(bytes)?.layout() == FrameLayout::ByteAligned;
        let message = "each frame starts at a byte border, against PS3.5 8.1.1";
        Ok(is_aligned.then(|| Finding::new("segmentation_frames_padded", message)))
    }
}

fn pixels(seg: &Instance) -> Result<Pixels<'_>, SegError> {
    let kind = seg.string_opt(tags::SEGMENTATION_TYPE).unwrap_or_default();
    let syntax = &seg.identity().transfer_syntax_uid;
    match kind.as_str() {
        "LABELMAP" => Ok(Pixels::LabelMap),
        "BINARY" if PLAIN.contains(&syntax.as_str()) => {
            let element = seg.object().get(tags::PIXEL_DATA);
            let bytes = element.and_then(|element| element.value().to_bytes().ok());
            bytes.map(Pixels::Binary).ok_or(SegError::Missing { name: "Pixel Data" })
        }
        "BINARY" => Err(SegError::Unsupported(format!("transfer syntax {syntax} for single bits"))),
        other => Err(SegError::Unsupported(format!("segmentation type {other:?}"))),
    }
}

fn placed_frames(
    seg: &Instance,
    series: &Series,
    is_label_map: bool,
    findings: &mut Vec<Finding>,
) -> Result<Vec<PlacedFrame>, SegError> {
    let placer = Placer::new(seg, series)?;
    let per_frame = seg.items(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    if per_frame.is_empty() {
        return Err(SegError::Missing { name: "Per-Frame Functional Groups Sequence" });
    }
    let (mut frames, mut despite_count) = (Vec::with_capacity(per_frame.len()), 0);
    for (seg_index, number) in (0..per_frame.len()).zip(1..) {
        let series_index = match placer.place(number)? {
            Placement::On(index) => Some(index),
            Placement::OnDespiteReference(index) => {
                despite_count += 1;
                Some(index)
            }
            Placement::Off => None,
        };
        let segment_number = if is_label_map { None } else { Some(segment_of(seg, number)?) };
        frames.push(PlacedFrame { seg_index, series_index, segment_number });
    }
    if despite_count > 0 {
        let message = format!("{despite_count} frames lie elsewhere than the source they name");
        findings.push(Finding::new("segmentation_reference_differs", message));
    }
    Ok(frames)
}

fn segment_of(seg: &Instance, frame_number: u32) -> Result<u16, SegError> {
    seg.functional_group(frame_number, tags::SEGMENT_IDENTIFICATION_SEQUENCE)
        .and_then(|group| group.u16_opt(tags::REFERENCED_SEGMENT_NUMBER).ok()?)
        .ok_or(SegError::Missing { name: "Referenced Segment Number" })
}

fn describe(item: &Object) -> Option<SegmentDescription> {
    let number = item.u16_opt(tags::SEGMENT_NUMBER).ok()??;
    let property_type = item.item(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE);
    let modifiers = property_type
        .map(|item| item.items(tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE))
        .unwrap_or_default();
    let cielab = item.get(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE);
    Some(SegmentDescription {
        number,
        label: item.string_opt(tags::SEGMENT_LABEL).unwrap_or_default(),
        category: item.item(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE).and_then(code),
        property_type: property_type.and_then(code),
        modifiers: modifiers.iter().filter_map(code).collect(),
        tracking_uid: item.string_opt(tags::TRACKING_UID),
        cielab: cielab.and_then(|e| e.value().to_multi_int::<u16>().ok()?.try_into().ok()),
    })
}

fn code(item: &Object) -> Option<Code> {
    let value = [tags::CODE_VALUE, tags::LONG_CODE_VALUE, tags::URN_CODE_VALUE]
        .into_iter()
        .find_map(|tag| item.string_opt(tag))?;
    Some(Code {
        value,
        scheme: item.string_opt(tags::CODING_SCHEME_DESIGNATOR).unwrap_or_default(),
        meaning: item.string_opt(tags::CODE_MEANING).unwrap_or_default(),
    })
}
