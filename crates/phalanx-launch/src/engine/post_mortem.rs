//! What a run that failed leaves for those who look into it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use phalanx_comm::OpRecord;
use phalanx_train::Failure;
use phalanx_train::rundir::RunPaths;

/// Writes `failure.json`. The error itself matters more than that it could not be written down.
pub(super) fn write_failure(failure: &Failure, paths: &RunPaths) {
    if let Err(unwritten) = failure.write(&paths.failure()) {
        tracing::warn!("{} could not be written: {unwritten}", paths.failure().display());
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
