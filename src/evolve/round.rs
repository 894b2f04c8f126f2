//! One round, from practice to verdict.

mod decide;
mod greedy;
mod heldout;
mod practice;
mod rehearse;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::EvolveError;
use super::control::Control;
use super::executor::{Executor, Scene};
use super::ledger::Ledger;
use super::material::Material;
use super::report::Report;
use super::settings::RoundSettings;
use super::split::Parts;
use crate::bank::{Bank, Offer, RetrievalQuery, Round, SkillSet};
use crate::eval::Request;
use crate::runtime::vocabulary::Vocabulary;
use std::sync::Arc;

pub use decide::adopt;

/// Where a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Sampled rollouts of the practice requests.
    Practice,
    /// Harvested skills are tried on their own lessons.
    Rehearsal,
    /// Current bank and candidate on the held-out requests.
    Gate,
    /// The report is written and the bank, where it may be, changed.
    Conclusion,
}

impl Stage {
    /// The stage as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Practice => "practice",
            Self::Rehearsal => "rehearsal",
            Self::Gate => "gate",
            Self::Conclusion => "conclusion",
        }
    }
}

/// Told after every piece of work: the stage, pieces done and pieces in all of this stage.
pub type Notice<'a> = dyn FnMut(Stage, usize, usize) + 'a;

/// What a round is run with.
#[derive(Clone, Copy)]
pub struct RoundInputs<'a> {
    /// Its identity; episodes and reports carry it.
    pub id: Uuid,
    /// What it is told.
    pub settings: &'a RoundSettings,
    /// What it learns from and is judged by.
    pub material: &'a Material,
    /// Names that answers may use.
    pub vocabulary: &'a Vocabulary,
    /// The bank; only the conclusion changes it, and evidence of practice is appended.
    pub bank: &'a Bank,
    /// Models, role to bundle, version and hash.
    pub models: &'a BTreeMap<String, String>,
    /// Who asked for it.
    pub author: &'a str,
    /// When it began; kept in the ledger, so a resumed round keeps its own.
    pub at: OffsetDateTime,
}

/// What stays the same over a resume.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beginning {
    base_round: u64,
    birth_round: u64,
    material_sha256: String,
    settings: RoundSettings,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

/// A round at work.
struct Run<'a, 'n> {
    inputs: RoundInputs<'a>,
    executor: &'a mut dyn Executor,
    ledger: &'a mut Ledger,
    control: &'a Control,
    notice: &'a mut Notice<'n>,
    beginning: Beginning,
    base: Arc<Round>,
    parts: Parts,
    scenes: BTreeMap<String, Scene>,
    seconds: BTreeMap<String, f64>,
}

/// Runs a round to its end, or goes on with the one in the ledger.
///
/// The report says how it ended. With [`super::Publication::Publish`] the bank has the new round
/// when this answers; otherwise [`adopt`] makes it so later.
///
/// # Errors
/// Settings out of range, requests that cannot be parted or are not those of the ledger, models,
/// disk or bank that fail, or a cancellation.
pub fn run(
    inputs: RoundInputs<'_>,
    executor: &mut dyn Executor,
    ledger: &mut Ledger,
    control: &Control,
    notice: &mut Notice<'_>,
) -> Result<Report, EvolveError> {
    inputs.settings.check()?;
    let beginning = begin(&inputs, ledger)?;
    let base = inputs.bank.round(beginning.base_round)?;
    base.skills.prepare();
    let settings = &beginning.settings;
    let parts = Parts::of(inputs.material, settings.seed, settings.heldout_share)?;
    let mut run = Run {
        inputs,
        executor,
        ledger,
        control,
        notice,
        beginning,
        base,
        parts,
        scenes: BTreeMap::new(),
        seconds: BTreeMap::new(),
    };
    let practice = run.timed(Stage::Practice, Run::practise)?;
    let rehearsed = run.timed(Stage::Rehearsal, |run| run.rehearse(&practice))?;
    let judged = run.timed(Stage::Gate, |run| run.judge(&practice, rehearsed))?;
    run.conclude(&practice, judged)
}

fn begin(inputs: &RoundInputs<'_>, ledger: &mut Ledger) -> Result<Beginning, EvolveError> {
    let material_sha256 = inputs.material.digest();
    let beginning = ledger.get_or("beginning", || {
        Ok(Beginning {
            base_round: inputs.bank.active().number(),
            birth_round: inputs.bank.rounds()?.last().map_or(0, |round| round.number) + 1,
            material_sha256: material_sha256.clone(),
            settings: inputs.settings.clone(),
            at: inputs.at,
        })
    })?;
    if beginning.material_sha256 != material_sha256 || beginning.settings != *inputs.settings {
        return Err(EvolveError::OtherMaterial);
    }
    Ok(beginning)
}

impl<'a> Run<'a, '_> {
    fn settings(&self) -> &'a RoundSettings {
        self.inputs.settings
    }

    fn request(&self, index: usize) -> &'a Request {
        &self.inputs.material.requests[index]
    }

    fn timed<T>(
        &mut self,
        stage: Stage,
        work: impl FnOnce(&mut Self) -> Result<T, EvolveError>,
    ) -> Result<T, EvolveError> {
        let started = Instant::now();
        let result = work(self)?;
        let seconds = (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        self.seconds.insert(stage.word().to_owned(), seconds);
        Ok(result)
    }

    /// Cases of some requests with their requests, by name.
    fn by_case(
        &self,
        requests: impl IntoIterator<Item = usize>,
    ) -> BTreeMap<String, BTreeSet<usize>> {
        let mut cases: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for index in requests {
            cases.entry(self.request(index).case.clone()).or_default().insert(index);
        }
        cases
    }

    /// What retrieval may see of a case; the case is opened the first time.
    fn scene(&mut self, case: &str) -> Result<Scene, EvolveError> {
        if let Some(scene) = self.scenes.get(case) {
            return Ok(scene.clone());
        }
        let key = format!("scene/{case}");
        let scene = match self.ledger.get(&key)? {
            Some(scene) => scene,
            None => {
                let mut scene = None;
                self.executor.visit(case, &[], &mut |visit| {
                    scene = Some(visit.scene());
                    Ok(())
                })?;
                let scene = scene.ok_or(EvolveError::NothingToLearnFrom)?;
                self.ledger.put(&key, &scene)?;
                scene
            }
        };
        self.scenes.insert(case.to_owned(), scene.clone());
        Ok(scene)
    }

    /// The skills of a set that a request calls for, as a live order would get them.
    fn retrieve(&mut self, skills: &SkillSet, index: usize) -> Result<Vec<Offer>, EvolveError> {
        let request = self.request(index);
        let scene = self.scene(&request.case)?;
        let query = RetrievalQuery {
            text: request.text.clone(),
            modality: scene.modality,
            body_part: scene.body_part,
            cues: Vec::new(),
        };
        Ok(self.inputs.bank.retrieve_from(skills, &query))
    }

    /// A UUID of the round's own for a request, ordered by the time the round began (version 7).
    fn episode_id(&self, index: usize) -> Uuid {
        let mut hasher = Sha256::new();
        hasher.update(self.inputs.id.as_bytes());
        hasher.update((index as u64).to_le_bytes());
        let digest = hasher.finalize();
        let mut random = [0; 10];
        random.copy_from_slice(&digest[..10]);
        let millis = (self.beginning.at.unix_timestamp_nanos() / 1_000_000).max(0) as u64;
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }
}
