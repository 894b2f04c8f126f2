//! Answers that neither the order nor a skill has a name for.

use super::order::{Order, structures};
use super::{Reading, Target};
use crate::error::Finding;

/// Whether the order comes near a target's name, or a skill of the prompt has it: `outline the glim`
/// must not come back as some liver.
///
/// A target outside the vocabulary counts as named, because its other names are not known.
fn is_named(target: &Target, order: &Order<'_>, reading: &Reading<'_>) -> bool {
    structures(std::slice::from_ref(target), reading.vocabulary).iter().all(|structure| {
        !structure.is_known
            || order.comes_near(structure)
            || reading.skills.iter().any(|skill| structure.is_named_in(&skill.content))
    })
}

/// Finds the targets that nothing names, one `target_unnamed` finding each, and takes them away
/// where the reading refuses such. Findings name concepts, never words of the order.
///
/// # Errors
/// The sentence of a refusal, when no target is left.
pub(super) fn settle(
    targets: Vec<Target>,
    order: &Order<'_>,
    reading: &Reading<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Vec<Target>, String> {
    let (named, unnamed): (Vec<Target>, Vec<Target>) =
        targets.iter().cloned().partition(|target| is_named(target, order, reading));
    let says = |target: &Target| {
        format!("neither the order nor a skill names the {} of the answer", target.name())
    };
    let (end, kept) = match (reading.refuse_unnamed, named.is_empty()) {
        (false, _) => ("", targets),
        (true, false) => (", and it is left out", named),
        (true, true) => ("", named),
    };
    findings.extend(
        unnamed.iter().map(|t| Finding::new("target_unnamed", format!("{}{end}", says(t)))),
    );
    match unnamed.first() {
        Some(target) if kept.is_empty() => Err(says(target)),
        _ => Ok(kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{UnknownTargets, fixture, parse};
    use crate::reason::OfferedSkill;

    /// What is segmented, then the codes of the findings.
    fn read(order: &str, answer: &str, skill: Option<&str>, refuse_unnamed: bool) -> String {
        let vocabulary = fixture::vocabulary();
        let skills: Vec<OfferedSkill> = skill
            .map(|content| OfferedSkill {
                id: "seer:0123".into(),
                tag: "PROMPT_NORMALIZE".into(),
                content: content.into(),
                audit: "round 1".into(),
            })
            .into_iter()
            .collect();
        let reading = Reading {
            answer: Some(answer),
            order,
            vocabulary: &vocabulary,
            unknown_targets: UnknownTargets::PassThrough,
            skills: &skills,
            refuse_unnamed,
        };
        let (answer, findings) = parse(&reading).expect("an answer of the grammar");
        assert!(!format!("{findings:?}").contains("glim"), "a finding has words of the order");
        let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        format!("{} {}", answer.canonical_text(), codes.join(",")).trim_end().to_owned()
    }

    #[test]
    fn what_nothing_names_is_refused_left_out_or_noted() {
        let (liver, kidneys) = ("Segment the liver.", "Segment both kidneys.");
        let both = "Segment the liver; both kidneys.";
        let skill = Some("\"glim\" means liver.");
        let refused = "Reject: ambiguous. target_unnamed";
        for (order, answer, skill, refusing, noting) in [
            ("outline the glim", liver, None, refused, "Segment the liver. target_unnamed"),
            ("outline the glim", liver, skill, liver, liver),
            ("the glim", kidneys, skill, refused, "Segment both kidneys. target_unnamed"),
            ("outline the livr", liver, None, liver, liver),
            (
                "we would be grateful for the kidneys",
                both,
                None,
                "Segment both kidneys. target_unnamed",
                "Segment the liver; both kidneys. target_unnamed",
            ),
            (
                "glim",
                "Segment the glim.",
                None,
                "Segment the glim. target_unresolved",
                "Segment the glim. target_unresolved",
            ),
        ] {
            assert_eq!(read(order, answer, skill, true), refusing, "{order}: {answer}");
            assert_eq!(read(order, answer, skill, false), noting, "{order}: {answer}");
        }
    }
}
