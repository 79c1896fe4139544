//! All attackers copy one honest rank.

use super::{Attack, Scene, check};
use phalanx_grad::{GradError, StateReader, StateTensor};
use phalanx_tensor::Float;
use phalanx_tensor::rng::{Purpose, Stream};

/// Sends what one honest rank sends: nothing to see, but that rank's data count several times.
///
/// Who is copied is found while it warms up: `z` turns towards the direction in which the honest differ most over
/// time, and the honest vector with the largest inner product with `z` is the one. After that, it stays.
///
/// # Reference
/// Karimireddy et al., "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing", ICLR 2022, appendix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mimic {
    warm_up: u64,
    z: Vec<f32>,
    victim: Option<usize>,
}

impl Mimic {
    /// Looks for its victim during so many steps; with 0 it is the first honest rank.
    #[must_use]
    pub fn new(warm_up: u64) -> Self {
        Mimic { warm_up, z: Vec::new(), victim: None }
    }

    fn look(&mut self, scene: &Scene<'_>) -> Result<usize, GradError> {
        let mean = scene.mean();
        if self.z.len() != scene.dim() {
            self.z = vec![0.0; scene.dim()];
            Stream::new(scene.seed, Purpose::Attack, 0).fill_normal(&mut self.z);
        }
        let mut z = self.z[scene.coordinates()].to_vec();
        let along = scene.sums(scene.honest.len(), |columns, sums| {
            let (mean, z) = (&mean[columns.clone()], &z[columns.clone()]);
            for (sum, row) in sums.iter_mut().zip(scene.honest) {
                let centered = row[columns.clone()].iter().zip(mean).map(|(x, m)| x.to_f64() - m);
                *sum = centered.zip(z).map(|(x, z)| x * z.to_f64()).sum();
            }
        })?;
        let mut turned = vec![0.0; mean.len()];
        let mut best = (f64::NEG_INFINITY, 0);
        for (i, (row, along)) in scene.honest.iter().zip(along).enumerate() {
            let centered = row.iter().zip(&mean).map(|(x, m)| x.to_f64() - m);
            turned.iter_mut().zip(centered).for_each(|(sum, x)| *sum += along * x);
            if along > best.0 {
                best = (along, i);
            }
        }
        // a running mean of directions over the steps
        let old = scene.step as f64 / (scene.step as f64 + 1.0);
        let norm = scene.length(&turned)?;
        if norm > 0.0 {
            for (z, new) in z.iter_mut().zip(turned) {
                *z = f32::from_f64(old * z.to_f64() + (1.0 - old) * new / norm);
            }
        }
        match scene.shard {
            Some((_, shard)) => shard.gather(&z, &mut self.z)?,
            None => self.z = z,
        }
        Ok(best.1)
    }
}

impl Attack for Mimic {
    fn name(&self) -> &'static str {
        "mimic"
    }

    fn forge(&mut self, scene: &Scene<'_>, out_d: &mut [f32]) -> Result<(), GradError> {
        check(self.name(), scene, 1, out_d)?;
        let victim = match self.victim {
            Some(victim) => victim,
            None if self.warm_up == 0 => 0,
            None => {
                let victim = self.look(scene)?;
                self.victim = (scene.step >= self.warm_up).then_some(victim);
                victim
            }
        };
        out_d.copy_from_slice(scene.honest[victim.min(scene.honest.len() - 1)]);
        Ok(())
    }

    fn state(&self) -> Vec<StateTensor> {
        let victim: Vec<f64> = self.victim.iter().map(|victim| *victim as f64).collect();
        vec![StateTensor::new("z", &self.z), StateTensor::new("victim", &victim)]
    }

    fn restore(&mut self, state: &[StateTensor]) -> Result<(), GradError> {
        let len = |name: &str| {
            state.iter().find(|tensor| tensor.name == name).map_or(0, |tensor| tensor.data.len())
        };
        let mut reader = StateReader::new("mimic", state);
        let z = reader.elems::<f32>("z", len("z"))?.to_vec();
        let victim = reader.elems::<f64>("victim", len("victim").min(1))?.first().copied();
        reader.finish()?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index that was written as one"
        )]
        let victim = victim.map(|victim| victim as usize);
        (self.z, self.victim) = (z, victim);
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_shardable(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second honest rank is far out in the direction in which the honest differ most, on either end.
    #[test]
    fn the_odd_one_is_found_and_kept() {
        let honest: [&[f32]; 3] = [&[0.0, 0.1], &[8.0, 0.0], &[-0.5, -0.1]];
        let swapped: [&[f32]; 3] = [honest[1], honest[0], honest[2]];
        let mut mimic = Mimic::new(30);
        let mut out = [0.0; 2];
        let mut forge = |mimic: &mut Mimic, step, honest: &[&[f32]]| {
            let scene = Scene { step, honest, own: &[0.0; 2], shard: None, attackers: 1, index: 0, seed: 4 };
            mimic.forge(&scene, &mut out).unwrap();
            out
        };
        for step in 1..=30 {
            forge(&mut mimic, step, &honest);
        }
        let mut other = Mimic::new(30);
        other.restore(&mimic.state()).unwrap();
        let victim = honest.iter().position(|row| **row == forge(&mut mimic, 31, &honest)).unwrap();
        assert_eq!(forge(&mut other, 32, &swapped), *swapped[victim], "the rank stays, whatever it sends");
    }
}
