//! Order text into comparable words, and how alike two words are.

/// Words of at most this many letters must match exactly: one letter apart, `LV` and `RV` are
/// different structures.
const EXACT_LENGTH_MAX: usize = 3;

/// No word has more typos.
const TYPOS_MAX: usize = 3;

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
/// alignment, a swap of neighbours counts once). 0 past the [`typos_allowed`] in the shorter one.
#[cfg(test)]
pub(super) fn similarity(left: &str, right: &str) -> f32 {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    similarity_of_letters(&left, &right, TYPOS_MAX)
}

/// The same of words in letters, which may also have no more than `most` typos.
pub(super) fn similarity_of_letters(left: &[char], right: &[char], most: usize) -> f32 {
    if left == right {
        return 1.0;
    }
    let (shorter, longer) = (left.len().min(right.len()), left.len().max(right.len()));
    let allowed = typos_allowed(shorter).min(most);
    if longer - shorter > allowed || digits(left).ne(digits(right)) {
        return 0.0;
    }
    let distance = distance_within(left, right, allowed);
    distance.map_or(0.0, |distance| 1.0 - distance as f32 / longer as f32)
}

/// How many typos a word of that many letters may have: none up to 3, one up to 5, two up to 8,
/// three beyond.
pub(super) fn typos_allowed(length: usize) -> usize {
    match length {
        0..=EXACT_LENGTH_MAX => 0,
        4..=5 => 1,
        6..=8 => 2,
        _ => TYPOS_MAX,
    }
}

/// Digits are never typos: `C2` and `C3`, `T1w` and `T2w`.
fn digits(word: &[char]) -> impl Iterator<Item = &char> {
    word.iter().filter(|letter| letter.is_ascii_digit())
}

/// The optimal string alignment of two words, where it is at most `most` (at most [`TYPOS_MAX`]).
///
/// Only cells within `most` of the diagonal can matter: row i holds columns i - most to i + most.
fn distance_within(left: &[char], right: &[char], most: usize) -> Option<usize> {
    const FAR: u8 = u8::MAX / 2;
    if left.len().abs_diff(right.len()) > most {
        return None;
    }
    // Column j of row i lies at j - i + most + 1; a cell beyond either end stays far.
    let start = most + 1;
    let (mut before, mut last) = ([FAR; 2 * TYPOS_MAX + 3], [FAR; 2 * TYPOS_MAX + 3]);
    for column in 0..=most.min(right.len()) {
        last[column + start] = column as u8;
    }
    for i in 1..=left.len() {
        let mut row = [FAR; 2 * TYPOS_MAX + 3];
        let mut nearest = FAR;
        for at in 1..start + start {
            let Some(j) = (i + at).checked_sub(start).filter(|j| *j <= right.len()) else {
                continue;
            };
            let cell = if j == 0 {
                i as u8
            } else {
                let differs = u8::from(left[i - 1] != right[j - 1]);
                let best = (last[at + 1] + 1).min(row[at - 1] + 1).min(last[at] + differs);
                let swapped =
                    i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
                if swapped { best.min(before[at] + 1) } else { best }
            };
            row[at] = cell;
            nearest = nearest.min(cell).min(last[at]);
        }
        if usize::from(nearest) > most {
            return None;
        }
        (before, last) = (last, row);
    }
    let found = usize::from(last[right.len() + start - left.len()]);
    (found <= most).then_some(found)
}

/// Runs of `size` neighbouring letters (two or three), the edges of the word included, each packed
/// into one number; sorted, each once.
pub(super) fn letter_runs(letters: &[char], size: usize) -> Vec<u64> {
    let edged: Vec<char> =
        std::iter::once('^').chain(letters.iter().copied()).chain(['$']).collect();
    // A letter is below 2^21.
    let packed = |run: &[char]| run.iter().fold(0, |sum, letter| sum << 21 | u64::from(*letter));
    let mut runs: Vec<u64> = edged.windows(size).map(packed).collect();
    runs.sort_unstable();
    runs.dedup();
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_plain_words() {
        assert_eq!(words("Pls: R. Hüft-Bein (T1w)!"), ["pls", "r", "hueft", "bein", "t1w"]);
        assert_eq!(normalised("  Left   HIPPOCAMPUS. "), "left hippocampus");
    }

    /// The whole table, as in the textbook.
    fn distance(left: &[char], right: &[char]) -> usize {
        let mut rows = vec![vec![0; right.len() + 1]; left.len() + 1];
        for i in 0..=left.len() {
            for j in 0..=right.len() {
                if i.min(j) == 0 {
                    rows[i][j] = i.max(j);
                    continue;
                }
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

    proptest::proptest! {
        #[test]
        fn the_band_gives_the_distance_of_the_whole_table(
            left in "[abc]{0,9}", right in "[abc]{0,9}", most in 0..=TYPOS_MAX,
        ) {
            let [left, right] = [left, right].map(|word| word.chars().collect::<Vec<_>>());
            let whole = Some(distance(&left, &right)).filter(|distance| *distance <= most);
            proptest::prop_assert_eq!(distance_within(&left, &right, most), whole);
        }
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
