//! Which SOP classes travel, and which services are provided.

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
pub(super) const RETRIEVED: &[(&str, &str)] = &[
    (uids::CT_IMAGE_STORAGE, "CT Image Storage"),
    (uids::ENHANCED_CT_IMAGE_STORAGE, "Enhanced CT Image Storage"),
    (
        uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE,
        "Legacy Converted Enhanced CT Image Storage",
    ),
    (uids::MR_IMAGE_STORAGE, "MR Image Storage"),
    (uids::ENHANCED_MR_IMAGE_STORAGE, "Enhanced MR Image Storage"),
    (uids::ENHANCED_MR_COLOR_IMAGE_STORAGE, "Enhanced MR Color Image Storage"),
    (
        uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE,
        "Legacy Converted Enhanced MR Image Storage",
    ),
    (
        uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
        "Positron Emission Tomography Image Storage",
    ),
    (uids::ENHANCED_PET_IMAGE_STORAGE, "Enhanced PET Image Storage"),
    (
        uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE,
        "Legacy Converted Enhanced PET Image Storage",
    ),
    (uids::NUCLEAR_MEDICINE_IMAGE_STORAGE, "Nuclear Medicine Image Storage"),
    (uids::SECONDARY_CAPTURE_IMAGE_STORAGE, "Secondary Capture Image Storage"),
    (
        uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    ),
    (
        uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame Grayscale Word Secondary Capture Image Storage",
    ),
    (
        uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
        "Multi-frame True Color Secondary Capture Image Storage",
    ),
    (uids::X_RAY3_D_ANGIOGRAPHIC_IMAGE_STORAGE, "X-Ray 3D Angiographic Image Storage"),
    (uids::X_RAY3_D_CRANIOFACIAL_IMAGE_STORAGE, "X-Ray 3D Craniofacial Image Storage"),
    (uids::BREAST_TOMOSYNTHESIS_IMAGE_STORAGE, "Breast Tomosynthesis Image Storage"),
    (uids::ULTRASOUND_IMAGE_STORAGE, "Ultrasound Image Storage"),
    (uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE, "Ultrasound Multi-frame Image Storage"),
    (uids::ENHANCED_US_VOLUME_STORAGE, "Enhanced US Volume Storage"),
    (uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE, "X-Ray Angiographic Image Storage"),
    (uids::ENHANCED_XA_IMAGE_STORAGE, "Enhanced XA Image Storage"),
    (uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, "Computed Radiography Image Storage"),
    (
        uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        "Digital X-Ray Image Storage - For Presentation",
    ),
    (
        uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        "Digital Mammography X-Ray Image Storage - For Presentation",
    ),
    (uids::RT_IMAGE_STORAGE, "RT Image Storage"),
    (uids::RT_DOSE_STORAGE, "RT Dose Storage"),
    (uids::RT_STRUCTURE_SET_STORAGE, "RT Structure Set Storage"),
    (uids::RT_PLAN_STORAGE, "RT Plan Storage"),
    (uids::SEGMENTATION_STORAGE, "Segmentation Storage"),
    (uids::PARAMETRIC_MAP_STORAGE, "Parametric Map Storage"),
    (uids::ENHANCED_SR_STORAGE, "Enhanced SR Storage"),
    (uids::COMPREHENSIVE_SR_STORAGE, "Comprehensive SR Storage"),
    (uids::COMPREHENSIVE3_DSR_STORAGE, "Comprehensive 3D SR Storage"),
    (uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE, "Key Object Selection Document Storage"),
    (
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        "Grayscale Softcopy Presentation State Storage",
    ),
];

/// The UIDs of [`RETRIEVED`].
pub(super) fn retrieved() -> impl Iterator<Item = &'static str> {
    RETRIEVED.iter().map(|(uid, _)| *uid)
}

/// Which tree of entities a query walks (PS3.4 §C.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// From patients down.
    Patient,
    /// From studies down.
    Study,
}

/// What a query/retrieve service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Find,
    Move,
    Get,
}

/// A query/retrieve SOP class that we provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) uid: &'static str,
    pub(super) root: Root,
    pub(super) operation: Operation,
    name: &'static str,
    is_used: bool,
}

macro_rules! service {
    ($root:ident $operation:ident $word:literal $uid:ident $is_used:literal) => {
        Service {
            uid: uids::$uid,
            root: Root::$root,
            operation: Operation::$operation,
            name: concat!(stringify!($root), " Root Query/Retrieve Information Model - ", $word),
            is_used: $is_used,
        }
    };
}

const SERVICES: [Service; 6] = [
    service!(Patient Find "FIND" PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND false),
    service!(Patient Move "MOVE" PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE false),
    service!(Patient Get "GET" PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET false),
    service!(Study Find "FIND" STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND true),
    service!(Study Move "MOVE" STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE true),
    service!(Study Get "GET" STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET true),
];

/// The query/retrieve service of an abstract syntax.
pub(super) fn service(uid: &str) -> Option<Service> {
    SERVICES.into_iter().find(|service| service.uid == uid)
}

/// A SOP class and our roles, for the conformance statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SopClassRoles {
    /// Its UID.
    pub uid: &'static str,
    /// Its name in PS3.6 Table A-1.
    pub name: &'static str,
    /// We ask for it (SCU).
    pub is_user: bool,
    /// We provide it (SCP).
    pub is_provider: bool,
}

/// The SOP classes of our associations. Any other storage SOP class is taken and sent as well.
pub fn sop_class_roles() -> Vec<SopClassRoles> {
    let verification = SopClassRoles {
        uid: uids::VERIFICATION,
        name: "Verification",
        is_user: true,
        is_provider: true,
    };
    let services = SERVICES.into_iter().map(|Service { uid, name, is_used, .. }| SopClassRoles {
        uid,
        name,
        is_user: is_used,
        is_provider: true,
    });
    let storage = RETRIEVED.iter().map(|(uid, name)| SopClassRoles {
        uid,
        name,
        is_user: true,
        is_provider: true,
    });
    std::iter::once(verification).chain(services).chain(storage).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_told_from_services() {
        for uid in retrieved() {
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
