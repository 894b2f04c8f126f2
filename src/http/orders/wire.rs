//! Orders as clients see them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Refusal;
use crate::dicom::{SeriesUid, StudyUid};
use crate::dicom_seg::SegmentationType;
use crate::error::Finding;
use crate::http::error::ApiError;
use crate::orders::{
    Delivery, FetchStatus, NewOrder, Order, OrderFailure, OrderState, Outputs, ResultDocument,
    Routing, Step,
};

/// A request to segment something in a stored study.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderRequest {
    /// The study to look at (Study Instance UID).
    #[schema(example = "1.2.826.0.1.3680043.2.1143.1")]
    pub(super) study_uid: String,
    /// The series; the most suitable one of the study when absent.
    #[serde(default)]
    pub(super) series_uid: Option<String>,
    /// What to segment, in free text.
    #[schema(example = "pls outline the left hippocampus")]
    pub(super) text: String,
    /// Other wordings of the text. Each is reasoned about too, and the record says whether they
    /// come to the same answer and masks; the result is that of the text.
    #[serde(default)]
    pub(super) rephrasings: Vec<String>,
    /// Higher goes first; 0 is routine.
    #[serde(default)]
    pub(super) priority: i32,
    /// Leave frames without any inside pixel out of the segmentation.
    #[serde(default)]
    pub(super) drop_empty_frames: bool,
    /// BINARY, or LABELMAP where targets do not overlap.
    #[serde(default)]
    pub(super) segmentation_type: SegmentationType,
    /// Also store a structured report (TID 1500) of the volumes.
    #[serde(default)]
    pub(super) structured_report: bool,
    /// Also store key images: the best slices as key objects, and a picture of the masks.
    #[serde(default)]
    pub(super) key_images: bool,
    /// The node to fetch the study from; when absent, a study that is not stored here is looked
    /// for on every node.
    #[serde(default)]
    pub(super) source: Option<String>,
    /// Nodes that get the result, besides those that get every result.
    #[serde(default)]
    pub(super) deliver_to: Vec<String>,
}

impl OrderRequest {
    /// Checks the UIDs.
    pub(super) fn into_new(self, idempotency_key: Option<String>) -> Result<NewOrder, ApiError> {
        Ok(NewOrder {
            study_uid: StudyUid::parse(&self.study_uid)?,
            series_uid: self.series_uid.as_deref().map(SeriesUid::parse).transpose()?,
            text: self.text,
            rephrasings: self.rephrasings,
            priority: self.priority,
            idempotency_key,
            drop_empty_frames: self.drop_empty_frames,
            outputs: Outputs {
                segmentation_type: self.segmentation_type,
                structured_report: self.structured_report,
                key_images: self.key_images,
            },
            routing: Routing { source: self.source, deliver_to: self.deliver_to },
        })
    }
}

/// An order and where it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OrderView {
    /// Its id.
    id: Uuid,
    /// Study Instance UID.
    study_uid: String,
    /// Series Instance UID, when one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    series_uid: Option<String>,
    /// The free text.
    text: String,
    /// Other wordings of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rephrasings: Vec<String>,
    /// Higher goes first.
    priority: i32,
    /// Leave frames without any inside pixel out.
    drop_empty_frames: bool,
    /// BINARY or LABELMAP.
    segmentation_type: SegmentationType,
    /// Whether a structured report was asked for.
    structured_report: bool,
    /// Whether key images were asked for.
    key_images: bool,
    /// Where it stands.
    state: OrderState,
    /// The step at hand, while running.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    /// Done part of the whole, 0 to 1.
    progress: f32,
    /// What was noticed on the way.
    findings: Vec<Finding>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<OrderFailure>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Refusal>,
    /// What came out.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ResultView>,
    /// When it was accepted.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// How often it was started.
    attempt_count: u32,
    /// The node to fetch the study from, when one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// How far the study is, when another node keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetch: Option<FetchStatus>,
    /// The nodes that the order sends its result to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deliver_to: Vec<String>,
    /// Its result on the way to other nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deliveries: Vec<Delivery>,
    /// Where to go on from here.
    links: Links,
}

/// What a completed order made.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct ResultView {
    /// The series that was segmented.
    source_series_uid: String,
    /// Series Instance UID of the segmentation.
    seg_series_uid: String,
    /// SOP Instance UID of the segmentation.
    seg_sop_instance_uid: String,
    /// Report and key images, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    documents: Vec<ResultDocument>,
}

/// Paths of an order's resources; those that do not exist yet are absent.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Links {
    /// The order itself.
    #[serde(rename = "self")]
    this: String,
    /// Its changes as server-sent events.
    events: String,
    /// The reasoning record.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    /// The segmentation as a DICOM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation: Option<String>,
    /// The masks as one NIfTI label map, for research.
    #[serde(skip_serializing_if = "Option::is_none")]
    segmentation_nifti: Option<String>,
    /// A picture of the segmentation over the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<String>,
}

/// A page of orders.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OrderList {
    /// Newest first.
    pub(super) orders: Vec<OrderView>,
    /// How many match in all.
    pub(super) total: u64,
}

/// The path of an order.
pub(super) fn order_path(id: Uuid) -> String {
    format!("/api/v1/orders/{id}")
}

impl OrderView {
    pub(super) fn of(order: Order) -> Self {
        let links = Links::of(&order);
        Self {
            id: order.id,
            study_uid: order.new.study_uid.to_string(),
            series_uid: order.new.series_uid.map(|uid| uid.to_string()),
            text: order.new.text,
            rephrasings: order.new.rephrasings,
            priority: order.new.priority,
            drop_empty_frames: order.new.drop_empty_frames,
            segmentation_type: order.new.outputs.segmentation_type,
            structured_report: order.new.outputs.structured_report,
            key_images: order.new.outputs.key_images,
            state: order.state,
            step: order.step,
            progress: order.progress,
            findings: order.findings,
            error: order.error,
            refusal: order.refusal,
            result: order.result.map(|result| ResultView {
                source_series_uid: result.source_series_uid.to_string(),
                seg_series_uid: result.seg_series_uid.to_string(),
                seg_sop_instance_uid: result.seg_sop_instance_uid.to_string(),
                documents: result.documents,
            }),
            created_at: order.created_at,
            updated_at: order.updated_at,
            attempt_count: order.attempt_count,
            source: order.new.routing.source,
            fetch: order.fetch,
            deliveries: order.deliveries,
            deliver_to: order.new.routing.deliver_to,
            links,
        }
    }
}

impl Links {
    fn of(order: &Order) -> Self {
        let this = order_path(order.id);
        let has_record = matches!(order.state, OrderState::Completed | OrderState::Refused);
        let has_mask = order.state == OrderState::Completed;
        Self {
            events: format!("{this}/events"),
            reasoning: has_record.then(|| format!("{this}/reasoning")),
            segmentation: has_mask.then(|| format!("{this}/segmentation")),
            segmentation_nifti: has_mask.then(|| format!("{this}/segmentation.nii.gz")),
            overlay: has_mask.then(|| format!("{this}/artefacts/overlay.png")),
            this,
        }
    }
}
