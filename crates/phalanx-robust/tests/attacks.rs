//! Worked values of the attacks, and what they do to the rules.

use phalanx_robust::attack::{
    Alie, Attack, Constant, Direction, FangKrum, FangTrimmedMean, Gaussian, Ipm, Mimic, MinMax, MinSum,
    ModelReplacement, Neurotoxin, OptAlie, OptIpm, Pgd, Projection, Scene, SignFlip,
};
use phalanx_robust::{Krum, Robust, TrimmedMean, Updates, WeightedMean};

const HONEST: [&[f32]; 5] =
    [&[1.0, 2.0, -1.0], &[1.5, 1.0, -0.5], &[0.5, 2.5, -1.5], &[2.0, 1.5, 0.0], &[1.25, 2.25, -0.75]];

/// Their mean, and their deviations over five.
const MEAN: [f64; 3] = [1.25, 1.85, -0.75];
const DEVIATION: [f64; 3] = [0.5, 0.538_516_480_7, 0.5];

fn scene() -> Scene<'static> {
    Scene { step: 1, honest: &HONEST, own: &[3.0, -4.0, 0.0], shard: None, attackers: 2, index: 0, seed: 1 }
}

fn sent(mut attack: impl Attack) -> [f32; 3] {
    let mut out = [9.0; 3];
    let name = attack.name();
    attack.forge(&scene(), &mut out).expect(name);
    out
}

#[track_caller]
fn near(got: [f32; 3], want: [f64; 3], tolerance: f64) {
    let close = got.iter().zip(want).all(|(x, y)| (f64::from(*x) - y).abs() <= tolerance);
    assert!(close, "{got:?}, want {want:?}");
}

#[test]
fn multiples_of_the_mean() {
    near(sent(SignFlip::default()), MEAN.map(|m| -m), 1e-7);
    near(sent(Ipm::default()), MEAN.map(|m| -0.1 * m), 1e-7);
    near(sent(Ipm { epsilon: 100.0 }), MEAN.map(|m| -100.0 * m), 1e-4);
}

#[test]
fn deviations_from_the_mean() {
    let by_four = (5.0_f64 / 4.0).sqrt();
    let want = [0, 1, 2].map(|k| MEAN[k] - 1.5 * by_four * DEVIATION[k]);
    near(sent(Alie { z: Some(-1.5) }), want, 1e-6);
    // of 7 with 2 hostile, s = 2 of 5 honest must support: the quantile of 3/5 is 0.2533
    let want = [0, 1, 2].map(|k| MEAN[k] + 0.253_347_103_1 * by_four * DEVIATION[k]);
    near(sent(Alie::default()), want, 1e-6);
}

#[test]
fn as_far_as_distances_allow() {
    let norm = MEAN.iter().map(|m| m * m).sum::<f64>().sqrt();
    let directions = [
        (Direction::Unit, MEAN.map(|m| -m / norm), 1.66756, 1.24397),
        (Direction::Sign, [-1.0, -1.0, 1.0], 0.95142, 0.71821),
        (Direction::Deviation, DEVIATION.map(|s| -s), 1.71576, 1.39957),
    ];
    for (direction, p, max, sum) in directions {
        near(sent(MinMax { direction }), [0, 1, 2].map(|k| MEAN[k] + max * p[k]), 1e-4);
        near(sent(MinSum { direction }), [0, 1, 2].map(|k| MEAN[k] + sum * p[k]), 1e-4);
    }
}

#[test]
fn from_the_attackers_own_update() {
    near(sent(ModelReplacement::default()), [10.5, -14.0, 0.0], 1e-6);
    near(sent(ModelReplacement { factor: Some(2.0) }), [6.0, -8.0, 0.0], 1e-6);
    near(sent(Pgd { radius: 2.5, projection: Projection::L2 }), [1.5, -2.0, 0.0], 1e-6);
    near(sent(Pgd { radius: 2.5, projection: Projection::Linf }), [2.5, -2.5, 0.0], 1e-6);
    // the second coordinate of the mean is the greatest
    near(sent(Neurotoxin { top: 0.3 }), [3.0, 0.0, 0.0], 1e-6);
    assert_eq!(sent(Mimic::new(0)), [1.0, 2.0, -1.0]);
}

#[test]
fn what_breaks_arithmetic() {
    assert_eq!(sent(Constant::Zero), [0.0; 3]);
    assert!(sent(Constant::Nan)[0].is_nan());
    assert_eq!((sent(Constant::Inf)[1], sent(Constant::Huge)[2]), (f32::INFINITY, 1e38));
    let noise = sent(Gaussian { sigma: 3.0 });
    let mut other = [0.0; 3];
    Gaussian { sigma: 3.0 }.forge(&Scene { index: 1, ..scene() }, &mut other).unwrap();
    assert!(noise != other && noise.iter().all(|x| x.abs() < 21.0));
}

/// The harm that two attackers do to the mean of five honest vectors under a rule.
fn harm(mut attack: impl Attack, mut rule: Robust) -> f64 {
    let bad = {
        let mut out = [0.0; 3];
        let name = attack.name();
        attack.forge(&scene(), &mut out).expect(name);
        out
    };
    let rows: Vec<&[f32]> = HONEST.iter().copied().chain([&bad[..], &bad[..]]).collect();
    let mut out = [0.0; 3];
    rule.aggregate(1, &Updates::new(3, &rows), &mut out).expect("enough vectors");
    out.iter().zip(MEAN).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum()
}

#[test]
fn searching_for_the_factor_harms_more_than_a_fixed_one() {
    let rule = || Robust::new(2, TrimmedMean);
    let fixed = harm(Ipm::default(), rule());
    assert!(harm(OptIpm::against(rule()), rule()) >= fixed);
    assert!(harm(OptAlie::against(rule()), rule()) >= harm(Alie::default(), rule()));
    // nothing bounds what the mean can be led to
    assert!(harm(OptIpm::against(Robust::new(0, WeightedMean)), Robust::new(0, WeightedMean)) > 1e6);
}

#[test]
fn made_for_one_rule() {
    let mut bad = [0.0; 3];
    // honest vectors far from each other leave room in the middle, and beyond it
    let honest: [&[f32]; 5] =
        [&[10.0, 1.0, 1.0], &[1.0, 10.0, 1.0], &[1.0, 1.0, 10.0], &[-8.0, 1.0, 1.0], &[1.0, -8.0, 1.0]];
    FangKrum.forge(&Scene { honest: &honest, ..scene() }, &mut bad).unwrap();
    let rows: Vec<&[f32]> = honest.iter().copied().chain([&bad[..], &bad[..]]).collect();
    let mut out = [0.0; 3];
    Robust::new(2, Krum::default()).aggregate(1, &Updates::new(3, &rows), &mut out).unwrap();
    assert!(out == bad && out.iter().all(|x| *x < -0.5), "selected, against the mean: {out:?}");
    let mut bad = [0.0; 3];
    FangTrimmedMean.forge(&scene(), &mut bad).unwrap();
    // beyond the least, the least and the greatest, at most twice as far
    assert!((0.0..=0.5).contains(&bad[0]) && (0.0..=1.0).contains(&bad[1]) && bad[2] == 0.0, "{bad:?}");
}

#[test]
fn what_cannot_be_forged_is_an_error() {
    let mut out = [0.0; 3];
    let alone = Scene { honest: &[], ..scene() };
    assert!(Ipm::default().forge(&alone, &mut out).is_err());
    assert!(Constant::Zero.forge(&alone, &mut out).is_ok());
    assert!(SignFlip::default().forge(&scene(), &mut out[..2]).is_err());
    assert!(Pgd { radius: 0.0, ..Pgd::default() }.forge(&scene(), &mut out).is_err());
}
