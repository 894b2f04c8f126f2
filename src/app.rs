//! Everything built once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tracing::info;

use crate::archive::{Archive, ArchiveSettings};
use crate::bank::Bank;
use crate::clock::Clock;
use crate::config::Config;
use crate::dicom::SopInstanceUid;
use crate::evolve::{Busy, Evolution, EvolutionSettings, ModelHolder};
use crate::orders::worklist::{Performer, StopPerformer, Worklist};
use crate::orders::{
    Arrivals, Engine, EngineSettings, OrderParts, Orders, OrdersSettings, SkillPolicy, write_whole,
};
use crate::pacs::{Pacs, PacsOptions};
use crate::reason::ReasonerSettings;
use crate::runtime::{
    Bundle, DeviceSettings, MemoryLimits, MemoryPlan, Provider, RuntimeSettings, setup,
};
use crate::segment::BackboneSettings;
use crate::telemetry::metrics;

/// The parts that requests and workers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Checked settings.
    pub config: Arc<Config>,
    /// Stored studies.
    pub archive: Archive,
    /// Skills, evidence and rounds.
    pub bank: Bank,
    /// The order queue.
    pub orders: Orders,
    /// The other nodes.
    pub pacs: Pacs,
    /// What arrives by itself, for standing orders.
    pub arrivals: Arrivals,
    /// The UPS-RS worklist.
    pub worklist: Worklist,
    /// Performs work items until the last clone is dropped.
    pub performer: Arc<StopPerformer>,
    /// Rounds of SEER-Loop.
    pub evolution: Evolution,
    /// The current time.
    pub clock: Clock,
    /// What the configured bundles are, for `/api/v1/models` and readiness.
    pub models: Arc<Models>,
}

impl App {
    /// Opens the archive, loads the models and starts the queue.
    ///
    /// # Errors
    /// One sentence naming the folder, library or bundle that cannot be used.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let engine = engine(&config)?;
        Self::with_engine(config, Some(Arc::new(engine)))
    }

    /// The same with models loaded elsewhere, or without any: orders then wait.
    ///
    /// # Errors
    /// When the storage folder cannot be used.
    pub fn with_engine(config: Config, engine: Option<Arc<Engine>>) -> anyhow::Result<Self> {
        // Gauges that are set before the recorder is there would be lost.
        metrics::recorder();
        let clock = Clock::system();
        let path = config.storage.path.clone();
        let archive = archive(&config, &clock)?;
        let bank = bank(&config, engine.as_deref().map(Engine::backbone_bundle), &clock)?;
        let settings = OrdersSettings {
            path: path.join("orders"),
            queue_length: config.orders.queue_length as u64,
            worker_count: config.orders.worker_count,
            texts: config.orders.texts(),
            deadline: config.orders.deadline(),
            attempt_count_max: config.orders.attempt_count_max,
            skills: config.bank.offer.then(|| SkillPolicy {
                bank: bank.clone(),
                withhold_rate: config.bank.withhold_rate,
                seed: config.bank.withhold_seed,
            }),
        };
        let models = Arc::new(Models::of(engine.as_deref()));
        for bundle in &models.bundles {
            metrics::bundle_loaded(&bundle.name, &bundle.version, &bundle.provider);
        }
        std::fs::create_dir_all(&settings.path)
            .with_context(|| format!("cannot make {}", settings.path.display()))?;
        let arrivals =
            Arrivals::open(&settings.path.join("arrivals.sqlite"), config.pacs.rules.clone())
                .with_context(|| format!("cannot open the arrivals in {}", path.display()))?;
        let noted = arrivals.clone();
        let pacs = Pacs::open(PacsOptions {
            settings: config.pacs.clone(),
            archive: archive.clone(),
            instance_size_bytes_max: config.dicom.instance_size_bytes_max,
            arrivals: Arc::new(move |arrival| noted.note(arrival)),
        })?;
        let worklist = Worklist::open(
            &settings.path.join("worklist.sqlite"),
            config.worklist.clone(),
            clock.clone(),
        )
        .with_context(|| format!("cannot open the worklist in {}", path.display()))?;
        let parts = OrderParts {
            archive: archive.clone(),
            clock: clock.clone(),
            pacs: Some(pacs.clone()),
            arrivals: Some(arrivals.clone()),
        };
        let holder = engine.clone().map(|engine| engine as Arc<dyn ModelHolder>);
        let orders = Orders::open(settings, parts, engine)
            .with_context(|| format!("cannot open the order queue in {}", path.display()))?;
        let performer = Performer {
            worklist: worklist.clone(),
            orders: orders.clone(),
            archive: archive.clone(),
            pacs: pacs.clone(),
            base_url: config.http.public_base_url.clone(),
        };
        let performer = performer.start().context("cannot start the worklist's performer")?;
        let evolution = open_evolution(&config, &bank, &orders, &clock, holder)?;
        let config = Arc::new(config);
        Ok(Self {
            config,
            archive,
            bank,
            orders,
            pacs,
            arrivals,
            worklist,
            performer,
            evolution,
            clock,
            models,
        })
    }
}

/// Opens the list of evolution rounds; their rollouts give way to orders that wait or run.
fn open_evolution(
    config: &Config,
    bank: &Bank,
    orders: &Orders,
    clock: &Clock,
    models: Option<Arc<dyn ModelHolder>>,
) -> anyhow::Result<Evolution> {
    let path = config.storage.path.join("evolution");
    let orders = orders.clone();
    let busy: Busy =
        Arc::new(move || orders.depth().is_ok_and(|(waiting, running)| waiting + running > 0));
    Evolution::open(evolution_settings(config), bank.clone(), models, Some(busy), clock.clone())
        .with_context(|| format!("cannot open the evolution rounds in {}", path.display()))
}

/// Where evolution rounds are kept and what they may use.
pub fn evolution_settings(config: &Config) -> EvolutionSettings {
    EvolutionSettings {
        path: config.storage.path.join("evolution"),
        suites: config.evolution.suites.clone(),
        queue_length: config.evolution.queue_length,
        patience: config.evolution.patience(),
        limits: config.dicom.limits(),
    }
}

/// Opens the bank in the storage folder. A bank that nobody has changed begins with the glossary
/// of the `backbone` bundle, unless the configuration says otherwise.
///
/// # Errors
/// When the folder or its database cannot be used.
pub fn bank(config: &Config, backbone: Option<&Bundle>, clock: &Clock) -> anyhow::Result<Bank> {
    let path = config.storage.path.join("bank");
    let cannot = || format!("cannot open the bank in {}", path.display());
    let bank = Bank::open(&path, config.bank.settings(), clock.clone()).with_context(cannot)?;
    if let Some(bundle) = backbone.filter(|_| config.bank.glossary) {
        let begun = bank.begin_with_glossary(bundle.vocabulary(), &bundle.manifest().name);
        if let Some(round) = begun.with_context(cannot)? {
            info!(skills = round.skills.len(), "The bank begins with the glossary");
        }
    }
    Ok(bank)
}

/// Opens the archive in the storage folder.
///
/// # Errors
/// When the folder or its index cannot be used.
pub fn archive(config: &Config, clock: &Clock) -> anyhow::Result<Archive> {
    let keeps = ArchiveSettings {
        limits: config.dicom.limits(),
        quota_bytes: config.storage.quota_bytes,
        replace_instances: config.storage.replace_instances,
        clock: clock.clone(),
    };
    let path = &config.storage.path;
    Archive::open_with(&path.join("archive"), keeps)
        .with_context(|| format!("cannot open the archive in {}", path.display()))
}

/// Loads the configured models.
///
/// # Errors
/// One sentence naming the library, file, graph or folder that does not fit.
pub fn engine(config: &Config) -> anyhow::Result<Engine> {
    let device_uid = device_uid(&config.storage.path)?;
    Ok(Engine::load(&EngineSettings {
        runtime: runtime_settings(config),
        reasoner_bundle: config.models.folder.join(&config.models.reasoner),
        backbone_bundle: config.models.folder.join(&config.models.backbone),
        reasoner: reasoner_settings(config),
        backbone: backbone_settings(config),
        device_uid,
    })?)
}

/// How traces are decoded, as configured.
pub fn reasoner_settings(config: &Config) -> ReasonerSettings {
    ReasonerSettings {
        constrained: config.reasoner.constrained,
        closed_vocabulary: config.reasoner.closed_vocabulary,
        max_new_tokens: config.reasoner.max_new_tokens,
        temperature: config.reasoner.temperature,
        seed: config.reasoner.seed,
    }
}

/// How the backbone runs, as configured.
pub fn backbone_settings(config: &Config) -> BackboneSettings {
    BackboneSettings {
        memory_bytes_max: config.runtime.segment_memory_bytes_max,
        embeddings_cached_max: config.runtime.embeddings_cached_max,
        embeddings_folder: Some(config.storage.path.join("embeddings")),
        ..BackboneSettings::default()
    }
}

/// How ONNX Runtime is used, as configured.
pub fn runtime_settings(config: &Config) -> RuntimeSettings {
    let configured = &config.runtime;
    RuntimeSettings {
        fall_back_to_cpu: configured.allow_cpu_fallback,
        threads: configured.intra_threads,
        device: DeviceSettings {
            id: configured.device_id,
            memory_bytes_max: configured.device_memory_bytes_max,
            tensorrt_fp16: configured.tensorrt_fp16,
            tensorrt_cache: configured.tensorrt_cache.clone(),
        },
        memory: MemoryLimits { host_bytes: configured.host_memory_bytes_max },
        ..RuntimeSettings::new(library(config), configured.provider)
    }
}

/// The UID of this installation: made once and kept in the storage folder.
fn device_uid(storage: &Path) -> anyhow::Result<String> {
    let file = storage.join("device-uid");
    let kept = || std::fs::read_to_string(&file).ok().and_then(|t| SopInstanceUid::parse(&t).ok());
    if let Some(uid) = kept() {
        return Ok(uid.to_string());
    }
    let uid = format!("2.25.{}", uuid::Uuid::new_v4().as_u128());
    std::fs::create_dir_all(storage)
        .and_then(|()| write_whole(&file, uid.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(uid)
}

/// ONNX Runtime's library: the configured one, or where `seer setup` puts it.
pub fn library(config: &Config) -> PathBuf {
    let configured = config.runtime.library.clone();
    configured.unwrap_or_else(|| setup::library(Path::new(setup::FOLDER), config.runtime.provider))
}

/// What is loaded, as told to clients.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// One per loaded bundle.
    pub bundles: Vec<LoadedBundle>,
}

impl Models {
    fn of(engine: Option<&Engine>) -> Self {
        let Some(engine) = engine else { return Self::default() };
        let (reasoner, backbone) = (engine.reasoner_bundle(), engine.backbone_bundle());
        let provider = engine.provider();
        let bundles = if reasoner.folder() == backbone.folder() {
            vec![LoadedBundle::new(reasoner, &["reasoner", "backbone"], provider)]
        } else {
            vec![
                LoadedBundle::new(reasoner, &["reasoner"], provider),
                LoadedBundle::new(backbone, &["backbone"], provider),
            ]
        };
        Self { bundles }
    }
}

fn by_role<T>(roles: &[&str], of: impl Fn(&str) -> Option<T>) -> BTreeMap<String, T> {
    roles.iter().filter_map(|role| Some(((*role).to_owned(), of(role)?))).collect()
}

/// A loaded bundle.
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct LoadedBundle {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SPDX licence expression.
    pub licence: String,
    /// What it may be used for.
    pub intended_use: String,
    /// `reasoner`, `backbone` or both.
    pub roles: Vec<String>,
    /// The execution provider actually used.
    pub provider: String,
    /// SHA-256 by file.
    pub files: BTreeMap<String, String>,
    /// How many concepts its vocabulary knows.
    pub concept_count: usize,
    /// Family by role.
    pub families: BTreeMap<String, String>,
    /// What each role takes in memory, in bytes.
    pub memory: BTreeMap<String, MemoryPlan>,
}

impl LoadedBundle {
    fn new(bundle: &Bundle, roles: &[&str], provider: &str) -> Self {
        let manifest = bundle.manifest();
        Self {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            licence: manifest.licence.clone(),
            intended_use: manifest.intended_use.clone(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            provider: provider.to_owned(),
            files: manifest
                .files
                .iter()
                .map(|file| (file.path.clone(), file.sha256.clone()))
                .collect(),
            concept_count: bundle.vocabulary().concepts.len(),
            families: by_role(roles, |role| manifest.family(role).map(str::to_owned)),
            memory: by_role(roles, |role| {
                // It was planned when it was loaded, so it can be planned again.
                MemoryPlan::of(bundle, role, provider == Provider::Cpu.name()).ok()
            }),
        }
    }
}
