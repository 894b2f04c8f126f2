//! Whether an order asks for what it names or leaves it out.
//!
//! `not the left one`, `skip the spleen`, `the liver can wait` leave out; `the left kidney looks
//! normal`, `the spleen was done last week` remark, and leave out when something else is asked for.
//! English only, one clause at a time.

use super::words::Word;

/// How a mention stands in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing says otherwise.
    Asked,
    /// Told to be normal or done: asked for only where nothing else is.
    Remarked,
    /// Told to be left out.
    Excluded,
}

/// Words of a clause that are looked at before and after a mention.
const REACH: usize = 12;

/// How `words[start..end]` stands.
pub(super) fn standing(words: &[Word<'_>], start: usize, end: usize) -> Standing {
    let after = after(words, end);
    if leads(words, start, &after) || excludes(&after) {
        Standing::Excluded
    } else if remarks(&after) && !requested(words, start) {
        Standing::Remarked
    } else {
        Standing::Asked
    }
}

/// Whether a clause ends behind the word.
fn ends_clause(word: &Word<'_>) -> bool {
    let stops = word.gap.contains([',', ';', ':', '!', '?', '\n', '(', ')', '–', '—'])
        || word.gap.contains(" - ");
    // `R. kidney` is no end of a sentence.
    stops || word.gap.contains('.') && (word.lower.len() > 2 || word.gap.len() > 2)
}

/// Words between a cue and what it is about.
fn is_light(word: &str) -> bool {
    matches!(
        word,
        "the" | "a" | "an" | "this" | "that" | "any" | "t" | "for" | "to" | "of" | "out" | "alone"
    ) || matches!(word, "with" | "side" | "sided" | "both" | "either" | "one" | "s" | "or" | "nor")
        || super::laterality::is_side_word(word)
}

/// `not the left`, `rather than the right`, `excluding left`, `leave the spleen out`.
fn leads(words: &[Word<'_>], start: usize, after: &[&str]) -> bool {
    let lower = |at: Option<usize>| at.map_or("", |at| words[at].lower.as_str());
    let mut between = 0;
    for at in (start.saturating_sub(REACH)..start).rev() {
        let word = &words[at];
        if ends_clause(word) || word.lower == "but" {
            return false;
        }
        let (before, next) = (lower(at.checked_sub(1)), words[at + 1].lower.as_str());
        let is_cue = match word.lower.as_str() {
            "not" | "never" | "don" | "dont" | "doesn" | "without" => {
                let reach = if word.lower == "without" { 1 } else { 2 };
                between <= reach && !matches!(next, "only" | "just")
            }
            "than" => between <= 1 && matches!(before, "rather" | "other"),
            "of" => between <= 1 && before == "instead",
            "from" => between <= 1 && matches!(before, "apart" | "aside"),
            "excluding" | "exclude" | "except" | "excepting" | "ignore" | "ignoring" | "omit"
            | "omitting" | "spare" | "sparing" | "avoid" | "avoiding" | "skip" | "skipping"
            | "disregard" | "disregarding" | "drop" => between <= 1,
            "leave" | "leaving" => {
                between <= 1
                    && (matches!(next, "out" | "alone")
                        || after.iter().any(|word| matches!(*word, "out" | "alone" | "untouched")))
            }
            "need" | "needs" => between <= 1 && before == "no",
            "no" | "nor" => {
                at + 1 == start || words[at + 1..start].iter().all(|w| is_light(&w.lower))
            }
            _ => false,
        };
        if is_cue {
            // `do not skip the left one`, `don't forget the spleen`.
            let negated = words[at + 1..start].iter().any(|w| is_doubly(&w.lower))
                || (is_doubly(&word.lower) && is_negated(words, at));
            return !negated;
        }
        between += usize::from(!is_light(&word.lower));
        if between > 2 {
            return false;
        }
    }
    false
}

/// Verbs of leaving out, which another `not` turns round.
fn is_doubly(word: &str) -> bool {
    matches!(
        word,
        "forget" | "miss" | "skip" | "omit" | "ignore" | "exclude" | "leave" | "drop" | "overlook"
    )
}

fn is_negated(words: &[Word<'_>], at: usize) -> bool {
    let before = &words[at.saturating_sub(2)..at];
    before.iter().any(|word| matches!(word.lower.as_str(), "not" | "never" | "don" | "dont"))
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
        let goes_on = matches!(
            next,
            "can" | "could" | "may" | "should" | "must" | "need" | "needs" | "is" | "are" | "was"
        ) || matches!(next, "were" | "has" | "have" | "looks" | "will" | "not");
        let another = super::laterality::is_side_word(word) && !matches!(next, "out" | "alone");
        if another || matches!(word, "but" | "please" | "pls") || word == "and" && !goes_on {
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
        let is_negative = |word: &str| matches!(word, "not" | "isn" | "aren" | "never" | "wasn");
        let denied = (1..=3).any(|back| is_negative(before(back)));
        match after[index] {
            "skipped" | "omitted" | "ignored" | "excluded" | "disregarded" | "dropped"
            | "spared" => !denied,
            "left" => matches!(at(index + 1), "out" | "alone") && !denied,
            "needed" | "required" | "wanted" | "requested" | "necessary" | "relevant" => {
                denied && !matches!(at(index + 1), "only")
            }
            "unnecessary" | "irrelevant" | "unneeded" => true,
            "interest" => before(1) == "no" || before(1) == "of" && is_negative(before(2)),
            "wait" => before(1) == "can",
            "another" => matches!(before(1), "to") && matches!(at(index + 1), "order" | "request"),
            _ => false,
        }
    })
}

/// `looks normal`, `was done last week`, `is already segmented`, `was resected`.
fn remarks(after: &[&str]) -> bool {
    let at = |index: usize| after.get(index).copied().unwrap_or("");
    (0..after.len()).any(|index| {
        let recent = |words: &[&str]| {
            (1..=3).filter_map(|back| index.checked_sub(back)).any(|at| words.contains(&after[at]))
        };
        match after[index] {
            "normal" | "unremarkable" | "fine" | "ok" | "okay" | "healthy" | "unaffected"
            | "intact" => {
                !recent(&["not", "isn", "if"])
                    && (index <= 2
                        || recent(&["is", "are", "was", "were", "looks", "look", "looked"])
                        || recent(&["appears", "seems", "remains", "been"]))
            }
            "done" | "segmented" | "contoured" | "outlined" | "delineated" | "finished"
            | "drawn" | "marked" | "traced" | "completed" => {
                recent(&["was", "were", "been", "already"]) && !recent(&["not", "be", "to"])
            }
            "resected" | "removed" => recent(&["was", "were", "been"]),
            "already" => !matches!(at(index + 1), "enlarged" | "visible"),
            "follow" => index > 0 && after[index - 1] == "will",
            _ => false,
        }
    })
}

/// Whether the clause asks for something before the mention: `outline the left kidney, …`.
fn requested(words: &[Word<'_>], start: usize) -> bool {
    for word in words[start.saturating_sub(REACH)..start].iter().rev() {
        if ends_clause(word) || matches!(word.lower.as_str(), "and" | "but") {
            return false;
        }
        let asks = matches!(
            word.lower.as_str(),
            "segment" | "outline" | "contour" | "delineate" | "mark" | "mask" | "label" | "draw"
        ) || matches!(
            word.lower.as_str(),
            "trace" | "annotate" | "want" | "wants" | "like" | "give" | "get" | "measure" | "show"
        );
        if asks {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::words::words;
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
