//! The table of a review: comma-separated values (RFC 4180).

use std::collections::BTreeSet;

use super::{Marks, Verdict};
use crate::eval::trace::Tuple;

const COLUMNS: [&str; 9] =
    ["id", "style", "request", "target", "evidence", "rationale", "answer", "verdict", "comment"];

/// The sample with empty verdicts.
pub(super) fn unmarked(sample: &[&Tuple]) -> String {
    let mut text = COLUMNS.join(",") + "\r\n";
    for tuple in sample {
        let cells = [
            &tuple.id,
            &tuple.style,
            &tuple.request,
            &tuple.target,
            &tuple.evidence,
            &tuple.rationale,
            &tuple.answer,
        ];
        let cells: Vec<String> = cells.into_iter().map(|cell| quoted(cell)).collect();
        text += &format!("{},,\r\n", cells.join(","));
    }
    text
}

/// Rows whose verdict is filled in.
pub(super) fn marks(text: &str) -> Result<Marks, String> {
    let rows = rows(text)?;
    let (head, rows) = rows.split_first().ok_or("it is empty")?;
    let column = |name: &str| head.iter().position(|cell| cell.trim() == name);
    let id = column("id").ok_or("it has no column id")?;
    let verdict = column("verdict").ok_or("it has no column verdict")?;
    let comment = column("comment");
    let mut marks = Marks::new();
    for (index, row) in rows.iter().enumerate() {
        let cell = |at: usize| row.get(at).map_or("", |cell| cell.trim());
        let found = match cell(verdict).to_lowercase().as_str() {
            "" => continue,
            "right" | "r" | "yes" | "ok" => Verdict::Right,
            "wrong" | "w" | "no" => Verdict::Wrong,
            "unsure" | "u" | "?" => Verdict::Unsure,
            other => {
                let row = index + 2;
                return Err(format!("row {row}: verdict {other:?} is not right, wrong or unsure"));
            }
        };
        let comment = comment.map_or("", cell).to_owned();
        marks.insert(cell(id).to_owned(), (found, comment));
    }
    Ok(marks)
}

/// The ids of every row.
pub(super) fn ids(text: &str) -> Result<BTreeSet<String>, String> {
    let rows = rows(text)?;
    let (head, rows) = rows.split_first().ok_or("it is empty")?;
    let id = head.iter().position(|cell| cell == "id").ok_or("it has no column id")?;
    Ok(rows.iter().filter_map(|row| row.get(id)).cloned().collect())
}

fn quoted(cell: &str) -> String {
    // Spreadsheets run what begins like a formula.
    let cell = match cell.starts_with(['=', '+', '-', '@']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    };
    format!("\"{}\"", cell.replace('"', "\"\""))
}

/// Cells by row; commas, semicolons (as spreadsheets of some countries save) or tabs part them.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default();
    let count = |separator: char| first.matches(separator).count();
    let separator = [',', ';', '\t'].into_iter().max_by_key(|s| count(*s)).unwrap_or(',');
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut in_quotes = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if in_quotes && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => in_quotes = !in_quotes,
            '\r' if !in_quotes => {}
            '\n' if !in_quotes => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            letter if letter == separator && !in_quotes => row.push(std::mem::take(&mut cell)),
            letter => cell.push(letter),
        }
    }
    if in_quotes {
        return Err("a quotation mark is not closed".to_owned());
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows.retain(|row: &Vec<String>| row.iter().any(|cell| !cell.trim().is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_marks_as_spreadsheets_save_them() {
        let check = |text: &str, expected: &[(&str, Verdict, &str)]| {
            let found: Vec<_> = marks(text)
                .expect("a good table")
                .into_iter()
                .map(|(id, m)| (id, m.0, m.1))
                .collect();
            let expected: Vec<_> =
                expected.iter().map(|(id, v, c)| ((*id).to_owned(), *v, (*c).to_owned())).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check(
            "id,request,verdict,comment\r\n\"trace:1\",\"a, \"\"b\"\"\nc\",right,\r\ntrace:2,x,,\r\n",
            &[("trace:1", Verdict::Right, "")],
        );
        check(
            "\u{feff}id;verdict;comment\ntrace:1;WRONG;the side, it is\ntrace:2;?;\n",
            &[("trace:1", Verdict::Wrong, "the side, it is"), ("trace:2", Verdict::Unsure, "")],
        );
        assert!(marks("id,verdict\na,maybe\n").expect_err("no verdict").contains("row 2"));
        assert!(marks("id,x\n").expect_err("no column").contains("verdict"));
        assert!(marks("id,verdict\n\"a,right").expect_err("open").contains("quotation"));
    }
}
