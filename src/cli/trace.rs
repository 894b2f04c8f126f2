//! `seer trace build|review`: SEER-Trace from a suite, and an expert's marks on it.

mod model;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::Ended;
use super::progress::CountProgress;
use crate::config::Config;
use crate::eval::trace::{self, Rephraser, TraceMaker, TraceSettings};
use crate::orders::write_whole;
use crate::reason::prompt::Prompter;
use crate::runtime::Bundle;
use crate::threads::Progress;

/// Makes and reviews training traces.
#[derive(Debug, Subcommand)]
pub(super) enum Trace {
    /// Makes views, requests, evidence, rationales, answers and skill tags from a suite.
    Build(Build),
    /// Reads an expert's marks and leaves out what was marked wrong.
    Review(Review),
}

/// Makes training traces from a suite.
#[derive(Debug, Args)]
pub(super) struct Build {
    /// Folder of the suite.
    #[arg(long)]
    suite: PathBuf,
    /// Folder for the traces.
    #[arg(long)]
    out: PathBuf,
    /// Wordings of each target.
    #[arg(long, default_value_t = 14)]
    wordings: usize,
    /// Requests to be refused, for each case.
    #[arg(long, default_value_t = 14)]
    rejections: usize,
    /// Requests for two targets, for each case.
    #[arg(long, default_value_t = 4)]
    pairs: usize,
    /// Share of tuples for an expert's review.
    #[arg(long, default_value_t = 0.05)]
    review: f64,
    /// Share of patients held out, where the suite does not say.
    #[arg(long, default_value_t = 0.2)]
    heldout: f64,
    /// Seed of everything.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Base address of an OpenAI-compatible server that words requests as well, for example
    /// http://127.0.0.1:8000/v1; it is sent names of structures and invented requests, nothing of
    /// a study. SEER_REPHRASE_KEY holds its key, if it wants one.
    #[arg(long, requires = "rephrase_model")]
    rephrase_url: Option<String>,
    /// The model to ask there.
    #[arg(long)]
    rephrase_model: Option<String>,
    /// Share of targets that the model is asked about.
    #[arg(long, default_value_t = 0.3)]
    rephrase_share: f64,
}

/// Reads an expert's marks.
#[derive(Debug, Args)]
pub(super) struct Review {
    /// Folder of the traces.
    #[arg(long)]
    out: PathBuf,
    /// marks.csv as the page saves it, or review.csv with its column verdict filled in.
    #[arg(long)]
    marks: PathBuf,
}

impl Trace {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        match self {
            Self::Build(build) => build.run(config),
            Self::Review(review) => review.run(config),
        }
    }
}

/// Hands the maker of the configured bundle to `work`.
fn with_maker<T>(
    config: &Config,
    settings: TraceSettings,
    rephraser: Option<Rephraser<'_>>,
    work: impl FnOnce(&TraceMaker<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let reasoner = Bundle::open(&config.models.folder.join(&config.models.reasoner))?;
    let backbone = Bundle::open(&config.models.folder.join(&config.models.backbone))?;
    let manifest = reasoner.reasoner()?;
    let prompter = Prompter::load(&reasoner, manifest)?;
    work(&TraceMaker {
        vocabulary: backbone.vocabulary(),
        view_plan: &manifest.view_plan,
        prompter: &prompter,
        settings,
        rephraser,
    })
}

impl Build {
    fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let suite = super::eval::open(&self.suite, config)?;
        let settings = TraceSettings {
            wordings: self.wordings,
            rejections: self.rejections,
            pairs: self.pairs,
            review_share: self.review,
            heldout_share: self.heldout,
            seed: self.seed,
        };
        let client = match (&self.rephrase_url, &self.rephrase_model) {
            (Some(url), Some(model)) => Some(model::Client::new(url, model)?),
            (_, _) => None,
        };
        let ask = |task: &trace::RephraseTask| match &client {
            Some(client) => client.rephrase(task),
            None => Ok(Vec::new()),
        };
        let rephraser = client.as_ref().map(|client| Rephraser {
            name: client.model().to_owned(),
            share: self.rephrase_share,
            rephrase: &ask,
        });
        let bar = Arc::new(CountProgress::new("Making traces"));
        let showing = Arc::clone(&bar);
        let progress = Progress::new(move |done, total| showing.show(done, total));
        let statistics = with_maker(config, settings, rephraser, |maker| {
            Ok(maker.build(&suite, &self.out, &progress)?)
        });
        bar.finish();
        print!("{}", statistics?.markdown());
        println!("\nwritten to {}", self.out.display());
        Ok(Ended::Done)
    }
}

impl Review {
    fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let tuples = trace::read_tuples(&self.out)?;
        let marks = trace::read_marks(&self.marks)?;
        let review = trace::reviewed(&self.out, &tuples, &marks)?;
        let json = serde_json::to_string_pretty(&review)?;
        write_whole(&self.out.join("review.json"), json.as_bytes())?;
        let kept: Vec<_> =
            tuples.into_iter().filter(|tuple| !review.wrong.contains_key(&tuple.id)).collect();
        let settings = TraceSettings::default();
        with_maker(config, settings, None, |maker| Ok(maker.write(&kept, &self.out)?))?;
        println!("{} of {} sampled tuples are marked", review.marked, review.sampled);
        if let (Some(share), Some([low, high])) = (review.right.value(), review.interval) {
            println!(
                "{:.1} % are right ({:.1} to {:.1} %)",
                100.0 * share,
                100.0 * low,
                100.0 * high
            );
        }
        for (style, share) in &review.styles {
            println!("  {style}: {} of {}", share.count, share.of);
        }
        println!("{} tuples were marked wrong and are left out", review.wrong.len());
        Ok(Ended::Done)
    }
}
