//! The gradients of a rank's samples, measured while they add up: lengths in the backward pass, inner products with
//! the mean gradient once that is known.

use crate::error::TrainError;
use crate::host::TrainBackend;
use phalanx_grad::{ChunkSums, Projections};
use phalanx_nn::{
    Coverage, GradSink, Graph, NnError, ParamId, Params, Recording, SampleNorms, SampleProducts,
    SampleSquares, Var,
};
use phalanx_tensor::Write;
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of inputs and output gradients that a rank keeps for the inner products where it is given no limit.
pub(crate) const RECORDED_BYTES: u64 = 1 << 30;

/// Per-sample statistics of a rank, and the memory for them.
pub(crate) struct SampleStatistics<B: TrainBackend> {
    coverage: Coverage,
    params: Params,
    norms: SampleNorms<B>,
    /// Made when they are first asked for.
    squares: Option<SampleSquares<B>>,
    measures_squares: bool,
    /// A recording a tile, in use up to `recorded`.
    recordings: Vec<(Recording<B>, Range<usize>)>,
    recorded: usize,
    /// Tiles for which there was no room.
    missed: Vec<Range<usize>>,
    /// As long as the longest parameter; made when a gradient is first thrown away.
    unread: Option<B::Buf>,
    projections: bool,
    /// Bytes for recordings; what finds no room is computed again.
    room: u64,
    /// The part since the last [`SampleStatistics::take`].
    sums: ChunkSums,
}

impl<B: TrainBackend> SampleStatistics<B> {
    pub(crate) fn new(params: &Params, coverage: &Coverage) -> Self {
        SampleStatistics {
            coverage: coverage.clone(),
            params: params.clone(),
            norms: SampleNorms::new(params, coverage),
            squares: None,
            measures_squares: false,
            recordings: Vec::new(),
            recorded: 0,
            missed: Vec::new(),
            unread: None,
            projections: false,
            room: 0,
            sums: ChunkSums::default(),
        }
    }

    /// Forgets everything for a new step; recordings may take `room` bytes.
    pub(crate) fn begin(
        &mut self,
        backend: &B,
        projections: bool,
        squares: bool,
        room: u64,
    ) -> Result<(), NnError> {
        self.recordings[..self.recorded].iter_mut().for_each(|(recording, _)| recording.clear());
        self.missed.clear();
        (self.recorded, self.projections, self.room) = (0, projections, room);
        self.sums = ChunkSums::default();
        self.measures_squares = squares;
        if squares && self.squares.is_none() {
            self.squares = Some(SampleSquares::new(backend, &self.params, &self.coverage)?);
        }
        self.clear_squares();
        Ok(())
    }

    /// Squares of what comes from now on are summed by themselves.
    pub(crate) fn clear_squares(&mut self) {
        if let Some(squares) = self.squares.as_mut().filter(|_| self.measures_squares) {
            squares.clear();
        }
    }

    /// `sum g_j^2` over the samples since the last [`SampleStatistics::clear_squares`], for each coordinate `j`, of what
    /// each added to the gradient of the batch.
    pub(crate) fn squares(&self) -> Option<B::View<'_>> {
        self.squares.as_ref().filter(|_| self.measures_squares).map(SampleSquares::view)
    }

    /// The backward pass of a tile, measured. `batch` is the number of samples of which the loss is the mean.
    pub(crate) fn backward(
        &mut self,
        graph: &Graph<B>,
        (loss, seed): (Var<'_, B>, f64),
        sink: &mut dyn GradSink<B>,
        tile: &Range<usize>,
        batch: usize,
    ) -> Result<(), NnError> {
        self.norms.begin(tile.len());
        let has_room = self.recorded_bytes() < self.room;
        let mut squares = self.squares.as_mut().filter(|_| self.measures_squares);
        if let Some(squares) = &mut squares {
            squares.begin(tile.len());
        }
        let mut recording = None;
        if self.projections && has_room {
            if self.recorded == self.recordings.len() {
                self.recordings.push((Recording::new(), 0..0));
            }
            let (place, of) = &mut self.recordings[self.recorded];
            of.clone_from(tile);
            self.recorded += 1;
            recording = Some(place);
        } else if self.projections {
            self.missed.push(tile.clone());
        }
        let mut observers = (&mut self.norms, (recording, squares.as_deref_mut()));
        graph.backward_observed(loss, seed, sink, &mut observers)?;
        if let Some(squares) = squares {
            squares.finish()?;
        }
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        self.norms.finish(batch as f64)?;
        for norm in self.norms.total() {
            self.sums.q += norm;
            self.sums.nonfinite += u64::from(!norm.is_finite());
        }
        self.sums.samples += tile.len() as u64;
        self.sums.chunks += tile.len() as u64;
        Ok(())
    }

    /// What was measured since the last call, of samples whose losses add up to `loss_sum`.
    pub(crate) fn take(&mut self, loss_sum: f64) -> ChunkSums {
        ChunkSums { loss_sum, ..std::mem::take(&mut self.sums) }
    }

    /// Tiles whose backward pass must be run again for [`SampleStatistics::project_again`].
    pub(crate) fn missed(&self) -> Vec<Range<usize>> {
        self.missed.clone()
    }

    /// Inner products of the recorded samples with the mean gradient, for each tile by its first sample.
    pub(crate) fn project(
        &self,
        backend: &B,
        mean: B::View<'_>,
        batch: usize,
    ) -> Result<BTreeMap<usize, Projections>, TrainError> {
        let mut projections = BTreeMap::new();
        let mut products = SampleProducts::new(&self.params, &self.coverage, mean);
        for (recording, tile) in &self.recordings[..self.recorded] {
            products.begin(tile.len());
            recording.replay(backend, &mut products)?;
            projections.insert(tile.start, summed(&mut products, batch)?);
        }
        Ok(projections)
    }

    /// The same for a tile run again; its gradient is thrown away.
    pub(crate) fn project_again(
        &mut self,
        graph: &Graph<B>,
        (loss, seed): (Var<'_, B>, f64),
        mean: B::View<'_>,
        tile: &Range<usize>,
        batch: usize,
    ) -> Result<Projections, TrainError> {
        let mut products = SampleProducts::new(&self.params, &self.coverage, mean);
        products.begin(tile.len());
        let memory = match &mut self.unread {
            Some(memory) => memory,
            None => {
                let longest = self.params.iter().map(|(.., span)| span.len).max().unwrap_or(0);
                self.unread.insert(graph.backend().alloc(longest)?)
            }
        };
        let mut unread = Unread { backend: graph.backend(), params: &self.params, memory };
        graph.backward_observed(loss, seed, &mut unread, &mut products)?;
        Ok(summed(&mut products, batch)?)
    }

    fn recorded_bytes(&self) -> u64 {
        self.recordings[..self.recorded].iter().map(|(recording, _)| recording.bytes() as u64).sum()
    }
}

fn summed<B: TrainBackend>(
    products: &mut SampleProducts<'_, B>,
    batch: usize,
) -> Result<Projections, NnError> {
    #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
    products.finish(batch as f64)?;
    let mut projections = Projections::default();
    products.total().iter().for_each(|product| projections.add(1, *product));
    Ok(projections)
}

/// Where a gradient goes that nobody reads.
struct Unread<'a, B: TrainBackend> {
    backend: &'a B,
    params: &'a Params,
    memory: &'a mut B::Buf,
}

impl<B: TrainBackend> Unread<'_, B> {
    fn place(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        let len = self.params.span(param).len;
        (Write::Set, self.backend.view_mut(self.memory, 0..len))
    }
}

impl<B: TrainBackend> GradSink<B> for Unread<'_, B> {
    fn target(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        self.place(param)
    }

    fn tangent(&mut self, param: ParamId) -> (Write, B::ViewMut<'_>) {
        self.place(param)
    }
}
