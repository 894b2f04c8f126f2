//! The three graphs of a Qwen3-VL: see pictures, read a prompt, write one token at a time.

use ndarray::{Array2, Array3, Array4, ArrayD, Axis};

use super::ReasonError;
use super::picture::{Grid, Patches};
use super::positions::{PatchPositions, TokenPositions};
use crate::runtime::contract;
use crate::runtime::manifest::ReasonerManifest;
use crate::runtime::{Bundle, Graph, Inputs, Outputs, Runtime, RuntimeError, Tensor};
use crate::threads::Cancel;

/// Prefix of the decoder's outputs that become its next inputs.
const PRESENT: &str = "present.";

/// The loaded graphs.
pub struct Model {
    vision: Graph,
    embed: Graph,
    decoder: Graph,
    deepstack_levels: usize,
    hidden_size: usize,
    layers: usize,
    key_value_heads: usize,
    head_dim: usize,
}

/// What the vision encoder made of one picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// One row per merged token, `(tokens, hidden)`.
    pub embeds: Array2<f32>,
    /// DeepStack features, `(levels, tokens, hidden)`.
    pub deepstack: Array3<f32>,
    /// The grid of merged tokens.
    pub grid: Grid,
}

/// A prompt with the places of its image tokens filled.
#[derive(Debug, Clone)]
pub struct Prompt<'a> {
    /// Its tokens.
    pub tokens: &'a [u32],
    /// The token that stands for one merged patch.
    pub image_id: u32,
    /// Where its tokens are.
    pub positions: TokenPositions,
    /// What stands behind its image tokens, in order.
    pub seen: &'a [Seen],
}

/// The decoder after some tokens: logits of the next one, and what it remembers.
///
/// Cloning shares the cache, so that several samples can go on from one prompt.
#[derive(Debug, Clone)]
pub struct State {
    /// Logits of the next token.
    pub logits: Vec<f32>,
    past: Vec<(String, Tensor)>,
    length: usize,
    next_position: i64,
}

impl Model {
    /// Loads the graphs of a bundle's reasoner.
    ///
    /// # Errors
    /// When a graph does not load or does not fit the manifest.
    pub fn load(
        bundle: &Bundle,
        manifest: &ReasonerManifest,
        runtime: &Runtime,
    ) -> Result<Self, RuntimeError> {
        let [vision, embed, decoder] = contract::reasoner(manifest);
        Ok(Self {
            vision: runtime.load_checked(bundle, &vision)?,
            embed: runtime.load_checked(bundle, &embed)?,
            decoder: runtime.load_checked(bundle, &decoder)?,
            deepstack_levels: manifest.deepstack_levels,
            hidden_size: manifest.hidden_size,
            layers: manifest.layers,
            key_value_heads: manifest.key_value_heads,
            head_dim: manifest.head_dim,
        })
    }

    /// Encodes one picture. Pictures do not see each other, so one call per picture is exact, and
    /// attention stays quadratic in one picture's patches only.
    ///
    /// # Errors
    /// When stopped or the graph fails.
    pub fn see(
        &self,
        patches: &Patches,
        positions: &PatchPositions,
        merge: usize,
        cancel: &Cancel,
    ) -> Result<Seen, ReasonError> {
        let mut inputs = Inputs::new()
            .with("pixel_values", Tensor::F32(patches.values.clone().into_dyn()))
            .with("position_ids", Tensor::I64(positions.ids.clone().into_dyn()))
            .with("interp_indices", Tensor::I64(positions.indices.clone().into_dyn()))
            .with("interp_weights", Tensor::F32(positions.weights.clone().into_dyn()));
        if self.vision.input("segment_ids").is_some() {
            let one_picture = ArrayD::zeros(vec![patches.values.nrows()]);
            inputs.push("segment_ids", Tensor::I64(one_picture));
        }
        let mut outputs = self.vision.run(inputs, cancel)?;
        let grid = patches.grid.merged(merge);
        let tokens = grid.patch_count();
        let embeds = array(&mut outputs, "image_embeds", &[tokens, self.hidden_size])?;
        let shape = [self.deepstack_levels, tokens, self.hidden_size];
        let deepstack = array(&mut outputs, "deepstack_embeds", &shape)?;
        let whole = "the shape was just checked";
        Ok(Seen {
            embeds: embeds.into_dimensionality().expect(whole),
            deepstack: deepstack.into_dimensionality().expect(whole),
            grid,
        })
    }

    /// Reads a whole prompt.
    ///
    /// # Errors
    /// When stopped, a graph fails, or the image tokens are not those of the pictures.
    pub fn read(&self, prompt: Prompt<'_>, cancel: &Cancel) -> Result<State, ReasonError> {
        let length = prompt.tokens.len();
        let mut embeds = self.embed(prompt.tokens, cancel)?;
        let mut deepstack = Array4::zeros((self.deepstack_levels, 1, length, self.hidden_size));
        let places: Vec<usize> =
            (0..length).filter(|&at| prompt.tokens[at] == prompt.image_id).collect();
        let expected = prompt.seen.iter().map(|seen| seen.embeds.nrows()).sum();
        if places.len() != expected {
            return Err(ReasonError::ImageTokens { expected, found: places.len() });
        }
        let mut places = places.into_iter();
        for seen in prompt.seen {
            for (row, at) in (0..seen.embeds.nrows()).zip(&mut places) {
                embeds.index_axis_mut(Axis(0), 0).row_mut(at).assign(&seen.embeds.row(row));
                for (mut level, features) in
                    deepstack.outer_iter_mut().zip(seen.deepstack.outer_iter())
                {
                    level.index_axis_mut(Axis(0), 0).row_mut(at).assign(&features.row(row));
                }
            }
        }
        let past = contract::cache_names(self.layers).map(|name| {
            let empty = ArrayD::zeros(vec![1, self.key_value_heads, 0, self.head_dim]);
            (name, Tensor::F32(empty))
        });
        let start = State {
            logits: Vec::new(),
            past: past.collect(),
            length: 0,
            next_position: prompt.positions.next,
        };
        let positions = prompt.positions.ids.insert_axis(Axis(1)).into_dyn();
        self.advance(&start, Step { embeds, deepstack, positions, count: length }, cancel)
    }

    /// Reads one more token.
    ///
    /// # Errors
    /// When stopped or a graph fails.
    pub fn write(&self, token: u32, state: &State, cancel: &Cancel) -> Result<State, ReasonError> {
        let embeds = self.embed(&[token], cancel)?;
        // DeepStack features belong to image tokens only.
        let deepstack = Array4::zeros((self.deepstack_levels, 1, 1, self.hidden_size));
        let positions = ArrayD::from_elem(vec![3, 1, 1], state.next_position);
        let mut next =
            self.advance(state, Step { embeds, deepstack, positions, count: 1 }, cancel)?;
        next.next_position = state.next_position + 1;
        Ok(next)
    }

    fn embed(&self, tokens: &[u32], cancel: &Cancel) -> Result<Array3<f32>, ReasonError> {
        let ids = tokens.iter().map(|&token| i64::from(token)).collect();
        let ids = ArrayD::from_shape_vec(vec![1, tokens.len()], ids).expect("one row of tokens");
        let inputs = Inputs::new().with("input_ids", Tensor::I64(ids));
        let mut outputs = self.embed.run(inputs, cancel)?;
        let shape = [1, tokens.len(), self.hidden_size];
        let embeds = array(&mut outputs, "inputs_embeds", &shape)?;
        Ok(embeds.into_dimensionality().expect("the shape was just checked"))
    }

    /// Runs the decoder; what it remembers stays with ONNX Runtime.
    fn advance(&self, state: &State, step: Step, cancel: &Cancel) -> Result<State, ReasonError> {
        let total = state.length + step.count;
        let mut inputs = Inputs::new()
            .with("inputs_embeds", Tensor::F32(step.embeds.into_dyn()))
            .with("attention_mask", Tensor::I64(ArrayD::ones(vec![1, total])))
            .with("position_ids", Tensor::I64(step.positions))
            .with("deepstack_embeds", Tensor::F32(step.deepstack.into_dyn()));
        for (name, tensor) in &state.past {
            inputs.push(format!("past_key_values.{name}"), tensor.clone());
        }
        let mut outputs = self.decoder.run_keeping(inputs, &[PRESENT], cancel)?;
        let logits = outputs.take_f32("logits")?;
        let last = logits.index_axis(Axis(0), 0);
        let last = last.index_axis(Axis(0), last.len_of(Axis(0)) - 1).iter().copied().collect();
        let past = outputs.take_all(PRESENT);
        Ok(State { logits: last, past, length: total, next_position: state.next_position })
    }
}

/// Inputs of one run of the decoder.
struct Step {
    embeds: Array3<f32>,
    deepstack: Array4<f32>,
    positions: ArrayD<i64>,
    count: usize,
}

fn array(outputs: &mut Outputs, name: &str, shape: &[usize]) -> Result<ArrayD<f32>, RuntimeError> {
    let array = outputs.take_f32(name)?;
    if array.shape() == shape {
        return Ok(array);
    }
    Err(RuntimeError::Run {
        graph: outputs.graph().to_owned(),
        reason: format!("output {name} has shape {:?}, not {shape:?}", array.shape()),
    })
}
