//! What a run that failed leaves for those who look into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use phalanx_comm::OpRecord;
use phalanx_train::Failure;
use phalanx_train::rundir::RunPaths;

/// How long a rank that failed may take to write why.
const OWN_WORDS: Duration = Duration::from_secs(1);

/// Writes `failure.json`. The error itself matters more than that it could not be written down.
pub(super) fn write_failure(failure: &Failure, paths: &RunPaths) {
    if let Err(unwritten) = failure.write(&paths.failure()) {
        tracing::warn!("{} could not be written: {unwritten}", paths.failure().display());
    }
}

/// Writes `failure.json` for a rank in another process, unless it does so in time: it knows best.
pub(super) fn write_failure_of_another(failure: &Failure, paths: &RunPaths) {
    let file = paths.failure();
    let begun = Instant::now();
    while !file.exists() {
        if begun.elapsed() > OWN_WORDS {
            return write_failure(failure, paths);
        }
        std::thread::sleep(OWN_WORDS / 50);
    }
}

/// Writes the last collectives of a rank, a line each, into the logs of the run.
pub(super) fn write_flight(rank: usize, flight: &[OpRecord], paths: &RunPaths) {
    if flight.is_empty() {
        return;
    }
    let file = flight_file(paths, rank);
    let text: String = flight.iter().map(|record| format!("{record}\n")).collect();
    if let Err(unwritten) = write(&file, &text) {
        tracing::warn!("{} could not be written: {unwritten}", file.display());
    }
}

fn flight_file(paths: &RunPaths, rank: usize) -> PathBuf {
    paths.logs().join(format!("flight-rank-{rank}.txt"))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::write(file, text)
}
