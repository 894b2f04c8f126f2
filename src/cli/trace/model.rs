//! A language model behind an OpenAI-compatible address, as a second author of wordings.
//!
//! It is sent the canonical name of a structure, a style and an invented example; nothing of a
//! study or a person. Rooms do not dial out (only `pacs` does); this is the command line.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::eval::trace::RephraseTask;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks one model at one address.
pub(super) struct Client {
    url: String,
    model: String,
    key: Option<String>,
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// For the base address of an API, for example `http://127.0.0.1:8000/v1`.
    pub(super) fn new(base: &str, model: &str) -> anyhow::Result<Self> {
        let base = base.trim_end_matches('/');
        anyhow::ensure!(
            base.starts_with("http://") || base.starts_with("https://"),
            "address {base:?} is neither http nor https"
        );
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .context("cannot make an HTTP client")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        Ok(Self {
            url: format!("{base}/chat/completions"),
            model: model.to_owned(),
            key: std::env::var("SEER_REPHRASE_KEY").ok(),
            http,
            runtime,
        })
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// Asks for wordings; an error is one sentence.
    pub(super) fn rephrase(&self, task: &RephraseTask) -> Result<Vec<String>, String> {
        let answer = self.runtime.block_on(self.ask(task))?;
        let content = answer["choices"][0]["message"]["content"].as_str();
        Ok(lines(content.ok_or("its answer has no message")?, task.count))
    }

    async fn ask(&self, task: &RephraseTask) -> Result<Value, String> {
        let body = json!({
            "model": self.model,
            "temperature": 1.0,
            "messages": [
                {"role": "system", "content": "You word requests that radiologists type into a \
                    segmentation system. You invent no names, dates or numbers."},
                {"role": "user", "content": prompt(task)},
            ],
        });
        let mut request = self.http.post(&self.url).json(&body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| sentence(&error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        let bytes = response.bytes().await.map_err(|error| sentence(&error))?;
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(format!("its answer has {} bytes", bytes.len()));
        }
        serde_json::from_slice(&bytes).map_err(|_| "its answer is not JSON".to_owned())
    }
}

/// Without the address, which may hold a key.
fn sentence(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "the server did not answer in time".to_owned()
    } else if error.is_connect() {
        "the server cannot be reached".to_owned()
    } else {
        "the exchange with the server broke off".to_owned()
    }
}

fn prompt(task: &RephraseTask) -> String {
    format!(
        "Structure: {}\nStyle: {}\nExample: {}\n\nWrite {} other requests for the same structure in \
         this style, one a line, without numbering. Each must name the structure by a usual name \
         with its side, and ask for nothing else.",
        task.target,
        task.style.replace('_', " "),
        task.example,
        task.count
    )
}

/// Lines of an answer, without bullets, numbers and quotation marks.
fn lines(content: &str, count: usize) -> Vec<String> {
    let bare = |line: &str| {
        let line = line.trim().trim_start_matches(|c: char| {
            c.is_ascii_digit() || matches!(c, '.' | ')' | '-' | '*' | '•' | ' ')
        });
        line.trim_matches(['"', '“', '”']).trim().to_owned()
    };
    content.lines().map(bare).filter(|line| !line.is_empty()).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_lines_as_models_write_them() {
        let content = "1. Outline the liver.\n- \"liver seg pls\"\n\n* Contour the liver\nmore\n";
        assert_eq!(lines(content, 3), ["Outline the liver.", "liver seg pls", "Contour the liver"]);
    }
}
