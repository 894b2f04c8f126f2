//! What became of the parts of a STOW-RS request, as a Store Instances Response (PS3.18 Annex I).

use axum::http::StatusCode;
use axum::response::Response;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use serde_json::{Map, Value, json};

use super::{dicom_json, with_warning};
use crate::archive::{ArchiveError, Stored, json_key};
use crate::dicom::Identity;
use crate::error::{ErrorKind, Kind};
use crate::http::error::ApiError;

// Failure reasons of PS3.18 Table I.2-2 and PS3.4 Table B.2-1.
const PROCESSING_FAILURE: u16 = 0x0110;
const DUPLICATE_SOP_INSTANCE: u16 = 0x0111;
const OUT_OF_RESOURCES: u16 = 0xA700;
const DOES_NOT_MATCH: u16 = 0xA900;
const CANNOT_UNDERSTAND: u16 = 0xC000;

/// The reasons and what they mean, for the conformance statement.
pub(super) const REASONS: &[(u16, &str)] = &[
    (PROCESSING_FAILURE, "the server failed; its log says why"),
    (DUPLICATE_SOP_INSTANCE, "other bytes are stored under this SOP Instance UID"),
    (OUT_OF_RESOURCES, "larger than an instance may be, or the storage quota is used up"),
    (DOES_NOT_MATCH, "of another study than the request names"),
    (CANNOT_UNDERSTAND, "not DICOM that this server takes in; Error Comment says what is wrong"),
];

/// Most characters of a value with VR LO.
const LONG_STRING_LENGTH_MAX: usize = 64;

/// What became of the parts of one request.
pub(super) struct Outcome {
    base_url: String,
    stored: Vec<Stored>,
    failures: Vec<Failure>,
}

/// One instance that is not stored, and why.
pub(super) struct Failure {
    identity: Option<Identity>,
    reason: u16,
    sentence: String,
    is_full: bool,
}

impl Failure {
    /// A part that is no instance.
    pub(super) fn unreadable(sentence: String) -> Self {
        Self { identity: None, reason: CANNOT_UNDERSTAND, sentence, is_full: false }
    }

    /// A part larger than an instance may be.
    pub(super) fn too_large(max: u64) -> Self {
        let sentence = format!("instance is larger than {max} bytes");
        Self { identity: None, reason: OUT_OF_RESOURCES, sentence, is_full: false }
    }

    /// What the archive says.
    pub(super) fn of(error: ArchiveError) -> Self {
        let reason = match (&error, error.kind()) {
            (ArchiveError::OtherStudy(_), _) => DOES_NOT_MATCH,
            (_, ErrorKind::Conflict) => DUPLICATE_SOP_INSTANCE,
            (_, ErrorKind::TooLarge | ErrorKind::Overloaded) => OUT_OF_RESOURCES,
            (_, ErrorKind::Invalid | ErrorKind::Unsupported) => CANNOT_UNDERSTAND,
            (_, ErrorKind::NotFound | ErrorKind::Cancelled) => PROCESSING_FAILURE,
            (_, ErrorKind::Unavailable | ErrorKind::Internal) => PROCESSING_FAILURE,
        };
        let told = ApiError::of(&error);
        let is_full = matches!(error, ArchiveError::Full { .. });
        let identity = match error {
            ArchiveError::Conflict(identity) | ArchiveError::OtherStudy(identity) => {
                Some(*identity)
            }
            _ => None,
        };
        Self { identity, reason, is_full, ..Self::ours(&told) }
    }

    /// A fault of ours: told in fixed words, and logged here, where it is handled.
    pub(super) fn ours(error: &ApiError) -> Self {
        if let Some(chain) = error.chain() {
            tracing::error!("Cannot store an instance: {chain}");
        }
        let sentence = error.detail().to_owned();
        Self { identity: None, reason: PROCESSING_FAILURE, sentence, is_full: false }
    }

    fn item(&self) -> Value {
        // Error Comment is no part of the module, but says in words what the reason is a number
        // for; dcm4chee does the same.
        let comment: String = self.sentence.chars().take(LONG_STRING_LENGTH_MAX).collect();
        let mut item = Map::new();
        put(&mut item, tags::ERROR_COMMENT, "LO", json!([comment]));
        if let Some(identity) = &self.identity {
            put_reference(&mut item, identity);
        }
        put(&mut item, tags::FAILURE_REASON, "US", json!([self.reason]));
        Value::Object(item)
    }
}

impl Outcome {
    pub(super) fn new(base_url: String) -> Self {
        Self { base_url, stored: Vec::new(), failures: Vec::new() }
    }

    pub(super) fn keep(&mut self, stored: Stored) {
        self.stored.push(stored);
    }

    pub(super) fn refuse(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    /// The reply: 200 when all are stored, 202 when some are, 409 when none is, and 507 when that is
    /// because there is no room.
    ///
    /// # Errors
    /// When there was nothing to store.
    pub(super) fn reply(self) -> Result<Response, ApiError> {
        let status = match (self.stored.is_empty(), self.failures.is_empty()) {
            (true, true) => return Err(ApiError::invalid("request body has no instances")),
            (false, true) => StatusCode::OK,
            (false, false) => StatusCode::ACCEPTED,
            (true, false) if self.failures.iter().all(|failure| failure.is_full) => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            (true, false) => StatusCode::CONFLICT,
        };
        let mut response = dicom_json(Value::Object(self.document()).to_string());
        *response.status_mut() = status;
        if let Some(first) = self.failures.first() {
            let (failed, all) = (self.failures.len(), self.failures.len() + self.stored.len());
            let text = format!(
                "{failed} of {all} instances are not stored, the first because: {}",
                first.sentence
            );
            response = with_warning(response, &text);
        }
        Ok(response)
    }

    /// Store Instances Response Module (PS3.18 Table I.2-1).
    fn document(&self) -> Map<String, Value> {
        let mut document = Map::new();
        let mut studies = self.stored.iter().map(|stored| &stored.identity.study);
        if let Some(study) = studies.next().filter(|study| studies.all(|other| other == *study)) {
            let url = format!("{}/dicom-web/studies/{study}", self.base_url);
            put(&mut document, tags::RETRIEVE_URL, "UR", json!([url]));
        }
        // Instances whose UIDs could not be read have a sequence of their own.
        let (known, unknown): (Vec<_>, Vec<_>) =
            self.failures.iter().partition(|failure| failure.identity.is_some());
        let stored = self.stored.iter().map(|stored| self.stored_item(&stored.identity));
        let sequences: [(Tag, Vec<Value>); 3] = [
            (tags::FAILED_SOP_SEQUENCE, known.iter().map(|failure| failure.item()).collect()),
            (tags::REFERENCED_SOP_SEQUENCE, stored.collect()),
            (tags::OTHER_FAILURES_SEQUENCE, unknown.iter().map(|f| f.item()).collect()),
        ];
        for (tag, items) in sequences.into_iter().filter(|(_, items)| !items.is_empty()) {
            put(&mut document, tag, "SQ", items.into());
        }
        document
    }

    fn stored_item(&self, identity: &Identity) -> Value {
        let mut item = Map::new();
        put_reference(&mut item, identity);
        let Identity { study, series, sop_instance, .. } = identity;
        let base = &self.base_url;
        let url =
            format!("{base}/dicom-web/studies/{study}/series/{series}/instances/{sop_instance}");
        put(&mut item, tags::RETRIEVE_URL, "UR", json!([url]));
        Value::Object(item)
    }
}

fn put_reference(item: &mut Map<String, Value>, identity: &Identity) {
    put(item, tags::REFERENCED_SOP_CLASS_UID, "UI", json!([identity.sop_class_uid]));
    let instance = json!([identity.sop_instance.as_str()]);
    put(item, tags::REFERENCED_SOP_INSTANCE_UID, "UI", instance);
}

fn put(map: &mut Map<String, Value>, tag: Tag, vr: &str, values: Value) {
    map.insert(json_key(tag), json!({ "vr": vr, "Value": values }));
}
