//! The face of the room: one loaded reasoner that serves many orders.

use tracing::{debug, instrument};

use super::decode::{Plan, Written, decode};
use super::grammar::{Grammar, Targets};
use super::model::{Model, Prompt, Seen, State};
use super::picture::{Picture, patches};
use super::positions::{patch_positions, token_positions};
use super::prompt::Prompter;
use super::sample::Sampler;
use super::{Decoding, OfferedSkill, ReasonError, Trace, trace};
use crate::runtime::manifest::{DecodingSettings, ReasonerManifest};
use crate::runtime::memory::PROMPT_TOKENS_MAX;
use crate::runtime::{Bundle, Reservation, Runtime};
use crate::threads::{Cancel, Progress};
use crate::view::View;

/// How traces are decoded; what is not set is the bundle's own choice.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReasonerSettings {
    /// The grammar constrains decoding.
    pub constrained: Option<bool>,
    /// Targets are limited to the vocabulary's names.
    pub closed_vocabulary: Option<bool>,
    /// Most tokens of a trace.
    pub max_new_tokens: Option<usize>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Seed of the sampler.
    pub seed: u64,
}

/// What one order decodes differently.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DecodingOverrides {
    /// The grammar constrains decoding.
    pub constrained: Option<bool>,
    /// Targets are limited to the vocabulary's names.
    pub closed_vocabulary: Option<bool>,
    /// Most tokens of a trace.
    pub max_new_tokens: Option<usize>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus of the sampler.
    pub top_p: Option<f32>,
    /// Seed of the sampler.
    pub seed: Option<u64>,
}

/// What is reasoned about.
#[derive(Debug, Clone)]
pub struct ReasonRequest<'a> {
    views: &'a [View],
    text: &'a str,
    skills: &'a [OfferedSkill],
    decoding: DecodingOverrides,
}

impl<'a> ReasonRequest<'a> {
    /// Views of one volume and the order's text, without skills, decoded as configured.
    pub fn new(views: &'a [View], text: &'a str) -> Self {
        Self { views, text, skills: &[], decoding: DecodingOverrides::default() }
    }

    /// Offers skills, best first.
    #[must_use]
    pub fn with_skills(mut self, skills: &'a [OfferedSkill]) -> Self {
        self.skills = skills;
        self
    }

    /// Decodes differently from what is configured.
    #[must_use]
    pub fn with_decoding(mut self, decoding: DecodingOverrides) -> Self {
        self.decoding = decoding;
        self
    }
}

/// A loaded reasoner. One serves many orders; its graphs run one step at a time.
pub struct Reasoner {
    model: Model,
    prompter: Prompter,
    grammar: Grammar,
    manifest: ReasonerManifest,
    defaults: Defaults,
    _reservation: Reservation,
}

/// The bundle's decoding with the configuration over it.
struct Defaults {
    decoding: DecodingSettings,
    seed: u64,
}

impl Reasoner {
    /// Loads a bundle's reasoner.
    ///
    /// # Errors
    /// When the bundle has none, or a graph or file does not fit its manifest.
    #[instrument(skip_all, fields(bundle.name = %bundle.manifest().name))]
    pub fn load(
        bundle: &Bundle,
        runtime: &Runtime,
        settings: &ReasonerSettings,
    ) -> Result<Self, ReasonError> {
        let manifest = bundle.reasoner()?.clone();
        let prompter = Prompter::load(bundle, &manifest)?;
        // Absent terms too: a reasoner that means one must be able to say so, and is refused then;
        // held to what can be segmented it would write another structure's name.
        let vocabulary = bundle.vocabulary();
        let absent = vocabulary.absent.iter().map(|term| term.name.clone());
        let names = vocabulary.concepts.iter().map(|concept| concept.name.clone()).chain(absent);
        let grammar = Grammar::new(
            prompter.tokenizer(),
            prompter.end_ids(),
            manifest.vocabulary_size,
            names,
        )?;
        let reservation = runtime.reserve(bundle, "reasoner")?;
        let model = Model::load(bundle, &manifest, runtime)?;
        let mut decoding = manifest.decoding.clone();
        decoding.constrained = settings.constrained.unwrap_or(decoding.constrained);
        decoding.closed_vocabulary =
            settings.closed_vocabulary.unwrap_or(decoding.closed_vocabulary);
        decoding.max_new_tokens = settings.max_new_tokens.unwrap_or(decoding.max_new_tokens);
        decoding.temperature = settings.temperature.unwrap_or(decoding.temperature);
        let defaults = Defaults { decoding, seed: settings.seed };
        Ok(Self { model, prompter, grammar, manifest, defaults, _reservation: reservation })
    }

    /// Writes one trace. Progress is told in tokens written of the most that may be.
    ///
    /// # Errors
    /// When the text is empty, the prompt too long, a graph fails, or `cancel` says stop, which it
    /// is asked before every token.
    pub fn reason(
        &self,
        request: ReasonRequest<'_>,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Trace, ReasonError> {
        let mut traces = self.reason_samples(request, 1, cancel, progress)?;
        traces.pop().ok_or(ReasonError::Logits)
    }

    /// Writes several traces that share one reading of the prompt, with seeds that count up.
    ///
    /// # Errors
    /// As [`Reasoner::reason`].
    #[instrument(skip_all, fields(view.count = request.views.len(), skill.count = request.skills.len(), sample.count = count))]
    pub fn reason_samples(
        &self,
        request: ReasonRequest<'_>,
        count: usize,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Vec<Trace>, ReasonError> {
        if request.text.trim().is_empty() {
            return Err(ReasonError::EmptyText);
        }
        let (decoding, seed) = self.decoding(&request.decoding);
        let seen = self.see(request.views, cancel)?;
        let (tokens, state) = self.read(&request, &seen, cancel)?;
        let total = (count * decoding.max_new_tokens) as u64;
        let mut traces = Vec::with_capacity(count);
        for index in 0..count {
            let seed = seed.wrapping_add(index as u64);
            let done = (index * decoding.max_new_tokens) as u64;
            let outer = progress.clone();
            let inner = Progress::new(move |written, _| outer.report(done + written, total));
            let plan = self.plan(state.clone(), &decoding, seed)?;
            let written = decode(&self.model, plan, cancel, &inner)?;
            traces.push(self.trace(&written, &decoding, seed, tokens)?);
        }
        progress.report(total, total);
        Ok(traces)
    }

    fn decoding(&self, order: &DecodingOverrides) -> (DecodingSettings, u64) {
        let mut decoding = self.defaults.decoding.clone();
        decoding.constrained = order.constrained.unwrap_or(decoding.constrained);
        decoding.closed_vocabulary = order.closed_vocabulary.unwrap_or(decoding.closed_vocabulary);
        decoding.max_new_tokens = order.max_new_tokens.unwrap_or(decoding.max_new_tokens);
        decoding.temperature = order.temperature.unwrap_or(decoding.temperature);
        decoding.top_p = order.top_p.unwrap_or(decoding.top_p);
        (decoding, order.seed.unwrap_or(self.defaults.seed))
    }

    fn see(&self, views: &[View], cancel: &Cancel) -> Result<Vec<Seen>, ReasonError> {
        let merge = self.manifest.image.merge_size;
        let side = self.manifest.position_grid_side;
        views
            .iter()
            .map(|view| {
                let patches = patches(&Picture::of_view(view), &self.manifest.image)?;
                let positions = patch_positions(patches.grid, merge, side);
                self.model.see(&patches, &positions, merge, cancel)
            })
            .collect()
    }

    /// Reads the prompt; gives its length and the state after it.
    fn read(
        &self,
        request: &ReasonRequest<'_>,
        seen: &[Seen],
        cancel: &Cancel,
    ) -> Result<(usize, State), ReasonError> {
        let tokens_per_view: Vec<usize> = seen.iter().map(|s| s.grid.patch_count()).collect();
        let rendered = self.prompter.render(&tokens_per_view, request.text, request.skills)?;
        let tokens = self.prompter.encode(&rendered)?;
        if tokens.len() > PROMPT_TOKENS_MAX {
            let (found, limit) = (tokens.len(), PROMPT_TOKENS_MAX);
            return Err(ReasonError::PromptTooLong { found, limit });
        }
        let grids: Vec<_> = seen.iter().map(|s| s.grid).collect();
        let image_id = self.prompter.image_id();
        let positions = token_positions(&tokens, image_id, &grids)?;
        let prompt = Prompt { tokens: &tokens, image_id, positions, seen };
        let state = self.model.read(prompt, cancel)?;
        debug!(token.count = tokens.len(), "Read a prompt of {} tokens", tokens.len());
        Ok((tokens.len(), state))
    }

    fn plan(
        &self,
        state: State,
        decoding: &DecodingSettings,
        seed: u64,
    ) -> Result<Plan<'_>, ReasonError> {
        let targets = if decoding.closed_vocabulary { Targets::Closed } else { Targets::Open };
        let constraint = if decoding.constrained {
            Some(self.grammar.start(targets, decoding.max_new_tokens)?)
        } else {
            None
        };
        Ok(Plan {
            state,
            max_new_tokens: decoding.max_new_tokens,
            end_ids: self.prompter.end_ids(),
            sampler: Sampler::new(decoding.temperature, decoding.top_p, seed),
            constraint,
        })
    }

    /// Probability below which a target that a trace names is doubtful, as the bundle has it.
    pub fn doubt_below(&self) -> Option<f64> {
        self.manifest.decoding.doubt_below
    }

    /// Whether a target that neither the order nor a skill names is to be refused, as the bundle has
    /// it.
    pub fn refuses_unnamed(&self) -> bool {
        self.manifest.decoding.refuse_unnamed
    }

    /// Where the text of each token ends, in bytes of the whole text.
    fn token_ends(&self, tokens: &[u32], length: usize) -> Result<Vec<usize>, ReasonError> {
        let mut end = 0;
        let ends = (1..=tokens.len()).map(|count| {
            // A character of several tokens is shown by stand-ins until it is whole.
            let text = self.prompter.decode(&tokens[..count])?;
            end = text.len().clamp(end, length);
            Ok(end)
        });
        ends.collect()
    }

    fn trace(
        &self,
        written: &Written,
        decoding: &DecodingSettings,
        seed: u64,
        prompt_token_count: usize,
    ) -> Result<Trace, ReasonError> {
        let raw = self.prompter.decode(&written.tokens)?;
        let parts = trace::parse(&raw);
        let raw_length = raw.len();
        Ok(Trace {
            raw,
            evidence: parts.evidence,
            rationale: parts.rationale,
            answer: parts.answer,
            format_ok: parts.format_ok,
            decoding: Decoding {
                seed,
                temperature: decoding.temperature,
                prompt_token_count,
                token_count: written.tokens.len(),
                mean_log_probability: written.mean_log_probability(),
                log_probabilities: written.log_probabilities.clone(),
                token_ends: self.token_ends(&written.tokens, raw_length)?,
                finish_reason: written.finish.name().to_owned(),
                constrained: decoding.constrained,
            },
        })
    }
}
