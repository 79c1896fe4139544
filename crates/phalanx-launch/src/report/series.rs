//! A curve, thinned out to what a screen shows without losing its spikes.
use serde::{Serialize, Serializer};

/// Most stretches that a curve is drawn in; more than a chart has pixels to tell apart.
const MAX_STRETCHES: usize = 800;

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) step: u64,
    pub(super) samples: u64,
    pub(super) value: f64,
}

/// A curve in stretches of equally many steps, one column a field.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Series {
    /// Points in a stretch; 1 where nothing was thinned out.
    stride: usize,
    /// Step of each stretch's last point.
    step: Vec<u64>,
    /// Samples used at that step.
    samples: Vec<u64>,
    /// Mean of the finite values of each stretch; none where there are none.
    mean: Vec<Option<Rounded>>,
    /// Least finite values; empty where nothing was thinned out.
    min: Vec<Option<Rounded>>,
    /// Greatest finite values; empty where nothing was thinned out.
    max: Vec<Option<Rounded>>,
    /// Indices of stretches with a value that is not finite.
    not_finite: Vec<usize>,
}

impl Series {
    /// The curve through `points`, in their order.
    pub(super) fn new(points: &[Point]) -> Self {
        Self::in_stretches(points, points.len().div_ceil(MAX_STRETCHES).max(1))
    }

    fn in_stretches(points: &[Point], stride: usize) -> Self {
        let mut series = Self { stride, ..Self::default() };
        for (index, stretch) in points.chunks(stride).enumerate() {
            let last = stretch[stretch.len() - 1];
            let finite = || stretch.iter().map(|point| point.value).filter(|value| value.is_finite());
            let count = finite().count();
            let some = |value: f64| (count > 0).then_some(Rounded(value));
            series.step.push(last.step);
            series.samples.push(last.samples);
            series.mean.push(some(finite().sum::<f64>() / count as f64));
            if stride > 1 {
                series.min.push(some(finite().fold(f64::INFINITY, f64::min)));
                series.max.push(some(finite().fold(f64::NEG_INFINITY, f64::max)));
            }
            if count < stretch.len() {
                series.not_finite.push(index);
            }
        }
        series
    }
}

/// A number of which the page holds six digits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Rounded(f64);

impl Serialize for Rounded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rounded = format!("{:.5e}", self.0).parse().unwrap_or(self.0);
        serializer.serialize_f64(rounded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        let at = |(i, &value)| Point { step: i as u64 + 1, samples: 10 * (i as u64 + 1), value };
        values.iter().enumerate().map(at).collect()
    }

    #[test]
    fn a_short_curve_is_kept_as_it_is() {
        let series = Series::new(&points(&[1.0, f64::NAN, 3.0]));
        let json = serde_json::to_value(series).unwrap();
        let need = serde_json::json!({
            "stride": 1, "step": [1, 2, 3], "samples": [10, 20, 30], "mean": [1.0, null, 3.0],
            "min": [], "max": [], "not_finite": [1],
        });
        assert_eq!(json, need);
    }

    #[test]
    fn a_stretch_keeps_mean_and_both_extremes() {
        let series = Series::in_stretches(&points(&[1.0, 9.0, 2.0, 4.0, f64::INFINITY]), 2);
        assert_eq!(series.step, [2, 4, 5]);
        assert_eq!(series.mean, [Some(Rounded(5.0)), Some(Rounded(3.0)), None]);
        assert_eq!(series.min, [Some(Rounded(1.0)), Some(Rounded(2.0)), None]);
        assert_eq!(series.max, [Some(Rounded(9.0)), Some(Rounded(4.0)), None]);
        assert_eq!(series.not_finite, [2]);
    }

    #[test]
    fn one_spike_in_twenty_thousand_steps_stays() {
        let mut values = vec![0.5; 20_000];
        values[12_345] = 40.0;
        let series = Series::new(&points(&values));
        assert!(series.step.len() <= MAX_STRETCHES);
        assert_eq!(series.max.iter().filter(|max| **max == Some(Rounded(40.0))).count(), 1);
        assert_eq!(series.step.last(), Some(&20_000));
    }

    #[test]
    fn an_empty_curve_has_no_points() {
        assert_eq!(Series::new(&[]), Series { stride: 1, ..Series::default() });
    }
}
