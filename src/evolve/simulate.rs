//! Many rounds with drifting jargon: the real bank, retrieval, distiller, merge, retirement and
//! gate, with a simulated reasoner and simulated anatomy.
//!
//! Every house word means a structure for a while; now and then one dies out, one comes up, and one
//! changes its meaning. The simulated reasoner knows the plain names, guesses or refuses at unknown
//! words, follows a skill that fits most of the time, and is led astray by one that does not.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::EvolveError;
use super::control::Control;
use super::executor::{Ask, Executor, Rollout, Scene, Visit};
use super::ledger::Ledger;
use super::material::Material;
use super::models::named;
use super::report::Outcome;
use super::round::{self, RoundInputs};
use super::settings::{Distiller, Publication, RoundSettings};
use crate::bank::{Bank, BankSettings, RetrievalQuery};
use crate::clock::Clock;
use crate::eval::random::Random;
use crate::eval::{Expect, Mode, Request, Split};
use crate::reason::OfferedSkill;
use crate::runtime::vocabulary::Vocabulary;

/// Settings of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulationSettings {
    /// How many rounds.
    pub rounds: usize,
    /// Seed of everything.
    pub seed: u64,
    /// Structures that can be segmented.
    pub structures: usize,
    /// House words in use at a time.
    pub words: usize,
    /// House words that die out, come up, and change their meaning in a round, each.
    pub drift: usize,
    /// Patients in practice and held out, each, in a round; every round has new ones.
    pub patients: usize,
    /// Groups of phrasings of one patient.
    pub groups: usize,
    /// Most skills of the bank.
    pub bank_size_max: usize,
}

impl Default for SimulationSettings {
    fn default() -> Self {
        Self {
            rounds: 50,
            seed: 0,
            structures: 40,
            words: 120,
            drift: 4,
            patients: 5,
            groups: 24,
            bank_size_max: 160,
        }
    }
}

/// One round of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulatedRound {
    /// Counts from 1.
    pub round: usize,
    /// Skills of the bank afterwards: `K_t`.
    pub size: usize,
    /// Whether the candidate was published.
    pub adopted: bool,
    /// Skills that were added or merged.
    pub harvested: usize,
    /// Skills that were retired.
    pub retired: usize,
    /// J on the gate's held-out requests before.
    pub objective_before: f64,
    /// J on them with the bank as the round left it.
    pub objective_after: f64,
    /// Mean Dice afterwards, on requests that neither practice nor gate saw.
    pub test_mean: f64,
    /// Worst-case Dice afterwards, on the same.
    pub test_worst: f64,
    /// Mean Dice on the same requests without any skill.
    pub test_mean_without: f64,
    /// Worst-case Dice on the same without any skill.
    pub test_worst_without: f64,
    /// Mean time of a retrieval from the bank, microseconds; not part of what is repeated.
    pub retrieval_us: f64,
}

/// A simulation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// What it was told.
    pub settings: SimulationSettings,
    /// Its rounds.
    pub rounds: Vec<SimulatedRound>,
}

/// Simulates, with a bank in `folder`; `watch` sees every round.
///
/// # Errors
/// When the disk fails; a fault of the rooms it runs on.
pub fn run(
    settings: &SimulationSettings,
    folder: &Path,
    watch: &mut dyn FnMut(&SimulatedRound),
) -> Result<Simulation, EvolveError> {
    let clock = Clock::fixed(began());
    let bank = Bank::open(&folder.join("bank"), BankSettings::default(), clock)?;
    let mut world = World::new(settings);
    let mut rounds = Vec::new();
    for number in 1..=settings.rounds {
        if number > 1 {
            world.drift(number);
        }
        let row = simulate_round(settings, folder, &bank, &world, number)?;
        watch(&row);
        rounds.push(row);
    }
    Ok(Simulation { settings: settings.clone(), rounds })
}

/// Simulated time begins here, so that ids repeat.
fn began() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::days(19_000)
}

fn simulate_round(
    settings: &SimulationSettings,
    folder: &Path,
    bank: &Bank,
    world: &World,
    number: usize,
) -> Result<SimulatedRound, EvolveError> {
    let material = world.material(number);
    let round_settings = RoundSettings {
        seed: settings.seed.wrapping_add(number as u64),
        distiller: Distiller::Rules,
        bank_size_max: settings.bank_size_max,
        publication: Publication::Publish,
        ..RoundSettings::default()
    };
    let path = folder.join(format!("round-{number}.jsonl"));
    let report = {
        let mut ledger = Ledger::open(&path)?;
        let mut random = Random::of(settings.seed, &["round id", &number.to_string()]);
        let inputs = RoundInputs {
            id: Uuid::from_u64_pair(random.bits(), random.bits()),
            settings: &round_settings,
            material: &material,
            vocabulary: &world.vocabulary,
            bank,
            models: &BTreeMap::new(),
            author: "simulation",
            at: began() + time::Duration::seconds(number as i64),
        };
        let mut executor = Simulated { world };
        round::run(inputs, &mut executor, &mut ledger, &Control::default(), &mut |_, _, _| {})?
    };
    // One ledger at a time is enough.
    std::fs::remove_file(&path).map_err(EvolveError::io(&path))?;
    let adopted = report.outcome == Outcome::Published;
    let standing = |after: bool| {
        report.verdict.as_ref().map_or(f64::NAN, |verdict| {
            if after { verdict.after.objective } else { verdict.before.objective }
        })
    };
    let (test_mean, test_worst, retrieval_us) = world.test(bank, number, true);
    let (test_mean_without, test_worst_without, _) = world.test(bank, number, false);
    Ok(SimulatedRound {
        round: number,
        size: bank.active().skills.len(),
        adopted,
        harvested: report
            .harvested
            .iter()
            .filter(|skill| adopted && matches!(&skill.fate[..], "added" | "merged"))
            .count(),
        retired: if adopted { report.retired.len() } else { 0 },
        objective_before: standing(false),
        objective_after: standing(adopted),
        test_mean,
        test_worst,
        test_mean_without,
        test_worst_without,
        retrieval_us,
    })
}

/// What words mean, now.
struct World {
    settings: SimulationSettings,
    vocabulary: Vocabulary,
    names: Vec<String>,
    /// House word → structure.
    meanings: BTreeMap<String, usize>,
    /// How well the backbone draws each structure.
    quality: Vec<f64>,
    random: Random,
    coined: usize,
}

impl World {
    fn new(settings: &SimulationSettings) -> Self {
        let mut random = Random::of(settings.seed, &["world"]);
        let names: Vec<String> =
            (0..settings.structures).map(|n| format!("structure {}", letters(n))).collect();
        let quality = names.iter().map(|_| 0.5 + 0.4 * random.unit()).collect();
        let vocabulary = vocabulary(&names);
        let meanings = BTreeMap::new();
        let mut world = Self {
            settings: settings.clone(),
            vocabulary,
            names,
            meanings,
            quality,
            random,
            coined: 0,
        };
        while world.meanings.len() < settings.words {
            world.coin();
        }
        world
    }

    /// A new house word for some structure: five letters that no other word has in that order.
    fn coin(&mut self) {
        self.coined += 1;
        let mut word = String::from("q");
        let mut rest = self.coined;
        for _ in 0..3 {
            word.push(char::from(b'a' + (rest % 20) as u8));
            word.push(char::from(b'a' + (self.random.below(20)) as u8));
            rest /= 20;
        }
        let structure = self.random.below(self.names.len());
        self.meanings.insert(word, structure);
    }

    /// Some words die out, some come up, some change their meaning.
    fn drift(&mut self, _round: usize) {
        for _ in 0..self.settings.drift {
            let words: Vec<String> = self.meanings.keys().cloned().collect();
            let dying = self.random.pick(&words).clone();
            self.meanings.remove(&dying);
            self.coin();
            let words: Vec<String> = self.meanings.keys().cloned().collect();
            let changing = self.random.pick(&words).clone();
            let meaning = self.random.below(self.names.len());
            self.meanings.insert(changing, meaning);
        }
    }

    fn material(&self, round: usize) -> Material {
        let mut requests = Vec::new();
        for part in [Split::Practice, Split::Heldout] {
            for patient in 0..self.settings.patients {
                let word = if part == Split::Practice { "practice" } else { "heldout" };
                let case = format!("{word} {round} {patient}");
                requests.extend(self.requests_of(&case, Some(part)));
            }
        }
        Material { name: format!("simulated round {round}"), requests, patients: BTreeMap::new() }
    }

    /// Groups of one patient: a plain wording, and wordings with house words for the same structure.
    fn requests_of(&self, case: &str, split: Option<Split>) -> Vec<Request> {
        const CARRIERS: [&str; 6] =
            ["segment {}", "{} please", "contour {} today", "need {}", "{}", "outline the {} pls"];
        let mut random = Random::of(self.settings.seed, &["requests", case]);
        let mut by_structure: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
        for (word, structure) in &self.meanings {
            by_structure.entry(*structure).or_default().push(word);
        }
        let structures: Vec<usize> = by_structure.keys().copied().collect();
        let mut requests = Vec::new();
        for _ in 0..self.settings.groups {
            let structure = *random.pick(&structures);
            let name = &self.names[structure];
            let mut terms = vec![name.as_str()];
            terms.extend(&by_structure[&structure]);
            for term in terms {
                requests.push(Request {
                    case: case.to_owned(),
                    group: name.clone(),
                    mode: Mode::Free,
                    style: "clinical_request".to_owned(),
                    text: random.pick(&CARRIERS).replace("{}", term),
                    target: name.clone(),
                    labels: vec![structure as u32 + 1],
                    split,
                    expect: Expect::Segment,
                    reason: None,
                });
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        requests.retain(|request| seen.insert((request.group.clone(), request.text.clone())));
        requests
    }

    /// What the simulated reasoner answers.
    fn answer(
        &self,
        text: &str,
        skills: &[OfferedSkill],
        random: &mut Random,
    ) -> (Option<usize>, Option<usize>) {
        for (place, skill) in skills.iter().enumerate() {
            let fits = quoted(&skill.content).is_some_and(|words| text.contains(words));
            // A fitting skill is followed nearly always, another one sometimes.
            if random.chance(if fits { 0.97 } else { 0.15 }) {
                let target =
                    self.names.iter().position(|name| skill.content.contains(name.as_str()));
                return (target, Some(place));
            }
        }
        if let Some(known) = self.names.iter().position(|name| text.contains(name.as_str())) {
            let slips = random.chance(0.03);
            return (if slips { None } else { Some(known) }, None);
        }
        let guesses = random.chance(0.4);
        (guesses.then(|| random.below(self.names.len())), None)
    }

    fn rollout(&self, request: &Request, skills: &[OfferedSkill], random: &mut Random) -> Rollout {
        let (target, place) = self.answer(&request.text, skills, random);
        let right = target.is_some_and(|target| request.labels == [target as u32 + 1]);
        let dice = match target {
            Some(target) if right => self.dice(&request.case, target),
            _ => 0.0,
        };
        let rationale =
            place.map(|place| format!("Skill {}: it fits", place + 1)).unwrap_or_default();
        let name = target.map(|target| self.names[target].clone());
        Rollout {
            answer: name
                .as_ref()
                .map_or("Reject: ambiguous.".to_owned(), |n| format!("Segment the {n}.")),
            refusal: name.is_none().then(|| "ambiguous".to_owned()),
            targets: name.into_iter().collect(),
            dice,
            format_ok: true,
            named: named(&rationale, skills),
        }
    }

    /// How well the backbone draws a structure in a case.
    fn dice(&self, case: &str, structure: usize) -> f64 {
        let mut random = Random::of(self.settings.seed, &["dice", case, &structure.to_string()]);
        (self.quality[structure] + 0.1 * (random.unit() - 0.5)).clamp(0.0, 1.0)
    }

    /// Mean and worst-case Dice on patients of the round that nobody else sees, and the mean time
    /// of a retrieval.
    fn test(&self, bank: &Bank, round: usize, with_skills: bool) -> (f64, f64, f64) {
        let mut groups: BTreeMap<(String, String), Vec<f64>> = BTreeMap::new();
        let (mut spent, mut asked) = (0.0, 0_usize);
        for patient in 0..self.settings.patients {
            let case = format!("test {round} {patient}");
            for request in self.requests_of(&case, None) {
                let query = RetrievalQuery {
                    text: request.text.clone(),
                    modality: "MR".to_owned(),
                    ..RetrievalQuery::default()
                };
                let started = Instant::now();
                let offers = if with_skills { bank.retrieve(&query) } else { Vec::new() };
                spent += started.elapsed().as_secs_f64() * 1e6;
                asked += 1;
                let skills: Vec<OfferedSkill> =
                    offers.iter().map(|offer| offer.for_prompt()).collect();
                let mut random = Random::of(self.settings.seed, &["test", &case, &request.text]);
                let dice = self.rollout(&request, &skills, &mut random).dice;
                groups.entry((case.clone(), request.group)).or_default().push(dice);
            }
        }
        let count = groups.len().max(1) as f64;
        let mean = |dice: &Vec<f64>| dice.iter().sum::<f64>() / dice.len() as f64;
        let worst = |dice: &Vec<f64>| dice.iter().copied().fold(f64::INFINITY, f64::min);
        (
            groups.values().map(mean).sum::<f64>() / count,
            groups.values().map(worst).sum::<f64>() / count,
            spent / asked.max(1) as f64,
        )
    }
}

/// The words that a skill's content explains, in either form of the prompt.
fn quoted(content: &str) -> Option<&str> {
    let means = content.strip_prefix('"').and_then(|rest| rest.split_once("\" means "));
    means.or_else(|| content.split_once("->")).map(|(words, _)| words)
}

fn letters(number: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    format!("{}{}xyz", letter(number / 26), letter(number))
}

fn vocabulary(names: &[String]) -> Vocabulary {
    use crate::runtime::vocabulary::{Code, Concept, Laterality};
    let code = |value: &str| Code {
        value: value.to_owned(),
        scheme: "99SIM".to_owned(),
        meaning: value.to_owned(),
    };
    let concept = |name: &String| Concept {
        name: name.clone(),
        synonyms: Vec::new(),
        laterality: Laterality::None,
        prompt: name.clone(),
        category: code("structure"),
        property_type: code(name),
        modifier: None,
        cielab: [0; 3],
        body_regions: Vec::new(),
        modalities: Vec::new(),
        parts: Vec::new(),
        caution: None,
    };
    Vocabulary { concepts: names.iter().map(concept).collect(), absent: Vec::new() }
}

struct Simulated<'w> {
    world: &'w World,
}

impl Executor for Simulated<'_> {
    fn visit(
        &mut self,
        _case: &str,
        _requests: &[&Request],
        work: &mut dyn FnMut(&mut dyn Visit) -> Result<(), EvolveError>,
    ) -> Result<(), EvolveError> {
        work(self)
    }

    fn write(&mut self, _instruction: &str) -> Result<Option<String>, EvolveError> {
        Ok(None)
    }
}

impl Visit for Simulated<'_> {
    fn scene(&self) -> Scene {
        Scene { modality: "MR".to_owned(), body_part: String::new() }
    }

    fn execute(&mut self, ask: &Ask<'_>) -> Result<Vec<Rollout>, EvolveError> {
        let (count, seed) = ask.sampling.map_or((1, 0), |sampling| (sampling.count, sampling.seed));
        let rollouts = (0..count).map(|index| {
            let at = format!("{seed} {index}");
            let names = ["answer", &ask.request.case, &ask.request.text, &at];
            let mut random = Random::of(self.world.settings.seed, &names);
            self.world.rollout(ask.request, ask.skills, &mut random)
        });
        Ok(rollouts.collect())
    }

    fn direct(&mut self, request: &Request) -> Result<f64, EvolveError> {
        let known = self.world.names.iter().position(|name| *name == request.text);
        Ok(known.map_or(0.0, |structure| self.world.dice(&request.case, structure)))
    }
}

#[cfg(test)]
mod tests;
