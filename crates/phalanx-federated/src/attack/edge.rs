//! Edge cases: the samples of a class that are least like it.

use phalanx_data::{BatchBuffers, Dataset, labels};

/// Rare samples of one class that shall be taken for another.
///
/// They are the samples of [`source`](Self::source) that lie farthest from the mean of its training samples. No honest client holds
/// any: as in the tail of what the world looks like, the attacker's word on them stands alone.
///
/// # Reference
/// Wang et al., "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning", `NeurIPS` 2020.
///
/// # Deviation
/// The tail is one of the data set itself, not of another one such as pictures of one airline's planes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EdgeCase {
    /// Their class.
    pub source: u32,
    /// The label that the attacker gives them.
    pub target: u32,
    /// Which share of the class they are.
    pub tail: f64,
}

impl EdgeCase {
    /// Their indices in a data set, ascending, by the distance to `mean`; none for text.
    #[must_use]
    pub fn indices(&self, data: &dyn Dataset, mean: &[f64]) -> Vec<usize> {
        let mut buffers = BatchBuffers::default();
        let mut far: Vec<(f64, usize)> = members(data, self.source)
            .into_iter()
            .map(|i| {
                data.fill(&[i], &mut buffers);
                let square = |(x, m): (&f32, &f64)| (f64::from(*x) - m).powi(2);
                (buffers.features().iter().zip(mean).map(square).sum(), i)
            })
            .collect();
        far.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the number of samples"
        )]
        far.truncate((self.tail * far.len() as f64).ceil() as usize);
        let mut indices: Vec<usize> = far.into_iter().map(|(_, i)| i).collect();
        indices.sort_unstable();
        indices
    }

    /// The mean of the class over a data set.
    #[must_use]
    pub fn mean(&self, data: &dyn Dataset) -> Vec<f64> {
        let (members, mut buffers) = (members(data, self.source), BatchBuffers::default());
        let mut mean = vec![0.0; data.kind().inputs_per_sample()];
        for i in &members {
            data.fill(&[*i], &mut buffers);
            mean.iter_mut().zip(buffers.features()).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        mean.iter_mut().for_each(|sum| *sum /= members.len().max(1) as f64);
        mean
    }
}

fn members(data: &dyn Dataset, class: u32) -> Vec<usize> {
    (0..).zip(labels(data)).filter(|(_, label)| *label == class).map(|(i, _)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use phalanx_data::Source;

    #[test]
    fn the_tail_is_farther_out_than_the_rest() {
        let data = Source::Digits.open().expect("they come with the crate").train;
        let edge = EdgeCase { source: 7, target: 1, tail: 0.1 };
        let mean = edge.mean(&*data);
        let tail = edge.indices(&*data, &mean);
        let all = EdgeCase { tail: 1.0, ..edge }.indices(&*data, &mean);
        assert_eq!(tail.len(), all.len().div_ceil(10));
        let mut buffers = BatchBuffers::default();
        let mut distance = |i: usize| -> f64 {
            data.fill(&[i], &mut buffers);
            assert_eq!(buffers.labels(), [7]);
            buffers.features().iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum()
        };
        let least = tail.iter().map(|i| distance(*i)).fold(f64::INFINITY, f64::min);
        let rest = all.iter().filter(|i| !tail.contains(i));
        assert!(rest.map(|i| distance(*i)).all(|d| d <= least));
    }
}
