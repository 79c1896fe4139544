//! Tests on ranks that are processes: a test starts its own program under `mpirun`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::need::leave_out;

/// Set in the environment of a program that a test has started on ranks.
const ON_RANKS: &str = "PHALANX_TEST_ON_RANKS";
/// What ranks print that may not live to say that their test has passed.
const HELD: &str = "all has held";
/// The launcher, if it is not `mpirun`.
const MPIRUN: &str = "PHALANX_MPIRUN";
/// How long ranks may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Runs `body` on `ranks` processes: starts the test `name` of this program under `mpirun`, where this function is
/// called again and runs `body`.
///
/// Without an MPI the test is left out, with the reason, or fails under `PHALANX_REQUIRE=mpi` or `all`.
///
/// # Panics
/// When a rank fails, or the ranks do not end in four minutes.
///
/// # Examples
/// ```no_run
/// // in a test of this name
/// phalanx_testkit::mpi::on_ranks("two_ranks_meet", 2, || println!("on each rank"));
/// ```
pub fn on_ranks(name: &str, ranks: usize, body: impl FnOnce()) {
    start(name, ranks, 0, mpirun, body);
}

/// As [`on_ranks`], under a `mpirun` that lets the others live when a rank dies: over Open MPI 5. Those that are left end
/// with `code`; one that fails has another.
///
/// # Panics
/// When they end with another code, or not in four minutes.
pub fn on_ranks_that_may_die(name: &str, ranks: usize, code: i32, body: impl FnOnce()) {
    start(name, ranks, code, mpirun_with_ulfm, body);
}

/// Says, on a rank, that all has held that was to: before an end of MPI from which a rank that has outlived others may not return.
#[expect(clippy::print_stdout, reason = "the test that started the ranks reads it")]
pub fn has_held() {
    println!("{HELD}");
}

fn start(
    name: &str,
    ranks: usize,
    need: i32,
    mpirun: impl FnOnce(usize) -> Result<Command, String>,
    body: impl FnOnce(),
) {
    if lookup(ON_RANKS).is_some() {
        return body();
    }
    let mut mpirun = match mpirun(ranks) {
        Ok(mpirun) => mpirun,
        Err(reason) => {
            return leave_out("mpi", &reason);
        }
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => panic!("this program has no path: {error}"),
    };
    mpirun.arg(program).args(["--exact", name, "--nocapture"]).env(ON_RANKS, ranks.to_string());
    let Ended { text, code } = run(&mut mpirun);
    assert!(code == Some(need), "{mpirun:?} ended with {code:?}:\n{text}");
    // ranks that end with another code than that of a test have no time to say so
    let has_run = text.contains("1 passed") || text.contains(HELD);
    assert!(need != 0 || has_run, "{mpirun:?} ran no test:\n{text}");
}

/// `mpirun` for so many ranks on this machine, whatever its cores; or why there is none.
///
/// # Errors
/// When no launcher can be run, or one that is not known.
pub fn mpirun(ranks: usize) -> Result<Command, String> {
    let program = lookup(MPIRUN).unwrap_or_else(|| "mpirun".to_owned());
    let version = Command::new(&program).arg("--version").output();
    let version = version.map_err(|_| format!("no `{program}` on this machine"))?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let mut mpirun = Command::new(&program);
    mpirun.args(["-n", &ranks.to_string()]);
    if version.contains("Open MPI") || version.contains("OpenRTE") {
        // ranks that wait give their core away, and nothing listens on a network
        mpirun.args(["--oversubscribe", "--bind-to", "none", "--allow-run-as-root"]);
        mpirun.args(["--mca", "mpi_yield_when_idle", "1"]);
    } else if !version.contains("HYDRA") {
        return Err(format!("`{program}` is neither Open MPI's nor MPICH's"));
    }
    Ok(mpirun)
}

/// As [`mpirun`], with the fault tolerance of Open MPI 5.
///
/// # Errors
/// As [`mpirun`]; with another MPI.
pub fn mpirun_with_ulfm(ranks: usize) -> Result<Command, String> {
    let mut mpirun = mpirun(ranks)?;
    let version = Command::new(mpirun.get_program()).arg("--version").output();
    let version = version.map(|version| String::from_utf8_lossy(&version.stdout).into_owned());
    if !version.is_ok_and(|version| version.contains("Open MPI) 5")) {
        return Err("ranks outlive each other over Open MPI 5".to_owned());
    }
    mpirun.args(["--with-ft", "ulfm"]);
    Ok(mpirun)
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What it wrote to its outputs.
    pub text: String,
    /// Its exit code; `None` if it was ended by a signal, or because it took too long.
    pub code: Option<i32>,
}

/// Runs a command to its end, or for four minutes.
///
/// # Panics
/// When it cannot be started.
pub fn run(command: &mut Command) -> Ended {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => panic!("{command:?}: {error}"),
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // what was read until then is told
            pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(out.map(|pipe| Box::new(pipe) as _));
    let err = read(err.map(|pipe| Box::new(pipe) as _));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < LIMIT => std::thread::sleep(Duration::from_millis(10)),
            // a launcher that is ended ends its ranks
            _ => {
                child.kill().unwrap_or_default();
                break None;
            }
        }
    };
    let text = [out, err].map(|reader| reader.join().unwrap_or_default()).concat();
    match status {
        Some(status) => Ended { text, code: status.code() },
        None => Ended { text: format!("{text}\nnot ended after {LIMIT:?}"), code: None },
    }
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment what to leave out")]
fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
