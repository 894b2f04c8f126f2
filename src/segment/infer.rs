//! Patches through the network: one thread cuts out the next patch, this one runs the graphs, one
//! adds up the logits of the patch before.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ndarray::{Array3, Axis, Slice};

use super::SegmentError;
use super::band::{Band, PatchLogits};
use super::network::{Ask, Network};
use super::prepare::{Prepared, Slab};
use super::restore::Restorer;
use super::tiles::Tiling;
use crate::runtime::manifest::Average;
use crate::volume::Mask;

/// One group of prompts over one image.
pub(super) struct Job<'a, 'v> {
    pub network: &'a Network,
    pub prepared: &'a Prepared<'v>,
    pub tiling: &'a Tiling,
    pub ask: Ask<'a>,
    pub average: Average,
    pub prompts_per_run: usize,
    /// Told how many patches are done.
    pub tell: &'a (dyn Fn(usize) + Sync),
}

/// Masks, each with the mean logit over its voxels.
type Found = Vec<(Mask, Option<f64>)>;

/// A patch on its way to the graphs.
struct Patch {
    corner: [usize; 3],
    /// `[z, y, x]`.
    voxels: Array3<f32>,
}

impl Job<'_, '_> {
    /// Runs all patches and gives the masks that their averaged logits make.
    ///
    /// # Errors
    /// When stopped, a graph fails, or a logit is not finite.
    pub fn run(&self, restorer: Restorer<'_>) -> Result<Found, SegmentError> {
        // A patch and its logits wait while the graphs run: enough to keep every thread busy.
        let (feed, patches) = sync_channel(1);
        let (sender, receiver) = sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(|| self.cut_patches(feed));
            let adder = scope.spawn(|| self.add_up(receiver, restorer));
            let ran = self.run_patches(patches, sender);
            let added = adder.join().map_err(|_| SegmentError::ThreadEnded)?;
            match (ran, added) {
                // The adder went first, so its error is the reason.
                (Err(SegmentError::ThreadEnded), Err(reason)) => Err(reason),
                (Err(reason), _) => Err(reason),
                (Ok(()), added) => added,
            }
        })
    }

    fn cut_patches(&self, feed: SyncSender<Patch>) {
        let [depth, height, width] = self.tiling.patch;
        let mut slab = Slab::new(self.prepared, depth);
        for corner in &self.tiling.corners {
            let [z, y, x] = *corner;
            let mut patch = slab.at(z);
            patch.slice_axis_inplace(Axis(1), Slice::from(y..y + height));
            patch.slice_axis_inplace(Axis(2), Slice::from(x..x + width));
            let patch = Patch { corner: *corner, voxels: patch.to_owned() };
            if feed.send(patch).is_err() {
                return; // The graphs stopped; they say why.
            }
        }
    }

    fn run_patches(
        &self,
        patches: Receiver<Patch>,
        sender: SyncSender<PatchLogits>,
    ) -> Result<(), SegmentError> {
        let mut done = 0;
        for Patch { corner, voxels } in patches {
            self.ask.cancel.check()?;
            let features = self.network.encode(voxels, self.ask.cancel)?;
            for prompts in runs(self.ask.words.count(), self.prompts_per_run) {
                self.network.decode(&features, &self.ask, prompts, |first_prompt, logits| {
                    let logits = PatchLogits { corner, first_prompt, logits };
                    sender.send(logits).map_err(|_| SegmentError::ThreadEnded)
                })?;
            }
            done += 1;
            (self.tell)(done);
        }
        // A thread that cut out too few patches panicked.
        if done < self.tiling.len() { Err(SegmentError::ThreadEnded) } else { Ok(()) }
    }

    fn add_up(
        &self,
        receiver: Receiver<PatchLogits>,
        restorer: Restorer<'_>,
    ) -> Result<Found, SegmentError> {
        let (shape, count) = (self.prepared.shape, self.ask.words.count());
        let mut band = Band::new(shape, count, self.tiling, self.average, restorer);
        for patch in receiver {
            band.add(&patch)?;
        }
        self.ask.cancel.check()?;
        band.finish()
    }
}

/// `0..count` in pieces of `size`.
pub(super) fn runs(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).step_by(size.max(1)).map(move |first| first..(first + size.max(1)).min(count))
}
