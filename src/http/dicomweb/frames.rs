//! WADO-RS: retrieving frames (PS3.18 §10.4.1.1.6).

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use bytes::Bytes;
use dicom_dictionary_std::uids;

use super::conditional::Etag;
use super::multipart::{self, Part, Source};
use super::resource::{ROOT, Resource};
use super::{OCTETS, wado};
use crate::archive::{ArchiveError, StoredFrames};
use crate::dicom::TransferSyntax;
use crate::http::Server;
use crate::http::error::ApiError;
use crate::http::extract::{FramesPath, accepted, header_text};
use crate::http::media::MediaType;
use crate::threads::{run_blocking, run_cpu};

/// Frames of an instance.
pub(super) fn resource() -> (Resource, MethodRouter<Server>) {
    let (_, path) = wado::LEVELS[2];
    let path = format!("{ROOT}{path}/frames/{{frames}}");
    let resource = Resource {
        transaction: "Retrieve",
        description: "Uncompressed in little endian where transfer-syntax is 1.2.840.10008.1.2.1 or \
                      missing; as stored where it is * or the stored one. Of a large multi-frame \
                      object only the frames asked for are read.",
        gives: &["multipart/related", OCTETS, "image/jpeg", "image/jls", "image/jp2"],
        ..Resource::get(path, "frames".to_owned(), "Retrieves frames of an instance.".to_owned())
    };
    (resource, get(frames))
}

async fn frames(
    State(server): State<Server>,
    path: FramesPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let FramesPath { scope, list } = path;
    let numbers = frame_numbers(&list)?;
    let (archive, recent) = (server.app.archive.clone(), Arc::clone(&server.recent));
    let frames = run_blocking(move || recent.open(&archive, &scope)).await??;
    let alone = numbers.len() == 1;
    let stored = Stored::of(&frames);
    let chosen = accepted(&headers).iter().find_map(|media| choose(media, alone, &stored));
    let Some(choice) = chosen else {
        let offered = format!(
            "multipart/related; type=\"application/octet-stream\"; \
             transfer-syntax=1.2.840.10008.1.2.1, or type=\"{}\"; transfer-syntax={}",
            stored.media_type, stored.uid
        );
        return Err(ApiError::not_acceptable(header_text(&headers, header::ACCEPT), &offered));
    };
    let etag = Etag::of(&frames.record().sha256, &[&list, &format!("{choice:?}")]);
    if let Some(known) = etag.not_modified(&headers) {
        return Ok(known);
    }
    let media_type = choice.content_type(&stored);
    let root_type = media_type.split(';').next().unwrap_or(OCTETS).to_owned();
    let as_stored = choice.as_stored && stored.is_compressed;
    let is_copied = as_stored || frames.native_range().is_some();
    let read = move || read_frames(&frames, &numbers, as_stored);
    // Decoding computes, copying waits for the disk.
    let bytes = match is_copied {
        true => run_blocking(read).await??,
        false => run_cpu(read).await??,
    };
    let mut bytes = bytes.into_iter();
    let response = match (choice.whole_body, bytes.next()) {
        (true, Some(frame)) => ([(header::CONTENT_TYPE, media_type)], frame).into_response(),
        (_, first) => {
            let parts = first.into_iter().chain(bytes).map(move |frame| Part {
                content_type: media_type.clone(),
                location: None,
                source: Source::Memory(frame),
            });
            multipart::reply(&root_type, parts)
        }
    };
    Ok(etag.put_on(response))
}

fn read_frames(
    frames: &StoredFrames,
    numbers: &[u32],
    as_stored: bool,
) -> Result<Vec<Bytes>, ArchiveError> {
    let read = |number: &u32| {
        let stored = if as_stored { frames.stored(*number)? } else { None };
        stored.map_or_else(|| frames.native(*number), Ok).map(Bytes::from)
    };
    numbers.iter().map(read).collect()
}

/// How the frames of an instance are stored.
#[derive(Debug)]
pub(super) struct Stored {
    uid: String,
    pub(super) media_type: &'static str,
    is_compressed: bool,
}

impl Stored {
    pub(super) fn of(frames: &StoredFrames) -> Self {
        let uid = frames.record().transfer_syntax_uid.clone();
        let known = TransferSyntax::find(&uid).and_then(|syntax| syntax.frame_media_type);
        // Of the compressed ones, viewers decode those that have a media type of their own; JPEG XL
        // is too young for them.
        let known = known.filter(|media_type| *media_type != "image/jxl");
        match known.filter(|_| frames.is_compressed()) {
            Some(media_type) => Self { uid, media_type, is_compressed: true },
            None => Self { uid, media_type: OCTETS, is_compressed: false },
        }
    }

    /// The content type of frames as they are sent.
    pub(super) fn content_type(&self, as_stored: bool) -> String {
        match as_stored && self.is_compressed {
            true => format!("{}; transfer-syntax={}", self.media_type, self.uid),
            false => format!("{OCTETS}; transfer-syntax={}", uids::EXPLICIT_VR_LITTLE_ENDIAN),
        }
    }
}

/// How frames are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    whole_body: bool,
    as_stored: bool,
}

impl Choice {
    fn content_type(self, stored: &Stored) -> String {
        stored.content_type(self.as_stored)
    }
}

/// What a range of the Accept header asks for, if it can be had.
fn choose(media: &MediaType, alone: bool, stored: &Stored) -> Option<Choice> {
    let is_multipart = media.covers("multipart/related");
    let covers = |essence: &str| match is_multipart {
        true => media.root_covers(essence),
        false => alone && media.covers(essence),
    };
    let (octets, own) = (covers(OCTETS), covers(stored.media_type));
    let as_stored = match media.parameter("transfer-syntax") {
        // `*` means any transfer syntax, whatever type is named beside it; so OHIF asks.
        Some("*") => (octets || own).then_some(true),
        Some(uids::EXPLICIT_VR_LITTLE_ENDIAN) => octets.then_some(false),
        Some(wanted) => (wanted == stored.uid && (octets || own)).then_some(true),
        None if octets => Some(false),
        None => own.then_some(true),
    }?;
    Some(Choice { whole_body: !is_multipart, as_stored })
}

pub(super) fn frame_numbers(list: &str) -> Result<Vec<u32>, ApiError> {
    let numbers: Result<Vec<u32>, _> =
        list.split(',').map(|number| number.trim().parse()).collect();
    match numbers {
        Ok(numbers) if !numbers.contains(&0) && numbers.len() <= 1000 => Ok(numbers),
        _ => Err(ApiError::invalid(format!(
            "frame list of {} characters is not up to 1000 numbers from 1, joined by commas",
            list.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frame_lists_are_numbers_from_one() {
        assert_eq!(frame_numbers("1,3,2").unwrap(), [1, 3, 2]);
        for bad in ["", "0", "1,", "a", "-1", "1,0", "99999999999"] {
            assert!(frame_numbers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn compressed_frames_are_sent_as_the_client_can_take_them() {
        let stored = Stored {
            uid: "1.2.840.10008.1.2.4.80".to_owned(),
            media_type: "image/jls",
            is_compressed: true,
        };
        let check = |accept: &str, expected: Option<(bool, bool)>| {
            let choice = choose(&MediaType::parse(accept).unwrap(), true, &stored);
            let found = choice.map(|choice| (choice.whole_body, choice.as_stored));
            assert_eq!(found, expected, "{accept}");
        };
        check(
            "multipart/related; type=application/octet-stream; transfer-syntax=*",
            Some((false, true)),
        );
        check("multipart/related; type=\"application/octet-stream\"", Some((false, false)));
        check("multipart/related; type=\"image/jls\"", Some((false, true)));
        check(
            "multipart/related; type=image/jls; transfer-syntax=1.2.840.10008.1.2.4.80",
            Some((false, true)),
        );
        check("multipart/related; type=image/jp2", None);
        check("multipart/related", Some((false, false)));
        check("application/octet-stream", Some((true, false)));
        check("image/jls", Some((true, true)));
        check("*/*", Some((false, false)));
        check("application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.90", None);
        check("text/html", None);
    }
}
