//! Each law on one set.

use super::set::{Set, on_grid};
use crate::Law;
use phalanx_grad::{GradError, Ranks, Reduce, RowSet, Scratch};
use phalanx_tensor::rng::{Purpose, Stream};
use std::fmt;

/// How far a result may be from what a law says, relative to the size of both.
const TOLERANCE: f64 = 2e-5;

/// Steps of the hostile towards what hurts most.
const CLIMB: usize = 30;

/// A set on which a rule breaks a law.
#[derive(Clone, Debug, PartialEq)]
pub struct Broken {
    /// What should hold.
    pub law: &'static str,
    /// The set.
    pub set: Set,
    /// What the rule gave, or could not give.
    pub got: Result<Vec<f32>, GradError>,
    /// What the law says: a vector, or bounds around one.
    pub want: Vec<f64>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "breaks {}: ", self.law)?;
        match &self.got {
            Ok(got) => write!(f, "{got:?}")?,
            Err(error) => write!(f, "{error}")?,
        }
        write!(
            f,
            ", want {:?} from honest {:?} and hostile {:?}",
            self.want, self.set.honest, self.set.hostile
        )
    }
}

/// Whether a law holds for a rule on one set.
///
/// [`Law::Unanimity`], [`Law::Majority`] and [`Law::MeanWithoutHostile`] change the set to what they speak of.
///
/// # Errors
/// [`Broken`] with what the rule gave and what the law says.
pub fn holds<R: Reduce<Ranks>>(law: Law, make: &impl Fn(usize) -> R, set: &Set) -> Result<(), Box<Broken>> {
    let f = set.hostile.len();
    let rows = set.rows();
    let draw = Draw(set.seed);
    let check = |got: Result<Vec<f32>, GradError>, want: &dyn Fn(&[f32]) -> Option<Vec<f64>>| {
        let wrong = match &got {
            Ok(out) => want(out),
            Err(_) => Some(Vec::new()),
        };
        wrong.map_or(Ok(()), |want| Err(Box::new(Broken { law: law.name(), set: set.clone(), got, want })))
    };
    let equals = |got, want: Vec<f64>| check(got, &|out: &[f32]| differs(out, &want).then(|| want.clone()));
    // F(T X) against T F(X)
    let commutes = |change: &dyn Fn(&[f32]) -> Vec<f32>| {
        let before = match apply(make(f), &rows, None) {
            Ok(before) => before,
            got => return check(got, &|_| None),
        };
        let after = apply(make(f), &rows.iter().map(|row| change(row)).collect::<Vec<_>>(), None);
        equals(after, change(&before).into_iter().map(f64::from).collect())
    };
    match law {
        Law::Permutation => {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            draw.stream(0).shuffle(&mut order);
            let moved: Vec<Vec<f32>> = order.iter().map(|i| rows[*i].clone()).collect();
            let ids: Vec<u64> = order.iter().map(|i| *i as u64).collect();
            match apply(make(f), &rows, None) {
                Ok(want) => {
                    equals(apply(make(f), &moved, Some(ids)), want.into_iter().map(f64::from).collect())
                }
                got => check(got, &|_| None),
            }
        }
        Law::Translation => {
            let shift: Vec<f32> = (0..set.dim()).map(|k| draw.whole(1, k, 17) - 8.0).collect();
            commutes(&|row| row.iter().zip(&shift).map(|(x, s)| x + s).collect())
        }
        Law::Scale => {
            let factor = [0.125, 0.5, 4.0, 64.0][draw.index(2, 0, 4)];
            commutes(&|row| row.iter().map(|x| x * factor).collect())
        }
        Law::Negation => commutes(&|row| row.iter().map(|x| -x).collect()),
        Law::Rotation => {
            let (sin, cos) = (0.3 + draw.whole(3, 0, 20) * 0.11).sin_cos();
            commutes(&|row| {
                let mut row = row.to_vec();
                for pair in row.chunks_exact_mut(2) {
                    (pair[0], pair[1]) = (cos * pair[0] - sin * pair[1], sin * pair[0] + cos * pair[1]);
                }
                row
            })
        }
        Law::CoordinateScale => {
            let factors: Vec<f32> = (0..set.dim()).map(|k| [0.125, 1.0, 16.0][draw.index(4, k, 3)]).collect();
            commutes(&|row| row.iter().zip(&factors).map(|(x, s)| x * s).collect())
        }
        Law::Monotone => {
            let raise = |i: usize, k: usize| {
                if draw.index(5, i * 31 + k, 3) == 0 { draw.whole(6, i * 31 + k, 9) } else { 0.0 }
            };
            let raised: Vec<Vec<f32>> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| (0..).zip(row).map(|(k, x)| x + raise(i, k)).collect())
                .collect();
            match apply(make(f), &rows, None) {
                Ok(low) => check(apply(make(f), &raised, None), &|high| {
                    let falls = |(x, y): (&f32, &f32)| f64::from(*y) < f64::from(*x) - slack(*x, *y);
                    low.iter().zip(high).any(falls).then(|| low.iter().copied().map(f64::from).collect())
                }),
                got => check(got, &|_| None),
            }
        }
        Law::Unanimity => {
            let same = vec![set.honest[0].clone(); rows.len()];
            equals(apply(make(f), &same, None), set.honest[0].iter().copied().map(f64::from).collect())
        }
        Law::Majority => {
            let (one, mut hostile) = (set.honest[0].clone(), set.hostile.clone());
            // in every other set, the hostile go half the way in the right direction
            if set.seed % 2 == 1 {
                hostile.fill(one.iter().map(|x| 0.5 * x).collect());
            }
            let same = Set { honest: vec![one; set.honest.len()], hostile, seed: set.seed };
            equals(apply(make(f), &same.rows(), None), set.honest[0].iter().copied().map(f64::from).collect())
        }
        Law::Box => check(apply(make(f), &rows, None), &|out| {
            let outside = |(k, x): (usize, &f32)| {
                let column = || set.honest.iter().map(|row| row[k]);
                let (low, high) =
                    (column().fold(f32::INFINITY, f32::min), column().fold(f32::NEG_INFINITY, f32::max));
                f64::from(*x) < f64::from(low) - slack(low, low)
                    || f64::from(*x) > f64::from(high) + slack(high, high)
            };
            out.iter().enumerate().any(outside).then(|| set.honest_mean())
        }),
        Law::MeanWithoutHostile => {
            let all = Set { honest: rows.clone(), hostile: Vec::new(), seed: set.seed };
            equals(apply(make(0), &rows, None), all.honest_mean())
        }
    }
}

/// Whether a rule stays within `kappa` of the honest mean on one set, and on those to which the hostile climb.
///
/// # Errors
/// [`Broken`] with the set that they reached.
pub fn bears<R: Reduce<Ranks>>(kappa: f64, make: &impl Fn(usize) -> R, set: &Set) -> Result<(), Box<Broken>> {
    let (ratio, worst) = worst_ratio(make, set, CLIMB)?;
    if ratio <= kappa * (1.0 + 1e-5) + 1e-9 {
        return Ok(());
    }
    let got = apply(make(worst.hostile.len()), &worst.rows(), None);
    let want = worst.honest_mean();
    Err(Box::new(Broken { law: "kappa", set: worst, got, want }))
}

/// `|F - mean|^2` over the variance of the honest, at most, while the hostile climb for so many steps; and where.
///
/// # Errors
/// [`Broken`] when the rule fails.
pub fn worst_ratio<R: Reduce<Ranks>>(
    make: &impl Fn(usize) -> R,
    set: &Set,
    steps: usize,
) -> Result<(f64, Set), Box<Broken>> {
    let mut best = (ratio(make, set)?, set.clone());
    let deviation = (set.honest_variance() / set.dim().max(1) as f64).sqrt() as f32;
    for step in 0..steps {
        let draw = Draw(set.seed.wrapping_add(step as u64));
        let mut next = best.1.clone();
        // a whole step at first, shorter ones later
        let reach = deviation * (1.0 - step as f32 / steps as f32);
        for (i, row) in next.hostile.iter_mut().enumerate() {
            for (k, x) in row.iter_mut().enumerate() {
                *x = on_grid(*x + reach * (draw.whole(7, i * 31 + k, 5) - 2.0));
            }
        }
        let now = ratio(make, &next)?;
        if now > best.0 {
            best = (now, next);
        }
    }
    Ok(best)
}

fn ratio<R: Reduce<Ranks>>(make: &impl Fn(usize) -> R, set: &Set) -> Result<f64, Box<Broken>> {
    let mean = set.honest_mean();
    let got = apply(make(set.hostile.len()), &set.rows(), None);
    let out = match got {
        Ok(out) => out,
        got => return Err(Box::new(Broken { law: "kappa", set: set.clone(), got, want: mean })),
    };
    let off: f64 = out.iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum();
    // what f32 cannot tell from the mean is the mean
    let unseen: f64 = mean.iter().map(|m| (m.abs() * 1e-6).powi(2)).sum();
    Ok((off - unseen).max(0.0) / set.honest_variance().max(f64::MIN_POSITIVE))
}

fn apply(
    mut rule: impl Reduce<Ranks>,
    rows: &[Vec<f32>],
    ids: Option<Vec<u64>>,
) -> Result<Vec<f32>, GradError> {
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let set = RowSet::from_slices(&slices)?;
    let set = match ids {
        Some(ids) => set.with_ids(ids)?,
        None => set,
    };
    let mut out = vec![0.0; slices.first().map_or(0, |row| row.len())];
    rule.reduce(1, &set, &mut out, &mut Scratch::new())?;
    Ok(out)
}

fn differs(out: &[f32], want: &[f64]) -> bool {
    let size = want.iter().map(|x| x.abs()).fold(1.0, f64::max);
    out.len() != want.len()
        || out
            .iter()
            .zip(want)
            .any(|(x, y)| f64::from(*x).is_nan() || (f64::from(*x) - y).abs() > TOLERANCE * size)
}

fn slack(x: f32, y: f32) -> f64 {
    TOLERANCE * f64::from(x.abs().max(y.abs()).max(1.0))
}

/// Whole numbers for the changes that a law makes.
struct Draw(u64);

impl Draw {
    fn stream(&self, purpose: u64) -> Stream {
        Stream::new(self.0, Purpose::User(22), purpose)
    }

    fn index(&self, purpose: u64, at: usize, count: usize) -> usize {
        usize::try_from(self.stream(purpose).below(at as u64, count as u64)).unwrap_or(0)
    }

    fn whole(&self, purpose: u64, at: usize, count: usize) -> f32 {
        self.index(purpose, at, count) as f32
    }
}
