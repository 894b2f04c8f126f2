//! A whole suite through the models, case by case; rows are kept, so a run that was cut short
//! goes on where it stopped.

mod ledger;
mod score;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::scores::Bootstrap;
use super::{Configuration, EvalError, Execution, Expect, Mode, Request, Runner, Suite};
use crate::answer::{Refusal, RefusalReason};
use crate::error::{ErrorKind, Kind};
use crate::threads::Progress;

use ledger::Ledger;
use score::Scorer;

/// One request in one configuration, as `report.json` lists it (`DESIGN.md` §3.11).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// Its Ω(q).
    pub group: String,
    /// How it is worded.
    pub mode: Mode,
    /// In which style.
    pub style: String,
    /// The words.
    pub text: String,
    /// What is meant.
    pub target: String,
    /// The configuration.
    pub configuration: Configuration,
    /// The answer in the grammar's own words; the words themselves for the backbone alone.
    pub answer: String,
    /// Canonical names of the targets.
    pub resolved: Vec<String>,
    /// Whether nothing was segmented on purpose.
    pub refused: bool,
    /// What a right answer does.
    pub expect: Expect,
    /// Dice with the reference; 0 for a refusal in error, absent where there is no reference.
    pub dice: Option<f64>,
    /// Whether it went to the wrong side; absent where that cannot be said.
    pub side_error: Option<bool>,
    /// Seconds, see [`Execution::seconds`].
    pub seconds: f64,
}

/// A row with what the tables need beyond it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Names the request, the case's files and the configuration.
    pub key: String,
    /// The patient, or the case where none is named: what bootstrap intervals draw.
    pub patient: String,
    /// Whether the targets are exactly those that were meant; absent for rejections and for the
    /// backbone alone.
    pub resolved_right: Option<bool>,
    /// Whether the answer names the other side of what was meant; absent where there is no side.
    pub answered_other_side: Option<bool>,
    /// Whether a right refusal has the right reason; absent where there is none to compare.
    pub reason_right: Option<bool>,
    /// Whether the trace had its three parts; absent for the backbone alone.
    pub format_ok: Option<bool>,
    /// The row.
    pub row: Row,
}

/// What decides about the figures; rows of a run with other settings are not kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The reasoner's bundle, its version and the hash of its manifest.
    pub reasoner: String,
    /// The backbone's.
    pub backbone: String,
    /// The active round of the bank; absent without skills.
    pub bank_round: Option<String>,
    /// How traces were decoded.
    pub decoding: String,
    /// Where the graphs ran.
    pub provider: String,
    /// Version of this program.
    pub server_version: String,
}

/// A suite, the models and what is to be measured.
pub struct Evaluation<'a> {
    /// The suite, with only the requests that are to be asked.
    pub suite: &'a Suite,
    /// The models, with skills for [`Configuration::Seer`].
    pub runner: &'a Runner<'a>,
    /// The configurations, in the order of the ablation.
    pub configurations: &'a [Configuration],
    /// What decides about the figures.
    pub settings: &'a Settings,
    /// How intervals are made.
    pub bootstrap: Bootstrap,
}

impl Evaluation<'_> {
    /// Asks every request in every configuration and gives the scored rows in the order of
    /// configurations, cases and requests.
    ///
    /// Rows are appended to `rows.jsonl` in `out` as soon as a case is done; rows found there are
    /// kept when the settings are the same. Progress counts rows.
    ///
    /// # Errors
    /// When a case cannot be read, the models fail, or `out` cannot be written.
    pub fn run(&self, out: &Path, progress: &Progress) -> Result<Vec<Scored>, EvalError> {
        std::fs::create_dir_all(out).map_err(EvalError::io(out))?;
        let mut ledger = Ledger::open(&out.join("rows.jsonl"), self.settings)?;
        let total = (self.suite.requests().len() * self.configurations.len()) as u64;
        let mut done = 0;
        for name in self.suite.case_names() {
            let fingerprint = self.suite.case_fingerprint(&name)?;
            let asked: Vec<(&Request, Configuration, String)> = self
                .asked(&name)
                .map(|(request, configuration)| {
                    (request, configuration, ledger::key(request, configuration, &fingerprint))
                })
                .collect();
            let count = asked.len() as u64;
            let missing: Vec<_> =
                asked.into_iter().filter(|(.., key)| !ledger.contains(key)).collect();
            done += count - missing.len() as u64;
            progress.report(done, total);
            if !missing.is_empty() {
                let rows =
                    self.run_case(&name, &missing, &|rows| progress.report(done + rows, total))?;
                ledger.append(rows)?;
                done += missing.len() as u64;
                progress.report(done, total);
            }
        }
        self.in_order(&ledger)
    }

    fn asked<'s>(&'s self, case: &'s str) -> impl Iterator<Item = (&'s Request, Configuration)> {
        self.configurations.iter().flat_map(move |configuration| {
            let requests = self.suite.requests().iter().filter(move |r| r.case == case);
            requests.map(move |request| (request, *configuration))
        })
    }

    fn in_order(&self, ledger: &Ledger) -> Result<Vec<Scored>, EvalError> {
        let mut rows = Vec::new();
        for configuration in self.configurations {
            for name in self.suite.case_names() {
                let fingerprint = self.suite.case_fingerprint(&name)?;
                for request in self.suite.requests().iter().filter(|r| r.case == name) {
                    let key = ledger::key(request, *configuration, &fingerprint);
                    rows.extend(ledger.get(&key).cloned());
                }
            }
        }
        Ok(rows)
    }

    fn run_case(
        &self,
        name: &str,
        asked: &[(&Request, Configuration, String)],
        tell: &dyn Fn(u64),
    ) -> Result<Vec<Scored>, EvalError> {
        let case = self.suite.case(name)?;
        let mut run = self.runner.open(&case)?;
        let mut executions = Vec::with_capacity(asked.len());
        for (request, configuration, _) in asked {
            let mut execution = run
                .reason(&request.text, *configuration)
                .or_else(|error| unreadable(error, *configuration))?;
            if request.expect == Expect::Reject {
                // There is no reference to compare a mask with.
                execution.prompts.clear();
            }
            executions.push(execution);
            // Reading is the quicker half; the other half of the bar is the backbone's.
            tell(executions.len() as u64 / 2);
        }
        run.segment(&mut executions, &Progress::silent())?;
        let mut scorer = Scorer::new(self.suite, &case, self.runner.models().vocabulary)?;
        let mut rows = Vec::with_capacity(asked.len());
        for ((request, _, key), execution) in asked.iter().zip(&executions) {
            let mask = run.mask(execution)?;
            rows.push(scorer.score(request, execution, &mask, key.clone())?);
        }
        Ok(rows)
    }
}

/// A request that the reasoner cannot take (too long, say) is answered with a refusal, so that one
/// of many does not end the run; other failures do.
fn unreadable(error: EvalError, configuration: Configuration) -> Result<Execution, EvalError> {
    match error.kind() {
        ErrorKind::Invalid | ErrorKind::TooLarge | ErrorKind::Unsupported => {
            let text = error.to_string();
            let refusal = Refusal { reason: RefusalReason::Unspecified, text: text.clone() };
            Ok(Execution {
                configuration,
                trace: None,
                skills: Vec::new(),
                answer: format!("Reject: {}.", RefusalReason::Unspecified.code()),
                resolved: Vec::new(),
                prompts: Vec::new(),
                refusal: Some(refusal),
                findings: vec![crate::error::Finding::new("request_unreadable", text)],
                seconds: 0.0,
            })
        }
        ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::Overloaded
        | ErrorKind::Cancelled
        | ErrorKind::Unavailable
        | ErrorKind::Internal => Err(error),
    }
}
