//! From a run file to federated training.

use std::sync::Arc;
use std::time::Duration;

use phalanx_data::{Partition, Splits, labels};
use phalanx_federated::{
    Attacker, BatchGrowth, CohortConfig, FederatedConfig, FederatedError, FederatedJob, LocalConfig,
    Sampling, Server, check, run_rank,
};
use phalanx_nn::{AnyNet, Net, ParamBuilder, Task};
use phalanx_optim::OptimizerConfig;
use phalanx_tensor::Cpu;
use phalanx_train::checkpoint::Keep;
use phalanx_train::rundir::RunPaths;
use phalanx_train::{Files, Limit, OnNonFinite, Plan, Summary, TrainConfig, Watch, never_stop, task_of};

use super::job::{Culprit, bad_input, model, on_ranks, optimizer, pin, with_trusted};
use super::{
    Cpu32, Hardware, Score, Split, TrainOptions, Which, board, device, guarded, open_data, score, watcher,
};
use crate::aggregation::OverRanks;
use crate::faults::Injector;
use crate::federation::{algorithm, attackers};
use crate::runfile::{
    self, Algorithm, Comm, FederatedRun, PartitionKind, Progress, Registered, Rule, WhenRankLost,
};
use crate::ui::{Silent, Ui};
use crate::world::World;

impl Culprit for FederatedError {}

/// A federated run whose data are divided and whose model is built.
pub struct PreparedFederation(Job);

/// No collective of a round is started and left to itself.
const BLOCKING: Comm = Comm { algorithm: Algorithm::Auto, progress: Progress::Calls };

type Job = FederatedJob<Cpu<f32>>;

impl std::fmt::Debug for PreparedFederation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PreparedFederation").field(&self.0).finish()
    }
}

/// What a federated run would do, without a round made.
#[derive(Debug, Clone, PartialEq)]
pub struct FederationPlan {
    /// Parameters of the model.
    pub parameters: u64,
    /// Samples of all clients together.
    pub train_samples: u64,
    /// Samples that the rule trusts and no client has.
    pub trusted_samples: u64,
    /// Least, median and greatest number of samples of a client.
    pub client_samples: [u64; 3],
    /// Clients without samples.
    pub empty_clients: u64,
    /// Hostile clients.
    pub hostile_clients: u64,
    /// Hostile clients of a round that the rule bears.
    pub bears: u64,
    /// Bytes that a rank takes for its model and the updates of its clients in a round.
    pub rank_bytes: u64,
}

/// Does all that can fail before a rank starts, so that a run that cannot be leaves nothing behind.
///
/// # Errors
/// When the data cannot be read or divided, or the run does not fit them.
pub fn prepare_federation(
    run: &FederatedRun,
    registered: &Registered,
    hardware: Hardware,
) -> anyhow::Result<PreparedFederation> {
    job(run, registered, hardware).map(PreparedFederation)
}

/// Plans a run without a round.
///
/// # Errors
/// As [`prepare_federation`].
pub fn plan_federation(
    run: &FederatedRun,
    registered: &Registered,
    hardware: Hardware,
) -> anyhow::Result<FederationPlan> {
    let job = job(run, registered, hardware)?;
    let mut sizes: Vec<u64> = job.clients.iter().map(|samples| samples.len() as u64).collect();
    sizes.sort_unstable();
    let at = |i: usize| sizes.get(i).copied().unwrap_or(0);
    let hostile: std::collections::BTreeSet<u64> =
        job.attackers.iter().flat_map(|attacker| attacker.clients.iter().copied()).collect();
    let clients_a_rank = run.federated.per_round.div_ceil(run.federated.ranks.max(1)) as u64;
    let update = 4 * job.plan.params.flat_len() as u64;
    Ok(FederationPlan {
        parameters: job.plan.params.count() as u64,
        train_samples: job.data.train.len() as u64,
        trusted_samples: job.data.trusted.as_ref().map_or(0, |part| part.len() as u64),
        client_samples: [at(0), at(sizes.len() / 2), at(sizes.len().saturating_sub(1))],
        empty_clients: sizes.iter().filter(|samples| **samples == 0).count() as u64,
        hostile_clients: hostile.len() as u64,
        bears: (job.server)().rule.hostile() as u64,
        // its own updates, and its coordinates of all of them
        rank_bytes: job.plan.rank_bytes() + 2 * clients_a_rank * update,
    })
}

/// Trains in the directory of `paths`, which holds the resolved run file; rank 0 has the summary.
///
/// # Errors
/// Whatever ends the run; a lost rank as [`WithExit`](crate::exit::WithExit) of its exit code.
pub(crate) fn federate(
    run: &FederatedRun,
    prepared: PreparedFederation,
    paths: &RunPaths,
    options: &TrainOptions,
    world: &World,
    ui: &Arc<dyn Ui>,
) -> anyhow::Result<Option<Summary>> {
    let PreparedFederation(mut job) = prepared;
    let ranks = run.federated.ranks;
    let injector = Injector::new(&run.faults.inject);
    let board = board(ranks, &injector);
    job.files = Some(Files {
        paths: paths.clone(),
        run_file: run.to_toml(),
        keep: Keep { last: run.checkpoint.keep, best: true },
        tensorboard: run.output.tensorboard,
        trace: false,
        resume: options.is_resumed,
        storage: injector.storage(),
    });
    (job.watch, job.stop, job.board) = (watcher(ui), options.stop_of(), Arc::clone(&board));
    let timeout = Duration::from_secs_f64(run.federated.timeout_seconds);
    let bound = Duration::from_secs_f64(run.federated.lost_after_seconds);
    let outcome = guarded(world, paths, bound, WhenRankLost::End, &injector, &board, || {
        Ok(on_ranks(world, ranks, timeout, &BLOCKING, move |comm| run_rank(&job, &comm)))
    })?;
    Ok(outcome.map(|outcome| outcome.summary))
}

/// Scores a state of a run, as [`evaluate`](super::evaluate).
///
/// # Errors
/// When the checkpoint or the data cannot be read.
pub(crate) fn evaluate_federated(
    run: &FederatedRun,
    paths: &RunPaths,
    split: Split,
    which: Which,
    registered: &Registered,
    hardware: Hardware,
) -> anyhow::Result<Score> {
    let Parts { data, task, net, plan } = parts(run, registered, hardware)?;
    let on = (&*net as &dyn Net<Cpu32>, Cpu32::new());
    score(paths, split, which, &data, &plan, on, &task)
}

/// What a run works on.
struct Parts {
    data: Splits,
    task: Task,
    net: Arc<dyn AnyNet>,
    plan: Plan,
}

fn parts(run: &FederatedRun, registered: &Registered, hardware: Hardware) -> anyhow::Result<Parts> {
    device::refuse(hardware, "federate")?;
    pin(hardware)?;
    let data = with_trusted(open_data(&run.data, &run.model, run.seed)?, &run.aggregation, run.seed)?;
    let task = task_of(data.train.kind());
    let mut builder = ParamBuilder::new();
    let (kind, sizes) = model(&run.model);
    let net: Arc<dyn AnyNet> =
        Arc::from(registered.models().build(&kind, sizes, &task, &mut builder).map_err(bad_input)?);
    let batch = run.local.growth_eta.map_or(run.local.batch, |_| run.local.max_batch).min(data.train.len());
    let config = planned(run, batch);
    let plan = Plan::new(&*net, &builder.finish(), &task, &config, batch).map_err(bad_input)?;
    Ok(Parts { data, task, net, plan })
}

/// What a step of a client is to the plan of a step.
fn planned(run: &FederatedRun, batch: usize) -> TrainConfig {
    TrainConfig {
        seed: run.seed,
        tile: run.federated.tile,
        first_bucket_bytes: usize::MAX,
        bucket_bytes: usize::MAX,
        on_nonfinite: OnNonFinite::Skip,
        ..TrainConfig::new(batch as u64, Limit::Steps(1))
    }
}

fn job(run: &FederatedRun, registered: &Registered, hardware: Hardware) -> anyhow::Result<Job> {
    let Parts { data, task, net, plan } = parts(run, registered, hardware)?;
    let labels = labels(&*data.train);
    let clients = partition(run).split(&labels, run.federated.clients, run.seed).map_err(bad_input)?;
    let attackers: Vec<Attacker> =
        attackers(&run.attack, run.federated.clients, run.seed).map_err(bad_input)?;
    let rule =
        OverRanks::of_clients(&run.aggregation, run.federated.per_round, run.seed).map_err(bad_input)?;
    let optimizer = optimizer(&run.optimizer);
    // what a rank will build is built once here, so that making it cannot fail later
    rule.build().map_err(bad_input)?;
    optimizer.build::<Cpu<f32>>().map_err(bad_input)?;
    let federated = run.federated.clone();
    let (model, _) = model(&run.model);
    let net: Arc<dyn Net<Cpu<f32>>> = net;
    let job = FederatedJob {
        name: run.name.clone(),
        model,
        config: config(run, &optimizer),
        net,
        task,
        plan,
        data,
        clients,
        attackers,
        server: Box::new(move || {
            let Ok(rule) = rule.build() else { unreachable!("the same configuration was built before") };
            Server { algorithm: algorithm(&federated), rule }
        }),
        optimizer: Box::new(move || {
            let Ok(optimizer) = optimizer.build() else {
                unreachable!("the same configuration was built before")
            };
            optimizer
        }),
        backend: Cpu::<f32>::new(),
        files: None,
        watch: quiet(),
        stop: never_stop(),
        board: Arc::default(),
    };
    check(&job).map_err(bad_input)?;
    Ok(job)
}

fn quiet() -> Arc<dyn Watch> {
    let silent: Arc<dyn Ui> = Arc::new(Silent);
    watcher(&silent)
}

fn partition(run: &FederatedRun) -> Partition {
    match run.partition.kind {
        PartitionKind::Iid {} => Partition::Iid,
        PartitionKind::Dirichlet { alpha, least } => Partition::Dirichlet { alpha, least },
        PartitionKind::GammaSimilarity { gamma } => Partition::GammaSimilarity { gamma },
        PartitionKind::Pathological { labels_each } => Partition::Pathological { labels_each },
    }
}

fn config(run: &FederatedRun, optimizer: &OptimizerConfig) -> FederatedConfig {
    let (federated, local) = (&run.federated, &run.local);
    FederatedConfig {
        seed: run.seed,
        rounds: federated.rounds,
        cohort: CohortConfig {
            sampling: match federated.sampling {
                runfile::Sampling::Uniform => Sampling::Uniform,
                runfile::Sampling::Poisson => Sampling::Poisson,
                runfile::Sampling::Weighted => Sampling::Weighted,
            },
            per_round: federated.per_round,
            over_select: federated.over_select,
            dropout: federated.dropout,
            spread: federated.spread,
        },
        local: LocalConfig {
            length: local.length(),
            batch: local.batch,
            lr: optimizer.lr(),
            lr_decay: local.lr_decay,
            clip_norm: run.optimizer.clip_norm,
            momentum: match run.optimizer.rule {
                Rule::Sgd { momentum, .. } => momentum,
                _ => 0.0,
            },
            growth: local.growth_eta.map(|eta| BatchGrowth { eta, max: local.max_batch }),
        },
        client_momentum: (run.aggregation.momentum > 0.0).then_some(run.aggregation.momentum),
        on_unusable: match federated.on_unusable {
            runfile::OnUnusable::Skip => phalanx_federated::OnUnusable::Skip,
            runfile::OnUnusable::Stop => phalanx_federated::OnUnusable::Stop,
        },
        eval_every: federated.eval_every_rounds,
        checkpoint_every: run.checkpoint.every_steps,
    }
}
