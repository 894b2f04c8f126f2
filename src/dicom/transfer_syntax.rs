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
