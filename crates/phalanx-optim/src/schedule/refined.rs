//! The learning rate along points, as a refinement or a hand gives them.

use super::{decay_position, warmup_factor};
use crate::OptimError;
use phalanx_grad::{Progress, Schedule};
use std::sync::Arc;

/// A point of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Share of the run's samples, from 0 to 1.
    pub position: f64,
    /// Factor on the base rate, at least 0.
    pub factor: f64,
}

/// Lines between points, level before the first and behind the last, after a linear warm-up.
///
/// # Examples
/// ```
/// use phalanx_grad::{Progress, Schedule};
/// use phalanx_optim::{Point, Refined};
/// let points = [(0.0, 0.2), (0.5, 1.0), (1.0, 0.0)].map(|(position, factor)| Point { position, factor });
/// let schedule = Refined::new(points.to_vec(), 0)?;
/// assert!((schedule.factor(Progress { samples: 25, total: 100 }) - 0.6).abs() < 1e-12);
/// assert_eq!(schedule.factor(Progress { samples: 75, total: 100 }), 0.5);
/// # Ok::<(), phalanx_optim::OptimError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Refined {
    points: Arc<[Point]>,
    warmup_samples: u64,
}

impl Default for Refined {
    /// The line from 1 to 0, which is what equal norms are refined to.
    fn default() -> Self {
        let points = [(0.0, 1.0), (1.0, 0.0)].map(|(position, factor)| Point { position, factor });
        Refined { points: Arc::new(points), warmup_samples: 0 }
    }
}

impl Refined {
    /// A schedule through points in order of their positions.
    ///
    /// # Errors
    /// [`OptimError::Field`] for no points, a position out of range or order, a negative factor, or a number that is not finite.
    pub fn new(points: Vec<Point>, warmup_samples: u64) -> Result<Self, OptimError> {
        let fault = |field, got, need| Err(OptimError::Field { owner: "refined", field, got, need });
        if points.is_empty() {
            return fault("points", 0.0, "at least one");
        }
        let mut before = 0.0;
        for Point { position, factor } in &points {
            if !(before..=1.0).contains(position) {
                return fault("position", *position, "rising numbers from 0 to 1");
            }
            if !(factor.is_finite() && *factor >= 0.0) {
                return fault("factor", *factor, "a finite number of at least 0");
            }
            before = *position;
        }
        Ok(Refined { points: points.into(), warmup_samples })
    }
}

impl Schedule for Refined {
    fn name(&self) -> &'static str {
        "refined"
    }

    fn factor(&self, progress: Progress) -> f64 {
        warmup_factor(progress, self.warmup_samples)
            .unwrap_or_else(|| factor_at(&self.points, decay_position(progress, self.warmup_samples)))
    }
}

/// The factor at a position; the points are not empty.
fn factor_at(points: &[Point], position: f64) -> f64 {
    let next = points.partition_point(|point| point.position <= position);
    match (next.checked_sub(1).map(|before| points[before]), points.get(next)) {
        (Some(a), Some(b)) => {
            let share = (position - a.position) / (b.position - a.position);
            a.factor + (b.factor - a.factor) * share
        }
        (Some(end), None) => end.factor,
        (None, Some(first)) => first.factor,
        (None, None) => 1.0,
    }
}

/// The same course with at most `count` points, at equal distances, where there were more.
///
/// # Examples
/// ```
/// use phalanx_optim::{Point, resampled};
/// let line: Vec<Point> = (0..=1000).map(|i| Point { position: f64::from(i) / 1e3, factor: 1.0 - f64::from(i) / 1e3 }).collect();
/// let few = resampled(&line, 5);
/// assert_eq!(few.len(), 5);
/// assert!((few[1].factor - 0.75).abs() < 1e-12);
/// ```
#[must_use]
pub fn resampled(points: &[Point], count: usize) -> Vec<Point> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= count.max(2) {
        return points.to_vec();
    }
    let step = (last.position - first.position) / (count.max(2) - 1) as f64;
    let position =
        |i: usize| if i + 1 == count.max(2) { last.position } else { first.position + step * i as f64 };
    let point = |i| Point { position: position(i), factor: factor_at(points, position(i)) };
    (0..count.max(2)).map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point((position, factor): (f64, f64)) -> Point {
        Point { position, factor }
    }

    #[test]
    fn level_at_both_ends_and_after_the_warm_up() {
        let schedule = Refined::new([(0.25, 2.0), (0.75, 1.0)].map(point).to_vec(), 100).unwrap();
        let factor = |samples| schedule.factor(Progress { samples, total: 500 });
        assert_eq!([50, 100, 200, 300, 400, 500, 600].map(factor), [0.5, 2.0, 2.0, 1.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn two_points_at_one_place_are_a_stair() {
        let schedule =
            Refined::new([(0.0, 1.0), (0.5, 1.0), (0.5, 0.1), (1.0, 0.1)].map(point).to_vec(), 0).unwrap();
        let factor = |samples| schedule.factor(Progress { samples, total: 100 });
        assert_eq!([49, 50, 51].map(factor), [1.0, 0.1, 0.1]);
    }

    #[test]
    fn points_that_cannot_be_are_named() {
        let fault = |points: &[(f64, f64)]| {
            let points = points.iter().copied().map(point).collect();
            Refined::new(points, 0).unwrap_err().to_string()
        };
        assert_eq!(fault(&[]), "refined: points is 0, need at least one");
        assert_eq!(
            fault(&[(0.5, 1.0), (0.4, 1.0)]),
            "refined: position is 0.4, need rising numbers from 0 to 1"
        );
        assert_eq!(fault(&[(f64::NAN, 1.0)]), "refined: position is NaN, need rising numbers from 0 to 1");
        assert_eq!(fault(&[(0.5, -1.0)]), "refined: factor is -1, need a finite number of at least 0");
    }
}
