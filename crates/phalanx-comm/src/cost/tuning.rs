//! How started all-reduces go between the nodes of a job, and how that is chosen.

use super::{Link, float};
use std::fmt;

/// How a started all-reduce goes between nodes. Inside a node it is one pass over the memory of all ranks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Every rank exchanges slices with every other.
    Flat,
    /// The ranks of a node add up first, a slice each; then each exchanges its slice with one rank of every other node.
    Hierarchical,
    /// That of the library below, in its own order, inside a node too.
    Library,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Flat => "flat",
            Self::Hierarchical => "hierarchical",
            Self::Library => "mpi",
        })
    }
}

/// Who chooses the method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// The cost model, for each length, between [`Flat`](Method::Flat) and [`Hierarchical`](Method::Hierarchical). Both give
    /// the same bits, so that what was measured cannot be seen in a sum.
    #[default]
    Auto,
    /// The user.
    Fixed(Method),
}

/// How ranks lie on nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Ranks of all nodes.
    pub ranks: usize,
    /// Nodes.
    pub nodes: usize,
    /// Ranks of the fullest node.
    pub most_on_a_node: usize,
}

impl Topology {
    /// Whether ranks of a node have anything to do for each other before nodes exchange.
    #[must_use]
    pub const fn has_levels(self) -> bool {
        self.nodes > 1 && self.most_on_a_node > 1
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ranks on {} nodes", self.ranks, self.nodes)
    }
}

/// What the two levels of a job take, as its ranks measured it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Levels {
    /// An all-reduce of the ranks of a node: its start, and the bytes of one rank's buffer that it reduces in a second. `None`
    /// where each rank has a node of its own.
    pub inside: Option<Link>,
    /// A message from node to node, and the bytes that a node sends in a second.
    pub across: Link,
}

impl Levels {
    /// Fits both levels to times of all-reduces: of the ranks of a node, if there are several, and of one rank on each of
    /// `nodes` nodes.
    ///
    /// `None` without times. Where noise hides that longer buffers take longer, the longest one tells the speed.
    #[must_use]
    pub fn fit(nodes: usize, inside: Option<&[(u64, f64)]>, across: &[(u64, f64)]) -> Option<Self> {
        let (inside, whole) = (inside.and_then(link), link(across)?);
        let (messages, share) = (messages(nodes), share(nodes));
        let start_seconds = whole.start_seconds / messages;
        let across = Link { start_seconds, bytes_per_second: whole.bytes_per_second * share };
        Some(Self { inside, across })
    }

    /// Seconds of an all-reduce of `bytes`. `wide` are the bytes of the same numbers in single precision, in which nodes pass
    /// on what their ranks add up to. The library's own is taken for a hierarchical one: nothing is known of it.
    ///
    /// # Reference
    /// The formulas of Thakur, Rabenseifner, Gropp, "Optimization of Collective Communication Operations in MPICH", 2005, for
    /// a reduce-scatter and an all-gather by pairwise exchange. The ranks of a node share its link.
    #[must_use]
    pub fn seconds(self, method: Method, topology: Topology, bytes: u64, wide: u64) -> f64 {
        let Topology { ranks, nodes, most_on_a_node } = topology;
        let inside = self.inside.map_or(0.0, |inside| inside.seconds(bytes));
        if nodes <= 1 {
            return inside;
        }
        let (inside, starts, crossing) = match method {
            Method::Flat => {
                let remote = count(most_on_a_node) * count(ranks - most_on_a_node) / count(ranks);
                (0.0, messages(ranks), 2.0 * remote * float(bytes))
            }
            Method::Hierarchical | Method::Library => {
                (inside, messages(nodes), share(nodes) / 2.0 * (float(wide) + float(bytes)))
            }
        };
        inside + starts * self.across.start_seconds + crossing / self.across.bytes_per_second
    }
}

fn link(times: &[(u64, f64)]) -> Option<Link> {
    let as_the_longest = || {
        let (bytes, seconds) = times.iter().copied().max_by_key(|(bytes, _)| *bytes)?;
        let start_seconds = times.iter().map(|(_, seconds)| *seconds).fold(seconds, f64::min);
        Some(Link { start_seconds, bytes_per_second: float(bytes) / seconds })
    };
    Link::fit(times).or_else(as_the_longest).filter(|link| link.bytes_per_second.is_normal())
}

/// Messages that each of `n` sends in both halves of an all-reduce.
fn messages(n: usize) -> f64 {
    2.0 * count(n.saturating_sub(1).max(1))
}

/// Share of a buffer that each of `n` sends in both halves of an all-reduce.
fn share(n: usize) -> f64 {
    2.0 * count(n.saturating_sub(1).max(1)) / count(n.max(2))
}

#[expect(clippy::cast_precision_loss, reason = "there are few ranks")]
const fn count(n: usize) -> f64 {
    n as f64
}

/// How the ranks of a job reduce between its nodes: the same on all of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Tuning {
    /// Who chooses.
    pub choice: Choice,
    /// The ranks and their nodes.
    pub topology: Topology,
    /// What was measured; `None` where nothing had to be.
    pub levels: Option<Levels>,
}

impl Tuning {
    /// The method for a buffer of `bytes`, which has `wide` bytes in single precision.
    ///
    /// # Examples
    /// ```
    /// use phalanx_comm::cost::{Choice, Levels, Link, Method, Topology, Tuning};
    ///
    /// let topology = Topology { ranks: 4, nodes: 2, most_on_a_node: 2 };
    /// let link = |micros: f64, gigabytes: f64| Link {
    ///     start_seconds: micros * 1e-6,
    ///     bytes_per_second: gigabytes * 1e9,
    /// };
    /// // over a slow network, it pays to send each number once a node
    /// let levels = Some(Levels { inside: Some(link(5.0, 5.0)), across: link(20.0, 0.1) });
    /// let tuning = Tuning { choice: Choice::Auto, topology, levels };
    /// assert_eq!(tuning.method(1 << 20, 1 << 20), Method::Hierarchical);
    /// // over one that is faster than memory, it does not
    /// let levels = Some(Levels { inside: Some(link(5.0, 0.1)), across: link(1.0, 10.0) });
    /// assert_eq!(Tuning { levels, ..tuning }.method(1 << 20, 1 << 20), Method::Flat);
    /// ```
    #[must_use]
    pub fn method(&self, bytes: u64, wide: u64) -> Method {
        match (self.choice, self.levels) {
            (Choice::Fixed(method), _) => method,
            // fewer bytes and fewer messages
            (Choice::Auto, None) => Method::Hierarchical,
            (Choice::Auto, Some(levels)) => {
                let seconds = |method| levels.seconds(method, self.topology, bytes, wide);
                match seconds(Method::Flat) < seconds(Method::Hierarchical) {
                    true => Method::Flat,
                    false => Method::Hierarchical,
                }
            }
        }
    }

    /// The least power of two, from 256 bytes to 64 MiB, from which on buffers in single precision go hierarchically.
    #[must_use]
    pub fn hierarchical_from(&self) -> Option<u64> {
        let is_hierarchical = |bytes: &u64| self.method(*bytes, *bytes) == Method::Hierarchical;
        (8..=26).rev().map(|exponent| 1 << exponent).take_while(is_hierarchical).last()
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "all-reduces of {}: ", self.topology)?;
        match (self.choice, self.hierarchical_from()) {
            (Choice::Fixed(method), _) => write!(f, "{method}, as asked for")?,
            (Choice::Auto, _) if !self.topology.has_levels() => f.write_str("there is one way")?,
            (Choice::Auto, Some(256)) => f.write_str("hierarchical")?,
            (Choice::Auto, Some(bytes)) => write!(f, "flat, hierarchical from {bytes} bytes on")?,
            (Choice::Auto, None) => f.write_str("flat")?,
        }
        match &self.levels {
            Some(Levels { inside: Some(inside), across }) => {
                write!(f, "; measured {inside} inside a node, {across} between nodes")
            }
            Some(Levels { inside: None, across }) => write!(f, "; measured {across} between nodes"),
            None => Ok(()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const TOPOLOGY: Topology = Topology { ranks: 4, nodes: 2, most_on_a_node: 2 };

    fn levels(inside: f64, across: f64) -> Levels {
        let link = |bytes_per_second| Link { start_seconds: 1e-6, bytes_per_second };
        Levels { inside: Some(link(inside)), across: link(across) }
    }

    /// 1 MB over 2 nodes of 2 ranks at 1 GB/s, inside at 10 GB/s. Flat: 2 x 3 starts, and each rank sends a quarter to two
    /// ranks, twice, over a link of two: 2 x 2 x 2/4 MB. Hierarchical: a start and 0.1 ms inside, 2 starts, 2 x 1/2 MB.
    #[test]
    fn times_are_those_worked_by_hand() {
        let levels = levels(1e10, 1e9);
        let seconds = |method| levels.seconds(method, TOPOLOGY, 1_000_000, 1_000_000);
        assert!((seconds(Method::Flat) - 2006e-6).abs() < 1e-12, "{}", seconds(Method::Flat));
        assert!((seconds(Method::Hierarchical) - 1103e-6).abs() < 1e-12, "{}", seconds(Method::Hierarchical));
        // halves are passed on in single precision, and come back as halves: 2/2 + 1/2 of 1 MB
        let half = levels.seconds(Method::Hierarchical, TOPOLOGY, 1_000_000, 2_000_000);
        assert!((half - 1603e-6).abs() < 1e-12, "{half}");
    }

    #[test]
    fn levels_come_back_from_the_times_that_they_make() {
        let made = levels(3e9, 2e8);
        let times = |seconds: &dyn Fn(u64) -> f64| [4096, 65_536, 1 << 20].map(|n| (n, seconds(n)));
        let one_a_node = Topology { ranks: 3, nodes: 3, most_on_a_node: 1 };
        let alone = Levels { inside: None, ..made };
        let across = |bytes| alone.seconds(Method::Hierarchical, one_a_node, bytes, bytes);
        let inside = made.inside.expect("a link");
        let fitted = Levels::fit(3, Some(&times(&|bytes| inside.seconds(bytes))), &times(&across));
        let fitted = fitted.expect("they grow");
        for (got, need) in [(fitted.inside.expect("a link"), inside), (fitted.across, made.across)] {
            assert!((got.start_seconds / need.start_seconds - 1.0).abs() < 1e-6, "{got} for {need}");
            assert!((got.bytes_per_second / need.bytes_per_second - 1.0).abs() < 1e-6, "{got} for {need}");
        }
    }

    #[test]
    fn noise_is_no_link_that_takes_nothing() {
        let noisy = [(4096, 3e-3), (1 << 20, 2e-3)];
        let levels = Levels::fit(2, Some(&noisy), &noisy).expect("times");
        assert_eq!(levels.inside, Some(Link { start_seconds: 2e-3, bytes_per_second: 1048576.0 / 2e-3 }));
        assert_eq!(Levels::fit(2, None, &[]), None);
    }

    #[test]
    fn the_choice_is_told_in_a_line() {
        let tuning = |choice, levels| Tuning { choice, topology: TOPOLOGY, levels };
        assert_eq!(
            tuning(Choice::Auto, Some(levels(1e10, 1e9))).to_string(),
            "all-reduces of 4 ranks on 2 nodes: hierarchical; measured 1.0 us and 10.000 GB/s inside a node, \
             1.0 us and 1.000 GB/s between nodes"
        );
        let fixed = tuning(Choice::Fixed(Method::Library), None);
        assert_eq!(fixed.to_string(), "all-reduces of 4 ranks on 2 nodes: mpi, as asked for");
        assert_eq!(fixed.hierarchical_from(), None);
        assert_eq!(tuning(Choice::Auto, Some(levels(1e6, 1e12))).hierarchical_from(), None);
        // long starts inside a node do not pay for short buffers
        let slow = Levels {
            inside: Some(Link { start_seconds: 1e-3, bytes_per_second: 1e10 }),
            ..levels(1e10, 1e8)
        };
        let from = tuning(Choice::Auto, Some(slow)).hierarchical_from().expect("long buffers");
        // 10 ns a byte are saved between nodes, less 0.1 ns inside: 1 ms is 101,000 bytes
        assert_eq!(from, 131_072);
    }
}
