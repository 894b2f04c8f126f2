//! Rows into the paper's tables: `report.json` and `report.md`.

mod markdown;
mod tables;

use serde::{Deserialize, Serialize};

use super::scores::{Bootstrap, Interval, Share};
use super::suite::SuiteFacts;
use super::{Configuration, Row, Scored, Settings};

/// Everything that `report.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// 1.
    pub schema_version: u32,
    /// The suite.
    pub suite: SuiteSummary,
    /// What decided about the figures.
    pub settings: Settings,
    /// How intervals were made: 95 %, drawing patients.
    pub bootstrap: Bootstrap,
    /// A row per request and configuration.
    pub requests: Vec<Row>,
    /// Ω(q) by Ω(q), per configuration.
    pub groups: Vec<GroupFigures>,
    /// By style, per configuration.
    pub styles: Vec<StyleFigures>,
    /// By target, per configuration.
    pub targets: Vec<TargetFigures>,
    /// Per configuration.
    pub totals: Vec<Totals>,
    /// Each configuration against the one before it, paired by Ω(q).
    pub ablation: Vec<AblationStep>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteSummary {
    /// Name, source, licence.
    #[serde(flatten)]
    pub facts: SuiteFacts,
    /// Cases asked about.
    pub case_count: usize,
    /// Patients among them.
    pub patient_count: usize,
    /// Requests asked.
    pub request_count: usize,
    /// Groups Ω(q) among them.
    pub group_count: usize,
}

/// Figures of one Ω(q) in one configuration, over its free wordings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupFigures {
    /// The case.
    pub case: String,
    /// The patient, as a code.
    pub patient: String,
    /// The group.
    pub group: String,
    /// What is meant.
    pub target: String,
    /// The configuration.
    pub configuration: Configuration,
    /// How many free wordings there are.
    pub count: usize,
    /// Mean Dice over them; absent without any.
    pub mean: Option<f64>,
    /// The lowest.
    pub worst: Option<f64>,
    /// Standard deviation over Ω(q).
    pub std: Option<f64>,
    /// Dice of the canonical name in the same configuration (label mode).
    pub label: Option<f64>,
}

/// Figures of one style of wording in one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StyleFigures {
    /// The style.
    pub style: String,
    /// The configuration.
    pub configuration: Configuration,
    /// Free wordings that expect a segmentation.
    pub count: usize,
    /// Their mean Dice.
    pub dice: Option<Interval>,
    /// Targets right.
    pub resolved: Share,
    /// Refused in error.
    pub refused_in_error: Share,
    /// Wordings of this style that should be refused, and were.
    pub rightly_refused: Share,
}

/// Figures of one target in one configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetFigures {
    /// What is meant.
    pub target: String,
    /// The configuration.
    pub configuration: Configuration,
    /// Groups asking for it.
    pub group_count: usize,
    /// Mean Dice of its canonical name.
    pub label: Option<f64>,
    /// Mean over its groups of the mean over Ω(q).
    pub free: Option<f64>,
    /// Mean over its groups of the lowest over Ω(q).
    pub worst: Option<f64>,
    /// Mean over its groups of the standard deviation over Ω(q).
    pub std: Option<f64>,
    /// Targets right.
    pub resolved: Share,
    /// Wrong sides.
    pub side_errors: Share,
}

/// Everything over the suite in one configuration; Dice is averaged over groups, each weighing
/// the same however many wordings it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// The configuration.
    pub configuration: Configuration,
    /// Dice of canonical names (label mode).
    pub label: Option<Interval>,
    /// Mean Dice of free wordings.
    pub free: Option<Interval>,
    /// Worst-case Dice over Ω(q).
    pub worst: Option<Interval>,
    /// Standard deviation over Ω(q).
    pub std: Option<Interval>,
    /// Free minus label, of groups that have both.
    pub free_minus_label: Option<Interval>,
    /// Worst-case Dice as a multiple of the backbone's alone, where that was run.
    pub worst_of_backbone: Option<Interval>,
    /// Standard deviation over Ω(q) as a multiple of the backbone's alone.
    pub std_of_backbone: Option<Interval>,
    /// Requests to segment whose targets were resolved to exactly what was meant.
    pub resolution: Option<Interval>,
    /// The same as a count.
    pub resolved: Share,
    /// Traces with their three parts.
    pub format_ok: Share,
    /// Masks or answers on the wrong side, of those where that can be said.
    pub side_errors: Share,
    /// Of these, answers that name the other side.
    pub answers_on_other_side: Share,
    /// Refusals.
    pub refusals: Refusals,
    /// Mean seconds of a request.
    pub seconds: Option<f64>,
}

/// How well a configuration refuses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusals {
    /// Of what was refused, what should have been.
    pub precision: Share,
    /// Of what should have been refused, what was.
    pub recall: Share,
    /// Interval of the recall.
    pub recall_interval: Option<Interval>,
    /// Of right refusals with a known reason, those that say it.
    pub reason: Share,
}

/// One configuration against the one before it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationStep {
    /// The earlier configuration.
    pub from: Configuration,
    /// The later one.
    pub to: Configuration,
    /// Change of mean Dice over free wordings.
    pub free: Option<Interval>,
    /// Change of worst-case Dice.
    pub worst: Option<Interval>,
    /// Change of the standard deviation over Ω(q).
    pub std: Option<Interval>,
}

impl Report {
    /// Makes every table from scored rows.
    pub fn of(
        facts: SuiteFacts,
        settings: Settings,
        bootstrap: Bootstrap,
        rows: &[Scored],
    ) -> Self {
        tables::report(facts, settings, bootstrap, rows)
    }

    /// The tables for people.
    pub fn markdown(&self) -> String {
        markdown::of(self)
    }

    /// The configurations that were run, in the order of the ablation.
    pub fn configurations(&self) -> Vec<Configuration> {
        self.totals.iter().map(|totals| totals.configuration).collect()
    }
}
