//! Every rule keeps the laws that it states, and breaks those that it does not.

use phalanx_robust::laws::{Shape, assert_bears, assert_breaks, assert_keeps, bears, worst_ratio};
use phalanx_robust::{
    Arc, Bucketing, Bulyan, Caf, CenteredClipping, Dnc, Flame, FoolsGold, GeometricMedian, Krum, Law, Laws,
    Mda, MeaMed, Median, Monna, MultiKrum, MultiMetrics, Mva, Neighbours, Nnm, NormClip, Reference, Rfa,
    Robust, SignMajority, Smea, Smoothing, Start, TrimmedMean, WeightedMean,
};

/// The laws as stated, each checked, and a counter-example for each of the others.
#[track_caller]
fn exactly(shape: &Shape, make: impl Fn(usize) -> Robust) {
    let laws = make(1).laws();
    assert_keeps(laws, shape, &make);
    for law in Law::ALL.into_iter().filter(|law| !laws.has(*law)) {
        assert_breaks(law, shape, &make);
    }
}

fn wide() -> Shape {
    Shape { hostile: 1..=3, ..Shape::default() }
}

macro_rules! exactly {
    ($($name:ident: $make:expr;)*) => {
        $(#[test]
        fn $name() {
            exactly(&wide(), $make);
        })*
    };
}

exactly! {
    mean: |f| Robust::new(f, WeightedMean);
    median: |f| Robust::new(f, Median);
    trimmed_mean: |f| Robust::new(f, TrimmedMean);
    mea_med: |f| Robust::new(f, MeaMed);
    sign_majority: |f| Robust::new(f, SignMajority);
    krum: |f| Robust::new(f, Krum::default());
    krum_with_all_neighbours: |f| Robust::new(f, Krum { neighbours: Neighbours::Epfl });
    multi_krum: |f| Robust::new(f, MultiKrum::default());
    geometric_median: |f| Robust::new(f, GeometricMedian::default());
    rfa: |f| Robust::new(f, Rfa::default());
    mda: |f| Robust::new(f, Mda);
    mva: |f| Robust::new(f, Mva);
    smea: |f| Robust::new(f, Smea);
    caf: |f| Robust::new(f, Caf);
    dnc: |f| Robust::new(f, Dnc::of_all());
    monna: |f| Robust::new(f, Monna { pivot: Some(0) });
    centered_clipping: |f| Robust::new(f, CenteredClipping::new(1.0, 1).unwrap());
    norm_clip: |f| Robust::new(f, NormClip { norm: Some(2.0) });
    norm_clip_to_the_median: |f| Robust::new(f, NormClip::default());
    fools_gold: |f| Robust::new(f, FoolsGold::default());
    flame: |f| Robust::new(f, Flame { noise: 0.0, seed: 0 });
    arc_trimmed_mean: |f| Robust::new(f, TrimmedMean).behind(Arc);
    arc_nnm_trimmed_mean: |f| Robust::new(f, TrimmedMean).behind(Arc).behind(Nnm);
}

/// With no hostile vector to bear, mixing makes all of them the mean, which the median alone is not.
#[test]
fn nnm_median() {
    let make = |f| Robust::new(f, Median).behind(Nnm);
    assert_keeps(make(1).laws().and(Law::MeanWithoutHostile), &wide(), make);
    for law in [Law::CoordinateScale, Law::Rotation, Law::Monotone, Law::Box] {
        assert_breaks(law, &wide(), make);
    }
}

#[test]
fn bulyan() {
    exactly(&Shape { hostile: 1..=2, per_hostile: 4, ..Shape::default() }, |f| Robust::new(f, Bulyan));
}

/// Twice as many vectors, so that half of them are left in buckets.
#[test]
fn bucketing() {
    let shape = Shape { hostile: 1..=2, per_hostile: 4, ..Shape::default() };
    exactly(&shape, |f| Robust::new(f, Median).behind(Bucketing::default()));
}

#[test]
fn multi_metrics() {
    let filter = MultiMetrics { reference: Reference::Pairwise, ..MultiMetrics::default() };
    exactly(&wide(), move |f| Robust::new(f, WeightedMean).behind(filter));
}

#[test]
fn smoothed_weiszfeld_from_zero() {
    let three =
        GeometricMedian { start: Start::Zero, steps: 3, tolerance: 0.0, smoothing: Smoothing::Absolute(0.1) };
    exactly(&wide(), move |f| Robust::new(f, three));
}

/// Rules with a known constant stay within it; the shapes go down to the fewest vectors that they work with.
#[test]
fn the_kappa_inequality() {
    let shape = Shape { hostile: 1..=4, beyond: 1, ..Shape::default() };
    let known: [fn(usize) -> Robust; 11] = [
        |f| Robust::new(f, Median),
        |f| Robust::new(f, TrimmedMean),
        |f| Robust::new(f, GeometricMedian::default()),
        |f| Robust::new(f, Krum { neighbours: Neighbours::Epfl }),
        |f| Robust::new(f, Mva),
        |f| Robust::new(f, Smea),
        |f| Robust::new(f, Mda),
        |f| Robust::new(f, TrimmedMean).behind(Nnm),
        |f| Robust::new(f, Median).behind(Nnm),
        |f| Robust::new(f, TrimmedMean).behind(Arc),
        |f| Robust::new(f, Krum { neighbours: Neighbours::Epfl }).behind(Arc),
    ];
    for make in known {
        assert_bears(|n, f| make(f).kappa(n).expect("known"), &shape, make);
    }
    assert_bears(
        |n, f| Robust::new(f, Krum::default()).kappa(n).expect("known"),
        &wide(),
        |f| Robust::new(f, Krum::default()),
    );
}

/// 0 and 1 with a third far below: the result is 0, a quarter off in square, as the variance is; kappa is 1.
#[test]
fn the_constant_of_the_trimmed_mean_is_reached() {
    let set =
        phalanx_robust::laws::Set { honest: vec![vec![0.0], vec![1.0]], hostile: vec![vec![-64.0]], seed: 0 };
    for make in [|f| Robust::new(f, TrimmedMean), |f| Robust::new(f, Median)] {
        let (ratio, _) = worst_ratio(&make, &set, 0).unwrap();
        assert!((ratio - 1.0).abs() < 1e-9 && make(1).kappa(3) == Some(1.0), "{ratio}");
        assert!(bears(1.0, &make, &set).is_ok());
        assert!(
            bears(0.99, &make, &set).unwrap_err().to_string().starts_with("breaks kappa: [0.0], want [0.5]")
        );
    }
}

#[test]
#[should_panic(expected = "breaks box")]
fn a_law_that_is_not_kept_is_reported() {
    assert_keeps(Laws::none().and(Law::Box), &wide(), |f| Robust::new(f, WeightedMean));
}

#[test]
#[should_panic(expected = "breaks scale")]
fn a_counterexample_that_does_not_exist_is_reported() {
    assert_breaks(Law::Scale, &wide(), |f| Robust::new(f, Median));
}
