//! JPEG XL by jxl-oxide, with a limit on what it may allocate.
//!
//! The image header alone does not bound a decoder: a frame of a 32 x 21 image may say that it
//! is millions of pixels wide, of which the image shows a part (ISO/IEC 18181-1 §F.2).

use jxl_oxide::{AllocTracker, FrameBufferSample, JxlImage};

use super::codestream::Shape;

/// What a small image may take: tables and groups of 256 x 256.
const ALWAYS_ALLOWED_BYTES: usize = 16 << 20;
/// For each sample: planes of 32 bits in several stages, three of them where colour is decorrelated.
const BYTES_PER_SAMPLE: usize = 64;

/// Decodes the first frame to samples as wide as 8 or 16 bits hold, whatever the precision.
///
/// # Errors
/// What the decoder says, also when it would take more than 16 MiB and 64 bytes for each sample.
pub(super) fn decode(frame: &[u8], shape: Shape) -> Result<Vec<u32>, String> {
    let (rows, columns) = (shape.rows as usize, shape.columns as usize);
    let count = rows * columns * usize::from(shape.components);
    let bytes_max = ALWAYS_ALLOWED_BYTES.saturating_add(count.saturating_mul(BYTES_PER_SAMPLE));
    let image = JxlImage::builder()
        .alloc_tracker(AllocTracker::with_limit(bytes_max))
        .read(frame)
        .map_err(|error| error.to_string())?;
    let render = image.render_frame(0).map_err(|error| error.to_string())?;
    let mut stream = render.stream();
    let (found_rows, found_columns) = (stream.height(), stream.width());
    if (found_rows, found_columns, stream.channels())
        != (shape.rows, shape.columns, u32::from(shape.components))
    {
        return Err(format!(
            "the decoder gives {found_rows} x {found_columns} with {} channels",
            stream.channels()
        ));
    }
    if shape.precision <= 8 {
        samples::<u8>(count, |buffer| stream.write_to_buffer(buffer))
    } else {
        samples::<u16>(count, |buffer| stream.write_to_buffer(buffer))
    }
}

fn samples<T: FrameBufferSample + Copy + Default + Into<u32>>(
    count: usize,
    write: impl FnOnce(&mut [T]) -> usize,
) -> Result<Vec<u32>, String> {
    let mut buffer = vec![T::default(); count];
    match write(&mut buffer) {
        written if written == count => Ok(buffer.into_iter().map(Into::into).collect()),
        written => Err(format!("the decoder gives {written} of {count} samples")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: 17 bytes for which the decoder took 240 MB before it missed the rest.
    #[test]
    fn a_frame_far_larger_than_its_image_is_refused() {
        let frame = b"\xff\x0a\xf8\x00\x28\xc0\xa0\x68\x11\x08\x04\x01\x00\xf7\x0a\x4b\x38";
        let shape = Shape { rows: 32, columns: 21, components: 1, precision: 12 };
        let error = decode(frame, shape).expect_err("no image");
        assert!(error.contains("failed to allocate"), "{error}");
    }
}
