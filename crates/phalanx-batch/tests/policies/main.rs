//! The policies on worked values, on laws, and on noise whose scale is known.
#![expect(clippy::unwrap_used, reason = "a test ends where its inputs are wrong")]

mod golden;
mod laws;
mod rates;
mod state;

use phalanx_batch::{GradientTest, Pace, TestConfig};
use phalanx_comm::{Agreed, SoloComm, agree_sum};
use phalanx_grad::{BatchContext, BatchPolicy, Chunks, Gram, ScalarBlock};

/// Four samples of three coordinates: the example of `phalanx-grad/tests/statistics.rs`.
const ROWS: [[f64; 3]; 4] = [[1.0, 2.0, 0.0], [3.0, 0.0, 1.0], [2.0, 1.0, -1.0], [0.0, 1.0, 2.0]];

/// The block of explicit chunks.
fn block(rows: &[[f64; 3]], samples: &[u64]) -> ScalarBlock {
    let gram = Gram::from_fn(rows.len(), |i, j| rows[i].iter().zip(rows[j]).map(|(a, b)| a * b).sum());
    ScalarBlock::from_gram(&gram, samples, 0.5).unwrap()
}

/// The two halves of [`ROWS`] as two ranks.
fn two_ranks() -> ScalarBlock {
    block(&[[2.0, 1.0, 0.5], [1.0, 1.0, 0.5]], &[2, 2])
}

/// What a batch of `samples` shows on average where the variance of a sample is `variance` and the squared signal `signal`.
fn expected(samples: u64, variance: f64, signal: f64) -> ScalarBlock {
    let n = signal + variance / samples as f64;
    ScalarBlock { q: variance + samples as f64 * n, n, samples, chunks: 2, ..two_ranks() }
}

/// A block that all ranks agree on, by way of a world of one.
fn agreed(block: &ScalarBlock) -> Agreed<ScalarBlock> {
    let projections = block.projections.unwrap_or_default();
    let packed = [
        block.q,
        block.n,
        block.norm_l1,
        projections.p1,
        projections.p2,
        block.coordinate_ratio.unwrap_or(f64::NAN),
        block.samples as f64,
        block.chunks as f64,
        block.loss,
    ];
    agree_sum(&SoloComm::new(), &packed).unwrap().map(|p| ScalarBlock {
        q: p[0],
        n: p[1],
        norm_l1: p[2],
        projections: Some(phalanx_grad::Projections { p1: p[3], p2: p[4] }),
        coordinate_ratio: Some(p[5]).filter(|ratio| !ratio.is_nan()),
        samples: count(p[6]),
        chunks: count(p[7]),
        loss: p[8],
        nonfinite: 0,
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count that was packed as a float"
)]
fn count(packed: f64) -> u64 {
    packed as u64
}

fn at(step: u64, batch: u64) -> BatchContext {
    BatchContext {
        step,
        samples: batch * (step - 1),
        total: 100_000,
        batch,
        max_batch: 10_000,
        ranks: 2,
        lr: 0.1,
    }
}

/// A test that is asked every step and may grow as it likes.
fn free<T: phalanx_batch::Criterion>(criterion: T) -> GradientTest<T> {
    let pace = Pace { growth: f64::INFINITY, ..Pace::default() };
    GradientTest::new(criterion, TestConfig { pace, chunks: Chunks::Ranks, ema: 0.0 }).unwrap()
}

/// The batch after `steps` steps of what is expected at each batch.
fn settled(policy: &mut dyn BatchPolicy, first: u64, steps: u64, variance: f64, signal: f64) -> u64 {
    (1..=steps).fold(first, |batch, step| {
        let block = agreed(&expected(batch, variance, signal));
        policy.decide(&block, &at(step, batch)).unwrap().batch
    })
}

#[track_caller]
fn assert_near(got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got}, want {want}");
}
