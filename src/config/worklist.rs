//! `[worklist]`: the UPS-RS worklist.

use serde::{Deserialize, Serialize};

/// `[worklist]`: the UPS-RS worklist.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorklistSettings {
    /// Code Value in Scheduled Station Name Code Sequence that addresses us.
    pub station_name: String,
    /// Code Value in Scheduled Station Class Code Sequence that addresses us.
    pub station_class: Option<String>,
    /// Most work items kept.
    pub workitem_count_max: u64,
    /// How long final work items are kept.
    pub retention_hours: u64,
    /// Most event channels open at the same time.
    pub channel_count_max: usize,
}

impl Default for WorklistSettings {
    fn default() -> Self {
        Self {
            station_name: "SEER".into(),
            station_class: None,
            workitem_count_max: 100_000,
            retention_hours: 168,
            channel_count_max: 64,
        }
    }
}
