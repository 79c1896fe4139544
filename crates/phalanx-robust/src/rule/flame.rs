//! FLAME: the largest cluster by direction, cut to the median length, with noise.

use super::Finish;
use super::geometric_median::median;
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{GradError, Gram};
use phalanx_tensor::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Keeps the majority cluster by cosine distance, cuts its vectors to the median length of all, averages, and adds
/// normal noise of `noise` times that length.
///
/// With a cluster of more than half of the vectors and one neighbour for density, HDBSCAN comes down to single
/// linkage: the cluster is the first component of more than half as pairs are joined from the nearest on. With a
/// [reference](crate::Updates::with_reference), directions are those of the models, as published; without, of the
/// updates.
///
/// # Reference
/// Nguyen et al., "FLAME: Taming Backdoors in Federated Learning", USENIX Security 2022.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flame {
    /// The noise's standard deviation over the median length.
    pub noise: f64,
    /// Of the noise.
    pub seed: u64,
}

impl Default for Flame {
    fn default() -> Self {
        Flame { noise: 1e-3, seed: 0 }
    }
}

impl Rule for Flame {
    fn name(&self) -> &'static str {
        "flame"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        let laws = Laws::none().and(Law::Permutation).and(Law::Scale);
        if self.noise == 0.0 { laws.and(Law::Negation).and(Law::Rotation).and(Law::Unanimity) } else { laws }
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        let (n, gram) = (round.n(), round.gram()?);
        let norms: Vec<f64> = (0..n).map(|i| gram.norm_sq(i).sqrt()).collect();
        let limit = median(norms.clone());
        let kept = match round.reference() {
            Some(reference) => {
                let (products, own) = round.products_with(reference)?;
                majority(&Gram::from_fn(n, |i, j| gram.get(i, j) + products[i] + products[j] + own))
            }
            None => majority(gram),
        };
        let mut weights_n = vec![0.0; n];
        for i in &kept {
            weights_n[*i] = if norms[*i] > limit { limit / norms[*i] } else { 1.0 } / kept.len() as f64;
        }
        let noise =
            Finish::Noise(self.noise * limit, Stream::new(self.seed, Purpose::User(12), round.step()));
        let decision = Decision::sum(weights_n).with_scores(norms);
        Ok(if self.noise == 0.0 { decision } else { decision.with_finish(noise) })
    }
}

/// The first component of more than half of the vectors, as the nearest by cosine are joined.
fn majority(gram: &Gram) -> Vec<usize> {
    let n = gram.n();
    let distance = |i: usize, j: usize| {
        let lengths = (gram.norm_sq(i) * gram.norm_sq(j)).sqrt();
        1.0 - if lengths > 0.0 { gram.get(i, j) / lengths } else { 0.0 }
    };
    let mut pairs: Vec<(f64, usize, usize)> =
        (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| (distance(i, j), i, j)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut group: Vec<usize> = (0..n).collect();
    let mut pairs = pairs.as_slice();
    while let Some((nearest, ..)) = pairs.first() {
        // pairs at one distance join at once
        let level = pairs.partition_point(|pair| pair.0 <= *nearest);
        for (_, i, j) in &pairs[..level] {
            let (from, to) = (group[*i], group[*j]);
            group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
        }
        pairs = &pairs[level..];
        let members = |g: usize| (0..n).filter(|i| group[*i] == g).collect::<Vec<_>>();
        if let Some(found) = (0..n).map(|i| members(group[i])).find(|members| 2 * members.len() > n) {
            return found;
        }
    }
    (0..n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Directions 0, 1, 2, 60, 180 degrees: the first three are the majority of five.
    #[test]
    fn the_majority_by_direction() {
        let angle = [0.0_f64, 1.0, 2.0, 60.0, 180.0].map(f64::to_radians);
        let gram = Gram::from_fn(5, |i, j| (1 + i) as f64 * (1 + j) as f64 * (angle[i] - angle[j]).cos());
        assert_eq!(majority(&gram), [0, 1, 2]);
        assert_eq!(majority(&Gram::from_fn(1, |_, _| 1.0)), [0]);
    }
}
