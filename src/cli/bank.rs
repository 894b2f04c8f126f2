//! `seer bank list|show|rounds|activate|export|import|glossary|rebuild`: the bank of the storage
//! folder, while no server uses it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;

use super::Ended;
use crate::bank::{self, Gain, RoundDraft, Skill, SkillId};
use crate::clock::Clock;
use crate::config::Config;
use crate::runtime::Bundle;

/// Who acts, in the audit log.
const ACTOR: &str = "command line";

/// Looks into the bank of skills and changes it.
#[derive(Debug, Subcommand)]
pub(super) enum Bank {
    /// Lists the skills of a round with what they are worth.
    List {
        /// The round; the active one without it.
        #[arg(long)]
        round: Option<u64>,
    },
    /// Shows one skill, its evidence and its gain.
    Show {
        /// Its id, for example seer:4f0c9a1be27d.
        id: String,
    },
    /// Lists all rounds; the active one has a star.
    Rounds,
    /// Makes a round the active one, also an earlier one.
    Activate {
        /// Its number.
        round: u64,
    },
    /// Writes the skills of a round as JSON Lines.
    Export {
        /// The round; the active one without it.
        #[arg(long)]
        round: Option<u64>,
        /// The file; standard output without it.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Publishes the skills of a JSON Lines file, ours or the published SEER's, as a new round.
    Import {
        /// The file.
        file: PathBuf,
        /// Makes the new round the active one.
        #[arg(long)]
        activate: bool,
    },
    /// Publishes what the backbone's vocabulary calls its structures as skills of a new round, so
    /// that misspelled and rare names are explained to the reasoner; structures with a side are
    /// left out.
    Glossary {
        /// Makes the new round the active one.
        #[arg(long)]
        activate: bool,
    },
    /// Builds the database again from the journal and the files of rounds.
    Rebuild,
}

impl Bank {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let folder = config.storage.path.join("bank");
        let settings = config.bank.settings();
        let open = || {
            bank::Bank::open(&folder, settings, Clock::system())
                .with_context(|| format!("cannot open the bank in {}", folder.display()))
        };
        match self {
            Self::List { round } => list(&open()?, round),
            Self::Show { id } => show(&open()?, &id),
            Self::Rounds => rounds(&open()?),
            Self::Activate { round } => {
                let round = open()?.activate(round, ACTOR)?;
                println!("round {} is active, {} skills", round.number(), round.skills.len());
                Ok(())
            }
            Self::Export { round, out } => export(&open()?, round, out),
            Self::Import { file, activate } => import(&open()?, &file, activate),
            Self::Glossary { activate } => {
                let bundle = Bundle::open(&config.models.folder.join(&config.models.backbone))?;
                let skills = bank::glossary(bundle.vocabulary())?;
                let note = format!("glossary of {}", bundle.manifest().name);
                publish(&open()?, skills, &note, activate)
            }
            Self::Rebuild => {
                let bank = bank::Bank::rebuild(&folder, settings, Clock::system())?;
                println!("rebuilt {} rounds", bank.rounds()?.len());
                Ok(())
            }
        }?;
        Ok(Ended::Done)
    }
}

fn list(bank: &bank::Bank, round: Option<u64>) -> anyhow::Result<()> {
    let round = match round {
        Some(number) => bank.round(number)?,
        None => bank.active(),
    };
    for skill in round.skills.iter() {
        let counts = bank.counts(skill);
        let standing = bank.standing(&skill.id);
        let marks = [(standing.pinned, " pinned"), (standing.retired, " retired")];
        let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        println!(
            "{}  {}  {} -> {}  offered {} named {}  gain {}{marks}",
            skill.id,
            skill.tag,
            skill.trigger,
            skill.target,
            counts.offered,
            counts.named,
            in_words(&bank.gain(skill)),
        );
    }
    println!("{} skills in round {}", round.skills.len(), round.number());
    Ok(())
}

fn show(bank: &bank::Bank, id: &str) -> anyhow::Result<()> {
    let skill = bank.skill(&SkillId::parse(id)?)?;
    println!("{}", serde_json::to_string_pretty(skill.as_ref())?);
    let counts = bank.counts(&skill);
    println!("gain {}", in_words(&bank.gain(&skill)));
    println!(
        "offered {}, withheld {}, named {}, helped {}",
        counts.offered, counts.withheld, counts.named, counts.helped
    );
    Ok(())
}

fn in_words(gain: &Gain) -> String {
    let ends = |[low, high]: [f64; 2]| format!("{low:+.3} to {high:+.3}");
    match (gain.delta, gain.interval) {
        (Some(delta), Some(interval)) => {
            format!("{delta:+.3} ({}, n {}+{})", ends(interval), gain.n_with, gain.n_without)
        }
        (Some(delta), None) => format!("{delta:+.3} (n {}+{})", gain.n_with, gain.n_without),
        (None, _) => "unknown".to_owned(),
    }
}

fn rounds(bank: &bank::Bank) -> anyhow::Result<()> {
    let active = bank.active().number();
    for header in bank.rounds()? {
        let star = if header.number == active { "*" } else { " " };
        let (number, count) = (header.number, header.skill_count);
        println!("{star} {number}  {count} skills  by {}  {}", header.author, header.note);
    }
    Ok(())
}

fn export(bank: &bank::Bank, round: Option<u64>, out: Option<PathBuf>) -> anyhow::Result<()> {
    let round = match round {
        Some(number) => bank.round(number)?,
        None => bank.active(),
    };
    let writer: Box<dyn Write> = match &out {
        Some(path) => {
            let file = File::create(path);
            Box::new(file.with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    bank::export_jsonl(round.skills.iter().map(AsRef::as_ref), BufWriter::new(writer))?;
    Ok(())
}

fn import(bank: &bank::Bank, file: &PathBuf, activate: bool) -> anyhow::Result<()> {
    let reader = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let imported = bank::import_jsonl(BufReader::new(reader))?;
    for (line, reason) in &imported.refused {
        println!("line {line} refused: {reason}");
    }
    let note = format!("import of {} skills", imported.skills.len());
    publish(bank, imported.skills, &note, activate)
}

/// Publishes the active round with the skills that it does not have yet.
fn publish(
    bank: &bank::Bank,
    skills: Vec<Skill>,
    note: &str,
    activate: bool,
) -> anyhow::Result<()> {
    let active = bank.active();
    let fresh: Vec<_> =
        skills.into_iter().filter(|skill| active.skill(&skill.id).is_none()).collect();
    if fresh.is_empty() {
        println!("no skill is new");
        return Ok(());
    }
    let added = fresh.len();
    let known = active.skills.iter().map(|skill| skill.as_ref().clone());
    let round = bank.publish(RoundDraft {
        parent: active.number(),
        author: ACTOR.to_owned(),
        report_id: None,
        note: note.to_owned(),
        skills: known.chain(fresh).collect(),
    })?;
    println!("published round {} with {added} new skills", round.number());
    if activate {
        bank.activate(round.number(), ACTOR)?;
        println!("round {} is active", round.number());
    }
    Ok(())
}
