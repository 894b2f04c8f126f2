//! Whether other wordings of an order come out the same.
//!
//! Nobody's reference is needed for that: the wordings are compared with each other. What a
//! reference would say of them is the business of [`crate::eval`].

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::OrderSkills;
use crate::answer::Answer;
use crate::error::Finding;
use crate::eval::scores::{Spread, dice};
use crate::eval::{EvalError, PackedMask};
use crate::volume::Mask;

/// Another wording of an order, and what the bank offers for it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rephrasing {
    /// Free text that means what the order means.
    pub text: String,
    /// Its skills; each wording has its own, as if it were the order.
    pub skills: OrderSkills,
}

/// How the order and its rephrasings Ω(q) agree. Absent from orders without rephrasings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordStability {
    /// The rephrasings, in the order in which they were given.
    pub rephrasings: Vec<RecordRephrasing>,
    /// The share of pairs of wordings, the order's own among them, that name the same targets or
    /// refuse both.
    pub answer_agreement: f64,
    /// Mean Dice over the same pairs, each wording's targets taken together.
    pub pairwise_dice: f64,
    /// The lowest of them.
    pub pairwise_dice_worst: f64,
    /// Their standard deviation.
    pub pairwise_dice_spread: f64,
}

/// What one rephrasing came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RecordRephrasing {
    /// As it was given.
    pub text: String,
    /// The answer part of what the reasoner wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// It names the targets that the order names, or refuses as it does.
    pub agrees: bool,
    /// Dice with the order's own masks taken together; 1 where both have none.
    pub dice: f64,
}

/// A wording and what was understood.
pub(super) struct Worded {
    pub text: String,
    /// The answer part of its trace.
    pub answer: Option<String>,
    pub meaning: Meaning,
}

/// What two wordings must have in common to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The backbone's prompts, whatever their order.
    Targets(BTreeSet<String>),
    Refusal,
    /// The trace has no answer in the grammar; agrees with nothing.
    None,
}

impl Meaning {
    pub fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Segment(targets) => {
                Self::Targets(targets.iter().map(|target| target.prompt.clone()).collect())
            }
            Answer::Refuse(_) => Self::Refusal,
        }
    }

    fn prompts(&self) -> impl Iterator<Item = &String> {
        let targets = match self {
            Self::Targets(targets) => Some(targets),
            Self::Refusal | Self::None => None,
        };
        targets.into_iter().flatten()
    }

    fn agrees(&self, other: &Self) -> bool {
        self == other && *self != Self::None
    }
}

/// Prompts that the rephrasings name and the order does not, each once.
pub(super) fn further_prompts(own: &[String], rephrasings: &[Worded]) -> Vec<String> {
    let named: BTreeSet<&String> =
        rephrasings.iter().flat_map(|worded| worded.meaning.prompts()).collect();
    named.into_iter().filter(|prompt| !own.contains(prompt)).cloned().collect()
}

/// Compares the wordings; the first is the order's own. `masks` has one for every prompt.
///
/// # Errors
/// When masks have different shapes.
pub(super) fn compare(
    wordings: Vec<Worded>,
    masks: &BTreeMap<&String, &Mask>,
    shape: [usize; 3],
) -> Result<Option<RecordStability>, EvalError> {
    let packed: BTreeMap<&String, PackedMask> =
        masks.iter().map(|(prompt, mask)| (*prompt, PackedMask::of(&mask.voxels))).collect();
    let together = |worded: &Worded| {
        let mut union = PackedMask::empty(shape);
        for mask in worded.meaning.prompts().filter_map(|prompt| packed.get(prompt)) {
            union.add(mask)?;
        }
        Ok(union)
    };
    let unions = wordings.iter().map(together).collect::<Result<Vec<_>, EvalError>>()?;
    let (mut dices, mut agreed) = (Vec::new(), 0_usize);
    // Dice with the order's own masks, and whether the answers agree, by wording.
    let mut with_own = vec![(true, 1.0)];
    for (first, one) in wordings.iter().enumerate() {
        for (second, other) in wordings.iter().enumerate().skip(first + 1) {
            let agrees = one.meaning.agrees(&other.meaning);
            let dice = dice(&unions[first], &unions[second])?;
            agreed += usize::from(agrees);
            dices.push(dice);
            if first == 0 {
                with_own.push((agrees, dice));
            }
        }
    }
    let Some(spread) = Spread::of(&dices) else { return Ok(None) };
    let rephrasings = wordings.into_iter().zip(with_own).skip(1).map(|(worded, (agrees, dice))| {
        RecordRephrasing { text: worded.text, answer: worded.answer, agrees, dice }
    });
    Ok(Some(RecordStability {
        rephrasings: rephrasings.collect(),
        answer_agreement: agreed as f64 / dices.len() as f64,
        pairwise_dice: spread.mean,
        pairwise_dice_worst: spread.worst,
        pairwise_dice_spread: spread.std,
    }))
}

impl RecordStability {
    /// What a reader should know when not all wordings agree with the order.
    pub(super) fn finding(&self) -> Option<Finding> {
        let count = self.rephrasings.len();
        let others = self.rephrasings.iter().filter(|worded| !worded.agrees).count();
        let message = || format!("{others} of {count} rephrasings came to another answer");
        (others > 0).then(|| Finding::new("rephrasings_disagree", message()))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::geometry::{Affine, PatientPoint, VolumeGeometry};

    fn mask(inside: &[usize]) -> Mask {
        let columns = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let affine = Affine::from_columns(columns, PatientPoint([0.0; 3]));
        let geometry = VolumeGeometry::new([1, 1, 8], affine).expect("a grid");
        let voxels = Array3::from_shape_fn([1, 1, 8], |(_, _, column)| inside.contains(&column));
        Mask { geometry, voxels }
    }

    fn worded(text: &str, meaning: Meaning) -> Worded {
        Worded { text: text.into(), answer: None, meaning }
    }

    fn targets(prompts: &[&str]) -> Meaning {
        Meaning::Targets(prompts.iter().map(|prompt| (*prompt).to_owned()).collect())
    }

    #[test]
    fn wordings_are_compared_in_pairs() {
        let (left, right) = (mask(&[0, 1]), mask(&[4, 5]));
        let names = ["left".to_owned(), "right".to_owned()];
        let masks = BTreeMap::from([(&names[0], &left), (&names[1], &right)]);
        let wordings = vec![
            worded("own", targets(&["left"])),
            worded("same", targets(&["left"])),
            worded("both", targets(&["left", "right"])),
            worded("refused", Meaning::Refusal),
        ];
        let stability = compare(wordings, &masks, [1, 1, 8]).expect("one shape").expect("pairs");
        let rows: Vec<_> = stability.rephrasings.iter().map(|r| (r.agrees, r.dice)).collect();
        assert_eq!(rows, [(true, 1.0), (false, 2.0 / 3.0), (false, 0.0)]);
        // Pairs: 1, 2/3, 0; 2/3, 0; 0.
        assert!((stability.answer_agreement - 1.0 / 6.0).abs() < 1e-12);
        assert!((stability.pairwise_dice - 7.0 / 18.0).abs() < 1e-12);
        assert_eq!(stability.pairwise_dice_worst, 0.0);
        let finding = stability.finding().expect("two disagree");
        assert_eq!(finding.message, "2 of 3 rephrasings came to another answer");
    }

    #[test]
    fn refusals_agree_and_broken_answers_never_do() {
        let wordings = |second| vec![worded("own", Meaning::Refusal), worded("other", second)];
        let of = |second| {
            compare(wordings(second), &BTreeMap::new(), [1, 1, 8]).expect("shapes").expect("a pair")
        };
        let both = of(Meaning::Refusal);
        assert_eq!((both.answer_agreement, both.pairwise_dice), (1.0, 1.0));
        assert_eq!(both.finding(), None);
        assert_eq!(of(Meaning::None).answer_agreement, 0.0);
        assert!(!Meaning::None.agrees(&Meaning::None));
    }

    #[test]
    fn only_prompts_that_the_order_lacks_are_run_again() {
        let rephrasings = [
            worded("a", targets(&["liver", "spleen"])),
            worded("b", targets(&["spleen", "aorta"])),
            worded("c", Meaning::Refusal),
        ];
        assert_eq!(further_prompts(&["liver".to_owned()], &rephrasings), ["aorta", "spleen"]);
        assert!(further_prompts(&[], &[]).is_empty());
    }
}
