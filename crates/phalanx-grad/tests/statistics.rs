//! The estimators on worked values, on identities between them, and on noise whose variance is known.
#![expect(clippy::unwrap_used, reason = "a test ends where its inputs are wrong")]

use phalanx_grad::{ChunkSums, GradError, GradSet, Gram, RowSet, Samples, ScalarBlock, half_batch_cosine};
use phalanx_tensor::Cpu;
use phalanx_tensor::op::{Moments, ReduceOps};
use phalanx_tensor::rng::{Purpose, Stream};

fn block(rows: &[&[f64]], samples: &[u64]) -> ScalarBlock {
    let set = RowSet::<Samples, f64>::from_slices(rows).unwrap();
    let mut gram = Gram::default();
    set.gram(&mut gram).unwrap();
    ScalarBlock::from_gram(&gram, samples, 0.5).unwrap()
}

fn four_samples() -> ScalarBlock {
    block(&[&[1.0, 2.0, 0.0], &[3.0, 0.0, 1.0], &[2.0, 1.0, -1.0], &[0.0, 1.0, 2.0]], &[1; 4])
}

fn two_ranks() -> ScalarBlock {
    block(&[&[2.0, 1.0, 0.5], &[1.0, 1.0, 0.5]], &[2, 2])
}

#[track_caller]
fn assert_near(got: Result<f64, GradError>, want: f64) {
    let got = got.unwrap();
    assert!((got - want).abs() <= 1e-9 * want.abs().max(1.0), "{got}, want {want}");
}

#[test]
fn per_sample_values() {
    let b = four_samples();
    assert_eq!((b.q, b.n, b.samples, b.chunks), (26.0, 3.5, 4, 4));
    let projections = b.projections.unwrap();
    assert_eq!((projections.p1, projections.p2), (14.0, 53.5));
    assert_near(b.tr_s(), 4.0);
    assert_near(b.g2(), 2.5);
    assert_near(b.v_ip(), 1.5);
    assert_near(b.v_or(), 3.571_428_571_4);
    assert_near(b.norm_target(0.5), 4.571_428_571_4);
    assert_near(b.norm_target_debiased(0.5), 6.4);
    assert_near(b.inner_product_target(0.5), 0.489_795_918_4);
    assert_near(b.orthogonality_target(1.0), 1.020_408_163_3);
    assert_near(b.augmented_target(0.5, 1.0), 1.020_408_163_3);
    assert_near(b.augmented_target(0.1, 1.0), 12.244_897_959_2);
    assert_near(b.m_coherence(), 2.153_846_153_8);
    assert_near(b.diversity(), 0.464_285_714_3);
    assert_near(b.alpha(), 2.5 / 6.5);
}

#[test]
fn per_rank_values() {
    let b = two_ranks();
    assert_near(b.tr_s(), 1.0);
    assert_near(b.g2(), 3.25);
    assert_near(b.b_simple(), 0.307_692_307_7);
    assert_near(b.norm_target(0.5), 1.142_857_142_9);
    assert_near(b.adascale_gain(2), 1.071_428_571_4);
    assert_near(b.expected_half_cosine(), 3.25 / 3.75);
    assert!((half_batch_cosine(5.25, 2.25, 3.5).unwrap() - 0.945_610_857_7).abs() < 1e-10);
    assert_eq!(half_batch_cosine(0.0, 2.25, 0.5), None);
}

#[test]
fn sums_over_ranks_are_the_block_of_the_set() {
    let rows: [&[f32]; 2] = [&[2.0, 1.0, 0.5], &[1.0, 1.0, 0.5]];
    let cpu = Cpu::<f32>::new();
    let mut sums = ChunkSums::default();
    for row in rows {
        sums.add(2, &cpu.moments(row), 1.0);
    }
    let got = sums.block(&cpu.moments(&[1.5, 1.0, 0.5]));
    let want = two_ranks();
    assert_eq!((got.q, got.n, got.samples, got.chunks, got.loss), (want.q, want.n, 4, 2, 0.5));
    assert_eq!(got.norm_l1, 3.0);
    assert_eq!(got.v_ip(), Err(GradError::NoProjections { statistic: "v_ip" }));
    let with = got.with_projections(want.projections.unwrap());
    assert_eq!(with.v_ip(), want.v_ip());
}

/// Chunk means of samples from N(mean, I) with the given sizes.
fn noisy_chunks(draw: u64, mean: &[f64], sizes: &[u64]) -> Vec<Vec<f64>> {
    let stream = Stream::new(17, Purpose::Noise, draw);
    let mut index = 0..;
    sizes
        .iter()
        .map(|m| {
            mean.iter()
                .zip(index.by_ref())
                .map(|(mu, i)| mu + stream.normal_f64(i) / (*m as f64).sqrt())
                .collect()
        })
        .collect()
}

fn noisy_block(draw: u64, mean: &[f64], sizes: &[u64]) -> ScalarBlock {
    let rows = noisy_chunks(draw, mean, sizes);
    block(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), sizes)
}

/// Over 20,000 draws the standard error of the mean variance is 0.2 %, of the signal 0.06: 1 % and 0.25 are four.
#[test]
fn variance_and_signal_are_unbiased_for_unequal_chunks() {
    let mean = [1.0, -2.0, 0.5, 0.0, 0.0, 3.0, 0.0, 0.0, -1.0, 0.25];
    let true_norm_sq: f64 = mean.iter().map(|x| x * x).sum();
    let draws = 20_000;
    let (mut tr_s, mut g2) = (0.0, 0.0);
    for draw in 0..draws {
        let b = noisy_block(draw, &mean, &[3, 5, 8, 16]);
        tr_s += b.tr_s().unwrap() / draws as f64;
        g2 += b.g2().unwrap() / draws as f64;
    }
    assert!((tr_s - 10.0).abs() < 0.1, "{tr_s}");
    assert!((g2 - true_norm_sq).abs() < 0.05, "{g2}, want {true_norm_sq}");
}

#[test]
fn variance_is_the_sum_of_its_parts_along_and_across() {
    for draw in 0..50 {
        let b = noisy_block(draw, &[0.3, -0.2, 1.0, 0.0], &[3, 1, 8, 2, 2]);
        let parts = b.v_or().unwrap() + b.v_ip().unwrap() / b.n;
        assert!((b.tr_s().unwrap() - parts).abs() < 1e-12 * parts, "draw {draw}");
        assert!((b.projections.unwrap().p1 - b.samples as f64 * b.n).abs() < 1e-12 * b.q, "draw {draw}");
    }
}

/// The norm test over ranks and the noise scale of two batch sizes are one estimate, written in two ways.
#[test]
fn equal_ranks_give_the_noise_scale_estimate() {
    for draw in 0..50 {
        let m = 4_u64;
        let b = noisy_block(draw, &[0.3, -0.2, 1.0], &[m; 6]);
        let (small, big) = (m as f64, b.samples as f64);
        let small_norm_sq = b.q / big;
        let s = (small_norm_sq - b.n) / (1.0 / small - 1.0 / big);
        let g2 = (big * b.n - small * small_norm_sq) / (big - small);
        assert!((b.tr_s().unwrap() - s).abs() < 1e-12 * s, "draw {draw}");
        assert!((b.g2().unwrap() - g2).abs() < 1e-12 * small_norm_sq, "draw {draw}");
    }
}

#[test]
fn the_order_of_ranks_does_not_matter() {
    let rows: [&[f64]; 3] = [&[1.0, 2.0], &[4.0, -1.0], &[0.0, 3.0]];
    let forth = block(&rows, &[1, 2, 5]);
    let back = block(&[rows[2], rows[1], rows[0]], &[5, 2, 1]);
    assert_near(back.tr_s(), forth.tr_s().unwrap());
    assert_near(back.v_ip(), forth.v_ip().unwrap());
}

#[test]
fn coherence_counts_samples_that_agree() {
    let equal = block(&[&[1.0, 2.0], &[1.0, 2.0], &[1.0, 2.0]], &[1; 3]);
    assert_near(equal.m_coherence(), 3.0);
    assert_near(equal.alpha(), 1.0);
    assert_near(equal.expected_half_cosine(), 1.0);
    let orthogonal = block(&[&[1.0, 0.0, 0.0], &[0.0, 1.0, 0.0], &[0.0, 0.0, 1.0]], &[1; 3]);
    assert_near(orthogonal.m_coherence(), 1.0);
    assert_near(orthogonal.alpha(), 0.0);
}

#[test]
fn gain_lies_between_one_step_and_the_scale() {
    let pure_signal = block(&[&[1.0, 2.0], &[1.0, 2.0]], &[4, 4]);
    assert_near(pure_signal.adascale_gain(2), 1.0);
    // mean 0: nothing but noise, so a batch of four times the base is worth four steps
    let pure_noise = block(&[&[1.0, 0.0], &[-1.0, 0.0]], &[4, 4]);
    assert_near(pure_noise.adascale_gain(2), 4.0);
}

#[test]
fn rounding_gives_no_negative_variance() {
    // B N rounds above Q for equal chunks of this length
    let b = ScalarBlock { q: 1.0 - f64::EPSILON, n: 0.5, samples: 2, chunks: 2, ..four_samples() };
    assert_eq!(b.tr_s(), Ok(0.0));
    assert_eq!(b.norm_target(0.1), Ok(0.0));
}

#[test]
fn what_is_not_defined_is_refused() {
    let one = ScalarBlock { chunks: 1, ..four_samples() };
    assert_eq!(one.b_simple(), Err(GradError::TooFewChunks { statistic: "b_simple", got: 1 }));
    assert_eq!(one.v_or(), Err(GradError::TooFewChunks { statistic: "v_or", got: 1 }));
    let bad = ScalarBlock { nonfinite: 2, ..four_samples() };
    assert_eq!(bad.tr_s(), Err(GradError::NonFinite { what: "tr_s", count: 2 }));
    let noise = block(&[&[1.0, 0.0], &[-1.0, 0.0]], &[1, 1]);
    assert_eq!(noise.g2(), Ok(-1.0));
    let undefined = |statistic, quantity, value| Err(GradError::Undefined { statistic, quantity, value });
    assert_eq!(noise.b_simple(), undefined("b_simple", "g2", -1.0));
    assert_eq!(noise.norm_target(0.5), undefined("norm_target", "n", 0.0));
    assert_eq!(noise.diversity(), undefined("diversity", "n", 0.0));
    let zero = block(&[&[0.0], &[0.0]], &[1, 1]);
    assert_eq!(zero.alpha(), undefined("alpha", "g2 + tr_s", 0.0));
    assert_eq!(zero.adascale_gain(1), undefined("adascale_gain", "tr_s / b + g2", 0.0));
}

#[test]
fn sample_counts_must_fit_the_chunks() {
    let gram = Gram::zeros(2);
    let length = GradError::Length { what: "the sample counts", got: 1, need: 2 };
    assert_eq!(ScalarBlock::from_gram(&gram, &[1], 0.0), Err(length));
    assert_eq!(ScalarBlock::from_gram(&gram, &[0, 0], 0.0), Err(GradError::NoSamples { axis: "samples" }));
}

#[test]
fn a_chunk_of_the_set_that_is_not_finite_is_counted() {
    let b = block(&[&[f64::NAN, 1.0], &[1.0, 1.0]], &[1, 1]);
    assert_eq!(b.tr_s(), Err(GradError::NonFinite { what: "tr_s", count: 1 }));
    let moments = Moments { sum_sq: 1.0, sum_abs: 1.0, nonfinite: 0 };
    let mut sums = ChunkSums::default();
    sums.add(1, &moments, 0.0);
    assert_eq!(sums.block(&moments).g2(), Err(GradError::TooFewChunks { statistic: "g2", got: 1 }));
}
