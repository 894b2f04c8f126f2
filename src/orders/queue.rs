//! The durable queue and its workers.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tracing::{error, info, info_span, warn};
use uuid::Uuid;

use super::corrections::{Corrections, corrections};
use super::pictures;
use super::run::{self, Concluded};
use super::standing::Arrivals;
use super::store::Store;
use super::walk::{Report, WalkError};
use super::{
    Created, Engine, NewOrder, Order, OrderError, OrderEvent, OrderFailure, OrderQuery, OrderState,
    RecordChain, Replay, SkillPolicy, Step, TextLimits, replay, verify_records,
};
use super::{delivery, fetch};
use crate::archive::Archive;
use crate::clock::Clock;
use crate::error::{ErrorKind, Kind};
use crate::pacs::Pacs;
use crate::series;
use crate::telemetry::metrics;
use crate::threads::Cancel;

/// How many changes a slow subscriber may fall behind.
const EVENT_BACKLOG: usize = 1024;

/// Settings of the queue.
#[derive(Debug, Clone)]
pub struct OrdersSettings {
    /// Folder for the database and the artefacts.
    pub path: PathBuf,
    /// Most orders that may wait.
    pub queue_length: u64,
    /// How many orders run at a time.
    pub worker_count: usize,
    /// What an order may say.
    pub texts: TextLimits,
    /// Longest run of one order.
    pub deadline: Duration,
    /// How often an order may be started before it fails.
    pub attempt_count_max: u32,
    /// Which skills orders are offered; none without it.
    pub skills: Option<SkillPolicy>,
}

/// What the queue works with.
pub struct OrderParts {
    /// Stored studies.
    pub archive: Archive,
    /// The current time.
    pub clock: Clock,
    /// Other nodes; without them nothing is fetched or delivered.
    pub pacs: Option<Pacs>,
    /// What arrived by itself, for standing orders.
    pub arrivals: Option<Arrivals>,
}

impl OrdersSettings {
    /// The file that holds orders and records.
    fn database(&self) -> PathBuf {
        self.path.join("orders.sqlite")
    }
}

/// The durable queue and its workers. Cheap to clone. Methods block on SQLite: call them through
/// `threads::run_blocking` from async code.
#[derive(Clone)]
pub struct Orders {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) settings: OrdersSettings,
    pub(super) store: Store,
    pub(super) archive: Archive,
    pub(super) clock: Clock,
    pub(super) pacs: Option<Pacs>,
    /// Nodes that a delivery is on its way to.
    pub(super) busy_nodes: Mutex<HashSet<String>>,
    pub(super) events: broadcast::Sender<OrderEvent>,
    pub(super) corrections: Corrections,
    running: Mutex<HashMap<Uuid, Cancel>>,
    engine: Option<Arc<Engine>>,
    /// Held by the replay that runs.
    replaying: Mutex<()>,
    pub(super) work: Condvar,
    pub(super) stopping: AtomicBool,
}

impl Orders {
    /// Opens the queue; puts orders that a crash left running back into it; starts the workers.
    /// Without an engine no worker starts and orders wait.
    ///
    /// # Errors
    /// When the folder or the database cannot be used.
    pub fn open(
        settings: OrdersSettings,
        parts: OrderParts,
        engine: Option<Arc<Engine>>,
    ) -> Result<Self, OrderError> {
        let OrderParts { archive, clock, pacs, arrivals } = parts;
        std::fs::create_dir_all(settings.path.join("artefacts"))?;
        let store = Store::open(&settings.database())?;
        let (requeued, failed) = store.recover(settings.attempt_count_max, clock.now())?;
        if requeued + failed > 0 {
            warn!(requeued, failed, "Found {} orders that a stop interrupted", requeued + failed);
        }
        let workers = if engine.is_some() { settings.worker_count } else { 0 };
        let (corrections, corrections_waiting) = corrections();
        let shared = Arc::new(Shared {
            settings,
            store,
            archive,
            clock,
            pacs,
            busy_nodes: Mutex::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
            corrections,
            running: Mutex::default(),
            engine: engine.clone(),
            replaying: Mutex::default(),
            work: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        if let Some(engine) = engine {
            for number in 1..=workers {
                let (shared, engine) = (Arc::clone(&shared), Arc::clone(&engine));
                std::thread::Builder::new()
                    .name(format!("order-worker-{number}"))
                    .spawn(move || shared.serve(&engine))?;
            }
        }
        let orders = Self { shared };
        orders.watch_corrections(corrections_waiting)?;
        orders.start_helpers(arrivals)?;
        Ok(orders)
    }

    /// Starts the threads that fetch, deliver and watch for arrivals.
    fn start_helpers(&self, arrivals: Option<Arrivals>) -> Result<(), OrderError> {
        let Some(pacs) = &self.shared.pacs else { return Ok(()) };
        let spawn = |name: String, work: fn(&Arc<Shared>, &Pacs)| {
            let (shared, pacs) = (Arc::clone(&self.shared), pacs.clone());
            std::thread::Builder::new().name(name).spawn(move || work(&shared, &pacs)).map(|_| ())
        };
        let has_nodes = !pacs.nodes().is_empty();
        for number in 1..=if has_nodes { fetch::FETCHER_COUNT } else { 0 } {
            spawn(format!("order-fetcher-{number}"), Shared::serve_fetches)?;
        }
        for number in 1..=if has_nodes { delivery::DELIVERER_COUNT } else { 0 } {
            spawn(format!("order-deliverer-{number}"), Shared::serve_deliveries)?;
        }
        match arrivals {
            Some(arrivals) => Ok(self.watch_arrivals(arrivals)?),
            None => Ok(()),
        }
    }

    /// Accepts an order; returns after it is durable.
    ///
    /// # Errors
    /// Texts that [`TextLimits::check`] refuses, a full queue ([`ErrorKind::Overloaded`]), an idempotency key used
    /// with other inputs ([`ErrorKind::Conflict`]), an unknown study or series, a study without a
    /// series that can be segmented.
    pub fn create(&self, new: NewOrder) -> Result<Created, OrderError> {
        let shared = &self.shared;
        shared.settings.texts.check(&new.text, &new.rephrasings)?;
        self.check_routing(&new)?;
        let fetch = self.needs_fetch(&new)?;
        let now = shared.clock.now();
        let created =
            shared.store.insert(Uuid::now_v7(), &new, now, shared.settings.queue_length, fetch)?;
        if let Created::New(order) = &created {
            shared.tell(order);
            shared.work.notify_one();
        }
        Ok(created)
    }

    /// Refuses what no walk could do, before anybody waits for it.
    pub(super) fn check_series(&self, new: &NewOrder) -> Result<(), OrderError> {
        let mut candidates = run::candidates(&self.shared.archive, &new.study_uid)?;
        if candidates.is_empty() {
            return Err(OrderError::UnknownStudy(new.study_uid.clone()));
        }
        if let Some(series) = &new.series_uid {
            candidates.retain(|candidate| candidate.series_uid == *series);
            if candidates.is_empty() {
                let (study, series) = (new.study_uid.clone(), series.clone());
                return Err(OrderError::UnknownSeries { study, series });
            }
        }
        series::choose(candidates)?;
        Ok(())
    }

    /// One order.
    ///
    /// # Errors
    /// [`OrderError::Unknown`].
    pub fn get(&self, id: Uuid) -> Result<Order, OrderError> {
        self.shared.store.get(id)
    }

    /// Orders, newest first, and how many match in all.
    ///
    /// # Errors
    /// When the database fails.
    pub fn list(&self, query: &OrderQuery) -> Result<(Vec<Order>, u64), OrderError> {
        self.shared.store.list(query)
    }

    /// Asks an order to stop; final orders stay as they are. A running order stops within one
    /// token or one patch; the answer may still say it runs.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], or [`ErrorKind::Conflict`] when it is already final.
    pub fn cancel(&self, id: Uuid) -> Result<Order, OrderError> {
        let shared = &self.shared;
        if shared.store.cancel_queued(id, shared.clock.now())? {
            let order = shared.store.get(id)?;
            shared.tell(&order);
            return Ok(order);
        }
        let order = shared.store.get(id)?;
        match shared.lock_running().get(&id) {
            Some(cancel) if !order.state.is_final() => cancel.cancel(),
            _ if order.state.is_final() => {
                return Err(OrderError::AlreadyFinal { id, state: order.state.word().to_owned() });
            }
            _ => {}
        }
        Ok(order)
    }

    /// The reasoning record of a completed or refused order, as the stored JSON text.
    ///
    /// # Errors
    /// [`OrderError::Unknown`], or [`ErrorKind::Conflict`] while there is none yet.
    pub fn reasoning_record(&self, id: Uuid) -> Result<String, OrderError> {
        let order = self.get(id)?;
        let ready = matches!(order.state, OrderState::Completed | OrderState::Refused);
        match self.shared.store.record(id)? {
            Some(record) if ready => Ok(record),
            _ => Err(OrderError::NoRecord { id, state: order.state.word().to_owned() }),
        }
    }

    /// Runs an order again from its record, over the images it names and with the models that are
    /// loaded now.
    ///
    /// # Errors
    /// As [`Self::reasoning_record`]; [`ErrorKind::NotFound`] when images are gone,
    /// [`ErrorKind::Overloaded`] while another replay runs, or what the walk says.
    pub fn replay(&self, id: Uuid, cancel: &Cancel, report: &Report) -> Result<Replay, WalkError> {
        let shared = &self.shared;
        let text = self.reasoning_record(id)?;
        let record = serde_json::from_str(&text).map_err(OrderError::from)?;
        let Some(engine) = &shared.engine else { return Err(OrderError::NoModels.into()) };
        let _held = match shared.replaying.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(OrderError::ReplayRunning.into()),
        };
        let volume = run::volume_of_record(&shared.archive, &record)?;
        let cancel = cancel.with_deadline(Instant::now() + shared.settings.deadline);
        replay(engine, &record, &volume, &cancel, report)
    }

    /// Checks that no reasoning record was changed or taken away.
    ///
    /// # Errors
    /// When the database fails; a broken chain is no error, [`RecordChain::fault`] says so.
    pub fn verify_records(&self) -> Result<RecordChain, OrderError> {
        verify_records(&self.shared.settings.database())
    }

    /// A stored artefact of an order: `view-1.png` … or `overlay.png`.
    ///
    /// # Errors
    /// [`OrderError::Unknown`] or [`OrderError::NoArtefact`].
    pub fn artefact(&self, id: Uuid, name: &str) -> Result<Vec<u8>, OrderError> {
        self.get(id)?;
        let no_artefact = || OrderError::NoArtefact { id, name: name.chars().take(64).collect() };
        if !pictures::is_artefact_name(name) {
            return Err(no_artefact());
        }
        match std::fs::read(self.shared.artefact_path(id).join(name)) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_artefact()),
            Err(error) => Err(error.into()),
        }
    }

    /// Changes of all orders from now on; a slow receiver misses some and should ask again.
    pub fn subscribe(&self) -> broadcast::Receiver<OrderEvent> {
        self.shared.events.subscribe()
    }

    /// How many orders wait and how many run.
    ///
    /// # Errors
    /// When the database fails.
    pub fn depth(&self) -> Result<(u64, u64), OrderError> {
        self.shared.store.depth()
    }

    /// Whether one more order would be refused because too many wait.
    pub fn is_full(&self) -> bool {
        self.depth().map_or(true, |(waiting, _)| waiting >= self.shared.settings.queue_length)
    }

    /// Takes no further orders from the queue. Orders that run go on to their end, or start again
    /// when the queue is opened next.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.work.notify_all();
    }
}

impl Shared {
    pub(super) fn lock_running(&self) -> MutexGuard<'_, HashMap<Uuid, Cancel>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn artefact_path(&self, id: Uuid) -> PathBuf {
        self.settings.path.join("artefacts").join(id.to_string())
    }

    pub(super) fn tell(&self, order: &Order) {
        // Nobody listening is fine: the database has the truth.
        let _ = self.events.send(OrderEvent {
            order_id: order.id,
            state: order.state,
            step: order.step,
            progress: order.progress,
        });
    }

    /// A worker's life: take an order, walk it, until the queue stops.
    fn serve(self: &Arc<Self>, engine: &Engine) {
        while !self.stopping.load(Ordering::Relaxed) {
            match self.claim() {
                Ok(Some((order, cancel))) => {
                    let span = info_span!("order", order.id = %order.id);
                    let _entered = span.enter();
                    self.run(engine, order, &cancel);
                }
                Ok(None) => self.wait(),
                Err(error) => {
                    error!(error = &error as &dyn std::error::Error, "Cannot take an order");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }

    /// Claims under the lock of `running`, so that a cancel either finds the order still queued
    /// or finds its flag.
    fn claim(&self) -> Result<Option<(Order, Cancel)>, OrderError> {
        let mut running = self.lock_running();
        let Some(order) = self.store.claim(self.clock.now())? else { return Ok(None) };
        let cancel = Cancel::new().with_deadline(Instant::now() + self.settings.deadline);
        running.insert(order.id, cancel.clone());
        Ok(Some((order, cancel)))
    }

    fn wait(&self) {
        let running = self.lock_running();
        // The timeout covers an order that arrives between the claim and the wait.
        drop(self.work.wait_timeout(running, Duration::from_millis(250)));
    }

    fn run(self: &Arc<Self>, engine: &Engine, order: Order, cancel: &Cancel) {
        self.tell(&order);
        let (id, started) = (order.id, Instant::now());
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            run::run_order(self, engine, &order, cancel)
        }))
        .unwrap_or(Err(WalkError::Panicked));
        let finished = self.conclude(order, walked);
        self.lock_running().remove(&id);
        match self.plan_deliveries(&finished).and_then(|()| self.store.finish(&finished)) {
            Ok(order) => {
                let state = order.state.word();
                metrics::order_finished(state, started.elapsed());
                info!(order.state = state, "Finished the order: {state}");
                self.tell(&order);
            }
            // The order stays running in the database and starts again at the next opening.
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "Cannot finish the order");
            }
        }
    }

    pub(super) fn conclude(&self, order: Order, walked: Result<Concluded, WalkError>) -> Order {
        let mut order = Order { updated_at: self.clock.now(), step: None, ..order };
        match walked {
            Ok(Concluded::Completed { result, findings }) => {
                order.state = OrderState::Completed;
                order.result = Some(result);
                order.findings = findings;
                order.progress = 1.0;
            }
            Ok(Concluded::Refused { refusal, findings }) => {
                order.state = OrderState::Refused;
                order.refusal = Some(refusal);
                order.findings = findings;
                order.progress = 1.0;
            }
            Err(error) if error.is_cancelled() => order.state = OrderState::Cancelled,
            Err(error) => {
                let kind = error.kind();
                order.state = OrderState::Failed;
                order.error = Some(failure(kind, &error));
                if kind == ErrorKind::Internal || kind == ErrorKind::Unavailable {
                    error!(error = &error as &dyn std::error::Error, "The order failed");
                } else {
                    // The sentence names UIDs; it is with the order, not in the log.
                    info!(error.kind = kind.word(), "The order cannot be done");
                }
            }
        }
        order
    }

    /// Notes and tells progress: `done` of the whole walk, 0 to 1.
    pub(super) fn report(&self, id: Uuid, step: Step, done: f32) {
        let progress = done.clamp(0.0, 1.0);
        if let Err(error) = self.store.set_progress(id, step, progress, self.clock.now()) {
            warn!(error = &error as &dyn std::error::Error, "Cannot note the progress");
        }
        let _ = self.events.send(OrderEvent {
            order_id: id,
            state: OrderState::Running,
            step: Some(step),
            progress,
        });
    }
}

/// The sentence shown to clients: fixed for faults of ours, the error's own otherwise.
fn failure(kind: ErrorKind, error: &WalkError) -> OrderFailure {
    let message = match kind {
        ErrorKind::Internal => "the server failed; its log says why".to_owned(),
        _ => error.sentence(),
    };
    OrderFailure { kind: kind.word().to_owned(), message }
}
