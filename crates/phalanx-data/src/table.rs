//! Rows of real numbers with a class each.

use crate::batch::InputsMut;
use crate::dataset::{Dataset, SampleKind};
use crate::error::DataError;

/// Labelled rows, as `f32`.
#[derive(Clone)]
pub struct Table {
    kind: SampleKind,
    columns: usize,
    rows: Vec<f32>,
    labels: Vec<u32>,
}

impl Table {
    /// A set of rows.
    ///
    /// # Shapes
    /// `rows`: `n x columns`; `labels`: `n`.
    ///
    /// # Errors
    /// [`DataError::NoSamples`] when there are no labels; [`DataError::Size`] when the lengths do
    /// not fit one another; [`DataError::Class`].
    pub fn new(rows: Vec<f32>, labels: Vec<u32>, columns: usize, classes: usize) -> Result<Self, DataError> {
        if labels.is_empty() {
            return Err(DataError::NoSamples { part: "table" });
        }
        let need = labels.len().saturating_mul(columns);
        if rows.len() != need || columns == 0 {
            return Err(DataError::Size { field: "number of features", got: rows.len(), need: need.max(1) });
        }
        if let Some(sample) = labels.iter().position(|label| *label as usize >= classes) {
            return Err(DataError::Class { sample, got: labels[sample] as usize, classes });
        }
        let kind = SampleKind::Classification { features: vec![columns], classes };
        Ok(Self { kind, columns, rows, labels })
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("kind", &self.kind).field("len", &self.labels.len()).finish()
    }
}

impl Dataset for Table {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn kind(&self) -> &SampleKind {
        &self.kind
    }

    fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
        let features = inputs.expect_features();
        assert_eq!(features.len(), indices.len() * self.columns, "features of {} rows", indices.len());
        assert_eq!(labels.len(), indices.len(), "labels of {} rows", indices.len());
        for ((index, row), label) in indices.iter().zip(features.chunks_exact_mut(self.columns)).zip(labels) {
            row.copy_from_slice(&self.rows[index * self.columns..][..self.columns]);
            *label = self.labels[*index];
        }
    }
}
