//! Images of one byte a value, normalised when they are read out.

use crate::batch::InputsMut;
use crate::dataset::{Dataset, SampleKind};
use crate::error::DataError;

/// How bytes become features: `(byte / scale - mean) / std`, mean and std by channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalise {
    /// The byte that counts as 1: 255 for most images.
    pub scale: f32,
    /// Mean of each channel after scaling; one value for samples that are not images.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel after scaling, above 0.
    pub std: Vec<f32>,
}

impl Normalise {
    /// Mean and standard deviation of each channel of the `pixels` themselves.
    ///
    /// A channel without variation gets a standard deviation of 1.
    ///
    /// # Shapes
    /// `pixels`: `samples x channels x plane`.
    ///
    /// # Numerics
    /// Exact sums of whole numbers, one rounding to `f32` at the end: no order, no machine changes them.
    pub fn measured(pixels: &[u8], channels: usize, plane: usize, scale: f32) -> Self {
        let mut counts = vec![[0_u64; 256]; channels];
        if channels > 0 && plane > 0 {
            for (plane, channel) in pixels.chunks(plane).zip((0..channels).cycle()) {
                for byte in plane {
                    counts[channel][usize::from(*byte)] += 1;
                }
            }
        }
        let (mean, std) = counts.iter().map(|counts| moments(counts, scale)).unzip();
        Self { scale, mean, std }
    }

    fn check(&self, channels: usize) -> Result<(), DataError> {
        for (field, values) in [("channels of mean", &self.mean), ("channels of std", &self.std)] {
            if values.len() != channels {
                return Err(DataError::Size { field, got: values.len(), need: channels });
            }
        }
        let positive = |value: f32| value.is_finite() && value > 0.0;
        if !positive(self.scale) {
            return Err(DataError::Normalise {
                field: "scale",
                got: self.scale,
                need: "a finite value above 0",
            });
        }
        if let Some(got) = self.mean.iter().copied().find(|value| !value.is_finite()) {
            return Err(DataError::Normalise { field: "data.mean", got, need: "a finite value" });
        }
        if let Some(got) = self.std.iter().copied().find(|value| !positive(*value)) {
            return Err(DataError::Normalise { field: "data.std", got, need: "a finite value above 0" });
        }
        Ok(())
    }

    /// What each byte becomes, by channel.
    fn tables(&self) -> Vec<[f32; 256]> {
        let table =
            |(mean, std): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / self.scale - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

/// Labelled images, one byte a value.
///
/// # Numerics
/// A feature is `(byte / scale - mean) / std` in `f32`, each step rounded, as torchvision's
/// `ToTensor` and `Normalize` do. The 256 results are kept in a table for each channel.
#[derive(Clone)]
pub struct Images {
    kind: SampleKind,
    plane: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    tables: Vec<[f32; 256]>,
}

impl Images {
    /// A set of images.
    ///
    /// # Shapes
    /// `pixels`: `n x shape`; `labels`: `n`. A `shape` of three dims is `[channels, height, width]`;
    /// any other has one channel.
    ///
    /// # Errors
    /// [`DataError::NoSamples`] when there are no labels; [`DataError::Size`] when the lengths do
    /// not fit one another; [`DataError::Normalise`]; [`DataError::Class`].
    pub fn new(
        pixels: Vec<u8>,
        labels: Vec<u8>,
        shape: Vec<usize>,
        classes: usize,
        normalise: &Normalise,
    ) -> Result<Self, DataError> {
        let (channels, plane) = channels_and_plane(&shape);
        if labels.is_empty() {
            return Err(DataError::NoSamples { part: "image" });
        }
        let need = labels.len().saturating_mul(channels).saturating_mul(plane);
        if pixels.len() != need || plane == 0 {
            return Err(DataError::Size { field: "number of pixels", got: pixels.len(), need: need.max(1) });
        }
        normalise.check(channels)?;
        if let Some(sample) = labels.iter().position(|label| usize::from(*label) >= classes) {
            return Err(DataError::Class { sample, got: labels[sample].into(), classes });
        }
        let kind = SampleKind::Classification { features: shape, classes };
        Ok(Self { kind, plane, pixels, labels, tables: normalise.tables() })
    }

    /// Classes of all samples.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }
}

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images").field("kind", &self.kind).field("len", &self.labels.len()).finish()
    }
}

impl Dataset for Images {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn kind(&self) -> &SampleKind {
        &self.kind
    }

    fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
        let features = inputs.expect_features();
        let each = self.plane * self.tables.len();
        assert_eq!(features.len(), indices.len() * each, "features of {} images", indices.len());
        assert_eq!(labels.len(), indices.len(), "labels of {} images", indices.len());
        for ((index, features), label) in indices.iter().zip(features.chunks_exact_mut(each)).zip(labels) {
            let pixels = &self.pixels[index * each..][..each];
            let planes = pixels.chunks_exact(self.plane).zip(features.chunks_exact_mut(self.plane));
            for ((pixels, features), table) in planes.zip(&self.tables) {
                for (feature, pixel) in features.iter_mut().zip(pixels) {
                    *feature = table[usize::from(*pixel)];
                }
            }
            *label = u32::from(self.labels[*index]);
        }
    }
}

/// Channels and values a channel of a sample.
pub(crate) fn channels_and_plane(shape: &[usize]) -> (usize, usize) {
    match shape {
        [channels, height, width] => (*channels, height.saturating_mul(*width)),
        _ => (1, shape.iter().fold(1, |product: usize, dim| product.saturating_mul(*dim))),
    }
}

fn moments(counts: &[u64; 256], scale: f32) -> (f32, f32) {
    let weighted = |weight: fn(u64) -> u64| -> u128 {
        (0..).zip(counts).map(|(byte, count)| u128::from(*count) * u128::from(weight(byte))).sum()
    };
    let n: u128 = weighted(|_| 1);
    let sum = weighted(|byte| byte);
    let squares = weighted(|byte| byte * byte);
    let scale = f64::from(scale);
    // n sum(x^2) - (sum x)^2 in whole numbers: nothing cancels
    let variance = (n * squares - sum * sum) as f64 / (n * n).max(1) as f64;
    let mean = sum as f64 / n.max(1) as f64;
    let std = if variance > 0.0 { variance.sqrt() / scale } else { 1.0 };
    ((mean / scale) as f32, std as f32)
}

#[cfg(test)]
mod tests {
    use super::{Images, Normalise};
    use crate::batch::BatchBuffers;
    use crate::dataset::Dataset;
    use crate::error::DataError;

    fn two_channels() -> Normalise {
        Normalise { scale: 10.0, mean: vec![0.5, 0.0], std: vec![0.5, 2.0] }
    }

    /// Channel 0: (x/10 - 0.5)/0.5, channel 1: x/20. A table for the wrong channel, a scale of 255 or a
    /// division before the subtraction each give other numbers.
    #[test]
    fn each_channel_has_its_own_table() {
        let pixels = vec![0, 10, 20, 30, 5, 15, 25, 35];
        let images = Images::new(pixels, vec![1, 0], vec![2, 1, 2], 2, &two_channels()).unwrap();
        let mut buffers = BatchBuffers::default();
        images.fill(&[1, 0], &mut buffers);
        assert_eq!(buffers.features(), [0.0, 2.0, 1.25, 1.75, -1.0, 1.0, 1.0, 1.5]);
        assert_eq!(buffers.labels(), [0, 1]);
        images.fill(&[0], &mut buffers);
        assert_eq!(buffers.features(), [-1.0, 1.0, 1.0, 1.5]);
        assert_eq!(buffers.len(), 1);
    }

    /// Channel 0 holds 0, 2, 4, 6 (mean 3, variance 5); channel 1 is constant.
    #[test]
    fn moments_are_measured_by_channel() {
        let measured = Normalise::measured(&[0, 2, 7, 7, 4, 6, 7, 7], 2, 2, 1.0);
        assert_eq!(measured.mean, [3.0, 7.0]);
        assert_eq!(measured.std, [5.0_f32.sqrt(), 1.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new =
            |pixels, labels, shape, normalise: &Normalise| Images::new(pixels, labels, shape, 2, normalise);
        let one = Normalise { scale: 1.0, mean: vec![0.0], std: vec![1.0] };
        assert!(matches!(new(vec![], vec![], vec![1], &one), Err(DataError::NoSamples { .. })));
        assert!(matches!(
            new(vec![0; 3], vec![0; 2], vec![2], &one),
            Err(DataError::Size { got: 3, need: 4, .. })
        ));
        assert!(matches!(
            new(vec![], vec![0; 2], vec![0], &one),
            Err(DataError::Size { field: "number of pixels", .. })
        ));
        assert!(matches!(
            new(vec![0; 2], vec![0, 2], vec![1], &one),
            Err(DataError::Class { sample: 1, got: 2, classes: 2 })
        ));
        assert!(matches!(
            new(vec![0; 2], vec![0, 1], vec![1], &two_channels()),
            Err(DataError::Size { field: "channels of mean", got: 2, need: 1 })
        ));
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let normalise = Normalise { std: vec![bad], ..one.clone() };
            let refused = new(vec![0; 2], vec![0, 1], vec![1], &normalise);
            assert!(matches!(refused, Err(DataError::Normalise { field: "data.std", .. })), "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "features of 1 images")]
    fn memory_of_another_length_is_refused() {
        let one = Normalise { scale: 1.0, mean: vec![0.0], std: vec![1.0] };
        let images = Images::new(vec![0; 2], vec![0], vec![2], 1, &one).unwrap();
        images.write(&[0], crate::InputsMut::Features(&mut [0.0; 3]), &mut [0]);
    }
}
