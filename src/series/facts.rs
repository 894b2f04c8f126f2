//! What one frame says about itself, as far as stacking needs it.

use std::cmp::Ordering;

use dicom_dictionary_std::tags;

use super::attributes::{FrameAttributes, exactly, number, numbers, texts};
use crate::dicom::Instance;
use crate::geometry::norm;

/// One frame that can be placed in the patient.
#[derive(Debug, Clone)]
pub(super) struct FrameFacts {
    pub(super) instance_index: usize,
    pub(super) frame_number: u32,
    pub(super) position: [f64; 3],
    pub(super) orientation: [[f64; 3]; 2],
    pub(super) pixel_spacing_mm: [f64; 2],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) frame_of_reference_uid: Option<String>,
    pub(super) stack_id: Option<String>,
    /// What may differ between frames at one position, in the order of [`Condition::ALL`].
    pub(super) conditions: [Option<ConditionValue>; Condition::ALL.len()],
    /// When it was made: earlier frames are preferred where nothing else tells two apart.
    pub(super) rank: (String, i64, usize, u32),
}

/// Why a frame cannot be placed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Unplaced {
    NoPixels,
    Localizer,
    Colour(String),
    Missing(&'static str),
    Bad { attribute: &'static str, found: String },
}

/// What tells frames at one position apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    ImageType,
    TemporalPosition,
    BValue,
    GradientDirection,
    Echo,
    TriggerTime,
    Acquisition,
}

impl Condition {
    pub(super) const ALL: [Self; 7] = [
        Self::ImageType,
        Self::TemporalPosition,
        Self::BValue,
        Self::GradientDirection,
        Self::Echo,
        Self::TriggerTime,
        Self::Acquisition,
    ];

    /// The finding's code and the plural noun of its sentence.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ImageType => ("several_image_types", "image types"),
            Self::TemporalPosition => ("several_temporal_positions", "temporal positions"),
            Self::BValue => ("several_b_values", "b-values"),
            Self::GradientDirection => ("several_gradient_directions", "gradient directions"),
            Self::Echo => ("several_echoes", "echoes"),
            Self::TriggerTime => ("several_trigger_times", "trigger times"),
            Self::Acquisition => ("several_acquisitions", "acquisitions"),
        }
    }
}

/// A value of a condition; the smallest is preferred.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ConditionValue {
    pub(super) order: f64,
    pub(super) text: String,
}

impl ConditionValue {
    fn number(value: f64) -> Self {
        Self { order: value, text: format!("{value}") }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.order.total_cmp(&other.order).then_with(|| self.text.cmp(&other.text))
    }
}

/// Reads every frame of `instance`.
pub(super) fn read(
    instance: &Instance,
    instance_index: usize,
) -> Vec<Result<FrameFacts, Unplaced>> {
    match instance.frame_count() {
        0 => vec![Err(Unplaced::NoPixels)],
        count => (1..=count).map(|number| read_frame(instance, instance_index, number)).collect(),
    }
}

fn read_frame(
    instance: &Instance,
    instance_index: usize,
    frame_number: u32,
) -> Result<FrameFacts, Unplaced> {
    let attributes = FrameAttributes::of(instance, frame_number);
    let image_type = image_type(&attributes);
    if image_type.iter().any(|value| value == "LOCALIZER") {
        return Err(Unplaced::Localizer);
    }
    if attributes.root(tags::SAMPLES_PER_PIXEL).and_then(number).is_some_and(|n| n > 1.0) {
        let photometric = attributes.root(tags::PHOTOMETRIC_INTERPRETATION).map(texts);
        return Err(Unplaced::Colour(photometric.unwrap_or_default().join("\\")));
    }
    let (rows, columns) = matrix(&attributes)?;
    let uid = |tag| attributes.root(tag).map(texts).and_then(|values| values.into_iter().next());
    Ok(FrameFacts {
        instance_index,
        frame_number,
        position: position(&attributes, instance.frame_count())?,
        orientation: orientation(&attributes)?,
        pixel_spacing_mm: pixel_spacing(&attributes)?,
        rows,
        columns,
        frame_of_reference_uid: uid(tags::FRAME_OF_REFERENCE_UID),
        stack_id: attributes
            .anywhere(tags::FRAME_CONTENT_SEQUENCE, tags::STACK_ID)
            .map(|element| texts(element).join("\\")),
        conditions: conditions(&attributes, &image_type),
        rank: rank(&attributes, instance_index, frame_number),
    })
}

fn image_type(attributes: &FrameAttributes<'_>) -> Vec<String> {
    [tags::MR_IMAGE_FRAME_TYPE_SEQUENCE, tags::CT_IMAGE_FRAME_TYPE_SEQUENCE]
        .into_iter()
        .find_map(|group| attributes.grouped(group, tags::FRAME_TYPE))
        .or_else(|| attributes.root(tags::IMAGE_TYPE))
        .map(texts)
        .unwrap_or_default()
}

fn matrix(attributes: &FrameAttributes<'_>) -> Result<(usize, usize), Unplaced> {
    let count = |tag, name| {
        let value = attributes.root(tag).and_then(number).ok_or(Unplaced::Missing(name))?;
        if value >= 1.0 {
            Ok(value as usize)
        } else {
            Err(Unplaced::Bad { attribute: name, found: format!("{value}") })
        }
    };
    Ok((count(tags::ROWS, "Rows (0028,0010)")?, count(tags::COLUMNS, "Columns (0028,0011)")?))
}

/// One position in the root cannot be that of several frames: then it is not looked at.
fn position(attributes: &FrameAttributes<'_>, frame_count: u32) -> Result<[f64; 3], Unplaced> {
    const NAME: &str = "Image Position (Patient) (0020,0032)";
    let tag = tags::IMAGE_POSITION_PATIENT;
    let element = attributes
        .grouped(tags::PLANE_POSITION_SEQUENCE, tag)
        .or_else(|| if frame_count == 1 { attributes.root(tag) } else { None })
        .ok_or(Unplaced::Missing(NAME))?;
    exactly(element)
        .ok_or_else(|| Unplaced::Bad { attribute: NAME, found: texts(element).join("\\") })
}

/// Two unit vectors. Accepted when their lengths are within 1 % of 1 and they are perpendicular
/// within 0.6 degrees (a scalar product of 0.01); the lengths are then made exactly 1.
fn orientation(attributes: &FrameAttributes<'_>) -> Result<[[f64; 3]; 2], Unplaced> {
    const NAME: &str = "Image Orientation (Patient) (0020,0037)";
    let element = attributes
        .anywhere(tags::PLANE_ORIENTATION_SEQUENCE, tags::IMAGE_ORIENTATION_PATIENT)
        .ok_or(Unplaced::Missing(NAME))?;
    let bad = || Unplaced::Bad { attribute: NAME, found: texts(element).join("\\") };
    let [a, b, c, d, e, f] = exactly(element).ok_or_else(bad)?;
    let (row, column) = ([a, b, c], [d, e, f]);
    let lengths_are_one = [row, column].iter().all(|v| (norm(*v) - 1.0).abs() <= 0.01);
    if !lengths_are_one || crate::geometry::dot(row, column).abs() > 0.01 {
        return Err(bad());
    }
    Ok([row, column].map(|vector| vector.map(|v| v / norm(vector))))
}

fn pixel_spacing(attributes: &FrameAttributes<'_>) -> Result<[f64; 2], Unplaced> {
    const NAME: &str = "Pixel Spacing (0028,0030)";
    let element = attributes
        .anywhere(tags::PIXEL_MEASURES_SEQUENCE, tags::PIXEL_SPACING)
        .ok_or(Unplaced::Missing(NAME))?;
    exactly(element)
        .filter(|spacing: &[f64; 2]| spacing.iter().all(|mm| *mm > 0.0))
        .ok_or_else(|| Unplaced::Bad { attribute: NAME, found: texts(element).join("\\") })
}

fn conditions(
    attributes: &FrameAttributes<'_>,
    image_type: &[String],
) -> [Option<ConditionValue>; Condition::ALL.len()] {
    let content = tags::FRAME_CONTENT_SEQUENCE;
    let numeric = |element: Option<_>| element.and_then(number).map(ConditionValue::number);
    Condition::ALL.map(|condition| match condition {
        Condition::ImageType => Some(image_type_value(attributes, image_type)),
        Condition::TemporalPosition => numeric(
            attributes
                .grouped(content, tags::TEMPORAL_POSITION_INDEX)
                .or_else(|| attributes.root(tags::TEMPORAL_POSITION_IDENTIFIER)),
        ),
        Condition::BValue => {
            numeric(attributes.anywhere(tags::MR_DIFFUSION_SEQUENCE, tags::DIFFUSION_B_VALUE))
        }
        Condition::GradientDirection => gradient_direction(attributes),
        Condition::Echo => numeric(
            attributes
                .grouped(tags::MR_ECHO_SEQUENCE, tags::EFFECTIVE_ECHO_TIME)
                .or_else(|| attributes.root(tags::ECHO_NUMBERS))
                .or_else(|| attributes.root(tags::ECHO_TIME)),
        ),
        Condition::TriggerTime => numeric(
            attributes
                .grouped(
                    tags::CARDIAC_SYNCHRONIZATION_SEQUENCE,
                    tags::NOMINAL_CARDIAC_TRIGGER_DELAY_TIME,
                )
                .or_else(|| attributes.root(tags::TRIGGER_TIME)),
        ),
        Condition::Acquisition => numeric(
            attributes
                .grouped(content, tags::FRAME_ACQUISITION_NUMBER)
                .or_else(|| attributes.root(tags::ACQUISITION_NUMBER)),
        ),
    })
}

/// Original before derived, magnitude before phase, real and imaginary parts.
fn image_type_value(attributes: &FrameAttributes<'_>, image_type: &[String]) -> ConditionValue {
    let component = attributes
        .anywhere(tags::MR_IMAGE_FRAME_TYPE_SEQUENCE, tags::COMPLEX_IMAGE_COMPONENT)
        .map(texts)
        .unwrap_or_default();
    let values: Vec<&str> = image_type.iter().chain(&component).map(String::as_str).collect();
    let derived = values.first() == Some(&"DERIVED");
    let magnitude = values.iter().any(|v| matches!(*v, "M" | "MAGNITUDE") || v.starts_with("M_"));
    ConditionValue {
        order: f64::from(u8::from(derived) * 2 + u8::from(!magnitude)),
        text: values.join("\\"),
    }
}

fn gradient_direction(attributes: &FrameAttributes<'_>) -> Option<ConditionValue> {
    let element = attributes
        .nested(
            tags::MR_DIFFUSION_SEQUENCE,
            tags::DIFFUSION_GRADIENT_DIRECTION_SEQUENCE,
            tags::DIFFUSION_GRADIENT_ORIENTATION,
        )
        .or_else(|| attributes.root(tags::DIFFUSION_GRADIENT_ORIENTATION))?;
    let parts: Vec<String> = numbers(element)?.iter().map(|v| format!("{v:.4}")).collect();
    Some(ConditionValue { order: 0.0, text: parts.join("\\") })
}

fn rank(
    attributes: &FrameAttributes<'_>,
    instance_index: usize,
    frame_number: u32,
) -> (String, i64, usize, u32) {
    let time = attributes
        .grouped(tags::FRAME_CONTENT_SEQUENCE, tags::FRAME_ACQUISITION_DATE_TIME)
        .or_else(|| attributes.root(tags::ACQUISITION_DATE_TIME))
        .or_else(|| attributes.root(tags::ACQUISITION_TIME))
        .or_else(|| attributes.root(tags::CONTENT_TIME))
        .map(|element| texts(element).join(""))
        .unwrap_or_default();
    let instance_number = attributes.root(tags::INSTANCE_NUMBER).and_then(number).unwrap_or(0.0);
    (time, instance_number as i64, instance_index, frame_number)
}
