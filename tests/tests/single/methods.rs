//! Methods from outside of phalanx in the places of the loop.

use std::sync::Arc;

use phalanx::comm::Agreed;
use phalanx::grad::{
    BatchContext, BatchDecision, Chunks, GradError, Gram, Needs, PolicyState, Ranks, ScalarBlock, Scratch,
    Weighted,
};
use phalanx::prelude::*;
use phalanx::train::{Job, Limit, Methods, Outcome, TrainConfig};
use phalanx_tests::{Device, Steps, bits, config, distance, job, methods, train};

/// The weighted mean, by the path that forms the set of all ranks' gradients.
#[derive(Debug)]
struct MeanOfRows;

impl Reduce<Ranks, Device> for MeanOfRows {
    fn name(&self) -> &'static str {
        "mean-of-rows"
    }

    fn reduce(
        &mut self,
        _step: u64,
        set: &dyn GradSet<Ranks, Device>,
        out_d: &mut [f32],
        _scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        let total: u64 = (0..set.len()).map(|i| set.samples(i)).sum();
        let weights_n: Vec<f64> = (0..set.len()).map(|i| set.samples(i) as f64 / total as f64).collect();
        set.weighted_sum(&weights_n, out_d)
    }
}

/// The gradient of the last rank alone.
#[derive(Debug)]
struct Last;

impl WeightRule<Ranks> for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    fn weights(&mut self, _step: u64, gram: &Gram, weights_n: &mut [f64]) -> Result<(), GradError> {
        weights_n.fill(0.0);
        weights_n[gram.n() - 1] = 1.0;
        Ok(())
    }
}

fn with_rule<R: Reduce<Ranks, Device> + 'static>(ranks: usize, rule: fn() -> R) -> Outcome {
    // 50 samples on 3 ranks: shares of two sizes
    let job = job(ranks, TrainConfig { batch: 50, ..config() });
    let methods = move || Methods { over_ranks: Box::new(rule()), ..methods(0.05) };
    train(ranks, Job { methods: Box::new(methods), ..job }).expect("no rank fails")
}

#[test]
fn a_rule_over_ranks_sees_the_mean_gradient_of_each_rank_and_its_samples() {
    let mean = train(3, job(3, TrainConfig { batch: 50, ..config() })).expect("no rank fails");
    let by_rule = with_rule(3, || MeanOfRows);
    assert!(distance(&mean, &by_rule) < 2e-5, "{}", distance(&mean, &by_rule));
    let last = with_rule(3, || Weighted(Last));
    assert!(distance(&mean, &last) > 1e-3, "one rank's gradient is not the mean");
    assert_eq!(bits(&last), bits(&with_rule(3, || Weighted(Last))));
}

/// Grows the batch by a fixed amount after each step, and checks what it is told.
#[derive(Debug)]
struct Growing {
    batch: u64,
}

impl BatchPolicy for Growing {
    fn name(&self) -> &'static str {
        "growing"
    }

    fn needs(&self, _context: &BatchContext) -> Needs {
        Needs::of(Chunks::Ranks)
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        let chunks = usize::try_from(statistics.chunks).unwrap_or(0);
        // the step is as large as the batch decided on, but where the run ends
        let is_whole = statistics.samples == context.batch;
        let is_last =
            context.samples + statistics.samples == context.total && statistics.samples < context.batch;
        if chunks < 2 || !(is_whole || is_last) {
            return Err(GradError::TooFewChunks { statistic: "growing", got: statistics.chunks });
        }
        self.batch += 10;
        Ok(BatchDecision { batch: self.batch, target: Some(statistics.tr_s()?) })
    }

    fn state(&self) -> PolicyState {
        PolicyState { version: 1, bytes: self.batch.to_le_bytes().to_vec() }
    }

    fn restore(&mut self, state: &PolicyState) -> Result<(), GradError> {
        let (version, len) = (state.version, state.bytes.len());
        let refused = GradError::PolicyState { owner: "growing", version, len, need: 1 };
        self.batch = u64::from_le_bytes(state.bytes[..].try_into().map_err(|_| refused)?);
        Ok(())
    }
}

#[test]
fn a_batch_policy_moves_the_batch_of_the_next_step() {
    let watch = Arc::new(Steps::default());
    let job = Job {
        methods: Box::new(|| Methods { policy: Box::new(Growing { batch: 48 }), ..methods(0.05) }),
        watch: Arc::clone(&watch) as Arc<dyn Watch>,
        ..job(2, TrainConfig { limit: Limit::Samples(300), ..config() })
    };
    let outcome = train(2, job).expect("no rank fails");
    let batches: Vec<u64> = watch.seen().iter().map(|step| step.batch).collect();
    assert_eq!(batches, [48, 58, 68, 78, 48], "the last is what 300 samples leave");
    assert_eq!((outcome.summary.samples, outcome.summary.steps), (300, 5));
}
