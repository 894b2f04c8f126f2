//! 2-D concept prompts swept through the slices of a volume (SAM3, MedSAM3).
//!
//! Each slice is encoded once; each prompt then asks its queries. A query is kept when its score is
//! above a threshold; a pixel is inside when a kept query's probability is (transformers'
//! `post_process_instance_segmentation`). Nothing is smoothed between slices.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ndarray::{Array2, Array3, ArrayD, Axis, Ix3, Zip};

use super::network::{check_wiring, keep_all, wire};
use super::restore::{canonical_mut, interpolated};
use super::taps::centred;
use super::tokens::TokenRows;
use super::words::TextEncoder;
use super::{SegmentError, SegmentTimings, Segmentation, timed};
use crate::geometry::AxisPermutation;
use crate::reason::picture::Picture;
use crate::reason::resize::{Kernel, resize};
use crate::runtime::manifest::{ImageArithmetic, SliceSettings};
use crate::runtime::{Graph, Inputs, Tensor};
use crate::threads::{Cancel, Progress};
use crate::view::{Window, grey_slice};
use crate::volume::{Mask, Volume};

/// The graphs of a `sam3` backbone with their settings.
pub(super) struct Sam3 {
    pub image: Graph,
    pub mask: Graph,
    pub slices: SliceSettings,
    /// Tokens of a prompt.
    pub token_count: usize,
    /// Width of a text feature.
    pub width: usize,
}

/// What one prompt's queries say of one slice.
struct Answers {
    slice: usize,
    prompt: usize,
    /// `[query, row, column]` logits.
    masks: Array3<f32>,
    /// One per query.
    scores: Vec<f32>,
}

/// Masks while the slices come in.
struct Sweep<'a> {
    settings: &'a SliceSettings,
    order: AxisPermutation,
    /// Rows and columns of a displayed slice.
    shape: [usize; 2],
    masks: Vec<Array3<bool>>,
    /// Voxels and sum of logits inside, per prompt.
    inside: Vec<(u64, f64)>,
}

impl Sam3 {
    /// Checks that the mask decoder's features are the image encoder's and that the numbers of the
    /// manifest can be used.
    ///
    /// # Errors
    /// Names the graph and input, or the key and value.
    pub fn check(&self) -> Result<(), SegmentError> {
        check_wiring(&self.mask, &["text_features", "attention_mask"], &[&self.image])?;
        let refuse = |key, value: String| Err(SegmentError::Setting { key, value });
        let settings = &self.slices;
        if settings.image_size == 0 {
            return refuse("slices.image_size", "0".to_owned());
        }
        if !settings.std.iter().all(|std| *std > 0.0 && std.is_finite()) {
            return refuse("slices.std", format!("{:?}", settings.std));
        }
        if !(settings.mask_threshold > 0.0 && settings.mask_threshold < 1.0) {
            return refuse("slices.mask_threshold", settings.mask_threshold.to_string());
        }
        if !settings.window.contains_key("default") {
            return refuse("slices.window", "without a default".to_owned());
        }
        Ok(())
    }

    /// The logit that the mask threshold is.
    pub fn threshold_logit(&self) -> f32 {
        logit(self.slices.mask_threshold)
    }

    /// How many slices of the manifest's plane a volume has.
    pub fn slice_count(&self, volume: &Volume) -> usize {
        let order = AxisPermutation::closest(&volume.geometry, self.slices.plane.order());
        order.apply(&volume.geometry).shape()[0]
    }

    /// Segments `volume` once per prompt.
    ///
    /// # Errors
    /// When stopped, a prompt is too long, a graph fails or a logit is not finite.
    pub fn segment(
        &self,
        volume: &Volume,
        text: &TextEncoder,
        prompts: &[String],
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Segmentation, SegmentError> {
        let mut timings = SegmentTimings::default();
        let features = timed(&mut timings.embed, || text.embed(prompts, None, cancel))?;
        let tokens = text.tokens(prompts)?;
        let order = AxisPermutation::closest(&volume.geometry, self.slices.plane.order());
        let [count, rows, columns] = order.apply(&volume.geometry).shape();
        let mut sweep = Sweep {
            settings: &self.slices,
            order,
            shape: [rows, columns],
            masks: vec![Array3::from_elem(volume.geometry.shape(), false); prompts.len()],
            inside: vec![(0, 0.0); prompts.len()],
        };
        let (feed, pictures) = sync_channel(1);
        let (sender, receiver) = sync_channel(1);
        timed(&mut timings.infer, || {
            std::thread::scope(|scope| {
                scope.spawn(move || self.cut_slices(volume, count, &feed));
                let adder = scope.spawn(|| sweep.add_up(receiver));
                let asked = Asked { features: &features, tokens: &tokens, cancel };
                let tell = |done: usize| progress.report(done as u64, count as u64);
                let ran = self.run_slices(pictures, &asked, &sender, &tell);
                drop(sender);
                let added = adder.join().map_err(|_| SegmentError::ThreadEnded)?;
                match (ran, added) {
                    (Err(SegmentError::ThreadEnded), Err(reason)) => Err(reason),
                    (Err(reason), _) | (Ok(()), Err(reason)) => Err(reason),
                    (Ok(()), Ok(())) => Ok(()),
                }
            })
        })?;
        let geometry = volume.geometry;
        Ok(Segmentation {
            masks: sweep.masks.into_iter().map(|voxels| Mask { geometry, voxels }).collect(),
            mean_logits: sweep
                .inside
                .into_iter()
                .map(|(count, sum)| (count > 0).then(|| sum / count as f64))
                .collect(),
            patch_count: count,
            image_encoder_run_count: count,
            timings,
        })
    }

    /// Shows each slice as the model wants it, `[1, 3, size, size]`.
    fn cut_slices(&self, volume: &Volume, count: usize, feed: &SyncSender<(usize, ArrayD<f32>)>) {
        let SliceSettings { plane, image_size: size, mean, std, window, .. } = &self.slices;
        let window = window.get(volume.modality.code()).or_else(|| window.get("default"));
        let window = window.copied().unwrap_or(Window::Percentile { low: 0.5, high: 99.5 });
        for index in 0..count {
            let grey = grey_slice(volume, *plane, index, window);
            let (rows, columns) = grey.dim();
            let pixels = grey.iter().map(|value| [*value; 3]).collect();
            let picture = Picture { rows, columns, pixels };
            let square =
                resize(&picture, (*size, *size), Kernel::Linear, ImageArithmetic::Torchvision);
            let pixels = ArrayD::from_shape_fn(vec![1, 3, *size, *size], |at| {
                let value = f32::from(square.pixels[at[2] * size + at[3]][at[1]]);
                // torchvision folds the division by 255 into mean and deviation.
                (value - mean[at[1]] * 255.0) / (std[at[1]] * 255.0)
            });
            if feed.send((index, pixels)).is_err() {
                return; // The graphs stopped; they say why.
            }
        }
    }

    fn run_slices(
        &self,
        pictures: Receiver<(usize, ArrayD<f32>)>,
        asked: &Asked<'_>,
        sender: &SyncSender<Answers>,
        tell: &dyn Fn(usize),
    ) -> Result<(), SegmentError> {
        for (slice, pixels) in pictures {
            asked.cancel.check()?;
            let inputs = Inputs::new().with("pixel_values", Tensor::F32(pixels));
            let features = keep_all(&self.image, inputs, asked.cancel)?;
            for prompt in 0..asked.features.nrows() {
                let mut inputs = wire(&self.mask, &[&features]);
                asked.push(prompt, [self.token_count, self.width], &mut inputs);
                let (masks, scores) = self.ask(inputs, asked.cancel)?;
                let answers = Answers { slice, prompt, masks, scores };
                sender.send(answers).map_err(|_| SegmentError::ThreadEnded)?;
            }
            tell(slice + 1);
        }
        Ok(())
    }

    /// Mask logits `[query, row, column]` and a score per query.
    fn ask(
        &self,
        inputs: Inputs,
        cancel: &Cancel,
    ) -> Result<(Array3<f32>, Vec<f32>), SegmentError> {
        let mut outputs = self.mask.run(inputs, cancel)?;
        let shape = |output, found: &ArrayD<f32>, expected| SegmentError::OutputShape {
            graph: self.mask.name().to_owned(),
            output,
            found: found.shape().to_vec(),
            expected,
        };
        let masks = outputs.take_f32("pred_masks")?;
        let logits = outputs.take_f32("pred_logits")?;
        let presence = outputs.take_f32("presence_logits")?;
        let present = presence
            .first()
            .map(|logit| sigmoid(*logit))
            .ok_or_else(|| shape("presence_logits", &presence, vec![1, 1]))?;
        let queries = masks.shape()[1];
        if logits.len() != queries {
            return Err(shape("pred_logits", &logits, vec![1, queries]));
        }
        let scores = logits.iter().map(|logit| sigmoid(*logit) * present).collect();
        let masks = masks.index_axis_move(Axis(0), 0).into_dimensionality::<Ix3>();
        Ok((masks.expect("the contract gave it four axes"), scores))
    }
}

/// What every slice is asked.
struct Asked<'a> {
    /// `[prompt, token * value]`.
    features: &'a Array2<f32>,
    tokens: &'a TokenRows,
    cancel: &'a Cancel,
}

impl Asked<'_> {
    /// Adds one prompt's text features `[1, token, value]` and mask `[1, token]`.
    fn push(&self, prompt: usize, [tokens, width]: [usize; 2], inputs: &mut Inputs) {
        let features = self.features.row(prompt).to_owned();
        let features = features.into_shape_with_order((1, tokens, width));
        let features = features.expect("embeddings have this width").into_dyn();
        let mask = self.tokens.mask.row(prompt).insert_axis(Axis(0)).to_owned().into_dyn();
        inputs.push("text_features", Tensor::F32(features));
        inputs.push("attention_mask", Tensor::I64(mask));
    }
}

impl Sweep<'_> {
    fn add_up(&mut self, receiver: Receiver<Answers>) -> Result<(), SegmentError> {
        receiver.into_iter().try_for_each(|answers| self.add(&answers))
    }

    fn add(&mut self, answers: &Answers) -> Result<(), SegmentError> {
        let Answers { slice, prompt, masks, scores } = answers;
        if scores.iter().any(|score| !score.is_finite()) {
            return Err(SegmentError::NotFinite { number: prompt + 1 });
        }
        let kept = scores.iter().zip(masks.axis_iter(Axis(0)));
        let kept: Vec<_> = kept
            .filter(|(score, _)| **score > self.settings.score_threshold)
            .map(|(_, mask)| mask.mapv(sigmoid))
            .collect();
        let Some(probability) = self.highest(&kept) else { return Ok(()) };
        if probability.iter().any(|value| !value.is_finite()) {
            return Err(SegmentError::NotFinite { number: prompt + 1 });
        }
        let mut mask = canonical_mut(self.masks[*prompt].view_mut(), &self.order);
        let (count, sum) = &mut self.inside[*prompt];
        let threshold = self.settings.mask_threshold;
        let mut slice_sum = 0.0;
        Zip::from(mask.index_axis_mut(Axis(0), *slice)).and(&probability).for_each(
            |inside, probability| {
                *inside = *probability > threshold;
                if *inside {
                    *count += 1;
                    slice_sum += f64::from(logit(*probability));
                }
            },
        );
        *sum += slice_sum;
        Ok(())
    }

    /// The highest probability of any kept query, on the slice's own pixels.
    fn highest(&self, kept: &[Array2<f32>]) -> Option<Array2<f32>> {
        let (height, width) = kept.first()?.dim();
        let taps =
            |target: usize, source: usize| centred(target, source as f64 / target as f64, source);
        let (rows, columns) = (taps(self.shape[0], height), taps(self.shape[1], width));
        kept.iter().map(|mask| interpolated(mask, &rows, &columns)).reduce(|mut highest, next| {
            highest.zip_mut_with(&next, |a, b| *a = if b > a || b.is_nan() { *b } else { *a });
            highest
        })
    }
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// The logit of a probability, kept finite.
fn logit(probability: f32) -> f32 {
    let kept = probability.clamp(1e-7, 1.0 - 1e-7);
    (kept / (1.0 - kept)).ln()
}
