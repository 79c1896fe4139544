//! What can go wrong in a model.

use phalanx_tensor::{Shape, TensorError};

/// An error of this crate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// Operands whose shapes do not fit the operator.
    #[error("{op} needs {need}, got {got:?}")]
    Shape {
        /// The operator.
        op: &'static str,
        /// What it takes.
        need: &'static str,
        /// The shapes of its operands.
        got: Vec<Shape>,
    },
    /// A size of a model that cannot be.
    #[error("{model}: {field} is {got}, need {need}")]
    Size {
        /// The model.
        model: &'static str,
        /// The field of its configuration.
        field: &'static str,
        /// What was given.
        got: usize,
        /// What is possible.
        need: &'static str,
    },
    /// A model that is not in the registry.
    #[error("unknown model `{kind}`, known are: {}", known.join(", "))]
    UnknownModel {
        /// The name asked for.
        kind: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// The configuration of a model could not be read.
    #[error("model {model}: {detail}")]
    Config {
        /// The model.
        model: String,
        /// What is wrong, with the key.
        detail: String,
    },
    /// Two parameters of one name.
    #[error("two parameters are named `{name}`")]
    DuplicateParam {
        /// The name.
        name: String,
    },
    /// A graph asked for gradients that was run without recording.
    #[error("backward needs a graph in Mode::Train")]
    NotRecorded,
    /// An index out of range, a label or a token.
    #[error("index {got} at position {at}, the table has {len} rows")]
    Index {
        /// The index.
        got: u32,
        /// Where it stands.
        at: usize,
        /// Rows of the table.
        len: usize,
    },
    /// A parameter used so that its gradient does not come apart into those of samples.
    #[error(
        "{parameter} is an operand of {operator}, which does not tell the gradients of samples apart: use it in linear, \
         conv2d, gather, layer_norm, rms_norm or add, or take statistics over ranks or micro-batches"
    )]
    PerSample {
        /// The operator.
        operator: &'static str,
        /// The parameter.
        parameter: String,
    },
    /// An operator in which samples see each other, so that none has a gradient of its own.
    #[error(
        "{operator} normalises each sample by the others of its batch, so that none has a gradient of its own: take \
         statistics over ranks or micro-batches, or freeze the layer"
    )]
    SamplesMixed {
        /// The operator.
        operator: &'static str,
    },
    /// Rows of an operator that do not belong to samples.
    #[error("{operator} has {rows} rows, which are not equally many for each of {samples} samples")]
    SampleRows {
        /// The operator.
        operator: &'static str,
        /// Its rows.
        rows: usize,
        /// Samples of the pass.
        samples: usize,
    },
    /// Another rank failed, or the job was stopped, during a reduction inside the model.
    #[error("the reduction of batch statistics failed: {reason}")]
    Sync {
        /// Why.
        reason: String,
    },
    /// The device refused.
    #[error("the device refused")]
    Tensor(#[from] TensorError),
}
