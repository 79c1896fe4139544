//! A rule over ranks with the attack played out in front of it.

use super::{Attack, Scene};
use phalanx_grad::{GradError, GradSet, Ranks, Reduce, RowSet, Scratch};
use phalanx_tensor::Backend;

/// Any rule over ranks, to which some ranks' gradients come as an attack would have sent them.
///
/// For research and tests: every rank sees all gradients and forges the same ones, so that no rank has to lie. The
/// hostile ranks' own gradients are what [`Scene::own`] holds.
///
/// # Examples
/// ```
/// use phalanx_grad::{GradError, Ranks, Reduce, RowSet, Scratch};
/// use phalanx_robust::attack::{Constant, UnderAttack};
/// use phalanx_robust::{Median, Robust};
///
/// let ranks = RowSet::<Ranks>::from_slices(&[&[1.0], &[2.0], &[3.0], &[1.0]])?;
/// let mut rule = UnderAttack::new(Robust::new(1, Median), Box::new(Constant::Huge), vec![3], 1);
/// let mut out = [0.0];
/// rule.reduce(1, &ranks, &mut out, &mut Scratch::new())?;
/// assert_eq!(out, [2.5]);
/// # Ok::<(), GradError>(())
/// ```
#[derive(Debug)]
pub struct UnderAttack<R> {
    rule: R,
    attack: Box<dyn Attack>,
    ranks: Vec<usize>,
    seed: u64,
}

impl<R> UnderAttack<R> {
    /// The rule `rule` with the ranks `ranks` hostile; ranks that are not there are not attackers either.
    #[must_use]
    pub fn new(rule: R, attack: Box<dyn Attack>, ranks: Vec<usize>, seed: u64) -> Self {
        UnderAttack { rule, attack, ranks, seed }
    }
}

impl<R, B> Reduce<Ranks, B> for UnderAttack<R>
where
    R: Reduce<Ranks>,
    B: for<'a> Backend<Elem = f32, View<'a> = &'a [f32], ViewMut<'a> = &'a mut [f32]>,
{
    fn name(&self) -> &'static str {
        self.rule.name()
    }

    fn reduce(
        &mut self,
        step: u64,
        set: &dyn GradSet<Ranks, B>,
        out_d: &mut [f32],
        scratch: &mut Scratch,
    ) -> Result<(), GradError> {
        let n = set.len();
        let mut sent = Vec::with_capacity(n);
        for i in 0..n {
            let mut row = vec![0.0; set.dim()];
            set.row(i, &mut row)?;
            sent.push(row);
        }
        let hostile: Vec<usize> = (0..n).filter(|i| self.ranks.contains(i)).collect();
        let honest: Vec<&[f32]> =
            (0..n).filter(|i| !hostile.contains(i)).map(|i| sent[i].as_slice()).collect();
        let mut forged = Vec::with_capacity(hostile.len());
        for (index, i) in hostile.iter().enumerate() {
            let (own, attackers) = (sent[*i].as_slice(), hostile.len());
            let mut row = vec![0.0; set.dim()];
            let scene = Scene { step, honest: &honest, own, attackers, index, seed: self.seed };
            self.attack.forge(&scene, &mut row)?;
            forged.push(row);
        }
        for (i, row) in hostile.into_iter().zip(forged) {
            sent[i] = row;
        }
        let rows: Vec<&[f32]> = sent.iter().map(Vec::as_slice).collect();
        let ids = (0..n).map(|i| set.id(i)).collect();
        let samples = (0..n).map(|i| set.samples(i)).collect();
        let received = RowSet::<Ranks>::from_slices(&rows)?.with_ids(ids)?.with_samples(samples)?;
        self.rule.reduce(step, &received, out_d, scratch)
    }
}
