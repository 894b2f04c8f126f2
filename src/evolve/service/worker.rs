//! Running rounds, one after the other.

use std::sync::{Arc, PoisonError};

use tracing::{error, info, info_span};
use uuid::Uuid;

use super::store::LEDGER;
use super::{Evolution, RoundState, RoundView};
use crate::error::Kind;
use crate::evolve::EvolveError;
use crate::evolve::control::Control;
use crate::evolve::ledger::Ledger;
use crate::evolve::material::Material;
use crate::evolve::models::ModelExecutor;
use crate::evolve::report::Report;
use crate::evolve::round::{self, RoundInputs, Stage};
use crate::telemetry::error_chain;

impl Evolution {
    pub(super) fn serve(&self) {
        loop {
            let mut live = self.live();
            let id = loop {
                if live.stopping {
                    return;
                }
                if let Some(id) = live.queue.pop_front() {
                    break id;
                }
                live = self.0.work.wait(live).unwrap_or_else(PoisonError::into_inner);
            };
            drop(live);
            let span = info_span!("evolution", round.id = %id);
            let _entered = span.enter();
            if let Err(error) = self.run_now(id, &mut |_| {})
                && !matches!(error, EvolveError::NotNow { .. })
            {
                let error: &dyn std::error::Error = &error;
                error!(error, "The evolution round ended without a report");
            }
        }
    }

    /// Stops the worker after the rollout at hand; the round goes on when the list is opened next.
    pub fn stop(&self) {
        let mut live = self.live();
        live.stopping = true;
        if let Some((_, control)) = &live.running {
            control.cancel();
        }
        drop(live);
        self.0.work.notify_all();
    }

    /// Runs a queued round on this thread to its end; `watch` sees every change.
    ///
    /// # Errors
    /// What stopped it. The round is then failed, or cancelled, or, after [`Evolution::stop`], as it
    /// was.
    pub fn run_now(
        &self,
        id: Uuid,
        watch: &mut dyn FnMut(&RoundView),
    ) -> Result<Report, EvolveError> {
        let control = match &self.0.busy {
            Some(busy) => Control::default().giving_way(Arc::clone(busy), self.0.settings.patience),
            None => Control::default(),
        };
        self.claim(id, &control)?;
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.work(id, &control, watch)
        }))
        .unwrap_or(Err(EvolveError::Panicked));
        let ended = self.end(id, &worked)?;
        watch(&ended);
        worked
    }

    /// Makes a queued round the running one, in one go: one that was paused or cancelled since it
    /// left the queue stays so.
    fn claim(&self, id: Uuid, control: &Control) -> Result<(), EvolveError> {
        let mut live = self.live();
        live.queue.retain(|queued| *queued != id);
        let round = live.rounds.get(&id).cloned().ok_or(EvolveError::Unknown(id))?;
        if round.state != RoundState::Queued {
            return Err(EvolveError::NotNow { id, found: round.state.word(), wanted: "run" });
        }
        let started =
            RoundView { state: RoundState::Running, updated_at: self.0.clock.now(), ..round };
        self.0.store.keep(&started)?;
        live.rounds.insert(id, started.clone());
        live.running = Some((id, control.clone()));
        drop(live);
        self.tell(&started);
        Ok(())
    }

    /// Writes how the running round ended.
    fn end(
        &self,
        id: Uuid,
        worked: &Result<Report, EvolveError>,
    ) -> Result<RoundView, EvolveError> {
        let mut live = self.live();
        live.running = None;
        let round = live.rounds.get(&id).cloned().ok_or(EvolveError::Unknown(id))?;
        let mut round = RoundView { updated_at: self.0.clock.now(), ..round };
        match worked {
            Ok(report) => {
                round.state = RoundState::Completed;
                round.outcome = Some(report.outcome);
                round.published_round = report.published_round;
                self.forget(&round.source);
                info!("The evolution round ended");
            }
            Err(error) if error.is_cancelled() => {
                let again = live.stopping;
                round.state = if again { RoundState::Queued } else { RoundState::Cancelled };
            }
            Err(error) => {
                round.state = RoundState::Failed;
                let ours = error.kind() == crate::error::ErrorKind::Internal;
                let fixed = "the server failed; its log says why".to_owned();
                round.error = Some(if ours { fixed } else { error_chain(error) });
            }
        }
        self.0.store.keep(&round)?;
        live.rounds.insert(id, round.clone());
        drop(live);
        self.tell(&round);
        Ok(round)
    }

    fn work(
        &self,
        id: Uuid,
        control: &Control,
        watch: &mut dyn FnMut(&RoundView),
    ) -> Result<Report, EvolveError> {
        let round = self.get(id)?;
        let models = self.0.models.clone().ok_or(EvolveError::NoModels)?;
        let suite = round.source.open(&self.0.settings)?;
        let material = Material::of_suite(&suite)?;
        let mut ledger = Ledger::open(&self.0.store.file(id, LEDGER))?;
        let names = models.names();
        let models = models.models();
        let mut executor = ModelExecutor::new(&suite, models, control.cancel_flag().clone());
        let inputs = RoundInputs {
            id,
            settings: &round.settings,
            material: &material,
            vocabulary: models.vocabulary,
            bank: &self.0.bank,
            models: &names,
            author: &round.author,
            at: round.created_at,
        };
        let mut notice = |stage: Stage, done: usize, total: usize| {
            let mut live = self.live();
            let Some(round) = live.rounds.get_mut(&id) else { return };
            (round.stage, round.done, round.total) = (Some(stage), done, total);
            let round = round.clone();
            drop(live);
            self.tell(&round);
            watch(&round);
        };
        let report = round::run(inputs, &mut executor, &mut ledger, control, &mut notice)?;
        self.0.store.keep_report(&report)?;
        Ok(report)
    }
}
