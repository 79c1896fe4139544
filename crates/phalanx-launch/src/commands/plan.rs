//! `phalanx plan`: what a run would take on more nodes.

use std::io::Write;
use std::path::{Path, PathBuf};

use phalanx_comm::cost::Link;
use phalanx_train::Summary;
use phalanx_train::events::{self, BetweenNodes, Event};

use super::{Context, open_run, read_run};
use crate::cli::PlanArgs;
use crate::engine;
use crate::forecast::{Forecast, Inside, Known, RuleWork};
use crate::runfile::OverWhat;
use crate::usage::UsageError;

/// The network of a forecast that is told of none.
const NET: Link = Link { start_seconds: 20e-6, bytes_per_second: 1.1e9 };

pub(super) fn plan(args: &PlanArgs, context: &mut Context<'_>) -> anyhow::Result<()> {
    let run = read_run(&args.run, context.registered)?;
    let plan = engine::plan(&run, context.registered, args.hardware.into())?;
    let measured = Measured::read(&args.measured)?;
    let across = measured.between.as_ref().and_then(|between| between.across).map(Link::from);
    let inside = measured.between.as_ref().and_then(|between| between.inside).map(Link::from);
    let net = args.net.or(across).unwrap_or(NET);
    let start_seconds = args.start_micros.map_or(net.start_seconds, |micros| micros * 1e-6);
    let memory = Inside::Memory(args.node_gigabytes * 1e9);
    let parameters = usize::try_from(plan.parameters).unwrap_or(usize::MAX);
    let times = engine::rule_times(&run, parameters, args.ranks_per_node)?;
    let is_over_nodes = run.aggregation.over == OverWhat::Nodes;
    let known = Known {
        buckets: plan.buckets.iter().map(|(_, _, bytes)| bytes.0).zip(plan.traffic).collect(),
        batch: run.train.batch as u64,
        samples_per_second: measured.samples_per_second / float(measured.ranks.max(1)),
        ranks_per_node: args.ranks_per_node,
        net: Link { start_seconds, ..net },
        inside: inside.map_or(memory, Inside::Measured),
        rule: times.as_deref().map(|times| RuleWork::fit(times).over_nodes(is_over_nodes)),
    };
    let bytes: u64 = plan.memory.iter().map(|(_, bytes)| bytes.0).sum();
    let megabytes = float(bytes) / float(run.train.ranks.max(1) as u64) / 1e6;
    let checks = args.check.iter().map(|dir| Measured::read(dir)).collect::<anyhow::Result<Vec<_>>>()?;
    write(&known, &args.nodes.0, megabytes, context.out)?;
    if !checks.is_empty() {
        write_checks(&known, &args.check, &checks, context.out)?;
    }
    Ok(())
}

/// What a run measured of itself.
struct Measured {
    ranks: u64,
    batch: u64,
    samples_per_second: f64,
    between: Option<BetweenNodes>,
}

impl Measured {
    fn read(dir: &Path) -> anyhow::Result<Self> {
        let paths = open_run(dir)?;
        let summary = Summary::read(&paths.summary())?;
        if !summary.samples_per_second.is_finite() || summary.samples_per_second <= 0.0 {
            return Err(UsageError::NoSpeed { dir: dir.to_owned() }.into());
        }
        let started = |event: Event| match event {
            Event::RunStarted(started) => Some(started.between_nodes),
            _ => None,
        };
        let between = events::read(&paths.events())?.events.into_iter().rev().find_map(started).flatten();
        Ok(Self {
            ranks: summary.ranks,
            batch: summary.final_batch,
            samples_per_second: summary.samples_per_second,
            between,
        })
    }

    fn nodes(&self) -> u64 {
        self.between.as_ref().map_or(1, |between| between.nodes.max(1))
    }

    /// The forecast of such a run.
    fn foretold(&self, known: &Known) -> Option<Forecast> {
        let nodes = u32::try_from(self.nodes()).ok()?;
        let ranks_per_node = u32::try_from(self.ranks.div_ceil(self.nodes())).ok()?;
        Known { batch: self.batch, ranks_per_node, ..known.clone() }.on(nodes)
    }
}

/// Compares the model with runs that were made.
fn write_checks(
    known: &Known,
    dirs: &[PathBuf],
    checks: &[Measured],
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    writeln!(
        out,
        "\n{:>6} {:>7} {:>12} {:>12} {:>8}  run",
        "nodes", "ranks", "foretold ms", "measured ms", "error"
    )?;
    for (dir, check) in dirs.iter().zip(checks) {
        let measured = float(check.batch) / check.samples_per_second;
        let (nodes, ranks, dir) = (check.nodes(), check.ranks, dir.display());
        let Some(forecast) = check.foretold(known) else {
            writeln!(
                out,
                "{nodes:>6} {ranks:>7} more ranks than the {} samples of a batch  {dir}",
                check.batch
            )?;
            continue;
        };
        let foretold = forecast.step_seconds;
        writeln!(
            out,
            "{nodes:>6} {ranks:>7} {:>12.3} {:>12.3} {:>+6.1} %  {dir}",
            foretold * 1e3,
            measured * 1e3,
            (foretold / measured - 1.0) * 100.0
        )?;
    }
    Ok(())
}

fn write(known: &Known, nodes: &[u32], megabytes: f64, out: &mut dyn Write) -> anyhow::Result<()> {
    let sent: u64 = known.buckets.iter().map(|(_, traffic)| traffic.bytes()).sum();
    writeln!(
        out,
        "a model: {:.0} samples/s a rank as measured, a network of {}, gradients of {:.3} MB\n",
        known.samples_per_second,
        known.net,
        float(sent) / 1e6
    )?;
    writeln!(
        out,
        "{:>6} {:>7} {:>12} {:>12} {:>12} {:>11} {:>11}  gradients",
        "nodes", "ranks", "step ms", "exposed ms", "samples/s", "efficiency", "MB a rank"
    )?;
    for &nodes in nodes {
        let Some(forecast) = known.on(nodes) else {
            writeln!(out, "{nodes:>6} more ranks than the {} samples of a batch", known.batch)?;
            break;
        };
        let Forecast { ranks, step_seconds, exposed_seconds, efficiency, algorithm, .. } = forecast;
        let samples_per_second = float(known.batch) / step_seconds;
        let way = match known.rule {
            None => format!("all-reduce, {algorithm}"),
            Some(rule) => format!("a rule over {}, on shards", rule.over()),
        };
        writeln!(
            out,
            "{nodes:>6} {ranks:>7} {:>12.3} {:>12.3} {samples_per_second:>12.0} {:>9.1} % {megabytes:>11.1}  {way}",
            step_seconds * 1e3,
            exposed_seconds * 1e3,
            efficiency * 100.0
        )?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a model, of numbers far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

/// Numbers of nodes: `4`, `1,2,8`, or `1..1024`, which doubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nodes(Vec<u32>);

impl std::str::FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str| text.trim().parse().ok().filter(|nodes: &u32| (1..=1 << 20).contains(nodes));
        let nodes: Option<Vec<u32>> = match text.split_once("..") {
            Some((first, last)) => {
                number(first).zip(number(last)).filter(|(first, last)| first <= last).map(|(first, last)| {
                    std::iter::successors(Some(first), |nodes| Some(nodes * 2))
                        .take_while(|n| *n <= last)
                        .collect()
                })
            }
            None => text.split(',').map(number).collect(),
        };
        nodes.map(Self).ok_or_else(|| "need numbers of nodes such as 4, 1,2,8 or 1..1024".to_owned())
    }
}

/// A network by its gigabits: `100g`. TCP below 100, direct access to memory from there on; 88 % of the bits are ours.
pub(crate) fn net(text: &str) -> Result<Link, String> {
    let gigabits = text.strip_suffix(['g', 'G']).and_then(|number| number.parse::<f64>().ok());
    let gigabits = gigabits.filter(|gigabits| (0.01..=10_000.0).contains(gigabits));
    let gigabits = gigabits.ok_or_else(|| "need gigabits a second, such as 100g".to_owned())?;
    let micros = match gigabits {
        slow if slow < 100.0 => 20.0,
        middle if middle < 400.0 => 5.0,
        _ => 3.0,
    };
    Ok(Link { start_seconds: micros * 1e-6, bytes_per_second: gigabits / 8.0 * 0.88 * 1e9 })
}

#[cfg(test)]
mod tests {
    use super::{Nodes, net};

    #[test]
    fn ranges_of_nodes_double() {
        let of = |text: &str| text.parse::<Nodes>().map(|nodes| nodes.0);
        assert_eq!(of("1..1024").expect("nodes").len(), 11);
        assert_eq!(of("3..20").expect("nodes"), [3, 6, 12]);
        assert_eq!(of("1,2,8").expect("nodes"), [1, 2, 8]);
        for text in ["", "0", "8..4", "1..", "a", "1,,2", "99999999"] {
            assert!(of(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn networks_are_named_by_their_gigabits() {
        let fast = net("100g").expect("a network");
        assert!((fast.bytes_per_second - 11e9).abs() < 1.0 && (fast.start_seconds - 5e-6).abs() < 1e-12);
        for text in ["100", "g", "-1g", "NaNg", "fast"] {
            assert!(net(text).is_err(), "{text:?}");
        }
    }
}
