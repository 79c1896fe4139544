//! Products with the Jacobian and the Hessian, exact, through the one engine.

use crate::NnError;
use crate::graph::Graph;
use crate::sink::FlatSink;
use crate::var::Var;
use phalanx_tensor::Backend;

/// Directional derivative of what `f` computes, along `direction` in parameter space.
///
/// # Shapes
/// `direction`: the trainable flat buffer. Returns the shape of `f`'s result.
///
/// # Errors
/// Those of `f`.
///
/// # Panics
/// When `direction` has another length.
pub fn jacobian_vector_product<B: Backend>(
    graph: &mut Graph<B>,
    direction: &[B::Elem],
    f: impl for<'g> Fn(&'g Graph<B>) -> Result<Var<'g, B>, NnError>,
) -> Result<Vec<B::Elem>, NnError> {
    graph.set_direction(direction)?;
    let result =
        f(graph).map(|y| y.tangent_to_vec().unwrap_or_else(|| vec![B::Elem::default(); y.shape().len()]));
    graph.clear_direction();
    result
}

/// A gradient and its derivative along a direction, both laid out as the trainable flat buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct HessianProduct<T> {
    /// The gradient.
    pub gradient: Vec<T>,
    /// The Hessian times the direction.
    pub product: Vec<T>,
}

/// Gradient of `f`'s summed result, and its derivative along `direction`: the Hessian times `direction`.
///
/// Forward mode over the backward pass: about four gradients' work, no step size, exact to rounding.
///
/// # Shapes
/// `direction`: the trainable flat buffer.
///
/// # Errors
/// Those of `f`.
///
/// # Panics
/// When `direction` has another length.
pub fn hessian_vector_product<B: Backend>(
    graph: &mut Graph<B>,
    direction: &[B::Elem],
    f: impl for<'g> Fn(&'g Graph<B>) -> Result<Var<'g, B>, NnError>,
) -> Result<HessianProduct<B::Elem>, NnError> {
    let mut sink = FlatSink::new(graph)?;
    graph.set_direction(direction)?;
    let done = f(graph).and_then(|loss| graph.backward(loss, 1.0, &mut sink));
    graph.clear_direction();
    done.map(|()| HessianProduct { gradient: sink.to_vec(), product: sink.tangents_to_vec() })
}
