//! Where the frames of a Segmentation lie on a series.

use std::collections::HashMap;

use dicom_dictionary_std::tags;

use super::SegError;
use super::elements::Object;
use crate::dicom::{Attributes, Instance};
use crate::geometry::norm;
use crate::series::Series;

/// Positions this close are one: other writers round to a tenth of a millimetre at worst.
const POSITION_TOLERANCE_MM: f64 = 0.1;
/// Direction cosines this close are one.
const COSINE_TOLERANCE: f64 = 1e-3;
/// Pixel spacings this close are one, as a share.
const SPACING_TOLERANCE: f64 = 1e-3;

/// Finds the frame of the series that a frame of a Segmentation segments.
pub(super) struct Placer<'a> {
    seg: &'a Instance,
    series: &'a Series,
    by_reference: HashMap<(&'a str, u32), usize>,
}

/// Where one frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// On this frame of the series, from 0.
    On(usize),
    /// On this frame, by its position, though it names another as its source.
    OnDespiteReference(usize),
    /// On none.
    Off,
}

impl<'a> Placer<'a> {
    /// Makes sure that both lie on one kind of grid.
    ///
    /// # Errors
    /// [`SegError::GridDiffers`] when rows, columns, spacing, orientation or frame of reference
    /// differ.
    pub(super) fn new(seg: &'a Instance, series: &'a Series) -> Result<Self, SegError> {
        let by_reference = series
            .frames
            .iter()
            .enumerate()
            .map(|(index, frame)| {
                let identity = series.instances[frame.instance_index].identity();
                ((identity.sop_instance.as_str(), frame.frame_number), index)
            })
            .collect();
        let placer = Self { seg, series, by_reference };
        placer.check_grid()?;
        Ok(placer)
    }

    fn check_grid(&self) -> Result<(), SegError> {
        let size = |tag, name| {
            let value = self.seg.u16_opt(tag).ok().flatten();
            value.map(usize::from).ok_or(SegError::Missing { name })
        };
        let found = [size(tags::ROWS, "Rows")?, size(tags::COLUMNS, "Columns")?];
        same("rows and columns", found, [self.series.rows, self.series.columns])?;
        let ours = self.series.frame_of_reference_uid.as_deref();
        let theirs = self.seg.string_opt(tags::FRAME_OF_REFERENCE_UID);
        if let (Some(ours), Some(theirs)) = (ours, theirs.as_deref())
            && !self.names_series()
        {
            same("frame of reference", theirs, ours)?;
        }
        Ok(())
    }

    /// Whether the Segmentation says that it was made from an instance of the series.
    fn names_series(&self) -> bool {
        let references = |item: &Object| {
            item.items(tags::REFERENCED_INSTANCE_SEQUENCE).iter().any(|instance| {
                let uid = instance.string_opt(tags::REFERENCED_SOP_INSTANCE_UID);
                uid.is_some_and(|uid| {
                    self.series.instances.iter().any(|i| i.identity().sop_instance.as_str() == uid)
                })
            })
        };
        self.seg.items(tags::REFERENCED_SERIES_SEQUENCE).iter().any(references)
    }

    /// Places frame `number` (from 1). Its position decides; its reference decides between
    /// frames at one position, or where there is no position.
    ///
    /// # Errors
    /// [`SegError::GridDiffers`] when the frame's orientation or spacing is not the series'.
    pub(super) fn place(&self, number: u32) -> Result<Placement, SegError> {
        self.check_plane(number)?;
        let referenced = self.referenced(number);
        let group = self.seg.functional_group(number, tags::PLANE_POSITION_SEQUENCE);
        let position = group.and_then(|g| g.f64_array_opt(tags::IMAGE_POSITION_PATIENT).ok()?);
        let Some(position) = position else {
            return Ok(referenced.map_or(Placement::Off, Placement::On));
        };
        let is_near = |index: usize| self.distance_mm(index, position) <= POSITION_TOLERANCE_MM;
        if let Some(index) = referenced.filter(|index| is_near(*index)) {
            return Ok(Placement::On(index));
        }
        let nearest = (0..self.series.frames.len())
            .min_by(|a, b| {
                self.distance_mm(*a, position).total_cmp(&self.distance_mm(*b, position))
            })
            .filter(|index| is_near(*index));
        Ok(match (nearest, referenced) {
            (Some(index), None) => Placement::On(index),
            (Some(index), Some(_)) => Placement::OnDespiteReference(index),
            (None, _) => Placement::Off,
        })
    }

    fn check_plane(&self, number: u32) -> Result<(), SegError> {
        let orientation = self.seg.functional_group(number, tags::PLANE_ORIENTATION_SEQUENCE);
        let cosines: Option<[f64; 6]> =
            orientation.and_then(|g| g.f64_array_opt(tags::IMAGE_ORIENTATION_PATIENT).ok()?);
        if let Some(found) = cosines {
            let expected = self.series.orientation.concat();
            close("orientation", &found, &expected, COSINE_TOLERANCE)?;
        }
        let measures = self.seg.functional_group(number, tags::PIXEL_MEASURES_SEQUENCE);
        let spacing: Option<[f64; 2]> =
            measures.and_then(|g| g.f64_array_opt(tags::PIXEL_SPACING).ok()?);
        if let Some(found) = spacing {
            let expected = self.series.pixel_spacing_mm;
            let tolerance = SPACING_TOLERANCE * expected[0].min(expected[1]);
            close("pixel spacing", &found, &expected, tolerance)?;
        }
        Ok(())
    }

    /// The frame of the series that the frame names as its source.
    fn referenced(&self, number: u32) -> Option<usize> {
        let derivation = self.seg.functional_group(number, tags::DERIVATION_IMAGE_SEQUENCE)?;
        derivation.items(tags::SOURCE_IMAGE_SEQUENCE).iter().find_map(|image| {
            let uid = image.string_opt(tags::REFERENCED_SOP_INSTANCE_UID)?;
            let frame = image.i64_opt(tags::REFERENCED_FRAME_NUMBER).ok().flatten().unwrap_or(1);
            self.by_reference.get(&(uid.as_str(), u32::try_from(frame).ok()?)).copied()
        })
    }

    fn distance_mm(&self, index: usize, position: [f64; 3]) -> f64 {
        let at = self.series.frames[index].position.0;
        norm(std::array::from_fn(|i| at[i] - position[i]))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &'static str,
    found: T,
    expected: T,
) -> Result<(), SegError> {
    if found == expected { Ok(()) } else { Err(differs(what, &found, &expected)) }
}

fn close(
    what: &'static str,
    found: &[f64],
    expected: &[f64],
    tolerance: f64,
) -> Result<(), SegError> {
    let is_close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance);
    if is_close { Ok(()) } else { Err(differs(what, &found, &expected)) }
}

fn differs(
    what: &'static str,
    found: &dyn std::fmt::Debug,
    expected: &dyn std::fmt::Debug,
) -> SegError {
    SegError::GridDiffers { what, found: format!("{found:?}"), expected: format!("{expected:?}") }
}
