//! Frames into pictures: window, source region, size, flips.

use std::io::Cursor;

use dicom_dictionary_std::tags;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};

use crate::archive::{ArchiveError, StoredFrames};
use crate::dicom::{Attributes, DicomError, GreyFrame, Instance};
use crate::error::ErrorKind;
use crate::http::error::ApiError;
use crate::http::extract::Parameters;

/// Widest and highest picture.
const SIDE_MAX: u32 = 8192;
const QUALITY_DEFAULT: u8 = 90;

/// What the query string asks of a picture (PS3.18 §8.3.5).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rendering {
    pub(super) format: ImageFormat,
    pub(super) window: Option<Window>,
    pub(super) viewport: Option<Viewport>,
    pub(super) quality: u8,
}

/// From rescaled values to grey (PS3.3 §C.11.2.1.2 and §C.11.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    center: f64,
    width: f64,
    function: Function,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// The size of the picture and the part of the frame it shows (PS3.18 §8.3.5.1.3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Viewport {
    width: u32,
    height: u32,
    /// Left, top, width and height in the frame; a negative width or height mirrors.
    region: Option<[f64; 4]>,
}

impl Viewport {
    /// A square without a region.
    pub(super) fn square(side: u32) -> Self {
        Self { width: side, height: side, region: None }
    }
}

impl Rendering {
    /// Reads the parameters.
    ///
    /// # Errors
    /// When one is malformed.
    pub(super) fn read(parameters: &Parameters, format: ImageFormat) -> Result<Self, ApiError> {
        let value = |name: &str| {
            let mut pairs = parameters.0.iter();
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let quality = value("quality").map(|text| {
            let quality = text.trim().parse().ok().filter(|quality| (1..=100).contains(quality));
            quality.ok_or_else(|| malformed("quality", text, "a number from 1 to 100"))
        });
        Ok(Self {
            format,
            window: value("window").map(Window::read).transpose()?,
            viewport: value("viewport").map(Viewport::read).transpose()?,
            quality: quality.transpose()?.unwrap_or(QUALITY_DEFAULT),
        })
    }

    /// The picture of one frame.
    ///
    /// # Errors
    /// When the frame does not exist or cannot be decoded.
    pub(super) fn picture(&self, frames: &StoredFrames, number: u32) -> Result<Vec<u8>, ApiError> {
        let picture = self.image(frames, number)?;
        let picture = match self.viewport {
            Some(viewport) => viewport.apply(picture),
            None => picture,
        };
        self.encode(&picture)
    }

    fn image(&self, frames: &StoredFrames, number: u32) -> Result<DynamicImage, ApiError> {
        let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let picture = match frames.instance().is_colour() {
            true => {
                let frame = frames.rgb(number)?;
                RgbImage::from_raw(size(frame.columns), size(frame.rows), frame.pixels)
                    .map(DynamicImage::ImageRgb8)
            }
            false => {
                let frame = frames.grey(number)?;
                let pixels =
                    windowed(frames.instance(), &frame, self.window).map_err(ArchiveError::from)?;
                GrayImage::from_raw(size(frame.columns), size(frame.rows), pixels)
                    .map(DynamicImage::ImageLuma8)
            }
        };
        picture.ok_or_else(cannot_encode)
    }

    fn encode(&self, picture: &DynamicImage) -> Result<Vec<u8>, ApiError> {
        let mut encoded = Cursor::new(Vec::new());
        let written = match self.format {
            ImageFormat::Jpeg => picture
                .write_with_encoder(JpegEncoder::new_with_quality(&mut encoded, self.quality)),
            other => picture.write_to(&mut encoded, other),
        };
        written.map_err(|_| cannot_encode())?;
        Ok(encoded.into_inner())
    }
}

fn cannot_encode() -> ApiError {
    ApiError::new(ErrorKind::Internal, "a picture cannot be encoded")
}

fn malformed(name: &str, text: &str, wanted: &str) -> ApiError {
    ApiError::invalid(format!("{name} of {} characters is not {wanted}", text.len()))
}

impl Window {
    fn read(text: &str) -> Result<Self, ApiError> {
        let bad = || {
            let wanted = "a centre, a width of at least 1 and linear, linear-exact or sigmoid";
            malformed("window", text, wanted)
        };
        let pieces: Vec<&str> = text.split(',').map(str::trim).collect();
        let (center, width, function) = match pieces[..] {
            [center, width] => (center, width, "linear"),
            [center, width, function] => (center, width, function),
            _ => return Err(bad()),
        };
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
        let function = match function.to_ascii_lowercase().as_str() {
            "linear" => Function::Linear,
            "linear-exact" => Function::LinearExact,
            "sigmoid" => Function::Sigmoid,
            _ => return Err(bad()),
        };
        let is_usable = |width: &f64| *width >= 1.0 || function != Function::Linear && *width > 0.0;
        let center = number(center).ok_or_else(bad)?;
        let width = number(width).filter(is_usable).ok_or_else(bad)?;
        Ok(Self { center, width, function })
    }

    fn grey(&self, value: f64) -> u8 {
        let fraction = match self.function {
            Function::Linear => {
                let span = (self.width - 1.0).max(f64::EPSILON);
                (value - (self.center - 0.5)) / span + 0.5
            }
            Function::LinearExact => (value - self.center) / self.width + 0.5,
            Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - self.center) / self.width).exp()),
        };
        (fraction.clamp(0.0, 1.0) * 255.0).round() as u8
    }
}

impl Viewport {
    fn read(text: &str) -> Result<Self, ApiError> {
        let bad = || {
            let wanted = format!(
                "a width and a height up to {SIDE_MAX}, and maybe left, top, width and height of a \
                 region"
            );
            malformed("viewport", text, &wanted)
        };
        // A region's values may be left out between the commas.
        let pieces: Vec<&str> = text.split(',').map(str::trim).collect();
        let side = |text: &str| {
            let number = text.parse::<f64>().ok()?.round();
            (1.0..=f64::from(SIDE_MAX)).contains(&number).then_some(number as u32)
        };
        let [width, height, region @ ..] = &pieces[..] else { return Err(bad()) };
        let region = match region {
            [] => None,
            [left, top, width, height] => {
                let mut numbers = [0.0; 4];
                for (number, text) in numbers.iter_mut().zip([left, top, width, height]) {
                    *number = match *text {
                        "" => f64::NAN,
                        text => text.parse().map_err(|_| bad())?,
                    };
                }
                Some(numbers)
            }
            _ => return Err(bad()),
        };
        let (width, height) = (side(width).ok_or_else(bad)?, side(height).ok_or_else(bad)?);
        Ok(Self { width, height, region })
    }

    /// Cuts the region out, mirrors it, and makes it as large as fits, in its own proportions.
    fn apply(&self, picture: DynamicImage) -> DynamicImage {
        let picture = match self.region {
            Some(region) => cut(picture, region),
            None => picture,
        };
        picture.resize(self.width, self.height, FilterType::Triangle)
    }
}

fn cut(picture: DynamicImage, [left, top, width, height]: [f64; 4]) -> DynamicImage {
    let or = |number: f64, default: f64| if number.is_finite() { number } else { default };
    let (columns, rows) = (f64::from(picture.width()), f64::from(picture.height()));
    let left = or(left, 0.0).clamp(0.0, columns - 1.0);
    let top = or(top, 0.0).clamp(0.0, rows - 1.0);
    let (width, height) = (or(width, columns - left), or(height, rows - top));
    let size = |wanted: f64, room: f64| wanted.abs().min(room).max(1.0) as u32;
    let mut part = picture.crop_imm(
        left as u32,
        top as u32,
        size(width, columns - left),
        size(height, rows - top),
    );
    if width < 0.0 {
        part = part.fliph();
    }
    if height < 0.0 {
        part = part.flipv();
    }
    part
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
    let own = match (first(tags::WINDOW_CENTER), first(tags::WINDOW_WIDTH)) {
        (Ok(Some(center)), Ok(Some(width))) if width >= 1.0 => {
            Some(Window { center, width, function: own_function(instance) })
        }
        _ => None,
    };
    let rescaled = |value: i32| f64::from(value) * slope + intercept;
    let window = window.or(own).unwrap_or_else(|| {
        let (low, high) = frame.values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| {
            (low.min(rescaled(*value)), high.max(rescaled(*value)))
        });
        let width = (high - low + 1.0).max(2.0);
        Window { center: (low + high + 1.0) / 2.0, width, function: Function::Linear }
    });
    let pixels = frame.values.iter().map(|value| {
        let grey = window.grey(rescaled(*value));
        if frame.inverted { 255 - grey } else { grey }
    });
    Ok(pixels.collect())
}

/// VOI LUT Function (0028,1056).
fn own_function(instance: &Instance) -> Function {
    match instance.string_opt(tags::VOILUT_FUNCTION).as_deref() {
        Some("LINEAR_EXACT") => Function::LinearExact,
        Some("SIGMOID") => Function::Sigmoid,
        _ => Function::Linear,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn windows_map_as_the_standard_says() {
        // PS3.3 §C.11.2.1.2.1: c = 2048, w = 4096 maps 0 to black and 4095 to white.
        let window = Window::read("2048,4096").unwrap();
        assert_eq!([0.0, 4095.0, -5.0, 2047.5].map(|value| window.grey(value)), [0, 255, 0, 128]);
        let exact = Window::read("0,100,linear-exact").unwrap();
        assert_eq!([-50.0, 50.0, 0.0].map(|value| exact.grey(value)), [0, 255, 128]);
        let sigmoid = Window::read("40, 400, SIGMOID").unwrap();
        assert_eq!(sigmoid.grey(40.0), 128);
        assert!(sigmoid.grey(240.0) > 210 && sigmoid.grey(240.0) < 230);
        for bad in ["", "40", "40,0", "40,0.5,linear", "a,b", "40,400,cubic", "40,NaN"] {
            assert!(Window::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn viewports_cut_mirror_and_keep_proportions() {
        let picture = GrayImage::from_fn(4, 2, |x, y| image::Luma([(10 * x + y) as u8]));
        let picture = DynamicImage::ImageLuma8(picture);
        let check = |text: &str, expected: [u32; 2], corner: u8| {
            let shown = Viewport::read(text).unwrap().apply(picture.clone()).into_luma8();
            assert_eq!([shown.width(), shown.height()], expected, "{text}");
            assert_eq!(shown.get_pixel(0, 0).0[0], corner, "{text}");
        };
        check("8,8", [8, 4], 0);
        check("2,2,2,0,2,2", [2, 2], 20);
        check("2,2,2,0,-2,2", [2, 2], 30);
        check("2,2,2,,,-2", [2, 2], 21);
        for bad in ["", "1", "0,5", "9999,1", "a,b", "1,1,1", "1,1,a,1,1,1"] {
            assert!(Viewport::read(bad).is_err(), "{bad}");
        }
    }
}
