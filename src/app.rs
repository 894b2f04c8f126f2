//! Everything built once.

use std::sync::Arc;

use crate::archive::Archive;
use crate::clock::Clock;
use crate::config::Config;
use crate::orders::Orders;

/// The parts that requests and workers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// Checked settings.
    pub config: Arc<Config>,
    /// Stored studies.
    pub archive: Archive,
    /// The order queue.
    pub orders: Orders,
    /// The current time.
    pub clock: Clock,
    /// What the configured bundles are, for `/api/v1/models` and readiness.
    pub models: Arc<Models>,
}

/// What is loaded, as told to clients.
#[derive(Debug, Clone, Default)]
pub struct Models {
    /// One per loaded bundle.
    pub bundles: Vec<LoadedBundle>,
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
    pub files: std::collections::BTreeMap<String, String>,
    /// How many concepts its vocabulary knows.
    pub concept_count: usize,
}
