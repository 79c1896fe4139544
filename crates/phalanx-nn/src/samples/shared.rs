//! Parameters of several operators: their gradient is a sum, whose length is not that of its terms.

use crate::NnError;
use crate::observe::Parameterised;
use crate::params::{ParamId, Params};
use crate::pool::Pool;
use crate::samples::gradient::add_sample_gradient;
use crate::samples::recording::Recording;
use crate::samples::{Coverage, rows_of};
use phalanx_tensor::Backend;

/// Keeps the operators of shared parameters until the last of them came.
#[derive(Debug)]
pub(super) struct Shared<B: Backend> {
    coverage: Coverage,
    held: Recording<B>,
    seen: Vec<usize>,
    pool: Pool<B>,
}

impl<B: Backend> Shared<B> {
    pub(super) fn new(coverage: &Coverage) -> Self {
        let seen = vec![0; coverage.params()];
        Shared { coverage: coverage.clone(), held: Recording::new(), seen, pool: Pool::new() }
    }

    pub(super) fn begin(&mut self) {
        self.held.clear();
        self.seen.fill(0);
    }

    /// Whether one of the operator's parameters has others too.
    pub(super) fn concerns(&self, op: &Parameterised<'_, B>) -> bool {
        op.params().any(|param| self.coverage.uses(param) > 1)
    }

    /// Keeps an operator and calls `visit` with each parameter that is complete with it, sample by sample with its
    /// gradient.
    pub(super) fn take(
        &mut self,
        backend: &B,
        params: &Params,
        op: &Parameterised<'_, B>,
        samples: usize,
        mut visit: impl FnMut(ParamId, usize, B::View<'_>),
    ) -> Result<(), NnError> {
        self.held.record(backend, op)?;
        for param in op.params() {
            self.seen[param.index()] += 1;
            if self.seen[param.index()] < self.coverage.uses(param) {
                continue;
            }
            let len = params.span(param).len;
            let mut gradient = self.pool.take(backend, len)?;
            for i in 0..samples {
                backend.fill(0.0, backend.view_mut(&mut gradient.buf, 0..len));
                for term in self.held.operators(backend).filter(|op| op.params().any(|p| p == param)) {
                    let rows = rows_of(&term, samples)?;
                    let out = backend.view_mut(&mut gradient.buf, 0..len);
                    add_sample_gradient(backend, &mut self.pool, &term, param, (rows, i), out)?;
                }
                visit(param, i, backend.view(&gradient.buf, 0..len));
            }
            self.pool.give(gradient);
        }
        Ok(())
    }
}
