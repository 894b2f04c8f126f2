//! Practice and held-out requests, parted by patient.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{EvolveError, Material};
use crate::eval::Split;
use crate::eval::random::Random;

/// Which requests a round learns from and which it is judged by. No patient is on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Parts {
    /// Requests to learn from, as indices into the material.
    pub practice: Vec<usize>,
    /// Requests that judge the candidate.
    pub heldout: Vec<usize>,
    /// Patients to learn from.
    pub practice_patients: Vec<String>,
    /// Patients that judge.
    pub heldout_patients: Vec<String>,
    /// Whether the requests said themselves where they belong.
    pub given: bool,
}

impl Parts {
    /// Parts requests by patient.
    ///
    /// Where every request says its side, that is taken; where none does, patients are shuffled
    /// with the seed and `heldout_share` of them, at least one and not all, are held out.
    ///
    /// # Errors
    /// When a patient would be on both sides, only some requests say their side, or there are too
    /// few patients for two sides.
    pub fn of(material: &Material, seed: u64, heldout_share: f64) -> Result<Self, EvolveError> {
        let given = material.requests.iter().filter(|request| request.split.is_some()).count();
        let side = match given {
            0 => drawn(material, seed, heldout_share)?,
            all if all == material.requests.len() => as_given(material)?,
            some => {
                let of = material.requests.len();
                return Err(EvolveError::SplitIncomplete { given: some, of });
            }
        };
        let requests_of = |wanted: Split| -> Vec<usize> {
            let of = |index: &usize| side[material.patient_of(*index)] == wanted;
            (0..material.requests.len()).filter(of).collect()
        };
        let patients_of = |wanted: Split| -> Vec<String> {
            let of = side.iter().filter(|(_, side)| **side == wanted);
            of.map(|(patient, _)| (*patient).to_owned()).collect()
        };
        let parts = Self {
            practice: requests_of(Split::Practice),
            heldout: requests_of(Split::Heldout),
            practice_patients: patients_of(Split::Practice),
            heldout_patients: patients_of(Split::Heldout),
            given: given > 0,
        };
        if parts.practice.is_empty() || parts.heldout.is_empty() {
            return Err(EvolveError::TooFewPatients { found: side.len() });
        }
        Ok(parts)
    }
}

fn drawn(
    material: &Material,
    seed: u64,
    heldout_share: f64,
) -> Result<BTreeMap<&str, Split>, EvolveError> {
    let patients: BTreeSet<&str> =
        (0..material.requests.len()).map(|index| material.patient_of(index)).collect();
    if patients.len() < 2 {
        return Err(EvolveError::TooFewPatients { found: patients.len() });
    }
    let mut shuffled: Vec<&str> = patients.into_iter().collect();
    Random::of(seed, &["split"]).shuffle(&mut shuffled);
    let count = (shuffled.len() as f64 * heldout_share).round() as usize;
    let count = count.clamp(1, shuffled.len() - 1);
    let side = |index| if index < count { Split::Heldout } else { Split::Practice };
    Ok(shuffled.into_iter().enumerate().map(|(index, patient)| (patient, side(index))).collect())
}

fn as_given(material: &Material) -> Result<BTreeMap<&str, Split>, EvolveError> {
    let mut side: BTreeMap<&str, Split> = BTreeMap::new();
    for (index, request) in material.requests.iter().enumerate() {
        let Some(split) = request.split else { continue };
        let patient = material.patient_of(index);
        if side.insert(patient, split).is_some_and(|before| before != split) {
            return Err(EvolveError::PatientOnBothSides { case: request.case.clone() });
        }
    }
    Ok(side)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::fixture::{material, request};

    #[test]
    fn scans_of_one_patient_stay_together_whatever_the_seed() {
        let mut material = material(
            (0..12).map(|n| request(&format!("case {n}"), "liver", "the liver please")).collect(),
        );
        for n in 0..12 {
            material.patients.insert(format!("case {n}"), format!("patient {}", n / 2));
        }
        let mut seen = BTreeSet::new();
        for seed in 0..20 {
            let parts = Parts::of(&material, seed, 0.4).expect("six patients");
            assert_eq!(parts.heldout_patients.len(), 2, "{parts:?}");
            assert_eq!(parts.practice.len() + parts.heldout.len(), 12);
            for index in &parts.heldout {
                assert!(!parts.practice.contains(index));
                assert!(!parts.practice_patients.contains(&format!("patient {}", index / 2)));
            }
            assert_eq!(parts, Parts::of(&material, seed, 0.4).expect("six patients"));
            seen.insert(parts.heldout_patients.clone());
        }
        assert!(seen.len() > 3, "the seed decides: {seen:?}");
    }

    #[test]
    fn a_given_split_is_kept_and_must_not_cut_through_a_patient() {
        let mut material = material(vec![
            request("a", "liver", "liver"),
            request("b", "liver", "liver"),
            request("c", "liver", "liver"),
        ]);
        let sides = [Split::Practice, Split::Heldout, Split::Practice];
        for (request, side) in material.requests.iter_mut().zip(sides) {
            request.split = Some(side);
        }
        let parts = Parts::of(&material, 0, 0.5).expect("given");
        assert_eq!((parts.practice, parts.heldout, parts.given), (vec![0, 2], vec![1], true));
        material.patients.insert("a".to_owned(), "p".to_owned());
        material.patients.insert("b".to_owned(), "p".to_owned());
        let error = Parts::of(&material, 0, 0.5).expect_err("p is on both sides");
        assert!(matches!(error, EvolveError::PatientOnBothSides { .. }), "{error}");
        material.requests[0].split = None;
        let error = Parts::of(&material, 0, 0.5).expect_err("incomplete");
        assert_eq!(error.to_string(), "2 of 3 requests say which part they belong to");
    }

    #[test]
    fn one_patient_makes_no_round() {
        let material = material(vec![request("a", "liver", "liver")]);
        let error = Parts::of(&material, 0, 0.5).expect_err("one patient");
        assert_eq!(error.to_string(), "1 patients cannot be parted into practice and held-out");
    }
}
