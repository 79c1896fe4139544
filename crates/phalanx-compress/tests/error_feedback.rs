//! Top-k and PowerSGD: nothing is lost over many steps, ranks agree bit by bit, and what is saved goes on alike.

use phalanx_comm::{CommError, Communicator, Options, WorldSize, run_ranks};
use phalanx_compress::{BucketLayout, CompressError, CompressionConfig, Compressor, Matrix};
use phalanx_grad::StateTensor;
use proptest::prelude::*;
use std::sync::Arc;

const SHARE: CompressionConfig = CompressionConfig::TopK { fraction: 0.2, start_step: 0 };
const ALL: CompressionConfig = CompressionConfig::TopK { fraction: 1.0, start_step: 0 };

fn power(rank: usize) -> CompressionConfig {
    CompressionConfig::PowerSgd { rank, start_step: 0, seed: 11 }
}

/// Two buckets: a vector, a 9 by 7 matrix, a vector; then a 5 by 12 matrix alone.
fn layout() -> Vec<BucketLayout> {
    let first = Matrix { offset: 2, rows: 9, cols: 7 };
    let second = Matrix { offset: 0, rows: 5, cols: 12 };
    vec![
        BucketLayout { len: 2 + 63 + 3, matrices: vec![first] },
        BucketLayout { len: 60, matrices: vec![second] },
    ]
}

const LEN: usize = 68 + 60;

/// The gradient of `rank` at `step`: small whole numbers.
fn gradient(rank: usize, step: u64) -> Vec<f32> {
    let number = |i: usize| (i * 37 + rank * 101 + step as usize * 53 + i * i % 17) % 41;
    (0..LEN).map(|i| number(i) as f32 - 20.0).collect()
}

fn step(
    hook: &mut dyn Compressor,
    comm: &dyn Communicator,
    step: u64,
    own: &[f32],
) -> Result<Vec<f32>, CommError> {
    let mut parts = Vec::new();
    let mut rest = own;
    for (at, bucket) in layout().iter().enumerate() {
        let (now, later) = rest.split_at(bucket.len);
        let mut part = comm.alloc(now.len())?;
        part.copy_from_slice(now);
        hook.start(step, at, part)?;
        parts.push(comm.alloc(0)?);
        rest = later;
    }
    hook.finish(&mut parts)?;
    Ok(parts.iter().flat_map(|part| part.iter().copied()).collect())
}

fn prepared(
    config: CompressionConfig,
    comm: &Arc<dyn Communicator>,
) -> Result<Box<dyn Compressor>, CommError> {
    let mut hook = config.build().expect("good settings").expect("a compressor");
    hook.prepare(comm, &layout())?;
    Ok(hook)
}

/// One of several ranks after some steps.
#[derive(Clone, Debug, PartialEq)]
struct After {
    /// What each step applied.
    applied: Vec<Vec<f32>>,
    owed: Vec<f32>,
    sent_bytes: u64,
}

fn after(config: CompressionConfig, ranks: usize, steps: u64) -> Vec<After> {
    run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
        let mut hook = prepared(config, &comm)?;
        let rank = comm.rank().index();
        let applied = (1..=steps)
            .map(|at| step(&mut *hook, &*comm, at, &gradient(rank, at)))
            .collect::<Result<_, _>>()?;
        Ok::<_, CommError>(After { applied, owed: hook.memory().to_vec(), sent_bytes: hook.sent_bytes() })
    })
    .expect("no rank fails")
}

fn sum(of: impl Iterator<Item = Vec<f32>>) -> Vec<f32> {
    of.fold(vec![0.0; LEN], |sum, next| sum.iter().zip(next).map(|(a, b)| a + b).collect())
}

/// What was applied and what all still owe, and the sum of all gradients.
fn balance(ranks: &[After], steps: u64) -> (Vec<f32>, Vec<f32>) {
    let owed = ranks.iter().map(|rank| rank.owed.clone());
    let applied = sum(ranks[0].applied.iter().cloned().chain(owed));
    let given = sum((0..ranks.len()).flat_map(|rank| (1..=steps).map(move |step| gradient(rank, step))));
    (applied, given)
}

#[test]
fn ranks_agree_bit_by_bit() {
    for config in [SHARE, ALL, power(1), power(3)] {
        for ranks in [2, 3] {
            let ranks = after(config, ranks, 4);
            assert!(ranks.iter().all(|rank| rank.applied == ranks[0].applied), "{config:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whole numbers are added without rounding, so that not a bit is missing.
    #[test]
    fn top_k_loses_nothing_but_time(fraction in 0.001..1.0_f64, ranks in 1..4_usize, steps in 1..9_u64) {
        let config = CompressionConfig::TopK { fraction, start_step: 0 };
        let (applied, given) = balance(&after(config, ranks, steps), steps);
        prop_assert_eq!(applied, given);
    }

    #[test]
    fn power_sgd_loses_nothing_but_time(rank in 1..6_usize, ranks in 1..4_usize, steps in 1..9_u64) {
        let (applied, given) = balance(&after(power(rank), ranks, steps), steps);
        for (applied, given) in applied.iter().zip(&given) {
            // memories grow to a few hundred; 2^-24 of that, some hundred times
            prop_assert!((applied - given).abs() < 1e-2, "{applied} for {given}");
        }
    }
}

#[test]
fn all_of_top_k_is_the_sum() {
    for ranks in 1..4 {
        let whole = after(ALL, ranks, 2);
        assert_eq!(whole[0].applied[1], sum((0..ranks).map(|rank| gradient(rank, 2))));
        assert!(whole.iter().all(|rank| rank.owed.iter().all(|owed| *owed == 0.0)));
    }
}

#[test]
fn a_share_sends_its_elements_and_applies_no_more_than_all_ranks_chose() {
    let ranks = after(SHARE, 3, 1);
    // a fifth of 68 and of 60, rounded up, at 8 bytes
    assert_eq!(ranks[0].sent_bytes, 8 * (14 + 12));
    let applied = ranks[0].applied[0].iter().filter(|x| **x != 0.0).count();
    assert!((20..=3 * 26).contains(&applied), "{applied}");
}

/// A sum of `rank` outer products, shared over ranks; the rest of the gradient as `gradient` has it.
fn of_rank(rank: usize, shared: f32) -> Vec<f32> {
    let mut flat = gradient(0, 1);
    for (at, n, m) in [(2, 9, 7), (68, 5, 12)] {
        for i in 0..n * m {
            let (row, col) = ((i / m) as f32, (i % m) as f32);
            let term =
                |k: usize| ((row + 1.0) * (k as f32 + 1.3)).sin() * ((col + 2.0) * (k as f32 + 0.7)).cos();
            flat[at + i] = shared * (0..rank).map(term).sum::<f32>();
        }
    }
    flat
}

/// Small ones too: nothing in it may depend on the scale.
#[test]
fn power_sgd_gives_a_matrix_of_its_rank_back_whole() {
    for (rank, scale) in [(1, 1.0), (2, 1.0), (3, 1.0), (2, 1e-9), (2, 1e9)] {
        let applied = run_ranks(WorldSize(2), &Options::default(), move |comm| {
            let mut hook = prepared(power(rank), &comm)?;
            // two thirds of it on one rank, a third on the other
            let own = of_rank(rank, scale * if comm.rank().index() == 0 { 2.0 } else { 1.0 } / 3.0);
            step(&mut *hook, &*comm, 1, &own)
        });
        let (got, need) = (applied.expect("no rank fails").swap_remove(0), of_rank(rank, scale));
        for at in (2..65).chain(68..LEN) {
            assert!((got[at] - need[at]).abs() < 1e-4 * scale, "rank {rank}: {} for {}", got[at], need[at]);
        }
        // vectors travel as they are
        assert_eq!(got[..2], [2.0 * need[0], 2.0 * need[1]]);
        assert_eq!(got[67], 2.0 * need[67]);
    }
}

#[test]
fn power_sgd_comes_closer_as_it_warms_up() {
    let distance = |steps: u64| {
        let applied = run_ranks(WorldSize(2), &Options::default(), move |comm| {
            let mut hook = prepared(power(1), &comm)?;
            let own = of_rank(4, 0.5);
            let mut last = Vec::new();
            for at in 1..=steps {
                hook.memory_mut().fill(0.0);
                last = step(&mut *hook, &*comm, at, &own)?;
            }
            Ok::<_, CommError>(last)
        });
        let (got, need) = (applied.expect("no rank fails").swap_remove(0), of_rank(4, 1.0));
        (68..LEN).map(|at| (got[at] - need[at]).powi(2)).sum::<f32>()
    };
    let (cold, warm) = (distance(1), distance(12));
    assert!(warm < 0.9 * cold, "{warm} after {cold}");
}

#[test]
fn power_sgd_sends_its_factors_and_what_it_leaves_alone() {
    // rank 1: 9 + 7 and 5 + 12, and the 5 elements of vectors; rank 4 makes the second matrix no smaller
    assert_eq!(after(power(1), 2, 1)[0].sent_bytes, 4 * (16 + 17 + 5));
    assert_eq!(after(power(4), 2, 1)[0].sent_bytes, 4 * (63 + 60 + 5));
    assert_eq!(after(power(4), 2, 1)[0].applied[0], sum([gradient(0, 1), gradient(1, 1)].into_iter()));
}

#[test]
fn a_gradient_of_zeros_is_zeros_and_the_next_one_is_whole_again() {
    let applied = run_ranks(WorldSize(2), &Options::default(), |comm| {
        let mut hook = prepared(power(2), &comm)?;
        let nothing = step(&mut *hook, &*comm, 1, &[0.0; LEN])?;
        Ok::<_, CommError>((nothing, step(&mut *hook, &*comm, 2, &of_rank(2, 0.5))?))
    });
    let (nothing, whole) = applied.expect("no rank fails").swap_remove(1);
    assert_eq!(nothing, [0.0; LEN]);
    assert!((whole[70] - of_rank(2, 1.0)[70]).abs() < 1e-4);
}

#[test]
fn numbers_that_are_not_finite_reach_all_ranks_and_are_forgotten() {
    for config in [SHARE, power(1)] {
        let seen = run_ranks(WorldSize(3), &Options::default(), move |comm| {
            let mut hook = prepared(config, &comm)?;
            let mut own = gradient(comm.rank().index(), 1);
            if comm.rank().index() == 1 {
                own[30] = f32::NAN;
            }
            let poisoned = step(&mut *hook, &*comm, 1, &own)?;
            hook.forget();
            let next = step(&mut *hook, &*comm, 2, &gradient(comm.rank().index(), 2))?;
            Ok::<_, CommError>(poisoned[30].is_nan() && next.iter().all(|x| x.is_finite()))
        });
        assert_eq!(seen.expect("no rank fails"), [true; 3], "{config:?}");
    }
}

#[test]
fn what_is_saved_goes_on_to_the_same_bits() {
    type Saved = (Vec<f32>, Vec<StateTensor>);
    for config in [SHARE, power(2)] {
        let steps = |from: u64, to: u64, saved: Option<Vec<Saved>>| {
            run_ranks(WorldSize(2), &Options::default(), move |comm| {
                let mut hook = prepared(config, &comm)?;
                let rank = comm.rank().index();
                if let Some(saved) = &saved {
                    hook.memory_mut().copy_from_slice(&saved[rank].0);
                    hook.restore(&saved[rank].1).expect("the same buckets");
                }
                let mut last = Vec::new();
                for at in from..=to {
                    last = step(&mut *hook, &*comm, at, &gradient(rank, at))?;
                }
                Ok::<_, CommError>((last, (hook.memory().to_vec(), hook.state())))
            })
            .expect("no rank fails")
        };
        let whole = steps(1, 6, None);
        let first: Vec<Saved> = steps(1, 3, None).into_iter().map(|(_, saved)| saved).collect();
        assert_eq!(steps(4, 6, Some(first)), whole, "{config:?}");
    }
}

#[test]
fn what_is_foretold_is_what_is_sent() {
    for config in [SHARE, power(1), power(4), CompressionConfig::Fp16] {
        let hook = config.build().expect("good settings").expect("a compressor");
        let foretold: u64 = layout().iter().map(|bucket| hook.traffic(bucket).bytes()).sum();
        assert_eq!(after(config, 2, 1)[0].sent_bytes, foretold, "{config:?}");
    }
}

#[test]
fn the_first_steps_travel_in_full() {
    for delayed in [
        CompressionConfig::TopK { fraction: 0.01, start_step: 2 },
        CompressionConfig::PowerSgd { rank: 1, start_step: 2, seed: 0 },
    ] {
        let ranks = after(delayed, 2, 3);
        let need = |step| sum([gradient(0, step), gradient(1, step)].into_iter());
        assert_eq!(ranks[0].applied[..2], [need(1), need(2)]);
        assert_ne!(ranks[0].applied[2], need(3));
        assert_eq!(after(delayed, 2, 2)[1].sent_bytes, 4 * LEN as u64);
        assert!(ranks[0].sent_bytes < 2 * LEN as u64);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for fraction in [0.0, -1.0, 1.5, f64::NAN] {
        let error = CompressionConfig::TopK { fraction, start_step: 0 }.build().expect_err("no share");
        let message = format!("compression.fraction is {fraction}, need above 0 and at most 1");
        assert_eq!(error.to_string(), message);
    }
    let error = power(0).build().expect_err("no columns");
    assert_eq!(error.to_string(), "compression.rank is 0, need at least 1");
}

#[test]
fn the_state_of_other_buckets_is_refused() {
    let refused = run_ranks(WorldSize(1), &Options::default(), |comm| {
        let mut hook = prepared(power(1), &comm)?;
        Ok::<_, CommError>(hook.restore(&[StateTensor::new("q", &[0.0_f32; 7])]))
    });
    let need = Err(CompressError::State { what: "start of Q", got: 7, need: 7 + 12 });
    assert_eq!(refused.expect("no rank fails"), [need]);
}
