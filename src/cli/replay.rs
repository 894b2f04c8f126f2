//! `seer replay`: an order again, from its reasoning record.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;

use super::Ended;
use super::progress::WalkProgress;
use super::segment::read_input;
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::orders::{self, ReasoningRecord, Replay};
use crate::threads::Cancel;
use crate::volume::Volume;

/// Runs an order again from its record and says whether the same comes out.
#[derive(Debug, Args)]
pub(super) struct ReplayRecord {
    /// A reasoning record, as `seer segment` writes it or the server returns it.
    record: PathBuf,
    /// The images: a folder or files of the series, or the NIfTI file. Without them, the server's
    /// own archive.
    input: Vec<PathBuf>,
    /// Prints the comparison as JSON.
    #[arg(long)]
    json: bool,
}

impl ReplayRecord {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let text = std::fs::read_to_string(&self.record)
            .with_context(|| format!("cannot read {}", self.record.display()))?;
        let record: ReasoningRecord = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a reasoning record", self.record.display()))?;
        let volume = self.volume(&record, config)?;
        let engine = app::engine(config)?;
        let progress = Arc::new(WalkProgress::new());
        let showing = Arc::clone(&progress);
        let report: orders::Report = Arc::new(move |step, done| showing.show(step, done));
        let replayed = orders::replay(&engine, &record, &volume, &Cancel::new(), &report);
        progress.finish();
        let replayed = replayed.map_err(|error| anyhow::anyhow!("{}", error.sentence()))?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&replayed)?);
        } else {
            tell(&replayed);
        }
        if !replayed.matches {
            bail!("the replay gives another result than the record");
        }
        Ok(Ended::Done)
    }

    fn volume(&self, record: &ReasoningRecord, config: &Config) -> anyhow::Result<Volume> {
        if !self.input.is_empty() {
            let (_, volume, _) = read_input(&self.input, Some(&record.source.modality), config)?;
            return Ok(volume);
        }
        if record.source.series_instance_uid.is_none() {
            bail!("the record is of a file without a Series Instance UID; give the images");
        }
        let archive = app::archive(config, &Clock::system())?;
        orders::volume_of_record(&archive, record)
            .map_err(|error| anyhow::anyhow!("{}", error.sentence()))
    }
}

fn tell(replayed: &Replay) {
    let word = |matches: bool| if matches { "same " } else { "OTHER" };
    println!("{} views", word(replayed.views_match));
    println!("{} trace", word(replayed.trace_matches));
    let answer = &replayed.answer;
    println!("{} answer: {}", word(answer.matches), answer.replayed.as_deref().unwrap_or("none"));
    for segment in &replayed.segments {
        let hash = segment.replayed_sha256.as_deref().unwrap_or("missing");
        println!("{} mask {} ({}): {hash}", word(segment.matches), segment.number, segment.label);
    }
    for difference in &replayed.differences {
        println!("note: {difference}");
    }
}
