//! Tests under Slurm: a controller, a node and their authentication on this machine, without systemd, for one test.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::mpi::{self, Ended};
use crate::need;

/// How long the daemons may take to begin, and jobs to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A cluster of one node that goes down with its value.
#[derive(Debug)]
pub struct Slurm {
    place: TempDir,
    /// In the order in which they end: who needs the others first.
    daemons: Vec<Child>,
}

impl Slurm {
    /// Brings up a node with so many CPUs, whatever the machine has.
    ///
    /// Where there is no Slurm, or not the right to start one, the test is left out: that is told, and `None` is returned.
    /// Under `PHALANX_REQUIRE=slurm` or `all` it fails instead.
    ///
    /// # Panics
    /// When it is needed and cannot be had, or does not begin.
    pub fn up(cpus: usize) -> Option<Self> {
        for program in ["munged", "slurmctld", "slurmd", "srun"] {
            if Command::new(program).arg("--version").output().is_err() {
                need::leave_out(
                    "slurm",
                    &format!("no `{program}` on this machine: slurm-wlm is not installed"),
                );
                return None;
            }
        }
        let user = Command::new("id").arg("-u").output();
        if !user.is_ok_and(|output| output.stdout == b"0\n") {
            need::leave_out("slurm", "the daemons of Slurm need root");
            return None;
        }
        match Self::start(cpus) {
            Ok(slurm) => {
                slurm.wait_until_idle();
                Some(slurm)
            }
            Err(error) => panic!("Slurm does not start: {error}"),
        }
    }

    fn start(cpus: usize) -> io::Result<Self> {
        let mut slurm = Self { place: tempfile::tempdir()?, daemons: Vec::new() };
        fs::set_permissions(slurm.place.path(), fs::Permissions::from_mode(0o755))?;
        for dir in ["state", "spool", "tmp"] {
            fs::create_dir(slurm.file(dir))?;
        }
        // what signs messages within this cluster, for as long as it is up
        let mut key = [0; 1024];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        fs::write(slurm.file("munge.key"), key)?;
        fs::set_permissions(slurm.file("munge.key"), fs::Permissions::from_mode(0o600))?;
        fs::write(slurm.file("slurm.conf"), slurm.configuration(cpus)?)?;
        let shown = |name: &str| slurm.file(name).display().to_string();
        let munged = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--key-file={}", shown("munge.key")),
            format!("--socket={}", shown("munge.socket")),
            format!("--pid-file={}", shown("munged.pid")),
            format!("--log-file={}", shown("munged.log")),
            format!("--seed-file={}", shown("munged.seed")),
        ];
        slurm.daemon("munged", &munged)?;
        slurm.wait_for("munged has no socket", |slurm| slurm.file("munge.socket").exists());
        slurm.daemon("slurmctld", &["-D", "-c"].map(str::to_owned))?;
        slurm.daemon("slurmd", &["-D", "-N", "node1"].map(str::to_owned))?;
        Ok(slurm)
    }

    fn configuration(&self, cpus: usize) -> io::Result<String> {
        let place = self.place.path().display();
        // free while both are held
        let held = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [controller, node] = [held[0].local_addr()?.port(), held[1].local_addr()?.port()];
        let host = Command::new("hostname").output()?.stdout;
        let host = String::from_utf8_lossy(&host).trim().to_owned();
        Ok(format!(
            "ClusterName=phalanx\n\
             SlurmctldHost=localhost(127.0.0.1)\n\
             SlurmctldPort={controller}\n\
             SlurmUser=root\n\
             SlurmdUser=root\n\
             AuthType=auth/munge\n\
             AuthInfo=socket={place}/munge.socket\n\
             CredType=cred/munge\n\
             StateSaveLocation={place}/state\n\
             SlurmdSpoolDir={place}/spool\n\
             SlurmctldPidFile={place}/slurmctld.pid\n\
             SlurmdPidFile={place}/slurmd.pid\n\
             TmpFS={place}/tmp\n\
             CommunicationParameters=NoCtldInAddrAny,NoInAddrAny\n\
             ProctrackType=proctrack/linuxproc\n\
             TaskPlugin=task/none\n\
             JobAcctGatherType=jobacct_gather/none\n\
             AccountingStorageType=accounting_storage/none\n\
             SelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\n\
             SlurmdParameters=config_overrides\n\
             SchedulerType=sched/builtin\n\
             ReturnToService=2\n\
             KillWait=2\n\
             WaitTime=2\n\
             MpiDefault=none\n\
             NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs={cpus} State=UNKNOWN\n\
             PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
        ))
    }

    fn daemon(&mut self, program: &str, args: &[String]) -> io::Result<()> {
        let log = File::create(self.file(program).with_extension("log"))?;
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemons.insert(0, command.spawn()?);
        Ok(())
    }

    /// A program of Slurm's that speaks to this cluster.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.file("slurm.conf"));
        // ranks that wait give their core away, and nothing listens on a network
        for (name, value) in [
            ("OMPI_MCA_hwloc_base_binding_policy", "none"),
            ("OMPI_MCA_mpi_yield_when_idle", "1"),
            ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
            ("OMPI_MCA_btl", "vader,self"),
        ] {
            command.env(name, value);
        }
        command
    }

    /// Runs a program of Slurm's to its end, or for four minutes.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, words: &[&str]) -> Ended {
        let Some((program, args)) = words.split_first() else { panic!("no program") };
        mpi::run(self.command(program).args(args))
    }

    /// The jobs that there are, one a line: number and state.
    pub fn jobs(&self) -> String {
        self.run(&["squeue", "--noheader", "--format=%i %T"]).text
    }

    /// Waits until `is_so`.
    ///
    /// # Panics
    /// With `what` and what the daemons say, when it is not so in half a minute.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < LIMIT, "{what}:\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn wait_until_idle(&self) {
        let is_idle = |slurm: &Self| slurm.run(&["sinfo", "--noheader", "--format=%T"]).text.trim() == "idle";
        self.wait_for("the node is not idle", is_idle);
    }

    fn logs(&self) -> String {
        let log =
            |program: &str| fs::read_to_string(self.file(program).with_extension("log")).unwrap_or_default();
        ["munged", "slurmctld", "slurmd"].map(|program| format!("{program}:\n{}", log(program))).concat()
    }

    fn file(&self, name: &str) -> PathBuf {
        let place: &Path = self.place.path();
        place.join(name)
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // jobs that a test has left end before the daemon that could end them
        self.run(&["scancel", "--user=root", "--signal=KILL", "--full"]);
        self.run(&["scancel", "--user=root"]);
        let begun = Instant::now();
        while !self.jobs().trim().is_empty() && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        for daemon in &mut self.daemons {
            daemon.kill().unwrap_or_default();
            // gone in any case
            daemon.wait().ok();
        }
    }
}
