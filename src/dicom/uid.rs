//! UIDs as types: lenient where we receive, deterministic where we make.

use sha2::{Digest, Sha256};
use std::fmt;

use super::DicomError;

macro_rules! uid_type {
    ($(#[$doc:meta])* $name:ident, $keyword:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);
        impl $name {
            /// Parses a UID: 1 to 64 characters, digits and dots, no empty component (PS3.5 §9.1).
            /// Leading zeros in a component are tolerated, because scanners send them.
            ///
            /// # Errors
            /// [`DicomError::BadUid`] with the attribute and the reason.
            pub fn parse(text: &str) -> Result<Self, DicomError> {
                check_uid($keyword, text).map(|text| Self(text.to_owned()))
            }
            /// Derives the UID of an object this server makes from what the object is.
            ///
            /// The same parts always give the same UID, so that a retry never makes a second
            /// result. The form is `2.25.` and a UUID as one decimal number (PS3.5 §B.2); the UUID
            /// is version 8 (RFC 9562 §5.8), filled from SHA-256 over the length and text of each
            /// part.
            pub fn derive(parts: &[&str]) -> Self {
                Self(derived_uid($keyword, parts))
            }
            /// The UID's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

uid_type!(
    /// Study Instance UID (0020,000D).
    StudyUid,
    "StudyInstanceUID"
);
uid_type!(
    /// Series Instance UID (0020,000E).
    SeriesUid,
    "SeriesInstanceUID"
);
uid_type!(
    /// SOP Instance UID (0008,0018).
    SopInstanceUid,
    "SOPInstanceUID"
);

/// Checks a UID of any kind and returns it without its padding.
pub(super) fn check_uid<'t>(name: &'static str, text: &'t str) -> Result<&'t str, DicomError> {
    let text = text.trim_matches(['\0', ' ']);
    let well_formed = !text.is_empty()
        && text.len() <= 64
        && text
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if well_formed { Ok(text) } else { Err(DicomError::BadUid { name, length: text.len() }) }
}

fn derived_uid(kind: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once("seer uid 1").chain([kind]).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut uuid = [0_u8; 16];
    uuid.copy_from_slice(&hash.finalize()[..16]);
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    format!("2.25.{}", u128::from_be_bytes(uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_padded_uids_and_refuses_malformed_ones() {
        let check = |text: &str, expected: Option<&str>| {
            let found = SopInstanceUid::parse(text).ok();
            assert_eq!(found.as_ref().map(SopInstanceUid::as_str), expected, "{text:?}");
        };
        check("1.2.840\0", Some("1.2.840"));
        check("1.02.3 ", Some("1.02.3"));
        check("", None);
        check("1..2", None);
        check("1.2.x", None);
        check(&"1".repeat(65), None);
    }

    #[test]
    fn derives_the_same_uid_from_the_same_parts_only() {
        let uid = SopInstanceUid::derive(&["order", "17"]);
        assert_eq!(uid, SopInstanceUid::derive(&["order", "17"]));
        assert_ne!(uid, SopInstanceUid::derive(&["order1", "7"]));
        assert_ne!(uid.as_str(), SeriesUid::derive(&["order", "17"]).as_str());
        assert!(SopInstanceUid::parse(uid.as_str()).is_ok());
        let number: u128 = uid.as_str()[5..].parse().expect("the part after 2.25 is one number");
        let uuid = uuid::Uuid::from_u128(number);
        assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
    }
}
