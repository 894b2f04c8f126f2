//! The page of a review: self-contained, works from a folder, saves the marks as a file.

use crate::eval::trace::Tuple;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>SEER-Trace review</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem; color: #1c2733; }
header { position: sticky; top: 0; background: #fff; padding: .6rem 0; border-bottom: 1px solid #cfd8e0; display: flex; gap: 1rem; align-items: center; }
article { border: 1px solid #cfd8e0; border-radius: 6px; padding: 1rem; margin: 1rem 0; }
article.done { background: #f3f8f3; }
.views img { width: 160px; background: #000; margin-right: 4px; image-rendering: pixelated; }
dt { font-weight: 600; margin-top: .4rem; } dd { margin: 0; white-space: pre-wrap; }
label { margin-right: 1rem; } input[type=text] { width: 24rem; }
button { padding: .4rem .9rem; }
</style></head><body>
<header><h1 style="font-size:1.2rem;margin:0">SEER-Trace review</h1><span id="count"></span>
<button id="save">Save marks</button></header>
<p>Is the answer what the request asks for in this scan, and are evidence and rationale true?
The patient's right is on the left of axial and coronal views.
Save the marks at the end and hand the file back; research data, no diagnosis.</p>
"#;

const TAIL: &str = r#"<script>
const key = 'seer-trace-review:' + location.pathname;
const kept = JSON.parse(localStorage.getItem(key) || '{}');
const articles = [...document.querySelectorAll('article')];
function show() {
  const done = articles.filter(a => kept[a.id] && kept[a.id].verdict).length;
  document.getElementById('count').textContent = done + ' of ' + articles.length + ' marked';
  for (const a of articles) a.classList.toggle('done', !!(kept[a.id] && kept[a.id].verdict));
}
for (const a of articles) {
  const mark = kept[a.id] || {};
  for (const input of a.querySelectorAll('input[type=radio]')) input.checked = input.value === mark.verdict;
  a.querySelector('input[type=text]').value = mark.comment || '';
  a.addEventListener('input', () => {
    const chosen = a.querySelector('input[type=radio]:checked');
    kept[a.id] = { verdict: chosen ? chosen.value : '', comment: a.querySelector('input[type=text]').value };
    localStorage.setItem(key, JSON.stringify(kept));
    show();
  });
}
document.getElementById('save').addEventListener('click', () => {
  const quote = t => '"' + String(t).replaceAll('"', '""') + '"';
  const rows = articles.filter(a => kept[a.id] && kept[a.id].verdict)
    .map(a => [a.id, kept[a.id].verdict, kept[a.id].comment].map(quote).join(','));
  const text = 'id,verdict,comment\r\n' + rows.map(r => r + '\r\n').join('');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
  link.download = 'marks.csv';
  link.click();
});
show();
</script></body></html>
"#;

/// One article a tuple.
pub(super) fn of(sample: &[&Tuple]) -> String {
    let articles: String = sample.iter().map(|tuple| article(tuple)).collect();
    format!("{HEAD}{articles}{TAIL}")
}

fn article(tuple: &Tuple) -> String {
    let images: String = tuple
        .images
        .iter()
        .enumerate()
        .map(|(at, file)| format!("<img src=\"{}\" alt=\"view {}\">", escaped(file), at + 1))
        .collect();
    let id = escaped(&tuple.id);
    let part = |name: &str, text: &str| format!("<dt>{name}</dt><dd>{}</dd>", escaped(text));
    let radios: String = ["right", "wrong", "unsure"]
        .map(|word| {
            format!("<label><input type=\"radio\" name=\"{id}\" value=\"{word}\"> {word}</label>")
        })
        .concat();
    format!(
        "<article id=\"{id}\"><div class=\"views\">{images}</div><dl>{}{}{}{}{}</dl>\
         <p>{radios}<input type=\"text\" placeholder=\"comment\"></p></article>\n",
        part("Request", &tuple.request),
        part("Style", &tuple.style),
        part("Evidence", &tuple.evidence),
        part("Rationale", &tuple.rationale),
        part("Answer", &tuple.answer),
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
