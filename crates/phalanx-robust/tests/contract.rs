//! What all rules do with hostile, broken and missing input: how other libraries fail, and this one must not.

use phalanx_grad::{GradError, Ranks, Reduce, RowSet, Scratch};
use phalanx_robust::{
    Arc, Bucketing, Bulyan, Caf, CenteredClipping, Dnc, FlTrust, Flame, GeometricMedian, Krum, Mda, MeaMed,
    Median, Monna, MultiKrum, MultiMetrics, Mva, Nnm, NormClip, Reason, Reference, Rfa, Robust, Rule,
    SignMajority, Smea, TrimmedMean, Updates, WeightedMean,
};

const HONEST: [[f32; 3]; 9] = [
    [1.0, 2.0, -1.0],
    [1.5, 1.0, -0.5],
    [0.5, 2.5, -1.5],
    [2.0, 1.5, 0.0],
    [1.25, 2.25, -0.75],
    [1.75, 1.75, -0.25],
    [0.75, 1.25, -1.25],
    [1.1, 1.9, -0.9],
    [1.4, 1.6, -0.6],
];

/// Every rule that needs neither history nor a trusted update.
fn rules() -> Vec<Box<dyn Rule>> {
    vec![
        Box::new(Median),
        Box::new(TrimmedMean),
        Box::new(MeaMed),
        Box::new(Krum::default()),
        Box::new(MultiKrum::default()),
        Box::new(Bulyan),
        Box::new(GeometricMedian::default()),
        Box::new(Rfa::default()),
        Box::new(Mda),
        Box::new(Mva),
        Box::new(Smea),
        Box::new(Caf),
        Box::new(Dnc::default()),
        Box::new(Monna { pivot: Some(0) }),
        Box::new(CenteredClipping::new(1.0, 3).expect("above 0")),
        Box::new(NormClip::default()),
        Box::new(SignMajority),
        Box::new(Flame::default()),
    ]
}

fn slices(rows: &[[f32; 3]]) -> Vec<&[f32]> {
    rows.iter().map(|row| &row[..]).collect()
}

#[test]
fn what_is_not_finite_is_dropped_and_counted() {
    for bad in [[f32::NAN, 0.0, 0.0], [0.0, f32::INFINITY, 0.0], [0.0, 0.0, f32::NEG_INFINITY]] {
        for rule in rules() {
            let name = rule.name();
            let mut rows = slices(&HONEST);
            rows.push(&bad);
            let mut out = [0.0; 3];
            let mut robust = Robust::new(2, rule).with_threads(2);
            let report = robust.aggregate(1, &Updates::new(3, &rows), &mut out).expect(name);
            assert!(out.iter().all(|x| x.is_finite()), "{name}: {out:?}");
            assert_eq!((report.received, report.valid, report.hostile), (10, 9, 1), "{name}");
            assert_eq!(
                report.rejected.last().map(|r| (r.id, r.reason)),
                Some((9, Reason::NonFinite { count: 1 })),
                "{name}"
            );
            // as if it had never been there, with one fewer to bear
            let mut alone = [0.0; 3];
            robust = Robust::new(1, rules().into_iter().find(|rule| rule.name() == name).expect(name));
            robust.aggregate(1, &Updates::new(3, &slices(&HONEST)), &mut alone).expect(name);
            assert_eq!(out, alone, "{name}");
        }
    }
}

#[test]
fn another_length_is_dropped_and_counted() {
    for len in [0, 2, 4] {
        let long = vec![1.0; len];
        let mut rows = slices(&HONEST);
        rows.insert(4, &long);
        let mut out = [0.0; 3];
        let report = Robust::new(1, Median).aggregate(1, &Updates::new(3, &rows), &mut out).unwrap();
        assert_eq!(report.rejected[0].told(report.senders), format!("rank 4 has {len} numbers, need 3"));
        assert_eq!((report.valid, report.hostile), (9, 0));
    }
}

/// Squares of 1e38 overflow an `f32`, halves of the smallest subnormal vanish; equal vectors have no direction.
#[test]
fn extreme_and_equal_vectors_neither_hang_nor_overflow() {
    let extremes = [[1e38, -1e38, 1e38], [f32::MAX; 3], [1e-45; 3], [0.0; 3], [-0.0; 3], HONEST[0]];
    for bad in extremes {
        for rule in rules() {
            let name = rule.name();
            let mut rows = slices(&HONEST);
            rows.extend([&bad[..], &bad[..]]);
            let mut out = [0.0; 3];
            Robust::new(2, rule).aggregate(1, &Updates::new(3, &rows), &mut out).expect(name);
            assert!(out.iter().all(|x| x.abs() < 1e38), "{name} with {bad:?}: {out:?}");
        }
    }
    for rule in rules() {
        let name = rule.name();
        let same = [[1.0, 2.0, -1.0]; 9];
        let mut out = [0.0; 3];
        Robust::new(1, rule).aggregate(1, &Updates::new(3, &slices(&same)), &mut out).expect(name);
        assert!(out.iter().all(|x| x.is_finite()), "{name}: {out:?}");
    }
}

#[test]
fn too_few_and_too_many_invalid_are_errors_with_their_numbers() {
    let mut out = [0.0; 3];
    let rows = slices(&HONEST[..6]);
    let error = Robust::new(2, Krum::default()).aggregate(1, &Updates::new(3, &rows), &mut out).unwrap_err();
    assert_eq!(error, GradError::TooFew { rule: "krum", axis: "ranks", got: 6, need: 7 });
    let bad = [f32::NAN; 3];
    let mut rows = slices(&HONEST);
    rows.extend([&bad[..], &bad[..]]);
    let error = Robust::new(1, Median).aggregate(1, &Updates::new(3, &rows), &mut out).unwrap_err();
    let want = GradError::TooManyInvalid { rule: "median", axis: "ranks", got: 11, invalid: 2, hostile: 1 };
    assert_eq!(error, want);
    let all = [&bad[..], &bad[..]];
    assert!(Robust::new(1, WeightedMean).aggregate(1, &Updates::new(3, &all), &mut out).is_err());
    for rule in rules() {
        let name = rule.name();
        let none = Robust::new(0, rule).aggregate(1, &Updates::new(3, &[]), &mut out).unwrap_err();
        assert!(matches!(none, GradError::TooFew { got: 0, .. }), "{name}: {none}");
    }
}

#[test]
fn no_weight_is_an_error_and_never_nan() {
    let (rows, mut out) = (slices(&HONEST), [0.0; 3]);
    let unweighted = Updates::new(3, &rows).with_samples(&[0; 9]).unwrap();
    let error = Robust::new(0, WeightedMean).aggregate(1, &unweighted, &mut out).unwrap_err();
    assert_eq!(error, GradError::NoSamples { axis: "ranks" });
    assert!(Robust::new(0, Rfa::default()).aggregate(1, &unweighted, &mut out).is_err());
    let against = [-1.0, -2.0, 1.0];
    let distrusted = Updates::new(3, &rows).with_trusted(&against).unwrap();
    let error = Robust::new(0, FlTrust).aggregate(1, &distrusted, &mut out).unwrap_err();
    assert_eq!(error, GradError::NoWeight { rule: "fltrust", axis: "ranks" });
    let error = Robust::new(0, FlTrust).aggregate(1, &Updates::new(3, &rows), &mut out).unwrap_err();
    assert_eq!(error.to_string(), "fltrust needs a trusted update, which was not given");
    let error = Robust::new(0, Median).behind(MultiMetrics::default()).aggregate(
        1,
        &Updates::new(3, &rows),
        &mut out,
    );
    assert!(matches!(error, Err(GradError::Missing { rule: "multi-metrics", .. })));
}

#[test]
fn a_cap_on_lengths() {
    let far = [30.0, 40.0, 0.0];
    let mut rows = slices(&HONEST);
    rows.push(&far);
    let mut out = [0.0; 3];
    let mut rule = Robust::new(1, WeightedMean).with_max_norm(10.0);
    let report = rule.aggregate(1, &Updates::new(3, &rows), &mut out).unwrap();
    assert_eq!(report.rejected[0].reason, Reason::Norm { got: 50.0, limit: 10.0 });
}

#[test]
fn the_order_of_arrival_changes_no_bit() {
    let far = [100.0, -100.0, 50.0];
    let mut rows = slices(&HONEST);
    rows.extend([&far[..], &HONEST[0][..]]);
    let ids: Vec<u64> = vec![70, 3, 15, 8, 90, 2, 44, 21, 60, 5, 33];
    let samples: Vec<u64> = (1..=11).collect();
    let order = [10, 3, 7, 0, 9, 4, 1, 8, 2, 6, 5];
    let arrived = |order: &[usize]| {
        let rows: Vec<&[f32]> = order.iter().map(|i| rows[*i]).collect();
        let ids: Vec<u64> = order.iter().map(|i| ids[*i]).collect();
        let samples: Vec<u64> = order.iter().map(|i| samples[*i]).collect();
        (rows, ids, samples)
    };
    let pres = || -> Vec<Option<Box<dyn phalanx_robust::PreAggregator>>> {
        vec![None, Some(Box::new(Nnm)), Some(Box::new(Arc)), Some(Box::new(Bucketing { size: 2, seed: 3 }))]
    };
    for (at, rule) in rules().iter().enumerate() {
        for which in 0..pres().len() {
            let outcome = |order: &[usize]| {
                let (rows, ids, samples) = arrived(order);
                let mut rule = Robust::new(1, rules().swap_remove(at));
                if let Some(pre) = pres().swap_remove(which) {
                    rule = rule.behind(pre);
                }
                let updates = Updates::new(3, &rows).with_samples(&samples).unwrap().with_ids(&ids).unwrap();
                let mut out = [0.0; 3];
                let report = rule.aggregate(4, &updates, &mut out);
                (report, out.map(f32::to_bits))
            };
            let forward: Vec<usize> = (0..11).collect();
            // a pivot that is not there, and groups too few for the rule, fail the same as well
            assert_eq!(outcome(&forward), outcome(&order), "{} behind {which}", rule.name());
        }
    }
}

#[test]
fn inputs_are_not_changed() {
    let before = HONEST;
    let rows = slices(&HONEST);
    let mut out = [0.0; 3];
    let mut rule = Robust::new(2, TrimmedMean).behind(Arc).behind(Nnm);
    rule.aggregate(1, &Updates::new(3, &rows), &mut out).unwrap();
    assert_eq!(before, HONEST);
}

#[test]
fn the_loop_sees_a_rule_over_ranks() {
    let bad = [f32::NAN; 3];
    let mut rows = slices(&HONEST);
    rows.push(&bad);
    let set = RowSet::<Ranks>::from_slices(&rows).unwrap();
    let mut rule: Box<dyn Reduce<Ranks>> = Box::new(Robust::new(1, Median));
    let mut out = [0.0; 3];
    rule.reduce(1, &set, &mut out, &mut Scratch::new()).unwrap();
    assert_eq!((out, rule.name(), rule.is_mean()), ([1.25, 1.75, -0.75], "median", false));
}

#[test]
fn few_or_equal_clients_do_not_stop_multi_metrics() {
    let model = [0.5, -1.0, 2.0];
    let same = [HONEST[0]; 5];
    for reference in [Reference::Global, Reference::Pairwise] {
        for rows in [&HONEST[..1], &HONEST[..2], &HONEST[..3], &same[..]] {
            let rows = slices(rows);
            let updates = Updates::new(3, &rows).with_reference(&model).unwrap();
            let filter = MultiMetrics { reference, ..MultiMetrics::default() };
            let mut out = [0.0; 3];
            let report =
                Robust::new(0, WeightedMean).behind(filter).aggregate(1, &updates, &mut out).unwrap();
            assert!(out.iter().all(|x| x.is_finite()), "{} clients: {report}", rows.len());
            let kept = rows.len() - report.rejected.len();
            let alike = rows.len() == 5;
            assert_eq!(kept, if alike { 5 } else { 1.max(kept) }, "{report}");
        }
    }
}
