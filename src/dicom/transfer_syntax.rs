//! What a transfer syntax means for the data set and for the pixels (PS3.5 Annex A).

use super::stream::Encoding;

/// Implicit VR Little Endian.
pub(super) const IMPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub(super) const EXPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Explicit VR Big Endian.
pub(super) const EXPLICIT_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// How the data set is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct DataSetForm {
    pub(super) encoding: Encoding,
    pub(super) is_deflated: bool,
}

/// Every transfer syntax but a few writes its data set as Explicit VR Little Endian.
pub(super) fn data_set_form(uid: &str) -> DataSetForm {
    let (encoding, is_deflated) = match uid {
        IMPLICIT_LITTLE_ENDIAN => (Encoding::ImplicitLittle, false),
        EXPLICIT_BIG_ENDIAN => (Encoding::ExplicitBig, false),
        "1.2.840.10008.1.2.1.99" | "1.2.840.10008.1.2.4.95" | "1.2.840.10008.1.2.4.205" => {
            (Encoding::ExplicitLittle, true)
        }
        _ => (Encoding::ExplicitLittle, false),
    };
    DataSetForm { encoding, is_deflated }
}

/// How the frames are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PixelCoding {
    /// Not at all.
    Native,
    /// Encapsulated Uncompressed.
    Uncompressed,
    /// Deflated Image Frame.
    Deflated,
    /// RLE Lossless (PS3.5 Annex G).
    Rle,
    /// JPEG baseline, extended and lossless.
    Jpeg,
    /// JPEG-LS, lossless and near-lossless.
    JpegLs,
    /// JPEG 2000 and High-Throughput JPEG 2000.
    Jpeg2000,
    /// JPEG XL.
    JpegXl,
}

impl PixelCoding {
    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Uncompressed => "encapsulated uncompressed",
            Self::Deflated => "deflated image frame",
            Self::Rle => "RLE",
            Self::Jpeg => "JPEG",
            Self::JpegLs => "JPEG-LS",
            Self::Jpeg2000 => "JPEG 2000",
            Self::JpegXl => "JPEG XL",
        }
    }
}

/// The pixel coding of a transfer syntax, if this server decodes it.
pub(super) fn pixel_coding(uid: &str) -> Option<PixelCoding> {
    match uid.strip_prefix("1.2.840.10008.1.2")? {
        "" | ".1" | ".2" | ".1.99" => Some(PixelCoding::Native),
        ".1.98" => Some(PixelCoding::Uncompressed),
        ".8.1" => Some(PixelCoding::Deflated),
        ".5" => Some(PixelCoding::Rle),
        ".4.50" | ".4.51" | ".4.57" | ".4.70" => Some(PixelCoding::Jpeg),
        ".4.80" | ".4.81" => Some(PixelCoding::JpegLs),
        ".4.90" | ".4.91" | ".4.201" | ".4.202" | ".4.203" => Some(PixelCoding::Jpeg2000),
        ".4.110" | ".4.111" | ".4.112" => Some(PixelCoding::JpegXl),
        _ => None,
    }
}

/// A transfer syntax of PS3.6 Table A-1 as this server treats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferSyntax {
    /// Its UID.
    pub uid: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The media type of its frames, where PS3.18 Table 8.7.3-5 has one.
    pub frame_media_type: Option<&'static str>,
}

const fn syntax(
    uid: &'static str,
    name: &'static str,
    frame_media_type: Option<&'static str>,
) -> TransferSyntax {
    TransferSyntax { uid, name, frame_media_type }
}

/// The transfer syntaxes that are named to clients. Others are stored and sent as they came.
pub const TRANSFER_SYNTAXES: &[TransferSyntax] = &[
    syntax("1.2.840.10008.1.2", "Implicit VR Little Endian", None),
    syntax("1.2.840.10008.1.2.1", "Explicit VR Little Endian", None),
    syntax("1.2.840.10008.1.2.1.98", "Encapsulated Uncompressed Explicit VR Little Endian", None),
    syntax("1.2.840.10008.1.2.1.99", "Deflated Explicit VR Little Endian", None),
    syntax("1.2.840.10008.1.2.2", "Explicit VR Big Endian (retired)", None),
    syntax("1.2.840.10008.1.2.4.50", "JPEG Baseline (Process 1)", Some("image/jpeg")),
    syntax("1.2.840.10008.1.2.4.51", "JPEG Extended (Process 2 and 4)", Some("image/jpeg")),
    syntax("1.2.840.10008.1.2.4.57", "JPEG Lossless (Process 14)", Some("image/jpeg")),
    syntax("1.2.840.10008.1.2.4.70", "JPEG Lossless SV1", Some("image/jpeg")),
    syntax("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless", Some("image/jls")),
    syntax("1.2.840.10008.1.2.4.81", "JPEG-LS Near-Lossless", Some("image/jls")),
    syntax("1.2.840.10008.1.2.4.90", "JPEG 2000 Lossless", Some("image/jp2")),
    syntax("1.2.840.10008.1.2.4.91", "JPEG 2000", Some("image/jp2")),
    syntax("1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level", Some("video/mpeg")),
    syntax("1.2.840.10008.1.2.4.101", "MPEG2 Main Profile / High Level", Some("video/mpeg")),
    syntax("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile", Some("video/mp4")),
    syntax("1.2.840.10008.1.2.4.103", "MPEG-4 AVC/H.264 BD-compatible", Some("video/mp4")),
    syntax("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile", Some("video/mp4")),
    syntax("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile", Some("video/mp4")),
    syntax("1.2.840.10008.1.2.4.110", "JPEG XL Lossless", Some("image/jxl")),
    syntax("1.2.840.10008.1.2.4.111", "JPEG XL JPEG Recompression", Some("image/jxl")),
    syntax("1.2.840.10008.1.2.4.112", "JPEG XL", Some("image/jxl")),
    syntax("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000 Lossless", Some("image/jphc")),
    syntax("1.2.840.10008.1.2.4.202", "High-Throughput JPEG 2000 RPCL", Some("image/jphc")),
    syntax("1.2.840.10008.1.2.4.203", "High-Throughput JPEG 2000", Some("image/jphc")),
    syntax("1.2.840.10008.1.2.5", "RLE Lossless", Some("image/dicom-rle")),
    syntax("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression", None),
];

impl TransferSyntax {
    /// Finds one by its UID.
    pub fn find(uid: &str) -> Option<&'static Self> {
        TRANSFER_SYNTAXES.iter().find(|known| known.uid == uid)
    }
}
