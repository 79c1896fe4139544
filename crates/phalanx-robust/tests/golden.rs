//! Worked values of every rule, on two matrices chosen so that neighbouring rules differ.
//!
//! The expected numbers were computed with NumPy in `f64`, independently of this crate.

use phalanx_robust::{
    Arc, Bulyan, Caf, CenteredClipping, Dnc, FlTrust, FoolsGold, GeometricMedian, Keep, Krum, Mda, MeaMed,
    Median, Monna, MultiKrum, MultiMetrics, Mva, Nnm, NormClip, Report, Rfa, Rlr, Robust, Rule, SignMajority,
    Smea, Smoothing, Start, TrimmedMean, Updates, WeightedMean, WorkerMomentum,
};

/// Five honest and two hostile vectors.
const FIRST: [[f32; 3]; 7] = [
    [1.0, 2.0, -1.0],
    [1.5, 1.0, -0.5],
    [0.5, 2.5, -1.5],
    [2.0, 1.5, 0.0],
    [1.25, 2.25, -0.75],
    [100.0, -100.0, 50.0],
    [-3.0, 8.0, 4.0],
];

/// Eleven of one cloud.
const SECOND: [[f32; 3]; 11] = [
    [-1.01, -0.59, -1.03],
    [1.84, 0.38, -1.13],
    [-1.05, 0.6, -1.35],
    [0.36, 1.78, -1.99],
    [0.93, 2.04, -2.98],
    [3.06, 2.41, -0.91],
    [-0.64, 1.89, -1.09],
    [0.5, 3.87, 0.56],
    [-0.6, 0.15, -1.18],
    [3.24, 0.45, -1.28],
    [0.63, 3.97, -0.15],
];

fn slices<const D: usize>(rows: &[[f32; D]]) -> Vec<&[f32]> {
    rows.iter().map(|row| &row[..]).collect()
}

fn run(mut rule: Robust, updates: &Updates<'_>) -> (Vec<f32>, Report) {
    let mut out = vec![9.0; updates.dim()];
    let report = rule.aggregate(1, updates, &mut out).unwrap_or_else(|error| panic!("{rule:?}: {error}"));
    (out, report)
}

#[track_caller]
fn near(got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    let close = got.iter().zip(want).all(|(x, y)| (f64::from(*x) - y).abs() <= tolerance * y.abs().max(1.0));
    assert!(close, "{got:?}, want {want:?}");
}

#[track_caller]
fn first(f: usize, rule: impl Rule + 'static, want: [f64; 3]) -> Report {
    let (out, report) = run(Robust::new(f, rule), &Updates::new(3, &slices(&FIRST)));
    near(&out, &want, 2e-7);
    report
}

#[track_caller]
fn second(rule: impl Rule + 'static, want: [f64; 3]) -> Report {
    let (out, report) = run(Robust::new(2, rule), &Updates::new(3, &slices(&SECOND)));
    near(&out, &want, 4e-7);
    report
}

#[track_caller]
fn scores(report: &Report, want: &[f64], tolerance: f64) {
    let stage = report.stages.last().expect("a stage");
    assert_eq!(stage.scores.len(), want.len());
    for (got, want) in stage.scores.iter().zip(want) {
        assert!((got - want).abs() <= tolerance * want.abs(), "{:?}, want {want}", stage.scores);
    }
}

#[test]
fn coordinate_wise_rules() {
    first(2, WeightedMean, [14.75, -11.8214285714, 7.1785714286]);
    first(2, Median, [1.25, 2.0, -0.5]);
    first(2, TrimmedMean, [1.25, 1.9166666667, -0.4166666667]);
    first(2, MeaMed, [1.25, 1.85, -0.75]);
    first(2, SignMajority, [1.0, 1.0, -1.0]);
    second(WeightedMean, [0.66, 1.5409090909, -1.1390909091]);
    second(Median, [0.5, 1.78, -1.13]);
    second(TrimmedMean, [0.4314285714, 1.3642857143, -1.1385714286]);
    second(MeaMed, [0.1066666667, 1.5077777778, -1.1233333333]);
}

#[test]
fn krum_and_what_rests_on_it() {
    let report = first(2, Krum::default(), [1.0, 2.0, -1.0]);
    scores(&report, &[2.4375, 3.9375, 6.1875, 4.6875, 3.0625, 67641.9375, 223.4375], 1e-12);
    let left_out: Vec<u64> = report.rejected.iter().map(|rejected| rejected.id).collect();
    assert_eq!(left_out, [1, 2, 3, 4, 5, 6]);
    assert_eq!(report.rejected[4].score, Some(67641.9375));
    first(2, MultiKrum { keep: Some(5), ..MultiKrum::default() }, [1.25, 1.85, -0.75]);
    first(1, Bulyan, [1.25, 1.9166666667, -0.75]);
    let report = second(Krum::default(), [0.36, 1.78, -1.99]);
    let want =
        [59.7276, 42.4313, 40.3630, 32.7794, 51.9551, 61.2356, 33.8750, 79.8505, 38.4516, 77.7611, 67.2803];
    scores(&report, &want, 1e-5);
    second(MultiKrum::default(), [0.3911111111, 1.4033333333, -1.3122222222]);
    let seven = MultiKrum { keep: Some(7), ..MultiKrum::default() };
    second(seven, [-0.0242857143, 0.8928571429, -1.5357142857]);
    let report = second(Bulyan, [0.13, 2.0266666667, -1.1333333333]);
    let left_out: Vec<u64> = report.rejected.iter().map(|rejected| rejected.id).collect();
    assert_eq!(left_out, [0, 4, 7, 9], "the picks are 3, 6, 1, 8, 10, 2, 5");
}

#[test]
fn geometric_medians() {
    first(2, GeometricMedian::default(), [1.2226918805, 2.0073773421, -0.7017992880]);
    second(GeometricMedian::default(), [0.4255815728, 1.4857639817, -1.3511620133]);
    first(2, Rfa::default(), [1.3813534652, 1.7720894966, -0.5080277433]);
    let rows = slices(&FIRST);
    let weighted = Updates::new(3, &rows).with_samples(&[1, 2, 3, 4, 5, 6, 7]).unwrap();
    let (out, _) = run(Robust::new(2, Rfa::default()), &weighted);
    near(&out, &[1.5322588402, 1.8567310226, -0.1241264957], 2e-7);
    // ByzFL's documentation of GeometricMedian: nu 0.1, T 3, from 0
    let smoothed =
        GeometricMedian { start: Start::Zero, steps: 3, tolerance: 0.0, smoothing: Smoothing::Absolute(0.1) };
    let (out, _) = run(
        Robust::new(1, smoothed),
        &Updates::new(3, &slices(&[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])),
    );
    near(&out, &[3.78788764, 4.78788764, 5.78788764], 1e-7);
}

#[test]
fn the_best_subset() {
    first(2, Mda, [1.25, 1.85, -0.75]);
    first(2, Mva, [1.25, 1.85, -0.75]);
    first(2, Smea, [1.25, 1.85, -0.75]);
    first(2, Monna { pivot: Some(0) }, [1.25, 1.85, -0.75]);
    let gone = |report: &Report| report.rejected.iter().map(|rejected| rejected.id).collect::<Vec<_>>();
    let report = second(Mda, [0.5588888889, 1.8988888889, -1.1355555556]);
    assert_eq!(gone(&report), [0, 9]);
    let report = second(Mva, [0.6811111111, 1.0122222222, -1.4377777778]);
    assert_eq!(gone(&report), [7, 10]);
    let report = second(Smea, [0.3966666667, 1.1744444444, -1.2744444444]);
    assert_eq!(gone(&report), [5, 10]);
    second(Monna { pivot: Some(0) }, [0.4111111111, 1.1855555556, -1.3533333333]);
}

#[test]
fn spectral_filters() {
    first(2, Dnc::of_all(), [1.25, 1.85, -0.75]);
    first(2, Caf, [1.2437351817, 1.8605227283, -0.7562648183]);
    second(Dnc::of_all(), [0.5788888889, 1.6811111111, -1.1766666667]);
    second(Caf, [0.8457052666, 1.5493531489, -1.3735483297]);
}

#[test]
fn clipping() {
    let once = CenteredClipping::new(1.0, 1).unwrap();
    first(2, once, [0.4277117963, 0.5452513263, -0.1007172918]);
    let thrice = CenteredClipping::new(1.0, 3).unwrap();
    first(2, thrice, [1.1258667035, 1.4447957875, -0.3624253351]);
    // norms 2.449, 1.871, 2.958, 2.5, 2.681, 150, 9.434: the median is 2.681
    let report = first(2, NormClip::default(), clipped_mean(7.1875_f64.sqrt()));
    let long: Vec<u64> =
        report.weights.iter().filter(|(_, w)| *w < 1.0 / 7.0 - 1e-9).map(|(id, _)| *id).collect();
    assert_eq!(long, [2, 5, 6]);
    first(2, NormClip { norm: Some(1.0) }, [0.4277117963, 0.5452513263, -0.1007172918]);
}

/// The mean of the first matrix with rows cut to a length.
fn clipped_mean(limit: f64) -> [f64; 3] {
    let mut mean = [0.0; 3];
    for row in FIRST {
        let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        for (sum, x) in mean.iter_mut().zip(row) {
            *sum += f64::from(x) * (limit / norm).min(1.0) / 7.0;
        }
    }
    mean
}

#[test]
fn trust_and_history() {
    let rows = slices(&FIRST);
    let trusted = [1.0, 2.0, -1.0];
    let updates = Updates::new(3, &rows).with_trusted(&trusted).unwrap();
    let (out, _) = run(Robust::new(2, FlTrust), &updates);
    near(&out, &[1.1006247606, 1.8246512743, -0.6048376763], 2e-7);
    // the honest are alike, so that FoolsGold takes them for sybils and keeps the attackers
    let (_, report) = run(Robust::new(2, FoolsGold::default()), &Updates::new(3, &rows));
    let weights: Vec<f64> = report.weights.iter().map(|(_, weight)| *weight).collect();
    assert_eq!(weights, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    // in no coordinate all 7 agree on the sign: the first and second have one against six
    let (out, _) = run(Robust::new(2, Rlr::new(Median, 6)), &Updates::new(3, &rows));
    assert_eq!(out, [-1.25, -2.0, 0.5]);
    let (out, _) = run(Robust::new(2, Rlr::new(Median, 5)), &Updates::new(3, &rows));
    assert_eq!(out, [1.25, 2.0, 0.5]);
}

#[test]
fn pre_aggregators() {
    let (rows, more) = (slices(&FIRST), slices(&SECOND));
    let (first, second) = (Updates::new(3, &rows), Updates::new(3, &more));
    let (out, _) = run(Robust::new(2, TrimmedMean).behind(Nnm), &first);
    near(&out, &[1.25, 1.85, -0.75], 2e-7);
    let (out, _) = run(Robust::new(2, TrimmedMean).behind(Nnm), &second);
    near(&out, &[0.5276190476, 1.4723809524, -1.256031746], 2e-7);
    let (out, _) = run(Robust::new(2, Median).behind(Nnm), &second);
    near(&out, &[0.5588888889, 1.5188888889, -1.3122222222], 2e-7);
    let (out, _) = run(Robust::new(2, TrimmedMean).behind(Arc), &second);
    near(&out, &[0.4210082086, 1.3409792009, -1.1297710438], 2e-7);
    // clipping two of seven to the third longest shows in the weights of a mean
    let (_, report) = run(Robust::new(2, WeightedMean).behind(Arc), &first);
    let norms = FIRST.map(|row| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt());
    for (i, (_, weight)) in report.weights.iter().enumerate() {
        let want = (2.9580398915 / norms[i]).min(1.0) / 7.0;
        assert!((weight - want).abs() < 1e-11, "{i}: {weight}, want {want}");
    }
    // ByzFL's documentation of ARC(1): the third row becomes (4.41004009, 5.04004582, 5.67005155)
    let rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]];
    let (out, _) = run(Robust::new(1, WeightedMean).behind(Arc), &Updates::new(3, &slices(&rows)));
    near(&out, &[(5.0 + 4.41004009) / 3.0, (7.0 + 5.04004582) / 3.0, (9.0 + 5.67005155) / 3.0], 1e-7);
}

#[test]
fn worker_momentum_is_a_running_mean() {
    let mut momentum = WorkerMomentum::new(0.9).unwrap();
    let mut gradient = [1.0, -2.0];
    momentum.apply(&mut gradient).unwrap();
    near(&gradient, &[0.1, -0.2], 1e-7);
}

const GLOBAL: [f32; 4] = [1.0, -2.0, 0.5, 3.0];

const BACKDOOR: [[f32; 4]; 6] = [
    [0.1, 0.2, -0.1, 0.05],
    [0.12, 0.18, -0.05, 0.02],
    [0.05, 0.25, -0.12, 0.1],
    [0.2, 0.1, -0.02, 0.07],
    [0.08, 0.22, -0.2, 0.01],
    [-0.5, 0.9, 0.7, -0.6],
];

#[test]
fn multi_metrics_against_the_global_model() {
    let rows = slices(&BACKDOOR);
    let updates = Updates::new(4, &rows).with_reference(&GLOBAL).unwrap();
    let keep_four = MultiMetrics { keep: Keep::Count(4), ..MultiMetrics::default() };
    let (out, report) = run(Robust::new(1, WeightedMean).behind(keep_four), &updates);
    let stage = &report.stages[0];
    let column = |name: &str| &stage.features.iter().find(|(feature, _)| *feature == name).expect(name).1;
    let want = [
        ("manhattan", 0.45, 2.7),
        ("euclidean", 0.25, 1.3820274961),
        ("cosine", 0.9978523935, 0.9451982761),
        ("manhattan gap", 2.52, 11.26),
        ("euclidean gap", 1.2809897715, 5.5949862284),
        ("cosine gap", 0.0553306057, 0.2622429654),
    ];
    for (name, at_0, at_5) in want {
        let values = column(name);
        assert!((values[0] - at_0).abs() < 1e-6 && (values[5] - at_5).abs() < 1e-6, "{name} {values:?}");
    }
    // the covariance's condition is 2e7, and updates are rounded to f32 here
    let want = [7.61805583, 9.77375649, 7.17336245, 7.53603365, 9.13791380, 8.72921624];
    for (got, want) in stage.scores.iter().zip(want) {
        assert!((got / want - 1.0).abs() < 1e-3, "{:?}", stage.scores);
    }
    // 2, 3, 0 and then the attacker 5: the obvious outlier is only third from the top
    let left_out: Vec<u64> = report.rejected.iter().map(|rejected| rejected.id).collect();
    assert_eq!(left_out, [1, 4]);
    near(&out, &[-0.0375, 0.3625, 0.115, -0.095], 1e-6);
    let three = MultiMetrics { keep: Keep::Share(0.5), ..MultiMetrics::default() };
    let (out, report) = run(Robust::new(1, Median).behind(three), &updates);
    assert_eq!((report.stages[1].ids.as_slice(), report.valid), (&[0, 2, 3][..], 6));
    near(&out, &[0.1, 0.2, -0.1, 0.07], 1e-6);
}
