//! The four models of the library, and tiles of samples to run them on.

use phalanx_nn::models::ModelConfig;
use phalanx_nn::{AnyNet, Features, Graph, Net, NnError, ParamBuilder, Params, Registry, Task, Var};
use phalanx_tensor::{Backend, Shape};

pub(crate) const KINDS: [&str; 4] = ["mlp", "lenet5", "cnn", "gpt"];

/// What the model is for at its size in the library.
pub(crate) fn task(kind: &str) -> Task {
    match kind {
        "gpt" => Task::Predict { vocab: 256, context: 128 },
        _ => Task::Classify { features: Shape::from([1, 28, 28]), classes: 10 },
    }
}

/// A model of the registry and its parameters.
pub(crate) fn build(kind: &str, config: ModelConfig, task: &Task) -> (Box<dyn AnyNet>, Params) {
    let mut params = ParamBuilder::new();
    let net = Registry::default().build(kind, config, task, &mut params).unwrap();
    (net, params.finish())
}

/// Samples on the host.
pub(crate) struct Tile {
    pub(crate) task: Task,
    pub(crate) samples: usize,
    pub(crate) features: Vec<f32>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) labels: Vec<u32>,
}

impl Tile {
    /// The loss of each label.
    pub(crate) fn losses<'g, B, N>(&self, net: &N, graph: &'g Graph<B>) -> Result<Var<'g, B>, NnError>
    where
        B: Backend<Elem = f32>,
        N: Net<B> + ?Sized,
    {
        let x = match self.task {
            Task::Classify { features, .. } => {
                let [c, h, w] = [features[0], features[1], features[2]];
                Features::Dense(graph.input(&self.features, Shape::from([self.samples, c, h, w]))?)
            }
            Task::Predict { vocab, context } => Features::Tokens {
                ids: graph.ids(&self.tokens, vocab)?,
                samples: self.samples,
                time: context,
            },
        };
        let labels = graph.ids(&self.labels, self.task.outputs())?;
        Ok(net.logits(graph, x)?.cross_entropy(labels)?.0)
    }
}
