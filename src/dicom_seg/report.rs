//! A TID 1500 Imaging Measurement Report of the segments' volumes (PS3.16 TID 1500, 1411, 1419),
//! as Comprehensive 3D SR (PS3.3 A.35.13).

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};

use super::content::{self, Item, Relationship};
use super::document::{
    self, Moment, SERIES_NUMBER_BASE, SERIES_NUMBER_STEP, SeriesText, encode, put_equipment,
};
use super::elements::{
    LO_LENGTH_MAX, Object, PutElements, dcm_code, decimal_string, sct, shortened,
};
use super::{Provenance, ResultObject, SegError, SegInput, SegmentInput, source};
use crate::dicom::{SeriesUid, SopInstanceUid};
use crate::runtime::vocabulary::Code;

const DESCRIPTION: &str = "SEER measurements, research use only";

/// Writes the volumes of a Segmentation's segments as a structured report.
///
/// One measurement group a segment, in the Segmentation's order: Tracking ID and UID are the
/// segment's, the referenced segment is `seg`'s, `volumes_ml` are millilitres. The UIDs derive from
/// the order, so a retry never makes a second report.
///
/// # Errors
/// [`SegError`] when the numbers of segments and volumes differ, a volume is not a finite number,
/// or the object cannot be encoded.
pub fn write_report(
    input: &SegInput<'_>,
    seg: &ResultObject,
    volumes_ml: &[f64],
) -> Result<ResultObject, SegError> {
    super::validate::check_volumes(input, volumes_ml)?;
    let parts = ["report", &input.provenance.order_hash, input.series.series_uid.as_str()];
    let (series_uid, sop_instance_uid) =
        (SeriesUid::derive(&parts), SopInstanceUid::derive(&parts));
    let source: &Object = source::representative(input.series).object();
    let root = root(input, seg, volumes_ml);

    let mut object = Object::new_empty();
    let texts = super::write::our_texts(input, &[]);
    source::copy_patient_and_study(source, &texts, &mut object);
    object.put_text(tags::STUDY_INSTANCE_UID, VR::UI, input.series.study_uid.as_str());
    document::put_series(
        &mut object,
        input.series,
        &SeriesText {
            modality: "SR",
            series_uid: series_uid.as_str(),
            number_base: SERIES_NUMBER_BASE + SERIES_NUMBER_STEP,
            description: DESCRIPTION,
            sop_class_uid: uids::COMPREHENSIVE3_DSR_STORAGE,
            sop_instance_uid: sop_instance_uid.as_str(),
        },
    );
    put_equipment(&mut object, &input.provenance, source);
    Moment::of(input.created, source).put(&mut object);
    content::put_document(&mut object, source, input.series);
    object.put_text(tags::COMPLETION_FLAG, VR::CS, "COMPLETE");
    object.put_text(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    object.put_text(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    object.put_items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, Vec::new());
    object.put_items(
        tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
        vec![content::evidence(input.series, &[seg.reference()])],
    );
    content::put_root(&mut object, root, "1500");
    let bytes = encode(object)?;
    let sop_class_uid = uids::COMPREHENSIVE3_DSR_STORAGE;
    Ok(ResultObject { sop_class_uid, sop_instance_uid, series_uid, bytes })
}

fn root(input: &SegInput<'_>, seg: &ResultObject, volumes_ml: &[f64]) -> Item {
    let groups = (1..).zip(input.segments.iter().zip(volumes_ml)).map(|(number, measured)| {
        let (segment, volume_ml) = measured;
        let group = Group { number, segment, volume_ml: *volume_ml };
        group.item(input, seg)
    });
    let measurements = Item::container(dcm_code("126010", "Imaging Measurements"));
    let measurements =
        groups.fold(measurements, |all, group| all.with(Relationship::Contains, group));
    let mut root = Item::container(dcm_code("126000", "Imaging Measurement Report"));
    let english = Code {
        value: "en-US".to_owned(),
        scheme: "RFC5646".to_owned(),
        meaning: "English (United States)".to_owned(),
    };
    let language =
        Item::code(dcm_code("121049", "Language of Content Item and Descendants"), english);
    root = root.with(Relationship::HasConceptModifier, language);
    for observer in content::device_observer(&input.provenance) {
        root = root.with(Relationship::HasObservationContext, observer);
    }
    let procedure = sct("363679005", "Imaging procedure");
    let reported = Item::code(dcm_code("121058", "Procedure reported"), procedure);
    root.with(Relationship::HasConceptModifier, reported).with(Relationship::Contains, measurements)
}

/// One segment and what was measured.
struct Group<'a> {
    number: u16,
    segment: &'a SegmentInput<'a>,
    volume_ml: f64,
}

impl Group<'_> {
    /// Volumetric ROI Measurements and Qualitative Evaluations (TID 1411).
    fn item(&self, input: &SegInput<'_>, seg: &ResultObject) -> Item {
        let tracking = &self.segment.tracking;
        let id = Item::text(dcm_code("112039", "Tracking Identifier"), &tracking.id);
        let uid = Item::uid(dcm_code("112040", "Tracking Unique Identifier"), &tracking.uid);
        let coding = &self.segment.coding;
        let finding = Item::code(dcm_code("121071", "Finding"), coding.property_type.clone());
        let mut site = Item::code(sct("363698007", "Finding Site"), coding.property_type.clone());
        if let Some(side) = coding.modifier.as_ref().filter(|modifier| is_side(modifier)) {
            let laterality = Item::code(sct("272741003", "Laterality"), side.clone());
            site = site.with(Relationship::HasConceptModifier, laterality);
        }
        let mut reference = seg.reference();
        reference.segment_number = Some(self.number);
        let segment = Item::image(Some(dcm_code("121191", "Referenced Segment")), &reference);
        let series = Item::uid(
            dcm_code("121232", "Source series for segmentation"),
            input.series.series_uid.as_str(),
        );
        let mut volume = Item::number(sct("118565006", "Volume"), &Measured::ml(self.volume_ml));
        for about in algorithm(&self.segment.algorithm_name, &input.provenance) {
            volume = volume.with(Relationship::HasConceptModifier, about);
        }
        Item::container(dcm_code("125007", "Measurement Group"))
            .with(Relationship::HasObservationContext, id)
            .with(Relationship::HasObservationContext, uid)
            .with(Relationship::Contains, finding)
            .with(Relationship::HasConceptModifier, site)
            .with(Relationship::Contains, segment)
            .with(Relationship::Contains, series)
            .with(Relationship::Contains, volume)
    }
}

/// A value with its unit (UCUM).
pub(super) struct Measured {
    /// As Decimal String.
    pub(super) text: String,
    /// As stored.
    pub(super) value: f64,
    pub(super) unit: Code,
}

impl Measured {
    /// Millilitres, to a thousandth: below one voxel of any scan.
    fn ml(value: f64) -> Self {
        let value = (value * 1000.0).round() / 1000.0;
        let unit = Code {
            value: "ml".to_owned(),
            scheme: "UCUM".to_owned(),
            meaning: "milliliter".to_owned(),
        };
        Self { text: decimal_string(value), value, unit }
    }
}

/// Algorithm Identification (TID 4019).
fn algorithm(name: &str, provenance: &Provenance) -> [Item; 2] {
    let version = shortened(&provenance.backbone.version, LO_LENGTH_MAX);
    [
        Item::text(dcm_code("111001", "Algorithm Name"), &shortened(name, LO_LENGTH_MAX)),
        Item::text(dcm_code("111003", "Algorithm Version"), &version),
    ]
}

/// Left, right, or both (PS3.16 CID 244).
fn is_side(code: &Code) -> bool {
    ["7771000", "24028007", "51440002"].contains(&code.value.as_str())
}
