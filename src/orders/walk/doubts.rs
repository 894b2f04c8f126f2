//! What a reader should doubt about a result that is well-formed.

use crate::answer::{Answer, Target};
use crate::error::Finding;
use crate::geometry::VoxelPoint;
use crate::reason::Trace;
use crate::runtime::vocabulary::{Concept, Laterality};
use crate::series::Modality;
use crate::volume::{Mask, Volume};

/// A sided mask with more than this share on the other side of the body is doubtful.
const WRONG_SIDE_SHARE_MAX: f64 = 0.25;

/// A trace whose ending had to be forced.
pub(super) fn of_trace(trace: &Trace) -> Option<Finding> {
    (trace.decoding.finish_reason == "length").then(|| {
        let count = trace.decoding.token_count;
        let message = format!("the trace was cut at {count} tokens and its ending was forced");
        Finding::new("trace_cut", message)
    })
}

/// Targets that the trace names with a probability under `least`.
///
/// With seer-mini a target that is wrong is often one of these and a right one seldom; its card has
/// the shares.
pub(super) fn of_certainty(trace: &Trace, answer: &Answer, least: Option<f64>) -> Vec<Finding> {
    let (Answer::Segment(targets), Some(least)) = (answer, least) else { return Vec::new() };
    let unsure = targets.iter().filter_map(|target| {
        let named = [target.name(), &target.phrase];
        let probability = named.iter().find_map(|name| trace.probability_of(name))?;
        (probability < least).then(|| {
            let name = target.name();
            let message = format!("the reasoner named {name} with probability {probability:.2}");
            Finding::new("target_unsure", message)
        })
    });
    unsure.collect()
}

/// Targets that the vocabulary does not know on this modality, and those it warns of.
pub(super) fn of_answer(answer: &Answer, volume: &Volume) -> Vec<Finding> {
    let Answer::Segment(targets) = answer else { return Vec::new() };
    let concepts = targets.iter().filter_map(|target| target.concept.as_ref());
    concepts
        .flat_map(|concept| {
            let unusual = unusual_modality(concept, volume.modality.code());
            let caution = concept.caution.as_ref().map(|caution| {
                Finding::new("target_caution", format!("{}: {caution}", concept.name))
            });
            unusual.into_iter().chain(caution)
        })
        .collect()
}

fn unusual_modality(concept: &Concept, modality: &str) -> Option<Finding> {
    let known = &concept.modalities;
    (!known.is_empty() && !known.iter().any(|m| m == modality)).then(|| {
        let known = known.join(" and ");
        let message = format!("{} is known on {known}, the series is {modality}", concept.name);
        Finding::new("modality_unusual", message)
    })
}

/// Masks that are empty, or that lie in part on the other side than their target is.
///
/// An empty mask is a result, but one that a reader must not take for a finding of absence. The
/// middle of the body is the mean position of what is not air; where the scan shows one side only
/// it is not the patient's middle, so this is a doubt and no refusal.
pub(super) fn of_masks(volume: &Volume, targets: &[Target], masks: &[Mask]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut middle = None;
    for (target, mask) in targets.iter().zip(masks) {
        let name = target.name();
        if mask.voxel_count() == 0 {
            let message = format!("the backbone marked no voxel for {name}");
            findings.push(Finding::new("empty_mask", message));
            continue;
        }
        let Some(sign) = target.concept.as_ref().and_then(|c| left_sign(c.laterality)) else {
            continue;
        };
        let middle = *middle.get_or_insert_with(|| middle_left_mm(volume));
        let share = share_of(mask, |left_mm| (left_mm - middle) * sign < 0.0);
        if share > WRONG_SIDE_SHARE_MAX {
            let percent = share * 100.0;
            let message =
                format!("{percent:.0} % of the {name} lie on the other side of the scanned body");
            findings.push(Finding::new("side_doubtful", message));
        }
    }
    findings
}

/// The sign of LPS x on a target's side.
fn left_sign(laterality: Laterality) -> Option<f64> {
    match laterality {
        Laterality::Left => Some(1.0),
        Laterality::Right => Some(-1.0),
        Laterality::Both | Laterality::None => None,
    }
}

/// Mean LPS x of the voxels that are not air, in millimetres.
fn middle_left_mm(volume: &Volume) -> f64 {
    let threshold = match volume.modality {
        Modality::Ct => -300.0,
        Modality::Mr | Modality::Other(_) => volume.voxels.mean().unwrap_or(0.0),
    };
    let (mut sum, mut count) = (0.0, 0_usize);
    for ((slice, row, column), value) in volume.voxels.indexed_iter() {
        if *value > threshold {
            let at = VoxelPoint([slice as f64, row as f64, column as f64]);
            sum += volume.geometry.voxel_to_patient().apply(at).0[0];
            count += 1;
        }
    }
    sum / count.max(1) as f64
}

/// The share of a mask's voxels whose LPS x meets a condition.
fn share_of(mask: &Mask, condition: impl Fn(f64) -> bool) -> f64 {
    let (mut met, mut count) = (0_usize, 0_usize);
    for ((slice, row, column), inside) in mask.voxels.indexed_iter() {
        if *inside {
            let at = VoxelPoint([slice as f64, row as f64, column as f64]);
            met += usize::from(condition(mask.geometry.voxel_to_patient().apply(at).0[0]));
            count += 1;
        }
    }
    met as f64 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{PatientPoint, VolumeGeometry};
    use crate::reason::Decoding;
    use crate::runtime::vocabulary::Code;
    use ndarray::Array3;

    fn target(laterality: Laterality) -> Target {
        let code = Code { value: "1".into(), scheme: "SCT".into(), meaning: "lung".into() };
        let concept = Concept {
            name: "lung".into(),
            synonyms: Vec::new(),
            laterality,
            prompt: "lung".into(),
            category: code.clone(),
            property_type: code,
            modifier: None,
            cielab: [0; 3],
            body_regions: Vec::new(),
            modalities: Vec::new(),
            parts: Vec::new(),
            caution: None,
        };
        Target { phrase: "lung".into(), prompt: "lung".into(), concept: Some(concept) }
    }

    #[test]
    fn tells_targets_that_the_trace_was_not_sure_of() {
        let trace = Trace {
            raw: "CT. Lung in view 1.".to_owned(),
            evidence: None,
            rationale: None,
            answer: None,
            format_ok: true,
            decoding: Decoding {
                seed: 0,
                temperature: 0.0,
                prompt_token_count: 1,
                token_count: 3,
                mean_log_probability: -0.3,
                log_probabilities: vec![0.0, 0.6_f32.ln(), 0.9_f32.ln()],
                token_ends: vec![3, 8, 19],
                finish_reason: "stop".to_owned(),
                constrained: true,
            },
        };
        let answer = Answer::Segment(vec![target(Laterality::None)]);
        let found = of_certainty(&trace, &answer, Some(0.7));
        assert_eq!(found[0].code, "target_unsure");
        assert_eq!(found[0].message, "the reasoner named lung with probability 0.60");
        assert_eq!(of_certainty(&trace, &answer, Some(0.5)), []);
        assert_eq!(of_certainty(&trace, &answer, None), []);
    }

    #[test]
    fn what_the_vocabulary_warns_of_is_told() {
        let geometry = VolumeGeometry::from_frames(
            [1, 1, 1],
            PatientPoint([0.0; 3]),
            [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
            [1.0, 1.0],
            [0.0, 0.0, 1.0],
        )
        .expect("a good grid");
        let voxels = Array3::zeros([1, 1, 1]);
        let volume = Volume { geometry, voxels, modality: Modality::Ct };
        let mut lung = target(Laterality::None);
        assert_eq!(of_answer(&Answer::Segment(vec![lung.clone()]), &volume), []);
        let concept = lung.concept.as_mut().expect("it has one");
        concept.caution = Some("Dice 0.2".into());
        concept.modalities = vec!["MR".into()];
        let found = of_answer(&Answer::Segment(vec![lung]), &volume);
        let codes: Vec<&str> = found.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(codes, ["modality_unusual", "target_caution"]);
        assert_eq!(found[1].message, "lung: Dice 0.2");
    }

    #[test]
    fn sided_mask_on_the_other_side_is_doubted() {
        // Columns run to the patient's right; the body is columns 2 to 7, off the grid's middle.
        let geometry = VolumeGeometry::from_frames(
            [2, 3, 14],
            PatientPoint([40.0, 0.0, 0.0]),
            [[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]],
            [1.0, 2.0],
            [0.0, 0.0, 5.0],
        )
        .expect("a good grid");
        let body = |x: usize| (2..=7).contains(&x);
        let voxels =
            Array3::from_shape_fn([2, 3, 14], |(.., x)| if body(x) { 40.0 } else { -1000.0 });
        let volume = Volume { geometry, voxels, modality: Modality::Ct };
        let mask = |columns: std::ops::Range<usize>| Mask {
            geometry,
            voxels: Array3::from_shape_fn([2, 3, 14], |(.., x)| columns.contains(&x)),
        };
        let codes = |laterality, columns| -> Vec<String> {
            of_masks(&volume, &[target(laterality)], &[mask(columns)])
                .into_iter()
                .map(|finding| finding.code)
                .collect()
        };
        assert!(codes(Laterality::Left, 2..5).is_empty());
        assert!(codes(Laterality::Right, 5..8).is_empty());
        assert_eq!(codes(Laterality::Right, 2..5), ["side_doubtful"]);
        assert_eq!(codes(Laterality::Left, 2..8), ["side_doubtful"]);
        assert!(codes(Laterality::Both, 2..8).is_empty());
        assert_eq!(codes(Laterality::Left, 0..0), ["empty_mask"]);
    }
}
