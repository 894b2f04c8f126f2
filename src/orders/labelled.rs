//! Orders whose right result is known, for evolution rounds.

use super::feedback::{FeedbackError, VerdictWord};
use super::{Order, OrderQuery, OrderState, Orders};
use crate::dicom::SopInstanceUid;
use crate::evolve::LabelledOrder;

/// How many orders are read at a time.
const PAGE: usize = 200;

impl Orders {
    /// Orders whose last feedback accepts the result, or says with a segmentation what it should
    /// have been; those that were refused can only be corrected.
    ///
    /// # Errors
    /// When the database fails, or a stored record cannot be read.
    pub fn labelled(&self) -> Result<Vec<LabelledOrder>, FeedbackError> {
        let mut labelled = Vec::new();
        for state in [OrderState::Completed, OrderState::Refused] {
            for page in 0.. {
                let query = OrderQuery {
                    state: Some(state),
                    limit: PAGE,
                    offset: page * PAGE,
                    ..OrderQuery::default()
                };
                let (orders, _) = self.list(&query)?;
                let last = orders.len() < PAGE;
                for order in orders {
                    labelled.extend(self.label(order)?);
                }
                if last {
                    break;
                }
            }
        }
        Ok(labelled)
    }

    fn label(&self, order: Order) -> Result<Option<LabelledOrder>, FeedbackError> {
        let Some(entry) = self.feedback(order.id)?.pop() else { return Ok(None) };
        let reference = match entry.verdict {
            VerdictWord::Accept => order.result.as_ref().map(|r| r.seg_sop_instance_uid.clone()),
            VerdictWord::Corrected => {
                let uid = entry.sop_instance_uid.as_deref();
                uid.map(SopInstanceUid::parse).transpose()?
            }
            VerdictWord::Reject => None,
        };
        let Some(reference) = reference else { return Ok(None) };
        let source = self.source_series(&order)?;
        let (text, study) = (order.new.text, order.new.study_uid);
        Ok(Some(LabelledOrder { text, study, source, reference }))
    }
}
