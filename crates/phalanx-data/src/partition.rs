//! Which samples belong to which client: partitions of a training set, as functions of its labels and a seed.

mod dirichlet;
mod gamma_similarity;
mod pathological;

use crate::batch::BatchBuffers;
use crate::dataset::{Dataset, SampleKind};
use crate::error::DataError;
use crate::shard::shard_ranges;
use phalanx_tensor::rng::{Purpose, Stream};

/// How the samples of a training set are divided among clients.
///
/// Every sample goes to one client. The same labels, clients and seed give the same lists, wherever they are computed.
///
/// # Examples
/// Two labels a client, of four:
/// ```
/// use phalanx_data::{DataError, Partition};
/// let labels: Vec<u32> = (0..400).map(|i| i % 4).collect();
/// let clients = Partition::Pathological { labels_each: 2 }.split(&labels, 10, 1)?;
/// assert_eq!(clients.iter().map(Vec::len).sum::<usize>(), 400);
/// for samples in &clients {
///     let mut held: Vec<u32> = samples.iter().map(|i| labels[*i]).collect();
///     held.sort_unstable();
///     held.dedup();
///     assert!(held.len() <= 2);
/// }
/// # Ok::<(), DataError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Partition {
    /// Shuffled and dealt out evenly.
    Iid,
    /// The shares of each class over the clients are drawn from a symmetric Dirichlet distribution.
    ///
    /// A client that already holds its even share of all samples gets nothing of the classes that follow, and the whole is
    /// drawn again until each client has `least` samples.
    ///
    /// # Reference
    /// Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019;
    /// the even share as cap as in Li et al., "Federated Learning on Non-IID Data Silos", ICDE 2022.
    Dirichlet {
        /// Concentration: 0.1 leaves a client few classes, 0.5 is usual, large values approach [`Iid`](Self::Iid).
        alpha: f64,
        /// The least samples of a client.
        least: usize,
    },
    /// A share of all samples is dealt out evenly at random, the rest in the order of labels.
    ///
    /// # Reference
    /// Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML 2020, section 7.
    GammaSimilarity {
        /// The share that is dealt out at random: 1 is [`Iid`](Self::Iid), 0 sorts by label.
        gamma: f64,
    },
    /// Samples are sorted by label and cut into pieces, of which each client gets so many at random.
    ///
    /// # Reference
    /// McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017, section 3.
    Pathological {
        /// Pieces of a client, and about its number of labels.
        labels_each: usize,
    },
}

impl Partition {
    /// The name, as in a run file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Partition::Iid => "iid",
            Partition::Dirichlet { .. } => "dirichlet",
            Partition::GammaSimilarity { .. } => "gamma-similarity",
            Partition::Pathological { .. } => "pathological",
        }
    }

    /// The indices of the samples of each client, ascending.
    ///
    /// With more clients than samples, some clients get none; [`Dirichlet`](Self::Dirichlet) refuses what leaves a client under its
    /// least share.
    ///
    /// # Errors
    /// [`DataError::NoSamples`] without clients or samples, [`DataError::PartitionSetting`] for a setting out of range,
    /// [`DataError::Partition`] where no draw gives each client its least share.
    pub fn split(&self, labels: &[u32], clients: usize, seed: u64) -> Result<Vec<Vec<usize>>, DataError> {
        if labels.is_empty() || clients == 0 {
            return Err(DataError::NoSamples { part: "training" });
        }
        let mut split = match *self {
            Partition::Iid => deal(&shuffled(labels.len(), seed), clients),
            Partition::Dirichlet { alpha, least } => dirichlet::split(labels, clients, alpha, least, seed)?,
            Partition::GammaSimilarity { gamma } => gamma_similarity::split(labels, clients, gamma, seed)?,
            Partition::Pathological { labels_each } => {
                pathological::split(labels, clients, labels_each, seed)?
            }
        };
        split.iter_mut().for_each(|samples| samples.sort_unstable());
        Ok(split)
    }
}

/// The label of each sample; sequences have none and count as one class.
#[must_use]
pub fn labels(data: &dyn Dataset) -> Vec<u32> {
    /// Samples that are read at a time.
    const AT_ONCE: usize = 512;
    let SampleKind::Classification { .. } = data.kind() else { return vec![0; data.len()] };
    let (mut labels, mut buffers) = (Vec::with_capacity(data.len()), BatchBuffers::default());
    for start in (0..data.len()).step_by(AT_ONCE) {
        let indices: Vec<usize> = (start..data.len().min(start + AT_ONCE)).collect();
        data.fill(&indices, &mut buffers);
        labels.extend_from_slice(buffers.labels());
    }
    labels
}

/// Steps of the streams for [`Purpose::Partition`]; draws of classes come after.
const ORDER: u64 = 0;
const PIECES: u64 = 1;
const CLASSES: u64 = 2;

fn stream(seed: u64, step: u64) -> Stream {
    Stream::new(seed, Purpose::Partition, step)
}

fn shuffled(len: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    stream(seed, ORDER).shuffle(&mut order);
    order
}

/// Consecutive parts, as equal as can be.
fn deal(order: &[usize], clients: usize) -> Vec<Vec<usize>> {
    shard_ranges(order.len(), clients).map(|part| order[part].to_vec()).collect()
}

/// The order by label, at random within one.
fn by_label(labels: &[u32], mut order: Vec<usize>) -> Vec<usize> {
    order.sort_by_key(|i| labels[*i]);
    order
}

/// A setting that is not in its range is an error.
fn check(field: &'static str, got: f64, fits: bool, need: &'static str) -> Result<(), DataError> {
    if fits { Ok(()) } else { Err(DataError::PartitionSetting { field, got, need }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;
    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

    fn any_partition() -> impl Strategy<Value = Partition> {
        prop_oneof![
            Just(Partition::Iid),
            (0.05..50.0).prop_map(|alpha| Partition::Dirichlet { alpha, least: 1 }),
            (0.0..=1.0).prop_map(|gamma| Partition::GammaSimilarity { gamma }),
            (1_usize..4).prop_map(|labels_each| Partition::Pathological { labels_each }),
        ]
    }

    proptest! {
        #[test]
        fn each_sample_has_one_client(
            partition in any_partition(), n in 200_usize..400, clients in 1_usize..12, classes in 1_u32..12, seed in 0_u64..99,
        ) {
            let labels: Vec<u32> = (0..n as u32).map(|i| i * 7 % classes).collect();
            let split = partition.split(&labels, clients, seed).unwrap();
            prop_assert_eq!(split.len(), clients);
            let mut all = split.concat();
            prop_assert!(split.iter().all(|samples| samples.is_sorted()));
            all.sort_unstable();
            prop_assert_eq!(all, (0..n).collect::<Vec<_>>());
            prop_assert_eq!(partition.split(&labels, clients, seed).unwrap(), split);
        }
    }

    /// The greatest share that one class has of a client's samples, averaged over clients.
    fn skew(partition: Partition) -> f64 {
        let labels: Vec<u32> = (0..5000).map(|i| i % 10).collect();
        let split = partition.split(&labels, 20, 3).unwrap();
        let of = |samples: &Vec<usize>| {
            let most = (0..10).map(|class| samples.iter().filter(|i| labels[**i] == class).count()).max();
            most.unwrap_or(0) as f64 / samples.len().max(1) as f64
        };
        split.iter().map(of).sum::<f64>() / 20.0
    }

    #[test]
    fn partitions_differ_in_skew_as_they_should() {
        let iid = skew(Partition::Iid);
        let mild = skew(Partition::Dirichlet { alpha: 100.0, least: 10 });
        let usual = skew(Partition::Dirichlet { alpha: 0.5, least: 10 });
        let strong = skew(Partition::Dirichlet { alpha: 0.05, least: 1 });
        assert!(iid < 0.16 && mild < 0.2 && usual > 0.25 && strong > 0.6, "{iid} {mild} {usual} {strong}");
        // sorted by label, 250 samples a client, 500 a class
        assert!((skew(Partition::GammaSimilarity { gamma: 0.0 }) - 1.0).abs() < 1e-12);
        // half at random: about 0.05 of each class, and 0.5 of one
        let half = skew(Partition::GammaSimilarity { gamma: 0.5 });
        assert!((0.53..0.6).contains(&half), "{half}");
        assert!((skew(Partition::GammaSimilarity { gamma: 1.0 }) - iid).abs() < 0.03);
    }

    #[test]
    fn what_cannot_be_divided_is_refused_with_the_numbers() {
        let labels = [0, 1, 0, 1, 1];
        let told =
            |partition: Partition, clients| partition.split(&labels, clients, 1).unwrap_err().to_string();
        assert_eq!(
            told(Partition::Dirichlet { alpha: 0.5, least: 10 }, 2),
            "5 samples over 2 clients by dirichlet: the least share was 2 samples in 0 draws, need 10"
        );
        assert_eq!(
            told(Partition::Dirichlet { alpha: 0.0, least: 1 }, 2),
            "partition.alpha is 0, need a number above 0"
        );
        assert_eq!(told(Partition::GammaSimilarity { gamma: 1.5 }, 2), "partition.gamma is 1.5, need 0 to 1");
        assert_eq!(
            told(Partition::Pathological { labels_each: 0 }, 2),
            "partition.labels_each is 0, need 1 or more"
        );
        assert_eq!(told(Partition::Iid, 0), "the training part has no samples");
        // more clients than samples: two of them have none
        let split = Partition::Iid.split(&labels, 7, 1).unwrap();
        assert_eq!(split.iter().filter(|samples| samples.is_empty()).count(), 2);
    }

    #[test]
    fn labels_are_those_of_the_samples() {
        let data = Source::Digits.open().unwrap().train;
        let (labels, mut one) = (labels(&*data), BatchBuffers::default());
        assert_eq!(labels.len(), data.len());
        for i in [0, 511, 512, data.len() - 1] {
            data.fill(&[i], &mut one);
            assert_eq!(one.labels(), [labels[i]]);
        }
    }
}
