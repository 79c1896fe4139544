//! Logs on standard error, above the progress bar if there is one.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::{Global, LogFormat};

/// Sends the logs of this process to standard error. `RUST_LOG` filters by module besides.
///
/// A program that already set where its logs go keeps that.
pub(crate) fn start(global: &Global, screen: &MultiProgress, is_colored: bool) {
    let filter = EnvFilter::builder().with_default_directive(level(global).into()).from_env_lossy();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Screen(screen.clone()));
    let started = match global.log_format {
        LogFormat::Text => logs.with_ansi(is_colored).with_target(global.verbose > 1).try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    if let Err(error) = started {
        tracing::debug!("logs stay where they are: {error}");
    }
}

/// JSON logs are where progress goes, so that they tell more by default.
fn level(global: &Global) -> LevelFilter {
    match (global.quiet, global.verbose, global.log_format) {
        (true, ..) => LevelFilter::ERROR,
        (false, 0, LogFormat::Text) => LevelFilter::WARN,
        (false, 0, LogFormat::Json) | (false, 1, _) => LevelFilter::INFO,
        (false, 2, _) => LevelFilter::DEBUG,
        (false, _, _) => LevelFilter::TRACE,
    }
}

/// Standard error, with the bar out of the way while a record is written.
#[derive(Debug, Clone)]
struct Screen(MultiProgress);

impl Write for Screen {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(record))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl MakeWriter<'_> for Screen {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
