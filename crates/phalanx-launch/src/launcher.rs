//! Whether the program was started once a rank by mpirun or srun.

use crate::environment::Lookup;
#[cfg(any(test, not(feature = "mpi")))]
use crate::usage::UsageError;

/// A launcher that started this program once a rank, and the number of ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) launcher: &'static str,
    pub(crate) ranks: usize,
}

/// The launcher that started this program, if one did.
pub(crate) fn started(lookup: Lookup<'_>) -> Option<Started> {
    let number = |name: &str| lookup(name).and_then(|value| value.parse::<usize>().ok());
    // an allocation alone sets SLURM_NTASKS; only a step of srun has a rank in it
    let in_step = lookup("SLURM_STEP_ID").is_some() && lookup("SLURM_PROCID").is_some();
    let started = [
        ("mpirun", number("OMPI_COMM_WORLD_SIZE")),
        ("srun", number("SLURM_NTASKS").filter(|_| in_step)),
        ("mpiexec", number("PMI_SIZE")),
    ];
    started.into_iter().find_map(|(launcher, ranks)| Some(Started { launcher, ranks: ranks? }))
}

/// Refuses to train under a launcher of several ranks: without a communicator between the
/// processes, each would train alone and write over the others.
///
/// # Errors
/// [`UsageError::UnderLauncher`] with the number of ranks.
#[cfg(any(test, not(feature = "mpi")))]
pub(crate) fn refuse(lookup: Lookup<'_>) -> Result<(), UsageError> {
    match started(lookup) {
        Some(Started { launcher, ranks }) if ranks > 1 => Err(UsageError::UnderLauncher { launcher, ranks }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::refuse;

    fn refused(vars: &[(&str, &str)]) -> Option<String> {
        let lookup =
            |name: &str| vars.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        refuse(&lookup).err().map(|error| error.to_string())
    }

    #[test]
    fn several_ranks_are_refused_with_their_number() {
        let error = refused(&[("OMPI_COMM_WORLD_SIZE", "4")]).expect("refused");
        assert!(error.contains("4 ranks would each train alone"), "{error}");
        assert!(refused(&[("PMI_SIZE", "2")]).is_some());
        let step = [("SLURM_NTASKS", "8"), ("SLURM_STEP_ID", "0"), ("SLURM_PROCID", "3")];
        assert!(refused(&step).is_some_and(|error| error.starts_with("started by srun with 8 ranks")));
    }

    #[test]
    fn one_rank_or_an_allocation_alone_may_train() {
        assert_eq!(refused(&[]), None);
        assert_eq!(refused(&[("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(refused(&[("SLURM_NTASKS", "8"), ("SLURM_JOB_ID", "1")]), None);
        assert_eq!(refused(&[("PMI_SIZE", "many")]), None);
    }
}
