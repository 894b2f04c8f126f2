//! Prompts into rows of token ids.

use ndarray::Array2;
use tokenizers::Tokenizer;

use super::SegmentError;
use crate::runtime::Bundle;
use crate::runtime::manifest::TextSettings;

/// A bundle's tokenizer with what its manifest says about prompts.
pub(super) struct PromptTokenizer {
    tokenizer: Tokenizer,
    settings: TextSettings,
    suffix: Option<u32>,
    padding: u32,
    /// Every prompt gets this many tokens, when a graph fixes it.
    length: Option<usize>,
}

/// Token ids and their mask, `[prompt, token]`; padding is on the right and masked with 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TokenRows {
    pub ids: Array2<i64>,
    pub mask: Array2<i64>,
}

impl PromptTokenizer {
    /// Reads the tokenizer in `file`; prompts are padded to `length` when a graph fixes it.
    ///
    /// # Errors
    /// When it cannot be read or lacks a token that the manifest names.
    pub fn load(
        bundle: &Bundle,
        file: &str,
        settings: &TextSettings,
        length: Option<usize>,
    ) -> Result<Self, SegmentError> {
        let fault = |reason: String| SegmentError::Tokenizer { file: bundle.path(file), reason };
        let mut tokenizer =
            Tokenizer::from_file(bundle.path(file)).map_err(|error| fault(error.to_string()))?;
        // What the file says about padding and truncation is for other hosts.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| fault(error.to_string()))?;
        let id = |token: &String| {
            tokenizer.token_to_id(token).ok_or_else(|| fault(format!("it has no token {token}")))
        };
        let suffix = settings.suffix_token.as_ref().map(id).transpose()?;
        let padding = settings.pad_token.as_ref().map(id).transpose()?.or(suffix).unwrap_or(0);
        Ok(Self { tokenizer, settings: settings.clone(), suffix, padding, length })
    }

    /// One row per prompt; `numbers` are the prompts' places in the call, for messages.
    ///
    /// # Errors
    /// When a prompt is too long.
    pub fn rows(&self, prompts: &[(usize, &str)]) -> Result<TokenRows, SegmentError> {
        let rows: Vec<Vec<u32>> = prompts
            .iter()
            .map(|(index, text)| self.tokens(*index, text))
            .collect::<Result<_, _>>()?;
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = self.length.unwrap_or(longest);
        let mut ids = Array2::from_elem([rows.len(), length], i64::from(self.padding));
        let mut mask = Array2::zeros([rows.len(), length]);
        for (row, tokens) in rows.iter().enumerate() {
            for (column, token) in tokens.iter().enumerate() {
                ids[[row, column]] = i64::from(*token);
                mask[[row, column]] = 1;
            }
        }
        Ok(TokenRows { ids, mask })
    }

    fn tokens(&self, index: usize, text: &str) -> Result<Vec<u32>, SegmentError> {
        let text = self.settings.template.replace("{text}", text);
        let encoding = self
            .tokenizer
            .encode(text, self.settings.special_tokens)
            .map_err(|error| SegmentError::Prompt { reason: error.to_string() })?;
        let mut tokens = encoding.get_ids().to_vec();
        tokens.extend(self.suffix);
        let limit = self
            .length
            .map_or(self.settings.max_tokens, |length| length.min(self.settings.max_tokens));
        if tokens.len() > limit {
            let (number, token_count) = (index + 1, tokens.len());
            return Err(SegmentError::PromptTooLong { number, token_count, limit });
        }
        Ok(tokens)
    }
}
