//! Evolution rounds of a server: a durable list of them, and one worker that runs them in turn.
//!
//! Each round has a folder: `round.json` (what it is and how it stands), `ledger.jsonl` (what it has
//! done), and, at its end, `report.json` and `report.html`. A round that a stop interrupted goes on
//! when the list is opened next.

mod source;
mod store;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::broadcast;
use tracing::warn;
use uuid::Uuid;

use super::EvolveError;
use super::archived::{LabelledOrder, suite_of_archive};
use super::control::{Busy, Control};
use super::ledger::Ledger;
use super::models::ModelHolder;
use super::report::{Outcome, Report};
use super::round::{self, Stage};
use super::settings::RoundSettings;
use crate::archive::Archive;
use crate::bank::Bank;
use crate::clock::Clock;
use crate::dicom::DicomLimits;

pub use source::RoundSource;
use store::Store;

/// Events a slow subscriber may fall behind.
const EVENT_BACKLOG: usize = 256;

/// Settings of the list.
#[derive(Debug, Clone)]
pub struct EvolutionSettings {
    /// Folder with one folder per round.
    pub path: PathBuf,
    /// Folder with one folder per suite, for rounds that name one.
    pub suites: Option<PathBuf>,
    /// Most rounds that may wait.
    pub queue_length: usize,
    /// How long a rollout waits for orders at most.
    pub patience: Duration,
    /// Limits for the DICOM files of suites.
    pub limits: DicomLimits,
}

/// A round to run.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRound {
    /// What it learns from.
    pub source: RoundSource,
    /// What it is told.
    pub settings: RoundSettings,
    /// Who asks for it.
    pub author: String,
}

/// Where a round stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundState {
    /// Waits for the worker.
    Queued,
    /// Runs.
    Running,
    /// Waits on request.
    Paused,
    /// Done; there is a report.
    Completed,
    /// Could not be done.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl RoundState {
    /// The state as a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it will not change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Paused => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A round as it is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RoundView {
    /// Its id.
    pub id: Uuid,
    /// What it learns from.
    pub source: RoundSource,
    /// What it is told.
    pub settings: RoundSettings,
    /// Who asked for it.
    pub author: String,
    /// Where it stands.
    pub state: RoundState,
    /// The stage at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Pieces of that stage that are done.
    pub done: usize,
    /// Pieces of that stage.
    pub total: usize,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The bank's round that it became.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_round: Option<u64>,
    /// Why it failed, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated_at: OffsetDateTime,
}

/// A change of a round, for subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EvolutionEvent {
    /// The round.
    pub round_id: Uuid,
    /// Its state now.
    pub state: RoundState,
    /// Its stage now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Pieces of that stage that are done.
    pub done: usize,
    /// Pieces of that stage.
    pub total: usize,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

impl EvolutionEvent {
    /// How a round stands.
    pub fn of(round: &RoundView) -> Self {
        Self {
            round_id: round.id,
            state: round.state,
            stage: round.stage,
            done: round.done,
            total: round.total,
            outcome: round.outcome,
        }
    }
}

/// The rounds of a server. Cheap to clone; methods block on the disk.
#[derive(Clone)]
pub struct Evolution(Arc<Inner>, Option<Arc<LastHandle>>);

/// Stops the worker when the last handle outside it goes; the worker's own handle has none.
struct LastHandle(Evolution);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Inner {
    settings: EvolutionSettings,
    store: Store,
    bank: Bank,
    models: Option<Arc<dyn ModelHolder>>,
    busy: Option<Busy>,
    clock: Clock,
    events: broadcast::Sender<EvolutionEvent>,
    live: Mutex<Live>,
    work: Condvar,
}

#[derive(Default)]
struct Live {
    rounds: BTreeMap<Uuid, RoundView>,
    queue: VecDeque<Uuid>,
    running: Option<(Uuid, Control)>,
    stopping: bool,
}

impl Evolution {
    /// Opens the list; rounds that a stop interrupted are queued again. Without models nothing runs.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(
        settings: EvolutionSettings,
        bank: Bank,
        models: Option<Arc<dyn ModelHolder>>,
        busy: Option<Busy>,
        clock: Clock,
    ) -> Result<Self, EvolveError> {
        let mut evolution = Self::idle(settings, bank, models, busy, clock)?;
        let worker = evolution.clone();
        evolution.1 = Some(Arc::new(LastHandle(worker.clone())));
        let path = evolution.0.settings.path.clone();
        std::thread::Builder::new()
            .name("evolution".to_owned())
            .spawn(move || worker.serve())
            .map_err(EvolveError::io(&path))?;
        Ok(evolution)
    }

    /// The same without a worker: rounds are run by [`Evolution::run_now`].
    ///
    /// # Errors
    /// As [`Evolution::open`].
    pub fn idle(
        settings: EvolutionSettings,
        bank: Bank,
        models: Option<Arc<dyn ModelHolder>>,
        busy: Option<Busy>,
        clock: Clock,
    ) -> Result<Self, EvolveError> {
        let store = Store::open(&settings.path)?;
        let mut live = Live::default();
        for mut round in store.rounds()? {
            if round.state == RoundState::Running {
                round.state = RoundState::Queued;
                store.keep(&round)?;
            }
            if round.state == RoundState::Queued {
                live.queue.push_back(round.id);
            }
            live.rounds.insert(round.id, round);
        }
        let inner = Arc::new(Inner {
            settings,
            store,
            bank,
            models,
            busy,
            clock,
            events: broadcast::channel(EVENT_BACKLOG).0,
            live: Mutex::new(live),
            work: Condvar::new(),
        });
        Ok(Self(inner, None))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a round; it is durable when this answers.
    ///
    /// # Errors
    /// Settings out of range, a suite that is not there, no models, a full queue, the disk.
    pub fn start(&self, new: NewRound) -> Result<RoundView, EvolveError> {
        new.settings.check()?;
        new.source.check(&self.0.settings)?;
        if self.0.models.is_none() {
            return Err(EvolveError::NoModels);
        }
        let now = self.0.clock.now();
        let round = RoundView {
            id: Uuid::now_v7(),
            source: new.source,
            settings: new.settings,
            author: new.author,
            state: RoundState::Queued,
            stage: None,
            done: 0,
            total: 0,
            outcome: None,
            published_round: None,
            error: None,
            created_at: now,
            updated_at: now,
        };
        let mut live = self.live();
        if live.queue.len() >= self.0.settings.queue_length {
            return Err(EvolveError::QueueFull { waiting: live.queue.len() });
        }
        self.0.store.keep(&round)?;
        live.queue.push_back(round.id);
        live.rounds.insert(round.id, round.clone());
        drop(live);
        self.tell(&round);
        self.0.work.notify_all();
        Ok(round)
    }

    /// Queues a round on labelled orders of the archive, which are written down as a suite first and
    /// go when the round is complete.
    ///
    /// # Errors
    /// As [`Evolution::start`]; when no labelled order can be used, or archive or disk fail.
    pub fn start_from_archive(
        &self,
        archive: &Archive,
        orders: &[LabelledOrder],
        settings: RoundSettings,
        author: String,
    ) -> Result<RoundView, EvolveError> {
        let models = self.0.models.clone().ok_or(EvolveError::NoModels)?;
        let source = RoundSource::Archive(Uuid::new_v4());
        let folder = source.folder(&self.0.settings)?;
        std::fs::create_dir_all(&folder).map_err(EvolveError::io(&folder))?;
        let vocabulary = models.models().vocabulary;
        let started = suite_of_archive(archive, orders, vocabulary, &folder)
            .and_then(|_| self.start(NewRound { source: source.clone(), settings, author }));
        if started.is_err() {
            self.forget(&source);
        }
        started
    }

    /// Removes what was written down for a round; words of orders do not stay longer than needed.
    fn forget(&self, source: &RoundSource) {
        let RoundSource::Archive(_) = source else { return };
        let gone = source.folder(&self.0.settings).map(std::fs::remove_dir_all);
        if let Ok(Err(error)) = gone {
            warn!(%error, "Cannot remove the suite of a round");
        }
    }

    /// All rounds, newest first.
    pub fn list(&self) -> Vec<RoundView> {
        self.live().rounds.values().rev().cloned().collect()
    }

    /// One round.
    ///
    /// # Errors
    /// [`EvolveError::Unknown`].
    pub fn get(&self, id: Uuid) -> Result<RoundView, EvolveError> {
        self.live().rounds.get(&id).cloned().ok_or(EvolveError::Unknown(id))
    }

    /// Changes from now on; a slow receiver misses some and should ask again.
    pub fn subscribe(&self) -> broadcast::Receiver<EvolutionEvent> {
        self.0.events.subscribe()
    }

    /// Makes a round wait after the rollout at hand, or before its start.
    ///
    /// # Errors
    /// Unknown, or final already.
    pub fn pause(&self, id: Uuid) -> Result<RoundView, EvolveError> {
        self.change(id, "paused", |live, state| {
            live.queue.retain(|queued| *queued != id);
            if let Some((_, control)) = live.running.as_ref().filter(|(running, _)| *running == id)
            {
                control.set_paused(true);
            }
            matches!(state, RoundState::Queued | RoundState::Running | RoundState::Paused)
                .then_some(RoundState::Paused)
        })
    }

    /// Lets a paused round go on, or a failed or cancelled one try again from where it stopped.
    ///
    /// # Errors
    /// Unknown, or completed already.
    pub fn resume(&self, id: Uuid) -> Result<RoundView, EvolveError> {
        let round = self.change(id, "resumed", |live, state| {
            if let Some((_, control)) = live.running.as_ref().filter(|(running, _)| *running == id)
            {
                control.set_paused(false);
                return Some(RoundState::Running);
            }
            let again = match state {
                RoundState::Queued => return Some(RoundState::Queued),
                RoundState::Paused | RoundState::Failed | RoundState::Cancelled => true,
                RoundState::Running | RoundState::Completed => false,
            };
            again.then(|| {
                live.queue.push_back(id);
                RoundState::Queued
            })
        })?;
        self.0.work.notify_all();
        Ok(round)
    }

    /// Stops a round for good; its ledger stays, so it can be resumed.
    ///
    /// # Errors
    /// Unknown, or final already.
    pub fn cancel(&self, id: Uuid) -> Result<RoundView, EvolveError> {
        self.change(id, "cancelled", |live, state| {
            if let Some((_, control)) = live.running.as_ref().filter(|(running, _)| *running == id)
            {
                // The worker writes the end when the rollout at hand has stopped.
                control.cancel();
                return Some(state);
            }
            live.queue.retain(|queued| *queued != id);
            (!state.is_final()).then_some(RoundState::Cancelled)
        })
    }

    /// The report of a completed round, as stored JSON.
    ///
    /// # Errors
    /// Unknown, or not completed.
    pub fn report(&self, id: Uuid) -> Result<String, EvolveError> {
        self.completed(id, "reported")?;
        self.0.store.text(id, store::REPORT)
    }

    /// The report as a page that needs nothing else.
    ///
    /// # Errors
    /// As [`Evolution::report`].
    pub fn page(&self, id: Uuid) -> Result<String, EvolveError> {
        self.completed(id, "reported")?;
        self.0.store.text(id, store::PAGE)
    }

    /// Makes the candidate of a round that was offered the bank's active round.
    ///
    /// # Errors
    /// Unknown, not offered, or measured against another round than the active one.
    pub fn adopt(&self, id: Uuid, author: &str) -> Result<RoundView, EvolveError> {
        let round = self.completed(id, "adopted")?;
        if !matches!(round.outcome, Some(Outcome::Offered | Outcome::Published)) {
            return Err(EvolveError::NotNow { id, found: "not offered", wanted: "adopted" });
        }
        let mut ledger = Ledger::open(&self.0.store.file(id, store::LEDGER))?;
        let mut report: Report = ledger.get("report")?.ok_or(EvolveError::Unknown(id))?;
        let number = round::adopt(&self.0.bank, &mut ledger, &report, author)?;
        report.outcome = Outcome::Published;
        report.published_round = Some(number);
        self.0.store.keep_report(&report)?;
        ledger.put("report", &report)?;
        let round = RoundView {
            outcome: Some(Outcome::Published),
            published_round: Some(number),
            updated_at: self.0.clock.now(),
            ..round
        };
        self.note(round.clone())?;
        Ok(round)
    }

    fn completed(&self, id: Uuid, wanted: &'static str) -> Result<RoundView, EvolveError> {
        let round = self.get(id)?;
        match round.state {
            RoundState::Completed => Ok(round),
            other => Err(EvolveError::NotNow { id, found: other.word(), wanted }),
        }
    }

    /// Changes a round's state under the lock; `decide` gives the new state, or none when the
    /// present one does not allow it.
    fn change(
        &self,
        id: Uuid,
        wanted: &'static str,
        decide: impl FnOnce(&mut Live, RoundState) -> Option<RoundState>,
    ) -> Result<RoundView, EvolveError> {
        let mut live = self.live();
        let round = live.rounds.get(&id).cloned().ok_or(EvolveError::Unknown(id))?;
        let Some(state) = decide(&mut live, round.state) else {
            return Err(EvolveError::NotNow { id, found: round.state.word(), wanted });
        };
        let error = if state == RoundState::Queued { None } else { round.error.clone() };
        let round = RoundView { state, error, updated_at: self.0.clock.now(), ..round };
        self.0.store.keep(&round)?;
        live.rounds.insert(id, round.clone());
        drop(live);
        self.tell(&round);
        Ok(round)
    }

    /// Keeps a changed round; files of a round are written under the lock only, one at a time.
    fn note(&self, round: RoundView) -> Result<(), EvolveError> {
        let mut live = self.live();
        self.0.store.keep(&round)?;
        live.rounds.insert(round.id, round.clone());
        drop(live);
        self.tell(&round);
        Ok(())
    }

    fn tell(&self, round: &RoundView) {
        // Nobody listening is fine: the list has the truth.
        let _ = self.0.events.send(EvolutionEvent::of(round));
    }
}

impl std::fmt::Debug for Evolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evolution({})", self.0.settings.path.display())
    }
}
