//! Logits of overlapping patches, averaged a band of slices at a time.
//!
//! Patches come bottom to top, so every slice below the lowest patch still to come is final: it is
//! averaged, handed to the masks and forgotten. A band is as deep as a patch, however tall the image.
//!
//! Logits are summed in single precision. VoxTell's own host sums in half precision, which costs it
//! about three digits; masks differ only where the averaged logit is that close to the threshold.
//! A manifest can ask for the same ([`SumPrecision::Fp16`]).

use half::f16;
use ndarray::{Array2, Array3, ArrayView3, ArrayView4, ArrayViewMut3, Axis, Slice, Zip};
use rayon::prelude::*;

use super::SegmentError;
use super::prepare::shift;
use super::restore::Restorer;
use super::tiles::Tiling;
use crate::runtime::manifest::{Average, SumPrecision};
use crate::volume::Mask;

/// A mean probability is kept this far from 0 and 1, so that it has a logit.
const PROBABILITY_MARGIN: f32 = 1e-7;

/// Sums over the slices that patches may still add to.
pub(super) struct Band<'a> {
    tiling: &'a Tiling,
    average: Average,
    first: usize,
    /// `[z, y, x]` per prompt.
    sums: Vec<Array3<f32>>,
    /// Sum of the weights that the logits were given.
    weights: Array3<f32>,
    restorer: Restorer<'a>,
}

/// Logits of some prompts over one patch, on their way to be added up.
pub(super) struct PatchLogits {
    pub corner: [usize; 3],
    pub first_prompt: usize,
    /// `[1, prompt, z, y, x]`.
    pub logits: ndarray::ArrayD<f32>,
}

impl<'a> Band<'a> {
    /// A band over an image of `shape` for `count` prompts.
    pub fn new(
        shape: [usize; 3],
        count: usize,
        tiling: &'a Tiling,
        average: Average,
        restorer: Restorer<'a>,
    ) -> Self {
        let zeros = || Array3::zeros([tiling.patch[0], shape[1], shape[2]]);
        let sums = (0..count).map(|_| zeros()).collect();
        Self { tiling, average, first: 0, sums, weights: zeros(), restorer }
    }

    /// Adds the logits of a patch; patches come bottom to top.
    ///
    /// # Errors
    /// When a slice that becomes final holds a logit that is not finite.
    pub fn add(&mut self, patch: &PatchLogits) -> Result<(), SegmentError> {
        let PatchLogits { corner, first_prompt, logits } = patch;
        self.finish_below(corner[0])?;
        let corner = [corner[0] - self.first, corner[1], corner[2]];
        let weights = &self.tiling.weights;
        let precision = self.tiling.sums;
        if *first_prompt == 0 {
            let mut sums = within(self.weights.view_mut(), corner, self.tiling.patch);
            sums.zip_mut_with(weights, |sum, weight| *sum = kept(*sum + weight, precision));
        }
        let logits: ArrayView4<'_, f32> = logits
            .index_axis(Axis(0), 0)
            .into_dimensionality()
            .expect("the network checked its shape");
        let is_probability = self.average == Average::Probability;
        let prompts = self.sums[*first_prompt..].par_iter_mut();
        prompts.zip(logits.axis_iter(Axis(0)).into_par_iter()).for_each(|(sums, logits)| {
            let logits: ArrayView3<'_, f32> = logits;
            let sums = within(sums.view_mut(), corner, self.tiling.patch);
            Zip::from(sums).and(&logits).and(weights).for_each(|sum, logit, weight| {
                let value = if is_probability { 1.0 / (1.0 + (-logit).exp()) } else { *logit };
                *sum = kept(*sum + value * weight, precision);
            });
        });
        Ok(())
    }

    /// Finishes what is left and gives the masks, each with the mean logit over its voxels.
    ///
    /// # Errors
    /// As [`Band::add`].
    pub fn finish(mut self) -> Result<Vec<(Mask, Option<f64>)>, SegmentError> {
        self.finish_below(self.first + self.tiling.patch[0])?;
        Ok(self.restorer.finish())
    }

    /// Hands slices below `end` to the masks and moves the band there.
    fn finish_below(&mut self, end: usize) -> Result<(), SegmentError> {
        let depth = self.tiling.patch[0];
        let count = (end - self.first).min(depth);
        for slice in 0..count {
            let averaged = self.averaged(slice)?;
            let views: Vec<_> = averaged.iter().map(|logits| logits.view()).collect();
            self.restorer.take(self.first + slice, &views);
        }
        if count > 0 {
            let all = self.sums.iter_mut().chain([&mut self.weights]);
            all.for_each(|sums| {
                shift(sums, count, depth - count);
                sums.slice_axis_mut(Axis(0), Slice::from(depth - count..)).fill(0.0);
            });
            self.first = end;
        }
        Ok(())
    }

    /// One slice's logits per prompt.
    fn averaged(&self, slice: usize) -> Result<Vec<Array2<f32>>, SegmentError> {
        let weights = self.weights.index_axis(Axis(0), slice);
        let is_probability = self.average == Average::Probability;
        let precision = self.tiling.sums;
        let averaged = |(index, sums): (usize, &Array3<f32>)| {
            let sums = sums.index_axis(Axis(0), slice);
            let logits = Zip::from(&sums).and(&weights).map_collect(|sum, weight| {
                let mean = kept(sum / weight, precision);
                if is_probability { logit_of(mean) } else { mean }
            });
            let finite = logits.iter().all(|logit| logit.is_finite());
            finite.then_some(logits).ok_or(SegmentError::NotFinite { number: index + 1 })
        };
        self.sums.par_iter().enumerate().map(averaged).collect()
    }
}

/// What is left of a number in sums of this precision.
#[inline]
fn kept(number: f32, precision: SumPrecision) -> f32 {
    match precision {
        SumPrecision::Fp32 => number,
        SumPrecision::Fp16 => f16::from_f32(number).to_f32(),
    }
}

fn logit_of(probability: f32) -> f32 {
    if probability.is_nan() {
        return probability;
    }
    let kept = probability.clamp(PROBABILITY_MARGIN, 1.0 - PROBABILITY_MARGIN);
    (kept / (1.0 - kept)).ln()
}

/// The box of `shape` that starts at `first`.
fn within(
    mut voxels: ArrayViewMut3<'_, f32>,
    first: [usize; 3],
    shape: [usize; 3],
) -> ArrayViewMut3<'_, f32> {
    for axis in 0..3 {
        let range = first[axis]..first[axis] + shape[axis];
        voxels.slice_axis_inplace(Axis(axis), Slice::from(range));
    }
    voxels
}
