//! Schedule refinement: the learning-rate schedule that the gradient norms of an earlier run ask for.

use crate::OptimError;
use crate::schedule::Point;

/// Which norm of the gradient a step is weighted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighting {
    /// `1 / |g|_2^2`: for SGD.
    Euclidean,
    /// `1 / |g|_1`: for methods with a rate a coordinate, Adam's family and `AdaGrad`.
    Absolute,
}

impl Weighting {
    fn weight(self, norm: f64) -> f64 {
        match self {
            Self::Euclidean => 1.0 / (norm * norm),
            Self::Absolute => 1.0 / norm,
        }
    }
}

/// A step of the earlier run: where it began, and how long its gradient was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormAt {
    /// Share of the run's samples seen before the step, from 0 to below 1.
    pub position: f64,
    /// The norm of the mean gradient, before clipping.
    pub norm: f64,
}

/// The refined schedule: `w_t (sum over p > t of w_p) / sum w`, divided by its greatest value, with the weight `w` of each step's norm.
///
/// Norms go through a median filter over `window` of the run first (0 for none), since a few short gradients at the end would
/// otherwise give a late peak. Norms that are 0 or not finite are replaced by their neighbours on a line. The result has a point a step; the last is
/// 0, and where norms fall early it warms up by itself.
///
/// # Units
/// `window` is a share of the steps, from 0 to 1; the authors' is 0.1. Scaling all norms changes nothing.
///
/// # Errors
/// [`OptimError::Field`] for a window out of range, [`OptimError::NoNorm`] where no norm is positive and finite.
///
/// # Examples
/// ```
/// use phalanx_optim::{NormAt, Weighting, refine};
/// // equal norms give a line down to 0
/// let run: Vec<NormAt> = (0..10).map(|t| NormAt { position: f64::from(t) / 10.0, norm: 3.0 }).collect();
/// let schedule = refine(&run, Weighting::Euclidean, 0.1)?;
/// assert_eq!((schedule[0].factor, schedule[9].factor), (1.0, 0.0));
/// assert!((schedule[1].factor - 8.0 / 9.0).abs() < 1e-12);
/// # Ok::<(), phalanx_optim::OptimError>(())
/// ```
///
/// # Reference
/// Defazio, Cutkosky, Mehta and Mishchenko, "Optimal Linear Decay Learning Rate Schedules and Further Refinements", arXiv 2310.07831.
///
/// # Deviation
/// The window follows the length of the run; the published plots use one of 1000 points also for longer ones.
pub fn refine(run: &[NormAt], weighting: Weighting, window: f64) -> Result<Vec<Point>, OptimError> {
    if !(0.0..=1.0).contains(&window) {
        let need = "a number from 0 to 1";
        return Err(OptimError::Field { owner: "refine", field: "window", got: window, need });
    }
    let norms = median_filtered(&filled(run)?, window);
    let weights: Vec<f64> = norms.iter().map(|norm| weighting.weight(*norm)).collect();
    // from the end, so that each step sees the sum of those after it
    let mut after = 0.0;
    let mut shape: Vec<f64> = weights
        .iter()
        .rev()
        .map(|w| {
            let value = w * after;
            after += w;
            value
        })
        .collect();
    shape.reverse();
    let greatest = shape.iter().copied().fold(0.0, f64::max);
    let scale = if greatest > 0.0 { 1.0 / greatest } else { 0.0 };
    Ok(run
        .iter()
        .zip(shape)
        .map(|(at, value)| Point { position: at.position, factor: value * scale })
        .collect())
}

/// The norms, with those that say nothing replaced by the line between their neighbours.
fn filled(run: &[NormAt]) -> Result<Vec<f64>, OptimError> {
    let good = |at: &NormAt| at.norm.is_finite() && at.norm > 0.0;
    let known: Vec<(usize, f64)> =
        run.iter().enumerate().filter(|(_, at)| good(at)).map(|(t, at)| (t, at.norm)).collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return Err(OptimError::NoNorm { steps: run.len() });
    };
    let value = |t: usize| {
        let next = known.partition_point(|(at, _)| *at < t);
        match (next.checked_sub(1).and_then(|before| known.get(before)), known.get(next)) {
            (_, Some((at, norm))) if *at == t => *norm,
            (Some((a, x)), Some((b, y))) => x + (y - x) * (t - a) as f64 / (b - a) as f64,
            (None, _) => first.1,
            (_, None) => last.1,
        }
    };
    Ok((0..run.len()).map(value).collect())
}

/// The median over a window about each value. Beyond the first value it is repeated, beyond the last the values are mirrored.
fn median_filtered(values: &[f64], window: f64) -> Vec<f64> {
    let half = half_width(values.len(), window);
    if half == 0 {
        return values.to_vec();
    }
    let last = values.len() - 1;
    let at = |i: usize| {
        // `i` counts from `half` before the first
        let i = i.saturating_sub(half);
        if i <= last { values[i] } else { values[last.saturating_sub(i - last)] }
    };
    let mut sorted: Vec<f64> = (0..=2 * half).map(at).collect();
    sorted.sort_by(f64::total_cmp);
    let mut out = Vec::with_capacity(values.len());
    for t in 0..values.len() {
        out.push(sorted[half]);
        let (gone, new) = (at(t), at(t + 2 * half + 1));
        sorted.remove(sorted.partition_point(|x| x.total_cmp(&gone).is_lt()));
        sorted.insert(sorted.partition_point(|x| x.total_cmp(&new).is_lt()), new);
    }
    out
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn half_width(len: usize, window: f64) -> usize {
    (window * len as f64 / 2.0).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(norms: &[f64]) -> Vec<NormAt> {
        let at = |(t, norm): (usize, &f64)| NormAt { position: t as f64 / norms.len() as f64, norm: *norm };
        norms.iter().enumerate().map(at).collect()
    }

    fn factors(norms: &[f64], weighting: Weighting, window: f64) -> Vec<f64> {
        refine(&run(norms), weighting, window).unwrap().iter().map(|point| point.factor).collect()
    }

    #[track_caller]
    fn assert_near(got: &[f64], want: &[f64]) {
        assert!(
            got.len() == want.len() && got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-9),
            "{got:?}"
        );
    }

    #[test]
    fn worked_example() {
        let norms = [4.0, 2.0, 1.0, 1.0, 2.0];
        assert_near(&factors(&norms, Weighting::Euclidean, 0.1), &[0.125, 0.45, 1.0, 0.2, 0.0]);
        let absolute = [0.5, 0.833_333_333_333, 1.0, 0.333_333_333_333, 0.0];
        assert_near(&factors(&norms, Weighting::Absolute, 0.1), &absolute);
    }

    #[test]
    fn the_scale_of_the_norms_does_not_matter() {
        let norms: Vec<f64> = (0..50).map(|t| 1.0 + f64::from(t * 7 % 11)).collect();
        let scaled: Vec<f64> = norms.iter().map(|norm| 128.0 * norm).collect();
        for weighting in [Weighting::Euclidean, Weighting::Absolute] {
            assert_near(&factors(&norms, weighting, 0.1), &factors(&scaled, weighting, 0.1));
        }
    }

    #[test]
    fn short_gradients_at_the_end_give_no_late_peak_behind_the_filter() {
        let mut norms = vec![1.0; 100];
        norms[97] = 0.01;
        let peak = |window| {
            let factors = factors(&norms, Weighting::Euclidean, window);
            factors.iter().position(|factor| *factor >= 1.0).unwrap()
        };
        assert_eq!((peak(0.0), peak(0.1)), (97, 0));
    }

    #[test]
    fn falling_norms_warm_up() {
        let norms: Vec<f64> = (0..100).map(|t| if t < 20 { 20.0 - f64::from(t) } else { 1.0 }).collect();
        let factors = factors(&norms, Weighting::Euclidean, 0.0);
        assert!(factors[0] < 0.01 && factors[19] > 0.9, "{factors:?}");
    }

    #[test]
    fn norms_that_say_nothing_are_replaced_by_their_neighbours() {
        let gaps = [f64::NAN, 2.0, 0.0, f64::INFINITY, 8.0, 0.0];
        assert_near(&filled(&run(&gaps)).unwrap(), &[2.0, 2.0, 4.0, 6.0, 8.0, 8.0]);
        assert_eq!(
            refine(&run(&[0.0, f64::NAN]), Weighting::Absolute, 0.1),
            Err(OptimError::NoNorm { steps: 2 })
        );
        assert_eq!(refine(&[], Weighting::Absolute, 0.1), Err(OptimError::NoNorm { steps: 0 }));
        assert_eq!(factors(&[3.0], Weighting::Euclidean, 0.1), [0.0]);
    }

    /// Against the filter written out: pad, take each window, sort.
    #[test]
    fn the_moving_median_is_that_of_every_window() {
        let values: Vec<f64> = (0..41_u64).map(|t| (t * t % 17) as f64).collect();
        let half = half_width(41, 0.25);
        assert_eq!(half, 5);
        let padded: Vec<f64> = std::iter::repeat_n(values[0], half)
            .chain(values.iter().copied())
            .chain(values.iter().rev().skip(1).copied())
            .collect();
        let want: Vec<f64> = (0..41)
            .map(|t| {
                let mut window = padded[t..=t + 2 * half].to_vec();
                window.sort_by(f64::total_cmp);
                window[half]
            })
            .collect();
        assert_eq!(median_filtered(&values, 0.25), want);
        assert!(matches!(
            refine(&run(&[1.0]), Weighting::Absolute, -0.5),
            Err(OptimError::Field { field: "window", .. })
        ));
    }
}
