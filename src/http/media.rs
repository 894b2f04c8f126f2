//! Media types as clients really write them: with or without quotes, several in one header.

/// A media type with its parameters, names in lower case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MediaType {
    /// For example `multipart/related`, in lower case.
    pub(super) essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// Parses one media type; quotes around parameter values are optional, because OHIF leaves
    /// them out.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut pieces = split_outside_quotes(text, ';').into_iter();
        let essence = pieces.next()?.trim().to_ascii_lowercase();
        let (kind, subtype) = essence.split_once('/')?;
        if kind.is_empty() || subtype.is_empty() {
            return None;
        }
        let parameters = pieces.filter_map(|piece| {
            let (name, value) = piece.split_once('=')?;
            let value = value.trim().trim_matches('"').to_owned();
            Some((name.trim().to_ascii_lowercase(), value))
        });
        Some(Self { parameters: parameters.collect(), essence })
    }

    /// Parses an `Accept` header; what is no media type is passed over. Best first; a missing or
    /// empty header accepts anything.
    pub(super) fn parse_list(text: &str) -> Vec<Self> {
        let mut types: Vec<Self> =
            split_outside_quotes(text, ',').into_iter().filter_map(Self::parse).collect();
        if types.is_empty() {
            types.extend(Self::parse("*/*"));
        }
        types.retain(|media| media.quality() > 0.0);
        types.sort_by(|a, b| b.quality().total_cmp(&a.quality()));
        types
    }

    /// A parameter's value.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether this range covers a type: `*/*`, `image/*` or the type itself.
    pub(super) fn covers(&self, essence: &str) -> bool {
        let kind = essence.split('/').next().unwrap_or_default();
        self.essence == "*/*"
            || self.essence == essence
            || self.essence.strip_suffix("/*").is_some_and(|range| range == kind)
    }

    /// Whether the parts of this multipart range may have a type: `type="application/dicom"`,
    /// `type="*/*"` (dicomweb-client) or no type at all.
    pub(super) fn root_covers(&self, essence: &str) -> bool {
        self.parameter("type")
            .is_none_or(|root| Self::parse(root).is_some_and(|range| range.covers(essence)))
    }

    fn quality(&self) -> f32 {
        self.parameter("q").and_then(|q| q.parse().ok()).unwrap_or(1.0)
    }
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_types_with_and_without_quotes() {
        let check = |text: &str| {
            let media = MediaType::parse(text).unwrap();
            assert_eq!(media.essence, "multipart/related");
            assert_eq!(media.parameter("type"), Some("application/dicom"));
            assert_eq!(media.parameter("boundary"), Some("a;b"));
        };
        check(r#"multipart/related; type="application/dicom"; boundary="a;b""#);
        check(r#"Multipart/Related;type=application/dicom;Boundary="a;b""#);
        assert!(MediaType::parse("multipart/related; type=\"*/*\"").unwrap().root_covers("a/b"));
        assert!(MediaType::parse("multipart/related").unwrap().root_covers("a/b"));
        assert!(
            !MediaType::parse("multipart/related; type=image/jpeg").unwrap().root_covers("a/b")
        );
        assert!(MediaType::parse("").is_none() && MediaType::parse("nonsense").is_none());
    }

    #[test]
    fn reads_lists_as_viewers_send_them() {
        let accept = "application/dicom+json, multipart/related; \
                      type=application/octet-stream; transfer-syntax=*";
        let list = MediaType::parse_list(accept);
        assert_eq!(list[0].essence, "application/dicom+json");
        assert_eq!(list[1].parameter("transfer-syntax"), Some("*"));
        let ordered = MediaType::parse_list("image/jpeg;q=0.2, image/png, text/html;q=0");
        let essences: Vec<_> = ordered.iter().map(|media| media.essence.as_str()).collect();
        assert_eq!(essences, ["image/png", "image/jpeg"]);
        assert!(MediaType::parse_list("")[0].covers("application/dicom"));
    }
}
