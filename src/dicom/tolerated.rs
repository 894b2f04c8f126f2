//! Broken rules that do no harm: counted while reading, told once at the end.

use crate::error::Finding;

/// How often each was met in one file.
#[derive(Default)]
pub(super) struct Tolerated {
    pub(super) un_sequences: usize,
    pub(super) odd_lengths: usize,
    pub(super) mangled_texts: usize,
    pub(super) stray_delimiters: usize,
    pub(super) trailing_bytes: usize,
}

impl Tolerated {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let rows = [
            (self.un_sequences, "un_sequence", "sequences written as VR UN, read as implicit VR"),
            (self.odd_lengths, "odd_length", "values of odd length"),
            (
                self.mangled_texts,
                "text_not_in_character_set",
                "texts not valid in their character set",
            ),
            (self.stray_delimiters, "stray_delimiter", "delimiters after a defined length"),
            (self.trailing_bytes, "trailing_bytes", "bytes after the last data element"),
        ];
        rows.into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, code, what)| Finding::new(code, format!("{count} {what}")))
            .collect()
    }
}
