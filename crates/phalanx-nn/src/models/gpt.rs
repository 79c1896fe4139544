//! A small byte-level transformer.

use crate::NnError;
use crate::graph::Graph;
use crate::layers::{Embedding, LayerNorm, Linear};
use crate::models::ModelConfig;
use crate::net::{Features, Net, Task};
use crate::params::{Init, ParamBuilder};
use crate::var::Var;
use phalanx_tensor::op::UnaryKind;
use phalanx_tensor::{Backend, Shape};

/// A pre-norm transformer with learned positions, tanh-GELU, an MLP of four times the width and a head tied to the
/// token table; 4 layers of width 128 with 4 heads and context 128 have 842,496 parameters.
///
/// Weights begin normal with deviation 0.02, those that write to the residual stream divided by `sqrt(2 layers)`;
/// biases begin at 0.
///
/// # Reference
/// Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
#[derive(Debug)]
pub struct Gpt {
    tok: Embedding,
    pos: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    heads: usize,
    dropout: f64,
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
}

const EPS: f64 = 1e-5;

impl Gpt {
    /// Keys: `layers` (4), `width` (128), `heads` (4), `context` (128, that of the data), `dropout` (0).
    ///
    /// # Errors
    /// [`NnError::Size`] when the width is not divisible by the heads or the context is not that of the data,
    /// [`NnError::Config`] for other data than tokens.
    pub fn from_config(
        config: &mut ModelConfig,
        task: &Task,
        params: &mut ParamBuilder,
    ) -> Result<Self, NnError> {
        let Task::Predict { vocab, context } = *task else {
            let detail = "predicts tokens, the data are features with labels".to_owned();
            return Err(NnError::Config { model: "gpt".to_owned(), detail });
        };
        let (layers, width) = (config.size("layers", 4)?, config.size("width", 128)?);
        let (heads, positions) = (config.size("heads", 4)?, config.size("context", context)?);
        let dropout = config.probability("dropout", 0.0)?;
        let size = |field, got, need| Err(NnError::Size { model: "gpt", field, got, need });
        if width % heads != 0 {
            return size("heads", heads, "a divisor of width");
        }
        if positions != context {
            return size("context", positions, "the context of the data");
        }
        let normal = Init::Normal(0.02);
        #[expect(clippy::cast_precision_loss, reason = "a few layers")]
        let residual = Init::Normal(0.02 / (2.0 * layers as f64).sqrt());
        let zero = Some(Init::Constant(0.0));
        let tok = params.scope("tok", |p| Embedding::new(p, vocab, width, normal));
        let pos = params.scope("pos", |p| Embedding::new(p, context, width, normal));
        let block = |p: &mut ParamBuilder| Block {
            norm1: p.scope("norm1", |p| LayerNorm::new(p, width, EPS)),
            qkv: p.scope("qkv", |p| Linear::with_init(p, width, 3 * width, normal, zero)),
            proj: p.scope("proj", |p| Linear::with_init(p, width, width, residual, zero)),
            norm2: p.scope("norm2", |p| LayerNorm::new(p, width, EPS)),
            up: p.scope("up", |p| Linear::with_init(p, width, 4 * width, normal, zero)),
            down: p.scope("down", |p| Linear::with_init(p, 4 * width, width, residual, zero)),
        };
        let blocks = (0..layers).map(|i| params.scope(format_args!("blocks.{i}"), block)).collect();
        let norm = params.scope("norm", |p| LayerNorm::new(p, width, EPS));
        Ok(Gpt { tok, pos, blocks, norm, heads, dropout })
    }
}

impl<B: Backend> Net<B> for Gpt {
    fn logits<'g>(&self, graph: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
        let Features::Tokens { ids, samples, time } = x else {
            let got = vec![x.dense()?.shape()];
            return Err(NnError::Shape { op: "gpt", need: "tokens", got });
        };
        let tok = self.tok.forward(graph, ids)?;
        let width = tok.shape().last();
        let pos = graph.param(self.pos.weight()).narrow(0, 0, time)?;
        let mut x = tok.reshape(Shape::from([samples, time, width]))?.add(pos)?.dropout(self.dropout)?;
        for block in &self.blocks {
            let attended = block.qkv.forward(block.norm1.forward(x)?)?.attention(self.heads)?;
            x = x.add(block.proj.forward(attended)?.dropout(self.dropout)?)?;
            let wide = block.up.forward_act(block.norm2.forward(x)?, UnaryKind::GeluTanh)?;
            x = x.add(block.down.forward(wide)?.dropout(self.dropout)?)?;
        }
        self.norm.forward(x)?.linear(graph.param(self.tok.weight()), None)
    }
}
