//! The figures of the tables.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AblationStep, GroupFigures, Refusals, Report, StyleFigures, SuiteSummary, TargetFigures, Totals,
};
use crate::eval::scores::{Bootstrap, Interval, Share, Spread};
use crate::eval::suite::SuiteFacts;
use crate::eval::{Configuration, Expect, Mode, Scored, Settings};

pub(super) fn report(
    facts: SuiteFacts,
    settings: Settings,
    bootstrap: Bootstrap,
    rows: &[Scored],
) -> Report {
    let mut configurations: Vec<Configuration> =
        rows.iter().map(|row| row.row.configuration).collect();
    configurations.sort();
    configurations.dedup();
    let groups: Vec<GroupFigures> = configurations.iter().flat_map(|c| groups(rows, *c)).collect();
    let distinct =
        |value: &dyn Fn(&Scored) -> String| rows.iter().map(value).collect::<BTreeSet<_>>().len();
    Report {
        schema_version: 1,
        suite: SuiteSummary {
            facts,
            case_count: distinct(&|row| row.row.case.clone()),
            patient_count: distinct(&|row| row.patient.clone()),
            request_count: rows.len() / configurations.len().max(1),
            group_count: distinct(&|row| format!("{}\n{}", row.row.case, row.row.group)),
        },
        settings,
        bootstrap,
        requests: rows.iter().map(|row| row.row.clone()).collect(),
        styles: configurations.iter().flat_map(|c| styles(rows, *c, &bootstrap)).collect(),
        targets: configurations.iter().flat_map(|c| targets(rows, &groups, *c)).collect(),
        totals: configurations.iter().map(|c| totals(rows, &groups, *c, &bootstrap)).collect(),
        ablation: configurations
            .windows(2)
            .map(|pair| step(&groups, pair[0], pair[1], &bootstrap))
            .collect(),
        groups,
    }
}

fn of(rows: &[Scored], configuration: Configuration) -> impl Iterator<Item = &Scored> {
    rows.iter().filter(move |row| row.row.configuration == configuration)
}

/// Groups that ask for a segmentation, in the order of their first row.
fn groups(rows: &[Scored], configuration: Configuration) -> Vec<GroupFigures> {
    let mut order: Vec<(&str, &str)> = Vec::new();
    let mut found: BTreeMap<(&str, &str), Vec<&Scored>> = BTreeMap::new();
    for row in of(rows, configuration).filter(|row| row.row.expect == Expect::Segment) {
        let key = (row.row.case.as_str(), row.row.group.as_str());
        found.entry(key).or_insert_with(|| {
            order.push(key);
            Vec::new()
        });
        if let Some(rows) = found.get_mut(&key) {
            rows.push(row);
        }
    }
    order.into_iter().map(|key| group(&found[&key])).collect()
}

fn group(rows: &[&Scored]) -> GroupFigures {
    let dice = |mode: Mode| -> Vec<f64> {
        rows.iter().filter(|row| row.row.mode == mode).filter_map(|row| row.row.dice).collect()
    };
    let (free, first) = (Spread::of(&dice(Mode::Free)), &rows[0].row);
    GroupFigures {
        case: first.case.clone(),
        patient: rows[0].patient.clone(),
        group: first.group.clone(),
        target: first.target.clone(),
        configuration: first.configuration,
        count: free.map_or(0, |spread| spread.count),
        mean: free.map(|spread| spread.mean),
        worst: free.map(|spread| spread.worst),
        std: free.map(|spread| spread.std),
        label: Spread::of(&dice(Mode::Label)).map(|spread| spread.mean),
    }
}

fn styles(
    rows: &[Scored],
    configuration: Configuration,
    bootstrap: &Bootstrap,
) -> Vec<StyleFigures> {
    let free: Vec<&Scored> =
        of(rows, configuration).filter(|row| row.row.mode == Mode::Free).collect();
    let names: BTreeSet<&str> = free.iter().map(|row| row.row.style.as_str()).collect();
    names
        .into_iter()
        .map(|style| {
            let of_style = || free.iter().copied().filter(move |row| row.row.style == style);
            let segment = || of_style().filter(|row| row.row.expect == Expect::Segment);
            let dice: Vec<(String, f64)> =
                segment().filter_map(|row| Some((row.patient.clone(), row.row.dice?))).collect();
            StyleFigures {
                style: style.to_owned(),
                configuration,
                count: dice.len(),
                dice: bootstrap.mean(&dice),
                resolved: Share::of(segment().filter_map(|row| row.resolved_right), |right| *right),
                refused_in_error: Share::of(segment(), |row| row.row.refused),
                rightly_refused: Share::of(
                    of_style().filter(|row| row.row.expect == Expect::Reject),
                    |row| row.row.refused,
                ),
            }
        })
        .collect()
}

fn targets(
    rows: &[Scored],
    groups: &[GroupFigures],
    configuration: Configuration,
) -> Vec<TargetFigures> {
    let groups: Vec<&GroupFigures> =
        groups.iter().filter(|group| group.configuration == configuration).collect();
    let names: BTreeSet<&str> = groups.iter().map(|group| group.target.as_str()).collect();
    names
        .into_iter()
        .map(|target| {
            let of_target: Vec<&GroupFigures> =
                groups.iter().copied().filter(|group| group.target == target).collect();
            let mean = |value: fn(&GroupFigures) -> Option<f64>| {
                let values: Vec<f64> = of_target.iter().filter_map(|group| value(group)).collect();
                Spread::of(&values).map(|spread| spread.mean)
            };
            let asked = || {
                let rows = of(rows, configuration).filter(|row| row.row.expect == Expect::Segment);
                rows.filter(|row| row.row.target == target)
            };
            TargetFigures {
                target: target.to_owned(),
                configuration,
                group_count: of_target.len(),
                label: mean(|group| group.label),
                free: mean(|group| group.mean),
                worst: mean(|group| group.worst),
                std: mean(|group| group.std),
                resolved: Share::of(asked().filter_map(|row| row.resolved_right), |right| *right),
                side_errors: Share::of(asked().filter_map(|row| row.row.side_error), |wrong| {
                    *wrong
                }),
            }
        })
        .collect()
}

fn totals(
    rows: &[Scored],
    groups: &[GroupFigures],
    configuration: Configuration,
    bootstrap: &Bootstrap,
) -> Totals {
    let mine = || groups.iter().filter(|group| group.configuration == configuration);
    let mean = |value: &dyn Fn(&GroupFigures) -> Option<f64>| {
        let values: Vec<(String, f64)> =
            mine().filter_map(|group| Some((group.patient.clone(), value(group)?))).collect();
        bootstrap.mean(&values)
    };
    let segment = || of(rows, configuration).filter(|row| row.row.expect == Expect::Segment);
    let resolved: Vec<(String, f64)> = segment()
        .filter_map(|row| Some((row.patient.clone(), f64::from(u8::from(row.resolved_right?)))))
        .collect();
    let against = |value: fn(&GroupFigures) -> Option<f64>| {
        let is_alone = configuration == Configuration::Backbone;
        let pairs = pairs(groups, Configuration::Backbone, configuration, value);
        if is_alone { None } else { bootstrap.interval(&pairs, ratio) }
    };
    let seconds: Vec<f64> = segment().map(|row| row.row.seconds).collect();
    Totals {
        configuration,
        label: mean(&|group| group.label),
        free: mean(&|group| group.mean),
        worst: mean(&|group| group.worst),
        std: mean(&|group| group.std),
        free_minus_label: mean(&|group| Some(group.mean? - group.label?)),
        worst_of_backbone: against(|group| group.worst),
        std_of_backbone: against(|group| group.std),
        resolution: bootstrap.mean(&resolved),
        resolved: Share::of(segment().filter_map(|row| row.resolved_right), |right| *right),
        format_ok: Share::of(of(rows, configuration).filter_map(|row| row.format_ok), |ok| *ok),
        side_errors: Share::of(segment().filter_map(|row| row.row.side_error), |wrong| *wrong),
        answers_on_other_side: Share::of(
            segment().filter_map(|row| row.answered_other_side),
            |wrong| *wrong,
        ),
        refusals: refusals(rows, configuration, bootstrap),
        seconds: Spread::of(&seconds).map(|spread| spread.mean),
    }
}

fn refusals(rows: &[Scored], configuration: Configuration, bootstrap: &Bootstrap) -> Refusals {
    let reject = || of(rows, configuration).filter(|row| row.row.expect == Expect::Reject);
    let refused = of(rows, configuration).filter(|row| row.row.refused);
    let recalled: Vec<(String, f64)> =
        reject().map(|row| (row.patient.clone(), f64::from(u8::from(row.row.refused)))).collect();
    Refusals {
        precision: Share::of(refused, |row| row.row.expect == Expect::Reject),
        recall: Share::of(reject(), |row| row.row.refused),
        recall_interval: bootstrap.mean(&recalled),
        reason: Share::of(reject().filter_map(|row| row.reason_right), |right| *right),
    }
}

/// A figure of the same group in two configurations, with the patient.
fn pairs(
    groups: &[GroupFigures],
    from: Configuration,
    to: Configuration,
    value: fn(&GroupFigures) -> Option<f64>,
) -> Vec<(String, (f64, f64))> {
    let of = |configuration: Configuration| {
        groups.iter().filter(move |group| group.configuration == configuration)
    };
    let earlier: BTreeMap<(&str, &str), f64> = of(from)
        .filter_map(|group| Some(((group.case.as_str(), group.group.as_str()), value(group)?)))
        .collect();
    of(to)
        .filter_map(|group| {
            let before = *earlier.get(&(group.case.as_str(), group.group.as_str()))?;
            Some((group.patient.clone(), (before, value(group)?)))
        })
        .collect()
}

/// The mean of the second over the mean of the first.
fn ratio(pairs: &[(f64, f64)]) -> Option<f64> {
    let (from, to) = pairs.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    (from > 0.0).then(|| to / from)
}

fn step(
    groups: &[GroupFigures],
    from: Configuration,
    to: Configuration,
    bootstrap: &Bootstrap,
) -> AblationStep {
    let change = |value: fn(&GroupFigures) -> Option<f64>| -> Option<Interval> {
        let changes: Vec<(String, f64)> = pairs(groups, from, to, value)
            .into_iter()
            .map(|(patient, (before, after))| (patient, after - before))
            .collect();
        bootstrap.mean(&changes)
    };
    AblationStep {
        from,
        to,
        free: change(|group| group.mean),
        worst: change(|group| group.worst),
        std: change(|group| group.std),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::Row;

    fn row(configuration: Configuration, case: &str, mode: Mode, dice: Option<f64>) -> Scored {
        let expect = if dice.is_some() { Expect::Segment } else { Expect::Reject };
        let asked = configuration != Configuration::Backbone;
        Scored {
            key: String::new(),
            patient: case.to_owned(),
            resolved_right: dice.filter(|_| asked).map(|dice| dice > 0.5),
            answered_other_side: None,
            reason_right: dice.is_none().then_some(true).filter(|_| asked),
            format_ok: asked.then_some(true),
            row: Row {
                case: case.to_owned(),
                group: format!("{case}/liver {}", if dice.is_some() { "" } else { "no" }),
                mode,
                style: "formal_task".to_owned(),
                text: "liver".to_owned(),
                target: "liver".to_owned(),
                configuration,
                answer: String::new(),
                resolved: Vec::new(),
                refused: dice.is_none_or(|dice| dice == 0.0) && asked,
                expect,
                dice,
                side_error: dice.map(|_| false),
                seconds: 2.0,
            },
        }
    }

    fn rows() -> Vec<Scored> {
        use Configuration::{Backbone, SeerGrounded};
        let mut rows = Vec::new();
        for (configuration, first, second) in [
            (Backbone, [0.2, 0.6, 0.4], [0.1, 0.5, 0.9]),
            (SeerGrounded, [0.7, 0.8, 0.75], [0.0, 0.8, 0.8]),
        ] {
            for (case, values) in [("a", first), ("b", second)] {
                rows.push(row(configuration, case, Mode::Label, Some(0.8)));
                rows.extend(values.map(|dice| row(configuration, case, Mode::Free, Some(dice))));
                rows.push(row(configuration, case, Mode::Free, None));
            }
        }
        rows
    }

    #[test]
    fn tables_follow_from_rows() {
        let settings = Settings {
            reasoner: "r".into(),
            backbone: "b".into(),
            bank_round: None,
            decoding: "greedy".into(),
            provider: "cpu".into(),
            server_version: "0".into(),
        };
        let report = report(SuiteFacts::default(), settings, Bootstrap::default(), &rows());
        assert_eq!((report.suite.request_count, report.suite.group_count), (10, 4));
        assert_eq!((report.groups.len(), report.styles.len(), report.targets.len()), (4, 2, 2));
        let [alone, seer] = &report.totals[..] else { panic!("{:?}", report.totals) };
        let is = |found: Option<Interval>, expected: f64| {
            let found = found.expect("a value").value;
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        };
        is(alone.free, 0.45);
        is(alone.worst, 0.15);
        is(alone.label, 0.8);
        is(seer.free, (0.75 + 1.6 / 3.0) / 2.0);
        is(seer.worst, 0.35);
        is(seer.worst_of_backbone, 0.35 / 0.15);
        is(seer.free_minus_label, (0.75 + 1.6 / 3.0) / 2.0 - 0.8);
        assert_eq!(alone.worst_of_backbone, None);
        assert_eq!(alone.resolution, None);
        assert_eq!(seer.resolved, Share { count: 7, of: 8 });
        assert_eq!(alone.refusals.recall, Share { count: 0, of: 2 });
        assert_eq!(seer.refusals.recall, Share { count: 2, of: 2 });
        assert_eq!(seer.refusals.precision, Share { count: 2, of: 3 });
        assert_eq!(seer.refusals.reason, Share { count: 2, of: 2 });
        assert_eq!(report.ablation.len(), 1);
        is(report.ablation[0].worst, 0.2);
        let text = report.markdown();
        for part in ["backbone", "seer_grounded", "0.350", "Worst-case", "formal_task", "liver"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
