//! Gives each rank of a host CPUs of its own.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs that a rank and its threads run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// These, which no other rank of the host has.
    Own(Vec<usize>),
    /// Those that the process was started with: somebody chose them, or there are fewer than ranks.
    AsStarted(Vec<usize>),
}

impl Binding {
    /// The CPUs.
    pub(crate) fn cpus(&self) -> &[usize] {
        match self {
            Self::Own(cpus) | Self::AsStarted(cpus) => cpus,
        }
    }
}

/// Binds this thread, and the threads it starts from now on, to this rank's share of the host's CPUs, unless the
/// process was bound before: a launcher that binds knows the host better.
///
/// # Errors
/// When the system tells or changes no affinity.
pub(crate) fn bind(local_rank: usize, local_size: usize) -> io::Result<Binding> {
    let allowed = allowed()?;
    let is_bound = allowed.len() < online()?;
    let Some(share) = share(&allowed, local_rank, local_size).filter(|_| !is_bound) else {
        return Ok(Binding::AsStarted(allowed));
    };
    let mut set = CpuSet::new();
    share.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set)?;
    Ok(Binding::Own(share.to_vec()))
}

/// The CPUs that this thread may run on.
fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// How many CPUs the machine runs.
fn online() -> io::Result<usize> {
    let ranges = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "the list of CPUs is unreadable");
    super::nodelist::numbers(ranges.trim()).map(|cpus| cpus.len()).ok_or_else(unreadable)
}

/// The share of one rank: neighbouring CPUs, so that the ranks of a socket stay in it.
fn share(allowed: &[usize], local_rank: usize, local_size: usize) -> Option<&[usize]> {
    if local_size == 0 || local_rank >= local_size || allowed.len() < local_size {
        return None;
    }
    let at = |rank: usize| rank * allowed.len() / local_size;
    allowed.get(at(local_rank)..at(local_rank + 1))
}

#[cfg(test)]
mod tests {
    use super::{Binding, allowed, bind, share};

    #[test]
    fn shares_are_disjoint_and_leave_no_cpu_out() {
        let cpus = [0, 1, 2, 5, 6, 7, 9];
        let shares: Vec<_> = (0..3).filter_map(|rank| share(&cpus, rank, 3)).collect();
        assert_eq!(shares, [&[0, 1][..], &[2, 5], &[6, 7, 9]]);
    }

    #[test]
    fn more_ranks_than_cpus_are_left_to_the_system() {
        assert_eq!(share(&[0, 1], 0, 3), None);
        assert_eq!(share(&[0, 1], 2, 2), None, "no such rank");
        assert_eq!(share(&[0, 1], 0, 0), None);
    }

    #[test]
    fn a_bound_thread_passes_its_cpus_on() {
        // a thread of its own: the affinity stays with it
        let bound = std::thread::spawn(|| {
            let before = allowed().expect("an affinity");
            let binding = bind(0, before.len()).expect("a binding");
            let is_free = before.len() == super::online().expect("a list of CPUs");
            let expected = if is_free { Binding::Own(vec![before[0]]) } else { Binding::AsStarted(before) };
            assert_eq!(binding, expected);
            let child = std::thread::spawn(|| allowed().expect("an affinity"));
            assert_eq!(child.join().expect("a child"), binding.cpus());
        });
        bound.join().expect("bound");
    }
}
