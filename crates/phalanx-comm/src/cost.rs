//! What an all-reduce takes, by the model of a start-up time a message and a time a byte.
//!
//! [`Algorithm`] is for predictions on networks that are not here; [`Tuning`] is how the ranks of a job that runs reduce
//! between its nodes, chosen by what they measured.

mod tuning;

pub use tuning::{Choice, Levels, Method, Topology, Tuning};

use std::fmt;

/// A link between nodes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Link {
    /// Seconds that a message takes however short it is.
    pub start_seconds: f64,
    /// Bytes a second, one way.
    pub bytes_per_second: f64,
}

impl Link {
    /// The link that fits measured times of messages best: bytes and seconds of each.
    ///
    /// `None` for fewer than two lengths, and for times that do not grow with the length: no link was seen in them.
    ///
    /// # Numerics
    /// Least squares of relative errors, so that short messages count as much as long ones; no time to start below 0.
    ///
    /// # Examples
    /// ```
    /// use phalanx_comm::cost::Link;
    ///
    /// // 20 us and 1 GB/s
    /// let link = Link::fit(&[(1_000, 21e-6), (100_000, 120e-6), (1_000_000, 1020e-6)]).expect("they grow");
    /// assert!((link.start_seconds - 20e-6).abs() < 1e-9);
    /// assert!((link.bytes_per_second - 1e9).abs() < 1.0);
    /// ```
    #[must_use]
    pub fn fit(times: &[(u64, f64)]) -> Option<Self> {
        let (first, rest) = times.split_first()?;
        if rest.iter().all(|(bytes, _)| *bytes == first.0) {
            return None;
        }
        let (mut w, mut wx, mut wxx, mut wy, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(bytes, seconds) in times {
            let (x, weight) = (float(bytes), (seconds * seconds).recip());
            (w, wx, wxx) = (w + weight, wx + weight * x, wxx + weight * x * x);
            (wy, wxy) = (wy + weight * seconds, wxy + weight * x * seconds);
        }
        let slope = (w * wxy - wx * wy) / (w * wxx - wx * wx);
        let start = (wy - slope * wx) / w;
        // through the origin where the line would begin below it
        let (start, slope) = if start < 0.0 { (0.0, wxy / wxx) } else { (start, slope) };
        let is_link = start.is_finite() && slope.is_finite() && slope > 0.0;
        is_link.then(|| Self { start_seconds: start, bytes_per_second: slope.recip() })
    }

    /// Seconds of one message.
    #[must_use]
    pub fn seconds(self, bytes: u64) -> f64 {
        self.start_seconds + float(bytes) / self.bytes_per_second
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} us and {:.3} GB/s", self.start_seconds * 1e6, self.bytes_per_second / 1e9)
    }
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
        let transfer = float(bytes) / link.bytes_per_second;
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

#[expect(clippy::cast_precision_loss, reason = "a model, of buffers far below 2^52 bytes")]
const fn float(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_fit_starts_at_0_at_the_earliest_and_sees_no_link_in_noise() {
        // the line through both begins at -1 s
        let link = Link::fit(&[(1, 1.0), (2, 3.0)]).expect("they grow");
        assert!(link.start_seconds <= 0.0 && link.bytes_per_second > 0.7, "{link:?}");
        for times in [&[(8, 1.0)][..], &[(8, 1.0), (8, 2.0)], &[(8, 2.0), (800, 1.0)], &[]] {
            assert_eq!(Link::fit(times), None, "{times:?}");
        }
    }

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
