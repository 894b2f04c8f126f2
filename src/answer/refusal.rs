//! The reason of a refusal, from its code or from clear words.

use super::{Refusal, RefusalReason};
use crate::error::Finding;
use crate::runtime::vocabulary::normalise;

/// Words that give a reason away, in the form of [`normalise`]. Codes match as words too.
const CUES: &[(RefusalReason, &[&str])] = &[
    (
        RefusalReason::OutOfRegion,
        &[
            "out of region",
            "out of the region",
            "outside the region",
            "outside the scanned",
            "outside of the scanned",
            "outside the scan",
            "outside the field of view",
            "outside of the field of view",
            "out of field",
            "not in the scanned region",
            "not in the region",
            "not in this region",
            "not in the scan",
            "not in this scan",
            "not in the field of view",
            "not part of the scanned",
            "not covered",
            "not included in",
            "beyond the scan",
        ],
    ),
    (
        RefusalReason::UnsupportedModality,
        &["unsupported modality", "this modality", "modality not supported", "modality is not"],
    ),
    (
        RefusalReason::NotVisible,
        &[
            "not visible",
            "not visualised",
            "not visualized",
            "not seen",
            "cannot be seen",
            "not identified",
            "not identifiable",
            "not discernible",
        ],
    ),
    (RefusalReason::Ambiguous, &["ambiguous", "several meanings", "underspecified"]),
    (
        RefusalReason::NotASegmentationRequest,
        &[
            "not a segmentation request",
            "no segmentation request",
            "no segmentation requested",
            "no segmentation is requested",
            "not ask for a segmentation",
            "not asking for a segmentation",
        ],
    ),
    (
        RefusalReason::UnknownTarget,
        &["unknown target", "unknown structure", "not in the vocabulary", "not in my vocabulary"],
    ),
];

/// Reads the words after `Reject:`.
///
/// `not visible` next to a region or a modality is their consequence and gives way to them; any
/// other mixture of reasons, or none, is [`RefusalReason::Unspecified`] with a finding.
pub(super) fn read(text: &str) -> (Refusal, Vec<Finding>) {
    let words = format!(" {} ", normalise(text));
    let mut named: Vec<RefusalReason> = CUES
        .iter()
        .filter(|(_, cues)| cues.iter().any(|cue| words.contains(&format!(" {cue} "))))
        .map(|(reason, _)| *reason)
        .collect();
    if named.len() > 1 {
        named.retain(|reason| *reason != RefusalReason::NotVisible);
    }
    let refusal = |reason| Refusal { reason, text: text.to_owned() };
    if let [reason] = named[..] {
        return (refusal(reason), Vec::new());
    }
    if words.trim() == "unspecified" {
        return (refusal(RefusalReason::Unspecified), Vec::new());
    }
    let message = match named.len() {
        0 => "answer refuses without a reason that is known here".to_owned(),
        count => format!("answer refuses for {count} different reasons"),
    };
    let finding = Finding::new("refusal_reason_unclear", message);
    (refusal(RefusalReason::Unspecified), vec![finding])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_codes_and_clear_words_to_reasons() {
        use RefusalReason::*;
        let rows = [
            ("out of region", OutOfRegion, 0),
            ("the prostate is not in the scanned region", OutOfRegion, 0),
            ("the kidney lies outside the field of view, so it is not visible", OutOfRegion, 0),
            ("cannot be seen in this modality", UnsupportedModality, 0),
            ("Not visible", NotVisible, 0),
            ("gallbladder not seen (resected)", NotVisible, 0),
            ("ambiguous, several readings", Ambiguous, 0),
            ("this is not a segmentation request", NotASegmentationRequest, 0),
            ("", Unspecified, 1),
            ("motion artefact", Unspecified, 1),
            ("ambiguous and out of region", Unspecified, 1),
            ("unambiguously there", Unspecified, 1),
        ];
        for (text, reason, finding_count) in rows {
            let (refusal, findings) = read(text);
            assert_eq!((refusal.reason, findings.len()), (reason, finding_count), "{text:?}");
            assert_eq!(refusal.text, text);
        }
    }

    #[test]
    fn every_code_reads_back_as_its_reason() {
        for reason in RefusalReason::ALL {
            assert_eq!(read(reason.code()).0.reason, reason);
            let json = serde_json::to_value(reason).expect("a plain enum");
            assert_eq!(json, reason.code());
        }
    }
}
