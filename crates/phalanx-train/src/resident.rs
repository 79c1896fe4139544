//! The training set in the memory of the device, where it fits: a batch is then picked there by the numbers of its samples, and
//! nothing of their features travels.

use crate::config::{Limit, TrainConfig};
use crate::host::TrainBackend;
use phalanx_data::{BatchBuffers, Dataset, SampleKind};
use phalanx_nn::{Graph, NnError, Var};
use phalanx_tensor::Shape;

/// The set takes at most this part of what a rank may fill of its device: a twelfth of three quarters lies in the quarter that
/// the plan of activations leaves.
const PART: u64 = 12;
/// Samples that are brought over at once.
const AT_ONCE: usize = 4096;

/// Every sample, as the device and the host look them up.
pub(crate) struct Resident<B: TrainBackend> {
    /// `samples x width`, on the device.
    features: B::Buf,
    width: usize,
    /// One a sample, on the host: a class is no more than the number by which it would be asked for.
    labels: Vec<u32>,
    /// Those of the tile at hand.
    drawn: Vec<u32>,
    drawn_labels: Vec<u32>,
}

impl<B: TrainBackend> Resident<B> {
    /// Brings the samples over: none on a device without memory of its own, for text, whose windows overlap, for a set that
    /// does not fit, and where the run ends before it has seen each sample.
    pub(crate) fn new(backend: &B, data: &dyn Dataset, config: &TrainConfig) -> Option<Self> {
        let room = config.device_memory? / PART;
        let SampleKind::Classification { features, .. } = data.kind() else { return None };
        let (samples, width) = (data.len(), features.iter().product::<usize>());
        let sees = match config.limit {
            Limit::Epochs(epochs) => epochs.saturating_mul(samples as u64),
            Limit::Samples(samples) => samples,
            Limit::Steps(steps) => steps.saturating_mul(config.batch),
        };
        let fits = (samples * width * size_of::<f32>()) as u64 <= room && u32::try_from(samples).is_ok();
        if !fits || sees < samples as u64 || backend.host_view(&[]).is_some() {
            return None;
        }
        // what does not fit after all travels batch by batch
        let mut held = backend.alloc(samples * width).ok()?;
        let (mut buffers, mut indices, mut labels) = (BatchBuffers::default(), Vec::new(), Vec::new());
        for first in (0..samples).step_by(AT_ONCE) {
            let end = samples.min(first + AT_ONCE);
            indices.clear();
            indices.extend(first..end);
            data.fill(&indices, &mut buffers);
            backend.upload(buffers.features(), backend.view_mut(&mut held, first * width..end * width));
            labels.extend_from_slice(buffers.labels());
        }
        Some(Resident { features: held, width, labels, drawn: Vec::new(), drawn_labels: Vec::new() })
    }

    /// Looks for the labels of a tile's samples.
    #[expect(clippy::cast_possible_truncation, reason = "`new` has seen that samples are counted in 32 bits")]
    pub(crate) fn draw(&mut self, samples: &[usize]) {
        self.drawn.clear();
        self.drawn.extend(samples.iter().map(|sample| *sample as u32));
        self.drawn_labels.clear();
        self.drawn_labels.extend(samples.iter().map(|sample| self.labels[*sample]));
    }

    /// The features of the samples drawn, of `dims` each.
    pub(crate) fn input<'g>(&self, graph: &'g Graph<B>, dims: &[usize]) -> Result<Var<'g, B>, NnError> {
        let of_all: Vec<usize> = [&[self.drawn.len()], dims].concat();
        let (samples, backend) = (self.labels.len(), graph.backend());
        let table = backend.view(&self.features, 0..samples * self.width);
        graph.input_rows((table, samples), &self.drawn, Shape::new(&of_all))
    }

    /// The labels of the samples drawn.
    pub(crate) fn drawn_labels(&self) -> &[u32] {
        &self.drawn_labels
    }
}
