//! What a round learns from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::eval::Suite;
use crate::evolve::EvolveError;

use super::EvolutionSettings;

/// What a round learns from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundSource {
    /// A suite of the configured folder, by its folder's name.
    Suite(String),
    /// Orders that reviewers corrected or accepted, taken out of the archive when the round was
    /// asked for.
    Archive(uuid::Uuid),
    /// A suite of any folder; only the command line may say so.
    #[schema(value_type = String)]
    Folder(PathBuf),
}

impl RoundSource {
    /// Refuses a suite that is not there.
    pub(super) fn check(&self, settings: &EvolutionSettings) -> Result<(), EvolveError> {
        self.folder(settings).map(|_| ())
    }

    /// Opens the suite.
    pub(super) fn open(&self, settings: &EvolutionSettings) -> Result<Suite, EvolveError> {
        let folder = self.folder(settings)?;
        Ok(Suite::open_with(&folder, settings.limits)?)
    }

    /// Where the suite lies.
    pub(super) fn folder(&self, settings: &EvolutionSettings) -> Result<PathBuf, EvolveError> {
        match self {
            Self::Folder(folder) => Ok(folder.clone()),
            Self::Archive(id) => Ok(settings.path.join("archived").join(id.to_string())),
            Self::Suite(name) => {
                let suites = settings.suites.as_ref().ok_or(EvolveError::NoSuites)?;
                let plain = !name.is_empty()
                    && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
                    && !name.starts_with('.');
                let folder = suites.join(name);
                if plain && folder.join("suite.toml").is_file() {
                    Ok(folder)
                } else {
                    Err(EvolveError::UnknownSuite { length: name.chars().count() })
                }
            }
        }
    }
}
