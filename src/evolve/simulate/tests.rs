//! Whole rounds on the real bank, with the simulated reasoner: what must be true of any round.

use std::cell::Cell;
use std::path::PathBuf;

use super::*;
use crate::bank::SkillId;
use crate::evolve::report::Report;
use crate::evolve::round::adopt;

fn small() -> SimulationSettings {
    SimulationSettings {
        rounds: 4,
        structures: 8,
        words: 16,
        drift: 1,
        patients: 3,
        groups: 6,
        bank_size_max: 12,
        ..SimulationSettings::default()
    }
}

/// One bank, one world, and as many rounds as a test wants.
struct Bench {
    folder: tempfile::TempDir,
    bank: Bank,
    world: World,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::fixed(began());
        let bank = Bank::open(&folder.path().join("bank"), BankSettings::default(), clock);
        Self { bank: bank.expect("a bank"), world: World::new(&small()), folder }
    }

    fn ledger(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(
        &self,
        name: &str,
        material: &Material,
        settings: &RoundSettings,
        control: &Control,
        notice: &mut dyn FnMut(round::Stage, usize, usize),
    ) -> Result<Report, EvolveError> {
        let mut ledger = Ledger::open(&self.ledger(name))?;
        let inputs = RoundInputs {
            id: Uuid::from_u128(name.bytes().map(u128::from).sum()),
            settings,
            material,
            vocabulary: &self.world.vocabulary,
            bank: &self.bank,
            models: &BTreeMap::new(),
            author: "test",
            at: began(),
        };
        round::run(inputs, &mut Simulated { world: &self.world }, &mut ledger, control, notice)
    }

    fn quietly(&self, name: &str, material: &Material, settings: &RoundSettings) -> Report {
        let control = Control::default();
        self.run(name, material, settings, &control, &mut |_, _, _| {}).expect("a round")
    }

    fn skill_ids(&self) -> Vec<SkillId> {
        self.bank.skills().iter().map(|skill| skill.id.clone()).collect()
    }
}

fn settings(publication: Publication) -> RoundSettings {
    RoundSettings { publication, distiller: Distiller::Rules, ..RoundSettings::default() }
}

#[test]
fn a_round_learns_jargon_and_publishes_only_past_its_gate() {
    let bench = Bench::new();
    let material = bench.world.material(1);
    let dry = bench.quietly("dry", &material, &settings(Publication::DryRun));
    assert_eq!(dry.outcome, Outcome::WouldPublish, "{:#?}", dry.verdict);
    assert_eq!(bench.bank.active().number(), 0);
    assert_eq!(bench.bank.metrics().episode_count, 0, "a dry run leaves no evidence");
    let report = bench.quietly("real", &material, &settings(Publication::Publish));
    assert_eq!(report.outcome, Outcome::Published);
    assert_eq!(report.digest(), dry.digest());
    let verdict = report.verdict.expect("judged");
    assert!(verdict.after.worst > verdict.before.worst, "{verdict:#?}");
    assert!(verdict.after.spread < verdict.before.spread);
    assert_eq!(bench.bank.active().number(), report.published_round.expect("published"));
    assert_eq!(bench.bank.active().skills.len(), report.candidate_size);
    assert_eq!(bench.bank.metrics().episode_count, material_practice(&material));
    // Every skill has evidence on held-out requests, and says only what the world says.
    for skill in report.harvested.iter().filter(|skill| skill.fate == "added") {
        assert!(skill.heldout_offers > 0 && skill.heldout_gain.is_some_and(|g| g.value > 0.0));
        let meaning = bench.world.meanings[&skill.trigger];
        assert_eq!(skill.target, bench.world.names[meaning]);
    }
}

fn material_practice(material: &Material) -> u64 {
    let practice = |request: &&Request| request.split == Some(Split::Practice);
    material.requests.iter().filter(practice).count() as u64
}

#[test]
fn an_offered_round_is_adopted_once_and_only_onto_the_bank_it_was_judged_against() {
    let bench = Bench::new();
    let material = bench.world.material(1);
    let report = bench.quietly("offered", &material, &settings(Publication::Offer));
    assert_eq!(report.outcome, Outcome::Offered);
    assert_eq!(bench.bank.active().number(), 0);
    let mut ledger = Ledger::open(&bench.ledger("offered")).expect("a ledger");
    let number = adopt(&bench.bank, &mut ledger, &report, "admin").expect("adopted");
    assert_eq!(bench.bank.active().number(), number);
    assert_eq!(adopt(&bench.bank, &mut ledger, &report, "admin").expect("again"), number);
    let adopted = bench.bank.skills();
    assert!(adopted.iter().all(|skill| skill.audit.adopted_by == "admin"));
    // A second offer was measured against the empty bank, which is not active any more.
    let other = bench.world.material(2);
    let mut late = bench.quietly("late", &other, &settings(Publication::Offer));
    if late.outcome == Outcome::Offered {
        late.base_round = 0;
        let mut ledger = Ledger::open(&bench.ledger("late")).expect("a ledger");
        let error = adopt(&bench.bank, &mut ledger, &late, "admin").expect_err("moved");
        assert!(matches!(error, EvolveError::BankMoved { measured: 0, .. }), "{error}");
    }
    assert_eq!(bench.bank.active().number(), number);
}

#[test]
fn nothing_harvested_or_a_failed_gate_changes_nothing() {
    let bench = Bench::new();
    let plain = |request: &Request| request.text.contains("structure");
    let mut material = bench.world.material(1);
    material.requests.retain(plain);
    let report = bench.quietly("plain", &material, &settings(Publication::Publish));
    assert_eq!(report.outcome, Outcome::NothingHarvested, "{report:#?}");
    assert!(report.verdict.is_none());
    let mut strict = settings(Publication::Publish);
    strict.gate.objective_gain_min = 0.9;
    let report = bench.quietly("strict", &bench.world.material(1), &strict);
    assert_eq!(report.outcome, Outcome::GateFailed);
    assert!(!report.verdict.expect("judged").failures.is_empty());
    assert_eq!((bench.bank.active().number(), bench.skill_ids().len()), (0, 0));
    let mut ledger = Ledger::open(&bench.ledger("strict")).expect("a ledger");
    let report: Report = ledger.get("report").expect("readable").expect("kept");
    assert!(adopt(&bench.bank, &mut ledger, &report, "admin").is_err());
}

#[test]
fn poisoned_practice_does_not_get_through_whole_or_in_part() {
    // The labels of practice are swapped: all of them, or those of every fourth group.
    for every in [1, 4] {
        let bench = Bench::new();
        let mut material = bench.world.material(1);
        let count = bench.world.names.len() as u32;
        let poisoned = |label: u32| (label - 1).is_multiple_of(every);
        for request in &mut material.requests {
            if request.split == Some(Split::Practice) && poisoned(request.labels[0]) {
                request.labels = vec![request.labels[0] % count + 1];
            }
        }
        let report = bench.quietly("poison", &material, &settings(Publication::Publish));
        if every == 1 {
            assert_ne!(report.outcome, Outcome::Published, "{:#?}", report.harvested);
        }
        for skill in bench.bank.skills() {
            let meaning = bench.world.meanings[&skill.trigger];
            assert_eq!(skill.target, bench.world.names[meaning], "a poisoned skill got through");
        }
    }
}

#[test]
fn a_round_cut_off_anywhere_goes_on_and_ends_the_same() {
    let bench = Bench::new();
    let material = bench.world.material(1);
    let dry = settings(Publication::DryRun);
    let whole = bench.quietly("whole", &material, &dry).digest();
    let text = std::fs::read(bench.ledger("whole")).expect("a ledger");
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines > 50, "{lines}");
    // As a kill leaves it: whole lines, then a torn one.
    for part in 0..8 {
        let length = text.len() * part / 8 + part;
        std::fs::write(bench.ledger("cut"), &text[..length]).expect("cut");
        assert_eq!(bench.quietly("cut", &material, &dry).digest(), whole, "cut at {length}");
    }
    // As a cancellation leaves it, in each stage.
    for stage in [round::Stage::Practice, round::Stage::Rehearsal, round::Stage::Gate] {
        let name = format!("cancelled {stage:?}");
        let control = Control::default();
        let seen = Cell::new(0);
        let stop = control.clone();
        let error = bench.run(&name, &material, &dry, &control, &mut |at, _, _| {
            seen.set(seen.get() + usize::from(at == stage));
            if seen.get() == 3 {
                stop.cancel();
            }
        });
        assert!(error.expect_err("cancelled").is_cancelled());
        assert_eq!(bench.quietly(&name, &material, &dry).digest(), whole, "{stage:?}");
    }
    // Other requests under the same ledger are not the same round.
    let error =
        bench.run("whole", &bench.world.material(2), &dry, &Control::default(), &mut |_, _, _| {});
    assert!(matches!(error, Err(EvolveError::OtherMaterial)));
}

#[test]
fn another_seed_is_another_round_and_the_same_seed_the_same() {
    let bench = Bench::new();
    let material = bench.world.material(1);
    let digest = |name: &str, seed: u64| {
        let settings = RoundSettings { seed, ..settings(Publication::DryRun) };
        bench.quietly(name, &material, &settings).digest()
    };
    assert_eq!(digest("a", 1), digest("b", 1));
    assert_ne!(digest("a", 1), digest("c", 2));
}

#[test]
fn over_rounds_of_drift_the_bank_is_bounded_and_no_adopted_round_is_worse() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = small();
    let simulation = run(&settings, folder.path(), &mut |_| {}).expect("simulated");
    assert_eq!(simulation.rounds.len(), 4);
    assert!(simulation.rounds.iter().filter(|round| round.adopted).count() >= 2);
    for round in &simulation.rounds {
        assert!(round.size <= settings.bank_size_max, "{round:?}");
        if round.adopted {
            assert!(round.objective_after > round.objective_before, "{round:?}");
        }
    }
    let last = simulation.rounds.last().expect("rounds");
    assert!(last.test_worst > last.test_worst_without, "{last:?}");
    let page = crate::evolve::simulation_html(&simulation);
    assert!(page.contains("<svg") && !page.contains("NaN"));
}
