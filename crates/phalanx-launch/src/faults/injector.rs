//! Makes the faults of a run happen, each once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use phalanx_comm::Rank;
use phalanx_comm::control::{LinkFaults, Phase};
use phalanx_train::storage::{Disk, Storage};
use rustix::process::{Signal, getpid, kill_process};

use super::disk::FillingDisk;
use super::injection::{Injection, Injections, Kind};

/// The faults of a run, on their way to the places where they happen.
#[derive(Debug, Default)]
pub struct Injector {
    faults: Vec<(Injection, AtomicBool)>,
    is_full: Arc<AtomicBool>,
    links: OnceLock<Arc<LinkFaults>>,
}

impl Injector {
    /// The faults that a run file has.
    #[must_use]
    pub fn new(injections: &Injections) -> Arc<Self> {
        let faults = injections.0.iter().map(|fault| (*fault, AtomicBool::new(false))).collect();
        Arc::new(Self { faults, ..Self::default() })
    }

    /// Where the run's files are written.
    #[must_use]
    pub fn storage(&self) -> Arc<dyn Storage> {
        match self.faults.iter().any(|(fault, _)| fault.kind == Kind::FullDisk) {
            true => Arc::new(FillingDisk { is_full: Arc::clone(&self.is_full) }),
            false => Arc::new(Disk),
        }
    }

    /// Tells where the links of this process are; ranks that are threads have none.
    pub fn set_links(&self, links: &Arc<LinkFaults>) {
        self.links.get_or_init(|| Arc::clone(links));
    }

    /// To be called when a rank enters a phase.
    pub fn enter(&self, rank: Rank, step: u64, phase: Phase) {
        for (fault, has_happened) in &self.faults {
            let is_due = fault.rank == rank.index() && fault.step == step;
            let is_now = is_due && fault.phase.is_none_or(|due| due == phase);
            if is_now && !has_happened.swap(true, Ordering::Relaxed) {
                tracing::warn!("injected fault: {fault}");
                self.happen(fault.kind);
            }
        }
    }

    fn happen(&self, kind: Kind) {
        match kind {
            Kind::Kill => signal(Signal::KILL),
            Kind::Stop => signal(Signal::STOP),
            Kind::Delay(time) => std::thread::sleep(time),
            Kind::FullDisk => self.is_full.store(true, Ordering::Relaxed),
            Kind::Drop(time) => self.links.get().map_or_else(no_links, |links| drop_links(links, time)),
            Kind::Corrupt => self.links.get().map_or_else(no_links, |links| links.corrupt_next()),
        }
    }
}

fn drop_links(links: &Arc<LinkFaults>, time: Option<Duration>) {
    links.sever();
    if let Some(time) = time {
        let links = Arc::clone(links);
        std::thread::spawn(move || {
            std::thread::sleep(time);
            links.heal();
        });
    }
}

fn no_links() {
    tracing::warn!("ranks that are threads have no control links: the fault has no effect");
}

/// This process: where ranks are threads, all of them.
fn signal(signal: Signal) {
    if let Err(error) = kill_process(getpid(), signal) {
        tracing::warn!("the process cannot signal itself: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::Injector;
    use crate::faults::Injections;
    use phalanx_comm::Rank;
    use phalanx_comm::control::Phase;
    use std::io::ErrorKind;
    use std::time::{Duration, Instant};

    fn injector(faults: &[&str]) -> std::sync::Arc<Injector> {
        Injector::new(&Injections(faults.iter().map(|text| text.parse().expect("a fault")).collect()))
    }

    #[test]
    fn a_fault_happens_once_where_it_is_due() {
        let injector = injector(&["delay rank 1 at step 3 in backward for 0.1 s"]);
        let took = |rank, step, phase| {
            let began = Instant::now();
            injector.enter(Rank(rank), step, phase);
            began.elapsed() >= Duration::from_millis(100)
        };
        assert!(!took(1, 2, Phase::Backward) && !took(0, 3, Phase::Backward) && !took(1, 3, Phase::Forward));
        assert!(took(1, 3, Phase::Backward));
        assert!(!took(1, 3, Phase::Backward), "only once");
    }

    #[test]
    fn a_disk_is_full_from_its_step_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let injector = injector(&["full-disk rank 0 at step 2"]);
        let storage = injector.storage();
        let file = dir.path().join("file");
        storage.write_synced(&file, &[b"whole"]).expect("there is room");
        injector.enter(Rank(0), 2, Phase::Data);
        let error = storage.write_synced(&file, &[b"more"]).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(storage.read(&file, 9).expect("readable"), b"whole");
    }
}
