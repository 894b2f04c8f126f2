//! Text in its Specific Character Set (PS3.3 §C.12.1.1.2, PS3.5 §6.1.2), code extensions included.

use dicom_encoding::text::{SpecificCharacterSet, TextCodec};
use encoding_rs::{EUC_JP, EUC_KR, Encoding, GBK};

const ESCAPE: u8 = 0x1B;

/// How text of one data set is decoded.
#[derive(Debug, Clone, Default)]
pub(super) struct CharacterSet {
    /// The first value of the attribute, or the default repertoire.
    first: SpecificCharacterSet,
    has_extensions: bool,
}

/// Decoded values, and whether bytes that their character set does not have were read as Latin-1.
pub(super) struct Decoded<T> {
    pub(super) text: T,
    pub(super) is_mangled: bool,
}

impl CharacterSet {
    /// Understands Specific Character Set (0008,0005), values joined by backslashes. What is not
    /// known counts as the default repertoire.
    pub(super) fn from_codes(codes: &str) -> Self {
        let first = codes.split('\\').next().unwrap_or_default();
        Self {
            first: SpecificCharacterSet::from_code(first.trim()).unwrap_or_default(),
            has_extensions: codes.contains('\\') || codes.contains("2022"),
        }
    }

    /// Decodes a value that backslashes do not divide.
    pub(super) fn decode(&self, bytes: &[u8]) -> Decoded<String> {
        if bytes.is_ascii() && !bytes.contains(&ESCAPE) {
            return Decoded { text: latin_1(bytes), is_mangled: false };
        }
        if self.has_extensions && bytes.contains(&ESCAPE) {
            return self.decode_extended(bytes);
        }
        let text = match &self.first {
            utf_8 if *utf_8 == SpecificCharacterSet::ISO_IR_192 => {
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            }
            ascii if *ascii == SpecificCharacterSet::ISO_IR_6 => None,
            // The codec writes what it cannot read as a backslash and digits.
            other => {
                let has_backslash = bytes.contains(&b'\\');
                other.decode(bytes).ok().filter(|text| has_backslash || !text.contains('\\'))
            }
        };
        let is_mangled = text.is_none();
        Decoded { text: text.unwrap_or_else(|| latin_1(bytes)), is_mangled }
    }

    /// Decodes values divided by backslashes. Where a backslash byte can be half of a character,
    /// the division comes after the decoding.
    pub(super) fn decode_values(&self, bytes: &[u8]) -> Decoded<Vec<String>> {
        let is_multibyte = matches!(&*self.first.name(), "GB18030" | "GBK");
        if is_multibyte || (self.has_extensions && bytes.contains(&ESCAPE)) {
            let Decoded { text, is_mangled } = self.decode(bytes);
            return Decoded { text: text.split('\\').map(str::to_owned).collect(), is_mangled };
        }
        let mut any_mangled = false;
        let values = bytes.split(|byte| *byte == b'\\').map(|part| {
            let Decoded { text, is_mangled } = self.decode(part);
            any_mangled |= is_mangled;
            text
        });
        Decoded { text: values.collect(), is_mangled: any_mangled }
    }

    /// Decodes text with escape sequences of ISO/IEC 2022 (PS3.5 §6.1.2.5). Delimiters bring the
    /// first character set back.
    fn decode_extended(&self, bytes: &[u8]) -> Decoded<String> {
        let mut decoded = Decoded { text: String::new(), is_mangled: false };
        let mut set = Designated::First;
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some((designated, length)) = Designated::from_escape(rest) {
                set = designated;
                rest = &rest[length..];
                continue;
            }
            let is_delimiter = |byte: &u8| matches!(byte, b'\\' | b'^' | b'=' | b'\r' | b'\n');
            let end_byte = |byte: &u8| *byte == ESCAPE || (!set.is_wide() && is_delimiter(byte));
            let end = rest.iter().skip(1).position(end_byte).map_or(rest.len(), |at| at + 1);
            let (part, following) = rest.split_at(end);
            if !set.is_wide() && is_delimiter(&part[0]) {
                set = Designated::First;
            }
            match set.decode(part, &self.first) {
                Some(text) => decoded.text.push_str(&text),
                None => {
                    decoded.text.push_str(&latin_1(part));
                    decoded.is_mangled = true;
                }
            }
            rest = following;
        }
        decoded
    }
}

/// What the last escape sequence brought into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Designated {
    /// The first value of the attribute.
    First,
    /// ASCII or JIS X 0201 romaji, in the low half; the high half stays JIS X 0201 katakana.
    Japanese,
    /// JIS X 0208, two 7-bit bytes a character.
    Kanji,
    /// JIS X 0212, two 7-bit bytes a character.
    SupplementaryKanji,
    /// KS X 1001 in the high half.
    Korean,
    /// GB 2312 in the high half.
    Chinese,
    /// A single-byte set in the high half, by its defined term.
    SingleByte(&'static str),
}

impl Designated {
    /// Reads an escape sequence (PS3.3 tables C.12-3 and C.12-4) and its length.
    fn from_escape(bytes: &[u8]) -> Option<(Self, usize)> {
        const SEQUENCES: [(&[u8], Designated); 18] = [
            (b"\x1B(B", Designated::First),
            (b"\x1B(J", Designated::Japanese),
            (b"\x1B)I", Designated::Japanese),
            (b"\x1B$B", Designated::Kanji),
            (b"\x1B$@", Designated::Kanji),
            (b"\x1B$(D", Designated::SupplementaryKanji),
            (b"\x1B$)C", Designated::Korean),
            (b"\x1B$)A", Designated::Chinese),
            (b"\x1B-A", Designated::SingleByte("ISO_IR 100")),
            (b"\x1B-B", Designated::SingleByte("ISO_IR 101")),
            (b"\x1B-C", Designated::SingleByte("ISO_IR 109")),
            (b"\x1B-D", Designated::SingleByte("ISO_IR 110")),
            (b"\x1B-L", Designated::SingleByte("ISO_IR 144")),
            (b"\x1B-G", Designated::SingleByte("ISO_IR 127")),
            (b"\x1B-F", Designated::SingleByte("ISO_IR 126")),
            (b"\x1B-H", Designated::SingleByte("ISO_IR 138")),
            (b"\x1B-M", Designated::SingleByte("ISO_IR 148")),
            (b"\x1B-T", Designated::SingleByte("ISO_IR 166")),
        ];
        let found = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence));
        found.map(|(sequence, set)| (*set, sequence.len()))
    }

    /// Characters take two 7-bit bytes, which may look like delimiters.
    fn is_wide(self) -> bool {
        matches!(self, Self::Kanji | Self::SupplementaryKanji)
    }

    fn decode(self, part: &[u8], first: &SpecificCharacterSet) -> Option<String> {
        let strict = |encoding: &'static Encoding, bytes: &[u8]| {
            let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
            Some(text.into_owned())
        };
        match self {
            Self::First if part.is_ascii() => Some(latin_1(part)),
            Self::First => first.decode(part).ok(),
            Self::Japanese => part.iter().map(|byte| japanese(*byte)).collect(),
            Self::Kanji => strict(EUC_JP, &part.iter().map(|byte| byte | 0x80).collect::<Vec<_>>()),
            Self::SupplementaryKanji => {
                let pairs = part.chunks(2);
                let euc = pairs.flat_map(|pair| {
                    std::iter::once(0x8F).chain(pair.iter().map(|byte| byte | 0x80))
                });
                strict(EUC_JP, &euc.collect::<Vec<_>>())
            }
            Self::Korean => strict(EUC_KR, part),
            Self::Chinese => strict(GBK, part),
            Self::SingleByte("ISO_IR 148") => strict(encoding_rs::WINDOWS_1254, part),
            Self::SingleByte(code) => SpecificCharacterSet::from_code(code)?.decode(part).ok(),
        }
    }
}

/// JIS X 0201: ASCII but for yen and overline, and half-width katakana. The yen sign's place is
/// kept as a backslash, because it divides values.
fn japanese(byte: u8) -> Option<char> {
    match byte {
        0x7E => Some('\u{203E}'),
        0..=0x7F => Some(char::from(byte)),
        0xA1..=0xDF => char::from_u32(0xFF61 + u32::from(byte - 0xA1)),
        _ => None,
    }
}

fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_the_person_names_of_the_standard() {
        // PS3.5 Annexes H to J, and single-byte sets.
        let check = |codes: &str, bytes: &[u8], expected: &str| {
            let decoded = CharacterSet::from_codes(codes).decode(bytes);
            assert_eq!((decoded.text.as_str(), decoded.is_mangled), (expected, false), "{codes}");
        };
        let kanji =
            b"Yamada^Tarou=\x1B$B;3ED\x1B(B^\x1B$BB@O:\x1B(B=\x1B$B$d$^$@\x1B(B^\x1B$B$?$m$&\x1B(B";
        check("\\ISO 2022 IR 87", kanji, "Yamada^Tarou=山田^太郎=やまだ^たろう");
        let katakana = b"\xD4\xCF\xC0\xDE^\xC0\xDB\xB3=\x1B$B;3ED\x1B(J^\x1B$BB@O:\x1B(J";
        check("ISO 2022 IR 13\\ISO 2022 IR 87", katakana, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎");
        let hangul = b"Hong^Gildong=\x1B$)C\xFB\xF3^\x1B$)C\xD1\xCE\xD4\xD7=\x1B$)C\xC8\xAB^\x1B$)C\xB1\xE6\xB5\xBF";
        check("\\ISO 2022 IR 149", hangul, "Hong^Gildong=洪^吉洞=홍^길동");
        check("ISO_IR 192", "Wang^XiaoDong=王^小東".as_bytes(), "Wang^XiaoDong=王^小東");
        check("GB18030", b"Wang=\xCD\xF5^\xD0\xA1\xB6\xAB", "Wang=王^小东");
        check("ISO_IR 100", b"Buc^J\xE9r\xF4me", "Buc^Jérôme");
        check("ISO_IR 144", b"\xBB\xEE\xDA", "Люк");
    }

    #[test]
    fn reads_bytes_outside_the_character_set_as_latin_1() {
        let check = |codes: &str| {
            let decoded = CharacterSet::from_codes(codes).decode(b"K\xF6pf");
            assert_eq!((decoded.text.as_str(), decoded.is_mangled), ("K\u{F6}pf", true), "{codes}");
        };
        check("");
        check("ISO_IR 192");
        check("not a term");
    }

    #[test]
    fn divides_values_at_backslashes_that_are_characters() {
        let check = |codes: &str, bytes: &[u8], expected: &[&str]| {
            assert_eq!(CharacterSet::from_codes(codes).decode_values(bytes).text, expected);
        };
        check("ISO_IR 100", b"\xE9\\b", &["é", "b"]);
        // The second byte of this GBK character is a backslash.
        check("GBK", b"\x81\x5C\\b", &["乗", "b"]);
        // So is that of this JIS X 0208 character.
        check("\\ISO 2022 IR 87", b"\x1B$B0\x5C\x1B(B\\b", &["移", "b"]);
    }
}
