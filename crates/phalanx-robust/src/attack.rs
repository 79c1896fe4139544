//! What hostile ranks send, one file each: for research, and for tests of the rules.

use crate::Updates;
use crate::vectors::Vectors;
use phalanx_grad::{Blocks, GradError, Shard, StateReader, StateTensor};
use phalanx_tensor::Float;
use std::fmt::Debug;
use std::ops::Range;

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
///
/// Where the vectors are spread over ranks by their coordinates, each rank plays the attack on those that are here, and
/// [`sums`](Self::sums) add up over all.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The step, from 1.
    pub step: u64,
    /// What the honest send, all of one length.
    pub honest: &'a [&'a [f32]],
    /// What the attacker would send if it were honest: its own update on its own, maybe poisoned, data.
    pub own: &'a [f32],
    /// Numbers of a whole vector, and where the others are, unless all are here.
    pub shard: Option<(usize, &'a dyn Shard)>,
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

    /// Numbers of a whole vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.shard.map_or(self.own.len(), |(dim, _)| dim)
    }

    /// The coordinates that are here.
    #[must_use]
    pub fn coordinates(&self) -> Range<usize> {
        let all = |(dim, shard): (usize, &dyn Shard)| Blocks::new(dim).coordinates(shard.blocks());
        self.shard.map_or(0..self.own.len(), all)
    }

    /// `width` sums over the coordinates of all ranks: `leaf` adds those over a range of the coordinates here, counted
    /// from the first one here, to zeros.
    ///
    /// # Numerics
    /// Added up along the tree of [`Blocks`]: the bits do not depend on who holds what.
    ///
    /// # Collective
    /// With a [shard](Self::shard): every rank.
    ///
    /// # Errors
    /// [`GradError::Comm`] when a rank failed.
    pub fn sums(
        &self,
        width: usize,
        leaf: impl Fn(Range<usize>, &mut [f64]) + Sync,
    ) -> Result<Vec<f64>, GradError> {
        let rows = self.honest.to_vec();
        let shard = self.shard.map(|(_, shard)| shard);
        let vectors = Vectors { rows, dim: self.dim(), threads: 1, shard };
        vectors.totals(width, || Ok(()), |(), columns, sums| leaf(columns, sums))
    }

    /// Euclidean length of a vector of which `part_d` is here.
    fn length(&self, part_d: &[f64]) -> Result<f64, GradError> {
        let squares = |columns: Range<usize>| part_d[columns].iter().map(|x| x * x).sum::<f64>();
        Ok(self.sums(1, |columns, sums| sums[0] = squares(columns))?[0].sqrt())
    }

    /// What a rule receives when every attacker sends `forged`.
    fn received<'s>(&'s self, forged: &'s [f32]) -> Updates<'s> {
        let sent = std::iter::repeat_n(forged, self.attackers);
        let rows: Vec<&[f32]> = self.honest.iter().copied().chain(sent).collect();
        Updates { shard: self.shard, ..Updates::new(self.own.len(), &rows) }
    }
}

/// Makes the vector that a hostile rank sends.
///
/// # Shapes
/// `out_d` is as long as [`Scene::own`]; what stood in it has no meaning.
///
/// # Collective
/// Where a scene has a [shard](Scene::shard): every rank.
pub trait Attack: Debug + Send {
    /// The name, as in a run file.
    fn name(&self) -> &'static str;

    /// Writes the vector.
    ///
    /// # Errors
    /// [`GradError::TooFew`] without an honest vector where one is needed, [`GradError::Setting`] for a setting out of
    /// range, [`GradError::Length`] when lengths differ.
    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError>;

    /// Whether all attackers send one vector, which is then forged once.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether each rank can forge its coordinates, with sums over all of them from [`Scene::sums`] alone.
    fn is_shardable(&self) -> bool {
        false
    }

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
