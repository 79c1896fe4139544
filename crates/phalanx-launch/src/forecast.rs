//! What a step would take on more nodes: compute as measured, communication by the cost model.
//!
//! Buckets leave as the backward pass reaches them, one after the other; what is left of them when it ends is exposed, and
//! so is what compression sends after it. A rule over ranks begins when the backward pass ends, and hides nothing.

use phalanx_comm::cost::{Algorithm, Link};
use phalanx_compress::Traffic;

/// Share of a step's compute that is the backward pass.
const BACKWARD: f64 = 2.0 / 3.0;

/// What is known of a job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Known {
    /// The gradient buckets, in the order in which they leave: their bytes, and what is sent of them.
    pub(crate) buckets: Vec<(u64, Traffic)>,
    /// Samples of a step over all ranks.
    pub(crate) batch: u64,
    /// Samples that one rank computes in a second.
    pub(crate) samples_per_second: f64,
    /// Ranks of a node; they share its link.
    pub(crate) ranks_per_node: u32,
    /// The network.
    pub(crate) net: Link,
    /// What a sum over the ranks of a node takes.
    pub(crate) inside: Inside,
    /// The rule over ranks, unless it is the mean.
    pub(crate) rule: Option<RuleWork>,
}

/// What a rank does for a rule over ranks or nodes, by how many of these there are: a line through what was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RuleWork {
    fixed_seconds: f64,
    seconds_a_sender: f64,
    is_over_nodes: bool,
}

impl RuleWork {
    /// The line through measured times: numbers of ranks, and seconds of each. Times that do not grow are one number.
    pub(crate) fn fit(times: &[(u64, f64)]) -> Self {
        let greatest = times.iter().map(|(_, seconds)| *seconds).fold(0.0, f64::max);
        let line = Link::fit(times);
        Self {
            fixed_seconds: line.map_or(greatest, |line| line.start_seconds),
            seconds_a_sender: line.map_or(0.0, |line| line.bytes_per_second.recip()),
            is_over_nodes: false,
        }
    }

    /// The same work, where the times are by numbers of nodes.
    pub(crate) fn over_nodes(self, is_over_nodes: bool) -> Self {
        Self { is_over_nodes, ..self }
    }

    /// What it is over, in words.
    pub(crate) fn over(self) -> &'static str {
        if self.is_over_nodes { "nodes" } else { "ranks" }
    }

    fn seconds(self, senders: u64) -> f64 {
        self.fixed_seconds + self.seconds_a_sender * float(senders)
    }
}

/// What a sum over the ranks of a node takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Inside {
    /// As it was measured.
    Measured(Link),
    /// By the bytes that the memory of a node moves in a second.
    Memory(f64),
}

/// What a step would take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Forecast {
    pub(crate) nodes: u32,
    pub(crate) ranks: u32,
    pub(crate) step_seconds: f64,
    /// Communication that nothing hides.
    pub(crate) exposed_seconds: f64,
    /// Speed against one node's, times the number of nodes; 1 is all of it.
    pub(crate) efficiency: f64,
    /// How the largest bucket goes.
    pub(crate) algorithm: Algorithm,
}

impl Known {
    /// On so many nodes; `None` with more ranks than samples.
    pub(crate) fn on(&self, nodes: u32) -> Option<Forecast> {
        let (step_seconds, exposed_seconds) = self.step(nodes)?;
        let (alone, _) = self.step(1)?;
        let largest = self.buckets.iter().map(|(_, traffic)| traffic.overlapped).max().unwrap_or(0);
        Some(Forecast {
            nodes,
            ranks: nodes * self.ranks_per_node,
            step_seconds,
            exposed_seconds,
            efficiency: alone / (step_seconds * f64::from(nodes)),
            algorithm: Algorithm::best(nodes, largest, self.net).0,
        })
    }

    /// Seconds of a step, and how many of them are exposed.
    fn step(&self, nodes: u32) -> Option<(f64, f64)> {
        let ranks = u64::from(nodes) * u64::from(self.ranks_per_node);
        if ranks > self.batch {
            return None;
        }
        // the largest share: its rank is the one that the others wait for
        let compute = float(self.batch.div_ceil(ranks)) / self.samples_per_second;
        if let Some(rule) = self.rule.filter(|_| ranks > 1) {
            let exposed = match rule.is_over_nodes {
                true => self.node_means() + self.sharded(nodes, 1) + rule.seconds(u64::from(nodes)),
                false => self.sharded(nodes, self.ranks_per_node) + rule.seconds(ranks),
            };
            return Some((compute + exposed, exposed));
        }
        let total = float(self.buckets.iter().map(|(bytes, _)| bytes).sum::<u64>().max(1));
        let (mut reached, mut end) = (0.0, 0.0_f64);
        for (bytes, traffic) in &self.buckets {
            reached += float(*bytes) / total;
            let ready = compute * (1.0 - BACKWARD + BACKWARD * reached);
            end = end.max(ready) + self.all_reduce(nodes, traffic.overlapped);
        }
        let afterwards: f64 =
            self.buckets.iter().map(|(_, traffic)| self.all_reduce(nodes, traffic.afterwards)).sum();
        let gathered = self.buckets.iter().map(|(_, traffic)| traffic.gathered).sum();
        end = end.max(compute) + afterwards + self.all_gather(nodes, gathered);
        let exposed = (end - compute).max(0.0);
        Some((compute + exposed, exposed))
    }

    /// Inside a node each rank reads and writes its share of everybody's bytes; then the nodes reduce.
    fn all_reduce(&self, nodes: u32, bytes: u64) -> f64 {
        if bytes == 0 {
            return 0.0;
        }
        let inside = match (self.ranks_per_node, self.inside) {
            (1, _) => 0.0,
            (_, Inside::Measured(link)) => link.seconds(bytes),
            (ranks, Inside::Memory(speed)) => 2.0 * f64::from(ranks) * float(bytes) / speed,
        };
        inside + Algorithm::best(nodes, bytes, self.net).1
    }

    /// Each rank of a node adds up its slice of the gradients of all of them: half of what a sum is that all ranks get.
    fn node_means(&self) -> f64 {
        let gradient = self.buckets.iter().map(|(bytes, _)| bytes).sum();
        match (self.ranks_per_node, self.inside) {
            (1, _) => 0.0,
            (_, Inside::Measured(link)) => link.start_seconds + float(gradient) / link.bytes_per_second / 2.0,
            (ranks, Inside::Memory(speed)) => f64::from(ranks) * float(gradient) / speed,
        }
    }

    /// Every rank is sent its coordinates of all vectors, `vectors` of each node, inner products are summed, and the parts
    /// of the result are joined: each message between two ranks, those of a node over its one link.
    fn sharded(&self, nodes: u32, vectors: u32) -> f64 {
        let gradient = float(self.buckets.iter().map(|(bytes, _)| bytes).sum());
        let per_node = f64::from(self.ranks_per_node);
        let ranks = per_node * f64::from(nodes);
        let outside = f64::from(nodes - 1) / f64::from(nodes);
        let n = f64::from(vectors) * f64::from(nodes);
        let products = 8.0 * n * (n + 1.0) / 2.0;
        // vectors are spread and their result is gathered by every rank; the products both, by every rank
        let bytes = gradient * (f64::from(vectors) + per_node) + 2.0 * products * per_node;
        let inside = match self.inside {
            Inside::Measured(link) => 4.0 * link.start_seconds + bytes / link.bytes_per_second,
            Inside::Memory(speed) => 2.0 * bytes / speed,
        };
        let between =
            4.0 * (ranks - per_node) * self.net.start_seconds + outside * bytes / self.net.bytes_per_second;
        if self.ranks_per_node > 1 { inside + between } else { between }
    }

    /// Each node receives the bytes of all ranks of the others.
    fn all_gather(&self, nodes: u32, bytes: u64) -> f64 {
        if bytes == 0 || nodes <= 1 {
            return 0.0;
        }
        let others = f64::from(nodes - 1);
        let received = others * f64::from(self.ranks_per_node) * float(bytes);
        others * self.net.start_seconds + received / self.net.bytes_per_second
    }
}

#[expect(clippy::cast_precision_loss, reason = "a model, of numbers far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::{Inside, Known, RuleWork};
    use phalanx_comm::cost::{Algorithm, Link};
    use phalanx_compress::Traffic;

    fn known() -> Known {
        Known {
            buckets: vec![(1_000_000, Traffic::plain(250_000)); 4],
            batch: 1000,
            samples_per_second: 1000.0,
            ranks_per_node: 1,
            net: Link { start_seconds: 0.0, bytes_per_second: 1e9 },
            inside: Inside::Memory(1e10),
            rule: None,
        }
    }

    #[test]
    fn one_node_computes_and_exposes_nothing() {
        let alone = known().on(1).expect("a forecast");
        assert!((alone.step_seconds - 1.0).abs() < 1e-12 && alone.exposed_seconds.abs() < 1e-12, "{alone:?}");
        assert!((alone.efficiency - 1.0).abs() < 1e-12);
    }

    /// Two nodes: compute 0.5 s; a bucket of 1 MB takes 2 x 1/2 x 1 ms = 1 ms. Three hide behind the backward pass.
    #[test]
    fn the_last_bucket_is_exposed() {
        let two = known().on(2).expect("a forecast");
        assert!((two.exposed_seconds - 0.001).abs() < 1e-9, "{two:?}");
        assert!((two.efficiency - 1.0 / (2.0 * 0.501)).abs() < 1e-9);
    }

    /// At 4 MB/s a bucket takes 250 ms, and the backward pass reaches one every 83 ms: from the first on they queue.
    #[test]
    fn a_slow_network_is_the_bottleneck() {
        let slow = Known { net: Link { start_seconds: 0.0, bytes_per_second: 4e6 }, ..known() };
        let two = slow.on(2).expect("a forecast");
        let first_ready = 0.5 * (1.0 / 3.0 + 2.0 / 3.0 / 4.0);
        assert!((two.step_seconds - (first_ready + 4.0 * 0.25)).abs() < 1e-9, "{two:?}");
    }

    /// On two nodes at 4 MB/s: halves of 0.5 MB take 125 ms each. Factors of 0.1 MB take 25 ms, three of them hidden, and 25 ms
    /// each once more afterwards. The largest elements of 0.1 MB each, 100 ms of all, come when all else is done.
    #[test]
    fn what_compression_sends_is_hidden_or_comes_after() {
        let net = Link { start_seconds: 0.0, bytes_per_second: 4e6 };
        let exposed = |traffic| {
            let job = Known { net, buckets: vec![(1_000_000, traffic); 4], ..known() };
            job.on(2).expect("a forecast").exposed_seconds
        };
        // the first leaves after 0.25 s, the others queue behind it: the last is there after 0.75 s
        let halves = exposed(Traffic::plain(125_000));
        assert!((halves - (0.5 - 0.25)).abs() < 1e-9, "{halves}");
        let factors = exposed(Traffic { overlapped: 100_000, afterwards: 100_000, gathered: 0 });
        assert!((factors - 0.125).abs() < 1e-9, "{factors}");
        let largest = exposed(Traffic { overlapped: 0, afterwards: 0, gathered: 100_000 });
        assert!((largest - 0.1).abs() < 1e-9, "{largest}");
    }

    /// On 4 nodes at 1 GB/s: 3 ms to spread 4 MB, 3 ms to gather them, and what the rule takes; alone there is nobody to compare.
    #[test]
    fn a_rule_exposes_what_it_sends_and_does() {
        let rule = RuleWork::fit(&[(4, 0.012), (8, 0.016), (16, 0.024)]);
        let known = Known { rule: Some(rule), ..known() };
        let exposed = known.on(4).expect("a forecast").exposed_seconds;
        assert!((exposed - (0.006 + 0.012)).abs() < 1e-6, "{exposed}");
        assert!(known.on(1).expect("a forecast").exposed_seconds.abs() < 1e-12);
        let level = RuleWork::fit(&[(4, 0.02), (8, 0.01)]);
        assert!((level.seconds(4096) - 0.02).abs() < 1e-12, "no growth was seen");
    }

    /// Two nodes of four ranks at 1 GB/s and 10 GB/s inside: 4 MB of each rank are read to be added up in 1.6 ms; half of the node's
    /// 4 MB and of four results of 4 MB come from the other in 10 ms, and 40 MB are moved inside in 4 ms.
    #[test]
    fn a_rule_over_nodes_adds_up_each_node_first() {
        let rule = RuleWork::fit(&[(2, 0.002), (4, 0.003)]);
        let over = |is_over_nodes| {
            let rule = Some(rule.over_nodes(is_over_nodes));
            let known = Known { ranks_per_node: 4, rule, ..known() };
            known.on(2).expect("a forecast").exposed_seconds
        };
        let nodes = over(true);
        assert!((nodes - (0.0016 + 0.010 + 0.004 + 0.002)).abs() < 1e-6, "{nodes}");
        // eight vectors: 16 MB from the other node, 64 MB inside, and the work of eight
        let ranks = over(false);
        assert!((ranks - (0.016 + 0.0064 + 0.005)).abs() < 1e-5, "{ranks}");
    }

    #[test]
    fn ranks_without_samples_are_no_forecast() {
        assert_eq!(known().on(1001), None);
        let shared = Known { ranks_per_node: 8, ..known() };
        assert_eq!(shared.on(126), None);
        assert_eq!(shared.on(125).map(|forecast| forecast.ranks), Some(1000));
        assert!(matches!(shared.on(4).map(|forecast| forecast.algorithm), Some(Algorithm::Ring)));
    }
}
