//! The scalars of a step that feed every statistic of the gradient.

use crate::{GradError, Gram};

/// What all ranks know of the gradient of a step.
///
/// A batch of `B` samples is cut into `C` chunks (ranks, micro-batches, virtual shards, single samples); chunk `c` has
/// `m_c` samples and the mean gradient `g_c`, and `g = sum m_c g_c / B`. What can be said of the gradient `g_i` of one
/// sample, with covariance `Sigma`, and of the true gradient `G` follows from these sums:
///
/// | symbol | is | estimates |
/// |---|---|---|
/// | `Q` | `sum m_c <g_c, g_c>` | |
/// | `N` | `<g, g>` | |
/// | `P1`, `P2` | `sum m_c <g_c, g>`, `sum m_c <g_c, g>^2` | |
/// | [`tr_s`](Self::tr_s) | `(Q - B N) / (C - 1)` | `trace(Sigma)` |
/// | [`g2`](Self::g2) | `N - tr_s / B` | `<G, G>` |
/// | [`v_ip`](Self::v_ip) | `(P2 - B N^2) / (C - 1)` | variance of `<g_i, g>` |
/// | [`v_or`](Self::v_or) | `(Q - P2 / N) / (C - 1)` | variance of `g_i` across `g` |
///
/// # Numerics
/// Taken before clipping, before weight decay, and after the removal of a loss scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScalarBlock {
    /// `Q = sum m_c |g_c|^2` over the chunks.
    pub q: f64,
    /// `N = |g|^2` of the mean gradient.
    pub n: f64,
    /// `|g|_1` of the mean gradient.
    pub norm_l1: f64,
    /// Inner products of the chunks with the mean gradient, where they were measured.
    pub projections: Option<Projections>,
    /// The variance of a coordinate over its squared mean, one number for all coordinates, where it was measured.
    pub coordinate_ratio: Option<f64>,
    /// Samples of the batch, `B`.
    pub samples: u64,
    /// Chunks with samples, `C`.
    pub chunks: u64,
    /// Mean loss over the samples.
    pub loss: f64,
    /// Elements of the chunks' gradients and of their mean that are infinite or NaN.
    pub nonfinite: u64,
}

/// Sums of inner products of the chunks' gradients with the mean gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Projections {
    /// `P1 = sum m_c <g_c, g>`, which is `B N` up to rounding: a check on the measurement.
    pub p1: f64,
    /// `P2 = sum m_c <g_c, g>^2`.
    pub p2: f64,
}

impl Projections {
    /// Adds a chunk of `samples` samples with `product` = `<g_c, g>`.
    pub fn add(&mut self, samples: u64, product: f64) {
        self.p1 += samples as f64 * product;
        self.p2 += samples as f64 * product * product;
    }
}

impl ScalarBlock {
    /// The block of explicit chunks, from their inner products; projections included.
    ///
    /// # Shapes
    /// `gram`: `C x C`. `samples_n`: `m_c`, one a chunk.
    ///
    /// # Numerics
    /// `|g|_1` is not in the inner products and is NaN.
    ///
    /// # Errors
    /// [`GradError::Length`] when there is not one count a chunk, [`GradError::NoSamples`] when all are 0.
    pub fn from_gram(gram: &Gram, samples_n: &[u64], loss: f64) -> Result<Self, GradError> {
        if samples_n.len() != gram.n() {
            return Err(GradError::Length {
                what: "the sample counts",
                got: samples_n.len(),
                need: gram.n(),
            });
        }
        let samples: u64 = samples_n.iter().sum();
        if samples == 0 {
            return Err(GradError::NoSamples { axis: "samples" });
        }
        let weights_n: Vec<f64> = samples_n.iter().map(|m| *m as f64 / samples as f64).collect();
        let mut q = 0.0;
        let mut projections = Projections::default();
        let mut chunks = 0;
        let mut nonfinite = 0;
        for (c, m) in samples_n.iter().enumerate().filter(|(_, m)| **m > 0) {
            q += *m as f64 * gram.norm_sq(c);
            projections.add(*m, gram.product_with_sum(c, &weights_n));
            chunks += 1;
            nonfinite += u64::from(!gram.norm_sq(c).is_finite());
        }
        Ok(ScalarBlock {
            q,
            n: gram.sum_norm_sq(&weights_n),
            norm_l1: f64::NAN,
            projections: Some(projections),
            coordinate_ratio: None,
            samples,
            chunks,
            loss,
            nonfinite,
        })
    }

    /// The same block with measured projections.
    #[must_use]
    pub fn with_projections(self, projections: Projections) -> Self {
        ScalarBlock { projections: Some(projections), ..self }
    }

    /// The same block with a measured ratio of the coordinates: see [`CoordinateRule::ratio`](crate::CoordinateRule::ratio).
    #[must_use]
    pub fn with_coordinate_ratio(self, ratio: f64) -> Self {
        ScalarBlock { coordinate_ratio: Some(ratio), ..self }
    }

    /// That every number is finite and a variance exists: the number of chunks less one.
    pub(super) fn degrees(&self, statistic: &'static str) -> Result<f64, GradError> {
        self.finite(statistic)?;
        if self.chunks < 2 {
            return Err(GradError::TooFewChunks { statistic, got: self.chunks });
        }
        Ok((self.chunks - 1) as f64)
    }

    /// That every gradient element was finite.
    pub(super) fn finite(&self, statistic: &'static str) -> Result<(), GradError> {
        match self.nonfinite {
            0 => Ok(()),
            count => Err(GradError::NonFinite { what: statistic, count }),
        }
    }

    pub(super) fn p2(&self, statistic: &'static str) -> Result<f64, GradError> {
        self.projections.map(|p| p.p2).ok_or(GradError::NoProjections { statistic })
    }

    pub(super) fn b(&self) -> f64 {
        self.samples as f64
    }
}
