//! What an order leaves in the archive: the SEG, and on request a report and key images.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::seg::{SegIdentity, seg_input, write_as_asked};
use super::{Engine, WalkError, Walked};
use crate::answer::Target;
use crate::dicom_seg::{self, ResultObject, SegmentationType};
use crate::error::Finding;
use crate::series::Series;
use crate::volume::{self, Volume};

use super::pictures;

/// What is wanted beside the masks, and how they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outputs {
    /// BINARY or LABELMAP.
    pub segmentation_type: SegmentationType,
    /// A TID 1500 report of the volumes.
    pub structured_report: bool,
    /// A key object selection of the best slices and a picture of the masks over the images.
    pub key_images: bool,
}

/// An object beside the SEG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResultDocument {
    /// What it is.
    pub kind: DocumentKind,
    /// SOP Class UID.
    pub sop_class_uid: String,
    /// Series Instance UID.
    pub series_uid: String,
    /// SOP Instance UID.
    pub sop_instance_uid: String,
}

/// Kinds of objects beside the SEG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// Comprehensive 3D SR of template 1500.
    StructuredReport,
    /// Key Object Selection Document.
    KeyObjects,
    /// Secondary Capture of the masks over the images.
    KeyImage,
}

/// The objects of one order.
pub(super) struct Results {
    /// The Segmentation.
    pub(super) seg: ResultObject,
    /// What was asked for beside it.
    pub(super) documents: Vec<(ResultDocument, ResultObject)>,
    /// What the writers noticed.
    pub(super) findings: Vec<Finding>,
}

/// An order's identity and wishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The order.
    pub(super) order_id: Uuid,
    /// Leave frames without any inside pixel out of the SEG.
    pub(super) drop_empty_frames: bool,
    /// What is wanted.
    pub(super) outputs: Outputs,
    /// When.
    pub(super) at: OffsetDateTime,
}

/// Writes the SEG of a walk and the documents that were asked for.
pub(super) fn write_results(
    engine: &Engine,
    wanted: &Wanted,
    source: (&Series, &Volume),
    targets: &[Target],
    walked: &Walked,
) -> Result<Results, WalkError> {
    let (series, volume) = source;
    let on_source = walked
        .masks
        .iter()
        .map(|mask| volume::onto_source(mask, series))
        .collect::<Result<Vec<_>, _>>()?;
    let identity = SegIdentity {
        order_id: wanted.order_id,
        drop_empty_frames: wanted.drop_empty_frames,
        segmentation_type: wanted.outputs.segmentation_type,
        skill_round: walked.skills.first().map(|skill| skill.round),
        at: wanted.at,
    };
    let (input, mut findings) = seg_input(engine, &identity, series, targets, &on_source);
    let (seg, found) = write_as_asked(input.clone())?;
    findings.extend(found);
    let mut documents = Vec::new();
    if wanted.outputs.structured_report {
        let volumes_ml: Vec<f64> = walked.masks.iter().map(volume::Mask::volume_ml).collect();
        let report = dicom_seg::write_report(&input, &seg, &volumes_ml)?;
        documents.push(described(DocumentKind::StructuredReport, report));
    }
    if wanted.outputs.key_images {
        let picture = pictures::overlay(volume, targets, &walked.masks);
        let (columns, rows) = (picture.width() as u16, picture.height() as u16);
        let picture = dicom_seg::Picture { columns, rows, rgb: picture.as_raw() };
        let key_image = dicom_seg::write_key_image(&input, &picture)?;
        let key_objects = dicom_seg::write_key_objects(&input, &seg, Some(&key_image))?;
        documents.push(described(DocumentKind::KeyImage, key_image));
        documents.push(described(DocumentKind::KeyObjects, key_objects));
    }
    Ok(Results { seg, documents, findings })
}

fn described(kind: DocumentKind, object: ResultObject) -> (ResultDocument, ResultObject) {
    let document = ResultDocument {
        kind,
        sop_class_uid: object.sop_class_uid.to_owned(),
        series_uid: object.series_uid.to_string(),
        sop_instance_uid: object.sop_instance_uid.to_string(),
    };
    (document, object)
}
