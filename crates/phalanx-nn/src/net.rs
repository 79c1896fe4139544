//! What a model is to the rest of phalanx, and the registry of models by name.

use crate::NnError;
use crate::graph::{Graph, Ids};
use crate::models::{self, ModelConfig};
use crate::params::ParamBuilder;
use crate::var::Var;
use phalanx_tensor::{Backend, Cpu, Meta, Shape};
use std::collections::BTreeMap;
use std::fmt;

/// The input of a model.
#[derive(Clone, Copy, Debug)]
pub enum Features<'g, B: Backend> {
    /// Numbers, `[samples, ..]`.
    Dense(Var<'g, B>),
    /// Tokens, `samples x time`.
    Tokens {
        /// Their ids.
        ids: Ids<'g>,
        /// Sequences.
        samples: usize,
        /// Positions of each.
        time: usize,
    },
}

impl<'g, B: Backend> Features<'g, B> {
    /// Dense features.
    ///
    /// # Errors
    /// [`NnError::Shape`] for tokens.
    pub fn dense(self) -> Result<Var<'g, B>, NnError> {
        match self {
            Features::Dense(x) => Ok(x),
            Features::Tokens { samples, time, .. } => Err(NnError::Shape {
                op: "model",
                need: "dense features",
                got: vec![Shape::from([samples, time])],
            }),
        }
    }
}

/// What a model is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// One label for each sample of dense features.
    Classify {
        /// Shape of one sample.
        features: Shape,
        /// Number of labels.
        classes: usize,
    },
    /// The next token at each position.
    Predict {
        /// Number of tokens.
        vocab: usize,
        /// Positions of a sample.
        context: usize,
    },
}

impl Task {
    /// Labels of one sample: one, or one a position.
    #[must_use]
    pub fn labels_per_sample(&self) -> usize {
        match self {
            Task::Classify { .. } => 1,
            Task::Predict { context, .. } => *context,
        }
    }

    /// Number of classes or tokens.
    #[must_use]
    pub fn outputs(&self) -> usize {
        match self {
            Task::Classify { classes, .. } => *classes,
            Task::Predict { vocab, .. } => *vocab,
        }
    }
}

/// A model on one kind of device: it holds the ids of its parameters and writes the computation.
///
/// ```
/// use phalanx_nn::{Features, Graph, Net, NnError, Var, layers::Linear};
/// use phalanx_tensor::Backend;
///
/// struct TwoLayers { first: Linear, second: Linear }
///
/// impl<B: Backend> Net<B> for TwoLayers {
///     fn logits<'g>(&self, _: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
///         self.second.forward(self.first.forward(x.dense()?.flatten()?)?.relu()?)
///     }
/// }
/// ```
pub trait Net<B: Backend>: Send + Sync {
    /// The logits, `[samples, classes]` or `[samples, time, vocab]`.
    ///
    /// # Errors
    /// Those of the operators.
    fn logits<'g>(&self, graph: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError>;
}

/// A model on every kind of device that phalanx is built for. Implemented by whatever implements [`Net`] for all.
#[cfg(not(feature = "cuda"))]
pub trait AnyNet: Net<Cpu<f32>> + Net<Cpu<f64>> + Net<Meta<f32>> {}

/// A model on every kind of device that phalanx is built for. Implemented by whatever implements [`Net`] for all.
#[cfg(feature = "cuda")]
pub trait AnyNet: Net<Cpu<f32>> + Net<Cpu<f64>> + Net<Meta<f32>> + Net<phalanx_cuda::Cuda> {}

#[cfg(not(feature = "cuda"))]
impl<N: Net<Cpu<f32>> + Net<Cpu<f64>> + Net<Meta<f32>>> AnyNet for N {}

#[cfg(feature = "cuda")]
impl<N: Net<Cpu<f32>> + Net<Cpu<f64>> + Net<Meta<f32>> + Net<phalanx_cuda::Cuda>> AnyNet for N {}

/// Makes a model from its configuration.
type Build =
    Box<dyn Fn(&mut ModelConfig, &Task, &mut ParamBuilder) -> Result<Box<dyn AnyNet>, NnError> + Send + Sync>;

/// The models that a run file can name.
pub struct Registry {
    builders: BTreeMap<String, Build>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.builders.keys()).finish()
    }
}

impl Default for Registry {
    /// The models of the library.
    fn default() -> Self {
        let mut registry = Registry { builders: BTreeMap::new() };
        registry.register("mlp", |c, t, p| models::Mlp::from_config(c, t, p).map(boxed));
        registry.register("lenet5", |c, t, p| models::LeNet5::from_config(c, t, p).map(boxed));
        registry.register("cnn", |c, t, p| models::Cnn::from_config(c, t, p).map(boxed));
        registry.register("gpt", |c, t, p| models::Gpt::from_config(c, t, p).map(boxed));
        registry
    }
}

fn boxed<N: AnyNet + 'static>(net: N) -> Box<dyn AnyNet> {
    Box::new(net)
}

impl Registry {
    /// Adds a model, or replaces the one of that name.
    pub fn register(
        &mut self,
        kind: &str,
        build: impl Fn(&mut ModelConfig, &Task, &mut ParamBuilder) -> Result<Box<dyn AnyNet>, NnError>
        + Send
        + Sync
        + 'static,
    ) {
        self.builders.insert(kind.to_owned(), Box::new(build));
    }

    /// The names.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.builders.keys().map(String::as_str)
    }

    /// Makes the model of a name.
    ///
    /// # Errors
    /// [`NnError::UnknownModel`], [`NnError::Config`] for a key that the model does not take, and what the model says.
    pub fn build(
        &self,
        kind: &str,
        mut config: ModelConfig,
        task: &Task,
        params: &mut ParamBuilder,
    ) -> Result<Box<dyn AnyNet>, NnError> {
        let unknown = || NnError::UnknownModel {
            kind: kind.to_owned(),
            known: self.kinds().map(str::to_owned).collect(),
        };
        let build = self.builders.get(kind).ok_or_else(unknown)?;
        let net = build(&mut config, task, params)?;
        config.finish(kind)?;
        Ok(net)
    }
}
