//! The three tagged parts of a trace.

/// The parts of a trace's text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Between the first pair of evidence tags.
    pub evidence: Option<String>,
    /// Between the first pair of rationale tags.
    pub rationale: Option<String>,
    /// Between the first pair of answer tags.
    pub answer: Option<String>,
    /// All three stand there once, in order, with nothing but white space around them.
    pub format_ok: bool,
}

/// The tags in their order.
pub const TAGS: [&str; 3] = ["evidence", "rationale", "answer"];

/// Finds the parts of a text; tags are matched without regard to case.
pub fn parse(text: &str) -> Parts {
    let [evidence, rationale, answer] = TAGS.map(|tag| part(text, tag));
    Parts { evidence, rationale, answer, format_ok: format_ok(text) }
}

fn part(text: &str, tag: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = lower.find(&format!("<{tag}>"))? + tag.len() + 2;
    let length = lower[start..].find(&format!("</{tag}>"))?;
    Some(text[start..start + length].trim().to_owned())
}

fn format_ok(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut rest = lower.as_str();
    for tag in TAGS {
        let opened = rest.trim_start().strip_prefix(&format!("<{tag}>"));
        let Some((inside, after)) = opened.and_then(|r| r.split_once(&format!("</{tag}>"))) else {
            return false;
        };
        let nested = TAGS.iter().any(|tag| inside.contains(&format!("<{tag}>")));
        if nested {
            return false;
        }
        rest = after;
    }
    rest.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_parts_and_judges_the_format() {
        let check = |text: &str, ok: bool, answer: Option<&str>| {
            let parts = parse(text);
            assert_eq!(parts.format_ok, ok, "{text}");
            assert_eq!(parts.answer.as_deref(), answer, "{text}");
        };
        let good = "<evidence>e</evidence><rationale>r</rationale><answer>a</answer>";
        check(good, true, Some("a"));
        check(&format!(" \n{} ", good.replace("><", ">\n <")), true, Some("a"));
        check(&good.to_uppercase(), true, Some("A"));
        check(&format!("Sure: {good}"), false, Some("a"));
        check(&format!("{good} bye"), false, Some("a"));
        check(&good.replace("</rationale>", ""), false, Some("a"));
        check(&good.replace("<answer>", "<answer><evidence>"), false, Some("<evidence>a"));
        check(&good.replace("</answer>", ""), false, None);
        check("<answer>a</answer><evidence>e</evidence><rationale>r</rationale>", false, Some("a"));
        check("", false, None);
        check("İ<answer>é</answer>", false, Some("é"));
    }
}
