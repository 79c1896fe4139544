//! The program from its arguments to its exit code.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::Parser as _;
use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::cli::{Cli, Color, Global, LogFormat};
use crate::commands::{self, Context};
use crate::environment;
use crate::exit::{self, Exit};
use crate::logging;
use crate::runfile::Registered;
use std::sync::Arc;

use crate::ui::{Bar, Lines, Records, Silent, Ui};

/// Pause between two lines of progress where there is no terminal.
const PAUSE: Duration = Duration::from_secs(5);

/// Runs the program; `args` begins with its name.
///
/// The kinds of `registered` may stand in run files besides the library's, so that a program with
/// models of its own has the same command line.
///
/// # Errors
/// None: what goes wrong is told on standard error and in the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>, registered: &Registered) -> Exit {
    match Cli::try_parse_from(args) {
        Ok(cli) => start(&cli, registered),
        Err(error) => {
            let exit = if error.use_stderr() { Exit::BadInput } else { Exit::Done };
            // help that nobody reads any more is no failure
            error.print().unwrap_or_default();
            exit
        }
    }
}

fn start(cli: &Cli, registered: &Registered) -> Exit {
    let is_terminal = io::stderr().is_terminal();
    let is_colored = is_colored(&cli.global, is_terminal);
    let screen = MultiProgress::with_draw_target(match is_terminal {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    });
    logging::start(&cli.global, &screen, is_colored);
    let ui = ui(&cli.global, is_terminal, &screen);
    let mut out = StandardOutput::default();
    let mut context = Context { registered, ui: &ui, out: &mut out, is_quiet: cli.global.quiet, is_colored };
    let ended = commands::run(&cli.command, &mut context);
    let ended = ended.and_then(|exit| Ok(out.flush().map(|()| exit)?));
    match ended {
        Ok(exit) => exit,
        Err(error) if out.is_closed && exit::is_broken_pipe(&error) => Exit::Done,
        Err(error) => {
            tell(&error, is_colored);
            Exit::of(&error)
        }
    }
}

/// Standard output that notes when nobody reads it any more, as after `| head`: no failure, and nobody to tell.
///
/// The causes of an error alone do not tell: another pipe or socket that breaks is a failure.
#[derive(Debug, Default)]
struct StandardOutput {
    is_closed: bool,
}

impl StandardOutput {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.is_closed |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = io::stdout().write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = io::stdout().flush();
        self.note(result)
    }
}

fn ui(global: &Global, is_terminal: bool, screen: &MultiProgress) -> Arc<dyn Ui> {
    match (global.quiet, global.log_format, is_terminal) {
        (true, ..) => Arc::new(Silent),
        (false, LogFormat::Json, _) => Arc::new(Records),
        (false, LogFormat::Text, true) => Arc::new(Bar::new(screen.clone())),
        (false, LogFormat::Text, false) => Arc::new(Lines::new(io::stderr(), PAUSE)),
    }
}

fn is_colored(global: &Global, is_terminal: bool) -> bool {
    match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => is_terminal && !environment::wants_no_color(&environment::lookup),
    }
}

/// The error and its causes, each on a line of its own.
pub(crate) fn tell(error: &anyhow::Error, is_colored: bool) {
    let head = if is_colored { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    let causes: String = error.chain().skip(1).map(|cause| format!("\n  because: {cause}")).collect();
    // in one piece, as all lines are; when standard error is gone, the exit code still tells
    io::stderr().write_all(format!("{head} {error}{causes}\n").as_bytes()).unwrap_or_default();
}
