//! The result of an order as NIfTI, for research; the SEG stays what is stored.

use ndarray::{Array3, Zip};
use uuid::Uuid;

use super::{OrderError, OrderState, Orders, WalkError};
use crate::archive::Scope;
use crate::dicom_seg::SegReader;
use crate::series;
use crate::volume::{self, nifti};

/// A NIfTI file of an order's segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NiftiLabels {
    /// The compressed file.
    pub bytes: Vec<u8>,
    /// Voxels that lie in several segments, of which the later has them.
    pub overlap_count: usize,
}

impl Orders {
    /// The masks of a completed order on the grid of its volume, RAS affine in millimetres: label n
    /// is segment n of the SEG, or 1 is `segment` when one is asked for.
    ///
    /// # Errors
    /// [`OrderError::NoSegmentation`] before the order is completed; [`WalkError`] of the room that
    /// cannot read the source or the SEG.
    pub fn segmentation_nifti(
        &self,
        id: Uuid,
        segment: Option<u16>,
    ) -> Result<NiftiLabels, WalkError> {
        let order = self.get(id)?;
        let none =
            |state: OrderState| OrderError::NoSegmentation { id, state: state.word().to_owned() };
        let result = order.result.ok_or_else(|| none(order.state))?;
        let archive = &self.shared.archive;
        let study = order.new.study_uid;
        let instances = archive.load_series(&study, &result.source_series_uid)?;
        let (series, _) = series::assemble(instances)?;
        let scope = Scope::instance(study, result.seg_series_uid, result.seg_sop_instance_uid);
        let seg = archive.load_instance(&scope)?;
        let (reader, _) = SegReader::open(&seg, &series)?;
        let (labels, overlap_count) = labels(&reader, segment)?;
        let (labels, geometry) = volume::onto_grid(&labels, &series)?;
        let folder = tempfile::tempdir().map_err(OrderError::from)?;
        let path = folder.path().join("segmentation.nii.gz");
        nifti::write_labels(&path, &labels, &geometry)?;
        let bytes = std::fs::read(&path).map_err(OrderError::from)?;
        Ok(NiftiLabels { bytes, overlap_count })
    }
}

/// `[frame, row, column]` on the frames of the source, and how many voxels had a label already.
fn labels(reader: &SegReader<'_>, segment: Option<u16>) -> Result<(Array3<u16>, usize), WalkError> {
    let mut labels: Option<Array3<u16>> = None;
    let mut overlap_count = 0;
    let numbers: Vec<u16> = match segment {
        Some(number) => vec![number],
        None => reader.segments().map(|description| description.number).collect(),
    };
    for number in numbers {
        let mask = reader.mask(number)?;
        let labels = labels.get_or_insert_with(|| Array3::zeros(mask.raw_dim()));
        let label = if segment.is_some() { 1 } else { number };
        Zip::from(labels).and(&mask).for_each(|target, inside| {
            if *inside {
                overlap_count += usize::from(*target != 0);
                *target = label;
            }
        });
    }
    Ok((labels.unwrap_or_default(), overlap_count))
}
