//! A program whose lines are read as they come, so that something can be done to it at one of them.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How a program ended that a fault was injected into.
pub(crate) struct Watched {
    pub(crate) text: String,
    pub(crate) has_succeeded: bool,
    /// From the fault to the end of the ranks; from the start, where there was none.
    pub(crate) took: Duration,
}

/// What a rank says when its fault happens.
const STRUCK: &str = "injected fault: ";

/// What `phalanx launch` says when all ranks have ended.
const ENDED: &str = "the ranks ended with ";

/// The longest that a program may run, restarts included.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs a program to its end; `strike` is called once, when the fault happens.
pub(crate) fn watch(command: &mut Command, strike: impl FnOnce() -> Result<()>) -> Result<Watched> {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    let (sender, lines) = channel();
    if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
        read(out, sender.clone());
        read(err, sender);
    }
    let (began, mut text) = (Instant::now(), String::new());
    let (mut strike, mut struck, mut ended) = (Some(strike), None, None);
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => {
                if line.contains(STRUCK)
                    && let Some(strike) = strike.take()
                {
                    struck = Some(Instant::now());
                    strike()?;
                }
                if line.contains(ENDED) {
                    ended.get_or_insert_with(Instant::now);
                }
                text.push_str(&line);
                text.push('\n');
            }
            Err(RecvTimeoutError::Timeout) if began.elapsed() < LIMIT => {}
            Err(RecvTimeoutError::Timeout) => {
                child.kill().context("ending what does not end")?;
                bail!("{shown} does not end:\n{text}");
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().with_context(|| format!("waiting for {shown}"))?;
    let took = ended.unwrap_or_else(Instant::now) - struck.unwrap_or(began);
    Ok(Watched { text, has_succeeded: status.success(), took })
}

fn read(stream: impl Read + Send + 'static, lines: Sender<String>) {
    std::thread::spawn(move || {
        // who no longer listens needs no more lines
        BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| lines.send(line)).ok();
    });
}
