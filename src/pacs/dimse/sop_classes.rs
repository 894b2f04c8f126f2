//! Which SOP classes travel.

use dicom_dictionary_std::uids;

/// Whether instances of a SOP class are stored: every storage SOP class of PS3.4 Table B.5-1 and
/// Table GG.3-1, and private ones.
pub(super) fn is_storage(uid: &str) -> bool {
    let Some(standard) = uid.strip_prefix("1.2.840.10008.") else {
        return crate::dicom::SopInstanceUid::parse(uid).is_ok();
    };
    let storage = [
        // Images, waveforms, documents, segmentations …
        "5.1.4.1.1.",
        // … RT Beams Delivery Instruction, and its conventional and 2nd-generation kin, …
        "5.1.4.34.",
        // … hanging protocols, palettes, implants and procedure protocols.
        "5.1.4.38.1",
        "5.1.4.39.1",
        "5.1.4.43.1",
        "5.1.4.44.1",
        "5.1.4.45.1",
        "5.1.4.1.1.200.",
    ];
    // Unified Procedure Step, RT management and the media directory are services.
    let service = ["5.1.4.34.4", "5.1.4.34.5", "5.1.4.34.6", "5.1.4.34.8", "5.1.4.34.9"];
    storage.iter().any(|prefix| standard.starts_with(prefix))
        && !service.iter().any(|prefix| standard.starts_with(prefix))
}

/// What C-GET asks for: the peer may send instances of these on our association. Segmentation
/// needs images of scanners; PS3.8 allows 128 contexts in all.
pub(super) const RETRIEVED: &[&str] = &[
    uids::CT_IMAGE_STORAGE,
    uids::ENHANCED_CT_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
    uids::MR_IMAGE_STORAGE,
    uids::ENHANCED_MR_IMAGE_STORAGE,
    uids::ENHANCED_MR_COLOR_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE,
    uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
    uids::ENHANCED_PET_IMAGE_STORAGE,
    uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE,
    uids::NUCLEAR_MEDICINE_IMAGE_STORAGE,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::X_RAY3_D_ANGIOGRAPHIC_IMAGE_STORAGE,
    uids::X_RAY3_D_CRANIOFACIAL_IMAGE_STORAGE,
    uids::BREAST_TOMOSYNTHESIS_IMAGE_STORAGE,
    uids::ULTRASOUND_IMAGE_STORAGE,
    uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
    uids::ENHANCED_US_VOLUME_STORAGE,
    uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
    uids::ENHANCED_XA_IMAGE_STORAGE,
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::RT_IMAGE_STORAGE,
    uids::RT_DOSE_STORAGE,
    uids::RT_STRUCTURE_SET_STORAGE,
    uids::RT_PLAN_STORAGE,
    uids::SEGMENTATION_STORAGE,
    uids::PARAMETRIC_MAP_STORAGE,
    uids::ENHANCED_SR_STORAGE,
    uids::COMPREHENSIVE_SR_STORAGE,
    uids::COMPREHENSIVE3_DSR_STORAGE,
    uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
    uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_told_from_services() {
        for uid in RETRIEVED {
            assert!(is_storage(uid), "{uid}");
        }
        assert!(is_storage("1.3.12.2.1107.5.9.1"), "private");
        for uid in [
            uids::VERIFICATION,
            uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND,
            uids::UNIFIED_PROCEDURE_STEP_PUSH,
            "not a UID",
        ] {
            assert!(!is_storage(uid), "{uid}");
        }
    }
}
