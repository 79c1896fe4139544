//! Divide and conquer: leaves out what lies far along the direction of greatest spread.

use super::{least, positive};
use crate::eigen::{centered, top};
use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::GradError;
use phalanx_tensor::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// Several times, over some coordinates drawn at random: scores vectors by `((x_i - m) v)^2` with the mean `m` and
/// the direction `v` of greatest spread, and keeps all but the `cut f` of highest score. The result is the mean of
/// those kept every time.
///
/// When none is, those kept the last time are averaged.
///
/// # Reference
/// Shejwalkar and Houmansadr, "Manipulating the Byzantine", NDSS 2021.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dnc {
    /// How many times `f` are left out each time.
    pub cut: f64,
    /// The share of coordinates that is looked at; 1 takes all, in order.
    pub share: f64,
    /// How often.
    pub times: usize,
    /// Of the coordinates' choice.
    pub seed: u64,
}

impl Default for Dnc {
    fn default() -> Self {
        Dnc { cut: 1.0, share: 0.2, times: 5, seed: 0 }
    }
}

impl Dnc {
    /// All coordinates, once.
    #[must_use]
    pub fn of_all() -> Self {
        Dnc { share: 1.0, times: 1, ..Dnc::default() }
    }
}

impl Rule for Dnc {
    fn name(&self) -> &'static str {
        "dnc"
    }

    fn min_n(&self, f: usize) -> usize {
        2 * f + 1
    }

    fn laws(&self) -> Laws {
        let laws = Laws::of_distances().without(Law::Majority);
        if self.share < 1.0 { laws.without(Law::Rotation) } else { laws }
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        positive(self.name(), "cut", self.cut)?;
        positive(self.name(), "share", self.share)?;
        positive(self.name(), "times", self.times as f64)?;
        // a part of the coordinates does not show what is wrong with the rest
        round.norms_sq()?;
        let (n, d) = (round.n(), round.dim());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and rounded down"
        )]
        let (cut, wanted) = (
            (self.cut * round.hostile() as f64) as usize,
            ((self.share * d as f64) as usize).clamp(1, d.max(1)),
        );
        let all: Vec<usize> = (0..n).collect();
        let (mut votes, mut last, mut scores) = (vec![0; n], Vec::new(), Vec::new());
        for time in 0..self.times {
            let part = if wanted < d {
                let draw =
                    Stream::new(self.seed, Purpose::User(11), round.step() * self.times as u64 + time as u64);
                Some(round.gram_over(&drawn(draw, d, wanted))?)
            } else {
                None
            };
            let gram = part.as_ref().map_or_else(|| round.gram(), Ok)?;
            let (value, vector) = top(centered(gram, &all, &vec![1.0; n]), n);
            // with equal weights, the eigenvector's entries are the projections up to one factor
            scores = vector.into_iter().map(|v| v * v * value * n as f64).collect();
            last = least(&scores, n.saturating_sub(cut).max(1));
            last.iter().for_each(|i| votes[*i] += 1);
        }
        let always: Vec<usize> = (0..n).filter(|i| votes[*i] == self.times).collect();
        let kept = if always.is_empty() { last } else { always };
        Ok(Decision::mean_of(n, &kept).with_scores(scores))
    }
}

/// So many different coordinates, in order: the first of a shuffle that is not carried further.
fn drawn(draw: Stream, d: usize, count: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..d).collect();
    for i in 0..count {
        let other = i + usize::try_from(draw.below(i as u64, (d - i) as u64)).unwrap_or(0);
        all.swap(i, other);
    }
    all.truncate(count);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_drawn_once_each() {
        let mut drawn = drawn(Stream::new(1, Purpose::User(1), 1), 50, 20);
        assert!(drawn.is_sorted() && drawn.len() == 20 && drawn[19] < 50);
        drawn.dedup();
        assert_eq!(drawn.len(), 20);
    }
}
