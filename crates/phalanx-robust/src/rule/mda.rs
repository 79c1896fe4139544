//! Minimum diameter averaging: the mean of the `n - f` with the least largest distance.

use crate::subsets::{LIMIT, kept};
use crate::{Decision, Laws, Round, Rule};
use phalanx_grad::{GradError, Gram};
use serde::{Deserialize, Serialize};

/// The mean of the `n - f` vectors with the least diameter; of equal diameters the least variance, then the first in
/// order.
///
/// Removing `f` so that no distance above `r` is left is a vertex cover of size `f`, and that branches on one pair at
/// a time: two ways for each, `f` deep. Bisection over the distances finds the least `r`.
///
/// # Errors
/// [`GradError::TooManySubsets`] when a million steps do not settle it.
///
/// # Reference
/// El Mhamdi et al., "Distributed Momentum for Byzantine-resilient Stochastic Gradient Descent", ICLR 2021.
///
/// # Deviation
/// The order among equal diameters, which the definition leaves open: many subsets share their widest pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mda;

impl Rule for Mda {
    fn name(&self) -> &'static str {
        "mda"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        Laws::of_distances()
    }

    fn kappa(&self, n: usize, f: usize) -> Option<f64> {
        (2 * f < n).then(|| 8.0 * (f * f) as f64 / (n - f) as f64)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, f) = (round.n(), round.hostile());
        let removed = least_diameter(round.gram()?, f);
        let removed =
            removed.ok_or(GradError::TooManySubsets { rule: self.name(), n, hostile: f, limit: LIMIT })?;
        Ok(Decision::mean_of(n, &kept(n, &removed)))
    }
}

/// The removal of `f` that leaves the least diameter.
fn least_diameter(gram: &Gram, f: usize) -> Option<Vec<usize>> {
    let n = gram.n();
    let mut pairs: Vec<(f64, usize, usize)> =
        (0..n).flat_map(|i| (0..i).map(move |j| (gram.distance_sq(i, j), i, j))).collect();
    // the widest first: they must be covered
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut cover = Cover { gram, pairs: &[], n, f, best: None, left: LIMIT, first_only: true };
    // `wide` pairs are above the diameter; fewer are easier to cover
    let (mut low, mut high) = (0, pairs.len() + 1);
    while high - low > 1 {
        let wide = low.midpoint(high);
        // a pair as wide as the narrowest of them would have to go as well
        let wide_end = pairs.partition_point(|pair| pair.0 >= pairs[wide - 1].0);
        cover.pairs = &pairs[..wide_end];
        cover.best = None;
        if !cover.search(&mut vec![false; n], 0, 0) {
            return None;
        }
        if cover.best.is_some() { low = wide_end } else { high = wide }
    }
    cover.pairs = &pairs[..low];
    (cover.best, cover.first_only) = (None, false);
    cover.search(&mut vec![false; n], 0, 0).then_some(cover.best?.1)
}

struct Cover<'a> {
    gram: &'a Gram,
    /// All of them must lose one of their two.
    pairs: &'a [(f64, usize, usize)],
    n: usize,
    f: usize,
    /// Variance and removal.
    best: Option<(f64, Vec<usize>)>,
    left: u64,
    first_only: bool,
}

impl Cover<'_> {
    /// Covers the pairs from `at` on; false when the steps are used up.
    fn search(&mut self, gone: &mut Vec<bool>, count: usize, at: usize) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let open = self.pairs[at..].iter().position(|(_, i, j)| !gone[*i] && !gone[*j]);
        let Some(open) = open.map(|open| at + open) else { return self.complete(gone, count, 0) };
        if count == self.f {
            return true;
        }
        let (_, i, j) = self.pairs[open];
        // Without i; or with i, and then without everyone too far from it.
        gone[i] = true;
        let go_on = self.search(gone, count + 1, open + 1);
        gone[i] = false;
        if !go_on || self.first_only && self.best.is_some() {
            return go_on;
        }
        let far: Vec<usize> = self.pairs[open..]
            .iter()
            .filter_map(|(_, a, b)| if *a == i { Some(*b) } else { (*b == i).then_some(*a) })
            .filter(|other| !gone[*other])
            .collect();
        debug_assert!(far.contains(&j));
        if count + far.len() > self.f {
            return true;
        }
        far.iter().for_each(|other| gone[*other] = true);
        let go_on = self.search(gone, count + far.len(), open + 1);
        far.iter().for_each(|other| gone[*other] = false);
        go_on
    }

    /// Removes the rest so that the variance is least.
    fn complete(&mut self, gone: &mut Vec<bool>, count: usize, from: usize) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        if count == self.f || self.first_only {
            let removed: Vec<usize> = (0..self.n).filter(|i| gone[*i]).collect();
            let variance = self.variance(&kept(self.n, &removed));
            let better = self.best.as_ref().is_none_or(|(least, first)| {
                let near = (variance - least).abs() <= 1e-12 * least;
                if near { kept(self.n, &removed) < kept(self.n, first) } else { variance < *least }
            });
            if better {
                self.best = Some((variance, removed));
            }
            return true;
        }
        for i in from..self.n {
            if !gone[i] {
                gone[i] = true;
                let go_on = self.complete(gone, count + 1, i + 1);
                gone[i] = false;
                if !go_on {
                    return false;
                }
            }
        }
        true
    }

    fn variance(&self, kept: &[usize]) -> f64 {
        let pairs = kept.iter().enumerate().flat_map(|(at, i)| kept[..at].iter().map(move |j| (*i, *j)));
        pairs.map(|(i, j)| self.gram.distance_sq(i, j)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_tensor::rng::{Purpose, Stream};

    /// Against all subsets, over sets with whole numbers so that diameters tie.
    #[test]
    fn the_search_finds_what_trying_all_finds() {
        for seed in 0..60 {
            let draw = Stream::new(seed, Purpose::User(4), 0);
            let (n, f) = (5 + (seed % 5) as usize, 1 + (seed % 3) as usize);
            if n <= 2 * f {
                continue;
            }
            let at = |i: usize| (draw.below(2 * i as u64, 5) as f64, draw.below(2 * i as u64 + 1, 5) as f64);
            let gram = Gram::from_fn(n, |i, j| at(i).0 * at(j).0 + at(i).1 * at(j).1);
            let key = |removed: &[usize]| {
                let kept = kept(n, removed);
                let pairs = || kept.iter().flat_map(|i| kept.iter().map(|j| gram.distance_sq(*i, *j)));
                let (diameter, variance) = (pairs().fold(0.0, f64::max), pairs().sum::<f64>());
                (diameter as i64, variance as i64, kept)
            };
            let sets = (0..1_u32 << n).filter(|bits| bits.count_ones() as usize == f);
            let all = sets.map(|bits| key(&(0..n).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>()));
            let found = least_diameter(&gram, f).expect("few subsets");
            assert_eq!(key(&found), all.min().expect("some"), "seed {seed}");
        }
    }
}
