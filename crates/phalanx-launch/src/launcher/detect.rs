//! Asks each source for the place of this rank, and keeps why it was believed or not.

use super::nodelist::{expand, tasks_of_node};
use super::placement::{Explicit, Placement, Source};
use crate::environment::Lookup;
use crate::usage::UsageError;

/// What all sources said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Detected {
    /// The place of this rank; `None` if this process stands alone.
    pub(crate) placement: Option<Placement>,
    /// What each source said, in the order in which they were asked.
    pub(crate) findings: Vec<Finding>,
    /// Signs of a launcher that tell no rank, each in a sentence.
    pub(crate) notes: Vec<&'static str>,
}

/// What one source said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which source.
    pub(crate) source: Source,
    /// Why it was believed, or was not.
    pub(crate) why: Why,
}

/// Why a source was believed, or was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It said nothing.
    Unset,
    /// It was the first that said enough.
    Used,
    /// It says enough, but one before it did.
    Later,
    /// It says something, but not enough or nothing that can be.
    Refused(Flaw),
}

/// Why what a source says does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// One of the two is not set.
    Missing(&'static str),
    /// A value is no number.
    NoNumber(&'static str, String),
    /// The rank is not below the number of ranks.
    OutOfRange { rank: usize, size: usize },
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unset => f.write_str("not set"),
            Self::Used => f.write_str("used"),
            Self::Later => f.write_str("set, but one before it counts"),
            Self::Refused(Flaw::Missing(name)) => write!(f, "not used: {name} is not set"),
            Self::Refused(Flaw::NoNumber(name, got)) => {
                write!(f, "not used: {name} is {got:?}, needs a number")
            }
            Self::Refused(Flaw::OutOfRange { rank, size }) => {
                write!(f, "not used: rank {rank} is not among {size} ranks")
            }
        }
    }
}

/// Finds the place of this rank.
pub(crate) fn detect(explicit: &Explicit, lookup: Lookup<'_>) -> Detected {
    let mut placement = None;
    let mut findings = Vec::new();
    for source in Source::ORDER {
        let why = match read(source, explicit, lookup) {
            Ok(None) => Why::Unset,
            Ok(Some(_)) if placement.is_some() => Why::Later,
            Ok(Some(found)) => {
                placement = Some(found);
                Why::Used
            }
            Err(flaw) => Why::Refused(flaw),
        };
        findings.push(Finding { source, why });
    }
    let notes = if placement.is_none() { notes(lookup) } else { Vec::new() };
    Detected { placement, findings, notes }
}

/// Refuses to train under a launcher of several ranks: without a communicator between the
/// processes, each would train alone and write over the others.
///
/// # Errors
/// [`UsageError::UnderLauncher`] with the number of ranks.
#[cfg(any(test, not(feature = "mpi")))]
pub(crate) fn refuse(detected: &Detected) -> Result<(), UsageError> {
    several(detected).map_or(Ok(()), |(launcher, ranks)| Err(UsageError::UnderLauncher { launcher, ranks }))
}

/// Refuses `command`, which writes, under a launcher of several ranks: each would write the same to the same place.
///
/// # Errors
/// [`UsageError::OnceOnly`] with the number of ranks.
pub(crate) fn once_only(command: &'static str, detected: &Detected) -> Result<(), UsageError> {
    several(detected)
        .map_or(Ok(()), |(launcher, ranks)| Err(UsageError::OnceOnly { command, launcher, ranks }))
}

/// The launcher and its ranks, if there is more than one.
fn several(detected: &Detected) -> Option<(&'static str, usize)> {
    let placement = detected.placement.as_ref().filter(|placement| placement.size > 1)?;
    Some((placement.source.launcher(), placement.size))
}

fn read(source: Source, explicit: &Explicit, lookup: Lookup<'_>) -> Result<Option<Placement>, Flaw> {
    match source {
        Source::Flags => {
            let Some((rank, size)) = explicit.rank.zip(explicit.world_size) else { return Ok(None) };
            let Explicit { local_rank, local_size, .. } = *explicit;
            Placement { source, rank, size, local_rank, local_size, first_host: None }.checked()
        }
        Source::Torchrun => Variables {
            rank: "RANK",
            size: "WORLD_SIZE",
            local_rank: "LOCAL_RANK",
            local_size: "LOCAL_WORLD_SIZE",
        }
        .read(source, lookup)?
        .map_or(Ok(None), |found| Placement { first_host: lookup("MASTER_ADDR"), ..found }.checked()),
        Source::OpenMpi => Variables {
            rank: "OMPI_COMM_WORLD_RANK",
            size: "OMPI_COMM_WORLD_SIZE",
            local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
            local_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
        }
        .read(source, lookup)?
        .map_or(Ok(None), Placement::checked),
        Source::Pmi => Variables {
            rank: "PMI_RANK",
            size: "PMI_SIZE",
            local_rank: "MPI_LOCALRANKID",
            local_size: "MPI_LOCALNRANKS",
        }
        .read(source, lookup)?
        .map_or(Ok(None), |found| {
            Placement { local_rank: found.local_rank.or_else(|| number(lookup, "SLURM_LOCALID")), ..found }
                .checked()
        }),
        Source::Slurm => slurm(lookup),
    }
}

/// A step of srun. An allocation alone sets `SLURM_NTASKS`, and a batch script `SLURM_PROCID` too, but only a step
/// has an id.
fn slurm(lookup: Lookup<'_>) -> Result<Option<Placement>, Flaw> {
    if lookup("SLURM_STEP_ID").is_none() || lookup("SLURM_PROCID").is_none() {
        return Ok(None);
    }
    let names =
        Variables { rank: "SLURM_PROCID", size: "SLURM_NTASKS", local_rank: "SLURM_LOCALID", local_size: "" };
    let Some(found) = names.read(Source::Slurm, lookup)? else { return Ok(None) };
    let tasks = lookup("SLURM_STEP_TASKS_PER_NODE").or_else(|| lookup("SLURM_TASKS_PER_NODE"));
    let node = number(lookup, "SLURM_NODEID");
    let local_size = tasks.zip(node).and_then(|(tasks, node)| tasks_of_node(&tasks, node));
    let hosts = lookup("SLURM_STEP_NODELIST").as_deref().and_then(expand);
    let first_host = hosts.and_then(|hosts| hosts.into_iter().next());
    Placement { local_size, first_host, ..found }.checked()
}

/// The names of the variables of one launcher.
struct Variables {
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
    local_size: &'static str,
}

impl Variables {
    fn read(&self, source: Source, lookup: Lookup<'_>) -> Result<Option<Placement>, Flaw> {
        let (rank, size) = match (lookup(self.rank), lookup(self.size)) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(Flaw::Missing(self.size)),
            (None, Some(_)) => return Err(Flaw::Missing(self.rank)),
            (Some(rank), Some(size)) => (rank, size),
        };
        let parsed = |name, text: String| text.trim().parse().map_err(|_| Flaw::NoNumber(name, text));
        Ok(Some(Placement {
            source,
            rank: parsed(self.rank, rank)?,
            size: parsed(self.size, size)?,
            local_rank: number(lookup, self.local_rank),
            local_size: number(lookup, self.local_size),
            first_host: None,
        }))
    }
}

impl Placement {
    fn checked(self) -> Result<Option<Self>, Flaw> {
        match self.rank < self.size {
            true => Ok(Some(self)),
            false => Err(Flaw::OutOfRange { rank: self.rank, size: self.size }),
        }
    }
}

fn number(lookup: Lookup<'_>, name: &str) -> Option<usize> {
    lookup(name)?.trim().parse().ok()
}

/// Signs of a launcher that gives no rank to this process.
fn notes(lookup: Lookup<'_>) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if lookup("PMIX_RANK").is_some() {
        notes.push("PMIX_RANK is set, but PMIx tells the number of ranks to MPI programs only");
    }
    if lookup("SLURM_JOB_ID").is_some() {
        notes.push("inside an allocation of Slurm, but not in a step: start the ranks with srun or mpirun");
    }
    if lookup("SLURM_NTASKS").is_some() && lookup("SLURM_NTASKS_PER_NODE").is_none() {
        notes.push("SLURM_NTASKS is set without SLURM_NTASKS_PER_NODE: Slurm chooses the ranks of each node");
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::{Explicit, Flaw, Placement, Source, Why, detect, once_only, refuse};

    type Vars<'a> = &'a [(&'a str, &'a str)];

    fn lookup(vars: Vars<'_>) -> impl Fn(&str) -> Option<String> {
        move |name| vars.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
    }

    fn place(vars: Vars<'_>) -> Option<Placement> {
        detect(&Explicit::default(), &lookup(vars)).placement
    }

    const OPEN_MPI: Vars<'_> = &[
        ("OMPI_COMM_WORLD_RANK", "3"),
        ("OMPI_COMM_WORLD_SIZE", "4"),
        ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ("PMIX_RANK", "3"),
    ];

    #[test]
    fn open_mpi_is_believed_before_the_slurm_step_that_carries_its_daemon() {
        let orted = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1"), ("SLURM_STEP_ID", "0")];
        let found = place(&[OPEN_MPI, &orted].concat()).expect("a place");
        assert_eq!((found.source, found.rank, found.size), (Source::OpenMpi, 3, 4));
        assert_eq!((found.local_rank, found.local_size), (Some(1), Some(2)));
    }

    #[test]
    fn a_step_of_slurm_tells_its_hosts_and_its_share_of_them() {
        let step = [
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "4"),
            ("SLURM_NTASKS", "5"),
            ("SLURM_LOCALID", "0"),
            ("SLURM_NODEID", "2"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2),1"),
            ("SLURM_STEP_NODELIST", "node[01-03]"),
        ];
        let found = place(&step).expect("a place");
        assert_eq!((found.source, found.rank, found.size), (Source::Slurm, 4, 5));
        assert_eq!((found.local_rank, found.local_size), (Some(0), Some(1)));
        assert_eq!(found.first_host.as_deref(), Some("node01"));
    }

    #[test]
    fn a_batch_script_is_no_step() {
        let script = [("SLURM_JOB_ID", "7"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
        let detected = detect(&Explicit::default(), &lookup(&script));
        assert_eq!(detected.placement, None);
        assert!(detected.notes.iter().any(|note| note.contains("not in a step")), "{:?}", detected.notes);
    }

    #[test]
    fn flags_are_believed_before_everything() {
        let explicit = Explicit { rank: Some(1), world_size: Some(2), ..Explicit::default() };
        let detected = detect(&explicit, &lookup(OPEN_MPI));
        assert_eq!(detected.placement.as_ref().map(|place| (place.rank, place.size)), Some((1, 2)));
        let why: Vec<_> = detected.findings.into_iter().map(|finding| finding.why).collect();
        assert_eq!(why, [Why::Used, Why::Unset, Why::Later, Why::Unset, Why::Unset]);
    }

    #[test]
    fn half_a_place_is_none_and_says_which_half() {
        let vars = [
            ("RANK", "1"),
            ("PMI_RANK", "one"),
            ("PMI_SIZE", "2"),
            ("OMPI_COMM_WORLD_RANK", "4"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
        ];
        let detected = detect(&Explicit::default(), &lookup(&vars));
        assert_eq!(detected.placement, None);
        let why: Vec<_> = detected.findings.into_iter().map(|finding| finding.why).collect();
        assert_eq!(why[1], Why::Refused(Flaw::Missing("WORLD_SIZE")));
        assert_eq!(why[2], Why::Refused(Flaw::OutOfRange { rank: 4, size: 4 }));
        assert_eq!(why[3], Why::Refused(Flaw::NoNumber("PMI_RANK", "one".to_owned())));
    }

    #[test]
    fn pmix_alone_is_never_enough() {
        let detected = detect(&Explicit::default(), &lookup(&[("PMIX_RANK", "0")]));
        assert_eq!((detected.placement, detected.notes.len()), (None, 1));
    }

    fn refused(vars: Vars<'_>) -> Option<String> {
        refuse(&detect(&Explicit::default(), &lookup(vars))).err().map(|error| error.to_string())
    }

    #[test]
    fn several_ranks_are_refused_with_their_number() {
        let error = refused(OPEN_MPI).expect("refused");
        assert!(error.contains("4 ranks would each train alone"), "{error}");
        assert!(refused(&[("PMI_SIZE", "2"), ("PMI_RANK", "0")]).is_some());
        let step = [("SLURM_NTASKS", "8"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "3")];
        assert!(refused(&step).is_some_and(|error| error.starts_with("started by srun with 8 ranks")));
    }

    #[test]
    fn a_command_that_writes_is_refused_under_several_ranks_only() {
        let under = |vars| once_only("experiment", &detect(&Explicit::default(), &lookup(vars)));
        let error = under(OPEN_MPI).expect_err("four ranks").to_string();
        assert!(
            error.starts_with("mpirun started 4 ranks, and each would write all that `experiment`"),
            "{error}"
        );
        assert!(under(&[]).is_ok());
    }

    #[test]
    fn one_rank_or_an_allocation_alone_may_train() {
        assert_eq!(refused(&[]), None);
        assert_eq!(refused(&[("OMPI_COMM_WORLD_SIZE", "1"), ("OMPI_COMM_WORLD_RANK", "0")]), None);
        assert_eq!(refused(&[("SLURM_NTASKS", "8"), ("SLURM_JOB_ID", "1")]), None);
    }
}
