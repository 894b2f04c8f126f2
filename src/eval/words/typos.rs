//! How people mistype: neighbouring keys, swapped, lost and doubled letters, spelling by ear.

use crate::eval::random::Random;

/// Words shorter than this are left alone: a slip in `lt` or `left` could name the other side or
/// nothing at all.
const LETTERS_MIN: usize = 5;
/// Words that say a side or a denial are left alone whatever their length.
const KEPT: [&str; 8] =
    ["left", "right", "both", "bilateral", "without", "except", "sided", "ignore"];

/// The rows of a QWERTY keyboard.
const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

/// Spelling by ear, both ways.
const BY_EAR: [(&str, &str); 14] = [
    ("ph", "f"),
    ("ae", "e"),
    ("oe", "e"),
    ("y", "i"),
    ("pp", "p"),
    ("ll", "l"),
    ("mm", "m"),
    ("ss", "s"),
    ("ch", "k"),
    ("sc", "s"),
    ("th", "t"),
    ("que", "k"),
    ("ei", "ie"),
    ("c", "k"),
];

/// The phrase with one slip in one of its long words, sometimes two.
pub(super) fn slip(phrase: &str, random: &mut Random) -> String {
    let mut words: Vec<String> = phrase.split(' ').map(str::to_owned).collect();
    let slips = if random.chance(0.25) { 2 } else { 1 };
    for _ in 0..slips {
        let long: Vec<usize> = (0..words.len()).filter(|&at| can_slip(&words[at])).collect();
        if long.is_empty() {
            return words.join(" ");
        }
        let at = *random.pick(&long);
        words[at] = slip_word(&words[at], random);
    }
    words.join(" ")
}

/// Slips in the other words of a sentence, rarely.
pub(super) fn slip_sentence(text: &str, surface: &str, random: &mut Random) -> String {
    let Some(start) = text.find(surface) else { return text.to_owned() };
    let (before, after) = (&text[..start], &text[start + surface.len()..]);
    let mut rough = |part: &str| -> String {
        part.split(' ')
            .map(|word| {
                let slips = can_slip(word) && random.chance(0.2);
                if slips { slip_word(word, random) } else { word.to_owned() }
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (before, after) = (rough(before), rough(after));
    format!("{before}{surface}{after}")
}

fn can_slip(word: &str) -> bool {
    word.len() >= LETTERS_MIN
        && word.chars().all(|letter| letter.is_ascii_alphabetic())
        && !KEPT.contains(&word.to_ascii_lowercase().as_str())
}

fn slip_word(word: &str, random: &mut Random) -> String {
    let letters: Vec<char> = word.chars().collect();
    // The first letter is the one that people get right.
    let at = 1 + random.below(letters.len() - 2);
    let mut out = letters.clone();
    match random.below(5) {
        0 => out.swap(at, at + 1),
        1 => {
            out.remove(at);
        }
        2 => out.insert(at, letters[at]),
        3 => out[at] = neighbour(letters[at], random),
        _ => return by_ear(word, random),
    }
    out.into_iter().collect()
}

fn by_ear(word: &str, random: &mut Random) -> String {
    let start = random.below(BY_EAR.len());
    for turn in 0..BY_EAR.len() {
        let (written, heard) = BY_EAR[(start + turn) % BY_EAR.len()];
        if let Some(at) = word[1..].find(written) {
            let at = at + 1;
            return format!("{}{heard}{}", &word[..at], &word[at + written.len()..]);
        }
    }
    word.to_owned()
}

fn neighbour(letter: char, random: &mut Random) -> char {
    let lower = letter.to_ascii_lowercase();
    for row in ROWS {
        if let Some(at) = row.find(lower) {
            let row: Vec<char> = row.chars().collect();
            let mut beside = Vec::new();
            beside.extend(at.checked_sub(1).map(|at| row[at]));
            beside.extend(row.get(at + 1));
            return *random.pick(&beside);
        }
    }
    letter
}
