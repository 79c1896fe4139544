//! What a client does: from the server's model and its own samples to an update.

use crate::config::{Length, LocalConfig};
use crate::error::FederatedError;
use phalanx_data::{BatchBuffers, Dataset, Sampler};
use phalanx_grad::{GradLayout, Transform, UpdateStep};
use phalanx_nn::{FlatSink, Graph, Mode, Net, Task};
use phalanx_robust::attack::Pgd;
use phalanx_tensor::rng::{Purpose, Stream};
use phalanx_train::{HostBackend, Plan, Tile, losses, tiles};
use std::fmt;
use std::sync::Arc;

/// Steps between two projections of a client that stays in a ball; it is projected after its last step too.
const PROJECT_EVERY: u64 = 10;

/// The work of one client in one round.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// Of whatever is random.
    pub seed: u64,
    /// The round, counted from 1.
    pub round: u64,
    /// The client.
    pub client: u64,
    /// How it trains.
    pub config: LocalConfig,
    /// Learning rate of this round.
    pub lr: f64,
    /// The factor of the distance to the server's model that is added to each gradient.
    pub proximal: f64,
    /// The server's control variate and the client's own, if gradients are corrected by their difference.
    pub control: Option<(&'a [f32], &'a [f32])>,
    /// The ball around the server's model that the client stays in.
    pub ball: Option<Pgd>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// How far the model moved; not a number from the first to the last where training gave numbers that are not finite.
    pub update: Vec<f32>,
    /// Steps that were made.
    pub steps: u64,
    /// Samples that they took, each as often as it was taken.
    pub seen: u64,
    /// Mean loss of the samples over all steps.
    pub loss: f64,
    /// Share of them that were answered right.
    pub accuracy: f64,
    /// The gradient of the last step, without what was added to it.
    pub last_gradient: Vec<f32>,
}

/// A model in which clients train, one after the other.
///
/// What a client does is a function of its [`Local`], its samples and the server's model: nothing of the client before is left.
pub struct Trainer<B: HostBackend> {
    graph: Graph<B>,
    sink: FlatSink<B>,
    net: Arc<dyn Net<B>>,
    task: Task,
    tile: usize,
    buffers: BatchBuffers,
    rows: Vec<f32>,
    gradient: Vec<f32>,
    /// With what the server's algorithm adds.
    corrected: Vec<f32>,
}

impl<B: HostBackend> fmt::Debug for Trainer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer").field("task", &self.task).field("tile", &self.tile).finish_non_exhaustive()
    }
}

impl<B: HostBackend> Trainer<B> {
    /// A model as `plan` has it, with the weights of `seed`.
    ///
    /// # Errors
    /// When the device has too little memory.
    pub fn new(
        backend: B,
        net: Arc<dyn Net<B>>,
        task: Task,
        plan: &Plan,
        seed: u64,
    ) -> Result<Self, FederatedError> {
        let graph = Graph::new(backend, plan.params.clone(), seed)?;
        let sink = FlatSink::new(&graph)?;
        let gradient = vec![0.0; plan.params.grad_len()];
        let (tile, buffers, rows, corrected) = (plan.tile, BatchBuffers::default(), Vec::new(), Vec::new());
        Ok(Trainer { graph, sink, net, task, tile, buffers, rows, gradient, corrected })
    }

    /// The whole model, statistics last.
    #[must_use]
    pub fn model(&self) -> Vec<f32> {
        self.graph.params_to_vec()
    }

    /// Puts a model in.
    ///
    /// # Panics
    /// When `model` has another length than [`model`](Self::model).
    pub fn load(&mut self, model: &[f32]) {
        let (trainable, statistics) = model.split_at(self.graph.params().grad_len());
        self.graph.params_mut().copy_from_slice(trainable);
        self.graph.statistics_mut().copy_from_slice(statistics);
    }

    /// The graph, to score what was put in.
    pub(crate) fn graph_mut(&mut self) -> &mut Graph<B> {
        &mut self.graph
    }

    /// Trains from the server's model on a client's samples; `optimizer` is new or used, its state is made anew.
    ///
    /// # Errors
    /// [`FederatedError::Data`] without samples, and those of the model and the optimizer. Numbers that are not finite are no
    /// error: see [`Trained::update`].
    pub fn train(
        &mut self,
        server: &[f32],
        data: &dyn Dataset,
        local: &Local<'_>,
        optimizer: &mut dyn Transform<B>,
    ) -> Result<Trained, FederatedError> {
        let backend = self.graph.backend().clone();
        self.load(server);
        optimizer.prepare(&backend, &GradLayout::flat(self.gradient.len()))?;
        let [a, b, c, d] = Stream::new(local.seed, Purpose::Client, local.round).at(local.client);
        let (order, first) = (u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d));
        let mut sampler = Sampler::new(data.len(), order)?;
        let (mut cursor, mut steps, mut seen) = (0_u64, 0_u64, 0_u64);
        let (mut loss, mut hits) = (0.0, 0);
        loop {
            let is_done = match local.config.length {
                Length::Epochs(epochs) => cursor >= epochs.saturating_mul(data.len() as u64),
                Length::Steps(most) => steps >= most,
            };
            if is_done {
                break;
            }
            let batch = sampler.batch(cursor, local.config.batch.max(1));
            (cursor, seen) = (batch.next, seen + batch.indices.len() as u64);
            let (sum, right) = self.gradient_of(data, batch.indices, first.wrapping_add(steps))?;
            loss += sum;
            hits += right;
            let gradient = match self.correct(server, local) {
                true => &self.corrected,
                false => &self.gradient,
            };
            let moments = backend.moments(gradient);
            if !loss.is_finite() || moments.nonfinite > 0 {
                let (update, last_gradient) = (vec![f32::NAN; server.len()], self.gradient.clone());
                return Ok(Trained { update, steps, seen, loss: f64::NAN, accuracy: 0.0, last_gradient });
            }
            steps += 1;
            let grad_scale = match local.config.clip_norm {
                Some(max) => phalanx_optim::clip_by_global_norm(moments.sum_sq, max),
                None => 1.0,
            };
            let step = UpdateStep {
                step: steps,
                samples: cursor,
                lr: local.lr,
                grad_scale,
                grad_norm_sq: moments.sum_sq,
                grad_norm_l1: moments.sum_abs,
            };
            optimizer.update(&backend, &step, self.graph.params_mut(), gradient)?;
            if let Some(ball) = local.ball.filter(|_| steps.is_multiple_of(PROJECT_EVERY)) {
                let near = self.update(server, Some(ball));
                let moved: Vec<f32> =
                    server.iter().zip(near).map(|(server, update)| server + update).collect();
                self.load(&moved);
            }
        }
        let labels = (seen * self.task.labels_per_sample() as u64).max(1) as f64;
        Ok(Trained {
            update: self.update(server, local.ball),
            steps,
            seen,
            loss: loss / labels,
            accuracy: hits as f64 / labels,
            last_gradient: self.gradient.clone(),
        })
    }

    /// How far the model is from the server's, within a ball.
    fn update(&self, server: &[f32], ball: Option<Pgd>) -> Vec<f32> {
        let mut update = self.graph.params_to_vec();
        update.iter_mut().zip(server).for_each(|(param, server)| *param -= server);
        if let Some(ball) = ball {
            ball.project(&mut update);
        }
        update
    }

    /// Puts the mean gradient of some samples into `gradient`; returns the sum of their losses and the hits.
    fn gradient_of(
        &mut self,
        data: &dyn Dataset,
        indices: &[usize],
        step: u64,
    ) -> Result<(f64, usize), FederatedError> {
        let scale = 1.0 / (indices.len() * self.task.labels_per_sample()) as f64;
        let (mut sum, mut hits) = (0.0, 0);
        self.sink.clear();
        for tile in tiles(indices.len(), self.tile) {
            data.fill(&indices[tile.clone()], &mut self.buffers);
            self.graph.reset(Mode::Train, step, tile.start as u64);
            let held = Tile {
                features: self.buffers.features(),
                tokens: self.buffers.tokens(),
                labels: self.buffers.labels(),
                samples: tile.len(),
            };
            let (loss, right) = losses(&*self.net, &self.graph, &self.task, &held)?;
            self.rows.resize(loss.shape().len(), 0.0);
            loss.read(&mut self.rows);
            sum += self.rows.iter().map(|l| f64::from(*l)).sum::<f64>();
            hits += right.count();
            self.graph.backward(loss, scale, &mut self.sink)?;
        }
        self.gradient.copy_from_slice(self.sink.view());
        Ok((sum, hits))
    }

    /// Makes `corrected` of the gradient and what the server's algorithm adds; whether it adds anything.
    fn correct(&mut self, server: &[f32], local: &Local<'_>) -> bool {
        if local.proximal == 0.0 && local.control.is_none() {
            return false;
        }
        self.corrected.clone_from(&self.gradient);
        if local.proximal != 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "a factor among numbers of this precision")]
            let mu = local.proximal as f32;
            let params = self.graph.params_to_vec();
            for ((gradient, param), server) in self.corrected.iter_mut().zip(params).zip(server) {
                *gradient += mu * (param - server);
            }
        }
        if let Some((server, own)) = local.control {
            for ((gradient, server), own) in self.corrected.iter_mut().zip(server).zip(own) {
                *gradient += server - own;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_data::{InputsMut, SampleKind};
    use phalanx_nn::{Features, Init, NnError, ParamBuilder, ParamId, Var};
    use phalanx_optim::{OptimizerConfig, SgdConfig};
    use phalanx_tensor::{Backend, Cpu, Shape};
    use phalanx_train::{Limit, TrainConfig};

    /// Two samples, 1 of class 0 and -1 of class 1.
    struct Pair(SampleKind);

    impl Dataset for Pair {
        fn len(&self) -> usize {
            2
        }
        fn kind(&self) -> &SampleKind {
            &self.0
        }
        fn write(&self, indices: &[usize], inputs: InputsMut<'_>, labels: &mut [u32]) {
            for ((i, x), label) in indices.iter().zip(inputs.expect_features()).zip(labels) {
                (*x, *label) = ([1.0, -1.0][*i], [0, 1][*i]);
            }
        }
    }

    /// Logits `x (w0, w1)`, from weights of 0.
    struct Slope(ParamId);

    impl<B: Backend> Net<B> for Slope {
        fn logits<'g>(&self, graph: &'g Graph<B>, x: Features<'g, B>) -> Result<Var<'g, B>, NnError> {
            x.dense()?.linear(graph.param(self.0), None)
        }
    }

    fn trainer() -> Trainer<Cpu<f32>> {
        let task = Task::Classify { features: Shape::new(&[1]), classes: 2 };
        let mut builder = ParamBuilder::new();
        let net = Slope(builder.param("w", Shape::new(&[2, 1]), Init::Constant(0.0)));
        let config = TrainConfig { seed: 1, ..TrainConfig::new(2, Limit::Steps(1)) };
        let plan = Plan::new(&net, &builder.finish(), &task, &config, 2).expect("a plan");
        Trainer::new(Cpu::new(), Arc::new(net), task, &plan, 1).expect("memory")
    }

    fn pair() -> Pair {
        Pair(SampleKind::Classification { features: vec![1], classes: 2 })
    }

    fn local(steps: u64) -> Local<'static> {
        let length = Length::Steps(steps);
        let config = LocalConfig {
            length,
            batch: 2,
            lr: 0.5,
            lr_decay: 1.0,
            clip_norm: None,
            momentum: 0.0,
            growth: None,
        };
        Local { seed: 1, round: 1, client: 4, config, lr: 0.5, proximal: 0.0, control: None, ball: None }
    }

    /// From weights that the plan may give room to spare.
    fn trained(weights: &[f32], local: &Local<'_>) -> Trained {
        let config = OptimizerConfig::Sgd(SgdConfig { lr: 0.5, ..SgdConfig::default() });
        let mut optimizer = config.build().expect("in range");
        let mut trainer = trainer();
        let mut server = trainer.model();
        server[..weights.len()].copy_from_slice(weights);
        trainer.train(&server, &pair(), local, &mut *optimizer).expect("a client")
    }

    fn assert_near(got: &[f32], need: &[f32]) {
        assert!(got.iter().zip(need).all(|(got, need)| (got - need).abs() < 1e-6), "{got:?} is not {need:?}");
    }

    /// Both samples have probabilities of a half: the gradient is (-0.5, 0.5), and a step of 0.5 moves to (0.25, -0.25).
    #[test]
    fn a_step_by_hand() {
        let one = trained(&[0.0, 0.0], &local(1));
        assert_near(&one.update, &[0.25, -0.25]);
        assert_near(&one.last_gradient, &[-0.5, 0.5]);
        assert_eq!((one.steps, one.loss), (1, f64::from(2.0_f32.ln())));
    }

    /// The second step's gradient is `-+ sigma(-0.5)`, and with mu 2 another `2 (0.25, -0.25)` back to the server.
    #[test]
    fn a_proximal_client_stays_nearer() {
        let slope = 1.0 / (1.0 + 0.5_f32.exp());
        assert_near(&trained(&[0.0, 0.0], &local(2)).update, &[0.25 + 0.5 * slope, -0.25 - 0.5 * slope]);
        let near = trained(&[0.0, 0.0], &Local { proximal: 2.0, ..local(2) });
        assert_near(&near.update, &[0.5 * slope, -0.5 * slope]);
        assert_near(&near.last_gradient, &[-slope, slope]);
    }

    #[test]
    fn gradients_are_corrected_by_control_variates() {
        let control = Some((&[1.0, 1.0][..], &[0.5, 2.0][..]));
        let one = trained(&[0.0, 0.0], &Local { control, ..local(1) });
        // (-0.5 + 0.5, 0.5 - 1.0) times -0.5
        assert_near(&one.update, &[0.0, 0.25]);
    }

    #[test]
    fn a_client_in_a_ball_does_not_leave_it() {
        let ball = Some(Pgd { radius: 0.1, ..Pgd::default() });
        for steps in [1, 25] {
            let update = trained(&[3.0, 3.0], &Local { ball, ..local(steps) }).update;
            assert!(update.iter().map(|x| x * x).sum::<f32>().sqrt() < 0.1 + 1e-6, "{update:?}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_sent_as_such() {
        let sick = trained(&[f32::NAN, 0.0], &local(3));
        assert!(sick.update.iter().all(|x| x.is_nan()) && sick.steps == 0);
    }
}
