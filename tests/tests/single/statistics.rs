//! What a policy is told of the gradients of ranks, micro-batches and samples.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use phalanx::comm::Agreed;
use phalanx::grad::{
    BatchContext, BatchDecision, Chunks, CoordinateRule, GradError, Needs, PolicyBounds, PolicyState,
    Projections, ScalarBlock,
};
use phalanx::nn::layers::{BatchNorm2d, Linear};
use phalanx::nn::{Features, Graph, NnError, ParamBuilder, Var};
use phalanx::prelude::*;
use phalanx::tensor::Backend;
use phalanx::train::{Job, Limit, Methods, Outcome, Plan, Reduction, TrainConfig};
use phalanx_tests::{Device, bits, config, job, methods, train};

type Seen = Arc<Mutex<BTreeMap<u64, Vec<ScalarBlock>>>>;

/// Asks for statistics, keeps what every rank is told, and leaves the batch as it is.
#[derive(Debug)]
struct Asking {
    needs: Needs,
    seen: Seen,
}

impl BatchPolicy for Asking {
    fn name(&self) -> &'static str {
        "asking"
    }

    fn bounds(&self) -> PolicyBounds {
        PolicyBounds { needs: self.needs, ..PolicyBounds::default() }
    }

    fn needs(&self, _context: &BatchContext) -> Needs {
        self.needs
    }

    fn decide(
        &mut self,
        statistics: &Agreed<ScalarBlock>,
        context: &BatchContext,
    ) -> Result<BatchDecision, GradError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.entry(context.step).or_default().push(**statistics);
        Ok(BatchDecision::of(context.batch))
    }

    fn state(&self) -> PolicyState {
        PolicyState::default()
    }

    fn restore(&mut self, _state: &PolicyState) -> Result<(), GradError> {
        Ok(())
    }
}

const SAMPLES: Needs = Needs {
    chunks: Chunks::Samples,
    projections: true,
    coordinates: Some(CoordinateRule::PerTensor),
    time: false,
};
const RANKS: Needs = Needs { chunks: Chunks::Ranks, ..SAMPLES };

fn asking(job: Job<Device>, needs: Needs) -> (Job<Device>, Seen) {
    let seen = Seen::default();
    let held = Arc::clone(&seen);
    let methods =
        move || Methods { policy: Box::new(Asking { needs, seen: Arc::clone(&held) }), ..methods(0.05) };
    (Job { methods: Box::new(methods), ..job }, seen)
}

/// Trains and returns the block of every step, on which all ranks must agree.
fn measured(ranks: usize, needs: Needs, job: Job<Device>) -> (Outcome, Vec<ScalarBlock>) {
    let (job, seen) = asking(job, needs);
    let outcome = train(ranks, job).expect("no rank fails");
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let agreed = seen.values().map(|blocks| {
        assert_eq!(blocks.len(), ranks);
        assert!(blocks.iter().all(|block| *block == blocks[0]), "{blocks:?}");
        blocks[0]
    });
    (outcome, agreed.collect())
}

fn blocks(ranks: usize, needs: Needs, config: TrainConfig) -> Vec<ScalarBlock> {
    measured(ranks, needs, job(ranks, config)).1
}

fn projections(block: &ScalarBlock) -> Projections {
    block.projections.expect("they were asked for")
}

/// That two blocks are equal but for rounding in `f32`.
fn assert_near(got: &ScalarBlock, want: &ScalarBlock, what: &str) {
    let ratio = |block: &ScalarBlock| block.coordinate_ratio.expect("it was asked for");
    let pairs = [
        (ratio(got), ratio(want)),
        (got.q, want.q),
        (got.n, want.n),
        (projections(got).p1, projections(want).p1),
        (projections(got).p2, projections(want).p2),
    ];
    for (got, want) in pairs {
        assert!((got - want).abs() <= 1e-4 * want.abs(), "{what}: {got} for {want}");
    }
    assert_eq!((got.samples, got.chunks, got.nonfinite), (want.samples, want.chunks, 0), "{what}");
}

#[test]
fn samples_are_measured_alike_on_any_number_of_ranks_and_in_any_tiles() {
    let short = TrainConfig { limit: Limit::Steps(3), batch: 50, ..config() };
    let want = blocks(1, SAMPLES, short.clone());
    assert_eq!(want.len(), 3);
    for block in &want {
        assert_eq!((block.samples, block.chunks), (50, 50));
        // the mean of the inner products with the mean gradient is its squared length
        let p1 = projections(block).p1;
        assert!((p1 - 50.0 * block.n).abs() <= 1e-4 * p1, "{p1} for {}", 50.0 * block.n);
        assert!(block.tr_s().expect("50 chunks") > 0.0);
    }
    for (ranks, tile, micro_batch) in [(2, 0, 0), (3, 4, 0), (2, 3, 7)] {
        let got = blocks(ranks, SAMPLES, TrainConfig { tile, micro_batch, ..short.clone() });
        for (got, want) in got.iter().zip(&want) {
            assert_near(got, want, &format!("{ranks} ranks, tiles of {tile}"));
        }
    }
}

#[test]
fn a_sample_a_rank_is_measured_as_a_sample() {
    // Two ways that share no code: the buckets of three ranks, and the operators of one.
    let three = TrainConfig { limit: Limit::Steps(1), batch: 3, ..config() };
    let (by_ranks, by_samples) = (blocks(3, RANKS, three.clone()), blocks(1, SAMPLES, three));
    assert_near(&by_samples[0], &by_ranks[0], "samples");
}

#[test]
fn micro_batches_are_chunks_of_their_own() {
    // 48 samples as 2 x 3 x 8 and as 6 x 8
    let one = TrainConfig { limit: Limit::Steps(1), ..config() };
    let by_ranks = blocks(6, RANKS, one.clone());
    assert_eq!(by_ranks[0].chunks, 6);
    let by_micro_batches = blocks(2, RANKS, TrainConfig { micro_batch: 8, ..one });
    assert_near(&by_micro_batches[0], &by_ranks[0], "micro-batches");
}

#[test]
fn reproducible_statistics_have_the_same_bits_on_any_number_of_ranks() {
    let config = TrainConfig {
        batch: 50,
        limit: Limit::Steps(4),
        reduction: Reduction::Reproducible { shards: 4 },
        ..config()
    };
    for (needs, chunks) in [(SAMPLES, 50), (RANKS, 4)] {
        let want = blocks(1, needs, config.clone());
        assert!(want.iter().all(|block| block.chunks == chunks));
        for ranks in [2, 4] {
            assert_eq!(blocks(ranks, needs, config.clone()), want, "{needs:?} on {ranks} ranks");
        }
    }
}

#[test]
fn measuring_changes_no_bit_of_the_model() {
    for config in [config(), TrainConfig { micro_batch: 5, ..config() }] {
        let plain = bits(&train(2, job(2, config.clone())).expect("no rank fails"));
        for needs in [SAMPLES, RANKS] {
            let (outcome, _) = measured(2, needs, job(2, config.clone()));
            assert_eq!(bits(&outcome), plain, "{needs:?}");
        }
    }
}

#[test]
fn what_finds_no_room_is_computed_again() {
    let short = TrainConfig { limit: Limit::Steps(2), tile: 8, ..config() };
    let roomy = blocks(2, SAMPLES, short.clone());
    let bytes = job(2, short.clone()).plan.rank_bytes();
    let tight = blocks(2, SAMPLES, TrainConfig { memory_limit: Some(bytes), ..short });
    assert_eq!(tight, roomy);
}

#[test]
fn inner_products_of_nothing_are_refused() {
    let (job, _) = asking(job(2, config()), Needs { projections: true, ..Needs::default() });
    let error = train(2, job).expect_err("there are no chunks");
    let text = format!("{error:?}");
    assert!(text.contains("asking") && text.contains("inner products"), "{text}");
}

/// Normalises the image by the other images of its batch.
struct Normed {
    norm: BatchNorm2d,
    head: Linear,
}

impl<B: Backend> Net<B> for Normed {
    fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        self.head.forward(self.norm.forward(x.dense()?)?.flatten()?)
    }
}

#[test]
fn batch_norm_with_statistics_of_samples_is_refused_before_the_first_step() {
    let job = job(2, config());
    let mut params = ParamBuilder::new();
    let norm = params.scope("norm", |p| BatchNorm2d::new(p, 1));
    let net = Arc::new(Normed { norm, head: params.scope("head", |p| Linear::new(p, 64, 10)) });
    let plan = Plan::new(&*net, &params.finish(), &job.task, &job.config, 24).expect("a plan");
    let job = Job { plan, net, ..job };
    let (job, seen) = asking(job, SAMPLES);
    let error = train(2, job).expect_err("samples see each other");
    let text = format!("{error:?}");
    assert!(
        text.contains("Samples {") && text.contains("SamplesMixed") && text.contains("batch_norm"),
        "{text}"
    );
    assert!(seen.lock().unwrap_or_else(PoisonError::into_inner).is_empty());
}
