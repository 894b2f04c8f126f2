//! The report of a round, and of a simulation, as a page that needs nothing else.

mod figures;
mod plot;

use std::fmt::Write;

use super::gate::{Difference, Verdict};
use super::report::{Outcome, Report};
use super::simulate::Simulation;
use figures::Effect;
use plot::escaped;

/// Groups and skills that a figure shows at most; the tables have all.
const FIGURE_ROWS_MAX: usize = 80;

const STYLE: &str = include_str!("page/style.css");

/// The report as one page with plots: no script, nothing loaded from elsewhere.
pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<h1>Evolution round</h1><p class=\"lead\">{}</p>{}",
        escaped(&sentence(report)),
        facts(report)
    );
    if let Some(verdict) = &report.verdict {
        let _ = write!(page, "<h2>Gate</h2>{}", gate(report, verdict));
        let shown = &verdict.groups[..verdict.groups.len().min(FIGURE_ROWS_MAX)];
        let _ = write!(page, "<h2>Held-out groups</h2>{}", figures::groups(shown));
        if shown.len() < verdict.groups.len() {
            let _ = write!(page, "<p>The first {} of {}.</p>", shown.len(), verdict.groups.len());
        }
    }
    let _ = write!(
        page,
        "<h2>Rewards of practice</h2>{}<h2>Size of the bank, <i>K<sub>t</sub></i></h2>{}",
        figures::rewards(&report.practice.reward_bins),
        figures::sizes(&report.sizes, report.candidate_size, report.outcome == Outcome::Published)
    );
    page.push_str(&gains(report));
    page.push_str(&harvested(report));
    page.push_str(&retired(report));
    page.push_str(&practice(report));
    page.push_str(&pairs(report));
    document("Evolution round", &page)
}

/// A simulation as one page.
pub fn simulation_html(simulation: &Simulation) -> String {
    let rows: String = simulation
        .rounds
        .iter()
        .map(|r| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.4}</td>\
                 <td>{:.4}</td><td>{:.4}</td><td>{:.4}</td><td>{:.0}</td></tr>",
                r.round,
                if r.adopted { "yes" } else { "no" },
                r.size,
                r.harvested,
                r.retired,
                r.objective_before,
                r.objective_after,
                r.test_mean,
                r.test_worst,
                r.retrieval_us
            )
        })
        .collect();
    let body = format!(
        "<h1>Simulated rounds with drifting jargon</h1>{}<table><thead><tr><th>round<th>adopted\
         <th>K<sub>t</sub><th>added<th>retired<th>J before<th>J after<th>test mean<th>test worst\
         <th>retrieval, µs</tr></thead><tbody>{rows}</tbody></table>",
        figures::simulation(simulation, "")
    );
    document("Simulated rounds", &body)
}

/// The plots of a simulation as a picture that stands alone.
pub fn simulation_svg(simulation: &Simulation) -> String {
    figures::simulation(simulation, STYLE)
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\
         <body><main>{body}<p class=\"note\">For research use only.</p></main></body></html>"
    )
}

fn sentence(report: &Report) -> String {
    match (report.outcome, report.published_round) {
        (Outcome::NothingHarvested, _) => {
            "Nothing was harvested, so there was nothing to judge. The bank is as it was."
                .to_owned()
        }
        (Outcome::GateFailed, _) => {
            "The candidate did not pass the gate. The bank is as it was.".to_owned()
        }
        (Outcome::WouldPublish, _) => {
            "The candidate passed. This was a dry run; the bank is as it was.".to_owned()
        }
        (Outcome::Offered, _) => "The candidate passed and waits to be adopted.".to_owned(),
        (Outcome::Published, Some(number)) => {
            format!("The candidate passed and is round {number} of the bank.")
        }
        (Outcome::Published, None) => "The candidate passed and was published.".to_owned(),
    }
}

fn facts(report: &Report) -> String {
    let parts = &report.parts;
    let rows = [
        ("round", report.id.to_string()),
        ("requests", format!("{}, sha256 {}", report.material, report.material_sha256)),
        ("base", format!("round {} of the bank, {} skills", report.base_round, report.base_size)),
        ("candidate", format!("{} skills", report.candidate_size)),
        (
            "split",
            format!(
                "{} requests of {} patients in practice ({}), {} requests of {} patients held out ({}); {}",
                parts.practice.len(),
                parts.practice_patients.len(),
                parts.practice_patients.join(", "),
                parts.heldout.len(),
                parts.heldout_patients.len(),
                parts.heldout_patients.join(", "),
                if parts.given { "as the requests say" } else { "drawn by the seed" }
            ),
        ),
        (
            "sampling",
            format!(
                "seed {}, {} rollouts at temperature {}, each skill withheld with a chance of {}",
                report.settings.seed,
                report.settings.rollout_count,
                report.settings.temperature,
                report.settings.withhold_rate
            ),
        ),
        (
            "models",
            report
                .models
                .iter()
                .map(|(role, name)| format!("{role}: {name}"))
                .collect::<Vec<_>>()
                .join("; "),
        ),
    ];
    let rows: String = rows
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("<tr><th>{name}</th><td>{}</td></tr>", escaped(value)))
        .collect();
    format!("<table class=\"facts\">{rows}</table>")
}

fn gate(report: &Report, verdict: &Verdict) -> String {
    let mut text = format!(
        "<p class=\"{}\">{}</p>",
        if verdict.passed { "passed" } else { "failed" },
        if verdict.passed {
            "Passed.".to_owned()
        } else {
            format!("Not passed: {}.", escaped(&verdict.failures.join("; ")))
        }
    );
    let row = |name: &str, before: f64, after: f64, difference: &Difference, rule: &str| {
        format!(
            "<tr><td>{name}</td><td>{before:.4}</td><td>{after:.4}</td><td>{:+.4}</td>\
             <td>{:+.4} to {:+.4}</td><td>{rule}</td></tr>",
            difference.value, difference.low, difference.high
        )
    };
    let (before, after) = (&verdict.before, &verdict.after);
    let lambda = report.settings.gate.variance_weight;
    let _ = write!(
        text,
        "<table><thead><tr><th>held-out<th>before<th>after<th>difference<th>95 % over patients<th>must</tr></thead>\
         <tbody>{}{}{}{}</tbody></table>",
        row("mean Dice", before.mean, after.mean, &verdict.mean_difference, "not fall"),
        row("worst-case Dice", before.worst, after.worst, &verdict.worst_difference, "not fall"),
        row(
            &format!("J = E − {lambda}·Var"),
            before.objective,
            after.objective,
            &verdict.objective_difference,
            "rise"
        ),
        row("spread over Ω(q)", before.spread, after.spread, &verdict.spread_difference, ""),
    );
    let _ = write!(
        text,
        "<p>{} of {} held-out requests changed. Figures are means over {} groups.</p>",
        verdict.changed_requests,
        verdict.requests,
        verdict.groups.len()
    );
    if let Some(first) = &report.first_verdict {
        let _ = write!(
            text,
            "<p>Before skills without, or with bad, held-out evidence were taken back: mean {:+.4}, \
             worst case {:+.4}, J {:+.4}.</p>",
            first.mean_difference.value,
            first.worst_difference.value,
            first.objective_difference.value
        );
    }
    text
}

fn gains(report: &Report) -> String {
    let mut text = String::new();
    let mut paired: Vec<Effect> = report
        .harvested
        .iter()
        .filter_map(|skill| {
            let gain = skill.heldout_gain?;
            Some(Effect {
                name: format!("{} → {}", skill.trigger, skill.target),
                note: format!("{} held-out offers", skill.heldout_offers),
                value: gain.value,
                interval: Some([gain.low, gain.high]),
            })
        })
        .collect();
    if !paired.is_empty() {
        paired.sort_by(|a, b| b.value.total_cmp(&a.value));
        paired.truncate(FIGURE_ROWS_MAX);
        let figure =
            figures::effects(&paired, "Dice with the candidate less Dice without, held-out");
        let _ = write!(text, "<h2>Δ(s) of harvested skills, held-out</h2>{figure}");
        if let Some(all) = &report.pooled_gain {
            let _ = write!(
                text,
                "<p>All of them together: {:+.3}, 95 % over patients {:+.3} to {:+.3}.</p>",
                all.value, all.low, all.high
            );
        }
    }
    let mut withheld: Vec<Effect> = report
        .held
        .iter()
        .filter_map(|skill| {
            Some(Effect {
                name: format!("{} → {}", skill.trigger, skill.target),
                note: format!(
                    "{} episodes with, {} without",
                    skill.gain.n_with, skill.gain.n_without
                ),
                value: skill.gain.delta?,
                interval: skill.gain.interval,
            })
        })
        .collect();
    if !withheld.is_empty() {
        withheld.sort_by(|a, b| b.value.total_cmp(&a.value));
        withheld.truncate(FIGURE_ROWS_MAX);
        let figure =
            figures::effects(&withheld, "mean reward with the skill less mean reward without");
        let _ =
            write!(text, "<h2>Δ(s) of the base's skills, from withholding by chance</h2>{figure}");
    }
    text
}

fn harvested(report: &Report) -> String {
    let rows: String = report
        .harvested
        .iter()
        .map(|skill| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:+.3}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&skill.trigger),
                escaped(&skill.target),
                escaped(&skill.tag),
                escaped(&skill.fate.replace('_', " ")),
                skill.lessons,
                skill.patients,
                skill.gain_at_birth,
                skill.rehearsal_gain.map_or(String::new(), |gain| format!("{gain:+.3}")),
                skill.heldout_offers,
                skill.heldout_gain.map_or(String::new(), |g| format!(
                    "{:+.3} ({:+.3} to {:+.3})",
                    g.value, g.low, g.high
                )),
            )
        })
        .collect();
    format!(
        "<h2>Harvested skills</h2><table><thead><tr><th>words<th>meaning<th>tag<th>fate<th>lessons\
         <th>patients<th>gain at birth<th>rehearsal<th>held-out offers<th>held-out Δ</tr></thead>\
         <tbody>{rows}</tbody></table>"
    )
}

fn retired(report: &Report) -> String {
    if report.retired.is_empty() {
        return String::new();
    }
    let rows: String = report
        .retired
        .iter()
        .map(|skill| {
            let reason = serde_json::to_value(skill.reason).ok();
            let reason = reason.as_ref().and_then(|r| r.as_str()).unwrap_or_default().to_owned();
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
                escaped(&skill.trigger),
                escaped(&skill.target),
                escaped(&reason.replace('_', " "))
            )
        })
        .collect();
    format!(
        "<h2>Retired by the candidate</h2><table><thead><tr><th>words<th>meaning<th>why</tr></thead><tbody>{rows}</tbody></table>"
    )
}

fn practice(report: &Report) -> String {
    let of = &report.practice;
    let dropped: String = of
        .dropped
        .iter()
        .map(|(why, count)| format!("<li>{count}: {}</li>", escaped(why)))
        .collect();
    format!(
        "<h2>Practice</h2><p>{} requests, {} rollouts. Mean reward {:.3}, mean Dice {:.3}, of the direct \
         prompt {:.3}. {} episodes beat the direct prompt by {}. {} phrasings fell short of their \
         group's best answer. A skill was withheld from {} requests. Worded by the reasoner: {}, by \
         rules: {}.</p><p>Lessons that became no skill:</p><ul>{dropped}</ul>",
        of.requests,
        of.rollouts,
        of.mean_reward,
        of.mean_dice,
        of.direct_dice,
        of.positive_episodes,
        report.settings.harvest.margin,
        of.lessons,
        of.reduced_requests,
        of.worded_by_reasoner,
        of.worded_by_rules,
    )
}

fn pairs(report: &Report) -> String {
    let rows: String = report
        .pairs
        .iter()
        .map(|pair| {
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.3}</td><td>{:.3}</td><td>{:+.3}</td><td>{}</td></tr>",
                pair.request,
                escaped(&pair.patient),
                escaped(&pair.group),
                pair.before,
                pair.after,
                pair.after - pair.before,
                escaped(&pair.offered_after.join(" "))
            )
        })
        .collect();
    format!(
        "<details><summary>All {} paired held-out requests</summary><table><thead><tr><th>request\
         <th>patient<th>group<th>before<th>after<th>difference<th>offered</tr></thead><tbody>{rows}</tbody></table></details>",
        report.pairs.len()
    )
}
