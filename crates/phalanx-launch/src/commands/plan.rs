//! `phalanx plan`: what a run would take on more nodes.

use std::io::Write;

use phalanx_comm::cost::Link;
use phalanx_train::Summary;

use super::{Context, open_run, read_run};
use crate::cli::PlanArgs;
use crate::engine;
use crate::forecast::{Forecast, Known};
use crate::usage::UsageError;

pub(super) fn plan(args: &PlanArgs, context: &mut Context<'_>) -> anyhow::Result<()> {
    let run = read_run(&args.run, context.registered)?;
    let plan = engine::plan(&run, context.registered, args.hardware.into())?;
    let measured = Summary::read(&open_run(&args.measured)?.summary())?;
    #[expect(clippy::cast_precision_loss, reason = "there are few ranks")]
    let samples_per_second = measured.samples_per_second / measured.ranks.max(1) as f64;
    if !samples_per_second.is_finite() || samples_per_second <= 0.0 {
        return Err(UsageError::NoSpeed { dir: args.measured.clone() }.into());
    }
    let start_seconds = args.start_micros.map_or(args.net.start_seconds, |micros| micros * 1e-6);
    let known = Known {
        buckets: plan.buckets.iter().map(|(_, _, bytes)| bytes.0).collect(),
        batch: run.train.batch as u64,
        samples_per_second,
        ranks_per_node: args.ranks_per_node,
        net: Link { start_seconds, ..args.net },
        node_bytes_per_second: args.node_gigabytes * 1e9,
    };
    let bytes: u64 = plan.memory.iter().map(|(_, bytes)| bytes.0).sum();
    #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
    let megabytes = bytes as f64 / run.train.ranks.max(1) as f64 / 1e6;
    write(&known, &args.nodes.0, megabytes, context.out)
}

fn write(known: &Known, nodes: &[u32], megabytes: f64, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "a model: {:.0} samples/s a rank as measured, a network of {:.1} us and {:.2} GB/s\n",
        known.samples_per_second,
        known.net.start_seconds * 1e6,
        known.net.bytes_per_second / 1e9
    )?;
    writeln!(
        out,
        "{:>6} {:>7} {:>12} {:>12} {:>12} {:>11} {:>11}  all-reduce",
        "nodes", "ranks", "step ms", "exposed ms", "samples/s", "efficiency", "MB a rank"
    )?;
    for &nodes in nodes {
        let Some(forecast) = known.on(nodes) else {
            writeln!(out, "{nodes:>6} more ranks than the {} samples of a batch", known.batch)?;
            break;
        };
        let Forecast { ranks, step_seconds, exposed_seconds, efficiency, algorithm, .. } = forecast;
        #[expect(clippy::cast_precision_loss, reason = "batches are far below 2^52")]
        let samples_per_second = known.batch as f64 / step_seconds;
        writeln!(
            out,
            "{nodes:>6} {ranks:>7} {:>12.3} {:>12.3} {samples_per_second:>12.0} {:>9.1} % {megabytes:>11.1}  {algorithm}",
            step_seconds * 1e3,
            exposed_seconds * 1e3,
            efficiency * 100.0
        )?;
    }
    Ok(())
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
