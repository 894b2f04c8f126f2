//! Whether an order has anything like a structure's name.
//!
//! Lenient on purpose: a slip of the keyboard, the beginning of a word, its letters without the rest
//! and one word of a name of several are all near. What is not near was read out of nothing.

use strsim::osa_distance;

use super::{Order, Structure, Word, words};

/// Words of orders that are no part of a name, though they could be its first letters.
const PLAIN: &[&str] = &[
    "the", "a", "an", "of", "in", "on", "at", "to", "for", "and", "or", "is", "it", "as", "be",
    "by", "do", "go", "he", "hi", "if", "me", "my", "no", "not", "ok", "our", "out", "pls", "plz",
    "pt", "re", "see", "she", "so", "thx", "up", "us", "vs", "was", "we", "with", "you", "any",
    "all", "can", "but", "are", "ct", "mr", "mri", "new", "now", "per", "had", "has", "her", "his",
    "how", "let", "may", "one", "two", "this", "that", "left", "right", "both", "side", "l", "r",
    "lt", "rt", "from", "here", "scan", "please", "segment", "outline", "contour", "mark", "show",
];

/// Longest word that is taken for the letters of a name.
const LETTERS_MAX: usize = 3;

impl Order<'_> {
    /// Whether a word of the order is near a word of one of the structure's names, or two words
    /// together near a whole name, as `hippo campus` and `S.C.` are.
    pub fn comes_near(&self, structure: &Structure) -> bool {
        let said: Vec<&str> = self.words.iter().map(|word| word.lower.as_str()).collect();
        structure.nouns.iter().any(|noun| {
            let whole = noun.concat();
            let mut alone = said.iter().filter(|word| !PLAIN.contains(word));
            alone.any(|word| is_near(word, noun, &whole))
                || said.windows(2).any(|pair| {
                    let joined = pair.concat();
                    is_slip(&joined, &whole)
                        || (joined.chars().count() == 2 && is_letters(&joined, &whole))
                })
        })
    }
}

impl Structure {
    /// Whether a text has one of its names, word for word.
    pub fn is_named_in(&self, text: &str) -> bool {
        let words: Vec<Word<'_>> = words(text);
        let at = |start| self.nouns.iter().any(|noun| super::stands_at(&words, start, noun));
        (0..words.len()).any(at)
    }
}

fn is_near(word: &str, noun: &[String], whole: &str) -> bool {
    let of_name = |name: &String| {
        let (short, long) = (word.chars().count(), name.chars().count());
        !PLAIN.contains(&name.as_str())
            && (word == name
                || (short >= 3 && name.starts_with(word))
                || (long >= 4 && word.starts_with(name.as_str()))
                || is_slip(word, name))
    };
    noun.iter().any(of_name) || is_slip(word, whole) || is_letters(word, whole)
}

/// Few letters differ for the length; a swap of neighbours counts once. Digits never differ.
fn is_slip(word: &str, name: &str) -> bool {
    let shorter = word.chars().count().min(name.chars().count());
    let allowed = match shorter {
        0..=3 => 0,
        4..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    word.chars().count().abs_diff(name.chars().count()) <= allowed
        && digits(word) == digits(name)
        && osa_distance(word, name) <= allowed
}

/// `hc` for the hippocampus, `rk` for a right kidney: letters of the name in their order, the first
/// one first, behind that of a side.
fn is_letters(word: &str, whole: &str) -> bool {
    let run = |word: &str| {
        let mut rest = whole.chars();
        word.chars().next() == whole.chars().next()
            && word.chars().all(|letter| rest.any(|other| other == letter))
    };
    let length = word.chars().count();
    (2..=LETTERS_MAX).contains(&length)
        && (run(word) || word.strip_prefix(['l', 'r', 'b']).is_some_and(run))
}

#[cfg(test)]
mod tests {
    use super::super::structures;
    use super::*;
    use crate::answer::fixture::{target, vocabulary};

    #[test]
    fn tells_what_is_like_a_name_from_what_is_not() {
        let vocabulary = vocabulary();
        let near = |order: &str, name: &str| {
            let structures = structures(&[target(&vocabulary, name)], &vocabulary);
            Order::read(order, &vocabulary).comes_near(&structures[0])
        };
        for (order, name) in [
            ("outline the liver", "liver"),
            ("LIVRE pls", "liver"),
            ("liv. segmentation", "liver"),
            ("segment RK", "right kidney"),
            ("the lt kidny", "left kidney"),
            ("both kid neys", "both kidneys"),
            ("hip-bone, right", "right hip bone"),
            ("renal contour", "left kidney"),
            ("Kidney_L", "left kidney"),
            ("R.K. volume", "right kidney"),
            ("h. b. volume", "right hip bone"),
            ("which bone is it", "right hip bone"),
        ] {
            assert!(near(order, name), "{order}: {name}");
        }
        for (order, name) in [
            ("outline the glim", "liver"),
            ("segment the left wuggle in this CT scan", "left kidney"),
            ("please mark the right side", "right hip bone"),
            ("the liver", "left kidney"),
            ("", "liver"),
            ("it is of use to us", "liver"),
        ] {
            assert!(!near(order, name), "{order}: {name}");
        }
    }

    #[test]
    fn a_skill_names_what_it_is_about() {
        let vocabulary = vocabulary();
        let kidney = structures(&[target(&vocabulary, "left kidney")], &vocabulary);
        assert!(kidney[0].is_named_in("\"wuggle\" means left kidney."));
        assert!(kidney[0].is_named_in("wug->kidneys; trig={RAW:ABBR(wug)}; act={EXPAND}"));
        assert!(!kidney[0].is_named_in("\"wuggle\" means liver."));
    }
}
