//! Multi-metrics: a filter that looks at three distances at once, whitened.

use super::{Mixed, PreAggregator};
use crate::eigen;
use crate::rule::{least, positive};
use crate::{Law, Laws, Round};
use phalanx_grad::GradError;
use serde::{Deserialize, Serialize};

/// Keeps the senders whose Manhattan distance, Euclidean distance and cosine stand out least together.
///
/// For each sender three features; of each, `x'_i`, how far it is from those of all others together; the score is
/// `sqrt(x'_i S^-1 x'_i)` with the covariance `S` of the `x'`. The senders of lowest score stay, for any rule behind.
///
/// It is a filter against backdoors and **not** a rule that bears hostile vectors: it sees three numbers a sender, and
/// a vector with the right three passes (a random direction of the usual length mostly does). Put a robust rule
/// behind it. The greatest score does not mark the attacker either: one far vector widens the covariance that it is
/// measured by. How many of those kept may be hostile is set by proportion, `f` times the share kept, rounded up.
///
/// # Numerics
/// Features and covariance in `f64`; the covariance is scaled to a unit diagonal, which leaves scores as they are, and
/// inverted by its eigenvalues.
///
/// # Errors
/// [`GradError::Missing`] for [`Reference::Global`] without the parameters that the updates start from.
///
/// # Reference
/// Huang et al., "Multi-metrics adaptively identifies backdoors in Federated Learning", ICCV 2023.
///
/// # Deviation
/// The share kept is rounded down but at least one stays, and a covariance without inverse has a pseudo-inverse,
/// where the authors' program stops. Updates stand for models: `w_i` is the reference plus update `i`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiMetrics {
    /// What distances are measured to.
    pub reference: Reference,
    /// How many stay.
    pub keep: Keep,
    /// How the three are brought to one scale.
    pub whiten: Whiten,
    /// Whether `x'` is centred before it is scored; not so as published.
    pub centered: bool,
}

/// What the features of a sender are measured against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// The global model, as in the paper: `|w_i - w|_1`, `|w_i - w|_2` and the cosine of `w_i` and `w`; then the sum of
    /// the gaps to all others.
    #[default]
    Global,
    /// The other senders' models, as in the authors' program: sums over `j` of `|w_i - w_j|_1`, of `| |w_i| - |w_j| |`
    /// and of `(1 - cos(w_i, w_j))^2`. Without a reference, updates are the models.
    Pairwise,
}

/// How many senders stay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// This share, rounded down, one at least.
    Share(f64),
    /// This many at most.
    Count(usize),
    /// All but those whose modified z-score, `0.6745 (s - median) / MAD`, is above this.
    ModifiedZ(f64),
}

/// How the features are brought to one scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whiten {
    /// The pseudo-inverse of the covariance: eigenvalues below this share of the greatest count as 0.
    Pinv(f64),
    /// The inverse of the covariance with this times its mean eigenvalue added.
    Ridge(f64),
    /// No covariance: each feature over its greatest value, summed.
    MaxNorm,
}

impl Default for MultiMetrics {
    fn default() -> Self {
        let (keep, whiten) = (Keep::Share(0.3), Whiten::Pinv(1e-12));
        MultiMetrics { reference: Reference::Global, keep, whiten, centered: false }
    }
}

const FEATURES: [&str; 3] = ["manhattan", "euclidean", "cosine"];
const GAPS: [&str; 3] = ["manhattan gap", "euclidean gap", "cosine gap"];

impl PreAggregator for MultiMetrics {
    fn name(&self) -> &'static str {
        "multi-metrics"
    }

    fn min_n(&self, _f: usize) -> usize {
        1
    }

    /// With respect to the reference, which scales along.
    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation).and(Law::Scale).and(Law::Negation).and(Law::Unanimity)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn mix(&mut self, round: &Round<'_>) -> Result<Mixed, GradError> {
        let (features, gaps) = match self.reference {
            Reference::Global => {
                let features = self.against_global(round)?;
                let gaps = features.each_ref().map(|values| gaps(values));
                (features, gaps)
            }
            Reference::Pairwise => {
                let gaps = pairwise(round)?;
                (gaps.clone(), gaps)
            }
        };
        let scores = self.scores(&gaps)?;
        let kept = self.kept(&scores)?;
        let hostile = (round.hostile() * kept.len()).div_ceil(round.n().max(1));
        let mut mixed = Mixed::kept(round, &kept, hostile).with_scores(scores);
        for (name, values) in FEATURES.into_iter().zip(features) {
            mixed = mixed.with_feature(name, values);
        }
        for (name, values) in GAPS.into_iter().zip(gaps) {
            mixed = mixed.with_feature(name, values);
        }
        Ok(mixed)
    }
}

impl MultiMetrics {
    fn against_global(&self, round: &Round<'_>) -> Result<[Vec<f64>; 3], GradError> {
        let missing =
            GradError::Missing { rule: self.name(), what: "the parameters that updates start from" };
        let model = round.reference().ok_or(missing)?;
        let (products, own) = round.products_with(model)?;
        let norms_sq = round.norms_sq()?;
        // <w, w_i> = |w|^2 + <w, x_i>, and |w_i|^2 = |w|^2 + 2 <w, x_i> + |x_i|^2
        let cosine = |(product, norm_sq): (&f64, &f64)| {
            let lengths = (own * (own + 2.0 * product + norm_sq).max(0.0)).sqrt();
            if lengths > 0.0 { (own + product) / lengths } else { 0.0 }
        };
        let cosines = products.iter().zip(norms_sq).map(cosine).collect();
        Ok([round.norms_l1()?, norms_sq.iter().map(|norm_sq| norm_sq.sqrt()).collect(), cosines])
    }

    /// The score of each sender from its gaps; all 0 when all are alike.
    fn scores(&self, gaps: &[Vec<f64>; 3]) -> Result<Vec<f64>, GradError> {
        let n = gaps[0].len();
        let means = gaps.each_ref().map(|values| values.iter().sum::<f64>() / n as f64);
        let greatest = gaps.each_ref().map(|values| values.iter().copied().fold(0.0, f64::max));
        let over = |x: f64, y: f64| if y > 0.0 { x / y } else { 0.0 };
        if self.whiten == Whiten::MaxNorm {
            return Ok((0..n).map(|i| (0..3).map(|m| over(gaps[m][i], greatest[m])).sum()).collect());
        }
        let freedom = n.saturating_sub(1).max(1) as f64;
        let spread =
            |m: usize| (gaps[m].iter().map(|x| (x - means[m]).powi(2)).sum::<f64>() / freedom).sqrt();
        let deviations = [0, 1, 2].map(spread);
        // standardised: scores do not depend on it, the inverse does
        let standard = |m: usize, i: usize| over(gaps[m][i], deviations[m]);
        let center = |m: usize| over(means[m], deviations[m]);
        let mut correlation = vec![0.0; 9];
        for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
            let products = (0..n).map(|i| (standard(a, i) - center(a)) * (standard(b, i) - center(b)));
            correlation[a * 3 + b] = products.sum::<f64>() / freedom;
        }
        let (values, vectors) = eigen::all(correlation, 3);
        let (total, top) = (values.iter().sum::<f64>(), values.iter().copied().fold(0.0, f64::max));
        let inverse = |value: f64| -> Result<f64, GradError> {
            Ok(match self.whiten {
                Whiten::Pinv(floor) if value <= positive(self.name(), "whiten", floor)? * top => 0.0,
                Whiten::Ridge(ridge) => {
                    let value = value.max(0.0) + positive(self.name(), "whiten", ridge)? * total / 3.0;
                    over(1.0, value)
                }
                _ => over(1.0, value),
            })
        };
        let inverses = values.iter().map(|value| inverse(*value)).collect::<Result<Vec<_>, _>>()?;
        let score = |i: usize| -> f64 {
            let moved = |m: usize| standard(m, i) - if self.centered { center(m) } else { 0.0 };
            let along = |k: usize| (0..3).map(|m| vectors[m * 3 + k] * moved(m)).sum::<f64>();
            (0..3).map(|k| inverses[k] * along(k).powi(2)).sum::<f64>().sqrt()
        };
        Ok((0..n).map(score).collect())
    }

    fn kept(&self, scores: &[f64]) -> Result<Vec<usize>, GradError> {
        let n = scores.len();
        // all alike: nothing tells one from another
        if scores.iter().all(|score| *score == 0.0) {
            return Ok((0..n).collect());
        }
        Ok(match self.keep {
            Keep::Share(share) => {
                let share = positive(self.name(), "keep", share)?.min(1.0);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "at most n, rounded down"
                )]
                let count = (share * n as f64) as usize;
                least(scores, count.max(1))
            }
            Keep::Count(count) => least(scores, count.max(1)),
            Keep::ModifiedZ(limit) => {
                let limit = positive(self.name(), "keep", limit)?;
                let middle = crate::rule::median(scores.to_vec());
                let spread = crate::rule::median(scores.iter().map(|score| (score - middle).abs()).collect());
                // without a spread, whatever is above the middle is infinitely far from it
                let far = |score: f64| 0.6745 * (score - middle) > limit * spread;
                (0..n).filter(|i| !far(scores[*i])).collect()
            }
        })
    }
}

/// For each value, the sum of its distances to the others, by sorting.
fn gaps(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|i, j| values[*i].total_cmp(&values[*j]));
    let mut gaps = vec![0.0; n];
    // between neighbours in order, each step is walked by all below to all above
    let steps: Vec<f64> = order.windows(2).map(|pair| values[pair[1]] - values[pair[0]]).collect();
    let mut below = 0.0;
    for (rank, i) in order.iter().enumerate() {
        if rank > 0 {
            below += rank as f64 * steps[rank - 1];
        }
        gaps[*i] += below;
    }
    let mut above = 0.0;
    for (rank, i) in order.iter().enumerate().rev() {
        if rank + 1 < n {
            above += (n - 1 - rank) as f64 * steps[rank];
        }
        gaps[*i] += above;
    }
    gaps
}

fn pairwise(round: &Round<'_>) -> Result<[Vec<f64>; 3], GradError> {
    let (n, gram) = (round.n(), round.gram()?);
    let (products, own) = match round.reference() {
        Some(model) => round.products_with(model)?,
        None => (vec![0.0; n], 0.0),
    };
    let product = |i: usize, j: usize| gram.get(i, j) + products[i] + products[j] + own;
    let norms: Vec<f64> = (0..n).map(|i| product(i, i).max(0.0).sqrt()).collect();
    let turn = |i: usize, j: usize| {
        let lengths = norms[i] * norms[j];
        let cosine = if lengths > 0.0 { product(i, j) / lengths } else { 0.0 };
        (1.0 - cosine).powi(2)
    };
    let turns = (0..n).map(|i| (0..n).filter(|j| *j != i).map(|j| turn(i, j)).sum()).collect();
    Ok([round.distances_l1()?, gaps(&norms), turns])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_by_sorting_are_the_sums_of_distances() {
        let values = [3.0_f64, -1.0, 3.0, 10.0, 0.5];
        let plainly = values.map(|x| values.iter().map(|y| (x - y).abs()).sum::<f64>());
        for (got, want) in gaps(&values).into_iter().zip(plainly) {
            assert!((got - want).abs() < 1e-12);
        }
        assert_eq!((gaps(&[]), gaps(&[4.0])), (vec![], vec![0.0]));
    }

    /// The centred scores of `K` clients have squares that sum to 3 (K - 1), whatever the features.
    #[test]
    fn centred_scores_have_a_known_sum() {
        let column = |seed: u64| (0..10).map(|i| ((i * i * 7 + seed * i) % 23) as f64).collect::<Vec<f64>>();
        let gaps = [column(3), column(5), column(11)];
        let rule = MultiMetrics { centered: true, ..MultiMetrics::default() };
        let sum: f64 = rule.scores(&gaps).unwrap().iter().map(|score| score * score).sum();
        assert!((sum - 27.0).abs() < 1e-9, "{sum}");
    }

    /// With one feature, the square of the uncentred score of K - 1 equal clients and one other is known:
    /// K ((K - 1) / (K - 2))^2 for the other, however far it is.
    #[test]
    fn a_far_client_widens_what_it_is_measured_by() {
        for far in [1.0, 1e9] {
            let mut features = vec![0.0; 10];
            features[9] = far;
            let gaps = [gaps(&features), vec![0.0; 10], vec![0.0; 10]];
            let scores = MultiMetrics::default().scores(&gaps).unwrap();
            assert!((scores[9].powi(2) - 10.0 * (9.0_f64 / 8.0).powi(2)).abs() < 1e-9, "{scores:?}");
        }
    }
}
