//! Automatic differentiation in both modes, layers, losses and models.
//!
//! A model is ordinary Rust over [`Var`]s; nobody writes a backward pass. A [`Graph`] holds the parameters, records what
//! the model computes and walks it back; [`Net`] is what a model implements. The types to know besides are
//! [`ParamBuilder`], which names and initialises parameters, and [`GradSink`], where gradients go.
//!
//! ```
//! use phalanx_nn::{FlatSink, Graph, NnError, ParamBuilder, layers::Linear};
//! use phalanx_tensor::{Cpu, Shape};
//!
//! let mut params = ParamBuilder::new();
//! let layer = params.scope("fc", |p| Linear::new(p, 2, 1));
//! let mut graph = Graph::new(Cpu::<f64>::new(), params.finish(), 7)?;
//! let mut sink = FlatSink::new(&graph)?;
//!
//! let x = graph.input(&[1.0, 2.0], Shape::from([1, 2]))?;
//! let loss = layer.forward(x)?.square()?.sum()?;
//! let y = loss.to_vec()[0].sqrt();
//! graph.backward(loss, 1.0, &mut sink)?;
//! // d(y^2)/dw = 2 y x, d(y^2)/db = 2 y
//! let grads = sink.to_vec();
//! assert!((grads[graph.params().span(layer.weight()).offset].abs() - 2.0 * y).abs() < 1e-12);
//! # Ok::<(), NnError>(())
//! ```
#![forbid(unsafe_code)]

mod backward;
mod composite;
mod curvature;
mod error;
mod graph;
pub mod layers;
pub mod models;
mod net;
mod observe;
mod params;
mod pool;
mod samples;
mod sink;
mod var;

pub use curvature::{HessianProduct, hessian_vector_product, jacobian_vector_product};
pub use error::NnError;
pub use graph::{Graph, Ids, Mode, StatsSync};
pub use net::{AnyNet, Features, Net, Registry, Task};
pub use observe::{ParamObserver, Parameterised};
pub use params::{Init, ParamBuilder, ParamId, ParamSpec, Params, Span};
pub use samples::{Coverage, Recording, SampleNorms, SampleProducts, SampleSquares};
pub use sink::{FlatSink, GradSink};
pub use var::{ConvOptions, Hits, Var};
