//! The Segment Sequence (PS3.3 C.8.20.4).

use dicom_core::VR;
use dicom_core::header::HasLength;
use dicom_dictionary_std::tags;

use super::elements::{LO_LENGTH_MAX, Object, PutElements, code_item, dcm_code, shortened};
use super::{BundleIdentity, Provenance, SegInput, SegmentInput, SegmentationType};
use crate::dicom::Attributes;

/// Who makes the algorithm (Algorithm Source).
pub(super) const ALGORITHM_SOURCE: &str = "SEER";

/// The value of pixels that belong to no segment of a label map.
pub(super) const BACKGROUND: u16 = 0;

/// One item for each segment, numbered 1, 2, 3; in a label map the background goes before them,
/// because every value that a pixel has must be described.
pub(super) fn segment_items(input: &SegInput<'_>, labels: &[String]) -> Vec<Object> {
    let numbered = (1..).zip(input.segments.iter().zip(labels));
    let segments = numbered.map(|(number, (segment, label))| item(number, segment, label, input));
    match input.options.segmentation_type {
        SegmentationType::Binary => segments.collect(),
        SegmentationType::Labelmap => {
            std::iter::once(background(&input.segments[0])).chain(segments).collect()
        }
    }
}

/// Segment 0 of a label map (DCM 125040).
fn background(first: &SegmentInput<'_>) -> Object {
    let code = dcm_code("125040", "Background");
    let mut item = Object::new_empty();
    item.put_u16(tags::SEGMENT_NUMBER, &[BACKGROUND]);
    item.put_text(tags::SEGMENT_LABEL, VR::LO, "Background");
    item.put_text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC");
    let algorithm = shortened(&first.algorithm_name, LO_LENGTH_MAX);
    item.put_text(tags::SEGMENT_ALGORITHM_NAME, VR::LO, &algorithm);
    let category = tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE;
    item.put_items(category, vec![code_item(&code)]);
    item.put_items(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, vec![code_item(&code)]);
    item
}

fn item(number: u16, segment: &SegmentInput<'_>, label: &str, input: &SegInput<'_>) -> Object {
    let algorithm = shortened(&segment.algorithm_name, LO_LENGTH_MAX);
    let mut item = Object::new_empty();
    item.put_u16(tags::SEGMENT_NUMBER, &[number]);
    item.put_text(tags::SEGMENT_LABEL, VR::LO, label);
    item.put_text(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC");
    item.put_text(tags::SEGMENT_ALGORITHM_NAME, VR::LO, &algorithm);
    item.put_items(
        tags::SEGMENTATION_ALGORITHM_IDENTIFICATION_SEQUENCE,
        vec![algorithm_item(&algorithm, &input.provenance)],
    );
    let coding = &segment.coding;
    item.put_items(
        tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE,
        vec![code_item(&coding.category)],
    );
    let mut property_type = code_item(&coding.property_type);
    if let Some(modifier) = &coding.modifier {
        property_type.put_items(
            tags::SEGMENTED_PROPERTY_TYPE_MODIFIER_CODE_SEQUENCE,
            vec![code_item(modifier)],
        );
    }
    item.put_items(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, vec![property_type]);
    item.put_text(tags::TRACKING_ID, VR::UT, &segment.tracking.id);
    item.put_text(tags::TRACKING_UID, VR::UI, &segment.tracking.uid);
    item.put_u16(tags::RECOMMENDED_DISPLAY_CIE_LAB_VALUE, &coding.cielab);
    item
}

/// Algorithm Identification (PS3.3 Table 10-19).
fn algorithm_item(name: &str, provenance: &Provenance) -> Object {
    let mut item = Object::new_empty();
    let family = dcm_code("123110", "Artificial Intelligence");
    item.put_items(tags::ALGORITHM_FAMILY_CODE_SEQUENCE, vec![code_item(&family)]);
    item.put_text(tags::ALGORITHM_NAME, VR::LO, name);
    let version = shortened(&provenance.backbone.version, LO_LENGTH_MAX);
    item.put_text(tags::ALGORITHM_VERSION, VR::LO, &version);
    item.put_text(tags::ALGORITHM_PARAMETERS, VR::LT, &parameters(provenance));
    item.put_text(tags::ALGORITHM_SOURCE, VR::LO, ALGORITHM_SOURCE);
    item
}

/// What else decided the mask, as `key=value` parts.
fn parameters(provenance: &Provenance) -> String {
    let bundle = |role: &str, bundle: &BundleIdentity| {
        let BundleIdentity { name, version, sha256 } = bundle;
        format!("{role}={name} {version} sha256:{sha256}")
    };
    let mut parts = vec![bundle("backbone", &provenance.backbone)];
    parts.extend(provenance.reasoner.as_ref().map(|reasoner| bundle("reasoner", reasoner)));
    parts.extend(provenance.skill_round.map(|round| format!("skill_round={round}")));
    parts.push(format!("seer={}", provenance.server_version));
    parts.push(format!("order={}", provenance.order_hash));
    shortened(&parts.join("; "), 1024)
}

/// Contributing Equipment (PS3.3 C.12.1): each model that took part, as processing equipment.
pub(super) fn contributing_equipment(provenance: &Provenance, date_time: &str) -> Vec<Object> {
    let backbone = (&provenance.backbone, "Segmented the target");
    let reasoner = provenance.reasoner.as_ref().map(|reasoner| (reasoner, "Read the order"));
    let purpose = dcm_code("109102", "Processing Equipment");
    std::iter::once(backbone)
        .chain(reasoner)
        .map(|(bundle, description)| {
            let mut item = Object::new_empty();
            item.put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&purpose)]);
            item.put_text(tags::MANUFACTURER, VR::LO, ALGORITHM_SOURCE);
            let model = shortened(&bundle.name, LO_LENGTH_MAX);
            item.put_text(tags::MANUFACTURER_MODEL_NAME, VR::LO, &model);
            let versions =
                [&bundle.version, &bundle.sha256].map(|text| shortened(text, LO_LENGTH_MAX));
            item.put_texts(tags::SOFTWARE_VERSIONS, VR::LO, versions);
            item.put_text(tags::CONTRIBUTION_DATE_TIME, VR::DT, date_time);
            item.put_text(tags::CONTRIBUTION_DESCRIPTION, VR::ST, description);
            item
        })
        .collect()
}

/// The equipment that acquired the source, as far as the source names it.
pub(super) fn acquisition_equipment(source: &Object) -> Option<Object> {
    let manufacturer = source.get(tags::MANUFACTURER)?;
    source.string_opt(tags::MANUFACTURER)?;
    let mut item = Object::new_empty();
    let purpose = dcm_code("109101", "Acquisition Equipment");
    item.put_items(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code_item(&purpose)]);
    item.put(manufacturer.clone());
    for tag in [
        tags::INSTITUTION_NAME,
        tags::STATION_NAME,
        tags::MANUFACTURER_MODEL_NAME,
        tags::DEVICE_SERIAL_NUMBER,
        tags::SOFTWARE_VERSIONS,
    ] {
        if let Some(element) = source.get(tag).filter(|element| !element.is_empty()) {
            item.put(element.clone());
        }
    }
    Some(item)
}
