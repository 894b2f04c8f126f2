//! Small plots as SVG text: no script, no font of their own, colours from the page.

use std::fmt::Write;

/// A picture under construction, in pixels.
pub(super) struct Plot {
    width: f64,
    height: f64,
    body: String,
}

/// Where values lie in pixels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub from: f64,
    pub to: f64,
    pub low: f64,
    pub high: f64,
}

impl Axis {
    /// The pixel of a value; values outside lie on the border.
    pub fn at(&self, value: f64) -> f64 {
        let span = if self.to > self.from { self.to - self.from } else { 1.0 };
        let share = ((value - self.from) / span).clamp(0.0, 1.0);
        self.low + share * (self.high - self.low)
    }

    /// Round values inside, four or five.
    pub fn ticks(&self) -> Vec<f64> {
        let span = (self.to - self.from).max(1e-9);
        let rough = span / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
        let step = steps.iter().map(|s| s * power).find(|s| *s >= rough * 0.999);
        let step = step.unwrap_or(rough);
        let first = (self.from / step).ceil() as i64;
        (first..).map(|n| n as f64 * step).take_while(|value| *value <= self.to + 1e-9).collect()
    }
}

/// Text as it may stand in HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number as short as it can be read.
pub(super) fn short(value: f64) -> String {
    let text = if value.abs() >= 100.0 || value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if text == "-0" { "0".to_owned() } else { text }
}

impl Plot {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    pub fn rect(&mut self, class: &str, at: (f64, f64), size: (f64, f64), title: &str) {
        let _ = writeln!(
            self.body,
            r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}"><title>{}</title></rect>"#,
            at.0,
            at.1,
            size.0.max(0.0),
            size.1.max(0.0),
            escaped(title)
        );
    }

    pub fn dot(&mut self, class: &str, at: (f64, f64), radius: f64, title: &str) {
        let _ = writeln!(
            self.body,
            r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="{radius}"><title>{}</title></circle>"#,
            at.0,
            at.1,
            escaped(title)
        );
    }

    pub fn text(&mut self, class: &str, at: (f64, f64), text: &str) {
        let _ = writeln!(
            self.body,
            r#"<text class="{class}" x="{:.1}" y="{:.1}">{}</text>"#,
            at.0,
            at.1,
            escaped(text)
        );
    }

    pub fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(self.body, r#"<polyline class="{class}" points="{}"/>"#, points.join(" "));
    }

    /// Horizontal grid lines with their values at the left.
    pub fn grid_rows(&mut self, y: Axis, x: (f64, f64)) {
        for tick in y.ticks() {
            self.line("grid", (x.0, y.at(tick)), (x.1, y.at(tick)));
            self.text("tick end", (x.0 - 6.0, y.at(tick) + 4.0), &short(tick));
        }
    }

    /// Vertical grid lines with their values below.
    pub fn grid_columns(&mut self, x: Axis, y: (f64, f64)) {
        for tick in x.ticks() {
            self.line("grid", (x.at(tick), y.0), (x.at(tick), y.1));
            self.text("tick middle", (x.at(tick), y.1 + 16.0), &short(tick));
        }
    }

    /// The picture; `style` goes inside, for a file that stands alone.
    pub fn finish(self, label: &str, style: &str) -> String {
        let style =
            if style.is_empty() { String::new() } else { format!("<style>{style}</style>") };
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{}" viewBox="0 0 {:.0} {:.0}">{style}
{}</svg>"#,
            escaped(label),
            self.width,
            self.height,
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let ticks = |from, to| Axis { from, to, low: 0.0, high: 1.0 }.ticks();
        assert_eq!(ticks(0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(ticks(-0.3, 0.9), [0.0, 0.5].map(|v: f64| v).to_vec());
        assert_eq!(ticks(0.0, 160.0), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(short(-0.0), "0");
        assert_eq!(short(0.25), "0.25");
    }

    #[test]
    fn words_of_skills_cannot_become_markup() {
        let mut plot = Plot::new(10.0, 10.0);
        plot.text("t", (0.0, 0.0), "<script>\"&");
        let svg = plot.finish("a \"b\"", "");
        assert!(svg.contains("&lt;script&gt;&quot;&amp;") && svg.contains("a &quot;b&quot;"));
    }
}
