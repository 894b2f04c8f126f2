//! Which frames there are, where they lie and what they come from: dimensions and functional
//! groups (PS3.3 C.7.6.16, C.7.6.17, C.8.20.3).

use dicom_core::{Tag, VR};
use dicom_dictionary_std::tags;
use ndarray::{ArrayView2, Axis};

use super::elements::{Object, PutElements, code_item, dcm_code, decimal_string};
use super::{EmptyFrames, SegInput, SegmentationType, source};
use crate::geometry::{dot, norm};
use crate::series::{Series, SliceSpacing};

/// Frames further off the normal than this, per step, make a sheared stack.
const SHEAR_MM: f64 = 0.01;

/// One frame of the Segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FramePlan {
    /// Which of [`SegInput::segments`], from 0; none in a label map, whose frames have them all.
    pub(super) segment_index: Option<usize>,
    /// Which of [`Series::frames`], from 0.
    pub(super) frame_index: usize,
}

/// The frames to write, each in the order of the series, and segment by segment when BINARY; and
/// the segments (from 0) that have no voxel.
pub(super) fn plan(input: &SegInput<'_>) -> (Vec<FramePlan>, Vec<usize>) {
    let mut frames = Vec::new();
    let mut empty_segments = Vec::new();
    let mut any_filled = vec![false; input.series.frames.len()];
    for (segment_index, segment) in input.segments.iter().enumerate() {
        let filled: Vec<bool> = segment.mask.axis_iter(Axis(0)).map(has_any).collect();
        if !filled.contains(&true) {
            empty_segments.push(segment_index);
        }
        match input.options.segmentation_type {
            SegmentationType::Binary => frames.extend(kept(input, Some(segment_index), &filled)),
            SegmentationType::Labelmap => {
                any_filled.iter_mut().zip(filled).for_each(|(any, filled)| *any |= filled);
            }
        }
    }
    if input.options.segmentation_type == SegmentationType::Labelmap {
        frames.extend(kept(input, None, &any_filled));
    }
    (frames, empty_segments)
}

/// The frames that stay; where none has a voxel, the first does.
fn kept(input: &SegInput<'_>, segment_index: Option<usize>, filled: &[bool]) -> Vec<FramePlan> {
    let is_empty = !filled.contains(&true);
    let is_kept = |frame_index: &usize| match input.options.empty_frames {
        EmptyFrames::Keep => true,
        EmptyFrames::Drop => filled[*frame_index] || (is_empty && *frame_index == 0),
    };
    let kept = (0..filled.len()).filter(is_kept);
    kept.map(|frame_index| FramePlan { segment_index, frame_index }).collect()
}

fn has_any(frame: ArrayView2<'_, bool>) -> bool {
    match frame.to_slice() {
        Some(values) => values.contains(&true),
        None => frame.iter().any(|inside| *inside),
    }
}

/// The first two segments (numbers) that share a voxel.
pub(super) fn overlapping(input: &SegInput<'_>) -> Option<(usize, usize)> {
    if input.segments.len() < 2 {
        return None;
    }
    let mut owner = vec![0_usize; input.series.rows * input.series.columns];
    (0..input.series.frames.len()).find_map(|frame_index| {
        owner.fill(0);
        (1..).zip(&input.segments).find_map(|(number, segment)| {
            let frame = segment.mask.index_axis(Axis(0), frame_index);
            if !has_any(frame) {
                return None;
            }
            owner.iter_mut().zip(frame).filter(|(_, inside)| **inside).find_map(|(owner, _)| {
                let before = std::mem::replace(owner, number);
                (before != 0).then_some((before, number))
            })
        })
    })
}

/// Dimensions: segment number (BINARY only), then position. `organization_uid` ties them together.
pub(super) fn put_dimensions(object: &mut Object, organization_uid: &str, input: &SegInput<'_>) {
    let series = input.series;
    let mut organization = Object::new_empty();
    organization.put_text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization_uid);
    object.put_items(tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![organization]);
    let index = |pointer: Tag, group: Tag, label: &str| {
        let mut item = Object::new_empty();
        item.put_tag(tags::DIMENSION_INDEX_POINTER, pointer);
        item.put_tag(tags::FUNCTIONAL_GROUP_POINTER, group);
        item.put_text(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization_uid);
        item.put_text(tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label);
        item
    };
    let segment = index(
        tags::REFERENCED_SEGMENT_NUMBER,
        tags::SEGMENT_IDENTIFICATION_SEQUENCE,
        "Segment Number",
    );
    let position = index(
        tags::IMAGE_POSITION_PATIENT,
        tags::PLANE_POSITION_SEQUENCE,
        "Image Position (Patient)",
    );
    let dimensions = match input.options.segmentation_type {
        SegmentationType::Binary => vec![segment, position],
        SegmentationType::Labelmap => vec![position],
    };
    object.put_items(tags::DIMENSION_INDEX_SEQUENCE, dimensions);
    if even_step_mm(series).is_some() && !is_sheared(series) {
        object.put_text(tags::DIMENSION_ORGANIZATION_TYPE, VR::CS, "3D");
    }
}

/// The one step along the normal between all frames, in millimetres; none when uneven.
pub(super) fn even_step_mm(series: &Series) -> Option<f64> {
    if series.frames.len() < 2 {
        return None;
    }
    match series.slice_spacing() {
        SliceSpacing::Even { step_mm } => Some(step_mm),
        SliceSpacing::Missing { .. } | SliceSpacing::Uneven { .. } => None,
    }
}

/// What stands for a thickness that the source does not tell: the typical step.
fn typical_step(series: &Series) -> Option<String> {
    (series.frames.len() > 1).then(|| decimal_string(series.slice_spacing().step_mm()))
}

/// Whether the stack leans (gantry tilt).
fn is_sheared(series: &Series) -> bool {
    let normal = series.normal();
    series.frames.windows(2).any(|pair| {
        let (a, b) = (pair[0].position.0, pair[1].position.0);
        let step = [b[0] - a[0], b[1] - a[1], b[2] - a[2]];
        let along = dot(step, normal);
        norm([0, 1, 2].map(|i| step[i] - along * normal[i])) > SHEAR_MM
    })
}

/// What all frames share: pixel measures and plane orientation.
///
/// Spacing Between Slices is there only when one number is true for all frames.
pub(super) fn shared_item(series: &Series) -> Object {
    let mut measures = Object::new_empty();
    measures.put_texts(tags::PIXEL_SPACING, VR::DS, source::pixel_spacing(series));
    if let Some(step) = even_step_mm(series) {
        measures.put_text(tags::SPACING_BETWEEN_SLICES, VR::DS, &decimal_string(step));
    }
    if let Some(thickness) = source::slice_thickness(series).or_else(|| typical_step(series)) {
        measures.put_text(tags::SLICE_THICKNESS, VR::DS, &thickness);
    }
    let mut orientation = Object::new_empty();
    orientation.put_texts(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, source::orientation(series));
    let mut item = Object::new_empty();
    item.put_items(tags::PIXEL_MEASURES_SEQUENCE, vec![measures]);
    item.put_items(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]);
    item
}

/// One item for each frame.
pub(super) fn per_frame_items(series: &Series, plan: &[FramePlan]) -> Vec<Object> {
    plan.iter().map(|frame| frame_item(series, *frame)).collect()
}

fn frame_item(series: &Series, plan: FramePlan) -> Object {
    let frame = &series.frames[plan.frame_index];
    let segment_number = plan.segment_index.map(|index| index as u16 + 1);
    let mut item = Object::new_empty();

    let mut content = Object::new_empty();
    let position_index = plan.frame_index as u32 + 1;
    let indices: Vec<u32> =
        segment_number.map(u32::from).into_iter().chain([position_index]).collect();
    content.put_u32(tags::DIMENSION_INDEX_VALUES, &indices);
    item.put_items(tags::FRAME_CONTENT_SEQUENCE, vec![content]);

    let mut position = Object::new_empty();
    let strings = source::position(series, frame);
    position.put_texts(tags::IMAGE_POSITION_PATIENT, VR::DS, strings);
    item.put_items(tags::PLANE_POSITION_SEQUENCE, vec![position]);

    if let Some(number) = segment_number {
        let mut segment = Object::new_empty();
        segment.put_u16(tags::REFERENCED_SEGMENT_NUMBER, &[number]);
        item.put_items(tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![segment]);
    }

    item.put_items(tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation_item(series, plan)]);
    item
}

/// Derivation Image: which source frame this frame segments (PS3.3 C.7.6.16.2.6).
fn derivation_item(series: &Series, plan: FramePlan) -> Object {
    let frame = &series.frames[plan.frame_index];
    let instance = &series.instances[frame.instance_index];
    let mut image = Object::new_empty();
    put_reference(&mut image, instance.identity());
    if source::is_multi_frame(instance.object()) {
        let number = frame.frame_number.to_string();
        image.put_text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &number);
    }
    let purpose = dcm_code("121322", "Source image for image processing operation");
    image.put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&purpose)]);
    image.put_text(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES");

    let mut derivation = Object::new_empty();
    derivation.put_items(tags::SOURCE_IMAGE_SEQUENCE, vec![image]);
    let code = dcm_code("113076", "Segmentation");
    derivation.put_items(tags::DERIVATION_CODE_SEQUENCE, vec![code_item(&code)]);
    derivation
}

/// Names an instance (PS3.3 Table 10-11).
pub(super) fn put_reference(item: &mut Object, identity: &crate::dicom::Identity) {
    item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &identity.sop_class_uid);
    item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, identity.sop_instance.as_str());
}
