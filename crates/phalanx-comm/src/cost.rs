//! What an all-reduce takes, by the model of a start-up time a message and a time a byte.
//!
//! Sums are taken as free beside the network. For predictions: nothing here measures.

use std::fmt;

/// A link between nodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Seconds that a message takes however short it is.
    pub start_seconds: f64,
    /// Bytes a second, one way.
    pub bytes_per_second: f64,
}

/// How an all-reduce goes over the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// Segments go round, twice.
    Ring,
    /// Whole buffers are exchanged over doubling distances.
    RecursiveDoubling,
    /// Halves, quarters, ... are exchanged, then gathered again: Rabenseifner's.
    HalvingDoubling,
    /// Pieces go up and down two trees.
    Tree,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ring, Self::RecursiveDoubling, Self::HalvingDoubling, Self::Tree];

    /// Seconds of an all-reduce of `bytes` over `ranks`, one a link; 0 for one rank.
    ///
    /// # Numerics
    /// For rank numbers that are no power of two, the steps of a doubling are rounded up.
    ///
    /// # Reference
    /// Thakur, Rabenseifner, Gropp, "Optimization of Collective Communication Operations in MPICH", 2005.
    #[must_use]
    pub fn seconds(self, ranks: u32, bytes: u64, link: Link) -> f64 {
        if ranks <= 1 {
            return 0.0;
        }
        let (p, steps) = (f64::from(ranks), f64::from(ranks.next_power_of_two().trailing_zeros()));
        #[expect(clippy::cast_precision_loss, reason = "a model, of buffers far below 2^52 bytes")]
        let transfer = bytes as f64 / link.bytes_per_second;
        let (starts, transfers) = match self {
            Self::Ring => (2.0 * (p - 1.0), 2.0 * (p - 1.0) / p),
            Self::RecursiveDoubling => (steps, steps),
            Self::HalvingDoubling => (2.0 * steps, 2.0 * (p - 1.0) / p),
            Self::Tree => (2.0 * steps, 2.0),
        };
        starts * link.start_seconds + transfers * transfer
    }

    /// The one that takes least, and its seconds.
    #[must_use]
    pub fn best(ranks: u32, bytes: u64, link: Link) -> (Self, f64) {
        let timed = Self::ALL.map(|algorithm| (algorithm, algorithm.seconds(ranks, bytes, link)));
        let least = |best: (Self, f64), next: (Self, f64)| if next.1 < best.1 { next } else { best };
        timed.into_iter().fold((Self::Ring, f64::INFINITY), least)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring => "ring",
            Self::RecursiveDoubling => "recursive doubling",
            Self::HalvingDoubling => "halving-doubling",
            Self::Tree => "tree",
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BYTES: u64 = 25 << 20;

    fn link(micros: f64, gigabytes: f64) -> Link {
        Link { start_seconds: micros * 1e-6, bytes_per_second: gigabytes * 1e9 }
    }

    /// By hand from the formulas: milliseconds of 25 MiB, in the order of `ALL`.
    #[test]
    fn times_are_those_worked_by_hand() {
        for (ranks, link, expected) in [
            (8, link(5.0, 11.0), [4.2, 7.2, 4.2, 4.8]),
            (64, link(5.0, 11.0), [5.3, 14.3, 4.8, 4.8]),
            (512, link(20.0, 3.0), [37.9, 78.8, 17.8, 17.8]),
            (4096, link(3.0, 45.0), [25.7, 7.0, 1.2, 1.2]),
        ] {
            for (algorithm, expected) in Algorithm::ALL.into_iter().zip(expected) {
                let milliseconds = algorithm.seconds(ranks, BYTES, link) * 1e3;
                assert!((milliseconds - expected).abs() < 0.1, "{algorithm} of {ranks}: {milliseconds}");
            }
        }
    }

    #[test]
    fn short_messages_go_by_few_steps_and_long_ones_by_small_pieces() {
        let net = link(5.0, 11.0);
        assert_eq!(Algorithm::best(64, 1 << 10, net).0, Algorithm::RecursiveDoubling);
        assert_eq!(Algorithm::best(64, BYTES, net).0, Algorithm::HalvingDoubling);
        // the two cross at 80 KiB on 64 ranks
        assert_eq!(Algorithm::best(64, 78 << 10, net).0, Algorithm::RecursiveDoubling);
        assert_eq!(Algorithm::best(64, 82 << 10, net).0, Algorithm::HalvingDoubling);
        assert!(Algorithm::ALL.iter().all(|algorithm| algorithm.seconds(1, BYTES, net) <= 0.0));
    }
}
