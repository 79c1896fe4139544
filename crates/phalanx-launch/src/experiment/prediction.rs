//! How long a run would take on more ranks, from its own step times and a model of the network.

use std::collections::BTreeMap;

use phalanx_batch::{Observation, StepModel};

use super::outcome::Outcome;

/// What a message between two ranks costs.
///
/// # Reference
/// The ring all-reduce of `b` bytes over `J` ranks: `2 (J - 1)` messages of `b / J` bytes each, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Seconds before the first byte.
    pub latency: f64,
    /// Bytes a second.
    pub bandwidth: f64,
}

impl Default for Network {
    /// A 10 Gbit/s Ethernet.
    fn default() -> Self {
        Network { latency: 50e-6, bandwidth: 1.25e9 }
    }
}

impl Network {
    fn all_reduce(&self, bytes: f64, ranks: f64) -> f64 {
        2.0 * (ranks - 1.0) * (self.latency + bytes / ranks / self.bandwidth)
    }
}

/// Seconds of a run on `ranks` ranks, each as fast as one of its own: computing by the share of a rank, then an all-reduce that nothing hides.
pub(super) fn seconds_on(outcome: &Outcome, ranks: u64, network: Network) -> Option<f64> {
    let model = StepModel::fit(&observations(outcome))?;
    let bytes = 4.0 * outcome.summary.parameters as f64;
    let ranks = ranks as f64;
    let step = |batch: f64| model.seconds((batch / ranks).max(1.0), 1.0) + network.all_reduce(bytes, ranks);
    Some(outcome.steps.iter().map(|(_, batch, _)| step(*batch as f64)).sum())
}

/// The median time of each batch size.
fn observations(outcome: &Outcome) -> Vec<Observation> {
    let mut times: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (_, batch, seconds) in &outcome.steps {
        times.entry(*batch).or_default().push(*seconds);
    }
    let ranks = outcome.summary.ranks.max(1) as f64;
    times
        .into_iter()
        .map(|(batch, mut seconds)| {
            seconds.sort_by(f64::total_cmp);
            let seconds = seconds[seconds.len() / 2];
            Observation { micro: batch as f64 / ranks, accumulation: 1.0, seconds, exposed: 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_train::Summary;

    #[test]
    fn large_batches_pay_on_many_ranks() {
        // 1 ms and 0.1 ms a sample and rank, on two ranks
        let run = |batch: u64| {
            let seconds = 1e-3 + 1e-4 * batch as f64 / 2.0;
            let steps = (1..=100_000 / batch).map(|step| (step * batch, batch, seconds)).collect();
            let sizes = [(batch, batch / 2, 1e-3 + 1e-4 * batch as f64 / 4.0)];
            let steps = [steps, sizes.to_vec()].concat();
            let summary = Summary { ranks: 2, parameters: 100_000, ..Summary::default() };
            Outcome { summary, steps, scores: Vec::new() }
        };
        let on = |batch, ranks| seconds_on(&run(batch), ranks, Network::default()).expect("steps");
        assert!(on(16, 64) > on(16, 8), "16 samples over 64 ranks cost messages only");
        assert!(on(2048, 64) < 0.5 * on(2048, 8), "{} {}", on(2048, 64), on(2048, 8));
        assert!(on(2048, 64) < 0.05 * on(16, 64));
    }
}
