//! The Qwen3-VL host against transformers: processor, `generate`, on a bundle of our own exporter.

use std::path::Path;
use std::sync::OnceLock;

use ndarray::Array2;
use seer::reason::OfferedSkill;
use seer::reason::model::{Model, Prompt, Seen, State};
use seer::reason::picture::{Grid, Patches, Picture, patches};
use seer::reason::positions::{PatchPositions, patch_positions, token_positions};
use seer::reason::prompt::Prompter;
use seer::reason::sample::Sampler;
use seer::runtime::Bundle;
use seer::runtime::manifest::{ImageArithmetic, ReasonerManifest};
use seer::threads::Cancel;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::runtime::runtime;

/// Logits may differ from PyTorch's by this much, where they spread over about 20.
const LOGIT_TOLERANCE: f32 = 1e-4;

/// Tokens that the reference writes after a prompt: one, and 64 on the cache.
const WRITTEN: usize = 65;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    preprocessing: Vec<Preprocessing>,
}

/// What `Qwen3VLProcessor` and `generate` make of one prompt.
#[derive(Deserialize)]
struct Case {
    text: String,
    pictures: Vec<[usize; 2]>,
    skills: Vec<Skill>,
    rendered: String,
    ids: Vec<u32>,
    #[serde(default)]
    grids: Vec<[usize; 3]>,
    positions_sha256: String,
    next_position: i64,
    pixels_sha256: Option<String>,
    patch_positions_sha256: Option<String>,
    taps_sha256: Option<String>,
    tap_weights_sha256: Option<String>,
    tokens: Vec<u32>,
    /// Logits after the prompt and after 64 cached steps.
    #[serde(skip)]
    logits: [Vec<f32>; 2],
}

#[derive(Deserialize)]
struct Skill {
    tag: String,
    content: String,
    audit: String,
}

/// Hashes of the pixel values of one picture, by both of transformers' processors.
#[derive(Deserialize)]
struct Preprocessing {
    rows: usize,
    columns: usize,
    number: usize,
    grid: [usize; 3],
    torchvision: String,
    pillow: String,
}

fn folder() -> &'static Path {
    Path::new("tests/data/parity/qwen3-vl")
}

fn fixture() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| {
        let text = std::fs::read_to_string(folder().join("cases.json")).unwrap();
        let mut fixture: Fixture = serde_json::from_str(&text).unwrap();
        let bytes = std::fs::read(folder().join("logits.bin")).unwrap();
        let floats: Vec<f32> =
            bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
        let width = loaded().manifest.vocabulary_size;
        assert_eq!(floats.len(), fixture.cases.len() * 2 * width);
        for (case, pair) in fixture.cases.iter_mut().zip(floats.chunks_exact(2 * width)) {
            case.logits = [pair[..width].to_vec(), pair[width..].to_vec()];
        }
        assert!(fixture.cases.len() >= 40, "{} cases", fixture.cases.len());
        fixture
    })
}

/// The toy model with its prompter.
struct Loaded {
    manifest: ReasonerManifest,
    prompter: Prompter,
    model: Model,
}

fn loaded() -> &'static Loaded {
    static LOADED: OnceLock<Loaded> = OnceLock::new();
    LOADED.get_or_init(|| {
        let bundle = Bundle::open(folder()).unwrap();
        let manifest = bundle.reasoner().unwrap().clone();
        let prompter = Prompter::load(&bundle, &manifest).unwrap();
        let model = Model::load(&bundle, &manifest, &runtime()).unwrap();
        Loaded { manifest, prompter, model }
    })
}

/// The picture of the fixture's formula.
fn picture(rows: usize, columns: usize, number: usize) -> Picture {
    let value = |r: usize, c: usize, channel: usize| {
        ((r * 7 + c * 13 + channel * 29 + number * 53 + (r * c) % 17 * 5) % 256) as u8
    };
    let pixels = (0..rows * columns)
        .map(|at| std::array::from_fn(|channel| value(at / columns, at % columns, channel)))
        .collect();
    Picture { rows, columns, pixels }
}

fn sha256<const N: usize>(values: impl IntoIterator<Item = [u8; N]>) -> String {
    let mut hasher = Sha256::new();
    values.into_iter().for_each(|bytes| hasher.update(bytes));
    hex::encode(hasher.finalize())
}

fn sha256_of_floats<'a>(arrays: impl IntoIterator<Item = &'a Array2<f32>>) -> String {
    sha256(arrays.into_iter().flatten().map(|value| value.to_le_bytes()))
}

fn sha256_of_integers<'a>(arrays: impl IntoIterator<Item = &'a Array2<i64>>) -> String {
    sha256(arrays.into_iter().flatten().map(|value| value.to_le_bytes()))
}

impl Case {
    fn name(&self) -> String {
        format!("{:?} with pictures {:?}", self.text, self.pictures)
    }

    fn patches(&self) -> Vec<Patches> {
        let pictures = self.pictures.iter().enumerate();
        let pictures = pictures.map(|(number, &[rows, columns])| picture(rows, columns, number));
        pictures.map(|p| patches(&p, &loaded().manifest.image).unwrap()).collect()
    }

    fn skills(&self) -> Vec<OfferedSkill> {
        let skill = |s: &Skill| OfferedSkill {
            id: "seer:0".to_owned(),
            tag: s.tag.clone(),
            content: s.content.clone(),
            audit: s.audit.clone(),
        };
        self.skills.iter().map(skill).collect()
    }

    fn see(&self) -> Vec<Seen> {
        let Loaded { manifest, model, .. } = loaded();
        let merge = manifest.image.merge_size;
        let see = |patches: &Patches| {
            let positions = positions_of(patches);
            model.see(patches, &positions, merge, &Cancel::new()).unwrap()
        };
        self.patches().iter().map(see).collect()
    }

    fn read(&self, seen: &[Seen]) -> State {
        let image_id = loaded().prompter.image_id();
        let grids: Vec<Grid> = seen.iter().map(|s| s.grid).collect();
        let positions = token_positions(&self.ids, image_id, &grids).unwrap();
        let prompt = Prompt { tokens: &self.ids, image_id, positions, seen };
        loaded().model.read(prompt, &Cancel::new()).unwrap()
    }
}

fn positions_of(patches: &Patches) -> PatchPositions {
    let manifest = &loaded().manifest;
    patch_positions(patches.grid, manifest.image.merge_size, manifest.position_grid_side)
}

/// Writes [`WRITTEN`] tokens; gives them and the logits that the last was chosen from.
fn write(mut state: State, sampler: &mut Sampler) -> (Vec<u32>, Vec<f32>) {
    let mut tokens = Vec::new();
    loop {
        let all = 0..state.logits.len() as u32;
        tokens.push(sampler.pick(&state.logits, all).unwrap());
        if tokens.len() == WRITTEN {
            return (tokens, state.logits);
        }
        let last = *tokens.last().unwrap();
        state = loaded().model.write(last, &state, &Cancel::new()).unwrap();
    }
}

fn greedy(state: State) -> (Vec<u32>, Vec<f32>) {
    write(state, &mut Sampler::new(0.0, 1.0, 0))
}

fn gap(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn prompts_are_rendered_and_encoded_as_the_processor_does() {
    for case in &fixture().cases {
        let prompter = &loaded().prompter;
        let one_each = vec![1; case.pictures.len()];
        let rendered = prompter.render(&one_each, &case.text, &case.skills()).unwrap();
        assert_eq!(rendered, case.rendered, "{}", case.name());
        let counts: Vec<usize> =
            case.grids.iter().map(|[_, rows, columns]| rows * columns / 4).collect();
        let rendered = prompter.render(&counts, &case.text, &case.skills()).unwrap();
        assert_eq!(prompter.encode(&rendered).unwrap(), case.ids, "{}", case.name());
    }
}

#[test]
fn pictures_are_resized_scaled_and_cut_bit_for_bit_as_both_processors_do() {
    let settings = |arithmetic| {
        let mut settings = loaded().manifest.image.clone();
        settings.arithmetic = arithmetic;
        settings
    };
    let torchvision = settings(ImageArithmetic::Torchvision);
    assert_eq!(loaded().manifest.image, torchvision, "the exporter reads the processor's name");
    let pillow = settings(ImageArithmetic::Pillow);
    let mut resized = 0;
    for row in &fixture().preprocessing {
        let picture = picture(row.rows, row.columns, row.number);
        let name = format!("{} x {}", row.rows, row.columns);
        for (settings, expected) in [(&torchvision, &row.torchvision), (&pillow, &row.pillow)] {
            let found = patches(&picture, settings).unwrap();
            assert_eq!([1, found.grid.rows, found.grid.columns], row.grid, "{name}");
            let arithmetic = settings.arithmetic;
            assert_eq!(&sha256_of_floats([&found.values]), expected, "{name}, {arithmetic:?}");
        }
        resized += usize::from([row.grid[1] * 16, row.grid[2] * 16] != [row.rows, row.columns]);
        assert_ne!(row.torchvision, row.pillow, "{name}: the two libraries differ in the last bit");
    }
    assert!(resized >= 12, "{resized} pictures were resized");
}

#[test]
fn pixels_positions_and_taps_of_every_prompt_are_bit_for_bit_those_of_transformers() {
    for case in &fixture().cases {
        let name = case.name();
        let patches = case.patches();
        let image_id = loaded().prompter.image_id();
        let grids: Vec<Grid> = patches.iter().map(|p| p.grid.merged(2)).collect();
        let tokens = token_positions(&case.ids, image_id, &grids).unwrap();
        assert_eq!(sha256_of_integers([&tokens.ids]), case.positions_sha256, "{name}");
        assert_eq!(tokens.next, case.next_position, "{name}");
        let Some(pixels) = &case.pixels_sha256 else {
            assert!(case.pictures.is_empty());
            continue;
        };
        assert_eq!(&sha256_of_floats(patches.iter().map(|p| &p.values)), pixels, "{name}");
        let positions: Vec<PatchPositions> = patches.iter().map(positions_of).collect();
        let found = sha256_of_integers(positions.iter().map(|p| &p.ids));
        assert_eq!(Some(found), case.patch_positions_sha256, "{name}");
        let found = sha256_of_integers(positions.iter().map(|p| &p.indices));
        assert_eq!(Some(found), case.taps_sha256, "{name}");
        let found = sha256_of_floats(positions.iter().map(|p| &p.weights));
        assert_eq!(Some(found), case.tap_weights_sha256, "{name}");
    }
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers_from_the_prompt_to_the_64th_cached_step() {
    let mut continuations = std::collections::BTreeSet::new();
    for case in &fixture().cases {
        let state = case.read(&case.see());
        let apart = gap(&state.logits, &case.logits[0]);
        assert!(apart < LOGIT_TOLERANCE, "{}: first logits differ by {apart}", case.name());
        let (tokens, logits) = greedy(state);
        assert_eq!(tokens, case.tokens, "{}", case.name());
        let apart = gap(&logits, &case.logits[1]);
        assert!(apart < LOGIT_TOLERANCE, "{}: last logits differ by {apart}", case.name());
        continuations.insert(tokens);
    }
    assert!(continuations.len() >= 40, "only {} continuations differ", continuations.len());
}

/// Each mistake must move the first logits by far more than the tolerance, else the comparisons above
/// prove nothing.
#[test]
fn the_comparisons_would_notice_every_classic_mistake() {
    let far = 50.0 * LOGIT_TOLERANCE;
    let several = fixture().cases.iter().filter(|case| case.pictures.len() > 1);
    let mut changed_tokens = 0;
    for case in several.take(8) {
        let seen = case.see();
        let right = |state: &State| gap(&state.logits, &case.logits[0]);
        for level in 0..loaded().manifest.deepstack_levels {
            let mut without = seen.clone();
            without
                .iter_mut()
                .for_each(|s| s.deepstack.index_axis_mut(ndarray::Axis(0), level).fill(0.0));
            let state = case.read(&without);
            assert!(right(&state) > far, "{}: DeepStack level {level} left out", case.name());
            changed_tokens += usize::from(greedy(state).0 != case.tokens);
        }
        let mut turned = seen.clone();
        turned.iter_mut().for_each(|s| s.embeds.invert_axis(ndarray::Axis(0)));
        assert!(right(&case.read(&turned)) > far, "{}: patches in another order", case.name());

        let image_id = loaded().prompter.image_id();
        let grids: Vec<Grid> = seen.iter().map(|s| s.grid).collect();
        let mut positions = token_positions(&case.ids, image_id, &grids).unwrap();
        for mut axis in positions.ids.rows_mut() {
            axis.iter_mut().enumerate().for_each(|(at, position)| *position = at as i64);
        }
        let prompt = Prompt { tokens: &case.ids, image_id, positions, seen: &seen };
        let state = loaded().model.read(prompt, &Cancel::new()).unwrap();
        assert!(right(&state) > far, "{}: plain positions", case.name());
    }
    assert!(changed_tokens >= 12, "a DeepStack level left out changed only {changed_tokens} texts");
}

#[test]
fn sampling_repeats_with_its_seed_and_only_with_it() {
    let case = fixture().cases.iter().find(|case| case.pictures.len() == 2).unwrap();
    let state = case.read(&case.see());
    let sampled = |seed| write(state.clone(), &mut Sampler::new(1.2, 0.95, seed)).0;
    let (first, other) = (sampled(11), sampled(12));
    assert_eq!(first, sampled(11));
    assert_ne!(first, other);
    // Read anew: the prompt's own arithmetic repeats as well.
    let again = write(case.read(&case.see()), &mut Sampler::new(1.2, 0.95, 11)).0;
    assert_eq!(first, again);
}
