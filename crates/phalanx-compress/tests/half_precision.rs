//! 16-bit gradients against sums in single precision, on 1 to 3 ranks.

use half::{bf16, f16};
use phalanx_comm::{CommError, Options, WorldSize, run_ranks};
use phalanx_compress::{BucketLayout, CompressionConfig};
use proptest::prelude::*;

/// What every rank has after one step, and the bytes that it sent.
fn reduced(config: CompressionConfig, ranks: &[Vec<Vec<f32>>]) -> Vec<(Vec<Vec<f32>>, u64)> {
    let ranks = ranks.to_vec();
    run_ranks(WorldSize(ranks.len()), &Options::default(), move |comm| {
        let mut hook = config.build().expect("good settings").expect("a compressor");
        let own = &ranks[comm.rank().index()];
        let layout: Vec<_> =
            own.iter().map(|bucket| BucketLayout { len: bucket.len(), matrices: Vec::new() }).collect();
        hook.prepare(&comm, &layout)?;
        let mut parts = Vec::new();
        // twice: what the first step leaves behind must not reach the second
        for step in 1..=2 {
            parts.clear();
            for (at, bucket) in own.iter().enumerate() {
                let mut part = comm.alloc(bucket.len())?;
                part.copy_from_slice(bucket);
                hook.start(step, at, part)?;
                parts.push(comm.alloc(0)?);
            }
            hook.finish(&mut parts)?;
        }
        Ok::<_, CommError>((parts.iter().map(|part| part.to_vec()).collect(), hook.sent_bytes()))
    })
    .expect("no rank fails")
}

fn buckets(ranks: usize) -> impl Strategy<Value = Vec<Vec<Vec<f32>>>> {
    proptest::collection::vec(0..90_usize, 1..4).prop_flat_map(move |lens| {
        let rank = lens.into_iter().map(|len| proptest::collection::vec(-100.0..100.0_f32, len));
        proptest::collection::vec(rank.collect::<Vec<_>>(), ranks)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each part is rounded once and their sum once: `u (sum |g_r| + |sum|)`, and a little for the second order.
    #[test]
    fn sums_differ_by_rounding_and_ranks_do_not(
        ranks in (1..4_usize).prop_flat_map(buckets),
        is_brain in any::<bool>(),
    ) {
        let (config, unit) = match is_brain {
            true => (CompressionConfig::Bf16, f32::from(bf16::EPSILON) / 2.0),
            false => (CompressionConfig::Fp16, f32::from(f16::EPSILON) / 2.0),
        };
        let outcomes = reduced(config, &ranks);
        for (whole, _) in &outcomes {
            prop_assert_eq!(whole, &outcomes[0].0);
        }
        for (b, bucket) in outcomes[0].0.iter().enumerate() {
            for (i, got) in bucket.iter().enumerate() {
                let sum: f32 = ranks.iter().map(|rank| rank[b][i]).sum();
                let size: f32 = ranks.iter().map(|rank| rank[b][i].abs()).sum();
                prop_assert!((got - sum).abs() <= 1.02 * unit * (size + sum.abs()) + 1e-7, "{got} for {sum}");
            }
        }
    }
}

#[test]
fn numbers_of_16_bits_are_added_exactly_and_half_the_bytes_travel() {
    for (config, large) in [(CompressionConfig::Fp16, 2048.0), (CompressionConfig::Bf16, 256.0)] {
        // the largest whole number before which all are there; one more on another rank must not be lost on the way
        let ranks = [vec![vec![large, -1.5, 3.0]], vec![vec![1.0, 0.25, 5.0]], vec![vec![1.0, 1.0, -8.0]]];
        let outcomes = reduced(config, &ranks);
        assert_eq!(outcomes[0], (vec![vec![large + 2.0, -0.25, 0.0]], 8), "{config:?}");
        assert_eq!(outcomes[2], outcomes[0]);
    }
}

#[test]
fn ties_go_to_even() {
    let half = [2049.0, 2051.0, 1.0 + f32::from(f16::EPSILON) / 2.0];
    assert_eq!(reduced(CompressionConfig::Fp16, &[vec![half.to_vec()]])[0].0, [[2048.0, 2052.0, 1.0]]);
    let brain = [257.0, 259.0, 1.0 + f32::from(bf16::EPSILON) / 2.0];
    assert_eq!(reduced(CompressionConfig::Bf16, &[vec![brain.to_vec()]])[0].0, [[256.0, 260.0, 1.0]]);
}

#[test]
fn what_leaves_the_range_is_infinite_on_every_rank() {
    let ranks = [vec![vec![1e5, 40_000.0, f32::NAN]], vec![vec![1.0, 40_000.0, 1.0]]];
    for (whole, _) in reduced(CompressionConfig::Fp16, &ranks) {
        assert_eq!(whole[0][..2], [f32::INFINITY; 2]);
        assert!(whole[0][2].is_nan());
    }
    let whole = &reduced(CompressionConfig::Bf16, &ranks)[1].0;
    assert!(whole[0][..2].iter().all(|x| x.is_finite()) && whole[0][2].is_nan());
}
