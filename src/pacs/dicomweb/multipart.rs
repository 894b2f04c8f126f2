//! Reading `multipart/related` bodies (RFC 2046 §5.1, RFC 2387) in bounded memory.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

/// Longest headers of one part, and longest preamble.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// RFC 2046 §5.1.1 allows 70 characters; Orthanc sends 73.
const BOUNDARY_LENGTH_MAX: usize = 200;

/// What is wrong with a body, as a sentence's object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It ends inside a part, or before any.
    #[error("a multipart body that breaks off")]
    BreaksOff,
    /// The sender was silent for too long.
    #[error("nothing of a multipart body for {seconds} seconds")]
    Silent {
        /// For how long we waited.
        seconds: u64,
    },
    /// The headers of a part, or what is before the first, go on and on.
    #[error("a part with more than {HEAD_BYTES_MAX} bytes of headers")]
    EndlessHead,
}

/// The boundary of a `multipart/related` content type, quoted or not.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let mut pieces = content_type.split(';');
    if !pieces.next()?.trim().eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    let boundary = pieces.find_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    })?;
    (1..=BOUNDARY_LENGTH_MAX).contains(&boundary.len()).then(|| boundary.to_owned())
}

/// The parts of a body, one after the other. Holds the chunk that came last, and at most 64 KiB of
/// headers.
pub struct Parts<S> {
    chunks: S,
    buffer: BytesMut,
    delimiter: Vec<u8>,
    ended: bool,
    idle: Duration,
}

/// A part whose content is being read.
pub struct Part {
    done: bool,
}

impl<S, E> Parts<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// Starts reading a body. `idle` is how long the sender may be silent.
    pub fn new(chunks: S, boundary: &str, idle: Duration) -> Self {
        // The first boundary may stand at the very start; a line end in front makes all alike.
        let buffer = BytesMut::from(&b"\r\n"[..]);
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Self { chunks, buffer, delimiter, ended: false, idle }
    }

    /// The next part, with its headers passed over; none after the last boundary. What is left of
    /// the part before is skipped.
    ///
    /// # Errors
    /// When the body is [`Broken`].
    pub async fn next(&mut self) -> Result<Option<Part>, Broken> {
        if self.ended {
            return Ok(None);
        }
        let mut skipped = 0;
        let at = loop {
            if let Some(at) = find(&self.buffer, &self.delimiter) {
                break at;
            }
            skipped += self.drop_all_but(self.delimiter.len());
            if skipped > HEAD_BYTES_MAX {
                return Err(Broken::EndlessHead);
            }
            self.fill().await?;
        };
        let _ = self.buffer.split_to(at + self.delimiter.len());
        while self.buffer.len() < 2 {
            self.fill().await?;
        }
        if self.buffer.starts_with(b"--") {
            self.ended = true;
            return Ok(None);
        }
        // Headers end at an empty line; a part without any starts with it.
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let _ = self.buffer.split_to(end + 4);
                return Ok(Some(Part { done: false }));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Broken::EndlessHead);
            }
            self.fill().await?;
        }
    }

    /// The next bytes of a part; none at its end.
    ///
    /// # Errors
    /// As [`Parts::next`].
    pub async fn chunk(&mut self, part: &mut Part) -> Result<Option<Bytes>, Broken> {
        loop {
            if part.done {
                return Ok(None);
            }
            if let Some(at) = find(&self.buffer, &self.delimiter) {
                part.done = true;
                if at > 0 {
                    return Ok(Some(self.buffer.split_to(at).freeze()));
                }
                return Ok(None);
            }
            // The end may be the start of a boundary.
            let safe = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if safe > 0 {
                return Ok(Some(self.buffer.split_to(safe).freeze()));
            }
            self.fill().await?;
        }
    }

    fn drop_all_but(&mut self, kept: usize) -> usize {
        let dropped = self.buffer.len().saturating_sub(kept);
        let _ = self.buffer.split_to(dropped);
        dropped
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        match tokio::time::timeout(self.idle, self.chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                self.buffer.extend_from_slice(&chunk);
                Ok(())
            }
            Ok(Some(Err(_)) | None) => Err(Broken::BreaksOff),
            Err(_) => Err(Broken::Silent { seconds: self.idle.as_secs() }),
        }
    }
}

/// Where `wanted` starts; looks for its first byte first, which is rare in pixels.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(step) = bytes.get(from..)?.iter().position(|byte| *byte == wanted[0]) {
        let at = from + step;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn read(body: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, Broken> {
        let chunks: Vec<Result<Bytes, ()>> =
            body.chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut parts = Parts::new(futures_util::stream::iter(chunks), "b", Duration::from_secs(5));
        let mut all = Vec::new();
        while let Some(mut part) = parts.next().await? {
            let mut content = Vec::new();
            while let Some(chunk) = parts.chunk(&mut part).await? {
                content.extend_from_slice(&chunk);
            }
            all.push(content);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn parts_are_the_same_however_the_body_is_cut() {
        let body = b"preamble\r\n--b\r\nContent-Type: application/dicom\r\n\r\none\r\n--\r\n\
                     \r\n--b\r\n\r\n\r\n--b  \r\nA: b\r\n\r\n\r\n\r\ntwo\r\n--b--\r\nepilogue";
        let expected = vec![b"one\r\n--\r\n".to_vec(), b"".to_vec(), b"\r\n\r\ntwo".to_vec()];
        for chunk in 1..body.len() + 1 {
            assert_eq!(read(body, chunk).await.unwrap(), expected, "chunks of {chunk}");
        }
    }

    #[tokio::test]
    async fn bodies_that_break_off_or_never_start_are_refused() {
        assert_eq!(read(b"--b\r\n\r\nhalf a part", 5).await, Err(Broken::BreaksOff));
        assert_eq!(read(b"--b\r\nA: b", 5).await, Err(Broken::BreaksOff));
        assert_eq!(read(&vec![b'x'; 1 << 20], 4096).await, Err(Broken::EndlessHead));
        let endless = [b"--b\r\nA: ".to_vec(), vec![b'x'; 1 << 20]].concat();
        assert_eq!(read(&endless, 4096).await, Err(Broken::EndlessHead));
    }

    #[test]
    fn boundaries_are_read_with_and_without_quotes() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(boundary(text).as_deref(), expected, "{text}");
        };
        check("multipart/related; type=\"application/dicom\"; boundary=\"x y\"", Some("x y"));
        check("Multipart/Related;boundary=abc; type=application/dicom", Some("abc"));
        check("multipart/related; boundary=\"\"", None);
        check("application/dicom", None);
    }
}
