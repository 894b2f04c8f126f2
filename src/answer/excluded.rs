//! Answers that take what the order names only to leave it out.

use super::order::{Order, Standing, Structure};
use crate::error::Finding;

/// A `target_excluded` finding for each structure of an answer that every mention of the order
/// leaves out: `outline the stomach, skip the spleen` must not come back as a spleen.
///
/// `unanswered` says that the order asks for another structure and does not get it; then one that is
/// only remarked on (`the spleen looks normal`) counts as left out too. Findings name concepts of the
/// vocabulary, never words of the order.
pub(super) fn check(order: &Order<'_>, structures: &[Structure], unanswered: bool) -> Vec<Finding> {
    let is_left_out = |structure: &Structure| {
        let places = order.places(structure);
        let mut standings = places.iter().map(|place| {
            if order.is_of_other_side(place, structure) {
                return Standing::Asked;
            }
            order.standing(place)
        });
        !places.is_empty()
            && standings.all(|standing| match standing {
                Standing::Asked => false,
                Standing::Remarked => unanswered,
                Standing::Excluded => true,
            })
    };
    let left_out = structures.iter().filter(|structure| is_left_out(structure));
    left_out
        .map(|structure| {
            let message = format!("order leaves it out, answer takes it: {}", structure.name);
            Finding::new("target_excluded", message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::answer::{Answer, Reading, UnknownTargets, fixture, parse};

    /// Codes of the findings, after a `!` where the answer is refused.
    fn read(order: &str, answer: &str) -> String {
        let vocabulary = fixture::vocabulary();
        let answer = Some(answer);
        let unknown_targets = UnknownTargets::Refuse;
        let vocabulary = &vocabulary;
        let skills = &[];
        let reading =
            Reading { answer, order, vocabulary, unknown_targets, skills, refuse_unnamed: true };
        let (answer, findings) = parse(&reading).expect("an answer of the grammar");
        let refused = if matches!(answer, Answer::Refuse(_)) { "!" } else { "" };
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        format!("{refused}{}", codes.join(","))
    }

    #[test]
    fn refuses_an_answer_that_takes_what_is_left_out() {
        let (liver, left) = ("Segment the liver.", "Segment the left kidney.");
        for (order, answer, expected) in [
            ("outline the hip bone, skip the liver", liver, "!target_excluded"),
            ("outline the left kidney, skip the liver", left, ""),
            ("kidneys please. The liver is not needed.", liver, "!target_excluded"),
            ("kidneys please. The liver looks normal.", liver, "!target_excluded"),
            ("left kidney please. The liver looks normal.", left, ""),
            ("gland please. The liver looks normal.", liver, ""),
            ("liver without the left kidney", liver, ""),
            ("liver; not the left kidney", left, "!laterality_conflict,target_excluded"),
            ("kidney, not the left one", "Segment the right kidney.", "laterality_assumed"),
            ("skip the left kidney, do the right", "Segment the right kidney.", ""),
            ("not the liver. liver segments only", liver, ""),
            ("I could not find the liver, please outline it", liver, ""),
            ("MR without contrast liver", liver, ""),
            ("CT kidneys. The liver looks normal to me", liver, ""),
        ] {
            assert_eq!(read(order, answer), expected, "{order:?}, {answer:?}");
        }
    }
}
