//! Each family of instructions, as NVRTC emits it, against the arithmetic of Rust.

#![allow(clippy::unwrap_used, reason = "only tests call what is here")]
#![allow(clippy::cast_sign_loss, reason = "saturates, as what it is compared with does")]

mod support;

use half::{bf16, f16};
use proptest::prelude::any;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::{Gpu, Param, SUCCESS};

const FAMILIES: &str = include_str!("ptx/families.ptx");

/// The values of a strategy, always the same ones.
fn drawn<S: Strategy>(strategy: S, count: usize) -> Vec<S::Value> {
    let always_the_same = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), always_the_same);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Runs a kernel of inputs of `T` and `count` results an element, and gives the results of each element.
fn results<T: Copy, R: Copy + Default>(name: &str, inputs: &[&[T]], count: usize) -> Vec<Vec<R>> {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, name);
    let n = inputs[0].len();
    let out = gpu.upload(&vec![R::default(); n * count]);
    let mut params: Vec<Param> = inputs.iter().map(|input| Param::Long(gpu.upload(input))).collect();
    params.extend([Param::Long(out), Param::Word(u32::try_from(n).unwrap())]);
    let blocks = u32::try_from(n.div_ceil(64)).unwrap();
    assert_eq!(gpu.run(kernel, blocks, 64, &params), SUCCESS, "{}", gpu.fault());
    let all: Vec<R> = gpu.download(out, n * count);
    (0..n).map(|i| (0..count).map(|k| all[k * n + i]).collect()).collect()
}

#[test]
fn words() {
    let pairs = drawn((any::<u32>(), any::<u32>()), 300);
    let (mut a, mut b): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
    a[..6].copy_from_slice(&[0, 1, u32::MAX, 1 << 31, 1 << 31, 7]);
    b[..6].copy_from_slice(&[0, u32::MAX, u32::MAX, u32::MAX, 1, 33]);
    let got = results::<u32, u32>("words", &[&a, &b], 38);
    for (i, got) in got.iter().enumerate() {
        let (a, b) = (a[i], b[i]);
        let (x, y) = (a.cast_signed(), b.cast_signed());
        let wide = u64::from(b) << 32 | u64::from(a);
        let bytes = |word: u32| word.to_le_bytes();
        let permuted = u32::from_le_bytes([bytes(a)[0], bytes(b)[0], bytes(a)[1], bytes(b)[1]]);
        let signed_dot = (0..4).fold(5_i32, |sum, j| {
            sum + i32::from(bytes(a)[j].cast_signed()) * i32::from(bytes(b)[j].cast_signed())
        });
        let dot = (0..4).fold(5_u32, |sum, j| sum + u32::from(bytes(a)[j]) * u32::from(bytes(b)[j]));
        let third = a.wrapping_add(b);
        let expected = [
            third,
            a.wrapping_sub(b),
            a.wrapping_mul(b),
            ((u64::from(a) * u64::from(b)) >> 32) as u32,
            ((i64::from(x) * i64::from(y)) >> 32).cast_unsigned() as u32,
            a / (b | 1),
            a % (b | 1),
            x.wrapping_div(y | 1).cast_unsigned(),
            x.wrapping_rem(y | 1).cast_unsigned(),
            a.min(b),
            a.max(b),
            x.min(y).cast_unsigned(),
            x.max(y).cast_unsigned(),
            x.wrapping_abs().cast_unsigned(),
            a << (b & 31),
            a >> (b & 31),
            (x >> (b & 31)).cast_unsigned(),
            a & b,
            a | b,
            a ^ !b,
            a.count_ones(),
            a.leading_zeros(),
            a.reverse_bits(),
            if a == 0 { 0 } else { a.trailing_zeros() + 1 },
            permuted,
            (wide << (b & 31) >> 32) as u32,
            (wide >> (b & 31)) as u32,
            (wide >> (b & 63).min(32)) as u32,
            a.abs_diff(b).wrapping_add(7),
            signed_dot.cast_unsigned(),
            dot,
            (third & 0xffff) * 3,
            (i32::from((a as u16).cast_signed()) >> 3).cast_unsigned(),
            a >> 5 & 0x7ff,
            (x << 16 >> 21).cast_unsigned(),
            b & !(0x1ff << 7) | (a & 0x1ff) << 7,
            a & b | a & third | b & third,
            u32::from(a.checked_add(b).is_none()),
        ];
        assert_eq!(got[..], expected, "{a:#x} {b:#x}");
    }
}

#[test]
fn longs() {
    let pairs = drawn((any::<u64>(), any::<u64>()), 200);
    let (mut a, mut b): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
    a[..3].copy_from_slice(&[0, 1 << 63, 5]);
    b[..3].copy_from_slice(&[u64::MAX, u64::MAX, 64]);
    let got = results::<u64, u64>("longs", &[&a, &b], 23);
    for (i, got) in got.iter().enumerate() {
        let (a, b) = (a[i], b[i]);
        let (x, y) = (a.cast_signed(), b.cast_signed());
        let expected = [
            a.wrapping_add(b),
            a.wrapping_sub(b),
            a.wrapping_mul(b),
            ((u128::from(a) * u128::from(b)) >> 64) as u64,
            ((i128::from(x) * i128::from(y)) >> 64).cast_unsigned() as u64,
            a / (b | 1),
            a % (b | 1),
            x.wrapping_div(y | 1).cast_unsigned(),
            x.wrapping_rem(y | 1).cast_unsigned(),
            a.min(b),
            x.max(y).cast_unsigned(),
            x.wrapping_abs().cast_unsigned(),
            a << (b & 63),
            a >> (b & 63),
            (x >> (b & 63)).cast_unsigned(),
            a & !b,
            a.count_ones().into(),
            a.leading_zeros().into(),
            a.reverse_bits(),
            u64::from(a as u32) * u64::from(b as u32),
            (i64::from((a as u32).cast_signed()) * i64::from((b as u32).cast_signed())).cast_unsigned(),
            if a > b { a } else { !b },
            if x < y { 1 } else { 2 },
        ];
        assert_eq!(got[..], expected, "{a:#x} {b:#x}");
    }
}

/// Numbers of all sizes, halves, and what is not finite.
fn floats(count: usize) -> Vec<f32> {
    let mut numbers = drawn(proptest::num::f32::NORMAL | proptest::num::f32::ZERO, count);
    for (i, number) in numbers.iter_mut().enumerate() {
        match i % 3 {
            0 => *number = (i as f32 - 40.0) * 0.5,
            1 => *number %= 1000.0,
            _ => {}
        }
    }
    let special = [f32::NAN, f32::INFINITY, -f32::INFINITY, 0.0, -0.0, 1e-40, f32::MAX, 2.5, -2.5, 3e9];
    numbers[..special.len()].copy_from_slice(&special);
    numbers
}

#[test]
fn singles_are_exact() {
    let (a, c) = (floats(300), floats(300));
    let b: Vec<f32> = c.iter().rev().map(|x| x * 0.75).collect();
    let got = results::<f32, u32>("singles", &[&a, &b, &c], 26);
    for (i, got) in got.iter().enumerate() {
        let (a, b, c) = (a[i], b[i], c[i]);
        let bits = a.to_bits();
        let expected = [
            a + b,
            a - b,
            a * b,
            a / b,
            a.mul_add(b, c),
            a.abs().sqrt(),
            1.0 / a,
            if a.is_nan() || b < a { b } else { a },
            if a.is_nan() || b > a { b } else { a },
            -a,
            a.copysign(b),
            a.round_ties_even(),
            a.floor(),
            a.ceil(),
            a.trunc(),
            if a.is_nan() { 0.0 } else { a.clamp(0.0, 1.0) },
            if a < b { c } else { a },
            if a.is_nan() { 1.0 } else { 2.0 },
            if a >= b && b <= c { 1.0 } else { 0.0 },
            f32::from_bits((a.round_ties_even() as i32).cast_unsigned()),
            f32::from_bits((a as i32).cast_unsigned()),
            f32::from_bits(a.floor() as u32),
            f32::from_bits((a.ceil() as i32).cast_unsigned()),
            bits.cast_signed() as f32,
            bits as f32,
            a,
        ];
        for (k, (&got, expected)) in got.iter().zip(expected).enumerate() {
            let got = f32::from_bits(got);
            let same = got.to_bits() == expected.to_bits()
                || (got.is_nan() && expected.is_nan())
                || (got == 0.0 && expected == 0.0);
            assert!(same, "result {k} of {a} {b} {c}: {got} for {expected}");
        }
    }
}

#[test]
fn approximations_are_near() {
    let a: Vec<f32> = (0..200_u16).map(|i| (f32::from(i) - 99.5) * 0.1).collect();
    let got = results::<f32, f32>("approximations", &[&a], 13);
    for (got, a) in got.iter().zip(&a) {
        let x = f64::from(*a);
        let erf = 2.0 / std::f64::consts::PI.sqrt()
            * (0..200)
                .map(|i| {
                    let t = x * (f64::from(i) + 0.5) / 200.0;
                    (-t * t).exp() * x / 200.0
                })
                .sum::<f64>();
        let expected = [
            x.exp(),
            x.abs().ln(),
            x.tanh(),
            1.0 / x.abs().sqrt(),
            x.exp(),
            x.abs().ln(),
            x.sin(),
            x.cos(),
            x.sin(),
            x.abs().powf(1.5),
            1.0 / x,
            erf,
            x.abs().ln_1p(),
        ];
        for (k, (&got, expected)) in got.iter().zip(expected).enumerate() {
            let off = (f64::from(got) - expected).abs();
            assert!(off <= 2e-5 * expected.abs().max(0.1), "result {k} of {x}: {got} for {expected}");
        }
    }
}

#[test]
fn doubles_are_exact() {
    let pairs = drawn((proptest::num::f64::NORMAL, proptest::num::f64::NORMAL), 200);
    let (mut a, mut b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    for (i, (a, b)) in a.iter_mut().zip(&mut b).enumerate().filter(|(i, _)| i % 4 > 0) {
        (*a, *b) = (*a % 1e6 + i as f64 * 0.5 - 50.0, *b % 1e3);
    }
    a[0] = 0.1;
    let got = results::<f64, f64>("doubles", &[&a, &b], 16);
    for (i, got) in got.iter().enumerate() {
        let (a, b) = (a[i], b[i]);
        let expected = [
            a + b,
            a - b,
            a * b,
            a / b,
            a.mul_add(b, 1.0),
            a.abs().sqrt(),
            a.min(b),
            a.max(b),
            a.round_ties_even(),
            a.floor(),
            (a as i64) as f64,
            f64::from(a as f32),
            f64::from(a as i32),
            a.to_bits().cast_signed() as f64,
        ];
        for (k, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert_eq!(got.to_bits(), expected.to_bits(), "result {k} of {a} {b}: {got} for {expected}");
        }
        let near = |got: f64, expected: f64| {
            got == expected || (got - expected).abs() <= 1e-14 * expected.abs().max(1.0)
        };
        assert!(
            near(got[14], (a * 0.01).exp()) || (a * 0.01).abs() > 700.0,
            "{} for exp of {}",
            got[14],
            a * 0.01
        );
        assert!(near(got[15], a.abs().ln()), "{} for ln of {a}", got[15]);
    }
}

#[test]
fn halves_are_rounded_as_they_say() {
    let a: Vec<f32> = (0..400_u16).map(|i| (f32::from(i) - 199.3).powi(3) * 0.001_37).collect();
    let b: Vec<f32> = a.iter().rev().map(|x| x * 0.31 + 0.001).collect();
    let got = results::<f32, u32>("halves", &[&a, &b], 18);
    for (i, got) in got.iter().enumerate() {
        let (a, b) = (a[i], b[i]);
        let (ha, hb, ba, bb) = (f16::from_f32(a), f16::from_f32(b), bf16::from_f32(a), bf16::from_f32(b));
        let word = |h: f16| u32::from(h.to_bits());
        let brain = |h: bf16| u32::from(h.to_bits());
        // the two neighbours of the value
        let below = if ha.to_f32() <= a {
            ha
        } else {
            f16::from_bits(if a > 0.0 { ha.to_bits() - 1 } else { ha.to_bits() + 1 })
        };
        let above = if ha.to_f32() >= a {
            ha
        } else {
            f16::from_bits(if a > 0.0 { ha.to_bits() + 1 } else { ha.to_bits() - 1 })
        };
        let fused = |a: f16, b: f16, c: f16| f16::from_f64(a.to_f64() * b.to_f64() + c.to_f64());
        let fused_brain = |a: bf16, b: bf16, c: bf16| bf16::from_f64(a.to_f64() * b.to_f64() + c.to_f64());
        let (double, other) = (f16::from_f32(ha.to_f32() * 2.0), f16::from_f32(hb.to_f32() * 2.0));
        let larger = |x: bf16| {
            let square = bf16::from_f32(x.to_f32() * x.to_f32());
            if square > x { square } else { x }
        };
        let expected = [
            word(ha),
            brain(ba),
            word(if a > 0.0 { below } else { above }),
            a.to_bits() >> 16,
            word(above),
            word(below),
            ha.to_f32().to_bits(),
            ba.to_f32().to_bits(),
            word(f16::from_f32(ha.to_f32() + hb.to_f32())),
            word(f16::from_f32(ha.to_f32() * hb.to_f32())),
            word(fused(ha, hb, ha)),
            brain(bf16::from_f32(ba.to_f32() + bb.to_f32())),
            brain(bf16::from_f32(ba.to_f32() * bb.to_f32())),
            brain(fused_brain(ba, bb, ba)),
            u32::from(ha < hb),
            u32::from(ba >= bb),
            word(fused(ha, ha, double)) | word(fused(hb, hb, other)) << 16,
            brain(larger(ba)) | brain(larger(bb)) << 16,
        ];
        assert_eq!(got[..], expected, "{a} {b}");
    }
}

#[test]
fn lanes_of_a_warp_work_together() {
    let a: Vec<u32> = (0..64).map(|i| (i * 37 + 11) % 101).collect();
    let got = results::<u32, u32>("warps", &[&a], 20);
    for (i, got) in got.iter().enumerate() {
        let (lane, warp) = (i % 32, &a[i / 32 * 32..][..32]);
        let ballot =
            |f: &dyn Fn(u32) -> bool| (0..32).filter(|&j| f(warp[j])).fold(0, |mask, j| mask | 1 << j);
        let half = &warp[lane & 16..][..16];
        let other = warp[lane ^ 1] + (i as u32 ^ 1);
        let expected = [
            warp[(lane + 5) % 32],
            if lane >= 3 { warp[lane - 3] } else { warp[lane] },
            if lane + 7 < 32 { warp[lane + 7] } else { warp[lane] },
            warp[lane ^ 9],
            warp[lane / 8 * 8 + (lane + 3) % 8],
            if lane % 16 + 2 < 16 { warp[lane + 2] } else { warp[lane] },
            if lane % 4 >= 1 { warp[lane - 1] } else { warp[lane] },
            ballot(&|x| x & 1 == 1),
            u32::from(warp.contains(&3)),
            1,
            ballot(&|x| x & 3 == warp[lane] & 3),
            u32::MAX,
            1,
            warp.iter().sum(),
            *warp.iter().min().unwrap(),
            *warp.iter().max().unwrap(),
            warp.iter().fold(0, |all, x| all ^ x),
            half.iter().sum::<u32>() + u32::from(lane >= 16),
            if lane < 7 { 0x7f } else { 0 },
            other,
        ];
        // `any` and `match_all` give whether, not how
        let mut got = got.clone();
        got[8] = u32::from(got[8] != 0);
        got[12] = u32::from(got[12] != 0);
        assert_eq!(got[..], expected, "thread {i}");
    }
}

#[test]
fn atomics_see_every_thread() {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "atomics");
    let n = 256_u32;
    let mut start = [0_u32; 16];
    start[4] = u32::MAX;
    start[8] = 5;
    let words = gpu.upload(&start);
    let (single, double, wide, pair) =
        (gpu.upload(&[0.0_f32]), gpu.upload(&[0.0_f64]), gpu.upload(&[0_u64]), gpu.upload(&[0_u32]));
    let order = gpu.upload(&vec![0_u32; n as usize]);
    let params = [words, single, double, wide, pair, order].map(Param::Long);
    assert_eq!(gpu.run(kernel, 4, 64, &params), SUCCESS, "{}", gpu.fault());
    let sum = |range: std::ops::Range<u32>| range.sum::<u32>();
    let got: Vec<u32> = gpu.download(words, 16);
    let dec = (0..n).fold(5, |old, _| if old == 0 || old > 9 { 9 } else { old - 1 });
    let expected = [
        sum(0..n),
        n.wrapping_neg(),
        (n - 1).wrapping_neg(),
        n - 1,
        0,
        u32::MAX,
        (0..n).fold(0, |x, i| x ^ i),
        n % 10,
        dec,
        2 * n,
        n,
        sum(0..64),
        sum(64..128),
        sum(128..192),
        sum(192..256),
        0,
    ];
    assert_eq!(got, expected);
    assert_eq!(gpu.download::<f32>(single, 1), [128.0]);
    assert_eq!(gpu.download::<f64>(double, 1), [64.0]);
    assert_eq!(gpu.download::<u64>(wide, 1), [u64::from(n) << 33]);
    let pair = gpu.download::<u32>(pair, 1)[0];
    assert_eq!(
        (f16::from_bits(pair as u16).to_f32(), f16::from_bits((pair >> 16) as u16).to_f32()),
        (256.0, 512.0)
    );
    let mut order: Vec<u32> = gpu.download(order, n as usize);
    order.sort_unstable();
    assert!(order.into_iter().eq(0..n));
}

#[test]
fn blocks_add_up_and_the_last_one_finishes() {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "sum");
    let a: Vec<f32> = (0..5000_u16).map(|i| f32::from(i % 17)).collect();
    let (input, partial, done, out) =
        (gpu.upload(&a), gpu.allocate(4 * 6), gpu.upload(&[0_u32]), gpu.allocate(4));
    let params =
        [Param::Long(input), Param::Long(partial), Param::Long(done), Param::Long(out), Param::Word(5000)];
    assert_eq!(gpu.run(kernel, 6, 128, &params), SUCCESS, "{}", gpu.fault());
    assert_eq!(gpu.download::<f32>(out, 1), [a.iter().sum::<f32>()]);
}

#[test]
fn barriers_count_and_vote() {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "barriers");
    let a: Vec<u32> = (0..96).collect();
    let (input, out) = (gpu.upload(&a), gpu.upload(&[9_u32; 3 * 96]));
    assert_eq!(gpu.run(kernel, 1, 96, &[Param::Long(input), Param::Long(out)]), SUCCESS, "{}", gpu.fault());
    let got: Vec<u32> = gpu.download(out, 3 * 96);
    assert!(got[..96].iter().all(|&count| count == 48));
    assert!(got[96..].iter().all(|&holds| holds != 0));
}

#[test]
fn lanes_go_different_ways() {
    let a: Vec<u32> = (1..200).collect();
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "ways");
    let n = a.len();
    let (input, out) = (gpu.upload(&a), gpu.upload(&vec![777_u32; 2 * n]));
    let params = [Param::Long(input), Param::Long(out), Param::Word(u32::try_from(n).unwrap())];
    assert_eq!(gpu.run(kernel, 4, 64, &params), SUCCESS, "{}", gpu.fault());
    let got: Vec<u32> = gpu.download(out, 2 * n);
    for (i, &start) in a.iter().enumerate() {
        let (mut x, mut steps) = (start, 0);
        while x != 1 && steps < 1000 {
            x = if x & 1 == 1 { 3 * x + 1 } else { x / 2 };
            steps += 1;
        }
        let way = match start % 7 {
            0 => Some(11),
            1 => Some(start * 3),
            2 => Some((x + 5) ^ 0x55),
            3 => Some(x ^ 0x55),
            4 => Some((0..start % 5).fold(x, |x, j| x + j)),
            5 => None,
            _ => Some(start.count_ones()),
        };
        assert_eq!((got[i], got[n + i]), (steps, way.map_or(777, |x| x + 1)), "{start}");
    }
}

#[test]
fn every_space_is_read() {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "spaces");
    let a: Vec<u32> = (0..64_u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let (input, out) = (gpu.upload(&a), gpu.upload(&[0_u32; 7 * 64]));
    // int, u64 and five u16, as C lays them out
    let mut given = [0_u8; 32];
    given[..4].copy_from_slice(&1000_u32.to_le_bytes());
    given[8..16].copy_from_slice(&20_000_u64.to_le_bytes());
    for j in 0..5_u16 {
        given[16 + 2 * usize::from(j)..][..2].copy_from_slice(&(j * 7).to_le_bytes());
    }
    let code = gpu.run_with_bytes(
        kernel,
        1,
        64,
        &[&given, &input.to_le_bytes(), &out.to_le_bytes(), &64_u32.to_le_bytes()],
    );
    assert_eq!(code, SUCCESS, "{}", gpu.fault());
    let got: Vec<u32> = gpu.download(out, 7 * 64);
    let table = [3, 1, 4, 1, 5, 9, 2, 6];
    for (i, &x) in a.iter().enumerate() {
        let expected = [
            x.wrapping_add((x & 15) * (x & 15)),
            table[(x & 7) as usize],
            40,
            1000 + 20_000 + x % 5 * 7,
            a[i / 4 * 4].wrapping_add(a[i / 4 * 4 + 3]),
            x >> 8 & 0xff,
            i32::from((x as u16).cast_signed()).cast_unsigned(),
        ];
        let got: Vec<u32> = (0..7).map(|k| got[k * 64 + i]).collect();
        assert_eq!(got, expected, "{i}");
    }
}

#[test]
fn tiles_are_copied_while_others_are_used() {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "copies");
    let tiles = 5;
    let a: Vec<u32> = (0..tiles * 256).map(|i| i * i + 7).collect();
    let (input, out) = (gpu.upload(&a), gpu.allocate(256));
    let code = gpu.run(kernel, 1, 64, &[Param::Long(input), Param::Long(out), Param::Word(tiles)]);
    assert_eq!(code, SUCCESS, "{}", gpu.fault());
    for (i, got) in gpu.download::<u32>(out, 64).into_iter().enumerate() {
        let expected =
            (0..tiles as usize).map(|tile| a[tile * 256 + (63 - i) * 4..][..4].iter().fold(0, |x, y| x ^ y));
        assert_eq!(got, expected.fold(0_u32, u32::wrapping_add));
    }
}

/// The product of a 16 x `k` matrix by rows and an 8 x `k` one, transposed.
fn product(a: &[f32], b: &[f32], k: usize) -> Vec<f32> {
    (0..128).map(|at| (0..k).map(|i| a[at / 8 * k + i] * b[at % 8 * k + i]).sum()).collect()
}

#[test]
fn matrices_are_multiplied() {
    let gpu = Gpu::new();
    let kernel = gpu.kernel(FAMILIES, "products");
    let a: Vec<f32> = (0..256_u16).map(|i| f32::from(i % 13) - 6.0).collect();
    let b: Vec<f32> = (0..128_u16).map(|i| f32::from(i % 7) * 0.5 - 1.0).collect();
    for brain in [0, 1] {
        let narrow =
            |x: &f32| if brain == 1 { bf16::from_f32(*x).to_bits() } else { f16::from_f32(*x).to_bits() };
        let pa = gpu.upload(&a.iter().map(narrow).collect::<Vec<u16>>());
        let pb = gpu.upload(&b.iter().map(narrow).collect::<Vec<u16>>());
        let out = gpu.allocate(512);
        let params = [Param::Long(pa), Param::Long(pb), Param::Long(out), Param::Word(brain)];
        assert_eq!(gpu.run(kernel, 1, 32, &params), SUCCESS, "{}", gpu.fault());
        assert_eq!(gpu.download::<f32>(out, 128), product(&a, &b, 16), "{brain}");
    }
    let kernel = gpu.kernel(FAMILIES, "tf32");
    let (pa, pb, out) = (gpu.upload(&a[..128]), gpu.upload(&b[..64]), gpu.allocate(512));
    assert_eq!(gpu.run(kernel, 1, 32, &[pa, pb, out].map(Param::Long)), SUCCESS, "{}", gpu.fault());
    let expected: Vec<f32> = product(&a[..128], &b[..64], 8).iter().map(|x| x + 1.0).collect();
    assert_eq!(gpu.download::<f32>(out, 128), expected);
}

#[test]
fn the_order_of_blocks_and_warps_does_not_matter() {
    support::alone(|| {
        for seed in 0..4 {
            support::set(&phalanx_softcuda::Setting::Schedule(phalanx_softcuda::Schedule::Lazy { seed }));
            let gpu = Gpu::new();
            let kernel = gpu.kernel(FAMILIES, "sum");
            let a: Vec<f32> = (0..3000_u16).map(|i| f32::from(i % 5)).collect();
            let (input, partial, done, out) =
                (gpu.upload(&a), gpu.allocate(28), gpu.upload(&[0_u32]), gpu.allocate(4));
            let params = [
                Param::Long(input),
                Param::Long(partial),
                Param::Long(done),
                Param::Long(out),
                Param::Word(3000),
            ];
            assert_eq!(gpu.run(kernel, 7, 96, &params), SUCCESS, "{}", gpu.fault());
            assert_eq!(gpu.download::<f32>(out, 1), [6000.0]);
        }
    });
}
