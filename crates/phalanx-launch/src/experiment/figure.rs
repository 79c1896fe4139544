//! Curves of an experiment as pictures that a document can hold.

use std::fmt::Write as _;

use super::Method;
use super::outcome::{Goal, Outcome};
use crate::report::escape;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;

/// Colours that people with any colour vision can tell apart.
///
/// # Reference
/// Okabe and Ito, "Color Universal Design", 2008.
const COLORS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f"];

/// A picture: for each method a curve a seed.
pub(super) struct Figure {
    /// The end of its file's name.
    pub(super) name: &'static str,
    /// What it shows.
    pub(super) title: &'static str,
    across: &'static str,
    /// Whether the axis of values is logarithmic.
    is_log: bool,
    curves: Vec<(String, Vec<Curve>)>,
}

type Curve = Vec<(f64, f64)>;

/// The pictures of an experiment.
pub(super) fn figures(methods: &[Method], goal: Goal) -> [Figure; 3] {
    let score = move |outcome: &Outcome, across: &dyn Fn(&super::outcome::Scored) -> f64| -> Curve {
        let value = |score: &super::outcome::Scored| match goal {
            Goal::Accuracy(_) => score.accuracy.map(|share| 100.0 * share),
            Goal::Loss(_) => Some(score.loss),
        };
        outcome.scores.iter().filter_map(|at| Some((across(at), value(at)?))).collect()
    };
    let of = |curve: &dyn Fn(&Outcome) -> Curve| -> Vec<(String, Vec<Curve>)> {
        methods.iter().map(|m| (m.name.clone(), m.outcomes.iter().map(curve).collect())).collect()
    };
    let title = match goal {
        Goal::Accuracy(_) => {
            ["Validation accuracy, % by samples", "Validation accuracy, % by seconds of training"]
        }
        Goal::Loss(_) => ["Validation loss by samples", "Validation loss by seconds of training"],
    };
    [
        Figure {
            name: "batch",
            title: "Batch size by samples",
            across: "samples",
            is_log: true,
            curves: of(&|outcome| stairs(outcome)),
        },
        Figure {
            name: "score",
            title: title[0],
            across: "samples",
            is_log: false,
            curves: of(&|outcome| score(outcome, &|at| at.samples as f64)),
        },
        Figure {
            name: "time",
            title: title[1],
            across: "seconds",
            is_log: false,
            curves: of(&|outcome| score(outcome, &|at| at.seconds)),
        },
    ]
}

/// The batch where it changes.
fn stairs(outcome: &Outcome) -> Curve {
    let mut curve: Curve = Vec::new();
    for (samples, batch, _) in &outcome.steps {
        let (before, value) = (samples.saturating_sub(*batch) as f64, *batch as f64);
        match curve.last().copied() {
            Some((_, last)) if (last - value).abs() < 0.5 => {}
            Some((_, last)) => curve.extend([(before, last), (before, value)]),
            None => curve.push((before, value)),
        }
    }
    if let (Some((_, value)), Some((samples, ..))) = (curve.last().copied(), outcome.steps.last()) {
        curve.push((*samples as f64, value));
    }
    curve
}

impl Figure {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let scale = |value: f64| if self.is_log { value.max(1e-9).log10() } else { value };
        let points = || self.curves.iter().flat_map(|(_, curves)| curves.iter().flatten());
        let most = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-9);
        let low = points().map(|(_, y)| scale(*y)).fold(f64::INFINITY, f64::min);
        let high = points().map(|(_, y)| scale(*y)).fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high { (low, high) } else { (low.clamp(-1e9, 0.0), high.clamp(1.0, 1e9)) };
        let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / most;
        let y = |scaled: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scaled - low) / (high - low);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            escape(self.title)
        );
        let mut put = |text: std::fmt::Arguments<'_>| {
            // writing to a string cannot fail
            svg.write_fmt(text).ok();
        };
        for tick in 0..=4 {
            let share = f64::from(tick) / 4.0;
            let (at, scaled) = (share * most, low + share * (high - low));
            let value = if self.is_log { 10.0_f64.powf(scaled) } else { scaled };
            put(format_args!(
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"#ddd\"/>\n<text x=\"{1:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{4}</text>\n",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y(scaled),
                y(scaled) + 4.0,
                short(value)
            ));
            put(format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                x(at),
                HEIGHT - BOTTOM + 18.0,
                short(at)
            ));
        }
        put(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            x(most / 2.0),
            HEIGHT - 8.0,
            self.across
        ));
        for (index, (name, curves)) in self.curves.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let dashes = if index < COLORS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
            for curve in curves.iter().filter(|curve| !curve.is_empty()) {
                let path: Vec<String> =
                    curve.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(scale(*py)))).collect();
                put(format_args!(
                    "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"{dashes} points=\"{}\"/>\n",
                    path.join(" ")
                ));
            }
            let line = TOP + 16.0 * index as f64;
            put(format_args!(
                "<line x1=\"{0:.1}\" x2=\"{1:.1}\" y1=\"{2:.1}\" y2=\"{2:.1}\" stroke=\"{color}\" stroke-width=\"3\"{dashes}/>\n<text x=\"{3:.1}\" y=\"{4:.1}\">{5}</text>\n",
                WIDTH - RIGHT + 14.0,
                WIDTH - RIGHT + 34.0,
                line,
                WIDTH - RIGHT + 40.0,
                line + 4.0,
                escape(name)
            ));
        }
        svg + "</svg>\n"
    }
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1e6 => format!("{:.3}M", value / 1e6),
        v if v >= 1e4 => format!("{:.0}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
