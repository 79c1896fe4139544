//! FoolsGold: those who always agree are one and the same.

use crate::{Decision, Law, Laws, Round, Rule};
use phalanx_grad::{Axis, GradError, Gram, Ranks, StateReader, StateTensor};
use std::collections::BTreeMap;

/// Weighs senders down by how alike the sums of all their vectors are.
///
/// Against many sybils with one aim among honest senders that differ. It fails where honest ones are alike, and
/// gives them no weight at all: never a default. The sums are state, one vector for each that ever took part; where ranks
/// hold a part of the coordinates each, a rank keeps those of its part.
///
/// # Errors
/// [`GradError::NoWeight`] when all are alike.
///
/// # Reference
/// Fung et al., "The Limitations of Federated Learning in Sybil Settings", RAID 2020.
#[derive(Clone, Debug, Default)]
pub struct FoolsGold {
    /// By sender: all of it, or what is here of it.
    sums: BTreeMap<u64, Vec<f32>>,
    /// Whether other ranks have the other coordinates of the sums.
    in_parts: bool,
    /// Of the round under way, until it succeeds.
    next: Vec<(u64, Vec<f32>)>,
}

impl Rule for FoolsGold {
    fn name(&self) -> &'static str {
        "fools-gold"
    }

    fn min_n(&self, _f: usize) -> usize {
        2
    }

    fn laws(&self) -> Laws {
        Laws::none().and(Law::Permutation).and(Law::Scale).and(Law::Negation).and(Law::Rotation)
    }

    fn is_shardable(&self) -> bool {
        true
    }

    fn decide(&mut self, round: &Round<'_>) -> Result<Decision, GradError> {
        self.keep_what_is_here(round);
        let mut sums = round.to_rows();
        for (id, sum) in round.ids().iter().zip(&mut sums) {
            if let Some(history) = self.sums.get(id) {
                sum.iter_mut().zip(history).for_each(|(x, past)| *x += past);
            }
        }
        let rows: Vec<&[f32]> = sums.iter().map(Vec::as_slice).collect();
        let weights = weights(&round.gram_of(&rows)?);
        self.next = round.ids().iter().copied().zip(sums).collect();
        let weights = weights.ok_or(GradError::NoWeight { rule: self.name(), axis: Ranks::NAME })?;
        Ok(Decision::sum(weights.clone()).with_scores(weights))
    }

    fn settle(&mut self, _out_d: &[f32]) {
        self.sums.extend(std::mem::take(&mut self.next));
    }

    fn state(&self) -> Vec<StateTensor> {
        if self.in_parts { Vec::new() } else { self.tensors() }
    }

    fn state_in_parts(&self) -> Vec<StateTensor> {
        if self.in_parts { self.tensors() } else { Vec::new() }
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let mut sums = BTreeMap::new();
        for tensor in state {
            let id = tensor.name.strip_prefix("sum.").and_then(|id| id.parse().ok());
            match (id, tensor.data.elems::<f32>()) {
                (Some(id), Some(sum)) => sums.insert(id, sum.to_vec()),
                _ => return StateReader::new("fools-gold", state).finish(),
            };
        }
        (self.sums, self.in_parts) = (sums, false);
        Ok(())
    }
}

impl FoolsGold {
    /// Of sums that a checkpoint gave whole, leaves those coordinates that the round has here.
    fn keep_what_is_here(&mut self, round: &Round<'_>) {
        if round.is_spread() && !self.in_parts {
            self.sums.retain(|_, sum| sum.len() == round.dim());
            self.sums.values_mut().for_each(|sum| *sum = round.part(sum).to_vec());
        }
        self.in_parts = round.is_spread();
        // of another model, there is nothing to go on with
        self.sums.retain(|_, sum| sum.len() == round.coordinates().len());
    }

    fn tensors(&self) -> Vec<StateTensor> {
        self.sums.iter().map(|(id, sum)| StateTensor::new(format!("sum.{id}"), sum)).collect()
    }
}

/// The weights from the products of the sums; none when the greatest is 0.
fn weights(gram: &Gram) -> Option<Vec<f64>> {
    let n = gram.n();
    let cosine = |i: usize, j: usize| {
        let lengths = (gram.norm_sq(i) * gram.norm_sq(j)).sqrt();
        if lengths > 0.0 { gram.get(i, j) / lengths } else { 0.0 }
    };
    let others = |i: usize| (0..n).filter(move |j| *j != i);
    let nearest: Vec<f64> =
        (0..n).map(|i| others(i).map(|j| cosine(i, j)).fold(f64::NEG_INFINITY, f64::max) + 1e-5).collect();
    // an honest client that resembles a sybil by chance is pardoned by how much less alike it is
    let pardoned = |i: usize, j: usize| if nearest[i] < nearest[j] { nearest[i] / nearest[j] } else { 1.0 };
    let alike = |i: usize| others(i).map(|j| cosine(i, j) * pardoned(i, j)).fold(f64::NEG_INFINITY, f64::max);
    let alpha: Vec<f64> = (0..n).map(|i| (1.0 - alike(i)).clamp(0.0, 1.0)).collect();
    let greatest = alpha.iter().copied().fold(0.0, f64::max);
    if greatest <= 0.0 {
        return None;
    }
    let logit = |alpha: f64| {
        let alpha = if alpha >= 1.0 { 0.99 } else { alpha };
        ((alpha / (1.0 - alpha)).ln() + 0.5).clamp(0.0, 1.0)
    };
    Some(alpha.into_iter().map(|alpha| logit(alpha / greatest)).collect())
}
