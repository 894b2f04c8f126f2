//! The words of an order: sides, what the vocabulary knows, carriers, and the rest, which is jargon.

use std::collections::BTreeSet;

use crate::runtime::vocabulary::{Vocabulary, normalise};

/// A side of the patient as an order names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The patient's left.
    Left,
    /// The patient's right.
    Right,
    /// Both.
    Both,
}

impl Side {
    /// The word that names it in canonical phrases.
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Both => "both",
        }
    }

    /// The side that one word names.
    fn of_word(word: &str) -> Option<Self> {
        match word {
            "left" | "lt" | "l" | "lft" | "letf" | "leftt" | "lefft" | "sin" | "sinister"
            | "leftsided" => Some(Self::Left),
            "right" | "rt" | "r" | "rght" | "rigth" | "rihgt" | "righ" | "rightt" | "dex"
            | "dexter" | "rightsided" => Some(Self::Right),
            "both" | "bilateral" | "bilat" | "bilaterally" => Some(Self::Both),
            _ => None,
        }
    }
}

/// The side in front of a canonical name, and the structure without it.
pub fn split_name(name: &str) -> (Option<Side>, &str) {
    for side in [Side::Left, Side::Right, Side::Both] {
        let rest = name.strip_prefix(side.word()).and_then(|rest| rest.strip_prefix(' '));
        if let Some(structure) = rest {
            return (Some(side), structure);
        }
    }
    (None, name)
}

/// What the words of an order are held against.
pub struct Lexicon {
    known: BTreeSet<String>,
    carriers: BTreeSet<&'static str>,
}

/// An order read word by word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOrder {
    /// Runs of words that are neither known nor carriers, lower case, as candidates for jargon.
    pub runs: Vec<String>,
    /// The only side it names.
    pub side: Option<Side>,
    /// It names different sides, so none can be relied on.
    pub sides_differ: bool,
}

impl Lexicon {
    /// Knows every word of the vocabulary's phrases of four letters or more, and its shorter ones
    /// when they stand alone as a synonym.
    pub fn of(vocabulary: &Vocabulary) -> Self {
        let concepts = vocabulary.concepts.iter().map(|concept| (&concept.name, &concept.synonyms));
        let absent = vocabulary.absent.iter().map(|term| (&term.name, &term.synonyms));
        let phrases =
            concepts.chain(absent).flat_map(|(name, others)| std::iter::once(name).chain(others));
        let mut known = BTreeSet::new();
        for phrase in phrases {
            let phrase = normalise(phrase);
            for word in phrase.split(' ').filter(|word| word.len() >= 4 || *word == phrase) {
                known.insert(word.to_owned());
            }
        }
        Self { known, carriers: CARRIERS.iter().flat_map(|line| line.split(' ')).collect() }
    }

    /// Reads an order. Words with digits only, single letters and possessive tails are nothing.
    pub fn read(&self, text: &str) -> ReadOrder {
        let mut runs: Vec<String> = Vec::new();
        let mut run: Vec<String> = Vec::new();
        let mut sides = BTreeSet::new();
        let mut joint: Option<String> = None;
        for word in words(text) {
            if let Some(side) = Side::of_word(&word) {
                sides.insert(side);
                close(&mut runs, &mut run, &mut joint);
            } else if self.is_jargon(&word) {
                if let Some(joint) = joint.take().filter(|_| !run.is_empty()) {
                    run.push(joint);
                }
                run.push(word);
            } else if word == "of" && !run.is_empty() && joint.is_none() {
                joint = Some(word);
            } else {
                close(&mut runs, &mut run, &mut joint);
            }
        }
        close(&mut runs, &mut run, &mut joint);
        let side = if sides.len() == 1 { sides.first().copied() } else { None };
        ReadOrder { runs, side, sides_differ: sides.len() > 1 }
    }

    /// Whether a word is neither of the vocabulary nor a carrier.
    fn is_jargon(&self, word: &str) -> bool {
        let letters = word.chars().filter(|letter| letter.is_alphabetic()).count();
        letters >= 2 && !self.known.contains(word) && !self.carriers.contains(word)
    }
}

fn close(runs: &mut Vec<String>, run: &mut Vec<String>, joint: &mut Option<String>) {
    *joint = None;
    if !run.is_empty() {
        runs.push(std::mem::take(run).join(" "));
    }
}

/// Lower-case runs of letters and digits; an apostrophe ends a word and drops a lone `s` after it.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase().replace("'s ", " ").replace("’s ", " ");
    lower
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Likeness of two terms, 0 to 1: 1 − edit distance over the longer length.
pub fn likeness(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 1.0;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    1.0 - row[b.len()] as f64 / longer as f64
}

/// Words that carry a request and never name its target: verbs of the task, politeness, exams,
/// findings, numbers in words. A word that is missing here is found out by occurring with several
/// targets.
const CARRIERS: [&str; 12] = [
    "a an the this that these those it its is are was be been of on in at to for from with without and or not no nor by as than then so but if",
    "i we you he she they me us him her them my our your his their please pls plz kindly could can would will may might must should shall want wants wanted need needs needed",
    "segment segmentation segmented seg contour contours contoured delineate delineation outline outlined mask masks label draw trace mark annotate extract map highlight isolate separate paint show find locate identify get give provide make create generate produce do compute measure quantify perform obtain prepare demarcate pick cut carve autosegment",
    "volume volumes volumetry volumetric vol roi region area structure organ target task request requested order study scan scans series image images slice slices exam view views mri mr ct t1 t2 flair mprage head brainmri nccm contrast",
    "patient pt pat man woman male female year years yo old boy girl adult clinic clinical ward team surgeon doctor colleague colleagues dear hello hi thanks thank thx cheers regards asap urgent urgently stat today tomorrow now later again also just only whole entire complete full quick quickly carefully",
    "before after during since until prior previous last next first second third new follow followup up out down over under between about against per via",
    "surgery operation planning plan rt radiotherapy therapy treatment dose trial baseline research teaching registry database report reports findings finding impression indication history hx query question known suspected suspicion rule compare comparison check review output result results object 3d volumes file",
    "side sides sided one other same different affected opposite here there where what which who when how any some all each every none more less most least",
    "have has had having be being been does did done go goes going take takes taking see seen look looks like add include including ignore skip leave leaves put set use using send sent bring work deliver return",
    "disease syndrome pain loss memory headache stroke tumour tumor lesion lesions mass bleed haemorrhage hemorrhage atrophy oedema edema cyst fall trauma epilepsy seizure seizures dementia ataxia chronic acute progressive normal abnormal enlarged small large big little",
    "house style usual standard routine opinion board meeting tomorrow morning afternoon evening week weeks month months day days time hour hours",
    "aim purpose case cases subject volunteer control session protocol workup consult consultation note notes re regarding concerning ref",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evolve::fixture::vocabulary;

    #[test]
    fn finds_the_jargon_and_the_side() {
        let lexicon = Lexicon::of(&vocabulary());
        let check = |text: &str, runs: &[&str], side: Option<Side>| {
            let read = lexicon.read(text);
            assert_eq!(
                (read.runs, read.side),
                (runs.iter().map(|r| (*r).to_owned()).collect(), side),
                "{text}"
            );
        };
        check("pls contour the seahorse on the L today", &["seahorse"], Some(Side::Left));
        check("HKP-R volumetry", &["hkp"], Some(Side::Right));
        check("tree of life please", &["tree of life"], None);
        check("outline the left kidney", &[], Some(Side::Left));
        check("bilateral beans, for trial baseline", &["beans"], Some(Side::Both));
        check("segment x 3 42", &[], None);
        check("patient's lt bean", &["bean"], Some(Side::Left));
        assert!(lexicon.read("left bean, ignore the right one").sides_differ);
    }

    #[test]
    fn names_split_into_side_and_structure() {
        assert_eq!(split_name("left kidney"), (Some(Side::Left), "kidney"));
        assert_eq!(split_name("both hip bones"), (Some(Side::Both), "hip bones"));
        assert_eq!(split_name("liver"), (None, "liver"));
        assert_eq!(split_name("leftover"), (None, "leftover"));
    }

    #[test]
    fn likeness_is_one_minus_the_share_of_edits() {
        assert!((likeness("kidneys", "kidny") - 5.0 / 7.0).abs() < 1e-9);
        assert_eq!(likeness("", ""), 1.0);
        assert_eq!(likeness("abc", "xyz"), 0.0);
    }
}
