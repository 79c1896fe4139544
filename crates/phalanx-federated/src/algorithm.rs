//! What the server does with the clients' update, and what it asks of their training.

mod adaptive;
mod fed_adagrad;
mod fed_adam;
mod fed_avg;
mod fed_avg_m;
mod fed_nova;
mod fed_prox;
mod fed_yogi;
mod scaffold;

pub use adaptive::{Adaptive, SecondMoment};
pub use fed_adagrad::FedAdagrad;
pub use fed_adam::FedAdam;
pub use fed_avg::FedAvg;
pub use fed_avg_m::FedAvgM;
pub use fed_nova::FedNova;
pub use fed_prox::FedProx;
pub use fed_yogi::FedYogi;
pub use scaffold::Scaffold;
pub(crate) use scaffold::next_control;

use phalanx_grad::{GradError, StateReader, StateTensor};
use std::fmt;

/// What a client's steps were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Local optimizer steps.
    pub steps: u64,
    /// Learning rate of each.
    pub lr: f64,
    /// Momentum of the local optimizer.
    pub momentum: f64,
}

impl Work {
    /// What the steps amount to, in steps of plain SGD: of `t` steps with momentum `r`,
    /// `(t - r (1 - r^t) / (1 - r)) / (1 - r)`.
    #[must_use]
    pub fn amount(&self) -> f64 {
        let (steps, r) = (self.steps as f64, self.momentum);
        (steps - r * (1.0 - r.powf(steps)) / (1.0 - r)) / (1.0 - r)
    }
}

/// A client whose update has a part in a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The client.
    pub client: u64,
    /// Its share of the samples of all answers.
    pub weight: f64,
    /// What its steps were.
    pub work: Work,
}

/// The answers of a round: those that the rule did not leave out, in the order of names.
#[derive(Clone, Copy)]
pub struct Answers<'a> {
    answers: &'a [Answer],
    clients: usize,
    sum: Option<&'a SumUpdates<'a>>,
}

/// Sums the updates of answers, each times a weight.
pub type SumUpdates<'a> = dyn Fn(&[f64]) -> Result<Vec<f32>, GradError> + 'a;

impl<'a> Answers<'a> {
    /// The answers of some of `clients` clients, whose updates cannot be looked at.
    #[must_use]
    pub fn new(answers: &'a [Answer], clients: usize) -> Self {
        Answers { answers, clients, sum: None }
    }

    /// The same, with a way to sum their updates, each times a weight.
    #[must_use]
    pub fn with_sum(self, sum: &'a SumUpdates<'a>) -> Self {
        Answers { sum: Some(sum), ..self }
    }

    /// Each of them.
    #[must_use]
    pub fn each(&self) -> &'a [Answer] {
        self.answers
    }

    /// How many clients the run has.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// The sum of the updates as they were sent, each times its weight.
    ///
    /// # Collective
    /// Every rank, with the same weights.
    ///
    /// # Errors
    /// [`GradError::Missing`] where the updates cannot be looked at; another rank's failure.
    pub fn sum(&self, weights: &[f64]) -> Result<Vec<f32>, GradError> {
        let missing = GradError::Missing { rule: "a server algorithm", what: "the updates of the clients" };
        self.sum.ok_or(missing)?(weights)
    }
}

impl fmt::Debug for Answers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("answers", &self.answers)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// A server algorithm: the fold over rounds, and what it asks of local training.
///
/// # Shapes
/// `mean_d`, `params_d` and every state: the trainable parameters.
///
/// # Numerics
/// Coordinates are combined in `f64` and rounded to `f32` once each, so that the bits do not depend on the number of ranks.
pub trait Algorithm: fmt::Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// Makes the state for models of `dim` parameters, as before the first round.
    fn prepare(&mut self, dim: usize) {
        let _ = dim;
    }

    /// The factor of the distance to the server's model that each local gradient gets added.
    fn proximal(&self) -> f64 {
        0.0
    }

    /// The server's control variate, where each client has one too and corrects its gradients by the difference.
    fn control(&self) -> Option<&[f32]> {
        None
    }

    /// The factor with which a client's update goes to the rule.
    fn factor(&self, work: &Work) -> f64 {
        let _ = work;
        1.0
    }

    /// Moves the server's model by the one update that the rule made of the answers'.
    ///
    /// # Errors
    /// [`GradError::Length`] when lengths differ, and those of [`Answers::sum`]. On an error nothing has changed.
    fn step(&mut self, answers: &Answers<'_>, mean_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError>;

    /// Everything that later rounds depend on.
    fn state(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave, after [`prepare`](Self::prepare).
    ///
    /// # Errors
    /// [`GradError::StateUnknown`] and its like for the state of another algorithm or model.
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        StateReader::new(self.name(), state).finish()
    }
}

/// Rounds each number to `f32`.
#[expect(clippy::cast_possible_truncation, reason = "rounded once")]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// Moves the parameters `lr` times along an update.
fn advance(lr: f64, update_d: &[f32], params_d: &mut [f32]) -> Result<(), GradError> {
    same_length("the update of a round", update_d.len(), params_d.len())?;
    for (param, update) in params_d.iter_mut().zip(update_d) {
        *param = narrow(f64::from(*param) + lr * f64::from(*update));
    }
    Ok(())
}

fn same_length(what: &'static str, got: usize, need: usize) -> Result<(), GradError> {
    if got == need { Ok(()) } else { Err(GradError::Length { what, got, need }) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Algorithm, Answer, Answers, Work};

    /// Velocities of a unit gradient with momentum 0.5 are 1, 1.5 and 1.75: together 4.25.
    #[test]
    fn momentum_counts_as_it_moves() {
        let work = |steps, momentum| Work { steps, lr: 0.1, momentum };
        assert!((work(3, 0.5).amount() - 4.25).abs() < 1e-12);
        assert!((work(7, 0.0).amount() - 7.0).abs() < 1e-12);
    }

    /// One client of weight 1 that made `steps` steps.
    pub(crate) fn one(steps: u64) -> [Answer; 1] {
        [Answer { client: 0, weight: 1.0, work: Work { steps, lr: 0.1, momentum: 0.0 } }]
    }

    /// The one parameter after each of some rounds, from 1, with these updates; each round on a restored copy.
    pub(crate) fn walk<A: Algorithm>(make: impl Fn() -> A, updates: &[f32]) -> Vec<f32> {
        let mut params = [1.0];
        let mut algorithm = make();
        algorithm.prepare(1);
        let round = |update: &f32| {
            algorithm.step(&Answers::new(&one(1), 1), &[*update], &mut params).expect("lengths fit");
            let state = algorithm.state();
            algorithm = make();
            algorithm.prepare(1);
            algorithm.restore(&state).expect("its own state");
            params[0]
        };
        updates.iter().map(round).collect()
    }

    /// Equal up to the rounding of a few operations in `f32`.
    pub(crate) fn assert_near(got: &[f32], need: &[f64]) {
        assert_eq!(got.len(), need.len());
        for (got, need) in got.iter().zip(need) {
            assert!((f64::from(*got) - need).abs() < 1e-6 * need.abs().max(1.0), "{got} is not {need}");
        }
    }
}
