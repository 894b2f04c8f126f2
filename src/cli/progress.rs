//! Progress of a walk: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};

use crate::orders::Step;

/// Shows the step at hand and the done part of the walk.
pub(super) struct WalkProgress {
    bar: Option<ProgressBar>,
    last_step: Mutex<Option<Step>>,
}

impl WalkProgress {
    /// A bar when standard error is a terminal, lines otherwise.
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1000);
            let style =
                ProgressStyle::with_template("{msg:22} [{bar:40}] {percent:>3} % {elapsed}");
            bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
            );
            bar
        });
        Self { bar, last_step: Mutex::new(None) }
    }

    /// Shows that the walk is at `step` and `done` (0 to 1) of it is behind.
    pub(super) fn show(&self, step: Step, done: f32) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(sentence(step));
                bar.set_position((done * 1000.0) as u64);
            }
            None => {
                let mut last = self.last_step.lock().unwrap_or_else(PoisonError::into_inner);
                if last.replace(step) != Some(step) {
                    eprintln!("{:>3} % {}", (done * 100.0) as u32, sentence(step));
                }
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn sentence(step: Step) -> &'static str {
    match step {
        Step::Fetch => "Fetching the study",
        Step::Series => "Reading the series",
        Step::Volume => "Assembling the volume",
        Step::Views => "Rendering the views",
        Step::Reason => "Reasoning",
        Step::Segment => "Segmenting",
        Step::Store => "Writing the result",
    }
}

/// Progress of work that counts things: a bar on a terminal, a line for every twentieth part
/// elsewhere.
pub(super) struct CountProgress {
    name: &'static str,
    bar: Option<ProgressBar>,
    last_part: Mutex<Option<u64>>,
}

impl CountProgress {
    /// A bar when standard error is a terminal, lines otherwise.
    pub(super) fn new(name: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template(
                "{msg:22} [{bar:40}] {pos}/{len} {elapsed}, {eta} left",
            );
            bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
            );
            bar.set_message(name);
            bar
        });
        Self { name, bar, last_part: Mutex::new(None) }
    }

    /// Shows that `done` of `total` are behind.
    pub(super) fn show(&self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            None => {
                let part = done * 20 / total.max(1);
                let mut last = self.last_part.lock().unwrap_or_else(PoisonError::into_inner);
                if last.replace(part) != Some(part) {
                    eprintln!("{:>3} % {}: {done} of {total}", part * 5, self.name);
                }
            }
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
