//! What an order may say.

use super::OrderError;

/// Limits of the texts of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLimits {
    /// Longest text, in bytes of UTF-8.
    pub size_bytes_max: usize,
    /// Most rephrasings.
    pub rephrasing_count_max: usize,
}

impl TextLimits {
    /// Refuses empty and too long texts, and too many of them.
    ///
    /// # Errors
    /// One sentence naming the text and what was found.
    pub fn check(&self, text: &str, rephrasings: &[String]) -> Result<(), OrderError> {
        if text.trim().is_empty() {
            return Err(OrderError::EmptyText);
        }
        let (count, limit) = (rephrasings.len(), self.rephrasing_count_max);
        if count > limit {
            return Err(OrderError::TooManyRephrasings { count, limit });
        }
        if let Some(index) = rephrasings.iter().position(|text| text.trim().is_empty()) {
            return Err(OrderError::EmptyRephrasing { number: index + 1 });
        }
        let (limit_bytes, longest) = (self.size_bytes_max, rephrasings.iter().map(String::len));
        let size_bytes = longest.chain([text.len()]).max().unwrap_or_default();
        if size_bytes > limit_bytes {
            return Err(OrderError::TextTooLong { size_bytes, limit_bytes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_refused_by_what_is_wrong_with_them() {
        let limits = TextLimits { size_bytes_max: 10, rephrasing_count_max: 2 };
        let check = |text: &str, rephrasings: &[&str]| {
            let rephrasings: Vec<_> = rephrasings.iter().map(|text| (*text).to_owned()).collect();
            limits.check(text, &rephrasings).map_err(|error| error.to_string())
        };
        assert_eq!(check("the liver", &["liver", "hepar"]), Ok(()));
        let refused = [
            (check("  ", &[]), "order text is empty"),
            (check("liver", &["hepar", "\n"]), "rephrasing 2 is empty"),
            (check("liver", &["a", "b", "c"]), "order has 3 rephrasings; the limit is 2"),
            (check("liver", &["the whole liver"]), "order text has 15 bytes; the limit is 10"),
            (check("the left liver", &[]), "order text has 14 bytes; the limit is 10"),
        ];
        for (found, expected) in refused {
            assert_eq!(found, Err(expected.to_owned()));
        }
    }
}
