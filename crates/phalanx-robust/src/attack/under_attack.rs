//! A rule over ranks with the attack played out in front of it.

use super::{Attack, Scene};
use crate::vectors::Vectors;
use phalanx_comm::Agreed;
use phalanx_grad::{Blocks, GradError, GradSet, Gram, Ranks, Reduce, Rejected, Scratch, Shard, StateTensor};
use phalanx_tensor::{Backend, Cpu};
use std::ops::Range;

/// Any rule over ranks, to which some ranks' gradients come as attacks would have sent them.
///
/// For research and tests: each rank forges its part of what the hostile ranks send, or all of it where an attack
/// [needs whole vectors](Attack::is_shardable), so that no rank has to lie. The hostile ranks' own gradients are what
/// [`Scene::own`] holds.
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

/// What arrives after the attack. Where attacks need whole vectors, all are here, else this rank's part.
#[derive(Debug)]
struct Received<'a> {
    backend: Cpu<f32>,
    vectors: Vectors<'a>,
    ids: Vec<u64>,
    samples: Vec<u64>,
    shard: Option<&'a Part<'a>>,
    trusted: Option<&'a [f32]>,
}

impl GradSet<Ranks, Cpu<f32>> for Received<'_> {
    fn backend(&self) -> &Cpu<f32> {
        &self.backend
    }

    fn len(&self) -> usize {
        self.ids.len()
    }

    fn dim(&self) -> usize {
        self.vectors.dim
    }

    fn id(&self, i: usize) -> u64 {
        self.ids[i]
    }

    fn samples(&self, i: usize) -> u64 {
        self.samples[i]
    }

    fn view(&self, i: usize) -> Option<&[f32]> {
        self.vectors.shard.is_none().then(|| self.vectors.rows[i])
    }

    fn shard(&self) -> Option<&dyn Shard> {
        self.shard.map(|part| part as &dyn Shard)
    }

    fn trusted(&self) -> Option<&[f32]> {
        self.trusted
    }

    fn weighted_sum(&self, weights_n: &[f64], out_d: &mut [f32]) -> Result<(), GradError> {
        let Some(shard) = self.vectors.shard else {
            self.vectors.weighted_sum(weights_n, &[], out_d);
            return Ok(());
        };
        let mut part = vec![0.0; self.vectors.here()];
        self.vectors.weighted_sum(weights_n, &[], &mut part);
        shard.gather(&part, out_d)
    }

    fn gram(&self, gram: &mut Gram) -> Result<(), GradError> {
        *gram = self.vectors.gram()?;
        Ok(())
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
        let (n, dim) = (set.len(), set.dim());
        let attackers = (0..n).filter(|i| self.attacks.iter().any(|(_, ranks)| ranks.contains(i)));
        let hostile: Vec<usize> = attackers.collect();
        // each rank forges the coordinates that it has, if that can be done
        let shard = set.shard().filter(|_| self.attacks.iter().all(|(attack, _)| attack.is_shardable()));
        let mut whole = Vec::new();
        for i in (0..n).filter(|_| shard.is_none()) {
            let mut row = vec![0.0; dim];
            set.row(i, &mut row)?;
            whole.push(row);
        }
        let sent: Vec<&[f32]> =
            (0..n).map(|i| shard.map_or_else(|| &*whole[i], |shard| shard.part(i))).collect();
        let honest: Vec<&[f32]> = (0..n).filter(|i| !hostile.contains(i)).map(|i| sent[i]).collect();
        let (attackers, seed) = (hostile.len(), self.seed);
        let mut forged: Vec<Option<Vec<f32>>> = vec![None; n];
        for (attack, ranks) in &mut self.attacks {
            let mut of_all: Option<Vec<f32>> = None;
            for (index, i) in hostile.iter().enumerate() {
                if !ranks.contains(i) || forged[*i].is_some() {
                    continue;
                }
                let row = match of_all.take().filter(|_| attack.is_shared()) {
                    Some(row) => row,
                    None => {
                        let own = sent[*i];
                        let shard = shard.map(|shard| (dim, shard));
                        let scene = Scene { step, honest: &honest, own, shard, attackers, index, seed };
                        let mut row = vec![0.0; own.len()];
                        attack.forge(&scene, &mut row)?;
                        row
                    }
                };
                of_all = Some(row.clone());
                forged[*i] = Some(row);
            }
        }
        let rows: Vec<&[f32]> =
            sent.iter().zip(&forged).map(|(row, forged)| forged.as_deref().unwrap_or(row)).collect();
        // the rule's work is shared as it is without an attack
        let part = set.shard().map(|of| {
            let here = Blocks::new(dim).coordinates(of.blocks());
            let here = if shard.is_some() { 0..here.len() } else { here };
            Part { of, rows: rows.iter().map(|row| &row[here.clone()]).collect() }
        });
        let received = Received {
            backend: Cpu::new(),
            ids: (0..n).map(|i| set.id(i)).collect(),
            samples: (0..n).map(|i| set.samples(i)).collect(),
            vectors: Vectors { rows, dim, threads: 1, shard },
            shard: part.as_ref(),
            trusted: set.trusted(),
        };
        self.rule.reduce(step, &received, out_d, scratch)
    }

    fn rejected(&self) -> &[Rejected] {
        self.rule.rejected()
    }

    fn state(&self) -> Vec<StateTensor> {
        let attacks =
            (0..).zip(&self.attacks).flat_map(|(i, (attack, _))| under(of_attack(i), attack.state()));
        attacks.chain(under(OF_RULE.to_owned(), self.rule.state())).collect()
    }

    fn state_in_parts(&self) -> Vec<StateTensor> {
        under(OF_RULE.to_owned(), self.rule.state_in_parts()).collect()
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let of = |prefix: &str| -> Vec<StateTensor> {
            let tensors = state.iter().filter_map(|tensor| Some((tensor.name.strip_prefix(prefix)?, tensor)));
            tensors
                .map(|(name, tensor)| StateTensor { name: name.to_owned(), data: tensor.data.clone() })
                .collect()
        };
        for (i, (attack, _)) in (0..).zip(&mut self.attacks) {
            attack.restore(&of(&of_attack(i)))?;
        }
        self.rule.restore(&of(OF_RULE))
    }
}

/// What goes before the names of the rule's state.
const OF_RULE: &str = "rule.";

/// The same state under names with something before them.
fn under(prefix: String, state: Vec<StateTensor>) -> impl Iterator<Item = StateTensor> {
    state.into_iter().map(move |tensor| StateTensor { name: format!("{prefix}{}", tensor.name), ..tensor })
}

/// What goes before the names of an attack's state.
fn of_attack(i: usize) -> String {
    format!("attack {i}.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::{Constant, Mimic, SignFlip};
    use phalanx_grad::{Mean, RowSet};

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
    fn ranks_apply_the_momentum_of_the_rule_that_is_attacked() {
        let rule: Box<dyn Reduce<Ranks>> = Box::new(crate::Robust::new(0, crate::Median).with_momentum(0.9));
        let under = UnderAttack::new(rule, Box::new(Constant::Zero), vec![1], 0);
        assert_eq!(Reduce::<Ranks>::momentum(&under), 0.9);
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
