//! The sides an order names against the sides an answer takes.
//!
//! A mask on the wrong side harms a patient, so this check errs towards refusing. It reads English
//! and its abbreviations only: words (`left`, `rt`, `(L)`, `bilateral`), common slips of the
//! keyboard, exclusions (`not the left`), and knows the usual traps: `L4`, `L-spine`, `R/O`,
//! `post RT`, `right-handed`, `right now`, `R. Jones`, `left of the image`.
//!
//! For every structure of the answer the sides written **beside its name** in the order count
//! (`left-sided pain, outline right kidney` asks for the right kidney); when none is, all sides
//! named in the order count. Then:
//!
//! | order | answer | what happens |
//! |---|---|---|
//! | only the other side, or this side excluded | one side | conflict: refused as ambiguous |
//! | one side, the other one excluded | both sides | conflict |
//! | both sides, none beside the name | one side | finding `laterality_both_named` |
//! | no side | one side | finding `laterality_assumed` |
//! | a side of the image, not of the patient | one side | finding `laterality_of_image` |
//! | the other side, but also `contralateral` and the like | one side | finding `laterality_relative` |
//! | this side, but not beside the name, and `contralateral` | one side | conflict |
//! | one side | both sides | finding `laterality_widened` |
//! | one side | a structure without sides | finding `laterality_dropped` |
//!
//! A side that the order only remarks on (`the left one looks normal`, `right was done last week`)
//! counts where no other is asked for.
//!
//! What it cannot see: sides told in other languages, by a name alone (`RCA`) or by a lesion.

use super::order::{Order, Relative, Sides, Structure};
use crate::error::Finding;

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct SideCheck {
    /// Why the answer must not be executed, in one sentence; absent when it may.
    pub conflict: Option<String>,
    /// What a reader should know. `laterality_conflict` goes with a conflict.
    pub findings: Vec<Finding>,
}

/// Compares the sides of `structures` with those named in `order`.
pub(super) fn check(order: &Order<'_>, structures: &[Structure]) -> SideCheck {
    let mut check = SideCheck::default();
    for structure in structures {
        let others = structures.iter().filter(|other| !std::ptr::eq(*other, structure));
        let explained = others.fold(Sides::default(), |sides, other| {
            sides.union(other.sides).union(order.asked_beside(other))
        });
        match judge(structure, order, explained) {
            Verdict::Agrees => {}
            Verdict::Finding(code, text) => {
                let message = format!("{text}: {}", structure.name);
                check.findings.push(Finding::new(code, message));
            }
            Verdict::Conflict(text) => {
                let message = format!("{text}: {}", structure.name);
                check.findings.push(Finding::new("laterality_conflict", message.clone()));
                check.conflict.get_or_insert(message);
            }
        }
    }
    check
}

enum Verdict {
    Agrees,
    Finding(&'static str, &'static str),
    Conflict(&'static str),
}

/// `explained` are the sides that other structures of the answer take or have beside their names.
fn judge(structure: &Structure, order: &Order<'_>, explained: Sides) -> Verdict {
    let named = order.named(structure);
    let sides = structure.sides;
    if !sides.is_one() {
        if sides == Sides::BOTH && named.asked.is_one() && named.excluded == named.asked.opposite()
        {
            return Verdict::Conflict("order excludes one side, answer takes both");
        }
        let elsewhere = !named.beside && !named.asked.intersection(explained).is_empty();
        return match (named.asked.is_one() && !elsewhere, sides.is_empty()) {
            (false, _) => Verdict::Agrees,
            (true, false) => {
                Verdict::Finding("laterality_widened", "order names one side, answer takes both")
            }
            (true, true) => Verdict::Finding(
                "laterality_dropped",
                "order names a side, answer's target has none",
            ),
        };
    }
    let other = sides.opposite();
    if named.asked == other && order.relative().is_some() && !named.beside {
        return Verdict::Finding(
            "laterality_relative",
            "order names a side by way of the other, answer takes one",
        );
    }
    if named.asked == other {
        return Verdict::Conflict(if other.left {
            "order names the left side, answer takes the right"
        } else {
            "order names the right side, answer takes the left"
        });
    }
    if named.asked == sides && order.relative() == Some(Relative::Opposite) && !named.beside {
        return Verdict::Conflict("order names the other side by way of the one answer takes");
    }
    let excluded = !named.excluded.intersection(sides).is_empty();
    if excluded && named.asked.intersection(sides).is_empty() {
        return Verdict::Conflict(if sides.left {
            "order excludes the left side, answer takes it"
        } else {
            "order excludes the right side, answer takes it"
        });
    }
    if named.asked == Sides::BOTH {
        return Verdict::Finding(
            "laterality_both_named",
            "order names both sides, answer takes one",
        );
    }
    match (named.asked.is_empty(), named.of_image) {
        (true, true) => Verdict::Finding(
            "laterality_of_image",
            "order names a side of the image, answer takes a side of the patient",
        ),
        (true, false) => {
            Verdict::Finding("laterality_assumed", "order names no side, answer takes one")
        }
        (false, _) => Verdict::Agrees,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Target;
    use crate::answer::fixture::{target, vocabulary};
    use crate::answer::order::structures;
    use crate::runtime::vocabulary::Vocabulary;

    fn check(order: &str, targets: &[Target], vocabulary: &Vocabulary) -> SideCheck {
        super::check(&Order::read(order, vocabulary), &structures(targets, vocabulary))
    }

    /// What the check says in one word: a code without `laterality_`, or `ok`.
    fn verdict(order: &str, names: &[&str]) -> String {
        let vocabulary = vocabulary();
        let targets: Vec<Target> = names.iter().map(|name| target(&vocabulary, name)).collect();
        let check = check(order, &targets, &vocabulary);
        let codes: Vec<&str> = check
            .findings
            .iter()
            .map(|finding| finding.code.trim_start_matches("laterality_"))
            .collect();
        assert_eq!(check.conflict.is_some(), codes.contains(&"conflict"), "{order:?}");
        if codes.is_empty() { "ok".to_owned() } else { codes.join(",") }
    }

    fn check_rows(rows: &[(&str, &[&str], &str)]) {
        for (order, names, expected) in rows {
            assert_eq!(verdict(order, names), *expected, "{order:?} answered with {names:?}");
        }
    }

    #[test]
    fn refuses_the_other_side_however_the_order_writes_it() {
        let orders = [
            "segment the left kidney",
            "LEFT KIDNEY",
            "lt kidney pls",
            "Lt. kidney",
            "L kidney",
            "L. kidney",
            "SEGMENT L. KIDNEY",
            "l kidney",
            "l. kidney",
            "kidney (L)",
            "kidney, left",
            "kidney L.",
            "kidney on the left",
            "kidney on the left side",
            "left-sided kidney",
            "left sided renal parenchyma",
            "L-sided kidney",
            "lfet kidney",
            "kidneys, the left one only",
            "kidney, not the right but the left",
            "the left rather than the right kidney",
            "left kidney, not the right",
            "the left kidney instead of the right one",
            "do not segment the right kidney, only the left kidney",
            "left kidney (excluding the right)",
            "not only the left kidney",
            "left kidny",
            "LLQ pain, outline the kidney",
            "left-sided pain, right? no: left kidney",
        ];
        for order in orders {
            assert_eq!(verdict(order, &["left kidney"]), "ok", "{order:?}");
            assert_eq!(verdict(order, &["right kidney"]), "conflict", "{order:?}");
        }
    }

    #[test]
    fn reads_the_right_side_in_all_its_forms() {
        for order in [
            "segment the right hip bone",
            "rt hip bone",
            "pls outline the R hip bone, iliac part",
            "R hip bone",
            "(R) hip bone",
            "hip bone [R]",
            "Rt. hip bone",
            "RT hip bone",
            "rigth hip bone",
            "r/o fracture, R hip bone",
            "L4 vertebra normal. R hip bone",
            "I need the right hipbone segmented, specifically the iliac part.",
            "for rt hip bone planning",
            "the right one of the hip bones",
        ] {
            assert_eq!(verdict(order, &["right hip bone"]), "ok", "{order:?}");
            assert_eq!(verdict(order, &["left hip bone"]), "conflict", "{order:?}");
        }
    }

    #[test]
    fn is_not_fooled_by_letters_and_words_that_name_no_side() {
        for order in [
            "kidney",
            "L4 vertebra and kidney",
            "L 4 fracture, kidney",
            "L-spine and kidney",
            "L/S spine, kidney",
            "L1-L5, kidney",
            "T/L junction, kidney",
            "R/O stone, kidney",
            "r/o stone, kidney",
            "r.o. stone, kidney",
            "R0 resection, kidney",
            "R2* map, kidney",
            "on 2 L oxygen, kidney",
            "2L O2, kidney",
            "R. Jones asks for the kidney",
            "Dr. L. asks for the kidney",
            "J. R. Smith: kidney",
            "Lt. Smith: kidney",
            "post RT, kidney",
            "RT planning: kidney",
            "s/p RT. kidney",
            "post LT, kidney",
            "right-handed patient, kidney",
            "left handed. kidney",
            "kidney right now",
            "do it right away: kidney",
            "kidney all right?",
            "what is left of the kidney",
            "left lateral decubitus, kidney",
            "right anterior oblique view, kidney",
            "left-to-right shunt, kidney",
            "cleft palate, light, let the kidney be outlined",
            "l'kidney",
        ] {
            assert_eq!(verdict(order, &["left kidney"]), "assumed", "{order:?}");
            assert_eq!(verdict(order, &["right kidney"]), "assumed", "{order:?}");
            assert_eq!(verdict(order, &["both kidneys"]), "ok", "{order:?}");
            assert_eq!(verdict(order, &["liver"]), "ok", "{order:?}");
        }
    }

    #[test]
    fn weighs_sides_by_the_structure_they_stand_beside() {
        check_rows(&[
            ("left-sided pain, outline right kidney", &["right kidney"], "ok"),
            ("left-sided pain, outline right kidney", &["left kidney"], "conflict"),
            ("L. Brown: right kidney", &["left kidney"], "conflict"),
            ("left kidney and right hip bone", &["left kidney", "right hip bone"], "ok"),
            ("left kidney and right hip bone", &["right kidney", "right hip bone"], "conflict"),
            ("left kidney, right hip bone", &["left kidney", "left hip bone"], "conflict"),
            ("left kidney and the liver", &["left kidney", "liver"], "ok"),
            ("left kidney, both hip bones", &["left kidney", "both hip bones"], "ok"),
            ("both the liver and right kidney", &["left kidney"], "conflict"),
            ("liver, left hip bone", &["liver", "right hip bone"], "conflict"),
            ("hip bone, left kidney", &["both hip bones", "left kidney"], "ok"),
            ("left weakness, right lung; kidney", &["left kidney"], "both_named"),
            ("history of left nephrectomy, kidney", &["right kidney"], "conflict"),
        ]);
    }

    #[test]
    fn tells_when_sides_are_added_or_dropped() {
        check_rows(&[
            ("left kidney", &["both kidneys"], "widened"),
            ("left kidney", &["left kidney", "right kidney"], "widened"),
            ("L kidney", &["liver"], "dropped"),
            ("both kidneys", &["both kidneys"], "ok"),
            ("bilateral kidneys", &["left kidney"], "both_named"),
            ("b/l kidneys", &["left kidney"], "both_named"),
            ("left and right kidney", &["left kidney"], "both_named"),
            ("L/R kidney", &["right kidney"], "both_named"),
            ("L&R kidneys", &["left kidney", "right kidney"], "ok"),
            ("left or right kidney", &["both kidneys"], "ok"),
            ("kidneys", &["both kidneys"], "ok"),
        ]);
    }

    #[test]
    fn honours_exclusions_without_inventing_the_opposite() {
        check_rows(&[
            ("kidney, not the left one", &["left kidney"], "conflict"),
            ("kidney, not the left one", &["right kidney"], "assumed"),
            ("not the left kidney", &["left kidney"], "conflict"),
            ("not left or right kidney", &["right kidney"], "conflict"),
            ("no left kidney", &["left kidney"], "conflict"),
            ("no contrast, left kidney", &["left kidney"], "ok"),
            ("don't do the right kidney; left kidney please", &["left kidney"], "ok"),
            ("right kidney; the left one can be skipped", &["both kidneys"], "conflict"),
            ("right kidney; the left kidney looks normal", &["both kidneys"], "widened"),
            ("right kidney; the left kidney looks normal", &["left kidney"], "conflict"),
            ("right kidney - left kidney was done by Anna", &["right kidney"], "ok"),
            ("right kidney - left kidney was done by Anna", &["left kidney"], "conflict"),
            ("the left kidney looks normal", &["left kidney"], "ok"),
            ("outline the right kidney, leave the left one out", &["right kidney"], "ok"),
            ("don't forget the left kidney", &["left kidney"], "ok"),
        ]);
    }

    #[test]
    fn reads_the_letter_of_a_side_before_the_letter_of_a_name() {
        check_rows(&[
            ("LK volume", &["left kidney"], "ok"),
            ("LK volume", &["right kidney"], "conflict"),
            ("mask of the R.K. needed", &["left kidney"], "conflict"),
            ("rk pls", &["right kidney"], "ok"),
            ("LK volume", &["liver"], "ok"),
            ("LH volume, kidney", &["right kidney"], "assumed"),
            ("LK? no: right kidney", &["right kidney"], "ok"),
        ]);
    }

    #[test]
    fn points_at_sides_of_the_picture_and_relative_sides() {
        check_rows(&[
            ("the kidney on the left side of the image", &["left kidney"], "of_image"),
            ("kidney at image left", &["right kidney"], "of_image"),
            ("kidney on the viewer's left", &["right kidney"], "of_image"),
            ("left nephrectomy, contralateral kidney", &["right kidney"], "relative"),
            (
                "left nephrectomy, outline the kidney of the other side",
                &["right kidney"],
                "relative",
            ),
        ]);
    }

    #[test]
    fn checks_phrases_that_the_vocabulary_does_not_know() {
        check_rows(&[
            ("left ureter", &["left ureter"], "ok"),
            ("left ureter", &["right ureter"], "conflict"),
            ("ureter", &["right ureter"], "assumed"),
        ]);
    }

    #[test]
    fn says_nothing_of_the_order_in_its_findings() {
        let vocabulary = vocabulary();
        let targets = [target(&vocabulary, "right kidney"), target(&vocabulary, "zebra")];
        let found = check("Mr Smithers, left kidney, zebra", &targets, &vocabulary);
        let text = format!("{found:?}").to_lowercase();
        assert!(found.conflict.is_some());
        assert!(!text.contains("smithers") && !text.contains("zebra"), "{text}");
    }

    #[test]
    fn reads_any_text_without_panicking() {
        for order in
            ["", "L", "R.", "L/", "ß’L’é left", "not", "the of side", "left\u{0}right", "…L…"]
        {
            verdict(order, &["left kidney"]);
        }
        verdict(&"left ".repeat(20_000), &["left kidney"]);
    }
}
