//! `seer eval`: the paper's tables for a suite.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::Args;

use super::Ended;
use super::progress::CountProgress;
use crate::app;
use crate::bank::{Bank, Offer, RetrievalQuery, Round};
use crate::clock::Clock;
use crate::config::Config;
use crate::eval::runner::SkillContext;
use crate::eval::scores::Bootstrap;
use crate::eval::{
    Configuration, Evaluation, Report, Request, Runner, Settings, Split, Suite, pictures,
};
use crate::orders::{Engine, write_whole};
use crate::reason::OfferedSkill;
use crate::runtime::Bundle;
use crate::threads::Progress;

/// Measures the configured models on a suite.
#[derive(Debug, Args)]
pub(super) struct Eval {
    /// Folder of the suite.
    #[arg(long)]
    suite: PathBuf,
    /// Folder for report.md, report.json, rows.jsonl and pictures; rows found there are kept.
    #[arg(long)]
    out: PathBuf,
    /// Runs every configuration, from the backbone alone to the whole of SEER.
    #[arg(long)]
    ablation: bool,
    /// A configuration to run; may be given several times.
    #[arg(long, value_name = "NAME", conflicts_with = "ablation")]
    configuration: Vec<String>,
    /// Only requests of this part: practice or heldout.
    #[arg(long)]
    split: Option<String>,
    /// Only this case; may be given several times.
    #[arg(long)]
    case: Vec<String>,
    /// Pictures of the best, the median and the worst results, this many of each.
    #[arg(long, default_value_t = 2)]
    pictures: usize,
    /// Resamples of the bootstrap.
    #[arg(long, default_value_t = 1000)]
    resamples: usize,
    /// Seed of the bootstrap.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Eval {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let suite = self.chosen_suite(config)?;
        let configurations = self.configurations()?;
        let engine = app::engine(config)?;
        let bank = configurations
            .contains(&Configuration::Seer)
            .then(|| app::bank(config, Some(engine.backbone_bundle()), &Clock::system()))
            .transpose()?;
        let round = bank.as_ref().map(Bank::active);
        let settings = settings(config, &engine, round.as_deref())?;
        // The round that was active at the beginning serves to the end.
        let skills = |context: SkillContext<'_>| -> Result<Vec<OfferedSkill>, String> {
            let (Some(bank), Some(round)) = (&bank, &round) else { return Ok(Vec::new()) };
            let query = RetrievalQuery {
                text: context.text.to_owned(),
                modality: context.modality.code().to_owned(),
                ..RetrievalQuery::default()
            };
            let offers = bank.retrieve_from(&round.skills, &query);
            Ok(offers.iter().map(Offer::for_prompt).collect())
        };
        let runner = Runner::new(engine.eval_models()).with_skills(&skills);
        let bootstrap = Bootstrap { seed: self.seed, resamples: self.resamples };
        let evaluation = Evaluation {
            suite: &suite,
            runner: &runner,
            configurations: &configurations,
            settings: &settings,
            bootstrap,
        };
        let bar = Arc::new(CountProgress::new("Evaluating"));
        let showing = Arc::clone(&bar);
        let progress = Progress::new(move |done, total| showing.show(done, total));
        let rows = evaluation.run(&self.out, &progress);
        bar.finish();
        let rows = rows?;
        let report = Report::of(suite.facts().clone(), settings.clone(), bootstrap, &rows);
        let mut text = report.markdown();
        if let (Some(last), true) = (report.configurations().last(), self.pictures > 0) {
            let folder = self.out.join("pictures");
            let drawn = pictures::draw(&folder, &suite, &runner, &rows, *last, self.pictures)?;
            text += &format!("## Pictures ({})\n\n", last.word());
            text +=
                "The reference is blue, the mask orange; the patient's right is on the left.\n\n";
            for picture in drawn {
                let pictures::Drawn { file, caption } = picture;
                text += &format!("{caption}\n\n![{caption}](pictures/{file})\n\n");
            }
        }
        self.write(&report, &text)?;
        print!("{}", text.split("## By style").next().unwrap_or_default());
        println!("written to {}", self.out.display());
        Ok(Ended::Done)
    }

    fn write(&self, report: &Report, text: &str) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(report)?;
        write_whole(&self.out.join("report.json"), json.as_bytes())?;
        write_whole(&self.out.join("report.md"), text.as_bytes())?;
        Ok(())
    }

    fn chosen_suite(&self, config: &Config) -> anyhow::Result<Suite> {
        let split = match self.split.as_deref() {
            None => None,
            Some("practice") => Some(Split::Practice),
            Some("heldout") => Some(Split::Heldout),
            Some(other) => bail!("split {other:?} is neither practice nor heldout"),
        };
        let suite = open(&self.suite, config)?;
        let known = suite.case_names();
        if let Some(case) = self.case.iter().find(|case| !known.contains(case)) {
            bail!("no request of the suite asks about case {case:?}");
        }
        let keep = |request: &Request| {
            split.is_none_or(|split| request.split == Some(split))
                && (self.case.is_empty() || self.case.contains(&request.case))
        };
        let suite = suite.with_requests(keep);
        ensure!(!suite.requests().is_empty(), "no request of the suite is to be asked");
        Ok(suite)
    }

    fn configurations(&self) -> anyhow::Result<Vec<Configuration>> {
        if self.ablation {
            return Ok(Configuration::ALL.to_vec());
        }
        if self.configuration.is_empty() {
            return Ok(vec![Configuration::Seer]);
        }
        let of = |word: &String| {
            let known = Configuration::ALL.into_iter().find(|c| c.word() == word);
            known.with_context(|| {
                let words = Configuration::ALL.map(Configuration::word).join(", ");
                format!("configuration {word:?} is none of {words}")
            })
        };
        let mut chosen: Vec<Configuration> =
            self.configuration.iter().map(of).collect::<Result<_, _>>()?;
        chosen.sort();
        chosen.dedup();
        Ok(chosen)
    }
}

/// Opens a suite with the limits of the configuration.
pub(super) fn open(folder: &Path, config: &Config) -> anyhow::Result<Suite> {
    let suite = Suite::open_with(folder, config.dicom.limits());
    suite.with_context(|| format!("cannot open the suite in {}", folder.display()))
}

fn settings(config: &Config, engine: &Engine, round: Option<&Round>) -> anyhow::Result<Settings> {
    let identity = |bundle: &Bundle| {
        let manifest = bundle.manifest();
        let hash = &bundle.manifest_sha256()[..16];
        format!("{} {} ({hash})", manifest.name, manifest.version)
    };
    Ok(Settings {
        reasoner: identity(engine.reasoner_bundle()),
        backbone: identity(engine.backbone_bundle()),
        bank_round: round
            .map(|round| format!("{} ({} skills)", round.number(), round.skills.len())),
        decoding: serde_json::to_string(&config.reasoner)?,
        provider: engine.provider().to_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
