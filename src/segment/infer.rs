//! Patches through the graphs, logits averaged.
//!
//! Logits are summed in single precision. VoxTell's own host sums in half precision, which costs it
//! about three digits; masks differ only where the averaged logit is that close to the threshold.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use ndarray::{Array2, Array3, Array4, ArrayD, Axis, Ix3, Slice, Zip};

use super::SegmentError;
use super::prepare::Prepared;
use super::tiles::Tiling;
use crate::runtime::{Graph, Inputs, Outputs, Tensor};
use crate::threads::Cancel;

/// The three graphs that look at the image.
pub(super) struct Graphs {
    pub image: Graph,
    pub prompt: Graph,
    pub mask: Graph,
}

/// One group of prompts over one image.
pub(super) struct Job<'a> {
    pub prepared: &'a Prepared,
    pub tiling: &'a Tiling,
    /// `[prompt, value]`.
    pub embeddings: &'a Array2<f32>,
    pub prompts_per_run: usize,
    pub cancel: &'a Cancel,
    /// Told how many patches are done.
    pub tell: &'a (dyn Fn(usize) + Sync),
}

/// Logits of some prompts over one patch, on their way to be added up.
struct PatchLogits {
    corner: [usize; 3],
    first_prompt: usize,
    /// `[1, prompt, z, y, x]`.
    logits: ArrayD<f32>,
}

impl Graphs {
    /// Checks that every input of the decoders is an output of a graph before.
    pub fn check_wiring(&self) -> Result<(), SegmentError> {
        let given = |name: &str, graphs: &[&Graph]| {
            graphs.iter().any(|graph| graph.outputs().iter().any(|port| port.name == name))
        };
        let unwired = |graph: &Graph, input: &str| SegmentError::Unwired {
            graph: graph.name().to_owned(),
            input: input.to_owned(),
        };
        for port in self.prompt.inputs() {
            if port.name != "text_embedding" && !given(&port.name, &[&self.image]) {
                return Err(unwired(&self.prompt, &port.name));
            }
        }
        for port in self.mask.inputs() {
            if !given(&port.name, &[&self.image, &self.prompt]) {
                return Err(unwired(&self.mask, &port.name));
            }
        }
        Ok(())
    }

    /// Averaged logits `[prompt, z, y, x]` over the padded image. Each patch is encoded once; one
    /// thread adds up the logits of a run while the graphs work on the next.
    pub fn logits(&self, job: &Job<'_>) -> Result<Array4<f32>, SegmentError> {
        let (sender, receiver) = sync_channel(1);
        std::thread::scope(|scope| {
            let adder = scope.spawn(move || add_up(&receiver, job));
            let ran = self.run_patches(job, sender);
            let sums = adder.join().map_err(|_| SegmentError::ThreadEnded)?;
            // A failed run ends the sums early; its own error says more.
            ran?;
            average(sums, job)
        })
    }

    fn run_patches(
        &self,
        job: &Job<'_>,
        sender: SyncSender<PatchLogits>,
    ) -> Result<(), SegmentError> {
        let prompt_count = job.embeddings.nrows();
        for (index, corner) in job.tiling.corners.iter().enumerate() {
            job.cancel.check()?;
            let features = self.encode(*corner, job)?;
            for first_prompt in (0..prompt_count).step_by(job.prompts_per_run) {
                let last = (first_prompt + job.prompts_per_run).min(prompt_count);
                let text = rows(job.embeddings, first_prompt..last);
                let logits = self.decode(&features, text, job)?;
                let done = PatchLogits { corner: *corner, first_prompt, logits };
                sender.send(done).map_err(|_| SegmentError::ThreadEnded)?;
            }
            (job.tell)(index + 1);
        }
        Ok(())
    }

    /// Features of one patch, kept where ONNX Runtime put them.
    fn encode(&self, corner: [usize; 3], job: &Job<'_>) -> Result<Features, SegmentError> {
        let patch = job.prepared.image.slice_each_axis(job.tiling.within(corner));
        let patch = patch.insert_axis(Axis(0)).insert_axis(Axis(0)).to_owned().into_dyn();
        let inputs = Inputs::new().with("image", Tensor::F32(patch));
        keep_all(&self.image, inputs, job.cancel)
    }

    fn decode(
        &self,
        features: &Features,
        text: Array2<f32>,
        job: &Job<'_>,
    ) -> Result<ArrayD<f32>, SegmentError> {
        let [depth, height, width] = job.tiling.patch;
        let expected = vec![1, text.nrows(), depth, height, width];
        let text = Tensor::F32(text.insert_axis(Axis(0)).into_dyn());
        let inputs = wire(&self.prompt, features, None).with("text_embedding", text);
        let mask_embeddings = keep_all(&self.prompt, inputs, job.cancel)?;
        let inputs = wire(&self.mask, features, Some(&mask_embeddings));
        let mut outputs: Outputs = self.mask.run(inputs, job.cancel)?;
        let logits = outputs.take_f32("logits")?;
        if logits.shape() != expected {
            let (graph, found) = (self.mask.name().to_owned(), logits.shape().to_vec());
            return Err(SegmentError::OutputShape { graph, output: "logits", found, expected });
        }
        Ok(logits)
    }
}

/// Some rows of the embeddings.
pub(super) fn rows(embeddings: &Array2<f32>, range: Range<usize>) -> Array2<f32> {
    embeddings.slice_axis(Axis(0), Slice::from(range)).to_owned()
}

/// Tensors by name, shared rather than copied.
type Features = Vec<(String, Tensor)>;

fn keep_all(graph: &Graph, inputs: Inputs, cancel: &Cancel) -> Result<Features, SegmentError> {
    let names: Vec<&str> = graph.outputs().iter().map(|port| port.name.as_str()).collect();
    Ok(graph.run_keeping(inputs, &names, cancel)?.take_all(""))
}

/// The inputs of `graph` that tensors of graphs before it feed; later ones win.
fn wire(graph: &Graph, features: &Features, further: Option<&Features>) -> Inputs {
    let mut inputs = Inputs::new();
    for port in graph.inputs() {
        let all = further.into_iter().flatten().chain(features);
        if let Some((name, tensor)) = all.into_iter().find(|(name, _)| *name == port.name) {
            inputs.push(name.clone(), tensor.clone());
        }
    }
    inputs
}

/// Weighted sums of logits and the weights they were given.
struct Sums {
    logits: Array4<f32>,
    weights: Array3<f32>,
}

fn add_up(receiver: &Receiver<PatchLogits>, job: &Job<'_>) -> Sums {
    let shape = job.prepared.image.raw_dim();
    let count = job.embeddings.nrows();
    let mut sums = Sums {
        logits: Array4::zeros([count, shape[0], shape[1], shape[2]]),
        weights: Array3::zeros(shape),
    };
    let weights = &job.tiling.weights;
    while let Ok(PatchLogits { corner, first_prompt, logits }) = receiver.recv() {
        let within = job.tiling.within(corner);
        if first_prompt == 0 {
            sums.weights
                .slice_each_axis_mut(&within)
                .zip_mut_with(weights, |sum, weight| *sum += weight);
        }
        for (offset, patch) in logits.index_axis(Axis(0), 0).axis_iter(Axis(0)).enumerate() {
            let patch = patch.into_dimensionality::<Ix3>().expect("its shape was checked");
            let mut prompt = sums.logits.index_axis_mut(Axis(0), first_prompt + offset);
            Zip::from(prompt.slice_each_axis_mut(&within))
                .and(&patch)
                .and(weights)
                .for_each(|sum, logit: &f32, weight| *sum += logit * weight);
        }
    }
    sums
}

fn average(sums: Sums, job: &Job<'_>) -> Result<Array4<f32>, SegmentError> {
    let Sums { mut logits, weights } = sums;
    for (index, mut prompt) in logits.axis_iter_mut(Axis(0)).enumerate() {
        job.cancel.check()?;
        let mut finite = true;
        Zip::from(&mut prompt).and(&weights).for_each(|logit, weight| {
            *logit /= weight;
            finite &= logit.is_finite();
        });
        if !finite {
            return Err(SegmentError::NotFinite { number: index + 1 });
        }
    }
    Ok(logits)
}
