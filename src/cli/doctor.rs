//! `seer doctor`: what this machine has and lacks.

use std::path::Path;
use std::process::Command;

use super::Ended;
use crate::app;
use crate::config::Config;
use crate::orders;
use crate::runtime::{Bundle, Provider, Runtime, RuntimeSettings};
use crate::telemetry::error_chain;

/// One line of the report.
struct Line {
    good: bool,
    what: &'static str,
    found: String,
}

impl Line {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { good: true, what, found: found.into() }
    }

    fn bad(what: &'static str, found: impl Into<String>) -> Self {
        Self { good: false, what, found: found.into() }
    }

    fn of(what: &'static str, found: Result<String, String>) -> Self {
        match found {
            Ok(found) => Self::good(what, found),
            Err(found) => Self::bad(what, found),
        }
    }
}

/// Prints one line per thing; fails when something that serving needs is missing.
pub(super) fn run(config: &Config) -> anyhow::Result<Ended> {
    let mut lines = vec![
        Line::good("server", format!("seer {}", env!("CARGO_PKG_VERSION"))),
        machine(),
        Line::of("python", python()),
    ];
    lines.push(Line::of("onnx runtime", onnx_runtime(config, config.runtime.provider)));
    let bundles = [&config.models.reasoner, &config.models.backbone];
    for name in bundles.into_iter().take(if bundles[0] == bundles[1] { 1 } else { 2 }) {
        lines.push(Line::of("bundle", bundle(&config.models.folder.join(name))));
    }
    lines.extend(nodes(config));
    lines.push(Line::of("storage", storage(&config.storage.path)));
    lines.extend(records(&config.storage.path));
    for line in &lines {
        println!("{} {:13} {}", if line.good { "ok  " } else { "LACK" }, line.what, line.found);
    }
    let lacking = lines.iter().filter(|line| !line.good).count();
    anyhow::ensure!(lacking == 0, "{lacking} of {} things are lacking", lines.len());
    Ok(Ended::Done)
}

fn machine() -> Line {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let memory = memory.map_or("unknown memory".to_owned(), |kib| format!("{} GiB", kib >> 20));
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    Line::good("machine", format!("{os} {arch}, {cores} cores, {memory}"))
}

/// Python is needed by `seer setup` only.
fn python() -> Result<String, String> {
    let output = Command::new("python3").args(["-m", "pip", "--version"]).output();
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        _ => Err("python3 with pip is missing; `seer setup` needs it once".to_owned()),
    }
}

fn onnx_runtime(config: &Config, provider: Provider) -> Result<String, String> {
    let library = app::library(config);
    let runtime = Runtime::open_with(RuntimeSettings { provider, ..app::runtime_settings(config) })
        .map_err(|error| error_chain(&error))?;
    let provider = runtime.provider().name();
    Ok(format!("runs on {provider} ({}; {})", library.display(), runtime.build_info()))
}

fn bundle(folder: &Path) -> Result<String, String> {
    let bundle = Bundle::open(folder).map_err(|error| error_chain(&error))?;
    let manifest = bundle.manifest();
    let size_bytes: u64 = manifest.files.iter().map(|file| file.size_bytes).sum();
    Ok(format!(
        "{} {} ({} files, {:.1} MB, {} concepts, hashes match)",
        manifest.name,
        manifest.version,
        manifest.files.len(),
        size_bytes as f64 / 1e6,
        bundle.vocabulary().concepts.len()
    ))
}

/// One line per configured node.
fn nodes(config: &Config) -> Vec<Line> {
    let (nodes, _folder) = match super::pacs::open(config) {
        Ok(opened) => opened,
        Err(error) => return vec![Line::bad("nodes", format!("{error:#}"))],
    };
    let names = nodes.nodes().into_iter().map(|node| node.name);
    names
        .map(|name| match super::pacs::echo(&nodes, &name) {
            Ok(found) => Line::good("node", format!("{name} {found}")),
            Err(error) => Line::bad("node", format!("{error:#}")),
        })
        .collect()
}

fn storage(path: &Path) -> Result<String, String> {
    std::fs::create_dir_all(path)
        .and_then(|()| tempfile::tempfile_in(path))
        .map(|_| format!("{} is writable", path.display()))
        .map_err(|error| format!("{} is not writable: {error}", path.display()))
}

/// Whether the chain of reasoning records is whole, where there are any.
fn records(path: &Path) -> Option<Line> {
    let database = path.join("orders/orders.sqlite");
    if !database.exists() {
        return None;
    }
    let found = orders::verify_records(&database).map_err(|error| error_chain(&error));
    Some(Line::of(
        "records",
        found.and_then(|chain| match chain.fault {
            None => Ok(format!("{} reasoning records, the chain is whole", chain.record_count)),
            Some(fault) => Err(format!("record {}: {}", fault.sequence, fault.message)),
        }),
    ))
}
