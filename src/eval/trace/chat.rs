//! Tuples as chats, in the forms that training tools read.

use serde_json::{Value, json};

use super::Tuple;
use crate::reason::prompt::Prompter;

/// ms-swift: text with one `<image>` a view, and the files beside it.
pub(super) fn swift(tuple: &Tuple, prompter: &Prompter) -> Value {
    let user = prompter.user_text(&tuple.request, &tuple.skills);
    json!({
        "messages": [
            {"role": "system", "content": prompter.system_text()},
            {"role": "user", "content": format!("{}{user}", "<image>".repeat(tuple.images.len()))},
            {"role": "assistant", "content": tuple.trace()},
        ],
        "images": tuple.images,
        "id": tuple.id,
    })
}

/// TRL and transformers: content in parts, the files by name.
pub(super) fn trl(tuple: &Tuple, prompter: &Prompter) -> Value {
    let text = |text: String| json!([{"type": "text", "text": text}]);
    let mut content: Vec<Value> = tuple.images.iter().map(|_| json!({"type": "image"})).collect();
    content.push(json!({
        "type": "text",
        "text": prompter.user_text(&tuple.request, &tuple.skills),
    }));
    json!({
        "messages": [
            {"role": "system", "content": text(prompter.system_text().to_owned())},
            {"role": "user", "content": content},
            {"role": "assistant", "content": text(tuple.trace())},
        ],
        "images": tuple.images,
        "id": tuple.id,
    })
}
