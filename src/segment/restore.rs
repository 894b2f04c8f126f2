//! Averaged logits back onto the volume's own grid, and into masks.

use ndarray::{Array1, Array3, Array4, ArrayView3, Axis, Zip};
use rayon::prelude::*;

use super::SegmentError;
use super::prepare::Prepared;
use super::taps::{Tap, centred, line};
use super::tiles::within;
use crate::threads::Cancel;
use crate::volume::resample::from_canonical_ras_zyx;
use crate::volume::{Mask, Volume};

/// One mask per prompt, with the mean logit over its voxels.
///
/// Logits are interpolated slice by slice, so no full-size copy of them is made.
pub(super) fn masks(
    logits: &Array4<f32>,
    prepared: &Prepared,
    volume: &Volume,
    threshold: f32,
    cancel: &Cancel,
) -> Result<Vec<(Mask, Option<f64>)>, SegmentError> {
    let (before, inner) = (prepared.padding_before, prepared.inner_shape);
    let fine = prepared.region.shape();
    let taps: [Vec<Tap>; 3] =
        std::array::from_fn(|axis| centred(fine[axis], prepared.scale[axis], inner[axis]));
    logits
        .axis_iter(Axis(0))
        .map(|padded| {
            cancel.check()?;
            let coarse = padded.slice_each_axis(within(before, inner));
            let mut canonical = Array3::from_elem(prepared.canonical_shape, false);
            let first = std::array::from_fn(|axis| prepared.region.0[axis].start);
            let mut inside = canonical.slice_each_axis_mut(within(first, fine));
            let (count, sum) = inside
                .axis_iter_mut(Axis(0))
                .into_par_iter()
                .zip(&taps[0])
                .map(|(mut out, tap)| {
                    let slice = interpolate_slice(coarse, tap, &taps[1], &taps[2]);
                    let (mut count, mut sum) = (0_u64, 0.0);
                    Zip::from(&mut out).and(&slice).for_each(|inside, logit| {
                        *inside = *logit > threshold;
                        if *inside {
                            count += 1;
                            sum += f64::from(*logit);
                        }
                    });
                    (count, sum)
                })
                .collect::<Vec<_>>()
                .into_iter()
                .fold((0, 0.0), |total, slice| (total.0 + slice.0, total.1 + slice.1));
            let voxels = from_canonical_ras_zyx(&canonical, &volume.geometry);
            let mean = (count > 0).then(|| sum / count as f64);
            Ok((Mask { geometry: volume.geometry, voxels }, mean))
        })
        .collect()
}

/// One fine slice: along z, then y, then x.
fn interpolate_slice(
    coarse: ArrayView3<'_, f32>,
    tap: &Tap,
    rows: &[Tap],
    columns: &[Tap],
) -> ndarray::Array2<f32> {
    let (low, high) = (coarse.index_axis(Axis(0), tap.low), coarse.index_axis(Axis(0), tap.high));
    let plane = Zip::from(&low)
        .and(&high)
        .map_collect(|low, high| low * (1.0 - tap.weight) + high * tap.weight);
    let mut out = ndarray::Array2::zeros([rows.len(), columns.len()]);
    for (mut pixels, row) in out.rows_mut().into_iter().zip(rows) {
        let (above, below) = (plane.row(row.low), plane.row(row.high));
        let values: Array1<f32> = Zip::from(&above)
            .and(&below)
            .map_collect(|above, below| above * (1.0 - row.weight) + below * row.weight);
        let pixels = pixels.as_slice_mut().expect("rows of a new array are contiguous");
        line(values.view(), columns, pixels);
    }
    out
}
