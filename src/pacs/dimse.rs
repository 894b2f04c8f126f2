//! DICOM associations (PS3.7, PS3.8): verification, storage, query and retrieval, as user and as
//! provider.

mod acceptor;
mod answer;
mod association;
mod command;
mod find;
mod give;
mod identifier;
mod negotiation;
mod receive;
mod requestor;
mod retrieve;
mod send;
mod sop_classes;
mod suboperations;

pub(super) use acceptor::listen;
pub use command::Command;
pub(super) use requestor::{echo, series_of};
pub(super) use retrieve::retrieve;
pub(super) use send::send;
pub use sop_classes::{SopClassRoles, sop_class_roles};

use dicom_dictionary_std::uids;

/// Every status that is used here (PS3.7 Annex C, PS3.4 §B.2.3).
mod status {
    pub(super) const SUCCESS: u16 = 0x0000;
    pub(super) const PROCESSING_FAILURE: u16 = 0x0110;
    pub(super) const DUPLICATE_SOP_INSTANCE: u16 = 0x0111;
    pub(super) const SOP_CLASS_NOT_SUPPORTED: u16 = 0x0122;
    pub(super) const UNRECOGNIZED_OPERATION: u16 = 0x0211;
    pub(super) const OUT_OF_RESOURCES: u16 = 0xA700;
    pub(super) const DOES_NOT_MATCH_SOP_CLASS: u16 = 0xA900;
    pub(super) const CANNOT_UNDERSTAND: u16 = 0xC000;
    pub(super) const MISSING_ATTRIBUTE: u16 = 0x0120;
    /// Query/retrieve (PS3.4 Tables C.4-1 to C.4-3).
    pub(super) const PENDING: u16 = 0xFF00;
    /// Some optional keys were not matched.
    pub(super) const PENDING_WITHOUT_SOME_KEYS: u16 = 0xFF01;
    pub(super) const CANCELLED: u16 = 0xFE00;
    pub(super) const CANNOT_COUNT_MATCHES: u16 = 0xA701;
    pub(super) const CANNOT_PERFORM_SUBOPERATIONS: u16 = 0xA702;
    pub(super) const MOVE_DESTINATION_UNKNOWN: u16 = 0xA801;
    pub(super) const SOME_SUBOPERATIONS_FAILED: u16 = 0xB000;
    pub(super) const UNABLE_TO_PROCESS: u16 = 0xC001;

    /// More responses follow.
    pub(super) fn is_pending(status: u16) -> bool {
        matches!(status, 0xFF00 | 0xFF01)
    }

    /// Done, perhaps with a warning (PS3.7 §C.1.1, B000 and the like).
    pub(super) fn is_done(status: u16) -> bool {
        matches!(status, 0x0000 | 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF)
    }
}

/// Transfer syntaxes of identifiers, and those that every instance can be had in whose pixels can
/// be decoded; best first.
const UNCOMPRESSED: [&str; 2] = [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN];

/// Transfer syntaxes we take, which are those the `dicom` room reads.
const TRANSFER_SYNTAXES: &[&str] = &[
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::HTJ2K_LOSSLESS,
    uids::HTJ2K_LOSSLESS_RPCL,
    uids::HTJ2K,
    uids::JPEGXL_LOSSLESS,
    uids::JPEGXLJPEG_RECOMPRESSION,
    uids::JPEGXL,
    uids::RLE_LOSSLESS,
    uids::ENCAPSULATED_UNCOMPRESSED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::DEFLATED_IMAGE_FRAME_COMPRESSION,
    // Explicit VR Big Endian, retired.
    "1.2.840.10008.1.2.2",
];
