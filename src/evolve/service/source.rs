//! What a round learns from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::dicom::DicomLimits;
use crate::eval::{EvalError, Suite};
use crate::evolve::EvolveError;

/// What a round learns from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoundSource {
    /// A suite of the configured folder, by its folder's name.
    Suite(String),
    /// A suite of any folder; only the command line may say so.
    #[schema(value_type = String)]
    Folder(PathBuf),
}

impl RoundSource {
    /// Refuses a suite that is not there.
    pub(super) fn check(&self, suites: Option<&Path>) -> Result<(), EvolveError> {
        self.folder(suites).map(|_| ())
    }

    /// Opens the suite.
    pub(super) fn open(
        &self,
        suites: Option<&Path>,
        limits: &DicomLimits,
    ) -> Result<Suite, EvolveError> {
        Ok(Suite::open_with(&self.folder(suites)?, limits.clone()).map_err(EvalError::from)?)
    }

    fn folder(&self, suites: Option<&Path>) -> Result<PathBuf, EvolveError> {
        match self {
            Self::Folder(folder) => Ok(folder.clone()),
            Self::Suite(name) => {
                let suites = suites.ok_or(EvolveError::NoSuites)?;
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
