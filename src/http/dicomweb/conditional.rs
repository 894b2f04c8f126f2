//! Answers that a client may have already: entity tags (RFC 9110 §8.8.3) and ranges (§14).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// An entity tag from what the answer is made of.
pub(super) struct Etag(String);

impl Etag {
    /// `parts` must tell apart all answers that differ.
    pub(super) fn of(fingerprint: &[u8; 32], parts: &[&str]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(fingerprint);
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(format!("\"{}\"", hex::encode(&hasher.finalize()[..16])))
    }

    /// Whether `If-None-Match` names it; compressed on the way it is still the same thing.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(header::IF_NONE_MATCH).iter();
        values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|tag| {
            let tag = tag.trim();
            tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.0
        })
    }

    /// The answer 304 to a client that has it already.
    pub(super) fn not_modified(&self, headers: &HeaderMap) -> Option<Response> {
        self.is_known(headers).then(|| self.put_on(StatusCode::NOT_MODIFIED.into_response()))
    }

    /// Names an answer. Clients ask again each time, because studies grow, and are told quickly
    /// that nothing changed.
    pub(super) fn put_on(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            headers.insert(header::ETAG, value);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.append(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        response
    }
}

/// What a `Range` header asks of `size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it: no header, or one that may be passed over (RFC 9110 §14.2).
    Whole,
    /// `(start, length)`.
    Part(u64, u64),
    /// Nothing that is there.
    Beyond,
}

/// Reads a single range of bytes; several at once are answered with the whole.
pub(super) fn asked_range(headers: &HeaderMap, size: u64) -> Asked {
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) =
        text.and_then(|text| text.trim().strip_prefix("bytes=")?.split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>();
    match (number(first), number(last)) {
        (Ok(first), _) if first >= size => Asked::Beyond,
        (Ok(first), Ok(last)) if last >= first => {
            Asked::Part(first, last.min(size - 1) - first + 1)
        }
        (Ok(first), Err(_)) if last.trim().is_empty() => Asked::Part(first, size - first),
        (Err(_), Ok(0)) if first.trim().is_empty() => Asked::Beyond,
        (Err(_), Ok(count)) if first.trim().is_empty() => {
            let count = count.min(size);
            if count == 0 { Asked::Beyond } else { Asked::Part(size - count, count) }
        }
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_rfc_says() {
        let check = |text: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_static(text));
            assert_eq!(asked_range(&headers, 100), expected, "{text}");
        };
        check("bytes=0-9", Asked::Part(0, 10));
        check("bytes=90-", Asked::Part(90, 10));
        check("bytes=-5", Asked::Part(95, 5));
        check("bytes=-500", Asked::Part(0, 100));
        check("bytes=50-500", Asked::Part(50, 50));
        check("bytes=100-", Asked::Beyond);
        check("bytes=-0", Asked::Beyond);
        check("bytes=0-1,5-6", Asked::Whole);
        check("bytes=9-1", Asked::Whole);
        check("lines=1-2", Asked::Whole);
        assert_eq!(asked_range(&HeaderMap::new(), 100), Asked::Whole);
    }

    #[test]
    fn a_tag_is_known_in_every_shape_that_caches_send() {
        let tag = Etag::of(&[1; 32], &["json"]);
        let check = |text: String, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(&text).expect("ASCII"));
            assert_eq!(tag.not_modified(&headers).is_some(), expected, "{text}");
        };
        check(tag.0.clone(), true);
        check(format!("W/{}", tag.0), true);
        check(format!("\"other\", {}", tag.0), true);
        check("*".to_owned(), true);
        check("\"other\"".to_owned(), false);
        assert_ne!(tag.0, Etag::of(&[1; 32], &["xml"]).0);
    }
}
