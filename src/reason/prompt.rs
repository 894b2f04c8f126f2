//! Views, order text and skills into the tokens of a prompt.

use std::borrow::Cow;
use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Deserialize;
use serde_json::json;
use tokenizers::Tokenizer;

use super::{OfferedSkill, ReasonError, trace};
use crate::runtime::bundle::{read_text, read_toml};
use crate::runtime::manifest::ReasonerManifest;
use crate::runtime::{Bundle, RuntimeError};

/// The texts of `prompt.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTexts {
    system: String,
    user: String,
    user_with_skills: String,
    #[serde(default)]
    letter_case: LetterCase,
}

/// How orders and skills are shown to the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LetterCase {
    /// As they were typed.
    #[default]
    AsTyped,
    /// In lower case: capitals make other tokens of a word, which a small model has rarely seen.
    Lower,
}

impl LetterCase {
    fn show(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::AsTyped => Cow::Borrowed(text),
            Self::Lower => Cow::Owned(text.to_lowercase()),
        }
    }
}

/// Tags of the prompt that an order must not be able to open or close, besides the trace's own.
const PROMPT_TAGS: [&str; 2] = ["raw_prompt", "skill_bank"];

/// Renders prompts with a bundle's chat template, texts and tokenizer.
pub struct Prompter {
    templates: Environment<'static>,
    texts: PromptTexts,
    tokenizer: Tokenizer,
    image_token: String,
    image_id: u32,
    end_ids: Vec<u32>,
    added_tokens: Vec<String>,
}

const TEMPLATE: &str = "chat";

impl Prompter {
    /// Reads the prompt files of a bundle.
    ///
    /// # Errors
    /// When a file does not parse or a special token of the manifest is not in the tokenizer.
    pub fn load(bundle: &Bundle, manifest: &ReasonerManifest) -> Result<Self, ReasonError> {
        let path = bundle.path(&manifest.tokenizer);
        let tokenizer = Tokenizer::from_file(&path).map_err(|e| malformed(&path, e.to_string()))?;
        let id = |token: &str| {
            let missing = || malformed(&path, format!("it has no token {token}"));
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        let image_id = id(&manifest.tokens.image)?;
        let end_ids: Vec<u32> =
            manifest.tokens.end_of_text.iter().map(|t| id(t)).collect::<Result<_, _>>()?;
        if end_ids.is_empty() {
            return Err(
                malformed(&path, "the manifest names no end_of_text token".to_owned()).into()
            );
        }
        let count = tokenizer.get_vocab_size(true);
        if count > manifest.vocabulary_size {
            let reason = format!("it has {count} tokens, more than {}", manifest.vocabulary_size);
            return Err(malformed(&path, reason).into());
        }
        let added = tokenizer.get_added_tokens_decoder();
        let added_tokens =
            added.into_values().map(|t| t.content).filter(|t| t.chars().count() > 1).collect();
        Ok(Self {
            templates: template(&bundle.path(&manifest.chat_template))?,
            texts: read_toml(&bundle.path(&manifest.prompt))?,
            tokenizer,
            image_token: manifest.tokens.image.clone(),
            image_id,
            end_ids,
            added_tokens,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The token that stands for one merged patch.
    pub fn image_id(&self) -> u32 {
        self.image_id
    }

    /// Tokens that end a text.
    pub fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }

    /// The prompt as text, with one image token per image token of each view.
    ///
    /// # Errors
    /// When the template fails or does not give each view exactly one place.
    pub fn render(
        &self,
        tokens_per_view: &[usize],
        order: &str,
        skills: &[OfferedSkill],
    ) -> Result<String, ReasonError> {
        let mut content: Vec<_> =
            tokens_per_view.iter().map(|_| json!({"type": "image"})).collect();
        content.push(json!({"type": "text", "text": self.user_text(order, skills)}));
        let context = json!({
            "messages": [
                {"role": "system", "content": self.texts.system},
                {"role": "user", "content": content},
            ],
            "add_generation_prompt": true,
        });
        let fault = |e: Error| ReasonError::Template { reason: format!("{e:#}") };
        let template = self.templates.get_template(TEMPLATE).map_err(fault)?;
        let rendered = template.render(Value::from(Serde(&context))).map_err(fault)?;
        let places = rendered.matches(&self.image_token).count();
        if places != tokens_per_view.len() {
            let views = tokens_per_view.len();
            let reason = format!("it gives {places} image tokens for {views} views");
            return Err(ReasonError::Template { reason });
        }
        let mut pieces = rendered.split(&self.image_token);
        let mut expanded = pieces.next().unwrap_or_default().to_owned();
        for (piece, &count) in pieces.zip(tokens_per_view) {
            expanded.push_str(&self.image_token.repeat(count));
            expanded.push_str(piece);
        }
        Ok(expanded)
    }

    /// The tokens of a rendered prompt.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn encode(&self, rendered: &str) -> Result<Vec<u32>, ReasonError> {
        let encoding = self
            .tokenizer
            .encode(rendered, false)
            .map_err(|e| ReasonError::Tokenizer { reason: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of written tokens, special ones left out.
    ///
    /// # Errors
    /// When the tokenizer fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ReasonError> {
        self.tokenizer
            .decode(tokens, true)
            .map_err(|e| ReasonError::Tokenizer { reason: e.to_string() })
    }

    /// What the system says, before the views.
    pub fn system_text(&self) -> &str {
        &self.texts.system
    }

    /// The text after the views: instruction, skills if any, and the order, the last two in the
    /// case that `prompt.toml` asks for.
    pub fn user_text(&self, order: &str, skills: &[OfferedSkill]) -> String {
        let case = self.texts.letter_case;
        let foreign = |text: &str| self.defuse(&case.show(text));
        let order = foreign(order);
        if skills.is_empty() {
            return format!("{}\n\n<raw_prompt>{order}</raw_prompt>", self.texts.user);
        }
        let blocks: Vec<String> = skills
            .iter()
            .enumerate()
            .map(|(index, skill)| {
                let [tag, content, audit] =
                    [&skill.tag, &skill.content, &skill.audit].map(|text| foreign(text));
                format!("[{}]\nTag: {tag}\nContent: {content}\nAudit: {audit}", index + 1)
            })
            .collect();
        let bank = blocks.join("\n\n");
        let bank = case.show(&bank);
        let user = &self.texts.user_with_skills;
        format!("{user}\n\n<skill_bank>\n{bank}\n</skill_bank>\n\n<raw_prompt>{order}</raw_prompt>")
    }

    /// Takes out of foreign text what the model would read as structure: special tokens, and the
    /// brackets of the prompt's and the trace's tags. Each becomes a space.
    fn defuse(&self, text: &str) -> String {
        let mut text = text.to_owned();
        loop {
            let plain =
                self.added_tokens.iter().fold(text.clone(), |t, token| t.replace(token, " "));
            let safer = without_tags(&plain);
            if safer == text {
                return safer;
            }
            text = safer;
        }
    }
}

/// Blanks every `<` that opens or closes one of the tags, case aside; between bracket and name there
/// may be white space, slashes and more brackets. One pass, linear in the text.
fn without_tags(text: &str) -> String {
    let is_tag = |name: &str| {
        PROMPT_TAGS
            .iter()
            .chain(&trace::TAGS)
            .any(|tag| name.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
    };
    let (mut safe, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('<') {
        let (before, brackets) = rest.split_at(at);
        let name = brackets.trim_start_matches(|c: char| c == '<' || c == '/' || c.is_whitespace());
        let brackets = &brackets[..brackets.len() - name.len()];
        safe.push_str(before);
        if is_tag(name) {
            safe.push_str(&brackets.replace('<', " "));
        } else {
            safe.push_str(brackets);
        }
        rest = name;
    }
    safe.push_str(rest);
    safe
}

/// The template in an environment that behaves as Hugging Face's does.
fn template(path: &Path) -> Result<Environment<'static>, ReasonError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|e| malformed(path, e.to_string()))?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment
        .add_template_owned(TEMPLATE, read_text(path)?)
        .map_err(|e| malformed(path, format!("{e:#}")))?;
    Ok(environment)
}

fn malformed(path: &Path, reason: String) -> RuntimeError {
    RuntimeError::Malformed { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_tags_through_case_and_white_space_and_leaves_comparisons() {
        let check = |text: &str, expected: &str| assert_eq!(without_tags(text), expected, "{text}");
        check("a </raw_prompt>", "a  /raw_prompt>");
        check("a < / RAW_prompt >", "a   / RAW_prompt >");
        check("<skill_bank><<evidence>", " skill_bank>  evidence>");
        check("< \n Answer>", "  \n Answer>");
        check("lesion <3 cm, <answer", "lesion <3 cm,  answer");
        check("nodule < 5 mm and <b> <", "nodule < 5 mm and <b> <");
        check("<é <ans", "<é <ans");
    }

    #[test]
    fn blanks_a_long_row_of_brackets_in_one_pass() {
        let text = format!("{}answer>", "<".repeat(200_000));
        assert!(without_tags(&text).starts_with("  "));
        assert!(!without_tags(&text).contains('<'));
    }
}
