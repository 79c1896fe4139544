//! Honest and hostile vectors, drawn.

use phalanx_tensor::rng::{Purpose, Stream};
use proptest::prelude::{BoxedStrategy, Strategy, any};
use proptest::sample::select;
use std::ops::RangeInclusive;

/// How large the drawn sets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Hostile vectors.
    pub hostile: RangeInclusive<usize>,
    /// The least number of vectors for each hostile one: `n >= per_hostile f + beyond`.
    pub per_hostile: usize,
    /// See [`per_hostile`](Self::per_hostile).
    pub beyond: usize,
    /// Coordinates.
    pub dim: RangeInclusive<usize>,
}

impl Default for Shape {
    /// Up to three hostile, `n` from `2 f + 3`, two to five coordinates.
    fn default() -> Self {
        Shape { hostile: 0..=3, per_hostile: 2, beyond: 3, dim: 2..=5 }
    }
}

/// Vectors of which some are hostile.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    /// Those of honest ranks.
    pub honest: Vec<Vec<f32>>,
    /// The others.
    pub hostile: Vec<Vec<f32>>,
    /// What a law draws beside them: shifts, factors, orders.
    pub seed: u64,
}

impl Set {
    /// How many vectors there are.
    #[must_use]
    pub fn n(&self) -> usize {
        self.honest.len() + self.hostile.len()
    }

    /// How many coordinates each has.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.honest.first().map_or(0, Vec::len)
    }

    /// All vectors, the hostile somewhere among the honest.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<f32>> {
        let mut rows: Vec<Vec<f32>> = self.honest.iter().chain(&self.hostile).cloned().collect();
        Stream::new(self.seed, Purpose::User(20), 0).shuffle(&mut rows);
        rows
    }

    /// The mean of the honest vectors.
    #[must_use]
    pub fn honest_mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.dim()];
        for row in &self.honest {
            mean.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / self.honest.len() as f64);
        }
        mean
    }

    /// The mean squared distance of the honest vectors to their mean.
    #[must_use]
    pub fn honest_variance(&self) -> f64 {
        let mean = self.honest_mean();
        let distance_sq =
            |row: &Vec<f32>| row.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum::<f64>();
        self.honest.iter().map(distance_sq).sum::<f64>() / self.honest.len() as f64
    }
}

/// What the hostile do in a drawn set.
#[derive(Clone, Copy, Debug)]
enum Plan {
    /// All send one honest vector.
    Copy,
    /// The honest mean with so many deviations added in each coordinate.
    Away(f32),
    /// The honest mean times this.
    Multiple(f32),
    /// One far point.
    Far(f32),
    /// Each something of its own, so far away.
    Apart(f32),
}

/// Sets of a shape: honest vectors around a centre, hostile ones copying, hiding near them, or far away.
pub fn sets(shape: &Shape) -> BoxedStrategy<Set> {
    let Shape { hostile, per_hostile, beyond, dim } = shape.clone();
    let sizes =
        (hostile, 0..=3_usize, dim).prop_map(move |(f, more, d)| (per_hostile * f + beyond + more, f, d));
    let plans = [
        Plan::Copy,
        Plan::Away(1.5),
        Plan::Away(-0.5),
        Plan::Multiple(-0.125),
        Plan::Multiple(-8.0),
        Plan::Far(1e3),
        Plan::Far(1e6),
        Plan::Apart(3.0),
        Plan::Apart(1e3),
    ];
    let spreads = select(vec![0.25_f32, 1.0, 4.0]);
    (sizes, any::<u64>(), select(plans.to_vec()), spreads)
        .prop_map(|((n, f, d), seed, plan, spread)| drawn(n, f, d, seed, plan, spread))
        .boxed()
}

fn drawn(n: usize, f: usize, d: usize, seed: u64, plan: Plan, spread: f32) -> Set {
    let draw = Stream::new(seed, Purpose::User(21), 0);
    let normal = |i: usize, k: usize| draw.normal_f32((i * d + k) as u64);
    // row n is the centre, rows beyond it are for the hostile
    let honest: Vec<Vec<f32>> = (0..n - f)
        .map(|i| (0..d).map(|k| on_grid(4.0 * normal(n, k) + spread * normal(i, k))).collect())
        .collect();
    let mut set = Set { honest, hostile: Vec::new(), seed };
    let mean: Vec<f32> = set.honest_mean().into_iter().map(|x| x as f32).collect();
    let deviation = (set.honest_variance() / d as f64).sqrt() as f32;
    let one = |i: usize| -> Vec<f32> {
        match plan {
            Plan::Copy => set.honest[0].clone(),
            Plan::Away(z) => mean.iter().map(|m| m + z * deviation).collect(),
            Plan::Multiple(factor) => mean.iter().map(|m| m * factor).collect(),
            Plan::Far(far) => (0..d).map(|k| far * normal(n + 1, k)).collect(),
            Plan::Apart(far) => (0..d).map(|k| far * normal(n + 2 + i, k)).collect(),
        }
    };
    set.hostile = (0..f).map(|i| one(i).into_iter().map(on_grid).collect()).collect();
    set
}

/// The nearest multiple of 2^-16, which leaves room for a shift by a few units; of 64 for what is far.
pub(super) fn on_grid(x: f32) -> f32 {
    let step = if x.abs() < 64.0 { 1.0 / 65_536.0 } else { 64.0 };
    (x / step).round() * step
}
