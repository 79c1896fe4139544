//! Sorting as a fixed sequence of comparisons, which whole vectors of columns follow at once.

use std::ops::Range;

/// Comparators that put chosen ranks of `n` numbers in their place.
///
/// Element `i` holds rank `i` afterwards, for the ranks that were asked for; comparators that only serve others are
/// left out.
///
/// # Reference
/// Batcher's merge exchange in the form of Knuth, "The Art of Computer Programming" volume 3, 5.2.2, algorithm M,
/// which works for every `n`.
///
/// # Examples
/// ```
/// use phalanx_tensor::rows::Network;
/// // nine comparators sort five numbers; fewer find the middle one
/// assert_eq!(Network::sorting(5).comparators().len(), 9);
/// assert!(Network::ranks(5, 2..3).comparators().len() < 9);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    n: usize,
    comparators: Vec<(usize, usize)>,
}

impl Network {
    /// All ranks.
    #[must_use]
    pub fn sorting(n: usize) -> Self {
        Network::ranks(n, 0..n)
    }

    /// The ranks in `wanted`.
    #[must_use]
    pub fn ranks(n: usize, wanted: Range<usize>) -> Self {
        let mut used: Vec<bool> = (0..n).map(|rank| wanted.contains(&rank)).collect();
        let mut comparators = merge_exchange(n);
        // Backwards, a comparator is needed when what comes after looks at one of its two results.
        comparators.reverse();
        comparators.retain(|(low, high)| {
            let needed = used[*low] || used[*high];
            (used[*low], used[*high]) = (used[*low] || needed, used[*high] || needed);
            needed
        });
        comparators.reverse();
        Network { n, comparators }
    }

    /// How many numbers it is for.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Pairs `low < high` in the order of work: the lesser number goes to `low`.
    #[must_use]
    pub fn comparators(&self) -> &[(usize, usize)] {
        &self.comparators
    }
}

fn merge_exchange(n: usize) -> Vec<(usize, usize)> {
    let mut comparators = Vec::new();
    let top = n.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            comparators.extend((0..n.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    comparators
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(network: &Network, values: &mut [u32]) {
        for (low, high) in network.comparators() {
            if values[*high] < values[*low] {
                values.swap(*low, *high);
            }
        }
    }

    /// A network sorts everything when it sorts zeros and ones (Knuth, theorem Z).
    #[test]
    fn all_zeros_and_ones_are_sorted() {
        for n in 0..=12_usize {
            let network = Network::sorting(n);
            for bits in 0..1_u32 << n {
                let mut values: Vec<u32> = (0..n).map(|i| bits >> i & 1).collect();
                run(&network, &mut values);
                assert!(values.is_sorted(), "{n} {bits:b}");
            }
        }
    }

    #[test]
    fn chosen_ranks_come_to_their_place() {
        for n in 1..=10_usize {
            for low in 0..n {
                for high in low + 1..=n {
                    let network = Network::ranks(n, low..high);
                    for bits in 0..1_u32 << n {
                        let mut values: Vec<u32> = (0..n).map(|i| bits >> i & 1).collect();
                        let zeros = values.iter().filter(|x| **x == 0).count();
                        run(&network, &mut values);
                        let right = (low..high).all(|rank| values[rank] == u32::from(rank >= zeros));
                        assert!(right, "{n} {low}..{high} {bits:b}");
                    }
                }
            }
        }
    }

    #[test]
    fn large_networks_sort() {
        for n in [50, 100, 257] {
            let mut values: Vec<u32> = (0..n).map(|i| (i * 7919) % 1009).collect();
            run(&Network::sorting(values.len()), &mut values);
            assert!(values.is_sorted(), "{n}");
        }
    }
}
