//! The tuples of one case.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::evidence::{Footprints, centre, half, relation, views_in_words};
use super::offers::{self, Lesson};
use super::{RephraseTask, Sight, TraceMaker, Tuple};
use crate::answer::RefusalReason;
use crate::eval::random::Random;
use crate::eval::words::{Scene, Synthesizer, Wording};
use crate::eval::{Case, EvalError, Expect, Split, Suite};
use crate::runtime::vocabulary::{Laterality, normalise};
use crate::threads::Progress;
use crate::view::{self, View};

/// A target of a case, with what the views show of it.
struct Target {
    name: String,
    labels: Vec<u32>,
    sights: Vec<Sight>,
    centre: Option<[f64; 3]>,
}

/// One case with everything that its tuples share.
struct Stage<'a> {
    maker: &'a TraceMaker<'a>,
    words: &'a Synthesizer<'a>,
    case: &'a Case,
    patient: String,
    split: Split,
    scene: Scene,
    images: Vec<String>,
    targets: Vec<Target>,
}

pub(super) fn tuples(
    maker: &TraceMaker<'_>,
    suite: &Suite,
    out: &Path,
    progress: &Progress,
) -> Result<Vec<Tuple>, EvalError> {
    let words = Synthesizer::new(maker.vocabulary);
    let names = suite.case_names();
    let splits = splits(suite, &names, maker)?;
    let mut tuples = Vec::new();
    for (index, name) in names.iter().enumerate() {
        progress.report(index as u64, names.len() as u64);
        let case = suite.case(name)?;
        let stage = set(maker, suite, &case, &words, &splits, out)?;
        tuples.extend(stage.tuples()?);
    }
    progress.report(names.len() as u64, names.len() as u64);
    Ok(tuples)
}

fn patient_of(suite: &Suite, name: &str) -> Result<String, EvalError> {
    Ok(suite.case_facts(name)?.patient.unwrap_or_else(|| name.to_owned()))
}

/// Parts by patient: as the suite's requests say, else drawn.
fn splits(
    suite: &Suite,
    names: &[String],
    maker: &TraceMaker<'_>,
) -> Result<BTreeMap<String, Split>, EvalError> {
    let mut splits = BTreeMap::new();
    for name in names {
        let patient = patient_of(suite, name)?;
        let said = suite.requests().iter().filter(|r| r.case == *name).find_map(|r| r.split);
        let drawn = || {
            let held = Random::of(maker.settings.seed, &["split", &patient])
                .chance(maker.settings.heldout_share);
            if held { Split::Heldout } else { Split::Practice }
        };
        // A patient with one held-out case is held out.
        let split = said.unwrap_or_else(drawn);
        let kept = splits.entry(patient).or_insert(split);
        *kept = (*kept).max(split);
    }
    Ok(splits)
}

fn set<'a>(
    maker: &'a TraceMaker<'a>,
    suite: &Suite,
    case: &'a Case,
    words: &'a Synthesizer<'a>,
    splits: &BTreeMap<String, Split>,
    out: &Path,
) -> Result<Stage<'a>, EvalError> {
    let views = view::render(&case.volume, maker.view_plan)?;
    let images = write_views(&views, &case.name, out)?;
    let footprints = Footprints::of(&views, &case.volume.geometry);
    let (mut targets, mut absent) = (Vec::new(), Vec::new());
    let labels = suite.labels_by_name(&case.name)?;
    for (name, labels) in &labels {
        let mask = case.reference(labels)?;
        if mask.voxel_count() == 0 {
            absent.push(name.clone());
            continue;
        }
        targets.push(Target {
            name: words.concept(name).map_or_else(|| name.clone(), |concept| concept.name.clone()),
            labels: labels.clone(),
            sights: footprints.sights(&views, &mask.voxels),
            centre: centre(&mask),
        });
    }
    let patient = case.facts.patient.clone().unwrap_or_else(|| case.name.clone());
    let split = splits.get(&patient).copied().unwrap_or(Split::Practice);
    let scene = Scene {
        modality: case.volume.modality.code().to_owned(),
        body_regions: regions(case, &targets, words),
        visible: targets.iter().map(|target| target.name.clone()).collect(),
        absent,
    };
    Ok(Stage { maker, words, case, patient, split, scene, images, targets })
}

/// As the case says, else every region that most of its targets belong to.
fn regions(case: &Case, targets: &[Target], words: &Synthesizer<'_>) -> Vec<String> {
    if !case.facts.body_regions.is_empty() {
        return case.facts.body_regions.clone();
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for concept in targets.iter().filter_map(|target| words.concept(&target.name)) {
        for region in &concept.body_regions {
            *counts.entry(region).or_default() += 1;
        }
    }
    let enough = targets.len().div_ceil(2);
    counts.into_iter().filter(|(_, n)| *n >= enough).map(|(region, _)| region.to_owned()).collect()
}

fn write_views(views: &[View], case: &str, out: &Path) -> Result<Vec<String>, EvalError> {
    let folder = out.join("images").join(case);
    std::fs::create_dir_all(&folder).map_err(EvalError::io(&folder))?;
    let mut images = Vec::new();
    for view in views {
        let name = format!("view-{}.png", view.number);
        let path = folder.join(&name);
        std::fs::write(&path, view.png()).map_err(EvalError::io(&path))?;
        images.push(format!("images/{case}/{name}"));
    }
    Ok(images)
}

impl Stage<'_> {
    fn tuples(&self) -> Result<Vec<Tuple>, EvalError> {
        let mut tuples = Vec::new();
        for target in &self.targets {
            let mut random = self.random(&["wordings", &target.name]);
            let count = self.maker.settings.wordings;
            for wording in self.words.wordings(&target.name, &self.scene, count, &mut random) {
                tuples.push(self.segment(&[target], &wording, "synthesizer", &mut random));
            }
            tuples.extend(self.rephrased(target, &mut random)?);
        }
        tuples.extend(self.pairs());
        let mut random = self.random(&["rejections"]);
        let count = self.maker.settings.rejections;
        for rejection in self.words.rejections(&self.scene, count, &mut random) {
            tuples.push(self.reject(&rejection, &mut random));
        }
        Ok(tuples)
    }

    fn random(&self, names: &[&str]) -> Random {
        let names: Vec<&str> =
            ["trace", &self.case.name].into_iter().chain(names.iter().copied()).collect();
        Random::of(self.maker.settings.seed, &names)
    }

    fn pairs(&self) -> Vec<Tuple> {
        let mut random = self.random(&["pairs"]);
        let mut tuples = Vec::new();
        if self.targets.len() < 2 {
            return tuples;
        }
        for _ in 0..self.maker.settings.pairs {
            let (a, b) = (random.pick(&self.targets), random.pick(&self.targets));
            let names = [a.name.as_str(), b.name.as_str()];
            if let Some(wording) = self.words.pair(names, &self.scene, &mut random) {
                tuples.push(self.segment(&[a, b], &wording, "synthesizer", &mut random));
            }
        }
        tuples
    }

    /// Wordings of the language model that pass the checks.
    fn rephrased(&self, target: &Target, random: &mut Random) -> Result<Vec<Tuple>, EvalError> {
        let Some(rephraser) = &self.maker.rephraser else { return Ok(Vec::new()) };
        if !random.chance(rephraser.share) {
            return Ok(Vec::new());
        }
        let examples = self.words.wordings(&target.name, &self.scene, 1, random);
        let Some(example) = examples.into_iter().next() else { return Ok(Vec::new()) };
        let task = RephraseTask {
            target: target.name.clone(),
            style: example.style.clone(),
            example: example.text.clone(),
            count: 4,
        };
        let texts = (rephraser.rephrase)(&task).map_err(|reason| EvalError::Rephrase { reason })?;
        let mut tuples: Vec<Tuple> = Vec::new();
        for text in texts.into_iter().filter(|text| self.is_sound(text, target)) {
            let surface = target.name.clone();
            let wording = Wording { text, surface, ..example.clone() };
            if tuples.iter().all(|old| old.request != wording.text) {
                tuples.push(self.segment(&[target], &wording, &rephraser.name, random));
            }
        }
        Ok(tuples)
    }

    /// A wording of a model is used when it names the target by a phrase that the vocabulary knows,
    /// says no other side, and has no number that could be somebody's.
    fn is_sound(&self, text: &str, target: &Target) -> bool {
        let words = format!(" {} ", normalise(text));
        let says = |phrase: &str| words.contains(&format!(" {} ", normalise(phrase)));
        let (named, other_side) = match self.words.concept(&target.name) {
            Some(concept) => {
                let phrases = std::iter::once(&concept.name).chain(&concept.synonyms);
                let other = match concept.laterality {
                    Laterality::Left => Some("right"),
                    Laterality::Right => Some("left"),
                    Laterality::Both | Laterality::None => None,
                };
                (phrases.into_iter().any(|phrase| says(phrase)), other)
            }
            None => (says(&target.name), None),
        };
        let short = (3..=600).contains(&text.chars().count());
        let digits = text.chars().filter(char::is_ascii_digit).count();
        named && short && digits < 3 && !other_side.is_some_and(says)
    }

    fn segment(
        &self,
        targets: &[&Target],
        wording: &Wording,
        author: &str,
        random: &mut Random,
    ) -> Tuple {
        let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
        let lesson = Lesson {
            tag: wording.tags.first().copied().unwrap_or("PROMPT_NORMALIZE"),
            trigger: &wording.surface,
            target: names[0],
        };
        // A skill names one target; it does not fit a request for two.
        let lesson = (targets.len() == 1).then_some(&lesson);
        let offers = offers::draw(lesson, self.words, &self.scene.visible, random);
        let evidence: Vec<String> = targets.iter().map(|t| self.sight_of(t, random)).collect();
        let listed: Vec<String> = names.iter().map(|name| the(name)).collect();
        let mut labels: Vec<u32> = targets.iter().flat_map(|t| t.labels.iter().copied()).collect();
        labels.sort_unstable();
        labels.dedup();
        let mut rationale =
            format!("the order means {}{}.", listed.join(" and "), self.in_region());
        if let Some(hint) = hint(wording) {
            rationale = format!("{hint} {rationale}");
        }
        if let Some(place) = offers.fitting {
            rationale = format!("Skill {place}: {rationale}");
        }
        self.tuple(Tuple {
            group: format!("{}/{}", self.case.name, names.join("; ")),
            style: wording.style.clone(),
            author: author.to_owned(),
            request: wording.text.clone(),
            target: names.join("; "),
            labels,
            skills: offers.skills,
            evidence: format!("{}{}", self.opening(), evidence.join(" ")),
            rationale,
            answer: format!("Segment {}.", listed.join("; ")),
            tags: wording.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..self.blank(Expect::Segment)
        })
    }

    fn reject(&self, rejection: &crate::eval::words::Rejection, random: &mut Random) -> Tuple {
        let offers = offers::draw(None, self.words, &self.scene.visible, random);
        let region = self.scene.region();
        let asked = the(&rejection.target);
        let (evidence, rationale) = match rejection.reason {
            RefusalReason::OutOfRegion => (
                format!("No view shows {asked}."),
                format!("the order means {asked}, which lies outside the scanned region."),
            ),
            RefusalReason::UnsupportedModality => (
                format!("{asked} cannot be told apart on {}.", self.scene.modality),
                format!("the order means {asked}, which {} does not show.", self.scene.modality),
            ),
            RefusalReason::NotVisible => (
                format!("No view shows {asked}."),
                format!("the order means {asked}, which belongs to the {region} and is not there."),
            ),
            RefusalReason::Ambiguous => (
                String::new(),
                "the order can mean several structures and does not say which.".to_owned(),
            ),
            RefusalReason::NotASegmentationRequest
            | RefusalReason::UnknownTarget
            | RefusalReason::Unspecified => {
                (String::new(), "the order does not ask for a segmentation.".to_owned())
            }
        };
        let code = rejection.reason.code();
        let name = if rejection.target.is_empty() { code } else { &rejection.target };
        self.tuple(Tuple {
            group: format!("{}/reject {name}", self.case.name),
            style: rejection.style.clone(),
            author: "synthesizer".to_owned(),
            request: rejection.text.clone(),
            target: rejection.target.clone(),
            reason: Some(rejection.reason),
            skills: offers.skills,
            evidence: format!("{}{evidence}", self.opening()).trim_end().to_owned(),
            rationale,
            answer: format!("Reject: {code}."),
            tags: rejection.tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..self.blank(Expect::Reject)
        })
    }

    fn blank(&self, expect: Expect) -> Tuple {
        Tuple {
            id: String::new(),
            case: self.case.name.clone(),
            patient: self.patient.clone(),
            group: String::new(),
            split: self.split,
            style: String::new(),
            author: String::new(),
            modality: self.scene.modality.clone(),
            body_regions: self.scene.body_regions.clone(),
            images: self.images.clone(),
            request: String::new(),
            target: String::new(),
            labels: Vec::new(),
            expect,
            reason: None,
            skills: Vec::new(),
            evidence: String::new(),
            rationale: String::new(),
            answer: String::new(),
            tags: Vec::new(),
        }
    }

    fn tuple(&self, tuple: Tuple) -> Tuple {
        let text = serde_json::to_string(&tuple).expect("tuples are plain text");
        let id = format!("trace:{}", hex::encode(&Sha256::digest(text)[..8]));
        Tuple { id, ..tuple }
    }

    fn opening(&self) -> String {
        format!("{} of the {}. ", self.scene.modality, self.scene.region())
    }

    fn in_region(&self) -> String {
        match self.scene.body_regions.is_empty() {
            true => String::new(),
            false => format!(", in the {}", self.scene.region()),
        }
    }

    /// What the views show of a target, and where it lies.
    fn sight_of(&self, target: &Target, random: &mut Random) -> String {
        let name = the(&target.name);
        if target.sights.is_empty() {
            return format!("{name} lies between the views.");
        }
        let mut text = format!("{name} in {}", views_in_words(&target.sights));
        let sided = self.words.concept(&target.name).is_some_and(|concept| {
            matches!(concept.laterality, Laterality::Left | Laterality::Right)
        });
        if let (true, Some(half)) = (sided, half(&target.sights)) {
            text += &format!(", in the {half} of the picture");
        }
        if random.chance(0.4)
            && let Some(relation) = self.relation_of(target, random)
        {
            text += &format!(", {relation}");
        }
        text + "."
    }

    fn relation_of(&self, target: &Target, random: &mut Random) -> Option<String> {
        let kind = |name: &str| self.words.concept(name).map(|c| c.property_type.value.clone());
        let others: Vec<&Target> = self
            .targets
            .iter()
            .filter(|other| kind(&other.name) != kind(&target.name) && !other.sights.is_empty())
            .collect();
        if others.is_empty() {
            return None;
        }
        let other = *random.pick(&others);
        let phrase = relation(target.centre?, other.centre?)?;
        Some(format!("{phrase} {}", the(&other.name)))
    }
}

/// What is peculiar about the wording.
fn hint(wording: &Wording) -> Option<&'static str> {
    match wording.style.as_str() {
        "messy_or_misspelled" if wording.surface != wording.phrase => {
            Some("the order is misspelled;")
        }
        "ambiguous_abbreviation" => Some("the abbreviation is decided by the scan;"),
        "abbr_or_short" if wording.surface != wording.phrase => Some("the order is abbreviated;"),
        "verbose_request" => Some("only one thing in the letter is asked for;"),
        _ => None,
    }
}

fn the(name: &str) -> String {
    if name.starts_with("both ") { name.to_owned() } else { format!("the {name}") }
}
