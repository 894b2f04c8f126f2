//! `kill -9` at any moment leaves a valid bank.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seer::bank::{
    Bank, BankSettings, Episode, EpisodeSource, Evidence, Exposure, Reward, RewardSource,
};
use seer::clock::Clock;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{draft, open, skill};

/// How often the child is killed; `SEER_BANK_KILLS` asks for more.
const KILLS: u32 = 200;
/// Skills of each round.
const SKILLS: u64 = 12;
const FOLDER: &str = "SEER_BANK_KILLED_FOLDER";
const SEED: &str = "SEER_BANK_KILLED_SEED";

/// The child: changes the bank without end and says on standard output what it tries and what was
/// acknowledged. Does nothing when run as a test.
#[test]
fn child_changes_the_bank_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let mut out = std::io::stdout().lock();
    // The harness has begun a line of its own.
    writeln!(out, "\nopening").unwrap();
    let bank = open(Path::new(&folder));
    writeln!(out, "opened").unwrap();
    let mut say = |word: &str, what: &str| {
        writeln!(out, "{word} {what}").unwrap();
        out.flush().unwrap();
    };
    for step in seed.. {
        match step % 5 {
            0 => {
                let next = bank.rounds().unwrap().last().unwrap().number + 1;
                let skills = (0..SKILLS).map(|n| skill(&word(next * 31 + n), "liver")).collect();
                say("try", &format!("publish {next}"));
                let round = bank.publish(draft(bank.active().number(), skills)).unwrap();
                say("done", &format!("publish {}", round.number()));
            }
            1 => {
                let rounds = bank.rounds().unwrap();
                let number = rounds[(step / 5) as usize * 7 % rounds.len()].number;
                say("try", &format!("activate {number}"));
                bank.activate(number, "child").unwrap();
                say("done", &format!("activate {number}"));
            }
            2 | 3 => {
                let episodes: Vec<Episode> = (0..3).map(|_| episode(&bank)).collect();
                let ids: Vec<String> = episodes.iter().map(|e| e.id.to_string()).collect();
                say("try", &format!("episodes {}", ids.join(",")));
                let evidence = episodes.into_iter().map(Evidence::Episode).collect();
                bank.record_evidence(evidence, "child").unwrap();
                say("done", &format!("episodes {}", ids.join(",")));
            }
            _ => {
                let id =
                    bank.evidence(1).unwrap().into_iter().find_map(|evidence| match evidence {
                        Evidence::Episode(episode) => Some(episode.id),
                        Evidence::Reward { .. } => None,
                    });
                let Some(episode) = id else { continue };
                say("try", &format!("reward {episode}"));
                let reward = Reward {
                    value: 0.75,
                    source: RewardSource::Reference,
                    reason: None,
                    at: OffsetDateTime::now_utc(),
                };
                bank.record_evidence(vec![Evidence::Reward { episode, reward }], "child").unwrap();
                say("done", &format!("reward {episode}"));
            }
        }
    }
}

fn word(mut number: u64) -> String {
    let mut word = String::from("q");
    for _ in 0..5 {
        word.push(char::from(b'a' + (number % 23) as u8));
        number /= 23;
    }
    word
}

fn episode(bank: &Bank) -> Episode {
    let round = bank.active();
    let exposures = round.skills.iter().take(2).map(|skill| Exposure {
        skill: skill.id.clone(),
        tag: skill.tag.clone(),
        score: 0.8,
        rank: Some(1),
        withheld: false,
    });
    Episode {
        id: Uuid::now_v7(),
        at: OffsetDateTime::now_utc(),
        source: EpisodeSource::Practice,
        round: round.number(),
        modality: "CT".into(),
        body_part: None,
        exposures: exposures.collect(),
        withhold_rate: 0.25,
        named: None,
        targets: vec!["liver".into()],
        refusal: None,
        reward: None,
    }
}

/// What the child acknowledged, over all its lives.
#[derive(Default)]
struct Known {
    rounds: BTreeSet<u64>,
    /// The last acknowledged activation and what was tried after it.
    active: BTreeSet<u64>,
    episodes: BTreeSet<Uuid>,
    rewarded: BTreeSet<Uuid>,
}

impl Known {
    fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some(how), Some(what), Some(value)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        let number = || value.parse::<u64>().unwrap();
        match (how, what) {
            ("done", "publish") => {
                self.rounds.insert(number());
            }
            ("try", "activate") => {
                self.active.insert(number());
            }
            ("done", "activate") => self.active = BTreeSet::from([number()]),
            ("done", "episodes") => {
                self.episodes.extend(value.split(',').map(|id| id.parse::<Uuid>().unwrap()));
            }
            ("done", "reward") => {
                self.rewarded.insert(value.parse().unwrap());
            }
            _ => {}
        }
    }

    fn check(&mut self, bank: &Bank) {
        let active = bank.active();
        if !self.active.is_empty() {
            assert!(self.active.contains(&active.number()), "{:?}", self.active);
        }
        // What was tried before the kill is settled now.
        self.active = BTreeSet::from([active.number()]);
        let rounds: BTreeSet<u64> = bank.rounds().unwrap().iter().map(|r| r.number).collect();
        assert!(self.rounds.is_subset(&rounds), "a published round is gone");
        let newest = *rounds.last().unwrap();
        assert_eq!(rounds.len() as u64, newest + 1, "numbers have no gaps");
        for number in [active.number(), newest] {
            let round = bank.round(number).unwrap();
            let expected = if number == 0 { 0 } else { SKILLS };
            assert_eq!(round.header.skill_count, expected);
            assert_eq!(round.skills.len() as u64, expected, "round {number} is complete");
        }
        let (mut episodes, mut rewarded) = (BTreeSet::new(), BTreeSet::new());
        bank.each_episode(|episode| {
            episodes.insert(episode.id);
            if episode.reward.is_some() {
                rewarded.insert(episode.id);
            }
        })
        .unwrap();
        assert!(self.episodes.is_subset(&episodes), "an acknowledged episode is gone");
        assert!(self.rewarded.is_subset(&rewarded), "an acknowledged reward is gone");
        assert_eq!(episodes.len() % 3, 0, "three episodes come together or not at all");
        assert_eq!(bank.metrics().episode_count, episodes.len() as u64);
    }
}

fn start(folder: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bank::killed::child_changes_the_bank_until_it_is_killed"])
        .args(["--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the child live for a moment after it began to open the bank, then kills it.
fn live_and_die(folder: &Path, life: u32, known: &mut Known) {
    let mut child = start(folder, u64::from(life));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Some lives end while the bank is opened, most while it is changed.
    let sign = if life.is_multiple_of(8) { "opening" } else { "opened" };
    for line in lines.by_ref() {
        if line.unwrap().trim() == sign {
            break;
        }
    }
    // Moments spread evenly over some milliseconds, the same in every run.
    std::thread::sleep(Duration::from_micros(u64::from(life * 7919 % 25_000)));
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before the kill is still in the pipe; a last line may be cut.
    let said: Vec<String> = lines.map_while(Result::ok).collect();
    said.iter().for_each(|line| known.hear(line));
}

#[test]
fn killed_at_any_moment_the_bank_is_valid_and_has_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let kills = std::env::var("SEER_BANK_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let (mut known, started) = (Known::default(), Instant::now());
    for life in 1..=kills {
        live_and_die(folder.path(), life, &mut known);
        known.check(&open(folder.path()));
    }
    let changes = known.rounds.len() + known.episodes.len() / 3 + known.rewarded.len();
    assert!(changes as u32 > kills / 4, "{changes} changes in {kills} lives prove little");
    check_rebuilt(folder.path(), &mut known);
    let seconds = started.elapsed().as_secs_f64();
    eprintln!("{kills} kills, {changes} acknowledged changes, none lost, {seconds:.1} s");
}

/// The journal alone gives the same bank.
fn check_rebuilt(folder: &Path, known: &mut Known) {
    let bank = open(folder);
    let (rounds, metrics, audit) =
        (bank.rounds().unwrap(), bank.metrics(), bank.audit(100_000).unwrap());
    let evidence = bank.evidence(100_000).unwrap();
    drop(bank);
    let bank = Bank::rebuild(folder, BankSettings::default(), Clock::system()).unwrap();
    known.check(&bank);
    assert_eq!(bank.rounds().unwrap(), rounds);
    assert_eq!(bank.metrics(), metrics);
    assert_eq!(bank.audit(100_000).unwrap(), audit);
    assert_eq!(bank.evidence(100_000).unwrap(), evidence);
}
