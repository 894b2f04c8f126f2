//! `seer evolve`: rounds of SEER-Loop without a server.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::Ended;
use crate::app;
use crate::clock::Clock;
use crate::config::Config;
use crate::evolve::{
    Distiller, Evolution, ModelHolder, NewRound, Outcome, Publication, Report, RoundSettings,
    RoundSource, RoundView, simulate,
};

/// Runs rounds of SEER-Loop on a suite, or simulates many.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Evolve {
    #[command(subcommand)]
    command: Option<EvolveCommand>,
    /// The suite's folder.
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    suite: Option<PathBuf>,
    /// Change nothing; say what would be published.
    #[arg(long)]
    dry_run: bool,
    /// How many rounds in a row; each starts from the bank that the one before left.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Seed of split, sampling, withholding and intervals.
    #[arg(long)]
    seed: Option<u64>,
    /// Offer candidates that pass for adoption instead of publishing them.
    #[arg(long, conflicts_with = "dry_run")]
    offer: bool,
    /// Word skills by rules alone.
    #[arg(long)]
    rules: bool,
    /// Where reports are copied to, one folder per round.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with a round that was interrupted.
    #[arg(long, value_name = "ID", conflicts_with = "suite")]
    resume: Option<Uuid>,
}

#[derive(Debug, Subcommand)]
enum EvolveCommand {
    /// Many rounds with drifting jargon, real bank and gate, and a simulated reasoner.
    Simulate(Simulate),
}

#[derive(Debug, Args)]
struct Simulate {
    /// Where the report and the plots are written.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many rounds.
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// Seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Evolve {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        if let Some(EvolveCommand::Simulate(simulate)) = self.command {
            return simulate.run();
        }
        let clock = Clock::system();
        let engine = app::engine(config)?;
        let bank = app::bank(config, Some(engine.backbone_bundle()), &clock)?;
        let models: Arc<dyn ModelHolder> = Arc::new(engine);
        let evolution =
            Evolution::idle(app::evolution_settings(config), bank, Some(models), None, clock)?;
        if let Some(id) = self.resume {
            let round = evolution.resume(id)?;
            let report = self.run_round(&evolution, &round)?;
            return self.tell(&report, 1);
        }
        for number in 1..=self.rounds {
            let round = evolution.start(NewRound {
                source: RoundSource::Folder(self.folder()?),
                settings: self.settings(config),
                author: "seer evolve".to_owned(),
            })?;
            let report = self.run_round(&evolution, &round)?;
            self.tell(&report, number)?;
        }
        Ok(Ended::Done)
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        let Some(suite) = &self.suite else { bail!("--suite is missing") };
        suite.canonicalize().with_context(|| format!("cannot use {}", suite.display()))
    }

    fn settings(&self, config: &Config) -> RoundSettings {
        let mut settings = config.evolution.round();
        settings.publication = match (self.dry_run, self.offer) {
            (true, _) => Publication::DryRun,
            (_, true) => Publication::Offer,
            _ => Publication::Publish,
        };
        settings.seed = self.seed.unwrap_or(settings.seed);
        if self.rules {
            settings.distiller = Distiller::Rules;
        }
        settings
    }

    fn run_round(&self, evolution: &Evolution, round: &RoundView) -> anyhow::Result<Report> {
        eprintln!("round {}", round.id);
        let mut showing = Showing::new();
        let report = evolution.run_now(round.id, &mut |round| showing.show(round));
        showing.finish();
        report.with_context(|| format!("go on with: seer evolve --resume {}", round.id))
    }

    fn tell(&self, report: &Report, number: u32) -> anyhow::Result<Ended> {
        let practice = &report.practice;
        println!(
            "practice: {} requests, {} rollouts, mean reward {:.3}, {} lessons",
            practice.requests, practice.rollouts, practice.mean_reward, practice.lessons
        );
        let added = |fate: &str| report.harvested.iter().filter(|skill| skill.fate == fate).count();
        println!(
            "harvested: {} tried, {} added, {} merged; bank {} -> {} skills",
            report.harvested.len(),
            added("added"),
            added("merged"),
            report.base_size,
            report.candidate_size
        );
        if let Some(verdict) = &report.verdict {
            let line = |what: &str, before: f64, after: f64, low: f64, high: f64| {
                let difference = after - before;
                println!(
                    "held-out {what}: {before:.4} -> {after:.4} ({difference:+.4}, 95 % {low:+.4} to {high:+.4})"
                );
            };
            let (before, after) = (&verdict.before, &verdict.after);
            let d = &verdict.mean_difference;
            line("mean Dice", before.mean, after.mean, d.low, d.high);
            let d = &verdict.worst_difference;
            line("worst-case Dice", before.worst, after.worst, d.low, d.high);
            let d = &verdict.spread_difference;
            line("spread", before.spread, after.spread, d.low, d.high);
            let d = &verdict.objective_difference;
            line("objective J", before.objective, after.objective, d.low, d.high);
            if let Some(gain) = &report.pooled_gain {
                println!(
                    "harvested skills, where offered: {:+.4} (95 % {:+.4} to {:+.4})",
                    gain.value, gain.low, gain.high
                );
            }
            for failure in &verdict.failures {
                println!("gate: {failure}");
            }
        }
        println!("outcome: {}", sentence(report));
        if let Some(out) = &self.out {
            let folder = out.join(format!("round-{number}"));
            write(&folder, "report.json", &serde_json::to_string_pretty(report)?)?;
            write(&folder, "report.html", &crate::evolve::html(report))?;
            println!("written to {}", folder.display());
        }
        Ok(Ended::Done)
    }
}

fn sentence(report: &Report) -> String {
    match (report.outcome, report.published_round) {
        (Outcome::NothingHarvested, _) => "nothing harvested; the bank is as it was".to_owned(),
        (Outcome::GateFailed, _) => "gate not passed; the bank is as it was".to_owned(),
        (Outcome::WouldPublish, _) => "passed; a dry run, so the bank is as it was".to_owned(),
        (Outcome::Offered, _) => format!("passed; offered for adoption as {}", report.id),
        (Outcome::Published, Some(number)) => format!("passed; round {number} is active"),
        (Outcome::Published, None) => "passed and published".to_owned(),
    }
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Simulate {
    fn run(self) -> anyhow::Result<Ended> {
        let settings = simulate::SimulationSettings {
            rounds: self.rounds,
            seed: self.seed,
            ..simulate::SimulationSettings::default()
        };
        let folder = tempfile::tempdir()?;
        let simulated = simulate::run(&settings, folder.path(), &mut |row| {
            eprintln!(
                "round {:>3}: {} skills, held-out objective {:.4}, {}",
                row.round,
                row.size,
                row.objective_after,
                if row.adopted { "adopted" } else { "kept as it was" }
            );
        })?;
        write(&self.out, "simulation.json", &serde_json::to_string_pretty(&simulated)?)?;
        write(&self.out, "simulation.html", &crate::evolve::simulation_html(&simulated))?;
        write(&self.out, "simulation.svg", &crate::evolve::simulation_svg(&simulated))?;
        println!("written to {}", self.out.display());
        Ok(Ended::Done)
    }
}

/// A bar on a terminal, a line per stage elsewhere.
struct Showing {
    bar: Option<ProgressBar>,
    last: Option<&'static str>,
}

impl Showing {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1);
            let style = ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} {elapsed}");
            bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
            );
            bar
        });
        Self { bar, last: None }
    }

    fn show(&mut self, round: &RoundView) {
        let Some(stage) = round.stage else { return };
        match &self.bar {
            Some(bar) => {
                bar.set_message(stage.word());
                bar.set_length(round.total as u64);
                bar.set_position(round.done as u64);
            }
            None if self.last != Some(stage.word()) => {
                self.last = Some(stage.word());
                eprintln!("{}: {} to do", stage.word(), round.total);
            }
            None => {}
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
