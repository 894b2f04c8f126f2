//! Whether an order asks for what it names or leaves it out.
//!
//! `not the left one`, `skip the spleen`, `the liver can wait` leave out; `the left kidney looks
//! normal`, `the spleen was done last week` remark, and leave out when something else is asked for.
//! English only, one clause at a time.

use super::words::Word;

/// How a mention stands in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::answer) enum Standing {
    /// Nothing says otherwise.
    Asked,
    /// Told to be normal or done: asked for only where nothing else is.
    Remarked,
    /// Told to be left out.
    Excluded,
}

/// Words of a clause that are looked at before and after a mention.
const REACH: usize = 12;

/// Words that may stand between a cue and what it is about.
const LIGHT: &[&str] = &[
    "the", "a", "an", "this", "that", "any", "t", "for", "to", "of", "out", "alone", "with", "it",
    "into", "side", "sided", "both", "either", "one", "s", "or", "nor",
];

/// Verbs of leaving out, which another `not` turns round.
const OMITTING: &[&str] =
    &["forget", "miss", "skip", "omit", "ignore", "exclude", "leave", "overlook"];

const NEGATIONS: &[&str] =
    &["not", "never", "don", "dont", "doesn", "isn", "aren", "wasn", "cannot"];

/// After `not`: something is hard to find, not unwanted.
const PERCEIVING: &[&str] = &[
    "see",
    "seen",
    "find",
    "found",
    "locate",
    "identify",
    "recognise",
    "recognize",
    "visualise",
    "visualize",
    "palpate",
    "sure",
    "certain",
    "clear",
    "know",
    "visible",
];

/// After `exclude`: something is to be ruled out, not left out.
const DISEASE: &[&str] = &[
    "fracture",
    "fractures",
    "lesion",
    "lesions",
    "stone",
    "stones",
    "tumour",
    "tumor",
    "mass",
    "infarct",
    "infarction",
    "stroke",
    "bleed",
    "bleeding",
    "haemorrhage",
    "hemorrhage",
    "infection",
    "abscess",
    "atrophy",
    "metastasis",
    "metastases",
    "mets",
    "pathology",
    "disease",
    "rupture",
    "tear",
    "thrombus",
    "thrombosis",
    "stenosis",
    "dissection",
    "obstruction",
    "hydronephrosis",
];

/// Words by which a clause goes on behind `and`.
const VERBS: &[&str] = &[
    "can", "could", "may", "should", "must", "need", "needs", "is", "are", "was", "were", "has",
    "have", "looks", "will", "not",
];

/// Words that ask for a segmentation.
const REQUESTS: &[&str] = &[
    "segment",
    "outline",
    "contour",
    "delineate",
    "mark",
    "mask",
    "label",
    "draw",
    "trace",
    "annotate",
    "want",
    "wants",
    "like",
    "give",
    "get",
    "measure",
    "show",
];

/// Whether the name of something may begin with the word.
pub(super) fn may_name(word: &Word<'_>) -> bool {
    !is_in(&word.lower, LIGHT) && !is_in(&word.lower, OMITTING)
}

/// How `words[start..end]` stands.
pub(in crate::answer) fn standing(words: &[Word<'_>], start: usize, end: usize) -> Standing {
    let after = after(words, end);
    if leads(words, start, &after) || excludes(&after) {
        Standing::Excluded
    } else if remarks(&after) && !requested(words, start) {
        Standing::Remarked
    } else {
        Standing::Asked
    }
}

fn is_in(word: &str, list: &[&str]) -> bool {
    list.contains(&word)
}

/// Whether a clause ends behind the word.
pub(super) fn ends_clause(word: &Word<'_>) -> bool {
    let stops = word.gap.contains([',', ';', ':', '!', '?', '\n', '(', ')', '–', '—'])
        || word.gap.contains(" - ");
    // `R. kidney` is no end of a sentence.
    stops || word.gap.contains('.') && (word.lower.len() > 2 || word.gap.len() > 2)
}

/// `not the left`, `rather than the right`, `excluding left`, `leave the spleen out`.
fn leads(words: &[Word<'_>], start: usize, after: &[&str]) -> bool {
    let lower = |at: Option<usize>| at.map_or("", |at| words[at].lower.as_str());
    // Words with a meaning of their own between the cue and the mention.
    let mut between = 0;
    for at in (start.saturating_sub(REACH)..start).rev() {
        let word = &words[at];
        if ends_clause(word) || word.lower == "but" {
            return false;
        }
        let (before, next) = (lower(at.checked_sub(1)), words[at + 1].lower.as_str());
        let is_cue = match word.lower.as_str() {
            "not" | "never" | "don" | "dont" | "doesn" => !is_in(next, &["only", "just"]),
            "than" => is_in(before, &["rather", "other"]),
            "of" => before == "instead",
            "from" => is_in(before, &["apart", "aside"]),
            "excluding" | "exclude" => between == 0 && !after.iter().any(|w| is_in(w, DISEASE)),
            "except" | "excepting" | "ignore" | "ignoring" | "omit" | "omitting" | "skip"
            | "skipping" | "disregard" | "disregarding" => true,
            "leave" | "leaving" => {
                is_in(next, &["out", "alone"])
                    || after.iter().any(|word| is_in(word, &["out", "alone", "untouched"]))
            }
            "need" | "needs" => before == "no",
            // `without contrast left kidney`, `no contrast left kidney`.
            "without" | "no" | "nor" => between == 0,
            _ => false,
        };
        if is_cue {
            let of_mention = &words[at + 1..start];
            // `I could not find the spleen`, `no left kidney contour yet`.
            let missing = of_mention.iter().any(|w| is_in(&w.lower, PERCEIVING))
                || after.iter().any(|word| is_in(word, &["yet", "available"]));
            // `do not skip the left one`, `don't forget the spleen`.
            let negated = of_mention.iter().any(|w| is_in(&w.lower, OMITTING))
                || (is_in(&word.lower, OMITTING) && is_negated(words, at));
            return !missing && !negated;
        }
        between += usize::from(!is_in(&word.lower, LIGHT) && !super::is_side_word(&word.lower));
        if between > 1 {
            return false;
        }
    }
    false
}

fn is_negated(words: &[Word<'_>], at: usize) -> bool {
    let before = &words[at.saturating_sub(2)..at];
    before.iter().any(|word| is_in(&word.lower, NEGATIONS))
}

/// The rest of the clause behind a mention, up to another side or an `and` that opens another one.
fn after<'a>(words: &'a [Word<'_>], end: usize) -> Vec<&'a str> {
    let mut found = Vec::new();
    for at in end..words.len().min(end + REACH) {
        if at > 0 && ends_clause(&words[at - 1]) {
            break;
        }
        let word = words[at].lower.as_str();
        let next = words.get(at + 1).map_or("", |word| word.lower.as_str());
        let another = super::is_side_word(word) && !is_in(next, &["out", "alone"]);
        let opens = word == "and" && !is_in(next, VERBS);
        if another || opens || is_in(word, &["but", "please", "pls"]) {
            break;
        }
        found.push(word);
    }
    found
}

/// `can be skipped`, `is not needed`, `is of no interest`, `can wait`.
fn excludes(after: &[&str]) -> bool {
    let at = |index: usize| after.get(index).copied().unwrap_or("");
    (0..after.len()).any(|index| {
        let before = |back: usize| index.checked_sub(back).map_or("", |at| after[at]);
        let denied = (1..=2).any(|back| is_in(before(back), NEGATIONS));
        match after[index] {
            "skipped" | "omitted" | "ignored" | "excluded" | "disregarded" => !denied,
            "left" => is_in(at(index + 1), &["out", "alone"]) && !denied,
            "needed" | "required" | "wanted" | "requested" | "necessary" | "relevant" => denied,
            "unnecessary" | "irrelevant" | "unneeded" => true,
            "interest" => before(1) == "no" || before(1) == "of" && is_in(before(2), NEGATIONS),
            "wait" => before(1) == "can",
            "another" => before(1) == "to" && is_in(at(index + 1), &["order", "request"]),
            _ => false,
        }
    })
}

/// `looks normal`, `was done last week`, `is already segmented`, `was resected`.
fn remarks(after: &[&str]) -> bool {
    let at = |index: usize| after.get(index).copied().unwrap_or("");
    (0..after.len()).any(|index| {
        let recent = |words: &[&str]| {
            (1..=3).filter_map(|back| index.checked_sub(back)).any(|at| is_in(after[at], words))
        };
        match after[index] {
            "normal" | "unremarkable" | "fine" | "ok" | "okay" | "healthy" | "unaffected"
            | "intact" => {
                let told = ["is", "are", "was", "were", "looks", "look", "looked", "appears"];
                !recent(&["not", "isn", "if"])
                    && (index <= 2 || recent(&told) || recent(&["seems", "remains", "been"]))
            }
            "done" | "segmented" | "contoured" | "outlined" | "delineated" | "finished"
            | "drawn" | "marked" | "traced" | "completed" => {
                recent(&["was", "were", "been", "already"]) && !recent(&["not", "be", "to"])
            }
            "resected" | "removed" => recent(&["was", "were", "been"]),
            "already" => !is_in(at(index + 1), &["enlarged", "visible"]),
            "follow" => index > 0 && after[index - 1] == "will",
            _ => false,
        }
    })
}

/// Whether the clause asks for something before the mention: `outline the left kidney, …`.
fn requested(words: &[Word<'_>], start: usize) -> bool {
    let before = words[start.saturating_sub(REACH)..start].iter().rev();
    before
        .take_while(|word| !ends_clause(word) && !is_in(&word.lower, &["and", "but"]))
        .any(|word| is_in(&word.lower, REQUESTS))
}

#[cfg(test)]
mod tests {
    use super::super::words;
    use super::*;

    /// How the word `spleen` stands.
    fn of_spleen(order: &str) -> Standing {
        let words = words(order);
        let at = words.iter().position(|word| word.lower == "spleen").expect("a spleen");
        standing(&words, at, at + 1)
    }

    #[test]
    fn tells_what_is_left_out() {
        for order in [
            "not the spleen",
            "liver, not the spleen",
            "Skip the spleen.",
            "Please skip the spleen",
            "leave out the spleen",
            "Leave the spleen out",
            "leave the spleen alone, please",
            "ignore the spleen",
            "without the spleen",
            "no need for the spleen",
            "No need to do the spleen",
            "We do not need the spleen.",
            "I am not asking for the spleen",
            "do not segment the spleen",
            "don't do the spleen",
            "except the spleen",
            "apart from the spleen",
            "no spleen please",
            "the spleen is not needed",
            "the spleen isn't needed",
            "The spleen is of no interest here.",
            "the spleen can be skipped",
            "the spleen looks normal and can be skipped",
            "the spleen may be left out",
            "the spleen can wait",
            "the spleen belongs to another order",
            "outline the liver; the spleen is not required",
            "liver - skip the spleen",
            "exclude the spleen",
            "It must not run into the spleen",
            "Do not confuse it with the spleen",
            "the spleen is really not needed",
        ] {
            assert_eq!(of_spleen(order), Standing::Excluded, "{order:?}");
        }
    }

    #[test]
    fn tells_what_is_only_remarked() {
        for order in [
            "the spleen looks normal",
            "The spleen was unremarkable.",
            "the spleen was done last week",
            "the spleen has been segmented already",
            "The spleen is already on file",
            "I have the spleen already",
            "spleen normal on the prior",
            "liver - the spleen was done by Anna yesterday",
            "the spleen was resected",
            "we want the liver and the spleen looks fine",
        ] {
            assert_eq!(of_spleen(order), Standing::Remarked, "{order:?}");
        }
    }

    #[test]
    fn leaves_what_is_asked_for() {
        for order in [
            "spleen",
            "outline the spleen",
            "outline the spleen, which looks normal",
            "please segment the spleen even if normal",
            "the spleen should be segmented",
            "The spleen is to be outlined",
            "the spleen must be done today",
            "do not forget the spleen",
            "don't skip the spleen",
            "please do not leave out the spleen",
            "the spleen must not be skipped",
            "not only the spleen",
            "the liver is not needed, the spleen is",
            "skip the liver and do the spleen",
            "no contrast, spleen",
            "no, the spleen",
            "not the liver but the spleen",
            "the spleen and the liver can be skipped",
            "spleen volume needed",
            "we need the spleen",
            "spleen, normal variant?",
            "is it not right to do the liver? spleen",
            "liver was done last week. now the spleen",
            "I could not find the spleen, please outline it",
            "not sure where the spleen is, please segment it",
            "MR without contrast spleen volumetry",
            "no contrast spleen",
            "not contrast enhanced spleen",
            "to exclude spleen rupture segment it",
            "exclude fracture of the spleen",
            "there is no spleen contour yet",
            "RT planning, spare the spleen",
            "foot drop spleen",
            "the spleen is not enlarged volume needed",
        ] {
            assert_eq!(of_spleen(order), Standing::Asked, "{order:?}");
        }
    }

    #[test]
    fn reads_any_text_without_panicking() {
        for order in ["spleen", "not spleen", "spleen not", "spleen left", "left spleen out"] {
            let repeated = format!("{order} ").repeat(300);
            for order in [order, &repeated] {
                let words = words(order);
                for at in 0..words.len() {
                    standing(&words, at, at + 1);
                }
            }
        }
    }
}
