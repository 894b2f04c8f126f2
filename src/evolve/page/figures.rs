//! The figures of a report and of a simulation.

use super::plot::{Axis, Plot, short};
use crate::evolve::gate::GroupChange;
use crate::evolve::simulate::{SimulatedRound, Simulation};

const WIDTH: f64 = 760.0;

/// How often rewards lie where: twenty bins from 0 to 1.
pub(super) fn rewards(bins: &[usize]) -> String {
    let (left, right, top, bottom) = (46.0, WIDTH - 12.0, 12.0, 190.0);
    let most = bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let y = Axis { from: 0.0, to: most, low: bottom, high: top };
    let x = Axis { from: 0.0, to: 1.0, low: left, high: right };
    let mut plot = Plot::new(WIDTH, 236.0);
    plot.grid_rows(y, (left, right));
    let width = (right - left) / bins.len().max(1) as f64;
    for (place, count) in bins.iter().enumerate() {
        let from = place as f64 / bins.len() as f64;
        let to = (place + 1) as f64 / bins.len() as f64;
        let title = format!("{count} rollouts with a reward from {} to {}", short(from), short(to));
        let height = bottom - y.at(*count as f64);
        plot.rect("bar", (x.at(from) + 1.0, bottom - height), (width - 2.0, height), &title);
    }
    for tick in x.ticks() {
        plot.text("tick middle", (x.at(tick), bottom + 16.0), &short(tick));
    }
    plot.text("axis middle", ((left + right) / 2.0, bottom + 36.0), "reward of a rollout");
    plot.finish("distribution of rewards", "")
}

/// `K_t`: sizes by round, the candidate last.
pub(super) fn sizes(rounds: &[(u64, u64)], candidate: usize, adopted: bool) -> String {
    let (left, right, top, bottom) = (46.0, WIDTH - 12.0, 22.0, 170.0);
    let most = rounds.iter().map(|(_, size)| *size as f64).fold(candidate as f64, f64::max);
    let y = Axis { from: 0.0, to: most.max(1.0), low: bottom, high: top };
    let count = rounds.len() + 1;
    let step = (right - left) / count as f64;
    let mut plot = Plot::new(WIDTH, 214.0);
    plot.grid_rows(y, (left, right));
    let next = rounds.last().map_or(0, |(number, _)| number + 1);
    let own = (format!("{next}"), candidate as f64, if adopted { "bar" } else { "bar faint" });
    let bars = rounds.iter().map(|(number, size)| (number.to_string(), *size as f64, "bar old"));
    for (place, (name, size, class)) in bars.chain([own]).enumerate() {
        let x = left + step * place as f64;
        let width = (step * 0.6).min(60.0);
        let at = (x + (step - width) / 2.0, y.at(size));
        plot.rect(class, at, (width, bottom - y.at(size)), &format!("{} skills", short(size)));
        let middle = x + step / 2.0;
        plot.text("value middle", (middle, y.at(size) - 5.0), &short(size));
        plot.text("tick middle", (middle, bottom + 16.0), &name);
    }
    plot.text("axis middle", ((left + right) / 2.0, bottom + 36.0), "round of the bank");
    plot.finish("size of the bank by round", "")
}

/// One row of a forest plot.
pub(super) struct Effect {
    pub name: String,
    pub note: String,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

/// Gains with their intervals around zero.
pub(super) fn effects(rows: &[Effect], axis_name: &str) -> String {
    let (left, right, row, top) = (300.0, WIDTH - 70.0, 22.0, 8.0);
    let ends = rows.iter().flat_map(|r| r.interval.unwrap_or([r.value, r.value]));
    let (low, high) = ends.fold((0.0_f64, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)));
    let margin = ((high - low) * 0.06).max(0.02);
    let x = Axis { from: low - margin, to: high + margin, low: left, high: right };
    let bottom = top + row * rows.len() as f64;
    let mut plot = Plot::new(WIDTH, bottom + 46.0);
    plot.grid_columns(x, (top, bottom));
    plot.line("zero", (x.at(0.0), top), (x.at(0.0), bottom));
    for (place, effect) in rows.iter().enumerate() {
        let y = top + row * (place as f64 + 0.5);
        plot.text("name end", (left - 10.0, y + 4.0), &effect.name);
        let class = match effect.interval {
            Some([low, _]) if low > 0.0 => "good",
            Some([_, high]) if high < 0.0 => "bad",
            _ => "open",
        };
        if let Some([low, high]) = effect.interval {
            plot.line(&format!("whisker {class}"), (x.at(low), y), (x.at(high), y));
        }
        let title = format!("{}: {:+.3}; {}", effect.name, effect.value, effect.note);
        plot.dot(class, (x.at(effect.value), y), 4.5, &title);
        plot.text("value", (right + 8.0, y + 4.0), &format!("{:+.2}", effect.value));
    }
    plot.text("axis middle", ((left + right) / 2.0, bottom + 38.0), axis_name);
    plot.finish(axis_name, "")
}

/// Worst case and mean of each held-out group, before above after.
pub(super) fn groups(changes: &[GroupChange]) -> String {
    let (left, right, row, top) = (300.0, WIDTH - 16.0, 26.0, 8.0);
    let x = Axis { from: 0.0, to: 1.0, low: left, high: right };
    let bottom = top + row * changes.len() as f64;
    let mut plot = Plot::new(WIDTH, bottom + 46.0);
    plot.grid_columns(x, (top, bottom));
    for (place, change) in changes.iter().enumerate() {
        let middle = top + row * (place as f64 + 0.5);
        plot.text("name end", (left - 10.0, middle + 4.0), &change.group);
        let rows = [
            ("old", middle - 5.0, change.worst_before, change.mean_before, change.std_before),
            ("new", middle + 5.0, change.worst_after, change.mean_after, change.std_after),
        ];
        for (class, y, worst, mean, std) in rows {
            let title = format!(
                "{}: worst {worst:.3}, mean {mean:.3}, spread {std:.3}, {} phrasings",
                if class == "old" { "before" } else { "after" },
                change.phrasings
            );
            plot.line(&format!("span {class}"), (x.at(worst), y), (x.at(mean), y));
            plot.dot(&format!("{class} hollow"), (x.at(worst), y), 3.5, &title);
            plot.dot(class, (x.at(mean), y), 3.5, &title);
        }
    }
    let caption =
        "Dice over Ω(q): hollow the worst phrasing, filled the mean; grey before, blue after";
    plot.text("axis middle", ((left + right) / 2.0, bottom + 38.0), caption);
    plot.finish("held-out groups before and after", "")
}

/// One curve: its class, its caption, and its value in a round.
type Curve = (&'static str, &'static str, fn(&SimulatedRound) -> f64);

/// The curves of a simulation, three panels one above the other.
pub(super) fn simulation(simulation: &Simulation, style: &str) -> String {
    let quality: [Curve; 4] = [
        ("new", "mean Dice", |r| r.test_mean),
        ("good", "worst-case Dice", |r| r.test_worst),
        ("old", "mean Dice without skills", |r| r.test_mean_without),
        ("faint", "worst-case without skills", |r| r.test_worst_without),
    ];
    let sizes: [Curve; 1] = [("new", "skills in the bank", |r| r.size as f64)];
    let gains: [Curve; 1] = [("good", "gain of J at the gate", |r| {
        let gain = r.objective_after - r.objective_before;
        if gain.is_finite() { gain } else { 0.0 }
    })];
    let mut plot = Plot::new(WIDTH, 690.0);
    let rounds = &simulation.rounds;
    panel(&mut plot, rounds, 20.0, 230.0, &quality, Some(1.0));
    panel(&mut plot, rounds, 270.0, 420.0, &sizes, Some(simulation.settings.bank_size_max as f64));
    panel(&mut plot, rounds, 460.0, 610.0, &gains, None);
    plot.text("axis middle", (WIDTH / 2.0, 660.0), "round");
    plot.finish("simulated rounds", style)
}

fn panel(
    plot: &mut Plot,
    rounds: &[SimulatedRound],
    top: f64,
    bottom: f64,
    curves: &[Curve],
    limit: Option<f64>,
) {
    let (left, right) = (56.0, WIDTH - 190.0);
    let values = curves.iter().flat_map(|(_, _, of)| rounds.iter().map(of));
    let most = limit.unwrap_or_else(|| values.fold(0.0, f64::max)).max(1e-6);
    let y = Axis { from: 0.0, to: most, low: bottom, high: top };
    let last = rounds.len().max(2) as f64;
    let x = Axis { from: 1.0, to: last, low: left, high: right };
    plot.grid_rows(y, (left, right));
    for tick in x.ticks() {
        plot.text("tick middle", (x.at(tick), bottom + 16.0), &short(tick));
    }
    for (place, (class, name, of)) in curves.iter().enumerate() {
        let points: Vec<(f64, f64)> =
            rounds.iter().map(|r| (x.at(r.round as f64), y.at(of(r)))).collect();
        plot.path(&format!("curve {class}"), &points);
        if curves.len() == 1 {
            for (round, point) in rounds.iter().zip(&points) {
                let class = if round.adopted { *class } else { "hollow open" };
                let title = if round.adopted { "adopted" } else { "kept as it was" };
                let title = format!("round {}: {title}, {}", round.round, short(of(round)));
                plot.dot(class, *point, 2.5, &title);
            }
        }
        let at = top + 12.0 + 20.0 * place as f64;
        plot.line(&format!("curve {class}"), (right + 14.0, at - 4.0), (right + 30.0, at - 4.0));
        plot.text("legend", (right + 36.0, at), name);
    }
}
