//! Which curves the page shows, and how each axis is to be read.
use phalanx_train::events::{Event, Split, StepDone};
use serde::Serialize;

use super::run::Run;
use super::series::{Point, Series};

/// How numbers of a chart are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Unit {
    Plain,
    Share,
    Milliseconds,
}

/// When the axis of values is logarithmic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Log {
    Never,
    /// Where the reader asks for it.
    Offered,
    /// From the beginning, where values span decades: a run that diverged must not flatten the others.
    ForWideSpans,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Style {
    /// A value a step that scatters: a line with a band, which can be smoothed.
    Noisy,
    /// A value a step that is known exactly.
    Line,
    /// A value that holds until the next.
    Stairs,
    /// A few values, joined.
    Dots,
    /// A few values, each by itself.
    Diamonds,
}

/// A curve of a chart.
#[derive(Debug, Serialize)]
pub(super) struct Curve {
    /// Index of the run.
    run: usize,
    /// What tells it from the run's other curves in the chart.
    note: &'static str,
    style: Style,
    series: Series,
}

/// A chart: one quantity of all runs.
#[derive(Debug, Serialize)]
pub(super) struct Chart {
    title: &'static str,
    unit: Unit,
    /// Whether the axis begins at 0.
    from_zero: bool,
    log: Log,
    curves: Vec<Curve>,
}

impl Chart {
    fn new(title: &'static str) -> Self {
        Self { title, unit: Unit::Plain, from_zero: false, log: Log::Never, curves: Vec::new() }
    }

    fn steps(mut self, runs: &[Run], style: Style, value: impl Fn(&StepDone) -> Option<f64>) -> Self {
        self.curves.extend(runs.iter().enumerate().filter_map(|(run, of)| {
            let mut points = step_points(of, &value);
            if style == Style::Stairs {
                points = edges(&points);
            }
            (!points.is_empty()).then(|| Curve { run, note: "", style, series: Series::new(&points) })
        }));
        self
    }

    fn evals(mut self, runs: &[Run], value: impl Fn(f64, Option<f64>) -> Option<f64>) -> Self {
        for (split, note, style) in [
            (Split::Train, "training set", Style::Dots),
            (Split::Validation, "validation", Style::Dots),
            (Split::Test, "test", Style::Diamonds),
            (Split::Backdoor, "backdoor", Style::Dots),
        ] {
            self.curves.extend(runs.iter().enumerate().filter_map(|(run, of)| {
                let points = eval_points(of, split, &value);
                (!points.is_empty()).then(|| Curve { run, note, style, series: Series::new(&points) })
            }));
        }
        self
    }
}

/// The charts that have a curve.
pub(super) fn charts(runs: &[Run]) -> Vec<Chart> {
    let chart = Chart::new;
    let positive = |value: f64| (value > 0.0).then_some(value);
    let mut charts =
        vec![
            Chart { log: Log::ForWideSpans, ..chart("Training loss") }
                .steps(runs, Style::Noisy, |step| Some(step.loss)),
            Chart { log: Log::ForWideSpans, ..chart("Validation and test loss") }
                .evals(runs, |loss, _| Some(loss)),
            Chart { unit: Unit::Share, ..chart("Validation and test accuracy") }
                .evals(runs, |_, accuracy| accuracy),
            Chart { log: Log::Offered, from_zero: true, ..chart("Learning rate") }.steps(
                runs,
                Style::Line,
                |step| Some(step.lr),
            ),
            Chart { from_zero: true, ..chart("Global batch, in samples") }.steps(
                runs,
                Style::Stairs,
                |step| Some(step.batch as f64),
            ),
            Chart { log: Log::ForWideSpans, from_zero: true, ..chart("What the batch policy steers by") }
                .steps(runs, Style::Noisy, |step| step.target),
            Chart { log: Log::ForWideSpans, from_zero: true, ..chart("Gradient noise scale, in samples") }
                .steps(runs, Style::Noisy, |step| step.statistics?.noise_scale),
            Chart { log: Log::ForWideSpans, from_zero: true, ..chart("Variance of a sample's gradient") }
                .steps(runs, Style::Noisy, |step| step.statistics?.variance),
            Chart { log: Log::ForWideSpans, from_zero: true, ..chart("Gradient norm, before clipping") }
                .steps(runs, Style::Noisy, |step| step.grad_norm),
            Chart { from_zero: true, ..chart("Samples a second, all ranks together") }.steps(
                runs,
                Style::Noisy,
                |step| positive(step.samples_per_second),
            ),
            Chart {
                from_zero: true,
                unit: Unit::Milliseconds,
                ..chart("Exposed communication a step, in ms")
            }
            .steps(runs, Style::Noisy, |step| positive(1e3 * step.exposed_comm_seconds)),
        ];
    charts.retain(|chart| !chart.curves.is_empty());
    charts
}

fn step_points(run: &Run, value: impl Fn(&StepDone) -> Option<f64>) -> Vec<Point> {
    let point = |event: &Event| {
        let Event::Step(step) = event else { return None };
        Some(Point { step: step.step, samples: step.samples, value: value(step)? })
    };
    run.events.iter().filter_map(point).collect()
}

/// The first and the last point of each stretch of one value: all that stairs need, however many steps.
fn edges(points: &[Point]) -> Vec<Point> {
    let is_edge = |at: usize| {
        let differs = |other: Option<&Point>| other.is_none_or(|other| other.value != points[at].value);
        differs(at.checked_sub(1).and_then(|before| points.get(before))) || differs(points.get(at + 1))
    };
    (0..points.len()).filter(|&at| is_edge(at)).map(|at| points[at]).collect()
}

fn eval_points(run: &Run, split: Split, value: impl Fn(f64, Option<f64>) -> Option<f64>) -> Vec<Point> {
    let point = |event: &Event| {
        let Event::Eval(eval) = event else { return None };
        let value = value(eval.loss, eval.accuracy).filter(|_| eval.split == split)?;
        Some(Point { step: eval.step, samples: eval.samples, value })
    };
    run.events.iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stairs_keep_the_ends_of_each_step() {
        let values = [64.0, 64.0, 64.0, 128.0, 256.0, 256.0];
        let at = |(i, &value)| Point { step: i as u64, samples: 0, value };
        let points: Vec<_> = values.iter().enumerate().map(at).collect();
        let steps: Vec<_> = edges(&points).iter().map(|point| point.step).collect();
        assert_eq!(steps, [0, 2, 3, 4, 5]);
        assert_eq!(edges(&[]), []);
    }
}
