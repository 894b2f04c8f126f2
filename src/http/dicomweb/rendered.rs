//! WADO-RS: rendered instances (PS3.18 §10.4.1.1.3), for lists and thumbnails.

use std::io::Cursor;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use dicom_dictionary_std::tags;
use image::{DynamicImage, GrayImage, ImageFormat};

use crate::dicom::{Attributes, DicomError, GreyFrame, Instance};
use crate::error::ErrorKind;
use crate::http::Server;
use crate::http::error::{ApiError, Problem, ReadProblems};
use crate::http::extract::{Parameters, ScopePath, accepted, header_text};
use crate::threads::{run_blocking, run_cpu};

/// Renders the middle frame of an instance with its first window, or all its values.
#[utoipa::path(
    get,
    path = "/dicom-web/studies/{study}/series/{series}/instances/{instance}/rendered",
    tag = "dicomweb",
    params(
        ("study" = String, Path, description = "Study Instance UID"),
        ("series" = String, Path, description = "Series Instance UID"),
        ("instance" = String, Path, description = "SOP Instance UID"),
        ("window" = Option<String>, Query, description = "Centre, width and `linear`, joined by commas"),
    ),
    responses(
        (status = 200, description = "The picture", content(
            (Vec<u8> = "image/png"),
            (Vec<u8> = "image/jpeg"),
        )),
        (status = 406, description = "No accepted type is offered", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "The pixels cannot be decoded here", content_type = "application/problem+json", body = Problem),
        ReadProblems,
    )
)]
pub(super) async fn rendered(
    State(server): State<Server>,
    ScopePath(scope): ScopePath,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let window = asked_window(&parameters)?;
    let media = accepted(&headers);
    // PS3.18 makes JPEG the default; where both are as good, PNG keeps every grey.
    let format = media.iter().find_map(|media| match media {
        media if media.essence == "image/jpeg" => Some(ImageFormat::Jpeg),
        media if media.covers("image/png") => Some(ImageFormat::Png),
        _ => None,
    });
    let Some(format) = format else {
        let found = header_text(&headers, header::ACCEPT);
        return Err(ApiError::not_acceptable(found, "image/png and image/jpeg"));
    };
    let (archive, recent) = (server.app.archive.clone(), Arc::clone(&server.recent));
    let instance = run_blocking(move || recent.load(&archive, &scope)).await??;
    let picture = run_cpu(move || render(&instance, window, format)).await??;
    Ok(([(header::CONTENT_TYPE, format.to_mime_type())], picture).into_response())
}

/// Centre and width of a linear window (PS3.3 §C.11.2.1.2), after the modality's rescale.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    center: f64,
    width: f64,
}

fn asked_window(parameters: &Parameters) -> Result<Option<Window>, ApiError> {
    let Some((_, text)) = parameters.0.iter().find(|(name, _)| name == "window") else {
        return Ok(None);
    };
    let mut pieces = text.split(',').map(str::trim);
    let mut number = || pieces.next().and_then(|piece| piece.parse::<f64>().ok());
    match (number(), number()) {
        (Some(center), Some(width)) if center.is_finite() && width >= 1.0 => {
            Ok(Some(Window { center, width }))
        }
        _ => Err(ApiError::invalid(format!(
            "window of {} characters is not a centre and a width of at least 1",
            text.len()
        ))),
    }
}

fn render(
    instance: &Instance,
    window: Option<Window>,
    format: ImageFormat,
) -> Result<Vec<u8>, ApiError> {
    let frame = instance.decode_frame(instance.frame_count().div_ceil(2).max(1))?;
    let pixels = windowed(instance, &frame, window)?;
    let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
    let grey = GrayImage::from_raw(size(frame.columns), size(frame.rows), pixels);
    let picture = grey.map(DynamicImage::ImageLuma8);
    let mut encoded = Cursor::new(Vec::new());
    let failed = || ApiError::new(ErrorKind::Internal, "a picture cannot be encoded");
    picture.ok_or_else(failed)?.write_to(&mut encoded, format).map_err(|_| failed())?;
    Ok(encoded.into_inner())
}

fn windowed(
    instance: &Instance,
    frame: &GreyFrame,
    window: Option<Window>,
) -> Result<Vec<u8>, DicomError> {
    let object = instance.object();
    let first = |tag| object.f64s_opt(tag).map(|values| values.and_then(|v| v.first().copied()));
    let slope = first(tags::RESCALE_SLOPE)?.unwrap_or(1.0);
    let intercept = first(tags::RESCALE_INTERCEPT)?.unwrap_or(0.0);
    let own = match (first(tags::WINDOW_CENTER)?, first(tags::WINDOW_WIDTH)?) {
        (Some(center), Some(width)) if width >= 1.0 => Some(Window { center, width }),
        _ => None,
    };
    let rescaled = |value: i32| f64::from(value) * slope + intercept;
    let window = window.or(own).unwrap_or_else(|| {
        let (low, high) = frame.values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(rescaled(*value)), high.max(rescaled(*value)))
        });
        Window { center: (low + high + 1.0) / 2.0, width: (high - low + 1.0).max(2.0) }
    });
    let pixels = frame.values.iter().map(|value| {
        let grey = grey_of(rescaled(*value), window);
        if frame.inverted { 255 - grey } else { grey }
    });
    Ok(pixels.collect())
}

fn grey_of(value: f64, window: Window) -> u8 {
    let span = (window.width - 1.0).max(f64::EPSILON);
    let fraction = (value - (window.center - 0.5)) / span + 0.5;
    (fraction.clamp(0.0, 1.0) * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_map_as_the_standard_says() {
        // PS3.3 §C.11.2.1.2.1: c = 2048, w = 4096 maps 0 to black and 4095 to white.
        let window = Window { center: 2048.0, width: 4096.0 };
        assert_eq!(grey_of(0.0, window), 0);
        assert_eq!(grey_of(4095.0, window), 255);
        assert_eq!(grey_of(-5.0, window), 0);
        assert_eq!(grey_of(2047.5, window), 128);
    }
}
