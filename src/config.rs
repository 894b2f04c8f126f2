//! `config.toml` into checked settings.

/// Checked settings.
#[derive(Debug, Clone, Default)]
pub struct Config {}
