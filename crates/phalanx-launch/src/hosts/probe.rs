//! Asks a host for the program that it would run: `phalanx host-identity`, through the remote shell.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a host says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The version of the program.
    pub(crate) version: String,
    /// The kind of machine.
    pub(crate) architecture: String,
    /// SHA-256 of the program's file, in hexadecimal.
    pub(crate) program: String,
    /// CPUs that a process may use.
    pub(crate) cpus: usize,
    /// Its clock: milliseconds since 1970.
    pub(crate) clock_ms: u64,
}

impl Identity {
    /// Of this process on this machine.
    ///
    /// # Errors
    /// When the program's file cannot be read.
    pub(crate) fn own() -> io::Result<Self> {
        let program = Sha256::digest(std::fs::read(std::env::current_exe()?)?);
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            program: program.iter().map(|byte| format!("{byte:02x}")).collect(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            clock_ms: now_ms(),
        })
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What came back from a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The exit code of the remote shell; `None` if it could not be started or was killed.
    pub(crate) code: Option<i32>,
    /// What the program said.
    pub(crate) out: String,
    /// What went wrong, in the words of the remote shell.
    pub(crate) err: String,
    /// Milliseconds since 1970 when the question left and when the answer was there.
    pub(crate) between_ms: (u64, u64),
}

/// Asks hosts for their identity; a test gives answers of its own.
pub(crate) trait Probe: Sync {
    /// The answer of one host.
    fn ask(&self, host: &str) -> Answer;
}

/// The remote shell, with its options: `ssh -F config`.
#[derive(Debug, Clone)]
pub(crate) struct RemoteShell<'a> {
    /// The words of its command.
    pub(crate) agent: &'a [String],
    /// The program on the hosts.
    pub(crate) program: &'a Path,
}

impl Probe for RemoteShell<'_> {
    fn ask(&self, host: &str) -> Answer {
        let before = now_ms();
        let output = self.command(host).stdin(Stdio::null()).output();
        let (code, out, err) = match output {
            Ok(Output { status, stdout, stderr }) => (
                status.code(),
                String::from_utf8_lossy(&stdout).into_owned(),
                String::from_utf8_lossy(&stderr).into_owned(),
            ),
            Err(error) => (None, String::new(), error.to_string()),
        };
        Answer { code, out, err, between_ms: (before, now_ms()) }
    }
}

impl RemoteShell<'_> {
    fn command(&self, host: &str) -> Command {
        if is_here(host) {
            let mut command = Command::new(self.program);
            command.arg("host-identity");
            return command;
        }
        let (shell, options) = match self.agent {
            [shell, options @ ..] => (shell.as_str(), options),
            [] => ("ssh", &[][..]),
        };
        let mut command = Command::new(shell);
        command.args(options);
        if shell.rsplit('/').next() == Some("ssh") {
            // a host that asks for a password would wait for ever
            command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]);
        }
        command.arg(host).arg(self.program).arg("host-identity");
        command
    }
}

/// Whether a name is this machine's.
fn is_here(host: &str) -> bool {
    host == "localhost" || host == "127.0.0.1" || host == phalanx_train::host()
}
