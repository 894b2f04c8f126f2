//! One request on one case, in one of the paper's configurations, with the real models.
//!
//! Steps are those of a live order: views, reasoner, answer, backbone. `orders` composes the same
//! rooms with a queue and a record; this room composes them for figures, so that many wordings of
//! one case share its views and its masks.

mod masks;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Case, EvalError, PackedMask};
use crate::answer::{self, Answer, Reading, Refusal, RefusalReason, UnknownTargets};
use crate::error::Finding;
use crate::reason::{DecodingOverrides, OfferedSkill, ReasonRequest, Reasoner, Trace};
use crate::runtime::vocabulary::Vocabulary;
use crate::segment::Backbone;
use crate::series::Modality;
use crate::threads::{Cancel, Progress};
use crate::view::{self, View, ViewPlan};
use crate::volume::Volume;

use masks::Masks;

/// The loaded models and what answers are read with.
#[derive(Clone, Copy)]
pub struct Models<'a> {
    /// The reasoner.
    pub reasoner: &'a Reasoner,
    /// The views it was trained on.
    pub view_plan: &'a ViewPlan,
    /// The backbone.
    pub backbone: &'a Backbone,
    /// The concepts of the backbone's bundle.
    pub vocabulary: &'a Vocabulary,
    /// Whether unknown phrases reach the backbone.
    pub unknown_targets: UnknownTargets,
}

/// What a bank sees when skills are asked for: what a live order has, and nothing of a reference.
#[derive(Debug, Clone, Copy)]
pub struct SkillContext<'a> {
    /// The words of the request.
    pub text: &'a str,
    /// Modality of the scan.
    pub modality: &'a Modality,
    /// Its views.
    pub views: &'a [View],
}

/// Gives the skills for a request, best first. An error is one sentence.
pub type SkillSource<'a> = dyn Fn(SkillContext<'_>) -> Result<Vec<OfferedSkill>, String> + 'a;

/// The configurations of the paper's ablation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Configuration {
    /// The raw words go to the backbone as its prompt.
    Backbone,
    /// The reasoner reads the words without seeing the scan.
    ReasonerTextOnly,
    /// The reasoner sees the views.
    SeerGrounded,
    /// It sees the views and is offered skills.
    Seer,
}

impl Configuration {
    /// In the order of the ablation.
    pub const ALL: [Self; 4] =
        [Self::Backbone, Self::ReasonerTextOnly, Self::SeerGrounded, Self::Seer];

    /// As reports and the command line write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Backbone => "backbone",
            Self::ReasonerTextOnly => "reasoner_text_only",
            Self::SeerGrounded => "seer_grounded",
            Self::Seer => "seer",
        }
    }
}

/// What came of one request.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The configuration it ran in.
    pub configuration: Configuration,
    /// What the reasoner wrote; absent when the backbone got the words themselves.
    pub trace: Option<Trace>,
    /// The skills it was offered, best first.
    pub skills: Vec<OfferedSkill>,
    /// The answer in the grammar's own words, or the prompt that the backbone got.
    pub answer: String,
    /// Canonical names of the targets; empty when refused or when the backbone got the words.
    pub resolved: Vec<String>,
    /// What the backbone is asked, one prompt a target.
    pub prompts: Vec<String>,
    /// Why nothing was segmented.
    pub refusal: Option<Refusal>,
    /// What a reader of the result should know.
    pub findings: Vec<Finding>,
    /// Seconds of the reasoner, and of the backbone for these prompts. Prompts that are asked
    /// together share the time of the patches; views are not in it.
    pub seconds: f64,
}

impl Execution {
    /// The `<rationale>` of the trace.
    pub fn rationale(&self) -> Option<&str> {
        self.trace.as_ref()?.rationale.as_deref()
    }

    /// Whether nothing was segmented on purpose.
    pub fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }
}

/// Runs requests with loaded models.
pub struct Runner<'a> {
    models: Models<'a>,
    skills: Option<&'a SkillSource<'a>>,
    decoding: DecodingOverrides,
    cancel: Cancel,
}

impl<'a> Runner<'a> {
    /// Without skills, decoding as the models are configured.
    pub fn new(models: Models<'a>) -> Self {
        let decoding = DecodingOverrides::default();
        Self { models, skills: None, decoding, cancel: Cancel::new() }
    }

    /// Offers skills in the configuration [`Configuration::Seer`].
    #[must_use]
    pub fn with_skills(mut self, skills: &'a SkillSource<'a>) -> Self {
        self.skills = Some(skills);
        self
    }

    /// Decodes differently from what is configured.
    #[must_use]
    pub fn with_decoding(mut self, decoding: DecodingOverrides) -> Self {
        self.decoding = decoding;
        self
    }

    /// Stops when this flag says so.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// The models.
    pub fn models(&self) -> Models<'a> {
        self.models
    }

    /// Renders the views of a case; requests about it are then run on the result.
    ///
    /// # Errors
    /// When the view plan does not fit the volume.
    pub fn open<'r>(&'r self, case: &'r Case) -> Result<CaseRun<'r>, EvalError> {
        self.open_volume(&case.volume)
    }

    /// The same for a volume that belongs to no suite.
    ///
    /// # Errors
    /// As [`Runner::open`].
    pub fn open_volume<'r>(&'r self, volume: &'r Volume) -> Result<CaseRun<'r>, EvalError> {
        let started = Instant::now();
        let views = view::render(volume, self.models.view_plan)?;
        let masks = Masks::new(volume);
        Ok(CaseRun { runner: self, volume, views, masks, rendering: started.elapsed() })
    }
}

/// A case with its views, on which requests are run; masks are remembered by prompt.
pub struct CaseRun<'r> {
    runner: &'r Runner<'r>,
    volume: &'r Volume,
    views: Vec<View>,
    masks: Masks<'r>,
    rendering: Duration,
}

impl CaseRun<'_> {
    /// What the reasoner sees.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// How long rendering them took.
    pub fn rendering(&self) -> Duration {
        self.rendering
    }

    /// Reads a request in one configuration and says what is to be segmented; no mask yet.
    ///
    /// An answer outside of the grammar is a refusal without a known reason, as a live order
    /// would have failed: nothing is segmented.
    ///
    /// # Errors
    /// When the reasoner or the source of skills fails, or when stopped.
    pub fn reason(&self, text: &str, configuration: Configuration) -> Result<Execution, EvalError> {
        let started = Instant::now();
        let views: &[View] = match configuration {
            Configuration::Backbone => return Ok(straight_to_the_backbone(text)),
            Configuration::ReasonerTextOnly => &[],
            Configuration::SeerGrounded | Configuration::Seer => &self.views,
        };
        let skills = match configuration {
            Configuration::Seer => self.skills_for(text)?,
            _ => Vec::new(),
        };
        let request = ReasonRequest::new(views, text)
            .with_skills(&skills)
            .with_decoding(self.runner.decoding);
        let reasoner = self.runner.models.reasoner;
        let trace = reasoner.reason(request, &self.runner.cancel, &Progress::silent())?;
        let refuses = reasoner.refuses_unnamed();
        let mut execution = self.understand(trace, text, skills, configuration, refuses);
        execution.seconds = started.elapsed().as_secs_f64();
        Ok(execution)
    }

    /// Several rollouts of one request that share one reading of the prompt; the seeds count up
    /// from the one of `decoding`. The skills are the caller's.
    ///
    /// # Errors
    /// As [`CaseRun::reason`].
    pub fn samples(
        &self,
        text: &str,
        skills: &[OfferedSkill],
        decoding: DecodingOverrides,
        count: usize,
    ) -> Result<Vec<Execution>, EvalError> {
        let started = Instant::now();
        let request =
            ReasonRequest::new(&self.views, text).with_skills(skills).with_decoding(decoding);
        let (cancel, silent) = (&self.runner.cancel, Progress::silent());
        let traces = self.runner.models.reasoner.reason_samples(request, count, cancel, &silent)?;
        let seconds = started.elapsed().as_secs_f64() / count.max(1) as f64;
        let configuration =
            if skills.is_empty() { Configuration::SeerGrounded } else { Configuration::Seer };
        let read = |trace| {
            let skills = skills.to_vec();
            // Practice goes by the reward: a lucky guess is what the loop learns from.
            Execution { seconds, ..self.understand(trace, text, skills, configuration, false) }
        };
        Ok(traces.into_iter().map(read).collect())
    }

    /// What a trace asks for, as a live order reads it.
    pub fn understand(
        &self,
        trace: Trace,
        text: &str,
        skills: Vec<OfferedSkill>,
        configuration: Configuration,
        refuse_unnamed: bool,
    ) -> Execution {
        let reading = Reading {
            answer: trace.answer.as_deref(),
            order: text,
            vocabulary: self.runner.models.vocabulary,
            unknown_targets: self.runner.models.unknown_targets,
            skills: &skills,
            refuse_unnamed,
        };
        let (answer, findings) = answer::parse(&reading).unwrap_or_else(|error| {
            let refusal = Refusal { reason: RefusalReason::Unspecified, text: error.to_string() };
            let finding = Finding::new("answer_unreadable", error.to_string());
            (Answer::Refuse(refusal), vec![finding])
        });
        let mut execution = Execution {
            configuration,
            answer: answer.canonical_text(),
            trace: Some(trace),
            skills,
            resolved: Vec::new(),
            prompts: Vec::new(),
            refusal: None,
            findings,
            seconds: 0.0,
        };
        match answer {
            Answer::Segment(targets) => {
                execution.resolved =
                    targets.iter().map(|target| target.name().to_owned()).collect();
                execution.prompts = targets.into_iter().map(|target| target.prompt).collect();
            }
            Answer::Refuse(refusal) => execution.refusal = Some(refusal),
        }
        execution
    }

    /// Segments the prompts of executions that have no mask yet, all in one call, and adds to each
    /// the time of its prompts.
    ///
    /// # Errors
    /// When the backbone fails or is stopped.
    pub fn segment(
        &mut self,
        executions: &mut [Execution],
        progress: &Progress,
    ) -> Result<(), EvalError> {
        let wanted: Vec<String> =
            executions.iter().flat_map(|execution| execution.prompts.clone()).collect();
        let seconds_each =
            self.masks.make(&wanted, &self.runner.models, &self.runner.cancel, progress)?;
        for execution in executions {
            for prompt in &execution.prompts {
                execution.seconds += seconds_each.get(prompt).copied().unwrap_or(0.0);
            }
        }
        Ok(())
    }

    /// The union of an execution's masks; segments what is still missing. Empty when refused.
    ///
    /// # Errors
    /// As [`CaseRun::segment`].
    pub fn mask(&mut self, execution: &Execution) -> Result<PackedMask, EvalError> {
        let (models, cancel) = (&self.runner.models, &self.runner.cancel);
        self.masks.make(&execution.prompts, models, cancel, &Progress::silent())?;
        self.masks.union(&execution.prompts)
    }

    /// Reads and segments one request.
    ///
    /// # Errors
    /// As [`CaseRun::reason`] and [`CaseRun::segment`].
    pub fn run(
        &mut self,
        text: &str,
        configuration: Configuration,
    ) -> Result<(Execution, PackedMask), EvalError> {
        let mut executions = [self.reason(text, configuration)?];
        self.segment(&mut executions, &Progress::silent())?;
        let [execution] = executions;
        let mask = self.mask(&execution)?;
        Ok((execution, mask))
    }

    /// The grid of the masks.
    pub fn volume(&self) -> &Volume {
        self.volume
    }

    fn skills_for(&self, text: &str) -> Result<Vec<OfferedSkill>, EvalError> {
        let Some(source) = self.runner.skills else { return Ok(Vec::new()) };
        let context = SkillContext { text, modality: &self.volume.modality, views: &self.views };
        source(context).map_err(|reason| EvalError::Skills { reason })
    }
}

fn straight_to_the_backbone(text: &str) -> Execution {
    Execution {
        configuration: Configuration::Backbone,
        trace: None,
        skills: Vec::new(),
        answer: text.to_owned(),
        resolved: Vec::new(),
        prompts: vec![text.to_owned()],
        refusal: None,
        findings: Vec::new(),
        seconds: 0.0,
    }
}
