//! What goes wrong, when, and under which launcher.

use std::fmt;

/// Ranks of a job over MPI; on a cluster, one a node.
pub(crate) const RANKS: usize = 3;

/// What starts the ranks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Launcher {
    /// mpirun, on this machine.
    Mpirun,
    /// `phalanx launch`, on three virtual nodes. It starts the ranks again by itself.
    Launch,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The process ends at once.
    Kill,
    /// The process stops.
    Stop,
    /// No file can be written any more.
    FullDisk,
    /// The cable of the rank's node is pulled.
    Cut,
    /// The cable is pulled and put back within the limit.
    Heal,
}

/// Steps and phases: the first step, the middle of one, and the writing of a checkpoint.
const MOMENTS: [(u64, &str); 3] = [(1, "data"), (13, "backward"), (20, "checkpoint")];

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) launcher: Launcher,
    pub(crate) kind: Kind,
    pub(crate) rank: usize,
    step: u64,
    phase: &'static str,
}

impl Fault {
    /// Each kind at each moment, under each launcher that can meet it.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let kinds = [Kind::Kill, Kind::Stop, Kind::FullDisk, Kind::Cut, Kind::Heal];
        let of_launcher = move |launcher: Launcher| {
            let can_meet = move |kind: &Kind| launcher == Launcher::Launch || !kind.is_of_the_network();
            let at = move |kind: Kind| MOMENTS.map(|(step, phase)| (kind, step, phase));
            let all = kinds.into_iter().filter(can_meet).flat_map(at).enumerate();
            all.map(move |(number, (kind, step, phase))| {
                let rank = match kind {
                    // who writes
                    Kind::FullDisk => 0,
                    Kind::Kill | Kind::Stop => number % RANKS,
                    // not the node that the launcher is on
                    Kind::Cut | Kind::Heal => 1 + number % (RANKS - 1),
                };
                Self { launcher, kind, rank, step, phase }
            })
        };
        [Launcher::Mpirun, Launcher::Launch].into_iter().flat_map(of_launcher)
    }

    /// The one of `faults` that a seed says.
    ///
    /// # Reference
    /// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014: the finalizer.
    pub(crate) fn drawn(faults: &[Self], seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let at = (z ^ (z >> 31)) % faults.len() as u64;
        faults[usize::try_from(at).unwrap_or(0)]
    }

    /// What the run file is told: for a cable, a rank that waits while it is pulled.
    pub(crate) fn injection(&self) -> String {
        let Self { kind, rank, step, phase, .. } = self;
        let at = format!("rank {rank} at step {step} in {phase}");
        match kind {
            Kind::Kill => format!("kill {at}"),
            Kind::Stop => format!("stop {at}"),
            Kind::FullDisk => format!("full-disk {at}"),
            Kind::Cut | Kind::Heal => format!("delay {at} for 2 s"),
        }
    }
}

impl Kind {
    const fn is_of_the_network(self) -> bool {
        matches!(self, Self::Cut | Self::Heal)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { launcher, kind, rank, step, phase } = self;
        let launcher = match launcher {
            Launcher::Mpirun => "mpirun",
            Launcher::Launch => "launch",
        };
        let kind = match kind {
            Kind::Kill => "kill",
            Kind::Stop => "stop",
            Kind::FullDisk => "full-disk",
            Kind::Cut => "cut the link of",
            Kind::Heal => "cut and heal the link of",
        };
        // padded as a whole
        f.pad(&format!("{launcher}: {kind} rank {rank} at step {step} in {phase}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Kind, Launcher};

    #[test]
    fn every_kind_comes_at_every_moment_and_no_cable_is_pulled_without_a_cluster() {
        let all: Vec<_> = Fault::all().collect();
        assert_eq!(all.len(), 3 * 3 + 5 * 3);
        assert!(all.iter().all(|fault| {
            fault.launcher == Launcher::Launch || !matches!(fault.kind, Kind::Cut | Kind::Heal)
        }));
        let shown = all[4].to_string();
        assert_eq!(shown, "mpirun: stop rank 1 at step 13 in backward");
        assert_eq!(format!("{:<50}|", all[4]).len(), 51);
    }

    #[test]
    fn a_seed_draws_one_fault_and_seeds_draw_all() {
        let all: Vec<_> = Fault::all().collect();
        assert_eq!(Fault::drawn(&all, 7), Fault::drawn(&all, 7));
        let is_drawn = |fault: &Fault| (0..400).any(|seed| Fault::drawn(&all, seed) == *fault);
        assert!(all.iter().all(is_drawn));
    }
}
