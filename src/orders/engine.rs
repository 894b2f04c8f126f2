//! The loaded models and what they say of themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::record::{RecordBundle, RecordModels};
use crate::answer::{self, Answer, AnswerError, Reading, UnknownTargets};
use crate::error::{ErrorKind, Finding, Kind};
use crate::eval;
use crate::reason::{OfferedSkill, ReasonError, Reasoner, ReasonerSettings, Trace};
use crate::runtime::{Bundle, Runtime, RuntimeError, RuntimeSettings};
use crate::segment::{Backbone, BackboneSettings, SegmentError};
use crate::view::ViewPlan;

/// Which models to load and how to run them.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// ONNX Runtime.
    pub runtime: RuntimeSettings,
    /// Folder of the bundle whose reasoner is used.
    pub reasoner_bundle: PathBuf,
    /// Folder of the bundle whose backbone is used.
    pub backbone_bundle: PathBuf,
    /// How traces are decoded.
    pub reasoner: ReasonerSettings,
    /// How the backbone runs.
    pub backbone: BackboneSettings,
    /// UID of this installation (Device UID), for the objects it writes.
    pub device_uid: String,
}

/// A loaded reasoner and backbone. One engine serves many orders.
///
/// The two may come from different bundles: the reasoner writes for any backbone, and its targets
/// are resolved against the backbone's vocabulary.
pub struct Engine {
    reasoner: Reasoner,
    backbone: Backbone,
    reasoner_bundle: Bundle,
    backbone_bundle: Bundle,
    view_plan: ViewPlan,
    unknown_targets: UnknownTargets,
    runtime: Runtime,
    device_uid: String,
}

impl Engine {
    /// Loads ONNX Runtime, checks the bundles and loads their graphs.
    ///
    /// # Errors
    /// One sentence naming the library, file or graph that does not fit.
    pub fn load(settings: &EngineSettings) -> Result<Self, EngineError> {
        let runtime = Runtime::open_with(settings.runtime.clone())?;
        let reasoner_bundle = Bundle::open(&settings.reasoner_bundle)?;
        let backbone_bundle = if settings.backbone_bundle == settings.reasoner_bundle {
            reasoner_bundle.clone()
        } else {
            Bundle::open(&settings.backbone_bundle)?
        };
        let reasoner = Reasoner::load(&reasoner_bundle, &runtime, &settings.reasoner)?;
        let backbone = Backbone::load(&backbone_bundle, &runtime, settings.backbone.clone())?;
        let manifest = reasoner_bundle.reasoner()?;
        let closed =
            settings.reasoner.closed_vocabulary.unwrap_or(manifest.decoding.closed_vocabulary);
        let unknown_targets =
            if closed { UnknownTargets::Refuse } else { UnknownTargets::PassThrough };
        let view_plan = manifest.view_plan.clone();
        Ok(Self {
            reasoner,
            backbone,
            reasoner_bundle,
            backbone_bundle,
            view_plan,
            unknown_targets,
            runtime,
            device_uid: settings.device_uid.clone(),
        })
    }

    /// The loaded reasoner.
    pub fn reasoner(&self) -> &Reasoner {
        &self.reasoner
    }

    /// The loaded backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// The bundle whose reasoner is loaded.
    pub fn reasoner_bundle(&self) -> &Bundle {
        &self.reasoner_bundle
    }

    /// The bundle whose backbone is loaded.
    pub fn backbone_bundle(&self) -> &Bundle {
        &self.backbone_bundle
    }

    /// The views that the reasoner was trained on.
    pub fn view_plan(&self) -> &ViewPlan {
        &self.view_plan
    }

    /// The execution provider actually used.
    pub fn provider(&self) -> &'static str {
        self.runtime.provider().name()
    }

    /// UID of this installation.
    pub fn device_uid(&self) -> &str {
        &self.device_uid
    }

    /// Reads the answer of a trace against the backbone's vocabulary and the order's sides.
    ///
    /// # Errors
    /// When the trace has no answer in the grammar.
    pub fn understand(
        &self,
        trace: &Trace,
        order: &str,
        skills: &[OfferedSkill],
    ) -> Result<(Answer, Vec<Finding>), AnswerError> {
        answer::parse(&Reading {
            answer: trace.answer.as_deref(),
            order,
            vocabulary: self.backbone_bundle.vocabulary(),
            unknown_targets: self.unknown_targets,
            skills,
            refuse_unnamed: self.reasoner.refuses_unnamed(),
        })
    }

    /// The loaded models as evaluation and evolution use them.
    pub fn eval_models(&self) -> eval::Models<'_> {
        eval::Models {
            reasoner: &self.reasoner,
            view_plan: &self.view_plan,
            backbone: &self.backbone,
            vocabulary: self.backbone_bundle.vocabulary(),
            unknown_targets: self.unknown_targets,
        }
    }

    /// What ran, for the record.
    pub fn models(&self) -> RecordModels {
        RecordModels {
            reasoner: describe(&self.reasoner_bundle),
            backbone: describe(&self.backbone_bundle),
            onnx_runtime: self.runtime.build_info().to_owned(),
            provider: self.provider().to_owned(),
        }
    }
}

impl crate::evolve::ModelHolder for Engine {
    fn models(&self) -> crate::eval::Models<'_> {
        self.eval_models()
    }

    fn names(&self) -> BTreeMap<String, String> {
        let name = |bundle: &Bundle, role: &str| {
            let manifest = bundle.manifest();
            let hash = manifest.files.first().map_or("", |file| &file.sha256);
            (role.to_owned(), format!("{} {} {hash}", manifest.name, manifest.version))
        };
        [name(&self.reasoner_bundle, "reasoner"), name(&self.backbone_bundle, "backbone")].into()
    }
}

fn describe(bundle: &Bundle) -> RecordBundle {
    let manifest = bundle.manifest();
    let files: BTreeMap<_, _> =
        manifest.files.iter().map(|file| (file.path.clone(), file.sha256.clone())).collect();
    RecordBundle { name: manifest.name.clone(), version: manifest.version.clone(), files }
}

/// Why the models cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The library or a bundle.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The reasoner.
    #[error("cannot load the reasoner")]
    Reason(#[from] ReasonError),
    /// The backbone.
    #[error("cannot load the backbone")]
    Segment(#[from] SegmentError),
}

impl Kind for EngineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }
}
