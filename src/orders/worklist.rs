//! The worklist: Unified Procedure Steps (PS3.3 §C.30, PS3.4 Annex CC) that others schedule,
//! search, follow and cancel, and that become orders when they are addressed to us.
//!
//! A work item is kept as the DICOM JSON it came in; every change is one transaction in SQLite,
//! durable before it is told. How a work item becomes an order is said in `performer`.

mod events;
mod item;
mod performer;
mod query;
mod rules;
mod store;
mod subscriptions;

use std::path::Path;
use std::sync::{Arc, Mutex};

use rusqlite::Connection;
use serde_json::{Map, Value};
use tokio::sync::broadcast;

pub use events::Event;
pub use item::State;
pub use performer::{Performer, StopPerformer};
pub use query::WorkitemQuery;
pub use subscriptions::Target;

use crate::clock::Clock;
use crate::config::WorklistSettings;
use crate::dicom::{DicomError, SopInstanceUid};
use crate::error::{ErrorKind, Kind};

/// Attributes by their eight hexadecimal digits, as DICOM JSON has them (PS3.18 Annex F).
pub type Attributes = Map<String, Value>;

/// How many events a slow event channel may fall behind.
const EVENT_BACKLOG: usize = 1024;

/// The worklist. Cheap to clone; methods block on SQLite.
#[derive(Clone)]
pub struct Worklist(Arc<Inner>);

struct Inner {
    connection: Mutex<Connection>,
    settings: WorklistSettings,
    clock: Clock,
    events: broadcast::Sender<Event>,
}

impl Worklist {
    /// Opens the worklist in a file of its own, made when missing.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn open(
        path: &Path,
        settings: WorklistSettings,
        clock: Clock,
    ) -> Result<Self, WorklistError> {
        let connection = store::open(path)?;
        Ok(Self(Arc::new(Inner {
            connection: Mutex::new(connection),
            settings,
            clock,
            events: broadcast::channel(EVENT_BACKLOG).0,
        })))
    }

    /// The configuration.
    pub fn settings(&self) -> &WorklistSettings {
        &self.0.settings
    }

    /// Events of all work items from now on, each with the titles it is for; a slow receiver
    /// misses some.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Creates a work item; it is durable when this returns (PS3.18 §11.4, PS3.4 §CC.2.5).
    ///
    /// # Errors
    /// [`WorklistError::Exists`], [`WorklistError::Full`], or what is wrong with its attributes.
    pub fn create(
        &self,
        uid: Option<SopInstanceUid>,
        attributes: Attributes,
    ) -> Result<SopInstanceUid, WorklistError> {
        let item = rules::new_item(uid, attributes, self.0.clock.now())?;
        let uid = item.uid.clone();
        self.change(|transaction, events| {
            if store::find(transaction, uid.as_str())?.is_some() {
                return Err(WorklistError::Exists { uid: uid.to_string() });
            }
            let max = self.0.settings.workitem_count_max;
            if store::count(transaction)? >= max {
                return Err(WorklistError::Full { max });
            }
            store::insert(transaction, &item, self.is_addressed(&item.attributes))?;
            subscriptions::note_new_item(transaction, &item)?;
            events.push(events::state_report(&item));
            if item::has_values(&item.attributes, item::SCHEDULED_STATION_NAME) {
                events.push(events::assigned(&item));
            }
            Ok(())
        })?;
        Ok(uid)
    }

    /// Retrieves a work item, without its Transaction UID (PS3.18 §11.5).
    ///
    /// # Errors
    /// [`WorklistError::Unknown`].
    pub fn retrieve(&self, uid: &SopInstanceUid) -> Result<Attributes, WorklistError> {
        self.read(|connection| Ok(store::get(connection, uid)?.public()))
    }

    /// Searches for work items, oldest first (PS3.18 §11.9). Says whether there are more.
    ///
    /// # Errors
    /// When the database fails.
    pub fn search(&self, query: &WorkitemQuery) -> Result<(Vec<Attributes>, bool), WorklistError> {
        self.read(|connection| {
            let mut found = Vec::new();
            let mut skipped = 0;
            let more = store::visit(connection, query.state(), |item| {
                if !query.matches(&item.attributes) {
                    return true;
                }
                if skipped < query.offset {
                    skipped += 1;
                    return true;
                }
                if found.len() == query.limit {
                    return false;
                }
                found.push(item.public());
                true
            })?;
            Ok((found, more))
        })
    }

    /// Changes attributes of a work item (PS3.18 §11.6, PS3.4 §CC.2.6); one in progress needs the
    /// Transaction UID of its performer.
    ///
    /// # Errors
    /// What is wrong with the state, the Transaction UID or the attributes.
    pub fn update(
        &self,
        uid: &SopInstanceUid,
        transaction_uid: Option<&str>,
        changes: Attributes,
    ) -> Result<(), WorklistError> {
        let now = self.0.clock.now();
        self.change(|transaction, events| {
            let mut item = store::get(transaction, uid)?;
            rules::check_update(&item, transaction_uid, &changes)?;
            let told = events::Told::of(&item);
            item.attributes.extend(changes);
            item::touch(&mut item.attributes, now);
            store::update(transaction, &item, self.is_addressed(&item.attributes), now)?;
            events.extend(told.changes(&item));
            Ok(())
        })
    }

    /// Changes the state of a work item (PS3.18 §11.7, PS3.4 §CC.2.1). Gives a warning when it is
    /// there already.
    ///
    /// # Errors
    /// What is wrong with the state, the Transaction UID, or what a final state needs.
    pub fn change_state(
        &self,
        uid: &SopInstanceUid,
        target: State,
        transaction_uid: &str,
    ) -> Result<Option<&'static str>, WorklistError> {
        let now = self.0.clock.now();
        self.change(|transaction, events| {
            let mut item = store::get(transaction, uid)?;
            let warning = rules::check_state_change(&item, target, transaction_uid)?;
            if warning.is_none() {
                item.enter(target, Some(transaction_uid), now);
                store::update(transaction, &item, false, now)?;
                events.push(events::state_report(&item));
            }
            Ok(warning)
        })
    }

    /// Asks that a work item be cancelled (PS3.18 §11.8, PS3.4 §CC.2.2): one that is scheduled is,
    /// the performer of one in progress is told. Gives a warning when it is cancelled already.
    ///
    /// # Errors
    /// [`WorklistError::WrongState`] when it is completed, [`WorklistError::Unreachable`] when its
    /// performer is not known and nobody listens.
    pub fn request_cancel(
        &self,
        uid: &SopInstanceUid,
        request: &Attributes,
    ) -> Result<Option<&'static str>, WorklistError> {
        let now = self.0.clock.now();
        self.change(|transaction, events| {
            let mut item = store::get(transaction, uid)?;
            match item.state {
                State::Canceled => return Ok(Some(rules::ALREADY_CANCELED)),
                State::Completed => {
                    return Err(rules::wrong_state(&item, "cancelled"));
                }
                State::Scheduled => {
                    rules::note_cancel_reason(&mut item, request);
                    item.enter(State::Canceled, None, now);
                    store::update(transaction, &item, false, now)?;
                    events.push(events::state_report(&item));
                }
                State::InProgress => {
                    let heard = subscriptions::of_item(transaction, uid)?;
                    if !item.is_ours && heard.is_empty() {
                        return Err(WorklistError::Unreachable { uid: uid.to_string() });
                    }
                    if item.is_ours {
                        store::note_cancel_request(transaction, uid)?;
                    }
                    events.push(events::cancel_requested(&item, request));
                }
            }
            Ok(None)
        })
    }

    /// Whether a work item is addressed to us: its Scheduled Station Name Code Sequence
    /// (0040,4025) has our name, or its Scheduled Station Class Code Sequence (0040,4026) our
    /// class.
    fn is_addressed(&self, attributes: &Attributes) -> bool {
        let settings = &self.0.settings;
        let has = |key, wanted: &str| item::code_values(attributes, key).any(|code| code == wanted);
        has(item::SCHEDULED_STATION_NAME, &settings.station_name)
            || settings
                .station_class
                .as_ref()
                .is_some_and(|class| has(item::SCHEDULED_STATION_CLASS, class))
    }
}

/// Why the worklist cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum WorklistError {
    /// No such work item.
    #[error("work item {uid} does not exist")]
    Unknown {
        /// Its SOP Instance UID.
        uid: String,
    },
    /// The UID is taken.
    #[error("work item {uid} exists already")]
    Exists {
        /// Its SOP Instance UID.
        uid: String,
    },
    /// Too many work items.
    #[error("{max} work items are kept already, which is the limit")]
    Full {
        /// `worklist.workitem_count_max`.
        max: u64,
    },
    /// An attribute is missing or has a value that it must not have.
    #[error("attribute {attribute} {problem}")]
    Attribute {
        /// Its tag.
        attribute: String,
        /// What is wrong, without the value found.
        problem: String,
    },
    /// The state does not allow it.
    #[error("work item {uid} is {state} and cannot be {wanted}")]
    WrongState {
        /// The work item.
        uid: String,
        /// Its state.
        state: &'static str,
        /// What was asked.
        wanted: &'static str,
    },
    /// No Transaction UID.
    #[error("the Transaction UID is missing")]
    NoTransaction,
    /// Another Transaction UID.
    #[error("the Transaction UID is incorrect")]
    WrongTransaction,
    /// What a final state needs is not there (PS3.4 Table CC.2.5-3).
    #[error("the final state needs attribute {attribute}, which is missing")]
    Unfinished {
        /// Its tag.
        attribute: &'static str,
    },
    /// Nobody can be told of a cancel request.
    #[error("the performer of work item {uid} cannot be contacted")]
    Unreachable {
        /// The work item.
        uid: String,
    },
    /// A subscription to nothing that exists.
    #[error("{aet} has no such subscription")]
    NoSubscription {
        /// The subscriber.
        aet: String,
    },
    /// A filter is malformed.
    #[error("filter is not a list of attribute=value")]
    BadFilter,
    /// A UID is malformed.
    #[error(transparent)]
    Uid(#[from] DicomError),
    /// SQLite failed.
    #[error("worklist database failed")]
    Database(#[from] rusqlite::Error),
    /// A stored value is not what it should be.
    #[error("worklist database holds a malformed value")]
    Malformed(#[from] serde_json::Error),
}

impl Kind for WorklistError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unknown { .. } | Self::NoSubscription { .. } => ErrorKind::NotFound,
            Self::Exists { .. }
            | Self::WrongState { .. }
            | Self::Unfinished { .. }
            | Self::Unreachable { .. } => ErrorKind::Conflict,
            Self::Full { .. } => ErrorKind::Overloaded,
            Self::Attribute { .. }
            | Self::NoTransaction
            | Self::WrongTransaction
            | Self::BadFilter => ErrorKind::Invalid,
            Self::Uid(error) => error.kind(),
            Self::Database(_) | Self::Malformed(_) => ErrorKind::Internal,
        }
    }
}
