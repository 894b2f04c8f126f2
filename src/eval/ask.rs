//! Requests about the cases of a suite, worded by the synthesizer.

use std::collections::BTreeMap;
use std::path::Path;

use super::random::Random;
use super::words::{Scene, Synthesizer};
use super::{EvalError, Expect, Mode, Request, Split, Suite};
use crate::runtime::vocabulary::{Vocabulary, normalise};
use crate::threads::Progress;

/// What is asked about the cases of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct AskSettings {
    /// Free wordings of each target.
    pub wordings: usize,
    /// Requests to be refused, of each case.
    pub rejections: usize,
    /// Most targets of a case, drawn where it has more.
    pub target_count_max: usize,
    /// Seed of wordings and draws.
    pub seed: u64,
}

/// Writes `requests.jsonl` of a suite whose cases name their labels or targets.
///
/// Where the vocabulary has a concept that unites two sides and a case has both, it is asked for as
/// well. The split of a case is kept from its earlier requests or, in `splits`, given by name.
///
/// # Errors
/// When a case cannot be read or the file not be written.
pub fn ask(
    folder: &Path,
    vocabulary: &Vocabulary,
    settings: &AskSettings,
    progress: &Progress,
) -> Result<usize, EvalError> {
    let suite = Suite::open_cases(folder)?;
    let words = Synthesizer::new(vocabulary);
    let names = suite.case_folders()?;
    let mut requests = Vec::new();
    for (index, name) in names.iter().enumerate() {
        progress.report(index as u64, names.len() as u64);
        let case = suite.case(name)?;
        let (mut targets, mut absent) = (Vec::new(), Vec::new());
        for (target, labels) in united(suite.labels_by_name(name)?, vocabulary) {
            if case.packed_reference(&labels)?.voxel_count() > 0 {
                targets.push((target, labels));
            } else {
                absent.push(target);
            }
        }
        let scene = Scene {
            modality: case.volume.modality.code().to_owned(),
            body_regions: case.facts.body_regions.clone(),
            visible: targets.iter().map(|(target, _)| target.clone()).collect(),
            absent,
        };
        let mut random = Random::of(settings.seed, &["targets", name]);
        random.shuffle(&mut targets);
        targets.truncate(settings.target_count_max);
        targets.sort();
        let plan = RequestPlan {
            case: name,
            wordings: settings.wordings,
            rejections: settings.rejections,
            seed: settings.seed,
            split: case.facts.split,
        };
        requests.extend(requests_for(&plan, &targets, &scene, &words));
    }
    progress.report(names.len() as u64, names.len() as u64);
    write_requests(&folder.join("requests.jsonl"), &requests)?;
    Ok(requests.len())
}

/// Targets under their canonical names, and the concepts that unite two of them.
fn united(
    labels: BTreeMap<String, Vec<u32>>,
    vocabulary: &Vocabulary,
) -> BTreeMap<String, Vec<u32>> {
    let words = Synthesizer::new(vocabulary);
    let canonical =
        |name: String| words.concept(&name).map_or(name, |concept| concept.name.clone());
    let mut labels: BTreeMap<String, Vec<u32>> =
        labels.into_iter().map(|(name, values)| (canonical(name), values)).collect();
    for concept in vocabulary.concepts.iter().filter(|concept| !concept.parts.is_empty()) {
        let parts: Option<Vec<&Vec<u32>>> =
            concept.parts.iter().map(|part| labels.get(part)).collect();
        let known = labels.keys().any(|name| normalise(name) == normalise(&concept.name));
        if let (Some(parts), false) = (parts, known) {
            let mut all: Vec<u32> = parts.into_iter().flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            labels.insert(concept.name.clone(), all);
        }
    }
    labels
}

/// Writes requests, one a line.
pub(in crate::eval) fn write_requests(path: &Path, requests: &[Request]) -> Result<(), EvalError> {
    let line = |request| serde_json::to_string(request).expect("requests are plain text") + "\n";
    let text: String = requests.iter().map(line).collect();
    std::fs::write(path, text).map_err(EvalError::io(path))
}

/// What is asked about one case.
pub(in crate::eval) struct RequestPlan<'a> {
    pub case: &'a str,
    pub wordings: usize,
    pub rejections: usize,
    pub seed: u64,
    pub split: Option<Split>,
}

/// Label mode and wordings of every target, and requests to be refused.
pub(in crate::eval) fn requests_for(
    plan: &RequestPlan<'_>,
    targets: &[(String, Vec<u32>)],
    scene: &Scene,
    words: &Synthesizer<'_>,
) -> Vec<Request> {
    let case = plan.case;
    let base = |group: String, style: &str, text: String| Request {
        case: case.to_owned(),
        group,
        mode: Mode::Free,
        style: style.to_owned(),
        text,
        target: String::new(),
        labels: Vec::new(),
        split: plan.split,
        expect: Expect::Segment,
        reason: None,
    };
    let mut requests = Vec::new();
    for (target, labels) in targets {
        let group = format!("{case}/{target}");
        let segment = |request: Request| Request {
            target: target.clone(),
            labels: labels.clone(),
            ..request
        };
        let label = base(group.clone(), "formal_task", target.clone());
        requests.push(segment(Request { mode: Mode::Label, ..label }));
        let mut random = Random::of(plan.seed, &["wordings", case, target]);
        for wording in words.wordings(target, scene, plan.wordings, &mut random) {
            requests.push(segment(base(group.clone(), &wording.style, wording.text)));
        }
    }
    let mut random = Random::of(plan.seed, &["rejections", case]);
    for rejection in words.rejections(scene, plan.rejections, &mut random) {
        let code = rejection.reason.code();
        let group = match rejection.target.as_str() {
            "" => format!("{case}/reject {code}"),
            target => format!("{case}/reject {target}"),
        };
        requests.push(Request {
            expect: Expect::Reject,
            reason: Some(rejection.reason),
            target: rejection.target,
            ..base(group, &rejection.style, rejection.text)
        });
    }
    requests
}
