//! An inverted index over the words of triggers and aliases, with runs of letters for typos.

use std::collections::HashMap;
use std::sync::Arc;

use super::Skill;
use crate::bank::words::{letter_runs, similarity_of_letters, typos_allowed, words};

/// Most phrases that are scored exactly.
const CANDIDATES_MAX: usize = 512;
/// Most entries of posting lists that one order walks through; rare words go first.
const POSTINGS_BUDGET: usize = 50_000;
/// A phrase of whose weight an order has less than this share is not found.
const SHARE_MIN: f32 = 0.3;
/// Most unknown words of one order that are looked up with typos.
const MISSPELLED_MAX: usize = 96;
/// Letters in the runs that lead from a misspelled word to those it may mean.
const RUN_SIZES: [usize; 2] = [2, 3];
/// What a word of order language weighs beside a word of substance.
const ORDER_WORD_WEIGHT: f32 = 0.15;
/// What is left of a score when the order names the other side.
const OTHER_SIDE: f32 = 0.4;
/// What a phrase loses at most when the order scatters its words.
const SCATTER_LOSS: f32 = 0.3;

/// Words that orders are made of whatever they ask for.
const ORDER_WORDS: [&str; 42] = [
    "a",
    "all",
    "an",
    "and",
    "can",
    "contour",
    "could",
    "delineate",
    "do",
    "entire",
    "for",
    "from",
    "get",
    "give",
    "i",
    "image",
    "in",
    "is",
    "it",
    "mask",
    "me",
    "need",
    "of",
    "on",
    "or",
    "outline",
    "please",
    "pls",
    "scan",
    "seg",
    "segment",
    "segmentation",
    "show",
    "study",
    "the",
    "this",
    "to",
    "volume",
    "volumetry",
    "want",
    "with",
    "you",
];

/// A phrase that may fit, with how well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Index of the skill.
    pub skill: u32,
    /// Index of the phrase among the skill's: 0 is the trigger.
    pub phrase: u32,
    /// 0 to 1.
    pub lexical: f32,
}

pub(super) struct Index {
    known: HashMap<String, u32>,
    words: Vec<Word>,
    /// Words of four letters and more by their runs of two and of three letters and their length.
    runs: [HashMap<(u64, usize), Vec<u32>>; 2],
    phrases: Vec<Phrase>,
    sides: [Option<u32>; 2],
}

struct Word {
    letters: Box<[char]>,
    weight: f32,
    /// How many phrases have it.
    count: u32,
    /// Phrases that can be found by it: without it, [`SHARE_MIN`] is out of reach or left to
    /// rarer words.
    phrases: Vec<u32>,
}

struct Phrase {
    skill: u32,
    number: u32,
    words: Box<[u32]>,
    weight: f32,
}

/// Where an order has a word of the index.
struct Hit {
    similarity: f32,
    positions: Vec<usize>,
}

impl Index {
    pub fn build(skills: &[Arc<Skill>]) -> Self {
        let mut index = Self {
            known: HashMap::new(),
            words: Vec::new(),
            runs: Default::default(),
            phrases: Vec::new(),
            sides: [None; 2],
        };
        for (skill, number) in (0_u32..).zip(skills).map(|(at, skill)| (skill, at)) {
            for (phrase, text) in (0_u32..).zip(skill.phrases()) {
                index.add(number, phrase, text);
            }
        }
        index.weigh();
        index.list();
        index.sides = ["left", "right"].map(|side| index.known.get(side).copied());
        index
    }

    fn add(&mut self, skill: u32, number: u32, text: &str) {
        let ids: Box<[u32]> = spoken(text).iter().map(|word| self.word(word)).collect();
        if ids.is_empty() {
            return;
        }
        for (at, id) in ids.iter().enumerate() {
            self.words[*id as usize].count += u32::from(!ids[..at].contains(id));
        }
        self.phrases.push(Phrase { skill, number, words: ids, weight: 0.0 });
    }

    fn word(&mut self, text: &str) -> u32 {
        if let Some(id) = self.known.get(text) {
            return *id;
        }
        let id = self.words.len() as u32;
        let letters: Box<[char]> = text.chars().collect();
        if typos_allowed(letters.len()) > 0 {
            for (lists, size) in self.runs.iter_mut().zip(RUN_SIZES) {
                for run in letter_runs(&letters, size) {
                    lists.entry((run, letters.len())).or_default().push(id);
                }
            }
        }
        self.words.push(Word { letters, weight: 0.0, count: 0, phrases: Vec::new() });
        self.known.insert(text.to_owned(), id);
        id
    }

    /// Rare words weigh more (inverse document frequency), words of order language little.
    fn weigh(&mut self) {
        let total = self.phrases.len() as f32;
        for word in &mut self.words {
            word.weight = (1.0 + total / word.count as f32).ln();
        }
        for text in ORDER_WORDS {
            if let Some(id) = self.known.get(text) {
                self.words[*id as usize].weight *= ORDER_WORD_WEIGHT;
            }
        }
        for phrase in &mut self.phrases {
            phrase.weight = phrase.words.iter().map(|id| self.words[*id as usize].weight).sum();
        }
    }

    /// Lists each phrase under its heavy words. The light ones that together weigh less than
    /// [`SHARE_MIN`] are left out: an order that has nothing else of the phrase does not call for
    /// it, and "left" does not lead to half of a large bank.
    fn list(&mut self) {
        for (phrase, entry) in (0_u32..).zip(&self.phrases) {
            let mut words = entry.words.to_vec();
            let weight = |id: &u32| self.words[*id as usize].weight;
            words.sort_by(|left, right| {
                weight(left).total_cmp(&weight(right)).then(left.cmp(right))
            });
            let mut left_out = 0.0;
            let heavy = words.iter().position(|id| {
                left_out += weight(id);
                left_out >= SHARE_MIN * entry.weight
            });
            let mut heavy = words.split_off(heavy.unwrap_or(0));
            heavy.dedup();
            for id in heavy {
                self.words[id as usize].phrases.push(phrase);
            }
        }
    }

    /// The best phrase of each skill that shares words with an order, by skill.
    pub fn candidates(&self, text: &str) -> Vec<Candidate> {
        let hits = self.hits(&spoken(text));
        let mut best: HashMap<u32, Candidate> = HashMap::new();
        for phrase in self.reached(&hits) {
            let entry = &self.phrases[phrase as usize];
            let lexical = self.lexical(entry, &hits);
            let candidate = Candidate { skill: entry.skill, phrase: entry.number, lexical };
            let known = best.entry(entry.skill).or_insert(candidate);
            let better = lexical > known.lexical
                || lexical == known.lexical && candidate.phrase < known.phrase;
            if better {
                *known = candidate;
            }
        }
        let mut found: Vec<Candidate> = best.into_values().collect();
        found.sort_by_key(|candidate| candidate.skill);
        found
    }

    /// The words of the index that an order has, exactly or with typos.
    fn hits(&self, order: &[String]) -> HashMap<u32, Hit> {
        let mut hits: HashMap<u32, Hit> = HashMap::new();
        let mut note = |id: u32, similarity: f32, position: usize| {
            let hit = hits.entry(id).or_insert(Hit { similarity, positions: Vec::new() });
            hit.similarity = hit.similarity.max(similarity);
            if hit.positions.last() != Some(&position) {
                hit.positions.push(position);
            }
        };
        let mut seen = vec![false; self.words.len()];
        let mut looked_up: HashMap<&str, Vec<(u32, f32)>> = HashMap::new();
        let mut misspelled = 0;
        for (position, word) in order.iter().enumerate() {
            if let Some(id) = self.known.get(word.as_str()) {
                note(*id, 1.0, position);
            } else if ORDER_WORDS.binary_search(&word.as_str()).is_err() {
                if !looked_up.contains_key(word.as_str()) && misspelled < MISSPELLED_MAX {
                    misspelled += 1;
                    looked_up.insert(word, self.alike(word, &mut seen));
                }
                for (id, similarity) in looked_up.get(word.as_str()).into_iter().flatten() {
                    note(*id, *similarity, position);
                }
            }
            // "hippo campus" is one word of the bank.
            if let Some(next) = order.get(position + 1)
                && let Some(id) = self.known.get(&format!("{word}{next}"))
            {
                note(*id, 0.95, position);
            }
        }
        hits
    }

    /// The words of the index nearest to a misspelled word: with one typo, else two, else three.
    /// `seen` is false before and after.
    fn alike(&self, word: &str, seen: &mut [bool]) -> Vec<(u32, f32)> {
        let letters: Vec<char> = word.chars().collect();
        let mut found = Vec::new();
        for typos in 1..=typos_allowed(letters.len()) {
            // A swap spoils the most runs, one more than they are long. The longer ones lead to
            // fewer words, but a short word may have none that is left whole.
            let longer = usize::from(letters.len() > (RUN_SIZES[1] + 1) * typos);
            let size = RUN_SIZES[longer];
            let (runs, lists) = (letter_runs(&letters, size), &self.runs[longer]);
            for length in letters.len() - typos..=letters.len() + typos {
                let with = |run: &u64| lists.get(&(*run, length)).map_or(&[][..], Vec::as_slice);
                let mut lists: Vec<&[u32]> = runs.iter().map(with).collect();
                // One run more than can be spoilt holds one of a word that is meant: those with
                // the fewest words will do.
                lists.sort_by_key(|list| list.len());
                lists.truncate((size + 1) * typos + 1);
                self.alike_in(&lists, (&letters, typos), seen, &mut found);
            }
            if !found.is_empty() {
                break;
            }
        }
        found.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        found
    }

    fn alike_in(
        &self,
        lists: &[&[u32]],
        (letters, typos): (&[char], usize),
        seen: &mut [bool],
        found: &mut Vec<(u32, f32)>,
    ) {
        for id in lists.iter().copied().flatten() {
            if std::mem::replace(&mut seen[*id as usize], true) {
                continue;
            }
            let alike = similarity_of_letters(letters, &self.words[*id as usize].letters, typos);
            if alike > 0.0 {
                found.push((*id, alike));
            }
        }
        for id in lists.iter().copied().flatten() {
            seen[*id as usize] = false;
        }
    }

    /// Phrases that share the rarest words with the order, the most promising ones.
    fn reached(&self, hits: &HashMap<u32, Hit>) -> Vec<u32> {
        let mut words: Vec<(u32, f32)> =
            hits.iter().map(|(id, hit)| (*id, hit.similarity)).collect();
        words.sort_by_key(|(id, _)| (self.words[*id as usize].phrases.len(), *id));
        let mut gathered: HashMap<u32, f32> = HashMap::new();
        let mut budget = POSTINGS_BUDGET;
        for (id, similarity) in words {
            let word = &self.words[id as usize];
            if budget == 0 || word.phrases.len() > budget && !gathered.is_empty() {
                break;
            }
            let taken = word.phrases.len().min(budget);
            budget -= taken;
            for phrase in &word.phrases[..taken] {
                *gathered.entry(*phrase).or_default() += word.weight * similarity;
            }
        }
        let mut reached: Vec<(u32, f32)> = gathered
            .into_iter()
            .map(|(phrase, sum)| (phrase, sum / self.phrases[phrase as usize].weight))
            .collect();
        let order = |left: &(u32, f32), right: &(u32, f32)| {
            right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
        };
        if reached.len() > CANDIDATES_MAX {
            reached.select_nth_unstable_by(CANDIDATES_MAX, order);
            reached.truncate(CANDIDATES_MAX);
        }
        reached.into_iter().map(|(phrase, _)| phrase).collect()
    }

    /// The weighted share of a phrase's words that the order has; less when they lie scattered or
    /// the order names the other side.
    fn lexical(&self, phrase: &Phrase, hits: &HashMap<u32, Hit>) -> f32 {
        let (mut sum, mut found, mut at) = (0.0, 0_usize, None::<usize>);
        let (mut first, mut last) = (usize::MAX, 0);
        for id in &phrase.words {
            let Some(hit) = hits.get(id) else { continue };
            sum += self.words[*id as usize].weight * hit.similarity;
            found += 1;
            let expected = at.map_or(0, |at| at + 1);
            let nearest = hit.positions.iter().min_by_key(|p| p.abs_diff(expected));
            if let Some(position) = nearest {
                let position = if at.is_some() { *position } else { hit.positions[0] };
                (first, last) = (first.min(position), last.max(position));
                at = Some(position);
            }
        }
        if found == 0 || phrase.weight <= 0.0 {
            return 0.0;
        }
        let span = (last - first + 1).max(found) as f32;
        let compact = 1.0 - SCATTER_LOSS * (1.0 - found as f32 / span);
        let side = if self.names_other_side(phrase, hits) { OTHER_SIDE } else { 1.0 };
        (sum / phrase.weight * compact * side).clamp(0.0, 1.0)
    }

    fn names_other_side(&self, phrase: &Phrase, hits: &HashMap<u32, Hit>) -> bool {
        let says = |side: Option<u32>| side.is_some_and(|side| phrase.words.contains(&side));
        let hit = |side: Option<u32>| side.is_some_and(|side| hits.contains_key(&side));
        let [left, right] = self.sides;
        says(left) && !says(right) && hit(right) && !hit(left)
            || says(right) && !says(left) && hit(left) && !hit(right)
    }
}

/// The words of a text with every spelling of a side as one.
pub(super) fn spoken(text: &str) -> Vec<String> {
    let mut words = words(text);
    for word in &mut words {
        let plain = match word.as_str() {
            "l" | "lt" | "lft" | "lhs" => "left",
            "r" | "rt" | "rgt" | "rhs" => "right",
            "bilat" | "bil" | "bl" => "bilateral",
            _ => continue,
        };
        plain.clone_into(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bank::NewSkill;

    fn index_of(words: &[String]) -> Index {
        let skill = |word: &String| {
            let (tag, target) = (crate::bank::tag::ABBR_DISAMBIGUATE.into(), "liver".into());
            let new = NewSkill { tag, trigger: word.clone(), target, ..NewSkill::default() };
            Skill::new(new).ok().map(Arc::new)
        };
        Index::build(&words.iter().filter_map(skill).collect::<Vec<_>>())
    }

    proptest::proptest! {
        /// The short way over runs of letters finds what looking at every word finds.
        #[test]
        fn the_nearest_words_are_found_as_by_looking_at_all(
            words in proptest::collection::vec("[abcd]{3,11}", 1..40), word in "[abcd]{4,11}",
        ) {
            let index = index_of(&words);
            let letters: Vec<char> = word.chars().collect();
            let within = |typos: usize| -> Vec<(u32, f32)> {
                let alike = |other: &Word| similarity_of_letters(&letters, &other.letters, typos);
                let all = (0_u32..).zip(index.words.iter().map(alike));
                let mut found: Vec<_> = all.filter(|(_, alike)| *alike > 0.0).collect();
                found.sort_by(|l, r| r.1.total_cmp(&l.1).then(l.0.cmp(&r.0)));
                found
            };
            // A word of the index is looked up before its neighbours are.
            if !index.known.contains_key(&word) {
                let nearest = (1..=typos_allowed(letters.len())).map(within);
                let expected = nearest.into_iter().find(|found| !found.is_empty());
                let mut seen = vec![false; index.words.len()];
                let found = index.alike(&word, &mut seen);
                proptest::prop_assert_eq!(found, expected.unwrap_or_default());
                proptest::prop_assert!(!seen.contains(&true));
            }
        }
    }
}
