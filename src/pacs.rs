//! Other nodes: what they keep comes here, and results go there, over DICOMweb (PS3.18) and DIMSE
//! (PS3.7). The only room that dials out.
//!
//! Nodes are named in the configuration. What comes in passes the guard of `dicom` and the
//! archive like any upload. Associations and requests run on threads of this room's own, so that
//! callers may be blocking; nothing here decides what is fetched or sent, `orders` does.

mod dicomweb;
mod dimse;
mod error;
mod http;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

pub use dicomweb::{Broken as BrokenParts, Part as ReceivedPart, Parts as ReceivedParts};
pub use dimse::{Command as DimseCommand, SopClassRoles, sop_class_roles};
pub use error::PacsError;
pub use http::client as http_client;

use crate::archive::{Archive, ArchiveError, InstanceRecord, Scope};
use crate::config::{DicomwebNode, DimseNode, PacsSettings};
use crate::dicom::{Identity, SeriesUid, SopInstanceUid, StudyUid};
use crate::threads::{Cancel, Progress};

/// Instances that are parsed at the same time: each may need its own size in memory.
const STORES_AT_ONCE: usize = 2;
/// An archive may have to load a series from slow storage before it answers.
const SLOW_STORAGE: Duration = Duration::from_secs(300);
/// Threads for associations and requests; nearly all they do is wait.
const THREAD_COUNT: usize = 2;

/// Something that a node stored here by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The study.
    pub study: StudyUid,
    /// The series.
    pub series: SeriesUid,
    /// The node, or `stow` for whoever stores over DICOMweb.
    pub from: String,
}

/// Notes an arrival durably; says whether it could. Called before the sender is told that its
/// instance is stored.
pub type ArrivalSink = Arc<dyn Fn(&Arrival) -> bool + Send + Sync>;

/// What to open the room with.
pub struct PacsOptions {
    /// The configuration.
    pub settings: PacsSettings,
    /// Where instances go.
    pub archive: Archive,
    /// Largest instance taken in, in bytes.
    pub instance_size_bytes_max: u64,
    /// Who is told of arrivals.
    pub arrivals: ArrivalSink,
}

/// The other nodes. Cheap to clone; methods block, and stop when cancelled.
#[derive(Clone)]
pub struct Pacs {
    shared: Arc<Shared>,
    runtime: Arc<Runtime>,
    address: Option<SocketAddr>,
}

/// The room's own threads; dropped without waiting, since peers may keep them busy.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Shared {
    settings: PacsSettings,
    archive: Archive,
    instance_size_bytes_max: u64,
    arrivals: ArrivalSink,
    stores: Semaphore,
    /// How many retrievals wait for each node, by name.
    awaited: Mutex<HashMap<String, usize>>,
    client: reqwest::Client,
}

/// A series as another node has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RemoteSeries {
    series: SeriesUid,
    modality: String,
    /// Absent where the node does not count.
    instance_count: Option<u64>,
}

/// An instance to send.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outgoing {
    sop_class_uid: String,
    sop_instance: SopInstanceUid,
    transfer_syntax_uid: String,
    path: PathBuf,
    size_bytes: u64,
}

impl From<InstanceRecord> for Outgoing {
    fn from(record: InstanceRecord) -> Self {
        Self {
            sop_class_uid: record.sop_class_uid,
            sop_instance: record.sop_instance,
            transfer_syntax_uid: record.transfer_syntax_uid,
            path: record.path,
            size_bytes: record.size_bytes,
        }
    }
}

/// A configured node.
#[derive(Clone, Copy)]
enum Node<'a> {
    Dicomweb(&'a DicomwebNode),
    Dimse(&'a DimseNode),
}

/// A configured node, as told to administrators.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct NodeSummary {
    /// What orders and rules call it.
    pub name: String,
    /// `dicomweb` or `dimse`.
    pub protocol: &'static str,
    /// Whether studies are looked for there when an order names no source.
    pub fetch: bool,
    /// Whether it may store here over DIMSE.
    pub may_send: bool,
    /// Whether it may search and retrieve what is stored here over DIMSE.
    pub may_query: bool,
}

/// What a fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The node it came from.
    pub node: String,
    /// How many series came.
    pub series_count: usize,
    /// How many instances these have here now.
    pub instance_count: u64,
}

impl Pacs {
    /// Opens the room and, where `pacs.bind` is set, listens for associations.
    ///
    /// # Errors
    /// When the port or the configured certificates cannot be used.
    pub fn open(options: PacsOptions) -> Result<Self, PacsError> {
        let bind = options.settings.bind;
        let mut pacs = Self::without_port(options)?;
        let Some(bind) = bind else { return Ok(pacs) };
        let failed = |source| PacsError::Listen { bind, source };
        let listener = std::net::TcpListener::bind(bind).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        pacs.address = Some(listener.local_addr().map_err(failed)?);
        let shared = Arc::clone(&pacs.shared);
        let runtime = pacs.handle();
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        runtime.spawn(dimse::listen(shared, listener));
        Ok(pacs)
    }

    /// Opens the room as a client only.
    ///
    /// # Errors
    /// When the configured certificates cannot be used.
    pub fn without_port(options: PacsOptions) -> Result<Self, PacsError> {
        let client = http::client(&options.settings)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREAD_COUNT)
            .thread_name("pacs")
            .enable_all()
            .build()
            .map_err(|source| PacsError::Io { doing: "start threads for other nodes", source })?;
        let shared = Arc::new(Shared {
            settings: options.settings,
            archive: options.archive,
            instance_size_bytes_max: options.instance_size_bytes_max,
            arrivals: options.arrivals,
            stores: Semaphore::new(STORES_AT_ONCE),
            awaited: Mutex::default(),
            client,
        });
        Ok(Self { shared, runtime: Arc::new(Runtime(Some(runtime))), address: None })
    }

    fn handle(&self) -> tokio::runtime::Handle {
        let runtime = self.runtime.0.as_ref();
        runtime.map(|runtime| runtime.handle().clone()).expect("only drop takes the threads away")
    }

    /// Where associations are taken; absent when none are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The configuration.
    pub fn settings(&self) -> &PacsSettings {
        &self.shared.settings
    }

    /// Every configured node, in the order in which they are asked.
    pub fn nodes(&self) -> Vec<NodeSummary> {
        self.shared.nodes().map(Node::summary).collect()
    }

    /// Whether a node of that name is configured.
    pub fn has_node(&self, name: &str) -> bool {
        self.shared.node(name).is_ok()
    }

    /// Whether any node is asked when an order names no source.
    pub fn has_sources(&self) -> bool {
        self.shared.nodes().any(Node::is_source)
    }

    /// Asks a node whether it is there: C-ECHO, or a search for one study.
    ///
    /// # Errors
    /// [`PacsError`] that says what did not answer.
    pub fn echo(&self, node: &str) -> Result<(), PacsError> {
        let (shared, name) = (Arc::clone(&self.shared), node.to_owned());
        self.wait(async move {
            match shared.node(&name)? {
                Node::Dimse(node) => dimse::echo(&shared, node).await,
                Node::Dicomweb(node) => dicomweb::echo(&shared, node).await,
            }
        })
    }

    /// Fetches a series, or every CT and MR series of a study: from the named node, else from the
    /// first node that has it.
    ///
    /// # Errors
    /// [`PacsError::Nowhere`] when every node that answered said no; else what did not answer.
    pub fn fetch(
        &self,
        source: Option<&str>,
        wanted: &Wanted,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Fetched, PacsError> {
        let (shared, wanted) = (Arc::clone(&self.shared), wanted.clone());
        let (source, cancel) = (source.map(str::to_owned), cancel.clone());
        let progress = progress.clone();
        self.wait(async move { shared.fetch(source, &wanted, &cancel, &progress).await })
    }

    /// Sends stored instances to a node. Sending one again does no harm.
    ///
    /// # Errors
    /// The first instance that was not taken, or what did not answer.
    pub fn send(&self, node: &str, scopes: &[Scope]) -> Result<(), PacsError> {
        let mut outgoing = Vec::new();
        for scope in scopes {
            outgoing.extend(self.shared.archive.instances(scope)?.into_iter().map(Outgoing::from));
        }
        let (shared, name) = (Arc::clone(&self.shared), node.to_owned());
        self.wait(async move {
            match shared.node(&name)? {
                Node::Dimse(node) => dimse::send(&shared, node, &outgoing).await,
                Node::Dicomweb(node) => dicomweb::send(&shared, node, &outgoing).await,
            }
        })
    }

    /// Runs a task on the room's own threads and waits; callers may themselves be async threads
    /// for blocking work.
    fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, PacsError>> + Send + 'static,
    ) -> Result<T, PacsError> {
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        self.handle().spawn(async move {
            // Nobody waits any more when the caller panicked.
            let _ = reply.send(task.await);
        });
        // The sender is dropped without a word when the task panicked.
        answer.recv().unwrap_or(Err(PacsError::Lane(crate::threads::LaneError::Panicked)))
    }
}

/// What to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
}

impl<'a> Node<'a> {
    fn name(self) -> &'a str {
        match self {
            Self::Dicomweb(node) => &node.name,
            Self::Dimse(node) => &node.name,
        }
    }

    fn is_source(self) -> bool {
        match self {
            Self::Dicomweb(node) => node.fetch,
            Self::Dimse(node) => node.fetch,
        }
    }

    fn summary(self) -> NodeSummary {
        let (protocol, may_send, may_query) = match self {
            Self::Dicomweb(_) => ("dicomweb", false, false),
            Self::Dimse(node) => ("dimse", node.may_send, node.may_query),
        };
        let (name, fetch) = (self.name().to_owned(), self.is_source());
        NodeSummary { name, protocol, fetch, may_send, may_query }
    }
}

impl Shared {
    fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        let dicomweb = self.settings.dicomweb.iter().map(Node::Dicomweb);
        dicomweb.chain(self.settings.dimse.iter().map(Node::Dimse))
    }

    fn node(&self, name: &str) -> Result<Node<'_>, PacsError> {
        let found = self.nodes().find(|node| node.name() == name);
        found.ok_or_else(|| PacsError::UnknownNode { name: name.chars().take(64).collect() })
    }

    async fn fetch(
        self: &Arc<Self>,
        source: Option<String>,
        wanted: &Wanted,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Fetched, PacsError> {
        let nodes: Vec<Node<'_>> = match &source {
            Some(name) => vec![self.node(name)?],
            None => self.nodes().filter(|node| node.is_source()).collect(),
        };
        let mut unanswered = None;
        for node in &nodes {
            cancel.check()?;
            match self.fetch_from(*node, wanted, cancel, progress).await {
                Ok(fetched) => return Ok(fetched),
                Err(error @ PacsError::Stopped(_)) => return Err(error),
                // With a source named, "it is not there" is the answer.
                Err(error @ PacsError::NotThere { .. }) if source.is_some() => return Err(error),
                Err(PacsError::NotThere { .. }) => {}
                // Another node may have it; if none has, this one is to be asked again.
                Err(error) => unanswered = unanswered.or(Some(error)),
            }
        }
        Err(unanswered.unwrap_or(PacsError::Nowhere {
            study: wanted.study.to_string(),
            node_count: nodes.len(),
        }))
    }

    async fn fetch_from(
        self: &Arc<Self>,
        node: Node<'_>,
        wanted: &Wanted,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<Fetched, PacsError> {
        let study = &wanted.study;
        let mut listed = match node {
            Node::Dimse(node) => dimse::series_of(self, node, study).await?,
            Node::Dicomweb(node) => dicomweb::series_of(self, node, study).await?,
        };
        listed.retain(|listed| match &wanted.series {
            Some(series) => listed.series == *series,
            None => matches!(listed.modality.as_str(), "CT" | "MR"),
        });
        if listed.is_empty() {
            let what = match &wanted.series {
                Some(series) => format!("series {series}"),
                None => "CT or MR series".to_owned(),
            };
            let (node, study) = (node.name().to_owned(), study.to_string());
            return Err(PacsError::NotThere { node, what, study });
        }
        let total = listed.len() as u64;
        let mut instance_count = 0;
        for (done, series) in (0..).zip(&listed) {
            let within = progress.clone();
            let progress = Progress::new(move |part, whole| {
                // In thousandths of one series.
                let part = (part * 1000).checked_div(whole).unwrap_or(0);
                within.report(done * 1000 + part.min(1000), total * 1000);
            });
            instance_count += self.bring(node, study, series, cancel, &progress).await?;
        }
        progress.report(total * 1000, total * 1000);
        let name = node.name().to_owned();
        Ok(Fetched { node: name, series_count: listed.len(), instance_count })
    }

    /// Brings one series here, unless all of it is here already; gives how many instances it has.
    async fn bring(
        self: &Arc<Self>,
        node: Node<'_>,
        study: &StudyUid,
        listed: &RemoteSeries,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<u64, PacsError> {
        let expected = listed.instance_count.unwrap_or(1).max(1);
        if listed.instance_count.is_some() && self.count(study, &listed.series).await? >= expected {
            return Ok(expected);
        }
        match node {
            Node::Dimse(node) => {
                dimse::retrieve(self, node, study, &listed.series, cancel, progress).await?;
            }
            Node::Dicomweb(node) => {
                dicomweb::retrieve(self, node, study, listed, cancel, progress).await?;
            }
        }
        let found = self.count(study, &listed.series).await?;
        match found < expected {
            true => Err(PacsError::Incomplete { node: node.name().to_owned(), expected, found }),
            false => Ok(found),
        }
    }

    /// How many instances of a series are here.
    async fn count(&self, study: &StudyUid, series: &SeriesUid) -> Result<u64, PacsError> {
        let archive = self.archive.clone();
        let scope = Scope::series(study.clone(), series.clone());
        match crate::threads::run_blocking(move || archive.instances(&scope)).await? {
            Ok(instances) => Ok(instances.len() as u64),
            Err(ArchiveError::Unknown { .. }) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a retrieval of ours waits for a node, which may then store here.
    fn awaits(&self, node: &str) -> bool {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.get(node).is_some_and(|count| *count > 0)
    }

    /// Lets a node store here until the guard is dropped.
    fn await_from(self: &Arc<Self>, node: &str) -> Awaited {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        *awaited.entry(node.to_owned()).or_default() += 1;
        Awaited { shared: Arc::clone(self), node: node.to_owned() }
    }
}

/// A retrieval that waits for a node.
struct Awaited {
    shared: Arc<Shared>,
    node: String,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut awaited = self.shared.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = awaited.get_mut(&self.node) {
            *count -= 1;
        }
    }
}

/// Ends when somebody cancels, or the deadline passes.
async fn stopped(cancel: &Cancel) -> PacsError {
    loop {
        if let Err(stopped) = cancel.check() {
            return stopped.into();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Where the data set starts in a Part 10 file, by its first 144 bytes (PS3.10 Table 7.1-1).
fn data_set_start(head: &[u8]) -> Option<u64> {
    let is_group_length = head.get(128..140)? == b"DICM\x02\0\0\0UL\x04\0";
    let length = u32::from_le_bytes(head.get(140..144)?.try_into().ok()?);
    is_group_length.then_some(144 + u64::from(length))
}

/// Whether an upload that the archive refused as a conflict has the data set that is stored, byte
/// by byte, and differs in its meta information only: the same instance over another road.
fn same_data_set(archive: &Archive, identity: &Identity, upload: File) -> bool {
    let scope = Scope::instance(
        identity.study.clone(),
        identity.series.clone(),
        identity.sop_instance.clone(),
    );
    let Ok(records) = archive.instances(&scope) else { return false };
    let Some(record) = records.first() else { return false };
    record.transfer_syntax_uid == identity.transfer_syntax_uid
        && File::open(&record.path).is_ok_and(|stored| same_after_meta(stored, upload))
}

fn same_after_meta(mut first: File, mut second: File) -> bool {
    let skip = |file: &mut File| {
        let mut head = [0_u8; 144];
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_exact(&mut head).ok()?;
        let start = data_set_start(&head)?;
        file.seek(SeekFrom::Start(start)).ok()?;
        file.metadata().ok()?.len().checked_sub(start)
    };
    let (Some(length), Some(other)) = (skip(&mut first), skip(&mut second)) else { return false };
    if length != other {
        return false;
    }
    let (mut one, mut two) = (vec![0_u8; 64 << 10], vec![0_u8; 64 << 10]);
    let mut left = length;
    while left > 0 {
        let size = left.min(one.len() as u64) as usize;
        let read = first.read_exact(&mut one[..size]).and(second.read_exact(&mut two[..size]));
        if read.is_err() || one[..size] != two[..size] {
            return false;
        }
        left -= size as u64;
    }
    true
}
