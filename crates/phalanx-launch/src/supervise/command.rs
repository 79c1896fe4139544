//! The command that starts the ranks of a job.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::starter::{Kind, Starter};
use crate::hosts::Hosts;

/// Seconds of silence after which Open MPI's daemons look for each other, pause between two looks, and looks without an
/// answer until the job is ended. Their own values wait eight minutes.
const KEEPALIVE: [(&str, &str); 3] =
    [("oob_tcp_keepalive_time", "2"), ("oob_tcp_keepalive_intvl", "1"), ("oob_tcp_keepalive_probes", "3")];

/// Seconds that Open MPI gives the ranks that it ends, after one has died, to write what they know of it.
const LAST_WORDS: (&str, &str) = ("odls_base_sigkill_timeout", "3");

/// What is started, and where.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) starter: Starter,
    pub(crate) ranks: usize,
    /// The hosts and the file that lists them; without, ranks are started here, or where Slurm says.
    pub(crate) hosts: Option<(Hosts, PathBuf)>,
    /// The words of the remote shell, where it is not plain ssh.
    pub(crate) agent: Vec<String>,
    /// Whether a host has more ranks than CPUs, so that waiting ranks have to give theirs away.
    pub(crate) is_crowded: bool,
    pub(crate) is_root: bool,
    /// Words for mpirun or srun itself.
    pub(crate) extra: Vec<String>,
}

/// What each rank runs.
#[derive(Debug, Clone)]
pub(crate) struct RankCommand {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
}

impl Job {
    /// The command line, its program first.
    pub(crate) fn command(&self, rank: &RankCommand) -> Vec<OsString> {
        let mut words = Words(vec![self.starter.program.clone().into_os_string()]);
        match self.starter.kind {
            Kind::OpenMpi { major } => self.open_mpi(major, &mut words),
            Kind::Mpich => self.mpich(&mut words),
            Kind::Slurm => self.slurm(&mut words),
        }
        self.extra.iter().for_each(|word| words.one(word));
        words.0.push(rank.program.clone().into_os_string());
        words.0.extend(rank.args.iter().cloned());
        words.0
    }

    fn open_mpi(&self, major: u32, words: &mut Words) {
        words.two("-n", &self.ranks.to_string());
        if let Some((_, file)) = &self.hosts {
            words.one("--hostfile");
            words.0.push(file.clone().into_os_string());
        }
        // ranks bind themselves to their share of the host, threads and all
        words.two("--bind-to", "none");
        if self.is_root {
            words.one("--allow-run-as-root");
        }
        if self.hosts.is_none() || self.is_crowded {
            words.one("--oversubscribe");
        }
        let agent = (!self.agent.is_empty()).then(|| self.agent.join(" "));
        if major < 5 {
            words.one("--tag-output");
            KEEPALIVE.iter().chain([&LAST_WORDS]).for_each(|(name, value)| words.three("--mca", name, value));
            agent.iter().for_each(|agent| words.three("--mca", "plm_rsh_agent", agent));
        } else {
            words.two("--output", "tag");
            agent.iter().for_each(|agent| words.three("--prtemca", "plm_ssh_agent", agent));
        }
        if self.is_crowded {
            words.three("--mca", "mpi_yield_when_idle", "1");
        }
    }

    fn mpich(&self, words: &mut Words) {
        words.two("-n", &self.ranks.to_string());
        words.one("-prepend-rank");
        words.two("-bind-to", "none");
        if let Some((_, file)) = &self.hosts {
            words.one("-f");
            words.0.push(file.clone().into_os_string());
        }
        if let [shell, ..] = self.agent.as_slice() {
            words.two("-launcher-exec", shell);
        }
    }

    fn slurm(&self, words: &mut Words) {
        words.two("-n", &self.ranks.to_string());
        ["--label", "--unbuffered", "--kill-on-bad-exit=1", "--mpi=pmix", "--cpu-bind=none"]
            .iter()
            .for_each(|word| words.one(word));
    }
}

struct Words(Vec<OsString>);

impl Words {
    fn one(&mut self, word: &str) {
        self.0.push(word.into());
    }

    fn two(&mut self, name: &str, value: &str) {
        self.0.extend([name.into(), value.into()]);
    }

    fn three(&mut self, kind: &str, name: &str, value: &str) {
        self.0.extend([kind.into(), name.into(), value.into()]);
    }
}

/// A command as one would type it.
pub(crate) fn shown(words: &[OsString]) -> String {
    let quoted = |word: &OsString| {
        let text = word.to_string_lossy();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        match !text.is_empty() && text.chars().all(is_plain) {
            true => text.into_owned(),
            false => format!("'{}'", text.replace('\'', "'\\''")),
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The most ranks that a host is given, against its CPUs: slots fill in the order of the file.
pub(crate) fn is_crowded(hosts: &Hosts, ranks: usize, cpus: impl Fn(&str) -> Option<usize>) -> bool {
    let mut left = ranks;
    hosts.iter().any(|host| {
        let here = left.min(host.slots);
        left -= here;
        cpus(&host.name).is_some_and(|cpus| here > cpus)
    })
}

/// Where the program is on every host: here, by its full path.
pub(crate) fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe().map(|path| path.canonicalize().unwrap_or(path))
}

/// An absolute path, which means the same on every host that shares the directory.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Job, RankCommand, is_crowded, shown};
    use crate::hosts::Hosts;
    use crate::supervise::Starter;
    use crate::supervise::starter::Kind;

    fn hosts(text: &str) -> Hosts {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("hosts");
        std::fs::write(&file, text).expect("a file");
        Hosts::read(&file).expect("hosts")
    }

    fn job(kind: Kind) -> Job {
        Job {
            starter: Starter { program: "mpirun".into(), kind },
            ranks: 4,
            hosts: Some((hosts("a slots=2\nb slots=2"), "/run/hosts".into())),
            agent: vec!["ssh".to_owned(), "-F".to_owned(), "cfg".to_owned()],
            is_crowded: false,
            is_root: false,
            extra: Vec::new(),
        }
    }

    fn rank() -> RankCommand {
        RankCommand { program: "/opt/phalanx".into(), args: ["train", "a b.toml"].map(Into::into).into() }
    }

    #[test]
    fn each_program_is_told_in_its_own_words() {
        assert_eq!(
            shown(&job(Kind::OpenMpi { major: 4 }).command(&rank())),
            "mpirun -n 4 --hostfile /run/hosts --bind-to none --tag-output --mca oob_tcp_keepalive_time 2 \
             --mca oob_tcp_keepalive_intvl 1 --mca oob_tcp_keepalive_probes 3 \
             --mca odls_base_sigkill_timeout 3 --mca plm_rsh_agent 'ssh -F cfg' \
             /opt/phalanx train 'a b.toml'"
        );
        assert_eq!(
            shown(&job(Kind::OpenMpi { major: 5 }).command(&rank())),
            "mpirun -n 4 --hostfile /run/hosts --bind-to none --output tag --prtemca plm_ssh_agent 'ssh -F cfg' \
             /opt/phalanx train 'a b.toml'"
        );
        let slurm = Job { starter: Starter::slurm(), hosts: None, ..job(Kind::Slurm) };
        assert_eq!(
            shown(&slurm.command(&rank())),
            "srun -n 4 --label --unbuffered --kill-on-bad-exit=1 --mpi=pmix --cpu-bind=none /opt/phalanx train 'a b.toml'"
        );
    }

    #[test]
    fn crowded_hosts_make_waiting_ranks_yield() {
        let job = Job { is_crowded: true, is_root: true, ..job(Kind::OpenMpi { major: 4 }) };
        let text = shown(&job.command(&rank()));
        for part in ["--allow-run-as-root", "--oversubscribe", "--mca mpi_yield_when_idle 1"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let two = hosts("a slots=4\nb slots=4");
        assert!(!is_crowded(&two, 6, |_| Some(4)));
        assert!(is_crowded(&two, 6, |host| Some(if host == "a" { 2 } else { 8 })));
        assert!(!is_crowded(&two, 6, |_| None), "nothing is known");
    }
}
