//! SR content items (PS3.3 C.17.3) and what documents of results share.

use dicom_core::VR;
use dicom_dictionary_std::tags;

use super::elements::{Object, PutElements, code_item};
use super::report::Measured;
use super::{Provenance, frames, source};
use crate::dicom::Attributes;
use crate::runtime::vocabulary::Code;
use crate::series::Series;

/// How a content item relates to its parent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Relationship {
    Contains,
    HasObservationContext,
    HasConceptModifier,
}

impl Relationship {
    fn defined_term(self) -> &'static str {
        match self {
            Self::Contains => "CONTAINS",
            Self::HasObservationContext => "HAS OBS CONTEXT",
            Self::HasConceptModifier => "HAS CONCEPT MOD",
        }
    }
}

/// An instance that is pointed at, with the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) series_uid: String,
    pub(super) sop_class_uid: String,
    pub(super) sop_instance_uid: String,
    /// Of a multi-frame instance, from 1.
    pub(super) frame_number: Option<u32>,
    /// Of a Segmentation.
    pub(super) segment_number: Option<u16>,
}

impl Reference {
    fn item(&self) -> Object {
        let mut item = Object::new_empty();
        item.put_text(tags::REFERENCED_SOP_CLASS_UID, VR::UI, &self.sop_class_uid);
        item.put_text(tags::REFERENCED_SOP_INSTANCE_UID, VR::UI, &self.sop_instance_uid);
        if let Some(number) = self.frame_number {
            item.put_text(tags::REFERENCED_FRAME_NUMBER, VR::IS, &number.to_string());
        }
        if let Some(number) = self.segment_number {
            item.put_u16(tags::REFERENCED_SEGMENT_NUMBER, &[number]);
        }
        item
    }
}

/// A content item and its children.
pub(super) struct Item {
    object: Object,
    children: Vec<Object>,
}

impl Item {
    fn new(value_type: &str, concept: Option<Code>) -> Self {
        let mut object = Object::new_empty();
        object.put_text(tags::VALUE_TYPE, VR::CS, value_type);
        if let Some(concept) = concept {
            object.put_items(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![code_item(&concept)]);
        }
        Self { object, children: Vec::new() }
    }

    pub(super) fn container(concept: Code) -> Self {
        let mut item = Self::new("CONTAINER", Some(concept));
        item.object.put_text(tags::CONTINUITY_OF_CONTENT, VR::CS, "SEPARATE");
        item
    }

    pub(super) fn text(concept: Code, text: &str) -> Self {
        let mut item = Self::new("TEXT", Some(concept));
        item.object.put_text(tags::TEXT_VALUE, VR::UT, text);
        item
    }

    pub(super) fn uid(concept: Code, uid: &str) -> Self {
        let mut item = Self::new("UIDREF", Some(concept));
        item.object.put_text(tags::UID, VR::UI, uid);
        item
    }

    pub(super) fn code(concept: Code, value: Code) -> Self {
        let mut item = Self::new("CODE", Some(concept));
        item.object.put_items(tags::CONCEPT_CODE_SEQUENCE, vec![code_item(&value)]);
        item
    }

    pub(super) fn image(concept: Option<Code>, reference: &Reference) -> Self {
        let mut item = Self::new("IMAGE", concept);
        item.object.put_items(tags::REFERENCED_SOP_SEQUENCE, vec![reference.item()]);
        item
    }

    pub(super) fn number(concept: Code, measured: &Measured) -> Self {
        let mut item = Self::new("NUM", Some(concept));
        let mut value = Object::new_empty();
        value.put_text(tags::NUMERIC_VALUE, VR::DS, &measured.text);
        value.put_f64(tags::FLOATING_POINT_VALUE, measured.value);
        let unit = vec![code_item(&measured.unit)];
        value.put_items(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, unit);
        item.object.put_items(tags::MEASURED_VALUE_SEQUENCE, vec![value]);
        item
    }

    /// The item with one more child.
    pub(super) fn with(mut self, relationship: Relationship, child: Self) -> Self {
        let mut child = child.finish();
        child.put_text(tags::RELATIONSHIP_TYPE, VR::CS, relationship.defined_term());
        self.children.push(child);
        self
    }

    fn finish(mut self) -> Object {
        if !self.children.is_empty() {
            self.object.put_items(tags::CONTENT_SEQUENCE, self.children);
        }
        self.object
    }
}

/// Puts the root of a content tree that follows a template of PS3.16 into the data set.
pub(super) fn put_root(object: &mut Object, root: Item, template: &str) {
    for element in root.finish() {
        object.put(element);
    }
    let mut item = Object::new_empty();
    item.put_text(tags::MAPPING_RESOURCE, VR::CS, "DCMR");
    item.put_text(tags::TEMPLATE_IDENTIFIER, VR::CS, template);
    object.put_items(tags::CONTENT_TEMPLATE_SEQUENCE, vec![item]);
}

/// Device Observer Identifying Attributes (TID 1004): this server.
pub(super) fn device_observer(provenance: &Provenance) -> [Item; 4] {
    let dcm = super::elements::dcm_code;
    [
        Item::code(dcm("121005", "Observer Type"), dcm("121007", "Device")),
        Item::uid(dcm("121012", "Device Observer UID"), &provenance.device_uid),
        Item::text(dcm("121013", "Device Observer Name"), "SEER"),
        Item::text(dcm("121015", "Device Observer Model Name"), "SEER segmentation server"),
    ]
}

/// Type 2 of the SR and Key Object document modules, and the request that is answered (PS3.3
/// C.17.2, C.17.6.2).
pub(super) fn put_document(object: &mut Object, source: &Object, series: &Series) {
    object.put_items(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, Vec::new());
    let requests: Vec<Object> = source
        .items(tags::REQUEST_ATTRIBUTES_SEQUENCE)
        .iter()
        .map(|request| requested(source, request, series))
        .collect();
    if !requests.is_empty() {
        object.put_items(tags::REFERENCED_REQUEST_SEQUENCE, requests);
    }
}

/// One item of the Referenced Request Sequence.
fn requested(source: &Object, request: &Object, series: &Series) -> Object {
    let mut item = Object::new_empty();
    item.put_text(tags::STUDY_INSTANCE_UID, VR::UI, series.study_uid.as_str());
    item.put_items(tags::REFERENCED_STUDY_SEQUENCE, Vec::new());
    for (tag, vr) in [
        (tags::ACCESSION_NUMBER, VR::SH),
        (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
        (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
        (tags::REQUESTED_PROCEDURE_ID, VR::SH),
        (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO),
    ] {
        match request.get(tag).or_else(|| source.get(tag)) {
            Some(element) => item.put(element.clone()).map_or((), drop),
            None => item.put_empty(tag, vr),
        }
    }
    match request.get(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE) {
        Some(element) => item.put(element.clone()).map_or((), drop),
        None => item.put_items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, Vec::new()),
    }
    item
}

/// One item of an evidence sequence (PS3.3 Table C.17-3): `results` and every instance of the
/// source, by series.
pub(super) fn evidence(series: &Series, results: &[Reference]) -> Object {
    let of_source = series.instances.iter().map(|instance| {
        let mut item = Object::new_empty();
        frames::put_reference(&mut item, instance.identity());
        item
    });
    let mut by_series = vec![(series.series_uid.to_string(), of_source.collect::<Vec<_>>())];
    for result in results {
        let whole = Reference { frame_number: None, segment_number: None, ..result.clone() };
        by_series.push((result.series_uid.clone(), vec![whole.item()]));
    }
    let items = by_series.into_iter().map(|(uid, instances)| {
        let mut item = Object::new_empty();
        item.put_text(tags::SERIES_INSTANCE_UID, VR::UI, &uid);
        item.put_items(tags::REFERENCED_SOP_SEQUENCE, instances);
        item
    });
    let mut item = Object::new_empty();
    item.put_text(tags::STUDY_INSTANCE_UID, VR::UI, series.study_uid.as_str());
    item.put_items(tags::REFERENCED_SERIES_SEQUENCE, items.collect());
    item
}

/// The source frame with the given index, as something to point at.
pub(super) fn source_reference(series: &Series, frame_index: usize) -> Reference {
    let frame = &series.frames[frame_index];
    let instance = &series.instances[frame.instance_index];
    let is_multi_frame = source::is_multi_frame(instance.object());
    Reference {
        series_uid: series.series_uid.to_string(),
        sop_class_uid: instance.identity().sop_class_uid.clone(),
        sop_instance_uid: instance.identity().sop_instance.to_string(),
        frame_number: is_multi_frame.then_some(frame.frame_number),
        segment_number: None,
    }
}
