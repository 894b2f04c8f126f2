//! Order text into comparable words, and how alike two words are.

/// Words of at most this many letters must match exactly: one letter apart, `LV` and `RV` are
/// different structures.
const EXACT_LENGTH_MAX: usize = 3;

/// Folds case and common accents and splits at everything that is neither letter nor digit.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for letter in text.chars().flat_map(char::to_lowercase) {
        match folded(letter) {
            Some(plain) => word.push_str(plain),
            None if letter.is_alphanumeric() => word.push(letter),
            None if !word.is_empty() => words.push(std::mem::take(&mut word)),
            None => {}
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The one spelling of a phrase that identities are made of.
pub(super) fn normalised(text: &str) -> String {
    words(text).join(" ")
}

fn folded(letter: char) -> Option<&'static str> {
    Some(match letter {
        'à' | 'á' | 'â' | 'ã' | 'å' => "a",
        'ä' | 'æ' => "ae",
        'ç' => "c",
        'è' | 'é' | 'ê' | 'ë' => "e",
        'ì' | 'í' | 'î' | 'ï' => "i",
        'ñ' => "n",
        'ò' | 'ó' | 'ô' | 'õ' => "o",
        'ö' | 'ø' | 'œ' => "oe",
        'ù' | 'ú' | 'û' => "u",
        'ü' => "ue",
        'ß' => "ss",
        _ => return None,
    })
}

/// How alike two words are, 0 to 1: one less the share of letters that differ (optimal string
/// alignment, a swap of neighbours counts once). 0 past the typos that a word of that length may
/// have: none up to 3 letters, one up to 5, two up to 8, three beyond.
pub(super) fn similarity(left: &str, right: &str) -> f32 {
    if left == right {
        return 1.0;
    }
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let (shorter, longer) = (left.len().min(right.len()), left.len().max(right.len()));
    let allowed = typos_allowed(shorter);
    if longer - shorter > allowed || digits(&left) != digits(&right) {
        return 0.0;
    }
    let distance = distance(&left, &right);
    if distance > allowed { 0.0 } else { 1.0 - distance as f32 / longer as f32 }
}

fn typos_allowed(length: usize) -> usize {
    match length {
        0..=EXACT_LENGTH_MAX => 0,
        4..=5 => 1,
        6..=8 => 2,
        _ => 3,
    }
}

/// Digits are never typos: `C2` and `C3`, `T1w` and `T2w`.
fn digits(word: &[char]) -> Vec<char> {
    word.iter().copied().filter(char::is_ascii_digit).collect()
}

fn distance(left: &[char], right: &[char]) -> usize {
    let width = right.len() + 1;
    let mut rows = vec![vec![0_usize; width]; left.len() + 1];
    for (index, row) in rows.iter_mut().enumerate() {
        row[0] = index;
    }
    rows[0] = (0..width).collect();
    for i in 1..=left.len() {
        for j in 1..width {
            let differs = usize::from(left[i - 1] != right[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            best = best.min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[left.len()][right.len()]
}

/// Pairs of neighbouring letters, the edges of the word included, each packed into one number.
pub(super) fn letter_pairs(word: &str) -> Vec<u64> {
    let mut pairs = Vec::with_capacity(word.len() + 1);
    let mut before = '^';
    for letter in word.chars().chain(['$']) {
        pairs.push(u64::from(u32::from(before)) << 32 | u64::from(u32::from(letter)));
        before = letter;
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_plain_words() {
        assert_eq!(words("Pls: R. Hüft-Bein (T1w)!"), ["pls", "r", "hueft", "bein", "t1w"]);
        assert_eq!(normalised("  Left   HIPPOCAMPUS. "), "left hippocampus");
    }

    #[test]
    fn typos_are_forgiven_by_length_and_never_in_digits_or_short_words() {
        let rows = [
            ("hippocampus", "hipocampus", true),
            ("hippocampus", "hippocmapus", true),
            ("hippocampus", "hypothalamus", false),
            ("liver", "livre", true),
            ("lv", "rv", false),
            ("hc", "hc", true),
            ("left", "lfet", true),
            ("vertebra3", "vertebra2", false),
        ];
        for (left, right, alike) in rows {
            let found = similarity(left, right);
            assert_eq!(found > 0.0, alike, "{left} and {right}: {found}");
            assert_eq!(found, similarity(right, left));
        }
    }
}
