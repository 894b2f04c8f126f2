//! `[pacs]`: other nodes, and what passes between them and this server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, bad};

/// `[pacs]`: other nodes, and what passes between them and this server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PacsSettings {
    /// Our own application entity title.
    pub ae_title: String,
    /// Address and port for DICOM associations; none are taken when absent.
    pub bind: Option<SocketAddr>,
    /// Most associations at the same time.
    pub association_count_max: usize,
    /// Largest P-DATA PDU we take; PS3.8 allows any.
    pub pdu_size_bytes_max: u32,
    /// Longest wait for a connection.
    pub connect_timeout_seconds: u64,
    /// Longest silence of a peer.
    pub idle_timeout_seconds: u64,
    /// PEM file with certificates that HTTPS servers are trusted by, besides the system's.
    pub ca_certificates: Option<PathBuf>,
    /// How often fetching a study is tried before its order fails.
    pub fetch_attempt_count_max: u32,
    /// How often delivering a result is tried before it counts as failed.
    pub delivery_attempt_count_max: u32,
    /// Wait before the second attempt; it doubles with each further one …
    pub retry_seconds: u64,
    /// … up to this.
    pub retry_seconds_max: u64,
    /// Names of the nodes that get every result.
    pub deliver_to: Vec<String>,
    /// Nodes that speak DIMSE.
    pub dimse: Vec<DimseNode>,
    /// Nodes that speak DICOMweb.
    pub dicomweb: Vec<DicomwebNode>,
    /// Orders that arriving studies get by themselves.
    pub rules: Vec<ArrivalRule>,
}

impl Default for PacsSettings {
    fn default() -> Self {
        Self {
            ae_title: "SEER".into(),
            bind: None,
            association_count_max: 16,
            pdu_size_bytes_max: 128 << 10,
            connect_timeout_seconds: 10,
            idle_timeout_seconds: 60,
            ca_certificates: None,
            fetch_attempt_count_max: 5,
            delivery_attempt_count_max: 30,
            retry_seconds: 10,
            retry_seconds_max: 3600,
            deliver_to: Vec::new(),
            dimse: Vec::new(),
            dicomweb: Vec::new(),
            rules: Vec::new(),
        }
    }
}

/// A node that speaks DIMSE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimseNode {
    /// What orders and rules call it.
    pub name: String,
    /// Its application entity title.
    pub ae_title: String,
    /// Its host name or address; associations under its title are taken from there only.
    pub host: String,
    /// The port it listens on.
    pub port: u16,
    /// Whether it may store instances here.
    #[serde(default)]
    pub may_send: bool,
    /// Whether it may search and retrieve what is stored here (C-FIND, C-MOVE, C-GET).
    #[serde(default)]
    pub may_query: bool,
    /// Whether studies are looked for there when an order names no source.
    #[serde(default = "yes")]
    pub fetch: bool,
    /// How its studies are retrieved.
    #[serde(default)]
    pub retrieve: Retrieve,
}

/// How studies are retrieved over DIMSE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retrieve {
    /// C-MOVE: it opens an association to us, so [`PacsSettings::bind`] must be set and it must
    /// know our title and address.
    #[default]
    Move,
    /// C-GET: all on one association.
    Get,
}

/// A node that speaks DICOMweb.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DicomwebNode {
    /// What orders and rules call it.
    pub name: String,
    /// The service root, for example `https://pacs.example/dicom-web`.
    pub url: String,
    /// Token sent as `Authorization: Bearer`.
    #[serde(default)]
    pub bearer: Option<String>,
    /// User name for basic authentication.
    #[serde(default)]
    pub user: Option<String>,
    /// Password for basic authentication.
    #[serde(default)]
    pub password: Option<String>,
    /// Further headers of every request.
    #[serde(default)]
    pub headers: std::collections::BTreeMap<String, String>,
    /// Whether studies are looked for there when an order names no source.
    #[serde(default = "yes")]
    pub fetch: bool,
}

impl std::fmt::Debug for DicomwebNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Tokens, passwords and headers are secrets, and a URL may hold one.
        f.debug_struct("DicomwebNode").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An order that arriving studies get by themselves, once each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrivalRule {
    /// Names the rule; a study gets one order per name.
    pub name: String,
    /// Only studies from these nodes; `stow` is whoever stores over DICOMweb. Any when empty.
    #[serde(default)]
    pub from: Vec<String>,
    /// Only series of this modality.
    #[serde(default)]
    pub modality: Option<String>,
    /// Only series whose Body Part Examined is this, whatever the case.
    #[serde(default)]
    pub body_part: Option<String>,
    /// The text of the order.
    pub text: String,
    /// How long nothing more of the study must have arrived.
    #[serde(default = "quiet_seconds")]
    pub quiet_seconds: u64,
    /// Priority of the order.
    #[serde(default)]
    pub priority: i32,
    /// Nodes that get the result, besides those that get every result.
    #[serde(default)]
    pub deliver_to: Vec<String>,
}

fn yes() -> bool {
    true
}

fn quiet_seconds() -> u64 {
    60
}

impl PacsSettings {
    /// Longest wait for a connection.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout_seconds)
    }

    /// Longest silence of a peer.
    pub fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_seconds)
    }

    /// The names of all nodes, DICOMweb first.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        let dicomweb = self.dicomweb.iter().map(|node| node.name.as_str());
        dicomweb.chain(self.dimse.iter().map(|node| node.name.as_str()))
    }

    /// Refuses what parses but cannot work.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_ae_title("pacs.ae_title", &self.ae_title)?;
        let counts = [
            ("pacs.association_count_max", self.association_count_max as u64),
            ("pacs.connect_timeout_seconds", self.connect_timeout_seconds),
            ("pacs.idle_timeout_seconds", self.idle_timeout_seconds),
            ("pacs.fetch_attempt_count_max", u64::from(self.fetch_attempt_count_max)),
            ("pacs.delivery_attempt_count_max", u64::from(self.delivery_attempt_count_max)),
        ];
        if let Some((key, count)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(bad(key, count, "at least 1"));
        }
        if !(4096..=16 << 20).contains(&self.pdu_size_bytes_max) {
            return Err(bad(
                "pacs.pdu_size_bytes_max",
                self.pdu_size_bytes_max,
                "4096 to 16777216",
            ));
        }
        self.check_nodes()?;
        self.check_rules()
    }

    fn check_nodes(&self) -> Result<(), ConfigError> {
        let mut names = std::collections::BTreeSet::new();
        for name in self.node_names() {
            if name.is_empty() || name == "stow" || !names.insert(name) {
                return Err(bad("pacs node name", name, "used once, not empty and not \"stow\""));
            }
        }
        for node in &self.dimse {
            check_ae_title("pacs.dimse.ae_title", &node.ae_title)?;
        }
        for node in &self.dicomweb {
            let known = node.url.starts_with("http://") || node.url.starts_with("https://");
            if !known {
                let found = format!("{} characters", node.url.len());
                return Err(bad("pacs.dicomweb.url", found, "an http:// or https:// address"));
            }
        }
        Ok(())
    }

    fn check_rules(&self) -> Result<(), ConfigError> {
        let known = |name: &String| self.node_names().any(|node| node == name);
        let rule_targets = self.rules.iter().flat_map(|rule| &rule.deliver_to);
        if let Some(name) = self.deliver_to.iter().chain(rule_targets).find(|name| !known(name)) {
            return Err(bad("pacs deliver_to", name, "the name of a node"));
        }
        let mut names = std::collections::BTreeSet::new();
        for rule in &self.rules {
            if rule.name.is_empty() || !names.insert(&rule.name) {
                return Err(bad("pacs.rules.name", &rule.name, "used once and not empty"));
            }
            if let Some(name) = rule.from.iter().find(|name| *name != "stow" && !known(name)) {
                return Err(bad("pacs.rules.from", name, "the name of a node, or \"stow\""));
            }
            if rule.text.trim().is_empty() {
                return Err(bad("pacs.rules.text", "empty", "the text of an order"));
            }
        }
        Ok(())
    }
}

/// PS3.5 §6.2: 1 to 16 characters, no backslash, no control characters, not only spaces.
fn check_ae_title(key: &'static str, title: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && byte != b'\\';
    let fine = !title.trim().is_empty() && title.len() <= 16 && title.bytes().all(plain);
    match fine {
        true => Ok(()),
        false => Err(bad(key, title, "1 to 16 plain characters")),
    }
}
