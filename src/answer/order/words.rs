//! An order as words that remember what separates them.

/// One word of the order.
pub(in crate::answer) struct Word<'a> {
    pub text: &'a str,
    pub lower: String,
    /// What stands between this word and the next (or the end).
    pub gap: &'a str,
}

/// Splits text into words (runs of letters and digits) that remember what separates them.
pub(in crate::answer) fn words(text: &str) -> Vec<Word<'_>> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    let mut open = None;
    for (at, c) in text.char_indices() {
        match (c.is_alphanumeric(), open) {
            (true, None) => open = Some(at),
            (false, Some(start)) => {
                spans.push((start, at));
                open = None;
            }
            _ => {}
        }
    }
    spans.extend(open.map(|start| (start, text.len())));
    let ends = spans.iter().skip(1).map(|span| span.0).chain([text.len()]);
    spans
        .iter()
        .zip(ends)
        .map(|(&(start, end), next)| Word {
            text: &text[start..end],
            lower: text[start..end].to_lowercase(),
            gap: &text[end..next],
        })
        .collect()
}

/// Whether `noun`, in lower case, stands at `start`; its last word may be a plural.
pub(super) fn stands_at(words: &[Word<'_>], start: usize, noun: &[String]) -> bool {
    let Some(words) = words.get(start..start + noun.len()) else { return false };
    let last = noun.len() - 1;
    words.iter().zip(noun).enumerate().all(|(index, (word, expected))| {
        let rest = word.lower.strip_prefix(expected.as_str());
        rest == Some("") || (index == last && matches!(rest, Some("s" | "es")))
    })
}
