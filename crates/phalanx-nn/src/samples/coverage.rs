//! Whether every parameter of a model is seen by an observer, and by how many operators.

use crate::NnError;
use crate::backward::repeated_row;
use crate::graph::{Graph, Id, Inner, Op};
use crate::params::ParamId;
use phalanx_tensor::Backend;
use phalanx_tensor::op::BinaryKind;

/// How the operators of a model use its parameters, read off a tape: what per-sample statistics must know before the
/// backward pass.
///
/// # Examples
/// ```
/// use phalanx_nn::{Coverage, Graph, Init, NnError, ParamBuilder};
/// use phalanx_tensor::{Cpu, Shape};
///
/// let mut params = ParamBuilder::new();
/// let gain = params.param("gain", [2], Init::Constant(1.0));
/// let graph = Graph::new(Cpu::<f64>::new(), params.finish(), 1)?;
/// let x = graph.input(&[1.0, 2.0, 3.0, 4.0], Shape::from([2, 2]))?;
/// x.mul(graph.param(gain))?;
/// let refused = NnError::PerSample { operator: "mul", parameter: "gain".to_owned() };
/// assert_eq!(Coverage::of(&graph).unwrap_err(), refused);
/// # Ok::<(), NnError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    uses: Vec<usize>,
}

impl Coverage {
    /// Reads the tape of a forward pass in [`Mode::Train`](crate::Mode::Train), on any backend.
    ///
    /// # Errors
    /// [`NnError::PerSample`] for a trainable parameter that an operator uses without reporting it,
    /// [`NnError::SamplesMixed`] for batch normalisation by the batch's statistics.
    pub fn of<B: Backend>(graph: &Graph<B>) -> Result<Self, NnError> {
        let inner = graph.inner.borrow();
        let mut uses = vec![0; inner.params.iter().count()];
        for (at, node) in inner.nodes.iter().enumerate().filter(|(_, node)| node.grad) {
            if matches!(node.op, Op::BatchNorm { .. }) {
                return Err(NnError::SamplesMixed { operator: node.op.name() });
            }
            // A view of a parameter is not yet a use of it.
            #[expect(clippy::cast_possible_truncation, reason = "the tape's ids are u32")]
            if inner.param_part(Id(at as u32)).is_some() {
                continue;
            }
            for operand in node.op.operands() {
                if let Some((param, _)) = inner.param_part(operand) {
                    if !reports(&inner, node.op, node.shape, operand) {
                        let parameter = inner.params.spec(param).name.clone();
                        return Err(NnError::PerSample { operator: node.op.name(), parameter });
                    }
                    uses[param.index()] += 1;
                }
            }
        }
        Ok(Coverage { uses })
    }

    /// Operators that use a parameter.
    #[must_use]
    pub fn uses(&self, param: ParamId) -> usize {
        self.uses[param.index()]
    }

    pub(super) fn params(&self) -> usize {
        self.uses.len()
    }
}

/// Whether an operator reports the gradient of an operand that is a parameter.
fn reports<B: Backend>(inner: &Inner<B>, op: Op, shape: phalanx_tensor::Shape, operand: Id) -> bool {
    let whole = matches!(inner.nodes[inner.nodes[operand.at()].home.at()].op, Op::Param(_));
    match op {
        Op::Binary(BinaryKind::Add, ..) => repeated_row(inner.shape(operand), shape).is_some(),
        Op::Linear { x, .. } | Op::Conv2d { x, .. } | Op::LayerNorm { x, .. } | Op::RmsNorm { x, .. } => {
            whole && operand != x
        }
        Op::Gather { .. } => whole,
        _ => false,
    }
}
