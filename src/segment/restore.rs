//! Averaged logits, slice by slice, into masks on the volume's own grid.

use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut3, Axis, Slice, Zip};
use rayon::prelude::*;

use super::prepare::Prepared;
use super::taps::{Tap, centred, line};
use crate::geometry::{AxisOrder, AxisPermutation};
use crate::volume::{Mask, Volume};

/// Masks of one group of prompts while the slices of their logits come in, bottom to top.
///
/// Of the logits, only the slice before is kept.
pub(super) struct Restorer<'a> {
    volume: &'a Volume,
    order: AxisPermutation,
    first: [usize; 3],
    /// Along each axis, from the crop to the model's grid.
    taps: [Vec<Tap>; 3],
    padding_before: [usize; 3],
    inner_shape: [usize; 3],
    threshold: f32,
    prompts: Vec<Growing>,
    /// Slices of the crop that are done.
    done: usize,
}

/// One prompt's mask, and the sum of the logits inside it.
struct Growing {
    voxels: Array3<bool>,
    before: Array2<f32>,
    count: u64,
    sum: f64,
}

impl<'a> Restorer<'a> {
    /// Empty masks for `count` prompts; a voxel whose logit is above `threshold` is inside.
    pub fn new(volume: &'a Volume, prepared: &Prepared<'_>, threshold: f32, count: usize) -> Self {
        let (inner_shape, fine) = (prepared.inner_shape, prepared.region.shape());
        let [_, rows, columns] = inner_shape;
        let prompt = || Growing {
            voxels: Array3::from_elem(volume.geometry.shape(), false),
            before: Array2::zeros([rows, columns]),
            count: 0,
            sum: 0.0,
        };
        Self {
            volume,
            order: AxisPermutation::closest(&volume.geometry, AxisOrder::SuperiorAnteriorRight),
            first: std::array::from_fn(|axis| prepared.region.0[axis].start),
            taps: std::array::from_fn(|a| centred(fine[a], prepared.steps[a], inner_shape[a])),
            padding_before: prepared.padding_before,
            inner_shape,
            threshold,
            prompts: (0..count).map(|_| prompt()).collect(),
            done: 0,
        }
    }

    /// Takes slice `index` of the padded grid, one `[y, x]` view per prompt.
    pub fn take(&mut self, index: usize, logits: &[ArrayView2<'_, f32>]) {
        let Some(inner) = index.checked_sub(self.padding_before[0]) else { return };
        if inner >= self.inner_shape[0] {
            return;
        }
        // A slice of the crop lies between two of these; the upper one completes it.
        let ready = self.taps[0][self.done..].iter().take_while(|tap| tap.high <= inner).count();
        let [_, before_rows, before_columns] = self.padding_before;
        let [_, rows, columns] = self.inner_shape;
        let (first, taps, threshold) = (self.first, &self.taps, self.threshold);
        let fine = first[0] + self.done..first[0] + self.done + ready;
        let taps_here = &taps[0][self.done..self.done + ready];
        let order = &self.order;
        self.prompts.par_iter_mut().zip(logits).for_each(|(prompt, logits)| {
            let here = logits
                .slice_axis(Axis(0), Slice::from(before_rows..before_rows + rows))
                .slice_axis_move(Axis(1), Slice::from(before_columns..before_columns + columns));
            let Growing { voxels, before, count, sum } = prompt;
            let mut mask = canonical_mut(voxels.view_mut(), order);
            for (slice, tap) in fine.clone().zip(taps_here) {
                let low = if tap.low < inner { before.view() } else { here };
                let plane = Zip::from(&low)
                    .and(&here)
                    .map_collect(|low, high| low * (1.0 - tap.weight) + high * tap.weight);
                let plane = interpolated(&plane, &taps[1], &taps[2]);
                let mut out = mask.index_axis_mut(Axis(0), slice);
                out.slice_axis_inplace(Axis(0), Slice::from(first[1]..first[1] + taps[1].len()));
                out.slice_axis_inplace(Axis(1), Slice::from(first[2]..first[2] + taps[2].len()));
                let mut slice_sum = 0.0;
                Zip::from(&mut out).and(&plane).for_each(|inside, logit| {
                    *inside = *logit > threshold;
                    if *inside {
                        *count += 1;
                        slice_sum += f64::from(*logit);
                    }
                });
                *sum += slice_sum;
            }
            before.assign(&here);
        });
        self.done += ready;
    }

    /// The masks, each with the mean logit over its voxels.
    pub fn finish(self) -> Vec<(Mask, Option<f64>)> {
        let geometry = self.volume.geometry;
        let masks = self.prompts.into_iter().map(|prompt| {
            let mean = (prompt.count > 0).then(|| prompt.sum / prompt.count as f64);
            (Mask { geometry, voxels: prompt.voxels }, mean)
        });
        masks.collect()
    }
}

/// Voxels to write to in another axis order.
pub(super) fn canonical_mut<'a, T>(
    voxels: ArrayViewMut3<'a, T>,
    order: &AxisPermutation,
) -> ArrayViewMut3<'a, T> {
    let mut voxels = voxels.permuted_axes(order.source_axes());
    for (axis, flipped) in order.flipped().into_iter().enumerate() {
        if flipped {
            voxels.invert_axis(Axis(axis));
        }
    }
    voxels
}

/// A plane interpolated along y, then x.
pub(super) fn interpolated(plane: &Array2<f32>, rows: &[Tap], columns: &[Tap]) -> Array2<f32> {
    let mut out = Array2::zeros([rows.len(), columns.len()]);
    let mut between = vec![0.0; plane.ncols()];
    for (mut pixels, row) in out.rows_mut().into_iter().zip(rows) {
        let (above, below) = (plane.row(row.low), plane.row(row.high));
        for ((value, above), below) in between.iter_mut().zip(above).zip(below) {
            *value = above * (1.0 - row.weight) + below * row.weight;
        }
        let pixels = pixels.as_slice_mut().expect("rows of a new array are contiguous");
        line(ndarray::ArrayView1::from(&between), columns, pixels);
    }
    out
}
