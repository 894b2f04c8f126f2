//! Bytes of one value into a `PrimitiveValue`, by value representation (PS3.5 §6.2).

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry, VirtualVr};
use dicom_core::smallvec::Array;
use dicom_core::value::C;
use dicom_core::{PrimitiveValue, Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;

use super::stream::{Encoding, peek_tag};
use super::text::{CharacterSet, Decoded};

/// What decides the meaning of values inside one data set; items inherit it.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) encoding: Encoding,
    pub(super) text: CharacterSet,
    /// Pixel Representation (0028,0103) is 1.
    pub(super) is_signed: bool,
    /// Bits Allocated (0028,0100); decides how big-endian pixel data are swapped.
    pub(super) bits_allocated: u16,
}

/// Looks the VR of a public attribute up, for streams that do not write it.
pub(super) fn dictionary_vr(tag: Tag, is_signed: bool) -> Option<VR> {
    if tag == Tag(0x7FE0, 0x0010) || (tag.group() >> 8 == 0x60 && tag.element() == 0x3000) {
        return Some(VR::OW);
    }
    StandardDataDictionary.by_tag(tag).map(|entry| match entry.vr() {
        VirtualVr::Xs if is_signed => VR::SS,
        other => other.relaxed(),
    })
}

/// How many strings the value will become; memory is spent on each.
pub(super) fn text_value_count(vr: VR, bytes: &[u8]) -> usize {
    if is_multi_text(vr) { 1 + bytes.iter().filter(|byte| **byte == b'\\').count() } else { 0 }
}

/// Decodes one value. `true` beside it when text was not valid in its character set and bytes
/// were read as Latin-1.
pub(super) fn decode(vr: VR, tag: Tag, bytes: &[u8], context: &Context) -> (PrimitiveValue, bool) {
    if bytes.is_empty() {
        return (PrimitiveValue::Empty, false);
    }
    if is_multi_text(vr) {
        return decode_texts(vr, bytes, context);
    }
    let value = match vr {
        VR::LT | VR::ST | VR::UT | VR::UR => {
            let Decoded { text, is_mangled } = context.text.decode(bytes);
            return (PrimitiveValue::Str(text), is_mangled);
        }
        VR::OW if tag.group() == 0x7FE0 => {
            PrimitiveValue::U8(C::from_vec(little_endian_pixels(bytes, context)))
        }
        VR::US | VR::OW => PrimitiveValue::U16(numbers(bytes, context, u16::from_le_bytes)),
        VR::SS => PrimitiveValue::I16(numbers(bytes, context, i16::from_le_bytes)),
        VR::UL | VR::OL => PrimitiveValue::U32(numbers(bytes, context, u32::from_le_bytes)),
        VR::SL => PrimitiveValue::I32(numbers(bytes, context, i32::from_le_bytes)),
        VR::UV | VR::OV => PrimitiveValue::U64(numbers(bytes, context, u64::from_le_bytes)),
        VR::SV => PrimitiveValue::I64(numbers(bytes, context, i64::from_le_bytes)),
        VR::FL | VR::OF => PrimitiveValue::F32(numbers(bytes, context, f32::from_le_bytes)),
        VR::FD | VR::OD => PrimitiveValue::F64(numbers(bytes, context, f64::from_le_bytes)),
        VR::AT => PrimitiveValue::Tags(tags(bytes, context.encoding)),
        _ => PrimitiveValue::U8(C::from_slice(bytes)),
    };
    (value, false)
}

fn is_multi_text(vr: VR) -> bool {
    use VR::*;
    matches!(vr, AE | AS | CS | DA | DS | DT | IS | LO | PN | SH | TM | UC | UI)
}

/// Pixel data in memory are always little-endian bytes, so that nothing after the guard asks.
/// In big endian, OW is a stream of words as wide as Bits Allocated, at least 16 bits: two
/// 8-bit pixels share a word, the first in its low byte (PS3.5 §8.1.1).
fn little_endian_pixels(bytes: &[u8], context: &Context) -> Vec<u8> {
    let mut pixels = bytes.to_vec();
    if !context.encoding.is_little_endian() {
        let width = usize::from((context.bits_allocated / 8).clamp(2, 8));
        pixels.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    pixels
}

fn words<const N: usize>(bytes: &[u8], encoding: Encoding) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(move |chunk| {
        let mut word = [0; N];
        word.copy_from_slice(chunk);
        if !encoding.is_little_endian() {
            word.reverse();
        }
        word
    })
}

/// Reads numbers; a remainder too short for one is dropped.
fn numbers<T, const N: usize>(bytes: &[u8], context: &Context, from: fn([u8; N]) -> T) -> C<T>
where
    [T; 2]: Array<Item = T>,
{
    words(bytes, context.encoding).map(from).collect()
}

fn tags(bytes: &[u8], encoding: Encoding) -> C<Tag> {
    bytes.chunks_exact(4).filter_map(|chunk| peek_tag(chunk, 0, encoding)).collect()
}

fn decode_texts(vr: VR, bytes: &[u8], context: &Context) -> (PrimitiveValue, bool) {
    // Codes, numbers, dates and UIDs are never in an extended character set (PS3.5 §6.1.2.3).
    let is_extensible = matches!(vr, VR::LO | VR::PN | VR::SH | VR::UC);
    let default = CharacterSet::default();
    let charset = if is_extensible { &context.text } else { &default };
    let Decoded { text, is_mangled } = charset.decode_values(bytes);
    (PrimitiveValue::Strs(text.into()), is_mangled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(encoding: Encoding) -> Context {
        Context { encoding, text: CharacterSet::default(), is_signed: false, bits_allocated: 16 }
    }

    #[test]
    fn decodes_values_of_both_byte_orders_to_the_same() {
        let check = |vr, little: &[u8], big: &[u8], expected: PrimitiveValue| {
            let tag = Tag(0x0009, 0x1001);
            let (found, _) = decode(vr, tag, little, &context(Encoding::ExplicitLittle));
            assert_eq!(found, expected);
            let (found, _) = decode(vr, tag, big, &context(Encoding::ExplicitBig));
            assert_eq!(found, expected);
        };
        check(VR::US, &[1, 2, 3, 4], &[2, 1, 4, 3], PrimitiveValue::U16([0x201, 0x403].into()));
        check(VR::SL, &[254, 255, 255, 255], &[255, 255, 255, 254], PrimitiveValue::from(-2_i32));
        check(VR::AT, &[8, 0, 5, 1], &[0, 8, 1, 5], PrimitiveValue::from(Tag(8, 0x105)));
        check(VR::OB, &[1, 2, 3], &[1, 2, 3], PrimitiveValue::from([1_u8, 2, 3]));
        check(VR::FD, &1.5_f64.to_le_bytes(), &1.5_f64.to_be_bytes(), PrimitiveValue::from(1.5));
    }

    #[test]
    fn swaps_big_endian_pixels_by_bits_allocated() {
        let check = |bits_allocated, expected: &[u8]| {
            let context = Context { bits_allocated, ..context(Encoding::ExplicitBig) };
            let bytes = [1, 2, 3, 4, 5, 6, 7, 8];
            let (found, _) = decode(VR::OW, Tag(0x7FE0, 0x0010), &bytes, &context);
            assert_eq!(&*found.to_bytes(), expected, "{bits_allocated} bits");
        };
        check(8, &[2, 1, 4, 3, 6, 5, 8, 7]);
        check(16, &[2, 1, 4, 3, 6, 5, 8, 7]);
        check(32, &[4, 3, 2, 1, 8, 7, 6, 5]);
        check(64, &[8, 7, 6, 5, 4, 3, 2, 1]);
    }
}
