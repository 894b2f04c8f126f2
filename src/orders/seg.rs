//! The result of an order as a DICOM SEG.

use ndarray::Array3;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Engine, WalkError};
use crate::answer::Target;
use crate::dicom_seg::{
    self, BundleIdentity, EmptyFrames, Provenance, ResultObject, SegError, SegInput, SegOptions,
    SegmentCoding, SegmentInput, SegmentationType, Tracking,
};
use crate::error::Finding;
use crate::runtime::Bundle;
use crate::series::Series;
use crate::volume::{self, Mask};

/// What a SEG derives its identity and dates from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegIdentity {
    /// The order; the UIDs derive from it, so that a second run makes no second result.
    pub order_id: Uuid,
    /// Leave frames without any inside pixel out.
    pub drop_empty_frames: bool,
    /// BINARY or LABELMAP.
    pub segmentation_type: SegmentationType,
    /// The round of the bank whose skills the reasoner was offered; absent when it was none.
    pub skill_round: Option<u64>,
    /// When.
    pub at: OffsetDateTime,
}

/// Writes the masks of an answer's targets, one segment each, on the frames of their series.
///
/// # Errors
/// When a mask does not cover the series or the object would be malformed.
pub fn write_seg(
    engine: &Engine,
    identity: &SegIdentity,
    series: &Series,
    targets: &[Target],
    masks: &[Mask],
) -> Result<(ResultObject, Vec<Finding>), WalkError> {
    let on_source = masks
        .iter()
        .map(|mask| volume::onto_source(mask, series))
        .collect::<Result<Vec<_>, _>>()?;
    let (input, mut findings) = seg_input(engine, identity, series, targets, &on_source);
    let (seg, found) = write_as_asked(input)?;
    findings.extend(found);
    Ok((seg, findings))
}

/// Everything a SEG of these masks says; `on_source` are `[frame, row, column]` of the series.
pub(super) fn seg_input<'a>(
    engine: &Engine,
    identity: &SegIdentity,
    series: &'a Series,
    targets: &[Target],
    on_source: &'a [Array3<bool>],
) -> (SegInput<'a>, Vec<Finding>) {
    let order_hash = order_hash(identity.order_id);
    let algorithm_name = engine.backbone_bundle().manifest().name.clone();
    let mut findings = Vec::new();
    let mut segments = Vec::new();
    for (number, (target, mask)) in (1..).zip(targets.iter().zip(on_source)) {
        let (coding, finding) = SegmentCoding::of(target, number);
        findings.extend(finding);
        segments.push(SegmentInput {
            label: target.name().to_owned(),
            mask,
            coding,
            tracking: Tracking::derive(&order_hash, number),
            algorithm_name: algorithm_name.clone(),
        });
    }
    let input = SegInput {
        series,
        segments,
        provenance: provenance(engine, order_hash.clone(), identity.skill_round),
        created: identity.at,
        options: SegOptions {
            segmentation_type: identity.segmentation_type,
            empty_frames: match identity.drop_empty_frames {
                true => EmptyFrames::Drop,
                false => EmptyFrames::Keep,
            },
        },
    };
    (input, findings)
}

/// Overlapping targets make no label map: they are written BINARY, with a finding, because the
/// masks are right and an order should not fail at its last step.
pub(super) fn write_as_asked(
    mut input: SegInput<'_>,
) -> Result<(ResultObject, Vec<Finding>), WalkError> {
    match dicom_seg::write(&input) {
        Err(error @ SegError::SegmentsOverlap { .. }) => {
            input.options.segmentation_type = SegmentationType::Binary;
            let (seg, mut findings) = dicom_seg::write(&input)?;
            let message = format!("{error}; the segmentation is written as BINARY");
            findings.push(Finding::new("labelmap_not_possible", message));
            Ok((seg, findings))
        }
        written => Ok(written?),
    }
}

/// Stands for the order in objects that leave the server.
fn order_hash(order_id: Uuid) -> String {
    hex::encode(&Sha256::digest(order_id.as_bytes())[..16])
}

fn provenance(engine: &Engine, order_hash: String, skill_round: Option<u64>) -> Provenance {
    Provenance {
        backbone: identity_of(engine.backbone_bundle()),
        reasoner: Some(identity_of(engine.reasoner_bundle())),
        skill_round,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        order_hash,
        device_uid: engine.device_uid().to_owned(),
    }
}

fn identity_of(bundle: &Bundle) -> BundleIdentity {
    let manifest = bundle.manifest();
    BundleIdentity {
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        sha256: bundle.manifest_sha256().to_owned(),
    }
}
