//! What an order says: its words, the sides it names and the structures it names them for.

mod exclusion;
mod mentions;
mod nearness;
mod words;

use std::collections::HashSet;
use std::ops::Range;

use super::Target;
use crate::runtime::vocabulary::{Laterality, Vocabulary, normalise};
use mentions::{Mention, Sense};
use words::stands_at;

pub(super) use exclusion::Standing;
pub(super) use mentions::{Relative, Sides};
pub(super) use words::{Word, words};

/// The order, read once.
pub(super) struct Order<'a> {
    pub words: Vec<Word<'a>>,
    mentions: Vec<Mention>,
    relative: Option<Relative>,
}

/// One structure of the answer, whichever of its sides are asked for.
pub(super) struct Structure {
    /// For findings: a name of the vocabulary, or a place.
    pub name: String,
    pub sides: Sides,
    /// The vocabulary has it, so that its other names are known.
    pub is_known: bool,
    /// Its names without sides, as words.
    nouns: Vec<Vec<String>>,
}

/// What an order says about one structure.
pub(super) struct Named {
    pub asked: Sides,
    pub excluded: Sides,
    pub of_image: bool,
    /// The side stands beside the structure's name.
    pub beside: bool,
}

/// Longest run of words that is looked at as one thing.
const RUN_WORDS_MAX: usize = 4;

/// The words of an order without those for what it leaves out or only remarks on, whatever they
/// mean: `gullet please, the cord was done last week` asks for `gullet please`. For looking things
/// up, never for reading the order: skills for structures that nobody wants mislead the reasoner.
pub fn asked_for(order: &str) -> String {
    let words = words(order);
    let mut is_asked = vec![true; words.len()];
    for start in (0..words.len()).filter(|&start| exclusion::may_name(&words[start])) {
        for end in start + 1..=words.len().min(start + RUN_WORDS_MAX) {
            if end - start > 1 && exclusion::ends_clause(&words[end - 2]) {
                break;
            }
            if exclusion::standing(&words, start, end) != Standing::Asked {
                is_asked[start..end].fill(false);
            }
        }
    }
    let asked = words.iter().zip(is_asked).filter(|(_, is_asked)| *is_asked);
    asked.map(|(word, _)| word.text).collect::<Vec<_>>().join(" ")
}

/// Whether a word (lower case) names one side.
pub(super) fn is_side_word(word: &str) -> bool {
    matches!(word, "l" | "r" | "lt" | "rt") || mentions::plain_side(word).is_some()
}

/// Sides of the mentions of one sense.
fn of(mentions: &[Mention], sense: Sense) -> Sides {
    let chosen = mentions.iter().filter(|mention| mention.sense == sense);
    chosen.fold(Sides::default(), |sides, mention| sides.union(mention.sides))
}

/// Sides asked for; a side that is only remarked on counts where no other is asked for.
fn asked(mentions: &[Mention]) -> Sides {
    let asked = of(mentions, Sense::Asked);
    if asked.is_empty() { of(mentions, Sense::Remarked) } else { asked }
}

impl<'a> Order<'a> {
    /// Finds the words of an order and the sides that it names.
    pub fn read(order: &'a str, vocabulary: &Vocabulary) -> Self {
        let words = words(order);
        let mentions = mentions::mentions(&words, &known_words(vocabulary));
        Self { relative: mentions::relative_side(&words), words, mentions }
    }

    /// How the order tells a side by way of another, if it does.
    pub fn relative(&self) -> Option<Relative> {
        self.relative
    }

    /// Places of a structure's names, as ranges of words.
    pub fn places(&self, structure: &Structure) -> Vec<Range<usize>> {
        let at = |start| {
            let nouns = structure.nouns.iter();
            let here = nouns.filter(move |noun| stands_at(&self.words, start, noun));
            here.map(move |noun| start..start + noun.len())
        };
        (0..self.words.len()).flat_map(at).collect()
    }

    /// Whether the order asks for what stands at a place.
    pub fn standing(&self, place: &Range<usize>) -> Standing {
        exclusion::standing(&self.words, place.start, place.end)
    }

    /// Whether sides stand beside a name and none of them is the structure's.
    pub fn is_of_other_side(&self, place: &Range<usize>, structure: &Structure) -> bool {
        let beside = self.beside_place(place);
        let named = beside.iter().fold(Sides::default(), |sides, m| sides.union(m.sides));
        !named.is_empty()
            && !structure.sides.is_empty()
            && named.intersection(structure.sides).is_empty()
    }

    /// Collects the sides beside a structure's name; failing that, all sides of the order.
    pub fn named(&self, structure: &Structure) -> Named {
        let beside = self.beside(structure);
        let asked = asked(&beside);
        if !asked.is_empty() {
            let excluded = of(&beside, Sense::Excluded).union(self.excluded_alone());
            return Named { asked, excluded, of_image: false, beside: true };
        }
        // `both` far from the name may join two structures; it counts only when nothing else does.
        let plain: Vec<Mention> =
            self.mentions.iter().filter(|mention| !mention.collective).copied().collect();
        let candidates = [self::asked(&plain), self::asked(&self.mentions)];
        let asked = candidates.into_iter().find(|sides| !sides.is_empty());
        Named {
            asked: asked.unwrap_or_else(|| self.letter_pairs(structure)),
            excluded: of(&self.mentions, Sense::Excluded),
            of_image: self.mentions.iter().any(|mention| mention.sense == Sense::OfImage),
            beside: false,
        }
    }

    /// Sides left out without a name: `not the left one`, `skip the right side`, `not left`.
    fn excluded_alone(&self) -> Sides {
        let is_alone = |mention: &&Mention| {
            let next = self.words.get(mention.word + 1).map_or("", |word| word.lower.as_str());
            mention.sense == Sense::Excluded
                && (matches!(next, "" | "one" | "ones" | "side")
                    || self.words[mention.word].gap.contains([',', ';', ':', '.', ')', '\n']))
        };
        let alone = self.mentions.iter().filter(is_alone);
        alone.fold(Sides::default(), |sides, mention| sides.union(mention.sides))
    }

    /// Sides asked for beside a structure's name.
    pub fn asked_beside(&self, structure: &Structure) -> Sides {
        asked(&self.beside(structure))
    }

    /// `LK` or `L.K.` for the left kidney, where the order names no side otherwise.
    fn letter_pairs(&self, structure: &Structure) -> Sides {
        let initial = structure.nouns.first().and_then(|noun| noun.first()?.chars().next());
        if initial.is_none() || !self.mentions.is_empty() {
            return Sides::default();
        }
        let side = |letter: Option<char>| match letter {
            Some('l') => Sides::LEFT,
            Some('r') => Sides::RIGHT,
            _ => Sides::default(),
        };
        let mut found = Sides::default();
        for (index, word) in self.words.iter().enumerate() {
            let mut letters = word.lower.chars();
            let pair = [letters.next(), letters.next(), letters.next()];
            let joined = matches!(pair, [_, Some(_), None])
                && pair[1] == initial
                && !matches!(
                    word.text,
                    "la" | "le" | "lo" | "ra" | "re" | "La" | "Le" | "Lo" | "Re"
                );
            let dotted = matches!(pair, [_, None, _]) && word.gap == "." && {
                let next = self.words.get(index + 1).map(|next| next.lower.chars());
                next.is_some_and(|mut next| next.next() == initial && next.next().is_none())
            };
            if joined || dotted {
                found = found.union(side(pair[0]));
            }
        }
        found
    }

    fn beside(&self, structure: &Structure) -> Vec<Mention> {
        self.places(structure).iter().flat_map(|place| self.beside_place(place)).collect()
    }

    fn beside_place(&self, place: &Range<usize>) -> Vec<Mention> {
        let before = self.before(place.start);
        if before.is_empty() { self.after(place.end) } else { before }
    }

    /// Sides before a name: `left`, `left-sided`, `left and right`, `left side of the`.
    fn before(&self, start: usize) -> Vec<Mention> {
        let mut found = Vec::new();
        for index in (0..start).rev() {
            let word = &self.words[index];
            let clause_ends = word.gap.contains([';', ':', '\n', ','])
                || (word.gap.contains('.') && word.lower.len() > 2);
            if clause_ends {
                break;
            }
            if let Some(mention) = self.mention_at(index) {
                found.push(*mention);
            } else if !matches!(
                word.lower.as_str(),
                "and" | "or" | "the" | "of" | "side" | "sided" | "hand" | "s" | "b" | "l"
            ) {
                break;
            }
        }
        found
    }

    /// Sides after a name: `kidney left`, `kidney (L)`, `kidney, right`, `kidney on the left`. A
    /// side that leads to the next word over a comma belongs to that one.
    fn after(&self, end: usize) -> Vec<Mention> {
        let mut comma = false;
        for index in end..self.words.len() {
            let gap_before = self.words[index - 1].gap;
            if gap_before.contains([';', '.', '\n']) {
                break;
            }
            comma |= gap_before.contains(',');
            if let Some(mention) = self.mention_at(index) {
                let leads_on = self.words[index].gap == " "
                    && self.words.get(index + 1).is_some_and(|next| {
                        !matches!(next.lower.as_str(), "side" | "only" | "please" | "pls" | "one")
                    });
                let joins = comma && leads_on;
                return if joins { Vec::new() } else { vec![*mention] };
            }
            let connects = matches!(
                self.words[index].lower.as_str(),
                "on" | "the" | "of" | "in" | "at" | "side" | "only" | "not" | "one"
            );
            if !connects {
                break;
            }
        }
        Vec::new()
    }

    fn mention_at(&self, word: usize) -> Option<&Mention> {
        self.mentions.iter().find(|mention| mention.word == word)
    }
}

/// Unites the sides of one structure: `left kidney; right kidney` asks for both kidneys.
pub(super) fn structures(targets: &[Target], vocabulary: &Vocabulary) -> Vec<Structure> {
    let mut found: Vec<Structure> = Vec::new();
    for (index, target) in targets.iter().enumerate() {
        let place = format!("target {} of {}", index + 1, targets.len());
        let structure = structure(target, place, vocabulary);
        match found.iter_mut().find(|other| other.nouns == structure.nouns) {
            Some(other) => other.sides = other.sides.union(structure.sides),
            None => found.push(structure),
        }
    }
    found
}

fn structure(target: &Target, place: String, vocabulary: &Vocabulary) -> Structure {
    let Some(concept) = &target.concept else {
        let words = words(&target.phrase);
        let named = mentions::mentions(&words, &known_words(vocabulary));
        let sides =
            named.iter().fold(Sides::default(), |sides, mention| sides.union(mention.sides));
        let nouns = nouns([&target.phrase]);
        return Structure { name: place, sides, is_known: false, nouns };
    };
    let sides = match concept.laterality {
        Laterality::Left => Sides::LEFT,
        Laterality::Right => Sides::RIGHT,
        Laterality::Both => Sides::BOTH,
        Laterality::None => Sides::default(),
    };
    // The sides of a structure share its code; together they hold all of its names.
    let same = vocabulary.concepts.iter().filter(|other| {
        other.name == concept.name
            || (other.property_type == concept.property_type
                && concept.laterality != Laterality::None
                && other.laterality != Laterality::None)
    });
    let names = same.flat_map(|other| std::iter::once(&other.name).chain(&other.synonyms));
    Structure { name: concept.name.clone(), sides, is_known: true, nouns: nouns(names) }
}

/// Names without their sides, as words, each once.
fn nouns<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for name in names {
        let noun: Vec<String> = normalise(name)
            .split(' ')
            .filter(|word| {
                !is_side_word(word)
                    && !matches!(*word, "both" | "bilateral" | "sided" | "side" | "and" | "")
            })
            .map(str::to_owned)
            .collect();
        if !noun.is_empty() && !found.contains(&noun) {
            found.push(noun);
        }
    }
    found
}

fn known_words(vocabulary: &Vocabulary) -> HashSet<String> {
    let concepts =
        vocabulary.concepts.iter().flat_map(|c| std::iter::once(&c.name).chain(&c.synonyms));
    let absent = vocabulary.absent.iter().flat_map(|t| std::iter::once(&t.name).chain(&t.synonyms));
    let mut words = HashSet::new();
    for name in concepts.chain(absent) {
        words.extend(normalise(name).split(' ').filter(|w| w.len() > 2).map(str::to_owned));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::asked_for;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        for (order, kept, gone) in [
            ("Gullet please. The spinal cord was done last week.", "gullet", "cord"),
            ("outline the blob, not the left wuggle", "blob", "wuggle"),
            ("Really just the voice box. Do not include the brainstem.", "voice box", "brainstem"),
            ("Skip the glim; draw the borf", "borf", "glim"),
            ("don't forget the spleen", "spleen", "liver"),
            ("The left parotid gland looks normal to us, so mask the gullet", "gullet", "parotid"),
            ("no contrast. liver and spleen", "liver and spleen", "kidney"),
        ] {
            let asked = asked_for(order).to_lowercase();
            assert!(asked.contains(kept), "{order}: {asked}");
            assert!(!asked.contains(gone), "{order}: {asked}");
        }
        assert_eq!(asked_for("L. K. (3D), please!"), "L K 3D please");
        assert_eq!(asked_for(""), "");
    }
}
