//! How phrases are compared.

/// Writes a phrase in lower case with everything but letters and digits read as one space.
///
/// The vocabulary's writer uses the same rule, so `Lateral-Ventricle, left` finds
/// `lateral ventricle left`.
pub(super) fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}
