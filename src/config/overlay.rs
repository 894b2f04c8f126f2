//! Environment variables laid over the file.

use toml::{Table, Value};

use super::{Config, ConfigError};

const PREFIX: &str = "SEER_";
const SEPARATOR: &str = "__";

/// Puts every `SEER_<SECTION>__<KEY>` of the environment into the table.
///
/// A key whose default is text takes the variable as it stands; any other takes it as a TOML
/// value (`5`, `true`, `["a", "b"]`), or as text where it is none.
pub(super) fn apply(
    table: &mut Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<(), ConfigError> {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    for (name, text) in environment {
        let Some((section, key)) = address(&name) else { continue };
        if !defaults.contains_key(&section) {
            return Err(ConfigError::UnknownVariable { name });
        }
        let is_text = matches!(defaults[&section].get(&key), Some(Value::String(_)));
        let value = if is_text { Value::String(text) } else { parse(text) };
        let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        match entry {
            Value::Table(keys) => keys.insert(key, value),
            // The file has a plain value where a section belongs; reading the section says so.
            _ => None,
        };
    }
    Ok(())
}

/// Section and key that a variable names, in lower case.
fn address(name: &str) -> Option<(String, String)> {
    let (section, key) = name.strip_prefix(PREFIX)?.split_once(SEPARATOR)?;
    Some((section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

fn parse(text: String) -> Value {
    let line = format!("value = {text}");
    match line.parse::<Table>().ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => Value::String(text),
    }
}
