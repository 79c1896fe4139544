//! A rule over ranks with the attack played out in front of it.

use super::{Attack, Scene};
use phalanx_comm::Agreed;
use phalanx_grad::{
    Blocks, GradError, GradSet, Gram, Ranks, Reduce, Rejected, RowSet, Scratch, Shard, StateTensor,
};
use phalanx_tensor::{Backend, Cpu};
use std::ops::Range;

/// Any rule over ranks, to which some ranks' gradients come as attacks would have sent them.
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
    attacks: Vec<(Box<dyn Attack>, Vec<usize>)>,
    seed: u64,
}

impl<R> UnderAttack<R> {
    /// The rule `rule` with the ranks `ranks` hostile; ranks that are not there are not attackers either.
    #[must_use]
    pub fn new(rule: R, attack: Box<dyn Attack>, ranks: Vec<usize>, seed: u64) -> Self {
        UnderAttack { rule, attacks: vec![(attack, ranks)], seed }
    }

    /// The same, with one more attack by other ranks.
    #[must_use]
    pub fn and(mut self, attack: Box<dyn Attack>, ranks: Vec<usize>) -> Self {
        self.attacks.push((attack, ranks));
        self
    }
}

/// What arrives after the attack: all of it, and this rank's part.
#[derive(Debug)]
struct Received<'a> {
    rows: RowSet<'a, Ranks>,
    shard: Option<Part<'a>>,
}

impl GradSet<Ranks, Cpu<f32>> for Received<'_> {
    fn backend(&self) -> &Cpu<f32> {
        self.rows.backend()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dim(&self) -> usize {
        self.rows.dim()
    }

    fn id(&self, i: usize) -> u64 {
        self.rows.id(i)
    }

    fn samples(&self, i: usize) -> u64 {
        self.rows.samples(i)
    }

    fn view(&self, i: usize) -> Option<&[f32]> {
        self.rows.view(i)
    }

    fn shard(&self) -> Option<&dyn Shard> {
        self.shard.as_ref().map(|part| part as &dyn Shard)
    }

    fn weighted_sum(&self, weights_n: &[f64], out_d: &mut [f32]) -> Result<(), GradError> {
        self.rows.weighted_sum(weights_n, out_d)
    }

    fn gram(&self, gram: &mut Gram) -> Result<(), GradError> {
        self.rows.gram(gram)
    }
}

/// The coordinates of a shard, with other numbers in them.
#[derive(Debug)]
struct Part<'a> {
    of: &'a dyn Shard,
    rows: Vec<&'a [f32]>,
}

impl Shard for Part<'_> {
    fn blocks(&self) -> Range<usize> {
        self.of.blocks()
    }

    fn part(&self, i: usize) -> &[f32] {
        self.rows[i]
    }

    fn sum(&self, nodes: &[f64], width: usize) -> Result<Agreed<Vec<f64>>, GradError> {
        self.of.sum(nodes, width)
    }

    fn gather(&self, part: &[f32], out_d: &mut [f32]) -> Result<(), GradError> {
        self.of.gather(part, out_d)
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

    fn momentum(&self) -> f64 {
        self.rule.momentum()
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
        let attackers = (0..n).filter(|i| self.attacks.iter().any(|(_, ranks)| ranks.contains(i)));
        let hostile: Vec<usize> = attackers.collect();
        let honest: Vec<&[f32]> =
            (0..n).filter(|i| !hostile.contains(i)).map(|i| sent[i].as_slice()).collect();
        let mut forged = Vec::with_capacity(hostile.len());
        for (index, i) in hostile.iter().enumerate() {
            let (own, attackers, seed) = (sent[*i].as_slice(), hostile.len(), self.seed);
            let mut row = vec![0.0; set.dim()];
            if let Some((attack, _)) = self.attacks.iter_mut().find(|(_, ranks)| ranks.contains(i)) {
                attack.forge(&Scene { step, honest: &honest, own, attackers, index, seed }, &mut row)?;
            }
            forged.push(row);
        }
        for (i, row) in hostile.into_iter().zip(forged) {
            sent[i] = row;
        }
        let rows: Vec<&[f32]> = sent.iter().map(Vec::as_slice).collect();
        let ids = (0..n).map(|i| set.id(i)).collect();
        let samples = (0..n).map(|i| set.samples(i)).collect();
        let received = RowSet::<Ranks>::from_slices(&rows)?.with_ids(ids)?.with_samples(samples)?;
        // the rule's work is shared as it is without an attack
        let shard = set.shard().map(|of| {
            let here = Blocks::new(set.dim()).coordinates(of.blocks());
            Part { of, rows: rows.iter().map(|row| &row[here.clone()]).collect() }
        });
        self.rule.reduce(step, &Received { rows: received, shard }, out_d, scratch)
    }

    fn rejected(&self) -> &[Rejected] {
        self.rule.rejected()
    }

    fn state(&self) -> Vec<StateTensor> {
        let of = |prefix: String, state: Vec<StateTensor>| {
            state
                .into_iter()
                .map(move |tensor| StateTensor { name: format!("{prefix}{}", tensor.name), ..tensor })
        };
        let attacks = (0..).zip(&self.attacks).flat_map(|(i, (attack, _))| of(of_attack(i), attack.state()));
        attacks.chain(of(OF_RULE.to_owned(), self.rule.state())).collect()
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let under = |prefix: &str| -> Vec<StateTensor> {
            let tensors = state.iter().filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?, tensor)));
            tensors
                .map(|(name, tensor)| StateTensor { name: name.to_owned(), data: tensor.data.clone() })
                .collect()
        };
        for (i, (attack, _)) in (0..).zip(&mut self.attacks) {
            attack.restore(&under(&of_attack(i)))?;
        }
        self.rule.restore(&under(OF_RULE))
    }
}

/// What goes before the names of the rule's state.
const OF_RULE: &str = "rule.";

/// What goes before the names of an attack's state.
fn of_attack(i: usize) -> String {
    format!("attack {i}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::{Constant, Mimic, SignFlip};
    use phalanx_grad::Mean;

    fn reduced(rule: &mut UnderAttack<Mean>, step: u64, rows: &[&[f32]]) -> Vec<f32> {
        let set = RowSet::<Ranks>::from_slices(rows).unwrap();
        let mut out = vec![0.0; rows[0].len()];
        Reduce::<Ranks>::reduce(rule, step, &set, &mut out, &mut Scratch::new()).unwrap();
        out
    }

    /// Honest are 1, 2 and 3, whose mean is 2: the others send 0 and -2, and the mean of all is 4 / 5.
    #[test]
    fn each_attack_knows_the_honest_of_all() {
        let attack: Box<dyn Attack> = Box::new(Constant::Zero);
        let rule = UnderAttack::new(Mean, attack, vec![1], 0);
        let mut rule = rule.and(Box::new(SignFlip { scale: 1.0 }), vec![3]);
        // of 1 and 3 the mean is 2: the others send 0 and -2
        assert_eq!(reduced(&mut rule, 1, &[&[1.0], &[50.0], &[3.0], &[-70.0]]), [0.5]);
    }

    #[test]
    fn what_attacks_remember_goes_on_in_a_copy() {
        let make = || {
            let rule = UnderAttack::new(Mean, Box::new(Constant::Zero), vec![0], 0);
            rule.and(Box::new(Mimic::new(2)), vec![1])
        };
        let rows: [&[&[f32]]; 3] = [
            &[&[0.0, 0.0], &[0.0, 0.0], &[1.0, 0.0], &[0.0, 5.0], &[0.0, -5.0]],
            &[&[0.0, 0.0], &[0.0, 0.0], &[1.0, 1.0], &[0.0, 6.0], &[0.0, -5.0]],
            &[&[0.0, 0.0], &[0.0, 0.0], &[1.0, 0.0], &[2.0, 5.0], &[3.0, -5.0]],
        ];
        let mut whole = make();
        let need: Vec<Vec<f32>> =
            (1..).zip(rows).map(|(step, rows)| reduced(&mut whole, step, rows)).collect();
        let mut cut = make();
        (1..).zip(&rows[..2]).for_each(|(step, rows)| drop(reduced(&mut cut, step, rows)));
        let state = Reduce::<Ranks>::state(&cut);
        assert!(
            !state.is_empty() && state.iter().all(|tensor| tensor.name.starts_with("attack 1.")),
            "{state:?}"
        );
        let mut copy = make();
        Reduce::<Ranks>::restore(&mut copy, &state).unwrap();
        assert_eq!(reduced(&mut copy, 3, rows[2]), need[2]);
    }
}
