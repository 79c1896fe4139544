//! Rules over vectors whose coordinates are spread over ranks give the bits of the same rules over whole vectors.

use phalanx_comm::{
    Agreed, Communicator, CommunicatorExt, Options, Rank, SoloComm, WorldSize, run_ranks, tree_sum_f64,
};
use phalanx_grad::{Blocks, GradError, GradSet, Ranks, Reduce, Scratch, Shard, StateTensor};
use phalanx_robust::registry::{PreConfig, RuleConfig};
use phalanx_robust::{Keep, Monna, MultiMetrics, Reference, Report, Robust};
use phalanx_tensor::Cpu;
use phalanx_tensor::rng::{Purpose, Stream};
use std::ops::Range;
use std::sync::Arc;

/// Vectors that every rank has, of which it shows its part, or all.
#[derive(Debug)]
struct Spread<'a> {
    comm: &'a dyn Communicator,
    rows: &'a [Vec<f32>],
    backend: Cpu<f32>,
    trusted: Vec<f32>,
    is_whole: bool,
}

impl<'a> Spread<'a> {
    fn new(comm: &'a dyn Communicator, rows: &'a [Vec<f32>]) -> Self {
        Spread { comm, rows, backend: Cpu::new(), trusted: trusted(rows[0].len()), is_whole: false }
    }
}

/// A vector along the nine of one kind.
fn trusted(dim: usize) -> Vec<f32> {
    (0..dim).map(|k| 0.5 + 0.1 * (k % 7) as f32).collect()
}

impl Spread<'_> {
    fn of(&self, rank: Rank) -> Range<usize> {
        let blocks = Blocks::new(self.dim());
        blocks.coordinates(blocks.tree().shards_of(rank, self.comm.size()))
    }
}

impl GradSet<Ranks> for Spread<'_> {
    fn backend(&self) -> &Cpu<f32> {
        &self.backend
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn dim(&self) -> usize {
        self.rows[0].len()
    }

    fn samples(&self, i: usize) -> u64 {
        i as u64 % 3 + 1
    }

    fn view(&self, i: usize) -> Option<&[f32]> {
        self.is_whole.then(|| &self.rows[i][..])
    }

    fn shard(&self) -> Option<&dyn Shard> {
        (!self.is_whole).then_some(self)
    }

    fn trusted(&self) -> Option<&[f32]> {
        Some(&self.trusted)
    }

    fn row(&self, i: usize, out_d: &mut [f32]) -> Result<(), GradError> {
        self.gather(self.part(i), out_d)
    }

    fn weighted_sum(&self, _weights_n: &[f64], _out_d: &mut [f32]) -> Result<(), GradError> {
        unreachable!("these rules form sums of their own")
    }
}

impl Shard for Spread<'_> {
    fn blocks(&self) -> Range<usize> {
        Blocks::new(self.dim()).tree().shards_of(self.comm.rank(), self.comm.size())
    }

    fn part(&self, i: usize) -> &[f32] {
        &self.rows[i][self.of(self.comm.rank())]
    }

    fn sum(&self, nodes: &[f64], width: usize) -> Result<Agreed<Vec<f64>>, GradError> {
        Ok(tree_sum_f64(self.comm, Blocks::new(self.dim()).tree(), nodes, width)?)
    }

    fn gather(&self, part: &[f32], out_d: &mut [f32]) -> Result<(), GradError> {
        let counts: Vec<usize> = self.comm.size().ranks().map(|rank| self.of(rank).len()).collect();
        Ok(self.comm.all_gather_into(part, &counts, out_d)?)
    }
}

const N: usize = 11;

/// Nine of one kind, one far away, one with a number that is none.
fn rows(dim: usize) -> Vec<Vec<f32>> {
    let row = |i: usize| {
        let mut row = vec![0.0; dim];
        Stream::new(5, Purpose::User(1), i as u64).fill_normal(&mut row);
        row.iter_mut().for_each(|x| *x += 0.5);
        if i == 3 {
            row.iter_mut().for_each(|x| *x *= -40.0);
        }
        if i == 8 {
            row[dim - 1] = f32::NAN;
        }
        row
    };
    (0..N).map(row).collect()
}

type Answer = Result<(Vec<u32>, Report), GradError>;

fn answer(robust: &mut Robust, set: &dyn GradSet<Ranks>) -> Answer {
    let mut out = vec![0.0; set.dim()];
    let reduce: &mut dyn Reduce<Ranks> = robust;
    reduce.reduce(4, set, &mut out, &mut Scratch::new())?;
    Ok((out.iter().map(|x| x.to_bits()).collect(), robust.report().clone()))
}

/// Makes the rule of a rank.
type Make = Arc<dyn Fn() -> Robust + Send + Sync>;

fn whole(make: &Make, rows: &[Vec<f32>]) -> Answer {
    let comm = SoloComm::new();
    answer(&mut make(), &Spread { is_whole: true, ..Spread::new(&comm, rows) })
}

fn spread(make: &Make, rows: &Arc<Vec<Vec<f32>>>, ranks: usize) -> Vec<Answer> {
    let (make, rows) = (Arc::clone(make), Arc::clone(rows));
    run_ranks(WorldSize(ranks), &Options::default(), move |comm| {
        let set = Spread::new(&*comm, &rows);
        Ok::<_, GradError>(answer(&mut make(), &set))
    })
    .expect("errors are answers here")
}

fn assert_spreads(name: &str, dim: usize, make: impl Fn() -> Robust + Send + Sync + 'static) {
    let (make, rows): (Make, _) = (Arc::new(make), Arc::new(rows(dim)));
    let want = whole(&make, &rows);
    for ranks in 1..=5 {
        for (rank, got) in spread(&make, &rows, ranks).into_iter().enumerate() {
            assert_eq!(got, want, "{name} of {dim}, rank {rank} of {ranks}");
        }
    }
}

/// 3 blocks and a bit, fewer than ranks, and one that is not full.
const DIMS: [usize; 3] = [3 * Blocks::LEN + 17, Blocks::LEN + 1, 5];

#[test]
fn every_rule_gives_the_same_bits_and_report() {
    let mut shardable = 0;
    for name in RuleConfig::NAMES {
        let config = RuleConfig::from_name(name).expect("a name");
        let config = if *name == "monna" { RuleConfig::Monna(Monna { pivot: Some(1) }) } else { config };
        shardable +=
            usize::from(Robust::new(2, config.build().expect("defaults are in range")).is_shardable());
        for dim in DIMS {
            let config = config.clone();
            assert_spreads(name, dim, move || Robust::new(2, config.build().expect("as above")));
        }
    }
    assert_eq!(shardable, RuleConfig::NAMES.len(), "no rule needs whole vectors");
}

#[test]
fn every_pre_aggregator_gives_the_same_bits_and_report() {
    let pairwise =
        MultiMetrics { reference: Reference::Pairwise, keep: Keep::Count(6), ..MultiMetrics::default() };
    let others = PreConfig::NAMES.iter().filter(|name| **name != "multi-metrics");
    let configs =
        others.filter_map(|name| PreConfig::from_name(name)).chain([PreConfig::MultiMetrics(pairwise)]);
    for config in configs {
        for dim in DIMS {
            let (name, config) = (config.name(), config.clone());
            // one rule that sorts coordinates, behind mixed vectors that nobody has written down
            assert_spreads(name, dim, move || Robust::new(2, phalanx_robust::Median).behind(config.build()));
        }
    }
}

#[test]
fn limits_and_errors_are_the_same_on_every_rank() {
    assert_spreads("a limit on norms", DIMS[0], || {
        Robust::new(2, phalanx_robust::Median).with_max_norm(1000.0)
    });
    // one is not finite where none is borne: every rank says so
    assert_spreads("no hostile one borne", DIMS[0], || Robust::new(0, phalanx_robust::Median));
    assert_spreads("too many asked for", DIMS[1], || Robust::new(3, phalanx_robust::Bulyan));
}

#[test]
fn what_is_expected_of_the_example_is_so() {
    let make: Make = Arc::new(|| Robust::new(2, phalanx_robust::Krum::default()));
    let (_, report) = whole(&make, &rows(DIMS[0])).expect("two are borne");
    let left_out: Vec<u64> = report.rejected.iter().map(|rejected| rejected.id).collect();
    assert!(left_out.contains(&3) && left_out.contains(&8), "{report}");
    let none: Make = Arc::new(|| Robust::new(0, phalanx_robust::Median));
    assert!(matches!(whole(&none, &rows(5)), Err(GradError::TooManyInvalid { invalid: 1, .. })));
}

/// Rounds of five senders, a few of them each time, of which each goes its own way.
fn round(step: u64, dim: usize) -> Vec<Vec<f32>> {
    let row = |i: u64| {
        let (mut row, mut own) = (vec![0.0; dim], vec![0.0; dim]);
        Stream::new(7, Purpose::User(2), i).fill_normal(&mut own);
        Stream::new(step, Purpose::User(3), i).fill_normal(&mut row);
        row.iter_mut().zip(own).for_each(|(x, own)| *x += 2.0 * own);
        row
    };
    (0..5).map(row).collect()
}

fn fools_gold() -> Robust {
    Robust::new(1, phalanx_robust::FoolsGold::default()).behind(phalanx_robust::Arc)
}

/// The results of some rounds, and the state after them, joined on every rank.
fn rounds(
    rule: &mut Robust,
    comm: &dyn Communicator,
    steps: Range<u64>,
    dim: usize,
) -> Result<(Vec<Vec<f32>>, Vec<StateTensor>), GradError> {
    let mut results = Vec::new();
    for step in steps {
        let rows = round(step, dim);
        let mut out = vec![0.0; dim];
        rule.aggregate_set(step, &Spread::new(comm, &rows), None, &mut out)?;
        results.push(out);
    }
    let rows = round(1, dim);
    let set = Spread::new(comm, &rows);
    // each rank keeps a part, and none has all
    let mut state = [rule.state(), rule.state_in_parts()].concat();
    for tensor in &mut state {
        let mut whole = vec![0.0; dim];
        set.gather(tensor.data.elems::<f32>().expect("numbers"), &mut whole)?;
        *tensor = StateTensor::new(tensor.name.clone(), &whole);
    }
    Ok((results, state))
}

#[test]
fn sums_of_the_past_are_kept_in_parts_and_go_on_on_other_ranks() {
    for dim in DIMS {
        let comm = SoloComm::new();
        let (want, state) = rounds(&mut fools_gold(), &comm, 1..5, dim).expect("all differ");
        assert!(want.windows(2).all(|pair| pair[0] != pair[1]) && state.len() == 5);
        for (first, then) in [(1, 3), (3, 2), (5, 4)] {
            let early = run_ranks(WorldSize(first), &Options::default(), move |comm| {
                rounds(&mut fools_gold(), &*comm, 1..3, dim)
            });
            let (got, saved) = early.expect("no rank fails").swap_remove(first - 1);
            assert_eq!(got, want[..2], "{first} ranks, {dim}");
            let late = run_ranks(WorldSize(then), &Options::default(), move |comm| {
                let mut rule = fools_gold();
                rule.restore(&saved)?;
                assert_eq!(rule.state(), saved, "before a round, all of it is everywhere");
                rounds(&mut rule, &*comm, 3..5, dim)
            });
            for got in late.expect("no rank fails") {
                assert_eq!(got, (want[2..].to_vec(), state.clone()), "{first}, then {then} ranks, {dim}");
            }
        }
    }
}
