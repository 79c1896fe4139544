//! The curvature of the loss at a checkpoint: exact products of its Hessian with vectors.

use crate::checkpoint::Checkpoint;
use crate::error::TrainError;
use crate::host::HostBackend;
use crate::plan::{Plan, Tile, losses, tiles};
use crate::state::flat_from;
use phalanx_data::{BatchBuffers, Dataset};
use phalanx_nn::{Graph, Net, Task, hessian_vector_product};
use std::ops::Range;

/// The mean loss over fixed samples as a function of the parameters, at a checkpoint.
///
/// # Numerics
/// Dropout, where the model has it, draws the masks of step 0. Products are in single precision, summed tile by tile.
pub struct LossSurface<'a, B: HostBackend> {
    graph: Graph<B>,
    net: &'a dyn Net<B>,
    task: Task,
    data: &'a dyn Dataset,
    indices: Vec<usize>,
    tile: usize,
    /// Where the trainable parameters lie in the flat buffer, which has gaps.
    spans: Vec<Range<usize>>,
    buffers: BatchBuffers,
}

impl<B: HostBackend> std::fmt::Debug for LossSurface<'_, B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LossSurface").field("samples", &self.indices.len()).finish_non_exhaustive()
    }
}

impl<'a, B: HostBackend> LossSurface<'a, B> {
    /// The loss over the samples `indices` of `data`.
    ///
    /// # Errors
    /// [`TrainError::Resume`] when the checkpoint is of another model.
    pub fn new(
        backend: B,
        plan: &Plan,
        net: &'a dyn Net<B>,
        task: Task,
        held: &Checkpoint,
        data: &'a dyn Dataset,
        indices: Vec<usize>,
    ) -> Result<Self, TrainError> {
        let mut graph = Graph::new(backend, plan.params.clone(), 0)?;
        graph.set_params(&flat_from(&plan.params, &held.model)?);
        // a product holds values and tangents of both passes
        let tile = plan.tile.div_ceil(4).max(1);
        let trainable = plan.params.iter().filter(|(_, spec, _)| spec.trainable);
        let spans = trainable.map(|(_, _, span)| span.offset..span.offset + span.len).collect();
        Ok(LossSurface { graph, net, task, data, indices, tile, spans, buffers: BatchBuffers::default() })
    }

    /// Trainable parameters: the rows of the Hessian.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.spans.iter().map(Range::len).sum()
    }

    /// Writes the Hessian times `direction` to `out`.
    ///
    /// # Shapes
    /// Both [`dim`](Self::dim).
    ///
    /// # Errors
    /// Those of the model.
    pub fn hessian_product(&mut self, direction: &[f64], out: &mut [f64]) -> Result<(), TrainError> {
        let mut flat = vec![0.0; self.graph.params().grad_len()];
        let mut rest = direction.iter();
        for span in &self.spans {
            #[expect(clippy::cast_possible_truncation, reason = "the model is in single precision")]
            flat[span.clone()].iter_mut().zip(&mut rest).for_each(|(to, from)| *to = *from as f32);
        }
        out.fill(0.0);
        let cut: Vec<_> = tiles(self.indices.len(), self.tile).collect();
        for tile in cut {
            self.data.fill(&self.indices[tile.clone()], &mut self.buffers);
            let held = Tile {
                features: self.buffers.features(),
                tokens: self.buffers.tokens(),
                labels: self.buffers.labels(),
                samples: tile.len(),
            };
            let (net, task) = (self.net, &self.task);
            let product = hessian_vector_product(&mut self.graph, &flat, |graph| {
                losses(net, graph, task, &held).map(|(loss, _)| loss)
            })?;
            let parts = self.spans.iter().flat_map(|span| &product.product[span.clone()]);
            out.iter_mut().zip(parts).for_each(|(sum, part)| *sum += f64::from(*part));
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let labels = (self.indices.len() * self.task.labels_per_sample()).max(1) as f64;
        out.iter_mut().for_each(|x| *x /= labels);
        Ok(())
    }
}
