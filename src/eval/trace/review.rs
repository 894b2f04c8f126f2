//! Five of a hundred tuples for an expert: a page and a table to mark, and the marks read back.

mod page;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{TraceSettings, Tuple};
use crate::eval::EvalError;
use crate::eval::random::Random;
use crate::eval::scores::Share;

/// What an expert says of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Request, evidence, rationale and answer fit together.
    Right,
    /// They do not.
    Wrong,
    /// Cannot be said.
    Unsure,
}

/// Marks by tuple, with comments.
pub type Marks = BTreeMap<String, (Verdict, String)>;

/// What a review found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Review {
    /// Tuples that were to be marked.
    pub sampled: usize,
    /// Tuples that were.
    pub marked: usize,
    /// Right, of those marked right or wrong.
    pub right: Share,
    /// 95 % interval of that share (E. B. Wilson, 1927).
    pub interval: Option<[f64; 2]>,
    /// The same by style.
    pub styles: BTreeMap<String, Share>,
    /// Those marked wrong, with the comment.
    pub wrong: BTreeMap<String, String>,
}

/// Draws the sample: every tuple with the same chance, at least one of each style.
fn sample<'t>(tuples: &'t [Tuple], settings: &TraceSettings) -> Vec<&'t Tuple> {
    let chosen = |tuple: &&Tuple| {
        Random::of(settings.seed, &["review", &tuple.id]).chance(settings.review_share)
    };
    let mut sample: Vec<&Tuple> = tuples.iter().filter(chosen).collect();
    let mut styles: BTreeSet<&str> = sample.iter().map(|tuple| tuple.style.as_str()).collect();
    for tuple in tuples {
        if settings.review_share > 0.0 && styles.insert(&tuple.style) {
            sample.push(tuple);
        }
    }
    sample
}

/// Writes `review.html` and `review.csv`.
pub(super) fn write(
    tuples: &[Tuple],
    settings: &TraceSettings,
    out: &Path,
) -> Result<(), EvalError> {
    let sample = sample(tuples, settings);
    for (name, text) in
        [("review.html", page::of(&sample)), ("review.csv", table::unmarked(&sample))]
    {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(EvalError::io(&path))?;
    }
    Ok(())
}

/// Reads the marks that the page saves, or the table with its column `verdict` filled in.
///
/// # Errors
/// Names the line whose verdict is none, or the column that is missing.
pub fn read_marks(path: &Path) -> Result<Marks, EvalError> {
    let text = std::fs::read_to_string(path).map_err(EvalError::io(path))?;
    let malformed = |reason| EvalError::Malformed { path: path.to_owned(), reason };
    table::marks(&text).map_err(malformed)
}

/// Holds marks against the tuples of a folder.
///
/// # Errors
/// When a mark names a tuple that the folder's `review.csv` does not.
pub fn reviewed(folder: &Path, tuples: &[Tuple], marks: &Marks) -> Result<Review, EvalError> {
    let path = folder.join("review.csv");
    let text = std::fs::read_to_string(&path).map_err(EvalError::io(&path))?;
    let malformed = |reason: String| EvalError::Malformed { path: path.clone(), reason };
    let sampled: BTreeSet<String> = table::ids(&text).map_err(malformed)?;
    if let Some(unknown) = marks.keys().find(|id| !sampled.contains(*id)) {
        return Err(malformed(format!("it has no tuple {unknown}, which is marked")));
    }
    let judged = || {
        tuples.iter().filter_map(|tuple| match marks.get(&tuple.id) {
            Some((Verdict::Unsure, _)) | None => None,
            Some((verdict, comment)) => Some((tuple, *verdict == Verdict::Right, comment)),
        })
    };
    let right = Share::of(judged(), |(_, right, _)| *right);
    let mut styles: BTreeMap<String, Share> = BTreeMap::new();
    for (tuple, is_right, _) in judged() {
        let share = styles.entry(tuple.style.clone()).or_default();
        share.count += usize::from(is_right);
        share.of += 1;
    }
    let wrong = judged().filter(|(_, right, _)| !right);
    Ok(Review {
        sampled: sampled.len(),
        marked: marks.len(),
        right,
        interval: wilson(right),
        styles,
        wrong: wrong.map(|(tuple, _, comment)| (tuple.id.clone(), comment.clone())).collect(),
    })
}

/// Wilson's score interval at 95 %.
fn wilson(share: Share) -> Option<[f64; 2]> {
    const Z: f64 = 1.959_963_985;
    let (p, n) = (share.value()?, share.of as f64);
    let middle = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some([(middle - half) / scale, (middle + half) / scale])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_the_textbook() {
        let [low, high] = wilson(Share { count: 9, of: 10 }).expect("a share");
        assert!((low - 0.5958).abs() < 1e-3 && (high - 0.9821).abs() < 1e-3, "{low} {high}");
        assert_eq!(wilson(Share::default()), None);
    }
}
