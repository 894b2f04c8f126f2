//! Standing orders: what a study gets by itself once it has arrived (`pacs.rules`).
//!
//! An arrival is noted durably before its sender is told that the instance is stored; a study is
//! looked at when nothing more of it has come for as long as a rule wants. The order's
//! idempotency key names rule and study, so that a study gets one order per rule, whatever
//! happens in between.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tracing::{info, warn};

use super::{Created, NewOrder, OrderError, Orders, Outputs, Routing, run};
use crate::archive::SeriesRecord;
use crate::config::ArrivalRule;
use crate::dicom::{SeriesUid, StudyUid};
use crate::error::{ErrorKind, Kind};
use crate::pacs::Arrival;
use crate::series;

const TICK: Duration = Duration::from_millis(250);

/// What arrived and was not looked at yet. Cheap to clone.
#[derive(Clone)]
pub struct Arrivals(Arc<Inner>);

struct Inner {
    rules: Vec<ArrivalRule>,
    connection: Mutex<Connection>,
    pending: Mutex<HashMap<StudyUid, Pending>>,
}

/// A study that something arrived of.
struct Pending {
    last: Instant,
    /// What came, by series and sender; each is in the database.
    parts: HashSet<(SeriesUid, String)>,
    /// Rules that were looked at since `last`.
    seen: HashSet<String>,
}

impl Pending {
    fn new() -> Self {
        Self { last: Instant::now(), parts: HashSet::new(), seen: HashSet::new() }
    }
}

impl Arrivals {
    /// Opens the list in a file of its own. What a stop left there has just arrived.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(path: &Path, rules: Vec<ArrivalRule>) -> Result<Self, OrderError> {
        let connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS arrivals (study TEXT NOT NULL, series TEXT NOT NULL, \
             sender TEXT NOT NULL, PRIMARY KEY (study, series, sender)) STRICT",
        )?;
        let mut pending: HashMap<StudyUid, Pending> = HashMap::new();
        {
            let mut statement = connection.prepare("SELECT study, series, sender FROM arrivals")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let text = |column| row.get::<_, String>(column);
                let (study, series) = (StudyUid::parse(&text(0)?), SeriesUid::parse(&text(1)?));
                let (Ok(study), Ok(series)) = (study, series) else { continue };
                let study = pending.entry(study).or_insert_with(Pending::new);
                study.parts.insert((series, text(2)?));
            }
        }
        let connection = Mutex::new(connection);
        Ok(Self(Arc::new(Inner { rules, connection, pending: Mutex::new(pending) })))
    }

    /// Notes an arrival; the first of a series is on disk when this returns. Says whether it
    /// could be noted.
    pub fn note(&self, arrival: &Arrival) -> bool {
        if self.0.rules.is_empty() {
            return true;
        }
        let part = (arrival.series.clone(), arrival.from.clone());
        let mut pending = self.lock_pending();
        let study = pending.entry(arrival.study.clone()).or_insert_with(Pending::new);
        study.last = Instant::now();
        study.seen.clear();
        if study.parts.contains(&part) {
            return true;
        }
        let connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = connection.execute(
            "INSERT OR IGNORE INTO arrivals (study, series, sender) VALUES (?1, ?2, ?3)",
            [arrival.study.as_str(), arrival.series.as_str(), &arrival.from],
        );
        match kept {
            Ok(_) => {
                study.parts.insert(part);
                true
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "Cannot note an arrival");
                false
            }
        }
    }

    fn lock_pending(&self) -> MutexGuard<'_, HashMap<StudyUid, Pending>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every study and rule whose quiet time is over, with the series that count for the rule.
    fn ready(&self) -> Vec<(StudyUid, ArrivalRule, HashSet<SeriesUid>)> {
        let pending = self.lock_pending();
        let mut ready = Vec::new();
        for (study, arrived) in pending.iter() {
            for rule in &self.0.rules {
                let is_quiet = arrived.last.elapsed() >= Duration::from_secs(rule.quiet_seconds);
                if is_quiet && !arrived.seen.contains(&rule.name) {
                    let counts =
                        |sender: &String| rule.from.is_empty() || rule.from.contains(sender);
                    let parts = arrived.parts.iter().filter(|(_, sender)| counts(sender));
                    let series = parts.map(|(series, _)| series.clone()).collect();
                    ready.push((study.clone(), rule.clone(), series));
                }
            }
        }
        ready
    }

    /// A rule was looked at; after the last one, the study is forgotten, unless more of it came.
    fn done(&self, study: &StudyUid, rule: &ArrivalRule) -> Result<(), OrderError> {
        let mut pending = self.lock_pending();
        let Some(arrived) = pending.get_mut(study) else { return Ok(()) };
        if arrived.last.elapsed() < Duration::from_secs(rule.quiet_seconds) {
            return Ok(());
        }
        arrived.seen.insert(rule.name.clone());
        if self.0.rules.iter().all(|rule| arrived.seen.contains(&rule.name)) {
            let connection = self.0.connection.lock().unwrap_or_else(PoisonError::into_inner);
            connection.execute("DELETE FROM arrivals WHERE study = ?1", [study.as_str()])?;
            pending.remove(study);
        }
        Ok(())
    }
}

impl Orders {
    /// Starts the thread that gives standing orders.
    pub(super) fn watch_arrivals(&self, arrivals: Arrivals) -> std::io::Result<()> {
        if arrivals.0.rules.is_empty() {
            return Ok(());
        }
        let orders = self.clone();
        let watch = move || {
            while !orders.shared.stopping.load(Ordering::Relaxed) {
                for (study, rule, series) in arrivals.ready() {
                    orders.apply(&arrivals, &study, &rule, &series);
                }
                std::thread::sleep(TICK);
            }
        };
        std::thread::Builder::new().name("order-standing".into()).spawn(watch).map(|_| ())
    }

    fn apply(
        &self,
        arrivals: &Arrivals,
        study: &StudyUid,
        rule: &ArrivalRule,
        arrived: &HashSet<SeriesUid>,
    ) {
        let rule_name = rule.name.as_str();
        let settled = match self.give_standing_order(study, rule, arrived) {
            Ok(Some(Created::New(order))) => {
                info!(rule = rule_name, order.id = %order.id, "Gave a standing order");
                true
            }
            Ok(Some(Created::Existing(_)) | None) => true,
            // The queue is full or the disk busy; the study keeps.
            Err(error)
                if matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Unavailable) =>
            {
                std::thread::sleep(Duration::from_secs(1));
                false
            }
            // The rule had another text when the study got its order.
            Err(OrderError::KeyReused { .. }) => true,
            Err(error) => {
                let kind = error.kind().word();
                info!(rule = rule_name, error.kind = kind, "A study cannot get its standing order");
                true
            }
        };
        if settled && let Err(error) = arrivals.done(study, rule) {
            warn!(error = &error as &dyn std::error::Error, "Cannot settle an arrival");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn give_standing_order(
        &self,
        study: &StudyUid,
        rule: &ArrivalRule,
        arrived: &HashSet<SeriesUid>,
    ) -> Result<Option<Created>, OrderError> {
        let archive = &self.shared.archive;
        let mut matching: HashSet<SeriesUid> = HashSet::new();
        for series in archive.series_of(study)? {
            if arrived.contains(&series.series) && matches(rule, &series) {
                matching.insert(series.series);
            }
        }
        if matching.is_empty() {
            return Ok(None);
        }
        let mut candidates = run::candidates(archive, study)?;
        candidates.retain(|candidate| matching.contains(&candidate.series_uid));
        let choice = series::choose(candidates)?;
        self.create(NewOrder {
            study_uid: study.clone(),
            series_uid: Some(choice.series_uid),
            text: rule.text.clone(),
            priority: rule.priority,
            // No header can hold this separator, so no client's key is the same.
            idempotency_key: Some(format!("standing\u{1f}{}\u{1f}{study}", rule.name)),
            rephrasings: Vec::new(),
            drop_empty_frames: false,
            outputs: Outputs::default(),
            routing: Routing { source: None, deliver_to: rule.deliver_to.clone() },
        })
        .map(Some)
    }
}

fn matches(rule: &ArrivalRule, series: &SeriesRecord) -> bool {
    let same = |wanted: &Option<String>, found: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.trim().eq_ignore_ascii_case(found.trim()))
    };
    same(&rule.modality, &series.modality)
        && same(&rule.body_part, series.body_part.as_deref().unwrap_or_default())
}
