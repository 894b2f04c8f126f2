//! Headers of data elements and items, read without trusting them (PS3.5 §7).

use dicom_core::{Tag, VR};

use super::DicomError;

/// The tag that opens an item or a fragment.
pub(super) const ITEM: Tag = Tag(0xFFFE, 0xE000);
/// The tag that closes an item of undefined length.
pub(super) const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
/// The tag that closes a sequence of undefined length.
pub(super) const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);

/// How headers and values are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Implicit VR Little Endian (PS3.5 §A.1).
    ImplicitLittle,
    /// Explicit VR Little Endian (PS3.5 §A.2).
    ExplicitLittle,
    /// Explicit VR Big Endian (PS3.5 §A.3, retired).
    ExplicitBig,
}

impl Encoding {
    pub(super) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::ImplicitLittle | Self::ExplicitLittle => u16::from_le_bytes(bytes),
            Self::ExplicitBig => u16::from_be_bytes(bytes),
        }
    }

    pub(super) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::ImplicitLittle | Self::ExplicitLittle => u32::from_le_bytes(bytes),
            Self::ExplicitBig => u32::from_be_bytes(bytes),
        }
    }

    pub(super) fn is_little_endian(self) -> bool {
        self != Self::ExplicitBig
    }
}

/// The header of an element, item or delimiter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) tag: Tag,
    /// As written; `None` in implicit VR and for items and delimiters.
    pub(super) vr: Option<VR>,
    /// `None` is undefined length.
    pub(super) length: Option<u32>,
    /// Where the header starts.
    pub(super) offset: usize,
    /// Where the value starts.
    pub(super) value_at: usize,
}

impl Header {
    /// Where the value ends, given where its surroundings end.
    pub(super) fn value_end(&self, limit: usize, length: u32) -> Result<usize, DicomError> {
        let remaining = limit.saturating_sub(self.value_at);
        match usize::try_from(length) {
            Ok(length) if length <= remaining => Ok(self.value_at + length),
            _ => Err(DicomError::Truncated {
                tag: self.tag,
                offset: self.offset,
                declared: u64::from(length),
                remaining: remaining as u64,
            }),
        }
    }

    pub(super) fn broken(&self, problem: impl Into<String>) -> DicomError {
        DicomError::BadStructure { tag: self.tag, offset: self.offset, problem: problem.into() }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Reads the tag at `at`, if four bytes are there.
pub(super) fn peek_tag(bytes: &[u8], at: usize, encoding: Encoding) -> Option<Tag> {
    let group = encoding.u16(array(bytes, at)?);
    let element = encoding.u16(array(bytes, at.checked_add(2)?)?);
    Some(Tag(group, element))
}

/// Reads one header at `at`; `bytes` ends where the surroundings end.
///
/// # Errors
/// [`DicomError::Truncated`] when the header is cut off and [`DicomError::BadStructure`] when an
/// explicit VR is not two capital letters.
pub(super) fn read_header(
    bytes: &[u8],
    at: usize,
    encoding: Encoding,
) -> Result<Header, DicomError> {
    let tag = peek_tag(bytes, at, encoding).unwrap_or(Tag(0, 0));
    let cut_off = |declared: u64| DicomError::Truncated {
        tag,
        offset: at,
        declared,
        remaining: bytes.len().saturating_sub(at) as u64,
    };
    let long: [u8; 4] = array(bytes, at + 4).ok_or_else(|| cut_off(8))?;
    let header = |vr, length: u32, header_size: usize| Header {
        tag,
        vr,
        length: (length != u32::MAX).then_some(length),
        offset: at,
        value_at: at + header_size,
    };
    if encoding == Encoding::ImplicitLittle || tag.group() == 0xFFFE {
        return Ok(header(None, encoding.u32(long), 8));
    }
    let [first, second, low, high] = long;
    let short_length = u32::from(encoding.u16([low, high]));
    let long_length = || array(bytes, at + 8).map(|bytes| encoding.u32(bytes));
    match VR::from_binary([first, second]) {
        Some(vr) if has_long_header(vr) => {
            let length = long_length().ok_or_else(|| cut_off(12))?;
            Ok(header(Some(vr), length, 12))
        }
        Some(vr) => Ok(header(Some(vr), short_length, 8)),
        // A VR of the future has the long form (PS3.5 §6.2); some writers use the short one.
        None if first.is_ascii_uppercase() && second.is_ascii_uppercase() => {
            let remaining = bytes.len().saturating_sub(at + 12);
            match long_length() {
                Some(length) if [low, high] == [0, 0] && length as usize <= remaining => {
                    Ok(header(Some(VR::UN), length, 12))
                }
                _ => Ok(header(Some(VR::UN), short_length, 8)),
            }
        }
        None => Err(DicomError::BadStructure {
            tag,
            offset: at,
            problem: format!("the value representation is bytes {first:#04x} {second:#04x}"),
        }),
    }
}

/// Whether a VR has two reserved bytes and a 32-bit length (PS3.5 §7.1.2).
fn has_long_header(vr: VR) -> bool {
    use VR::*;
    matches!(vr, OB | OD | OF | OL | OV | OW | SQ | SV | UC | UN | UR | UT | UV)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_short_long_implicit_and_big_endian_headers() {
        let check = |bytes: &[u8], encoding, vr, length, size| {
            let header = read_header(bytes, 0, encoding).expect("a whole header");
            assert_eq!((header.vr, header.length, header.value_at), (vr, length, size));
        };
        let (implicit, little, big) =
            (Encoding::ImplicitLittle, Encoding::ExplicitLittle, Encoding::ExplicitBig);
        check(b"\x08\0\x05\0\x0a\0\0\0", implicit, None, Some(10), 8);
        check(b"\x08\0\x05\0CS\x0a\0", little, Some(VR::CS), Some(10), 8);
        check(b"\0\x08\0\x05CS\0\x0a", big, Some(VR::CS), Some(10), 8);
        check(b"\x08\0\x05\0OB\0\0\x0a\0\0\0", little, Some(VR::OB), Some(10), 12);
        check(b"\x08\0\x05\0UN\0\0\xff\xff\xff\xff", little, Some(VR::UN), None, 12);
        check(b"\xfe\xff\0\xe0\xff\xff\xff\xff", little, None, None, 8);
        check(b"\x08\0\x05\0ZZ\x02\0ab", little, Some(VR::UN), Some(2), 8);
    }

    #[test]
    fn refuses_cut_off_headers_and_bytes_that_are_no_representation() {
        for cut in 0..12 {
            let bytes = &b"\x08\0\x05\0OB\0\0\x0a\0\0\0"[..cut];
            assert!(matches!(
                read_header(bytes, 0, Encoding::ExplicitLittle),
                Err(DicomError::Truncated { .. })
            ));
        }
        assert!(matches!(
            read_header(b"\x08\0\x05\0\x0a\0\0\0", 0, Encoding::ExplicitLittle),
            Err(DicomError::BadStructure { .. })
        ));
    }
}
