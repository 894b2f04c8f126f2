//! `seer suite`: data sets into suites.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::Ended;
use super::progress::CountProgress;
use crate::config::Config;
use crate::eval::ask::{self, AskSettings};
use crate::eval::readers::{self, ImportSettings, Layout};
use crate::runtime::Bundle;
use crate::threads::Progress;

/// Makes and describes suites.
#[derive(Debug, Subcommand)]
pub(super) enum Suite {
    /// Turns a public data set, in the folders in which it comes, into a suite.
    Import(Import),
    /// Words requests about the cases of a suite, from the names of their labels.
    Ask(Ask),
    /// Says what a suite holds.
    Show {
        /// Folder of the suite.
        suite: PathBuf,
    },
}

/// Turns a public data set into a suite.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// brainmetshare, pengwin, brats2021, brats2024, isles2022, flare22 or hvsmr2.
    #[arg(long)]
    layout: String,
    /// Folder of the data set.
    data: PathBuf,
    /// Folder for the suite.
    #[arg(long)]
    out: PathBuf,
    /// The sequence that becomes the image, for example flair; the usual one without it.
    #[arg(long)]
    sequence: Option<String>,
    /// Most cases.
    #[arg(long)]
    cases: Option<usize>,
    /// Free wordings of each target.
    #[arg(long, default_value_t = 8)]
    wordings: usize,
    /// Requests to be refused, for each case.
    #[arg(long, default_value_t = 6)]
    rejections: usize,
    /// Share of patients that is held out.
    #[arg(long, default_value_t = 0.5)]
    heldout: f64,
    /// Seed of wordings and split.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Words requests about the cases of a suite.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// Folder of the suite; its requests.jsonl is replaced.
    suite: PathBuf,
    /// Free wordings of each target.
    #[arg(long, default_value_t = 7)]
    wordings: usize,
    /// Requests to be refused, for each case.
    #[arg(long, default_value_t = 8)]
    rejections: usize,
    /// Most targets of a case, drawn where it has more.
    #[arg(long, default_value_t = 10)]
    targets: usize,
    /// Seed of wordings and draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Ask {
    fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let bundle = Bundle::open(&config.models.folder.join(&config.models.backbone))?;
        let settings = AskSettings {
            wordings: self.wordings,
            rejections: self.rejections,
            target_count_max: self.targets,
            seed: self.seed,
        };
        let (bar, progress) = bar("Wording");
        let count = ask::ask(&self.suite, bundle.vocabulary(), &settings, &progress);
        bar.finish();
        println!("{} requests written to {}", count?, self.suite.display());
        Ok(Ended::Done)
    }
}

/// A bar and the progress that it shows.
fn bar(name: &'static str) -> (Arc<CountProgress>, Progress) {
    let bar = Arc::new(CountProgress::new(name));
    let showing = Arc::clone(&bar);
    (bar, Progress::new(move |done, total| showing.show(done, total)))
}

impl Suite {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        match self {
            Self::Import(import) => import.run(config),
            Self::Ask(ask) => ask.run(config),
            Self::Show { suite } => show(&suite, config),
        }
    }
}

impl Import {
    fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let layout = Layout::parse(&self.layout).with_context(|| {
            let words = Layout::ALL.map(Layout::word).join(", ");
            format!("layout {:?} is none of {words}", self.layout)
        })?;
        anyhow::ensure!(
            (0.0..=1.0).contains(&self.heldout),
            "heldout {} is no share",
            self.heldout
        );
        let bundle = Bundle::open(&config.models.folder.join(&config.models.backbone))?;
        let settings = ImportSettings {
            sequence: self.sequence,
            case_count_max: self.cases,
            wordings: self.wordings,
            rejections: self.rejections,
            heldout_share: self.heldout,
            seed: self.seed,
        };
        let (bar, progress) = bar("Importing");
        let vocabulary = bundle.vocabulary();
        let imported =
            readers::import(layout, &self.data, &self.out, vocabulary, &settings, &progress);
        bar.finish();
        let imported = imported?;
        println!(
            "{} cases and {} requests written to {}",
            imported.case_count,
            imported.request_count,
            self.out.display()
        );
        Ok(Ended::Done)
    }
}

fn show(folder: &std::path::Path, config: &Config) -> anyhow::Result<Ended> {
    let suite = super::eval::open(folder, config)?;
    let facts = suite.facts();
    println!("{}: {} ({})", facts.name, facts.source, facts.licence);
    let groups = suite.groups();
    println!("{} requests in {} groups", suite.requests().len(), groups.len());
    for case in suite.case_names() {
        let count = groups.iter().filter(|group| group.case == case).count();
        println!("  {case}: {count} groups");
    }
    Ok(Ended::Done)
}
