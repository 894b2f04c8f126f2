//! `seer pacs`: the other nodes of the configuration.

use std::sync::Arc;
use std::time::Instant;

use clap::Subcommand;

use super::Ended;
use crate::archive::Archive;
use crate::config::Config;
use crate::pacs::{Pacs as Nodes, PacsOptions};
use crate::telemetry::error_chain;

#[derive(Debug, Subcommand)]
pub(super) enum Pacs {
    /// Lists the configured nodes.
    List,
    /// Asks a node whether it is there: C-ECHO, or a search over DICOMweb.
    Echo {
        /// The node's name.
        node: String,
    },
}

impl Pacs {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let (nodes, _folder) = open(config)?;
        match self {
            Self::List => {
                for node in nodes.nodes() {
                    println!("{:16} {}", node.name, node.protocol);
                }
            }
            Self::Echo { node } => println!("{node} {}", echo(&nodes, &node)?),
        }
        Ok(Ended::Done)
    }
}

/// Opens the nodes as a client. What is stored here is left to a server that may be running: the
/// archive is an empty one that goes away with the folder.
pub(super) fn open(config: &Config) -> anyhow::Result<(Nodes, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let nodes = Nodes::without_port(PacsOptions {
        settings: config.pacs.clone(),
        archive: Archive::open(folder.path(), config.dicom.limits())?,
        instance_size_bytes_max: config.dicom.instance_size_bytes_max,
        arrivals: Arc::new(|_| true),
    })?;
    Ok((nodes, folder))
}

/// Asks a node; says how long it took.
pub(super) fn echo(nodes: &Nodes, node: &str) -> anyhow::Result<String> {
    let start = Instant::now();
    match nodes.echo(node) {
        Ok(()) => Ok(format!("answered in {} ms", start.elapsed().as_millis())),
        Err(error) => anyhow::bail!("{}", error_chain(&error)),
    }
}
