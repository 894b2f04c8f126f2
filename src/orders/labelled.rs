//! Orders whose right result is known, for evolution rounds.

use super::feedback::VerdictWord;
use super::{OrderError, OrderQuery, OrderState, Orders};
use crate::dicom::SopInstanceUid;
use crate::evolve::LabelledOrder;

/// How many orders are read at a time.
const PAGE: usize = 200;

impl Orders {
    /// Completed orders whose last feedback accepts the result or corrects it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn labelled(&self) -> Result<Vec<LabelledOrder>, OrderError> {
        let mut labelled = Vec::new();
        for page in 0.. {
            let query = OrderQuery {
                state: Some(OrderState::Completed),
                limit: PAGE,
                offset: page * PAGE,
                ..OrderQuery::default()
            };
            let (orders, _) = self.list(&query)?;
            let last = orders.len() < PAGE;
            for order in orders {
                let Some(result) = order.result else { continue };
                let Some(entry) = self.feedback(order.id)?.pop() else { continue };
                let reference = match entry.verdict {
                    VerdictWord::Accept => Some(result.seg_sop_instance_uid),
                    VerdictWord::Corrected => entry
                        .sop_instance_uid
                        .as_deref()
                        .and_then(|uid| SopInstanceUid::parse(uid).ok()),
                    VerdictWord::Reject => None,
                };
                labelled.extend(reference.map(|reference| LabelledOrder {
                    text: order.new.text,
                    study: order.new.study_uid,
                    source: result.source_series_uid,
                    reference,
                }));
            }
            if last {
                break;
            }
        }
        Ok(labelled)
    }
}
