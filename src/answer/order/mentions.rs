//! Where an order names a side.

use std::collections::HashSet;

use super::exclusion::{Standing, standing};
use super::words::Word;

/// Left, right, or both, at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::answer) struct Sides {
    pub left: bool,
    pub right: bool,
}

impl Sides {
    pub const LEFT: Self = Self { left: true, right: false };
    pub const RIGHT: Self = Self { left: false, right: true };
    pub const BOTH: Self = Self { left: true, right: true };

    pub fn union(self, other: Self) -> Self {
        Self { left: self.left || other.left, right: self.right || other.right }
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub fn is_one(self) -> bool {
        self.left != self.right
    }

    pub fn opposite(self) -> Self {
        Self { left: self.right, right: self.left }
    }

    pub fn intersection(self, other: Self) -> Self {
        Self { left: self.left && other.left, right: self.right && other.right }
    }
}

/// How a side is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    /// The patient's side is asked for.
    Asked,
    /// The patient's side is told to be normal or done: asked for only where no other is.
    Remarked,
    /// The patient's side is excluded.
    Excluded,
    /// The side of a picture, which a radiological display mirrors.
    OfImage,
}

/// One naming of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mention {
    /// Index into the words.
    pub word: usize,
    pub sides: Sides,
    pub sense: Sense,
    /// `both` and its like, which may mean two structures rather than two sides.
    pub collective: bool,
}

/// Finds every side an order names. `known` holds the words of the vocabulary's phrases: they
/// tell `L. kidney` from `L. Brown`.
pub(super) fn mentions(words: &[Word<'_>], known: &HashSet<String>) -> Vec<Mention> {
    let at = Reader { words, known };
    let mut found: Vec<Mention> = (0..words.len())
        .filter_map(|word| {
            let (sides, collective) = at.side(word)?;
            let sense = if at.is_of_image(word) {
                Sense::OfImage
            } else {
                match standing(words, word, word + 1) {
                    Standing::Excluded => Sense::Excluded,
                    Standing::Remarked => Sense::Remarked,
                    Standing::Asked => Sense::Asked,
                }
            };
            Some(Mention { word, sides, sense, collective })
        })
        .collect();
    share_exclusion(words, &mut found);
    found
}

/// A side told by way of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::answer) enum Relative {
    /// `contralateral`, `the other side`.
    Opposite,
    /// `ipsilateral`, `the affected side`: which one is not known from the words alone.
    Other,
}

/// Whether the order tells a side by way of another; the opposite one wins.
pub(super) fn relative_side(words: &[Word<'_>]) -> Option<Relative> {
    let of = |(index, word): (usize, &Word<'_>)| {
        let side_follows = words.get(index + 1).is_some_and(|next| next.lower == "side");
        match word.lower.as_str() {
            "contralateral" | "contralaterally" | "opposite" => Some(Relative::Opposite),
            "ipsilateral" | "ipsilaterally" => Some(Relative::Other),
            "other" if side_follows => Some(Relative::Opposite),
            "same" | "affected" | "unaffected" | "healthy" if side_follows => Some(Relative::Other),
            _ => None,
        }
    };
    let found: Vec<Relative> = words.iter().enumerate().filter_map(of).collect();
    let opposite = found.contains(&Relative::Opposite).then_some(Relative::Opposite);
    opposite.or(found.first().copied())
}

/// `not left or right` excludes both.
fn share_exclusion(words: &[Word<'_>], mentions: &mut [Mention]) {
    for index in 1..mentions.len() {
        let (before, here) = (mentions[index - 1], mentions[index]);
        let joined = words[before.word + 1..here.word]
            .iter()
            .all(|word| matches!(word.lower.as_str(), "or" | "nor" | "the"));
        if joined && here.word - before.word > 1 && before.sense == Sense::Excluded {
            mentions[index].sense = Sense::Excluded;
        }
    }
}

/// Plain words for a side, with the slips of the keyboard that are no other word
/// (`light`, `let` and `cleft` are).
pub(super) fn plain_side(lower: &str) -> Option<Sides> {
    match lower {
        "left" | "lft" | "lfet" | "letf" | "elft" | "lefft" | "leeft" | "leftt" | "lleft"
        | "leftsided" | "lhs" => Some(Sides::LEFT),
        "right" | "rgt" | "rigth" | "rihgt" | "rgiht" | "irght" | "rght" | "riht" | "rigt"
        | "righ" | "rright" | "riight" | "rigght" | "righht" | "rightt" | "rightsided" | "rhs" => {
            Some(Sides::RIGHT)
        }
        _ => None,
    }
}

/// Reads one word with its neighbours.
struct Reader<'a> {
    words: &'a [Word<'a>],
    known: &'a HashSet<String>,
}

impl Reader<'_> {
    fn side(&self, index: usize) -> Option<(Sides, bool)> {
        let word = &self.words[index];
        if let Some(sides) = plain_side(&word.lower) {
            return (!self.is_another_sense(index)).then_some((sides, false));
        }
        match word.lower.as_str() {
            "both" | "bilateral" | "bilaterally" | "bilat" => Some((Sides::BOTH, true)),
            "lt" if self.is_abbreviated_side(index) => Some((Sides::LEFT, false)),
            "rt" if self.is_abbreviated_side(index) => Some((Sides::RIGHT, false)),
            "b" if word.gap == "/" && self.lower(index + 1) == "l" => Some((Sides::BOTH, true)),
            "l" if self.is_letter_side(index) => Some((Sides::LEFT, false)),
            "r" if self.is_letter_side(index) => Some((Sides::RIGHT, false)),
            _ => match word.text {
                "LUL" | "LLL" | "LUQ" | "LLQ" => Some((Sides::LEFT, false)),
                "RUL" | "RML" | "RLL" | "RUQ" | "RLQ" => Some((Sides::RIGHT, false)),
                _ => None,
            },
        }
    }

    fn lower(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.lower)
    }

    /// The word `back` places before; empty at the start.
    fn before(&self, index: usize, back: usize) -> &str {
        index.checked_sub(back).map_or("", |at| &self.words[at].lower)
    }

    fn gap_before(&self, index: usize) -> &str {
        index.checked_sub(1).map_or(" ", |at| self.words[at].gap)
    }

    /// `right now`, `what is left`, `right-handed`, `left-to-right shunt`, `left lateral decubitus`.
    fn is_another_sense(&self, index: usize) -> bool {
        let (next, after) = (self.lower(index + 1), self.lower(index + 2));
        let attached = self.words[index].gap.chars().all(|c| matches!(c, ' ' | '-'));
        let followed = match next {
            "now" | "away" | "handed" | "hander" | "handedness" | "over" | "alone" | "out"
            | "untreated" | "here" | "there" | "then" | "next" | "above" | "below" | "behind"
            | "before" | "after" | "decubitus" | "dominant" => true,
            "lateral" => after == "decubitus",
            "anterior" | "posterior" => after == "oblique",
            "to" => plain_side(after).is_some(),
            _ => false,
        };
        let led = match self.before(index, 1) {
            "all" | "just" | "nothing" | "remains" => true,
            "is" | "was" => self.before(index, 2) == "what",
            "to" => plain_side(self.before(index, 2)).is_some(),
            _ => false,
        };
        (attached && followed) || led
    }

    /// `RT` is also radiotherapy, `LT` liver transplantation, `Lt.` a lieutenant.
    fn is_abbreviated_side(&self, index: usize) -> bool {
        let therapy_after = matches!(
            self.lower(index + 1),
            "planning"
                | "plan"
                | "plans"
                | "dose"
                | "field"
                | "fields"
                | "course"
                | "boost"
                | "treatment"
                | "simulation"
                | "sim"
                | "changes"
                | "struct"
                | "structure"
                | "structures"
                | "fractions"
                | "fraction"
                | "contour"
                | "contouring"
                | "col"
        );
        let leads_to_structure =
            self.words[index].gap == " " && self.known.contains(self.lower(index + 1));
        let therapy_before = matches!(
            self.before(index, 1),
            "post"
                | "pre"
                | "after"
                | "before"
                | "prior"
                | "chemo"
                | "adjuvant"
                | "neoadjuvant"
                | "palliative"
                | "radical"
                | "s"
                | "p"
                | "for"
        ) && !leads_to_structure;
        !therapy_after && !therapy_before && !self.is_initial(index)
    }

    /// A lone `L` or `R` is a side unless its neighbours make it something else: `R/O`, `L/S`,
    /// `L 4`, `L-spine`, `2 L`, `R. Jones`, `l'`.
    fn is_letter_side(&self, index: usize) -> bool {
        let (gap, gap_before) = (self.words[index].gap, self.gap_before(index));
        let (next, before) = (self.lower(index + 1), self.before(index, 1));
        let is_number = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
        let is_other_letter =
            |word: &str| word.chars().count() == 1 && !matches!(word, "l" | "r" | "b");
        let tight = |gap: &str| matches!(gap, "/" | "-" | "." | "&");
        let named_otherwise = matches!(
            next,
            "spine"
                | "spines"
                | "vertebra"
                | "vertebrae"
                | "vertebral"
                | "level"
                | "levels"
                | "spinal"
                | "wave"
                | "waves"
                | "value"
                | "axis"
                | "shaped"
                | "dopa"
                | "u"
                | "you"
        );
        let number_beside = is_number(next) && gap.trim_matches([' ', '-']).is_empty()
            || is_number(before) && gap_before.trim().is_empty();
        let letter_beside = tight(gap) && is_other_letter(next)
            || tight(gap_before) && is_other_letter(before)
            || before == "b" && gap_before == "/";
        let apostrophe = |text: &str| text.contains(['\'', '’']);
        let elided = apostrophe(gap) || apostrophe(gap_before);
        let is_other =
            named_otherwise || number_beside || letter_beside || elided || self.is_initial(index);
        !is_other
    }

    /// `R. Jones`, `Dr. L.`, `J. R. Smith`, `Lt. Smith`.
    fn is_initial(&self, index: usize) -> bool {
        let word = &self.words[index];
        let titled = matches!(self.before(index, 1), "dr" | "mr" | "mrs" | "ms" | "prof" | "miss");
        let capital = word.text.starts_with(char::is_uppercase);
        let name_follows = word.gap.starts_with('.')
            && self.words.get(index + 1).is_some_and(|next| {
                next.text.starts_with(char::is_uppercase)
                    && next.text.contains(char::is_lowercase)
                    && !self.known.contains(&next.lower)
            });
        titled || (capital && name_follows)
    }

    /// `left side of the image`, `screen left`, `viewer's left`.
    fn is_of_image(&self, index: usize) -> bool {
        let is_picture = |word: &str| {
            matches!(
                word,
                "image" | "images" | "picture" | "screen" | "display" | "monitor" | "view"
            )
        };
        let mut ahead = index + 1;
        while matches!(
            self.lower(ahead),
            "side" | "hand" | "part" | "half" | "of" | "in" | "on" | "the"
        ) {
            ahead += 1;
        }
        let back = if self.before(index, 1) == "s" { 2 } else { 1 };
        (ahead > index + 1 && is_picture(self.lower(ahead)))
            || is_picture(self.before(index, 1))
            || matches!(self.before(index, back), "viewer" | "viewers" | "observer" | "reader")
    }
}
