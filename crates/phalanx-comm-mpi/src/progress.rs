//! What advances started collectives while a rank computes: a thread of its own, or calls between operators.

use crate::lane::Lane;
use crate::options::Progress;
use phalanx_comm::{CommError, Communicator};
use rustix::thread::{CpuSet, sched_getaffinity};
use std::hint::spin_loop;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{JoinHandle, sleep, yield_now};
use std::time::Duration;

/// Between two looks of the thread that find nothing to do, once it has looked often.
const PAUSE: Duration = Duration::from_micros(50);

/// Threads of a rank that compute.
const COMPUTING: f64 = 1.0;

/// By which a lane calls its thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rung {
    /// Whether something was started since the thread last looked.
    is_rung: bool,
    is_over: bool,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ring(&self) {
        // one that is awake looks again by itself
        if !std::mem::replace(&mut self.lock().is_rung, true) {
            self.changed.notify_one();
        }
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_one();
    }

    fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Returns when it is rung; false when that will not be any more.
    fn wait(&self) -> bool {
        let is_idle = |rung: &mut Rung| !rung.is_rung && !rung.is_over;
        let waited = self.changed.wait_while(self.lock(), is_idle);
        let mut rung = waited.unwrap_or_else(PoisonError::into_inner);
        rung.is_rung = false;
        !rung.is_over
    }
}

/// The thread that advances the started collectives of one lane. Dropped, it ends first: nothing of it is inside MPI then.
#[derive(Debug)]
pub(crate) struct ProgressThread {
    bell: Arc<Bell>,
    lane: Weak<Lane>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressThread {
    /// `None` where the system gives no thread.
    pub(crate) fn of(lane: &Arc<Lane>) -> Option<Self> {
        let (bell, lane) = (Arc::new(Bell::default()), Arc::downgrade(lane));
        let (heard, own) = (Arc::clone(&bell), Weak::clone(&lane));
        let named = std::thread::Builder::new().name("phalanx-progress".to_owned());
        let thread = named.spawn(move || advance(&own, &heard)).ok()?;
        lane.upgrade()?.called_by(Some(Arc::clone(&bell)));
        Some(Self { bell, lane, thread: Some(thread) })
    }
}

impl Drop for ProgressThread {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.upgrade() {
            lane.called_by(None);
        }
        self.bell.end();
        if let Some(thread) = self.thread.take() {
            // it does not panic, and if it did, the rank can do without it
            thread.join().unwrap_or_default();
        }
    }
}

fn advance(lane: &Weak<Lane>, bell: &Bell) {
    while bell.wait() {
        // held while there is work only: a lane that nobody needs ends
        let Some(lane) = lane.upgrade() else { return };
        work_off(&lane, bell);
    }
}

/// Advances what was started until all is complete, or nothing will be.
fn work_off(lane: &Lane, bell: &Bell) {
    let (mut front, mut looks) = (None, 0_u32);
    while !bell.is_over() {
        match lane.try_advance() {
            Err(_) | Ok(Some(None)) => return,
            Ok(Some(next)) if next == front => looks = looks.saturating_add(1),
            Ok(Some(next)) => (front, looks) = (next, 0),
            // the rank itself waits for a result, and does the work
            Ok(None) => {
                sleep(PAUSE);
                continue;
            }
        }
        match lane.patience.stage(looks) {
            0 => spin_loop(),
            1 => yield_now(),
            _ => sleep(PAUSE),
        }
    }
}

/// How started collectives advance on all ranks, if that is `wanted`.
///
/// # Collective
/// Every rank.
pub(crate) fn choose(lane: &Lane, comm: &dyn Communicator, wanted: Progress) -> Result<Progress, CommError> {
    let own = Cpus::of_this_thread();
    let all = comm.all_gather_bytes(&own.to_bytes())?;
    Ok(match wanted {
        Progress::Auto => {
            let cpus: Vec<Cpus> = all.iter().map(|bytes| Cpus::from_bytes(bytes)).collect();
            let neighbours = |node: &Vec<usize>| node.iter().map(|rank| &cpus[*rank]).collect::<Vec<_>>();
            let has_room = |node: &Vec<usize>| have_a_core_free(&neighbours(node));
            if lane.map.nodes.iter().all(has_room) { Progress::Thread } else { Progress::Calls }
        }
        chosen => chosen,
    })
}

/// The CPUs that a rank may run on.
#[derive(Clone, PartialEq, Debug)]
struct Cpus {
    set: [u64; Self::WORDS],
    /// How much of them it may use: containers have quotas.
    share: f64,
}

impl Cpus {
    const WORDS: usize = CpuSet::MAX_CPU / 64;

    /// None, where the system does not tell.
    fn of_this_thread() -> Self {
        let mut cpus = Self { set: [0; Self::WORDS], share: 0.0 };
        let Ok(set) = sched_getaffinity(None) else { return cpus };
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)) {
            cpus.set[cpu / 64] |= 1 << (cpu % 64);
        }
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        cpus.share = usable as f64 / f64::from(set.count().max(1));
        cpus
    }

    fn has(&self, cpu: usize) -> bool {
        self.set[cpu / 64] >> (cpu % 64) & 1 == 1
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.set.into_iter().chain([self.share.to_bits()]).flat_map(u64::to_le_bytes).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned::<u64>).map(u64::from_le);
        let set = std::array::from_fn(|_| words.next().unwrap_or(0));
        Self { set, share: words.next().map_or(0.0, f64::from_bits) }
    }
}

/// Whether each of the ranks of a node has a core more than its threads that compute; ranks that may run on the same core have
/// equal parts of it.
fn have_a_core_free(ranks: &[&Cpus]) -> bool {
    let cores = |rank: &Cpus| {
        let own = (0..CpuSet::MAX_CPU).filter(|cpu| rank.has(*cpu));
        let part = |cpu| 1.0 / ranks.iter().filter(|other| other.has(cpu)).count().max(1) as f64;
        own.map(part).sum::<f64>() * rank.share
    };
    // thirds of a core add up to less than a whole
    ranks.iter().all(|rank| cores(rank) >= COMPUTING + 1.0 - 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(cpus: std::ops::Range<usize>) -> Cpus {
        let mut set = [0; Cpus::WORDS];
        cpus.for_each(|cpu| set[cpu / 64] |= 1 << (cpu % 64));
        Cpus { set, share: 1.0 }
    }

    #[test]
    fn a_core_is_free_where_a_rank_has_two_for_itself() {
        let free = |ranks: &[Cpus]| have_a_core_free(&ranks.iter().collect::<Vec<_>>());
        assert!(free(&[on(0..2)]) && !free(&[on(0..1)]));
        // bound apart, and across a word
        assert!(free(&[on(60..64), on(64..68)]));
        assert!(!free(&[on(0..4), on(4..5)]), "the second rank has none");
        // unbound ranks share all: 6 cores are 2 for each of 3 ranks, and 3/2 for each of 4
        assert!(free(&vec![on(0..6); 3]) && !free(&vec![on(0..6); 4]));
        // two of 64 cores that a container may use
        let quota = Cpus { share: 2.0 / 64.0, ..on(0..64) };
        assert!(free(std::slice::from_ref(&quota)) && !free(&[quota.clone(), quota]));
        assert!(!free(&[Cpus { share: 0.0, ..on(0..0) }]), "where nothing is known");
    }

    #[test]
    fn cpus_travel_as_they_are() {
        let cpus = Cpus { share: 0.25, ..on(3..200) };
        assert_eq!(Cpus::from_bytes(&cpus.to_bytes()), cpus);
        assert_eq!(Cpus::from_bytes(&[]), Cpus { share: 0.0, ..on(0..0) });
        assert!(Cpus::of_this_thread().set.iter().any(|word| *word != 0));
    }
}
