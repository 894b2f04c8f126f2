//! The answer's one sentence.

use super::AnswerError;

const CHARACTERS_MAX: usize = 2000;
const TARGETS_MAX: usize = 64;

/// What the sentence says, before anything is looked up.
#[derive(Debug, PartialEq)]
pub(super) enum Sentence {
    /// The phrases after `Segment`, without articles.
    Segment(Vec<String>),
    /// The words after `Reject:`.
    Reject(String),
    /// Words without either keyword.
    Bare(String),
}

/// Splits an answer into its keyword and its phrases.
pub(super) fn read(answer: Option<&str>) -> Result<Sentence, AnswerError> {
    let answer = answer.unwrap_or_default();
    let count = answer.chars().count();
    if count > CHARACTERS_MAX {
        return Err(AnswerError::TooLong { count, limit: CHARACTERS_MAX });
    }
    let line = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    let line =
        line.trim_matches(|c: char| matches!(c, '"' | '\'' | '*' | '`') || c.is_whitespace());
    let line = line.trim_end_matches(['.', ' ']);
    if line.is_empty() {
        return Err(AnswerError::Missing);
    }
    let keyword_end = line.find(|c: char| !c.is_alphabetic()).unwrap_or(line.len());
    let (keyword, rest) = line.split_at(keyword_end);
    match keyword.to_lowercase().as_str() {
        "segment" => segment(rest),
        "reject" | "rejected" | "refuse" | "refused" => Ok(Sentence::Reject(
            rest.trim_start_matches([':', '-', '–', '—', ',', '.', ' ']).to_owned(),
        )),
        _ => Ok(Sentence::Bare(without_article(line).to_owned())),
    }
}

fn segment(rest: &str) -> Result<Sentence, AnswerError> {
    if goes_on(rest) {
        return Err(AnswerError::ExtraText);
    }
    let phrases: Vec<String> = rest
        .trim_start_matches([':', ' '])
        .split(';')
        .map(|part| without_article(part.trim_matches([' ', '.', ','])).to_owned())
        .filter(|phrase| !phrase.is_empty())
        .collect();
    match phrases.len() {
        0 => Err(AnswerError::NoTarget),
        count if count > TARGETS_MAX => {
            Err(AnswerError::TooManyTargets { count, limit: TARGETS_MAX })
        }
        _ => Ok(Sentence::Segment(phrases)),
    }
}

/// Whether a second sentence follows. A full stop after a short word (`L.`, `lt.`) ends none.
fn goes_on(text: &str) -> bool {
    text.match_indices(['.', '!', '?', ':']).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let word = before.rsplit(' ').next().unwrap_or_default();
        before.chars().any(char::is_alphanumeric)
            && after.starts_with(' ')
            && after.chars().any(char::is_alphabetic)
            && word.chars().count() > 2
    })
}

fn without_article(phrase: &str) -> &str {
    let mut phrase = phrase.trim();
    for word in ["and ", "the "] {
        if phrase.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            phrase = phrase[word.len()..].trim_start();
        }
    }
    phrase
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(phrases: &[&str]) -> Result<Sentence, AnswerError> {
        Ok(Sentence::Segment(phrases.iter().map(|phrase| (*phrase).to_owned()).collect()))
    }

    #[test]
    fn reads_sentences_however_they_are_written() {
        let reject = |text: &str| Ok(Sentence::Reject(text.to_owned()));
        let long = format!("Segment the {}.", "x".repeat(2000));
        let many = format!("Segment {}", "the liver;".repeat(65));
        let rows: &[(&str, Result<Sentence, AnswerError>)] = &[
            ("Segment the left kidney.", segment(&["left kidney"])),
            ("segment left kidney", segment(&["left kidney"])),
            ("  SEGMENT   THE Left\n kidney . ", segment(&["Left kidney"])),
            ("Segment: the liver", segment(&["liver"])),
            ("Segment the liver; the spleen.", segment(&["liver", "spleen"])),
            ("Segment the liver; and the spleen;", segment(&["liver", "spleen"])),
            ("**Segment the liver.**", segment(&["liver"])),
            ("Segment the L. kidney.", segment(&["L. kidney"])),
            ("Segment thenar muscle", segment(&["thenar muscle"])),
            ("Segment", Err(AnswerError::NoTarget)),
            ("Segment ; .", Err(AnswerError::NoTarget)),
            ("Segment the liver. The spleen is large.", Err(AnswerError::ExtraText)),
            ("Segment the liver. Reject: out of region.", Err(AnswerError::ExtraText)),
            ("Reject: out_of_region.", reject("out_of_region")),
            ("reject - not visible", reject("not visible")),
            ("Rejected.", reject("")),
            ("left kidney", Ok(Sentence::Bare("left kidney".to_owned()))),
            (
                "Segmentation of the liver",
                Ok(Sentence::Bare("Segmentation of the liver".to_owned())),
            ),
            ("", Err(AnswerError::Missing)),
            (" \n . ", Err(AnswerError::Missing)),
            (&long, Err(AnswerError::TooLong { count: 2013, limit: 2000 })),
            (&many, Err(AnswerError::TooManyTargets { count: 65, limit: 64 })),
        ];
        for (answer, expected) in rows {
            assert_eq!(&read(Some(answer)), expected, "{answer:?}");
        }
        assert_eq!(read(None), Err(AnswerError::Missing));
    }
}
