//! What hostile ranks send, one file each: for research, and for tests of the rules.

use phalanx_grad::{GradError, StateReader, StateTensor};
use phalanx_tensor::Float;
use std::fmt::Debug;

mod alie;
mod constant;
mod fang;
mod gaussian;
mod ipm;
mod label_flip;
mod mimic;
mod min_max;
mod min_sum;
mod model_replacement;
mod neurotoxin;
mod optimized;
mod pgd;
mod sign_flip;
mod trigger;
mod under_attack;

pub use alie::{Alie, z_max};
pub use constant::Constant;
pub use fang::{FangKrum, FangTrimmedMean};
pub use gaussian::Gaussian;
pub use ipm::Ipm;
pub use label_flip::LabelFlip;
pub use mimic::Mimic;
pub use min_max::{Direction, MinMax};
pub use min_sum::MinSum;
pub use model_replacement::ModelReplacement;
pub use neurotoxin::Neurotoxin;
pub use optimized::{OptAlie, OptIpm};
pub use pgd::{Pgd, Projection};
pub use sign_flip::SignFlip;
pub use trigger::Trigger;
pub use under_attack::UnderAttack;

/// What an attacker knows: everything.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The step, from 1.
    pub step: u64,
    /// What the honest send, all of one length.
    pub honest: &'a [&'a [f32]],
    /// What the attacker would send if it were honest: its own update on its own, maybe poisoned, data.
    pub own: &'a [f32],
    /// How many attackers there are.
    pub attackers: usize,
    /// Which of them this is, from 0.
    pub index: usize,
    /// Of whatever is random.
    pub seed: u64,
}

impl Scene<'_> {
    /// The mean of the honest vectors in each coordinate.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.own.len()];
        for row in self.honest {
            mean.iter_mut().zip(*row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= self.honest.len().max(1) as f64);
        mean
    }

    /// The standard deviation of the honest vectors in each coordinate, with so many degrees of freedom taken off.
    #[must_use]
    pub fn deviation(&self, mean: &[f64], freedom: usize) -> Vec<f64> {
        let mut squares = vec![0.0; mean.len()];
        for row in self.honest {
            squares
                .iter_mut()
                .zip(*row)
                .zip(mean)
                .for_each(|((sum, x), m)| *sum += (f64::from(*x) - m).powi(2));
        }
        let count = self.honest.len().saturating_sub(freedom).max(1) as f64;
        squares.into_iter().map(|sum| (sum / count).sqrt()).collect()
    }

    /// How many vectors the server receives.
    #[must_use]
    pub fn n(&self) -> usize {
        self.honest.len() + self.attackers
    }
}

/// Makes the vector that a hostile rank sends.
///
/// # Shapes
/// `out_d` is as long as [`Scene::own`]; what stood in it has no meaning.
pub trait Attack: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// Writes the vector.
    ///
    /// # Errors
    /// [`GradError::TooFew`] without an honest vector where one is needed, [`GradError::Setting`] for a setting out of
    /// range, [`GradError::Length`] when lengths differ.
    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError>;

    /// Everything that later steps depend on.
    fn state(&self) -> Vec<StateTensor> {
        Vec::new()
    }

    /// Takes back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`GradError::StateUnknown`] and its like for the state of another attack.
    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        StateReader::new(self.name(), state).finish()
    }
}

/// Checks the lengths, and that there are so many honest vectors.
fn check(rule: &'static str, scene: &Scene<'_>, need: usize, out_d: &[f32]) -> Result<(), GradError> {
    crate::updates::check_length("what an attacker sends", out_d.len(), scene.own.len())?;
    for row in scene.honest {
        crate::updates::check_length("an honest vector", row.len(), scene.own.len())?;
    }
    let got = scene.honest.len();
    if got >= need { Ok(()) } else { Err(GradError::TooFew { rule, axis: "honest ranks", got, need }) }
}

/// Rounds each number to `f32`.
fn write(values: impl IntoIterator<Item = f64>, out_d: &mut [f32]) {
    out_d.iter_mut().zip(values).for_each(|(out, value)| *out = f32::from_f64(value));
}
