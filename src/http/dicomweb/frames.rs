//! WADO-RS: retrieving frames (PS3.18 §10.4.1.1.6), uncompressed.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use dicom_core::value::Value;
use dicom_dictionary_std::{tags, uids};

use super::OCTETS;
use super::multipart::{self, Part, Source};
use crate::dicom::{Attributes, DicomError, Instance};
use crate::http::Server;
use crate::http::error::{ApiError, Problem, ReadProblems};
use crate::http::extract::{FramesPath, accepted, header_text};
use crate::http::media::MediaType;
use crate::threads::{run_blocking, run_cpu};

/// Retrieves frames of an instance, uncompressed in little endian.
///
/// Pixels that are stored without compression are sent as stored; compressed ones are decoded.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
    tag = "dicomweb",
    params(
        ("study" = String, Path, description = "Study Instance UID"),
        ("series" = String, Path, description = "Series Instance UID"),
        ("instance" = String, Path, description = "SOP Instance UID"),
        ("frames" = String, Path, description = "Frame numbers from 1, joined by commas"),
    ),
    responses(
        (status = 200, description = "One part per frame", content(
            (Vec<u8> = "multipart/related"),
            (Vec<u8> = "application/octet-stream"),
        )),
        (status = 406, description = "No accepted type is offered", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "The pixels cannot be decoded here", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn frames(
    State(server): State<Server>,
    path: FramesPath,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let FramesPath { scope, list } = path;
    let numbers = frame_numbers(&list)?;
    let alone = numbers.len() == 1;
    let chosen = accepted(&headers).iter().find_map(|media| whole_body(media, alone));
    let Some(whole_body) = chosen else {
        let offered = "multipart/related; type=\"application/octet-stream\"; \
                       transfer-syntax=1.2.840.10008.1.2.1";
        return Err(ApiError::not_acceptable(header_text(&headers, header::ACCEPT), offered));
    };
    let (archive, recent) = (server.app.archive.clone(), Arc::clone(&server.recent));
    let instance = run_blocking(move || recent.load(&archive, &scope)).await??;
    let frames = run_cpu(move || read_frames(&instance, &numbers)).await??;
    Ok(reply(frames, whole_body))
}

fn reply(frames: Vec<Bytes>, whole_body: bool) -> Response {
    let content_type = format!("{OCTETS}; transfer-syntax={}", uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let mut frames = frames.into_iter();
    match frames.next() {
        Some(frame) if whole_body => {
            ([(header::CONTENT_TYPE, content_type)], frame).into_response()
        }
        first => {
            let parts = first.into_iter().chain(frames).map(|frame| Part {
                content_type: content_type.clone(),
                source: Source::Memory(frame),
            });
            multipart::reply(OCTETS, parts.collect())
        }
    }
}

/// Whether a range asks for one frame as the whole body; `None` when the range cannot be met.
fn whole_body(media: &MediaType, alone: bool) -> Option<bool> {
    let wanted = media.parameter("transfer-syntax").unwrap_or("*");
    if wanted != "*" && wanted != uids::EXPLICIT_VR_LITTLE_ENDIAN {
        return None;
    }
    if media.covers("multipart/related") {
        return media.root_covers(OCTETS).then_some(false);
    }
    (alone && media.covers(OCTETS)).then_some(true)
}

fn frame_numbers(list: &str) -> Result<Vec<u32>, ApiError> {
    let numbers: Result<Vec<u32>, _> = list.split(',').map(str::parse).collect();
    match numbers {
        Ok(numbers) if !numbers.contains(&0) && numbers.len() <= 1000 => Ok(numbers),
        _ => Err(ApiError::invalid(format!(
            "frame list of {} characters is not up to 1000 numbers from 1, joined by commas",
            list.len()
        ))),
    }
}

fn read_frames(instance: &Instance, numbers: &[u32]) -> Result<Vec<Bytes>, DicomError> {
    let native = native_pixels(instance);
    numbers
        .iter()
        .map(|number| match &native {
            Some(pixels) => native_frame(instance, pixels, *number),
            None => decoded_frame(instance, *number),
        })
        .collect()
}

/// All pixels, where they are stored without compression.
fn native_pixels(instance: &Instance) -> Option<Cow<'_, [u8]>> {
    match instance.object().get(tags::PIXEL_DATA)?.value() {
        Value::Primitive(pixels) => Some(pixels.to_bytes()),
        Value::Sequence(_) | Value::PixelSequence(_) => None,
    }
}

fn native_frame(instance: &Instance, pixels: &[u8], number: u32) -> Result<Bytes, DicomError> {
    let count = instance.frame_count();
    if number > count {
        return Err(DicomError::NoSuchFrame { number, count });
    }
    let object = instance.object();
    let size = |tag| object.u16_opt(tag).map(|value| usize::from(value.unwrap_or(1)));
    let samples = size(tags::ROWS)? * size(tags::COLUMNS)? * size(tags::SAMPLES_PER_PIXEL)?;
    let bits = samples * size(tags::BITS_ALLOCATED)?;
    let start = bits * (number as usize - 1);
    let bytes = match bits % 8 {
        0 => pixels.get(start / 8..start / 8 + bits / 8).map(Bytes::copy_from_slice),
        // Frames of single bits follow each other without padding (PS3.5 §8.1.1), so this one
        // may start inside a byte.
        _ => (pixels.len() * 8 >= start + bits).then(|| bits_from(pixels, start, bits)),
    };
    let found = pixels.len() as u64;
    bytes.ok_or(DicomError::PixelDataLength { found, needed: ((start + bits) / 8) as u64 })
}

fn bits_from(pixels: &[u8], start: usize, count: usize) -> Bytes {
    let mut bytes = vec![0_u8; count.div_ceil(8)];
    for index in 0..count {
        let bit = pixels[(start + index) / 8] >> ((start + index) % 8) & 1;
        bytes[index / 8] |= bit << (index % 8);
    }
    bytes.into()
}

fn decoded_frame(instance: &Instance, number: u32) -> Result<Bytes, DicomError> {
    let frame = instance.decode_frame(number)?;
    let bits_allocated = instance.object().u16_opt(tags::BITS_ALLOCATED)?.unwrap_or(16);
    let values = frame.values.iter();
    Ok(match bits_allocated {
        1 => {
            let mut bytes = vec![0_u8; frame.values.len().div_ceil(8)];
            for (index, _) in values.enumerate().filter(|(_, value)| **value != 0) {
                bytes[index / 8] |= 1 << (index % 8);
            }
            bytes.into()
        }
        8 => values.map(|value| value.to_le_bytes()[0]).collect(),
        16 => values.flat_map(|value| [value.to_le_bytes()[0], value.to_le_bytes()[1]]).collect(),
        _ => values.flat_map(|value| value.to_le_bytes()).collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_of_single_bits_may_start_inside_a_byte() {
        // Two frames of 5 bits: 10110 and 01101, least significant bit first.
        let pixels = [0b1100_1101, 0b0000_0010];
        assert_eq!(bits_from(&pixels, 0, 5)[..], [0b0000_1101]);
        assert_eq!(bits_from(&pixels, 5, 5)[..], [0b0001_0110]);
    }

    #[test]
    fn frame_lists_are_numbers_from_one() {
        assert_eq!(frame_numbers("1,3,2").unwrap(), [1, 3, 2]);
        for bad in ["", "0", "1,", "a", "-1", "1,0", "99999999999"] {
            assert!(frame_numbers(bad).is_err(), "{bad}");
        }
    }
}
