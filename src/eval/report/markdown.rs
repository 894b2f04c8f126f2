//! The tables as `report.md`.

use std::fmt::Write;

use super::{Report, StyleFigures, TargetFigures, Totals};
use crate::eval::Configuration;
use crate::eval::scores::{Interval, Share};

/// The paper's headline: spread over Ω(q) at most this multiple of the backbone's alone.
const STD_OF_BACKBONE_MAX: f64 = 0.18;
/// And worst-case Dice at least this multiple.
const WORST_OF_BACKBONE_MIN: f64 = 1.19;

pub(super) fn of(report: &Report) -> String {
    let mut text = String::new();
    head(&mut text, report);
    main_table(&mut text, report);
    modes(&mut text, report);
    ablation(&mut text, report);
    behaviour(&mut text, report);
    bars(&mut text, report);
    if let Some(last) = report.configurations().last() {
        styles(&mut text, report);
        targets(&mut text, report, *last);
    }
    text
}

/// Writing into a string cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => { let _ = writeln!($text, $($format)*); };
}

fn head(text: &mut String, report: &Report) {
    let suite = &report.suite;
    line!(text, "# Evaluation of {}\n", suite.facts.name);
    line!(
        text,
        "{} requests in {} groups Ω(q) about {} cases of {} patients.",
        suite.request_count,
        suite.group_count,
        suite.case_count,
        suite.patient_count
    );
    line!(text, "Data: {} ({}).\n", suite.facts.source, suite.facts.licence);
    let settings = &report.settings;
    line!(text, "- reasoner: {}\n- backbone: {}", settings.reasoner, settings.backbone);
    line!(
        text,
        "- skills: {}\n- decoding: {}, provider: {}, seer {}\n",
        settings.bank_round.as_deref().unwrap_or("none"),
        settings.decoding,
        settings.provider,
        settings.server_version
    );
    line!(
        text,
        "Dice is averaged over groups, each weighing the same; a refusal in error counts 0.\n\
         Brackets hold 95 % bootstrap intervals ({} resamples of patients, seed {}).\n",
        report.bootstrap.resamples,
        report.bootstrap.seed
    );
}

fn main_table(text: &mut String, report: &Report) {
    line!(text, "## Free text: mean, worst case and spread over Ω(q)\n");
    line!(text, "| configuration | Dice | Worst-case Dice | Std over Ω(q) |");
    line!(text, "|---|---|---|---|");
    for t in &report.totals {
        let word = t.configuration.word();
        line!(text, "| {word} | {} | {} | {} |", cell(t.free), cell(t.worst), cell(t.std));
    }
    line!(text, "");
}

fn modes(text: &mut String, report: &Report) {
    line!(text, "## Label mode and free-text mode\n");
    line!(text, "| configuration | label mode | free text | free minus label |");
    line!(text, "|---|---|---|---|");
    for t in &report.totals {
        let (word, gap) = (t.configuration.word(), cell(t.free_minus_label));
        line!(text, "| {word} | {} | {} | {gap} |", cell(t.label), cell(t.free));
    }
    line!(text, "");
}

fn ablation(text: &mut String, report: &Report) {
    if report.ablation.is_empty() {
        return;
    }
    line!(text, "## Ablation: what each step changes, paired by group\n");
    line!(text, "| step | Dice | Worst-case Dice | Std over Ω(q) |");
    line!(text, "|---|---|---|---|");
    for step in &report.ablation {
        let name = format!("{} → {}", step.from.word(), step.to.word());
        line!(text, "| {name} | {} | {} | {} |", cell(step.free), cell(step.worst), cell(step.std));
    }
    line!(text, "");
}

fn behaviour(text: &mut String, report: &Report) {
    line!(text, "## Targets, sides and refusals\n");
    line!(
        text,
        "| configuration | targets resolved | format | side errors | answers on the other side | \
         refusals: precision | recall | right reason | seconds |"
    );
    line!(text, "|---|---|---|---|---|---|---|---|---|");
    for t in &report.totals {
        line!(text, "{}", behaviour_row(t));
    }
    line!(text, "");
}

fn behaviour_row(t: &Totals) -> String {
    let resolution = match t.resolution {
        Some(_) => format!("{} of {}", cell(t.resolution), t.resolved.of),
        None => "–".to_owned(),
    };
    let seconds = t.seconds.map_or("–".to_owned(), |seconds| format!("{seconds:.2}"));
    format!(
        "| {} | {resolution} | {} | {} | {} | {} | {} | {} | {seconds} |",
        t.configuration.word(),
        share(t.format_ok),
        counts(t.side_errors),
        counts(t.answers_on_other_side),
        share(t.refusals.precision),
        share(t.refusals.recall),
        share(t.refusals.reason),
    )
}

fn bars(text: &mut String, report: &Report) {
    let Some(last) = report.totals.last() else { return };
    let (Some(worst), Some(std)) = (last.worst_of_backbone, last.std_of_backbone) else { return };
    line!(text, "## Against the backbone alone ({})\n", last.configuration.word());
    line!(text, "| figure | of the backbone's | the paper's | reached |");
    line!(text, "|---|---|---|---|");
    let reached = |yes: bool| if yes { "yes" } else { "no" };
    line!(
        text,
        "| worst-case Dice | {} | at least {WORST_OF_BACKBONE_MIN} | {} |",
        cell(Some(worst)),
        reached(worst.value >= WORST_OF_BACKBONE_MIN)
    );
    line!(
        text,
        "| std over Ω(q) | {} | at most {STD_OF_BACKBONE_MAX} | {} |\n",
        cell(Some(std)),
        reached(std.value <= STD_OF_BACKBONE_MAX)
    );
}

fn styles(text: &mut String, report: &Report) {
    line!(text, "## By style\n");
    line!(
        text,
        "| style | configuration | wordings | Dice | targets resolved | refused in error | \
         rightly refused |"
    );
    line!(text, "|---|---|---|---|---|---|---|");
    let mut rows: Vec<&StyleFigures> = report.styles.iter().collect();
    rows.sort_by(|a, b| (&a.style, a.configuration).cmp(&(&b.style, b.configuration)));
    for s in rows {
        line!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            s.style,
            s.configuration.word(),
            s.count,
            cell(s.dice),
            share(s.resolved),
            share(s.refused_in_error),
            share(s.rightly_refused)
        );
    }
    line!(text, "");
}

fn targets(text: &mut String, report: &Report, last: Configuration) {
    line!(text, "## By target ({})\n", last.word());
    line!(
        text,
        "| target | groups | label mode | free text | worst case | std | resolved | side errors |"
    );
    line!(text, "|---|---|---|---|---|---|---|---|");
    let mine = |target: &&TargetFigures| target.configuration == last;
    for t in report.targets.iter().filter(mine) {
        line!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            t.target,
            t.group_count,
            number(t.label),
            number(t.free),
            number(t.worst),
            number(t.std),
            share(t.resolved),
            counts(t.side_errors)
        );
    }
    line!(text, "");
}

fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.3}"))
}

fn cell(interval: Option<Interval>) -> String {
    interval.map_or("–".to_owned(), |i| format!("{:.3} [{:.3}, {:.3}]", i.value, i.low, i.high))
}

fn share(share: Share) -> String {
    share.value().map_or("–".to_owned(), |value| format!("{value:.3} ({})", share.of))
}

fn counts(share: Share) -> String {
    if share.of == 0 { "–".to_owned() } else { format!("{} of {}", share.count, share.of) }
}
