//! Requests of a suite run with the loaded models.

use std::collections::BTreeMap;

use super::EvolveError;
use super::executor::{Ask, Executor, Rollout, Scene, Visit};
use crate::eval::runner::CaseRun;
use crate::eval::{
    Case, Configuration, EvalError, Execution, Expect, Models, PackedMask, Request, Runner, Suite,
    scores,
};
use crate::reason::{DecodingOverrides, OfferedSkill, ReasonRequest};
use crate::threads::{Cancel, Progress};

/// Has the models that rounds are run with; implemented by what orders run on.
pub trait ModelHolder: Send + Sync {
    /// The models.
    fn models(&self) -> Models<'_>;

    /// Role to `bundle version sha256`, for audits and reports.
    fn names(&self) -> BTreeMap<String, String>;
}

/// Runs the requests of one suite.
///
/// Dice is remembered by case, prompts and labels, so that equal answers cost one segmentation for
/// as long as the executor lives; masks are made together for all that a visit may need.
pub struct ModelExecutor<'a> {
    suite: &'a Suite,
    models: Models<'a>,
    cancel: Cancel,
    dice: BTreeMap<(String, Vec<String>, Vec<u32>), f64>,
    /// The case that was opened last.
    last: Option<Case>,
}

impl<'a> ModelExecutor<'a> {
    /// Stops when `cancel` says so.
    pub fn new(suite: &'a Suite, models: Models<'a>, cancel: Cancel) -> Self {
        Self { suite, models, cancel, dice: BTreeMap::new(), last: None }
    }
}

impl Executor for ModelExecutor<'_> {
    fn visit(
        &mut self,
        case: &str,
        requests: &[&Request],
        work: &mut dyn FnMut(&mut dyn Visit) -> Result<(), EvolveError>,
    ) -> Result<(), EvolveError> {
        let case = match self.last.take() {
            Some(last) if last.name == case => last,
            _ => self.suite.case(case)?,
        };
        let runner = Runner::new(self.models).with_cancel(self.cancel.clone());
        let worked = (|| {
            let run = runner.open(&case)?;
            let mut open = OpenCase {
                case: &case,
                run,
                models: self.models,
                dice: &mut self.dice,
                references: BTreeMap::new(),
            };
            open.segment_together(requests)?;
            work(&mut open)
        })();
        self.last = Some(case);
        worked
    }

    fn write(&mut self, instruction: &str) -> Result<Option<String>, EvolveError> {
        let decoding = DecodingOverrides {
            constrained: Some(false),
            temperature: Some(0.0),
            ..DecodingOverrides::default()
        };
        let request = ReasonRequest::new(&[], instruction).with_decoding(decoding);
        let trace = self.models.reasoner.reason(request, &self.cancel, &Progress::silent());
        Ok(Some(trace.map_err(EvalError::from)?.raw))
    }
}

struct OpenCase<'r> {
    case: &'r Case,
    run: CaseRun<'r>,
    models: Models<'r>,
    dice: &'r mut BTreeMap<(String, Vec<String>, Vec<u32>), f64>,
    references: BTreeMap<Vec<u32>, PackedMask>,
}

impl OpenCase<'_> {
    /// Makes the masks of the requests' targets and direct prompts in one call, as far as their
    /// Dice is not known: the image is encoded once for all of them.
    fn segment_together(&mut self, requests: &[&Request]) -> Result<(), EvolveError> {
        let mut wanted = Vec::new();
        for request in requests {
            let concept = |name: &str| {
                self.models.vocabulary.concepts.iter().find(|concept| concept.name == name)
            };
            let prompts: Vec<String> =
                request.targets().filter_map(concept).map(|c| c.prompt.clone()).collect();
            for prompts in [prompts, vec![request.text.clone()]] {
                if !prompts.is_empty() && !self.dice.contains_key(&self.key(&prompts, request)) {
                    wanted.push(bare(prompts));
                }
            }
        }
        self.run.segment(&mut wanted, &Progress::silent())?;
        Ok(())
    }

    fn key(&self, prompts: &[String], request: &Request) -> (String, Vec<String>, Vec<u32>) {
        let mut prompts = prompts.to_vec();
        prompts.sort();
        let mut labels = request.labels.clone();
        labels.sort_unstable();
        (self.case.name.clone(), prompts, labels)
    }

    /// Dice of what was asked of the backbone with the request's reference. A request to refuse is
    /// met by a refusal alone.
    fn score(&mut self, execution: &Execution, request: &Request) -> Result<f64, EvolveError> {
        if request.expect == Expect::Reject {
            return Ok(f64::from(u8::from(execution.is_refused())));
        }
        if execution.is_refused() {
            return Ok(0.0);
        }
        let key = self.key(&execution.prompts, request);
        if let Some(known) = self.dice.get(&key) {
            return Ok(*known);
        }
        if !self.references.contains_key(&request.labels) {
            let reference = self.case.packed_reference(&request.labels)?;
            self.references.insert(request.labels.clone(), reference);
        }
        let mask = self.run.mask(execution)?;
        let dice = scores::dice(&mask, &self.references[&request.labels])?;
        self.dice.insert(key, dice);
        Ok(dice)
    }
}

impl Visit for OpenCase<'_> {
    fn scene(&self) -> Scene {
        Scene {
            modality: self.case.volume.modality.code().to_owned(),
            body_part: self.case.facts.body_regions.join(" "),
        }
    }

    fn execute(&mut self, ask: &Ask<'_>) -> Result<Vec<Rollout>, EvolveError> {
        let (count, decoding) = match ask.sampling {
            Some(sampling) => {
                let decoding = DecodingOverrides {
                    temperature: Some(sampling.temperature),
                    seed: Some(sampling.seed),
                    ..DecodingOverrides::default()
                };
                (sampling.count, decoding)
            }
            None => {
                let greedy = Some(0.0);
                (1, DecodingOverrides { temperature: greedy, ..DecodingOverrides::default() })
            }
        };
        let text = &ask.request.text;
        let mut executions = self.run.samples(text, ask.skills, decoding, count)?;
        if ask.request.expect == Expect::Segment {
            let known = |execution: &Execution| {
                self.dice.contains_key(&self.key(&execution.prompts, ask.request))
            };
            let mut unknown: Vec<Execution> =
                executions.iter().filter(|execution| !known(execution)).cloned().collect();
            self.run.segment(&mut unknown, &Progress::silent())?;
        }
        let mut rollouts = Vec::new();
        for execution in executions.drain(..) {
            let dice = self.score(&execution, ask.request)?;
            let rationale = execution.rationale().unwrap_or_default();
            rollouts.push(Rollout {
                named: named(rationale, ask.skills),
                format_ok: execution.trace.as_ref().is_some_and(|trace| trace.format_ok),
                refusal: execution.refusal.map(|refusal| refusal.reason.code().to_owned()),
                answer: execution.answer,
                targets: execution.resolved,
                dice,
            });
        }
        Ok(rollouts)
    }

    fn direct(&mut self, request: &Request) -> Result<f64, EvolveError> {
        let execution = self.run.reason(&request.text, Configuration::Backbone)?;
        self.score(&execution, request)
    }
}

/// An execution that only names prompts.
fn bare(prompts: Vec<String>) -> Execution {
    Execution {
        configuration: Configuration::Backbone,
        trace: None,
        skills: Vec::new(),
        answer: String::new(),
        resolved: Vec::new(),
        prompts,
        refusal: None,
        findings: Vec::new(),
        seconds: 0.0,
    }
}

/// The place of the skill that a rationale names: by id, or by its rank in the prompt as
/// `Skill 2` or `[2]`. The first named counts.
pub(super) fn named(rationale: &str, offered: &[OfferedSkill]) -> Option<usize> {
    if let Some(place) = offered.iter().position(|skill| rationale.contains(&skill.id)) {
        return Some(place);
    }
    let lower = rationale.to_lowercase();
    let spoken = lower.find("skill ").map(|at| at + "skill ".len());
    let bracketed = lower.find('[').map(|at| at + 1);
    [spoken, bracketed].into_iter().flatten().find_map(|at| {
        let digits: String = lower[at..].chars().take_while(char::is_ascii_digit).collect();
        let rank: usize = digits.parse().ok()?;
        (1..=offered.len()).contains(&rank).then(|| rank - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rationale_names_a_skill_by_rank_or_id() {
        let skill = |id: &str| OfferedSkill {
            id: id.to_owned(),
            tag: "T".to_owned(),
            content: "c".to_owned(),
            audit: "a".to_owned(),
        };
        let offered = [skill("seer:aaaa"), skill("seer:bbbb")];
        let check = |rationale: &str, expected: Option<usize>| {
            assert_eq!(named(rationale, &offered), expected, "{rationale}");
        };
        check("Skill 2: the order means the liver.", Some(1));
        check("by [1] the liver", Some(0));
        check("as seer:bbbb says", Some(1));
        check("Skill 3: no such", None);
        check("the order means the liver, view [9]", None);
        check("no skill of use", None);
    }
}
